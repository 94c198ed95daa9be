"""Entropic Student: what a classifier sees in a picture, in a few kilobytes; a codec of features, not of pictures.

Matsubara, Yang, Levorato, Mandt, "Supervised Compression for Resource-Constrained Edge Computing Systems", WACV 2022,
arXiv 2108.11898. This is the card. The codec is in codec.py, its networks in network.py, or in integers in engine.py;
the classifier that goes on from its features in heads.py. How to use it: docs/codecs/entropic-student.md.
"""

from ..base.settings import CODER, QUALITY, Card

CARD = Card(
    name="entropic-student",
    medium="features",
    suffix=".student",
    summary="Entropic Student: what a classifier sees in a picture, 1 to 14 kB; decodes to features or a prediction",
    target="codec:EntropicStudentCodec",
    settings=(QUALITY, CODER),
    citation="Matsubara, Yang, Levorato, Mandt, WACV 2022, arXiv 2108.11898",
)
CARDS = (CARD,)
