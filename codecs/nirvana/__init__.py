"""NIRVANA: a video as networks, one for each group of frames, each started from the one before.

Maiya et al., CVPR 2023, arXiv 2212.14593. This is the card; the codec: codec; its presets: paper, grid. How to use it:
docs/codecs/nirvana.md.
"""

from ..base.settings import VIDEO_SELECTION, VIDEO_SETTINGS, Card

CARD = Card(
    name="nirvana",
    medium="video",
    suffix=".nirvana",
    summary="NIRVANA: networks fitted to each group of frames, decoded exactly at any seek; slow encoding",
    target="codec:NirvanaCodec",
    settings=VIDEO_SETTINGS,
    selection=VIDEO_SELECTION,
    default=True,
    citation="Maiya et al., CVPR 2023, arXiv 2212.14593",
)
CARDS = (CARD,)
