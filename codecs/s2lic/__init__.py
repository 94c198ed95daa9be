"""S2LIC: learned image compression with attention in the transforms and a channel-wise, checkerboard context model.

Wang, Fu, Cao, Wang, Chen, Liang, "S2LIC: Learned Image Compression with the SwinV2 Block, Adaptive Channel-wise and
Global-inter Attention Context", arXiv 2403.14471. This is the card. The codec is in codec.py; the networks that
ship are in network.py, the paper's in paper.py, what both share in layers.py; weights files are read by weights.py;
refine.py takes gradient steps on one picture. What other codecs use, too, such as the synthesis, is in codecs/layers:
exact_transforms.py, exact_synthesis.py. How to use it: docs/codecs/s2lic.md.
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
