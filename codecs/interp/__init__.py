"""Interpolation with an error bound that holds for every value: fields of floats, HDF5 and NetCDF-4 files.

After SZ3 (Zhao et al., ICDE 2021), QoZ and HPEZ. This is the card. The codec is in codec.py, the coder in
`layers/interpolation.py`; there are no weights. How to use it: docs/codecs/interp.md.
"""

from ..base.settings import FIELD_SELECTION, FIELD_SETTINGS, Card

CARD = Card(
    name="interp",
    medium="field",
    suffix=".interp",
    summary="interpolation: float fields (HDF5, NetCDF-4) with an error bound that holds for every value",
    target="codec:InterpCodec",
    settings=FIELD_SETTINGS,
    selection=FIELD_SELECTION,
    default=True,
)
CARDS = (CARD,)
