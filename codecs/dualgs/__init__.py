"""Gaussian splats: scenes, and volumetric video of people as joints that move and skins that follow.

Jiang, Shen, Hong, Guo, Wu, Zhang, Yu, Xu, "Robust Dual Gaussian Splatting for Immersive Human-centric Volumetric
Videos", ACM TOG 43(6), 2024, arXiv 2409.08353. This is the card. The codec is in codec.py; scenes are coded in
scene.py, sequences in sequence.py. There are no weights. How to use it: docs/codecs/dualgs.md.
"""

from ..base.settings import GAUSSIAN_SELECTION, GAUSSIAN_SETTINGS, Card

CARD = Card(
    name="dualgs",
    medium="gaussians",
    suffix=".dualgs",
    summary="Gaussian splats: scenes, exactly or within bounds, and sequences as joints and skins",
    target="codec:DualgsCodec",
    settings=GAUSSIAN_SETTINGS,
    selection=GAUSSIAN_SELECTION,
    default=True,
    citation="Jiang et al., ACM TOG 43(6), 2024, arXiv 2409.08353",
)
CARDS = (CARD,)
