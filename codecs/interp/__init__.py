"""Interpolation with an error bound that holds for every value: fields of floats, HDF5 and NetCDF-4 files.

After SZ3 (Zhao et al., ICDE 2021), QoZ, HPEZ and SPERR. This is the card. The codec is in codec.py, its coders are
`layers/interpolation.py`, `mixed_fields.py` and `wavelet_fields.py`; there are no weights. How to use it:
docs/codecs/interp.md.
"""

from ..base.settings import FIELD_SELECTION, FIELD_SETTINGS, Card, Setting

FAST = Setting("fast", "fixed distributions only: ten times as fast, larger files", switch=True)

CARD = Card(
    name="interp",
    medium="field",
    suffix=".interp",
    summary="interpolation: float fields (HDF5, NetCDF-4) with an error bound that holds for every value",
    target="codec:InterpCodec",
    settings=(*FIELD_SETTINGS, FAST),
    selection=FIELD_SELECTION,
    default=True,
)
CARDS = (CARD,)
