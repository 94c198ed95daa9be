"""WaLLoC for images and for sound: a linear encoder, and a decoder that knows more.

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405. This is the
card. The codec of images is in codec.py, its networks are in network.py; that of sound is in audio/. How to use
them: docs/codecs/walloc.md and docs/codecs/walloc-audio.md.
"""

from ..base.settings import AUDIO_SELECTION, AUDIO_SETTINGS, CODER, IMAGE_SETTINGS, Card

CARD = Card(
    name="walloc",
    medium="image",
    suffix=".walloc",
    summary="WaLLoC: wavelet packets, a linear encoder and a neural decoder; very fast encoding",
    target="codec:WallocCodec",
    settings=(*IMAGE_SETTINGS, CODER),
    citation="Jacobellis, Yadwadkar, DCC 2025, arXiv 2412.09405",
)
AUDIO_CARD = Card(
    name="walloc-audio",
    medium="audio",
    suffix=".walloca",
    summary="WaLLoC for sound: lapped transform, context mixing, noise in the holes; any rate, exact and seekable",
    target="audio.codec:WallocAudioCodec",
    settings=(*AUDIO_SETTINGS, CODER),
    selection=AUDIO_SELECTION,
    default=True,
    citation="Jacobellis, Yadwadkar, DCC 2025, arXiv 2412.09405",
)
CARDS = (CARD, AUDIO_CARD)
