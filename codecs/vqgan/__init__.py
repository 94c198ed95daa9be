"""VQGAN: extreme image compression by an index map, a codeword for each 16x16 pixels.

Mao, Yang, Zhang, Wang, Wang, Wang, Jin, Ma, "Extreme Image Compression using Fine-tuned VQGANs", DCC 2024, arXiv
2307.08265. This is the card. The codec is in codec.py, its networks in network.py, or in integers in engine.py (the
paper's: paper.py); index coders in indices.py, packets in packets.py. How to use it: docs/codecs/vqgan.md.
"""

from ..base.settings import CODER, CONCEAL, IMAGE_SETTINGS, PACKETS, Card

CARD = Card(
    name="vqgan",
    medium="image",
    suffix=".vqgan",
    summary="VQGAN: a codeword for each 16x16 pixels, 0.007 to 0.04 bits per pixel; details are made up",
    target="codec:VqganCodec",
    settings=(*IMAGE_SETTINGS, CODER, PACKETS),
    selection=(CONCEAL,),
    citation="Mao et al., DCC 2024, arXiv 2307.08265",
)
CARDS = (CARD,)
