"""Probabilistic circuits: lossless coding of small images, masks, label maps and tables, fitted to their kind.

Liu, Mandt, Van den Broeck, "Lossless Compression with Probabilistic Circuits", ICLR 2022, arXiv 2111.11632. This is the
card. The codec is in codec.py, the circuits are in `entropy/circuits/`. How to use it: docs/codecs/circuit.md.
"""

from ..base.settings import ARRAY_SETTINGS, Card, Setting

MIX = Setting("mix", "mix the circuit with contexts that learn on the way: smaller, several times slower", switch=True)

CARD = Card(
    name="circuit",
    medium="array",
    suffix=".circuit",
    summary="probabilistic circuit: lossless, for small images, masks, label maps and tables (codec fit)",
    target="codec:CircuitCodec",
    settings=(*ARRAY_SETTINGS, MIX),
    citation="Liu, Mandt, Van den Broeck, ICLR 2022, arXiv 2111.11632",
)
CARDS = (CARD,)
