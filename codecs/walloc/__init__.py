"""WaLLoC for images: wavelet packets, a linear encoder and a neural decoder.

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405. This is the
card. The codec is in codec.py, its networks are in network.py. How to use it: docs/codecs/walloc.md.
"""

from ..base.settings import CODER, IMAGE_SETTINGS, Card

CARD = Card(
    name="walloc",
    medium="image",
    suffix=".walloc",
    summary="WaLLoC: wavelet packets, a linear encoder and a neural decoder; very fast encoding",
    target="codec:WallocCodec",
    settings=(*IMAGE_SETTINGS, CODER),
    citation="Jacobellis, Yadwadkar, DCC 2025, arXiv 2412.09405",
)
CARDS = (CARD,)
