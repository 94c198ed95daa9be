"""ZipGAN for turbulence: latents of few wave numbers, and a generator that adds what they lack.

Nista et al., "ZipGAN: Super-Resolution-based Generative Adversarial Network Framework for Data Compression of Direct
Numerical Simulations", arXiv 2412.14150. This is the card. The codec is in codec.py, its networks are in networks.py.
How to use it: docs/codecs/zipgan.md.
"""

from ..base.settings import AT, FIELD_SELECTION, FIELD_SETTINGS, Card

CARD = Card(
    name="zipgan",
    medium="field",
    suffix=".zipgan",
    summary="ZipGAN: turbulence at ratios of 64 to 1000, a generator for small scales; a bound if asked for",
    target="codec:ZipganCodec",
    settings=FIELD_SETTINGS,
    selection=(*FIELD_SELECTION, AT),
    citation="Nista et al., arXiv 2412.14150",
)
CARDS = (CARD,)
