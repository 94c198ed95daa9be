"""S2LIC: learned image compression with attention in the transforms and a channel-wise, checkerboard context model.

This is the card; the codec: codec; networks: network, paper, layers; gradient steps on one picture: refine; weights
files: weights. How to use it: docs/codecs/s2lic.md.
"""

from ..base.settings import CODER, EFFORT, IMAGE_SETTINGS, Card

CARD = Card(
    name="s2lic",
    medium="image",
    suffix=".s2lic",
    summary="S2LIC: transforms with attention, a context model in integers; the smallest files",
    target="codec:S2licCodec",
    settings=(*IMAGE_SETTINGS, EFFORT, CODER),
    default=True,
)
CARDS = (CARD,)
