"""Context mixing: lossless coding of any array of integers, label map, picture or table, without a fit.

After the PAQ family (Mahoney, Florida Tech CS-2005-16, 2005). This is the card. The codec is in codec.py, the models
are in `entropy/mixing/`; there are no weights. How to use it: docs/codecs/mix.md.
"""

from ..base.settings import Card

CARD = Card(
    name="mix",
    medium="array",
    suffix=".mix",
    summary="context mixing: lossless, for arrays, label maps, palette and other pictures, tables; no fit",
    target="codec:MixCodec",
    default=True,
)
CARDS = (CARD,)
