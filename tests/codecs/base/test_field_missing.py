"""Missing values of fields: declared in any way, standing out, masked; their bits come back, and bounds ignore them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from codec import Codec
from codec.codecs.base.field_missing import DEFAULT_FILL, Extent, Missing, declared_missing, extent_of, stray_values
from codec.codecs.interp.codec import InterpCodec
from codec.container import read_header
from codec.errors import UsageError
from codec.media.notes import from_meta

from ..layers.test_interpolation import smooth


@pytest.fixture(scope="module")
def interp() -> InterpCodec:
    codec = Codec.load("interp")
    assert isinstance(codec, InterpCodec)
    return codec


def holed(fill: float, dtype: str = "f4") -> np.ndarray:
    x = (10 + smooth((70, 70))).astype(dtype)
    x[20:40, 10:50] = fill
    return x


def values_of(file: h5py.File) -> np.ndarray:
    dataset = file["v"]
    assert isinstance(dataset, h5py.Dataset)
    return dataset[()]


def check(interp: InterpCodec, path: Path, fill: float) -> None:
    """The holes keep their bits, and the bound is a thousandth of the range of the rest."""
    buffer = io.BytesIO()
    interp.decode_hdf5(interp.encode_hdf5(path), buffer)
    with h5py.File(buffer) as back, h5py.File(path) as file:
        x, y = values_of(file), values_of(back)
    holes = x == x.dtype.type(fill)
    assert holes.any()
    assert np.array_equal(x[holes], y[holes])
    rest = x[~holes]
    assert 0 < np.abs(rest.astype(float) - y[~holes]).max() <= 1e-3 * (float(rest.max()) - float(rest.min()))


@pytest.mark.parametrize(
    ("name", "value", "fill"),
    [
        ("_FillValue", np.float64(1e20), 1e20),
        ("missing_value", "-9999", -9999),
        ("missing_value", np.array([-999, -9999], "f4"), -9999),
        ("missing_value", np.bytes_(b"1.0E+20"), 1e20),
        ("_FillValue", np.int32(12), 12),
        ("NoData_value", 11.5, 11.5),
        ("CodeMissingValue", "11.5", 11.5),
        ("valid_range", np.array([0, 50], "f4"), 60),
        ("valid_min", np.float32(5), 3),
        ("valid_max", "50", 60),
    ],
)
def test_attributes(interp: InterpCodec, tmp_path: Path, name: str, value: Any, fill: float) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["v"] = holed(fill)
        file["v"].attrs[name] = value
    check(interp, tmp_path / "a.h5", fill)


def test_attributes_of_the_file(interp: InterpCodec, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["v"] = holed(11.5)
        file.attrs["missing_value"] = 11.5
    check(interp, tmp_path / "a.h5", 11.5)


def test_what_was_never_written(interp: InterpCodec, tmp_path: Path) -> None:
    """Neither attribute nor repetition at an end: HDF5's own fill value, in the middle of the range."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        item = file.create_dataset("v", (140, 70), "f4", chunks=(35, 35), fillvalue=10.5)
        item[:70] = 10 + smooth((70, 70))
    check(interp, tmp_path / "a.h5", 10.5)


@pytest.mark.parametrize("fill", [DEFAULT_FILL, 1e20, -9999.0, -1e34, -32768.0, 1e35, 777.0, float(np.finfo("f4").max)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_what_stands_out(interp: InterpCodec, tmp_path: Path, fill: float, dtype: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["v"] = holed(fill, dtype)
    check(interp, tmp_path / "a.h5", fill)
    summary = interp.encode_file(tmp_path / "a.h5", tmp_path / "a.interp")
    if fill != DEFAULT_FILL:
        assert [note.kind for note in summary.notes] == ["values"]
        assert "(800 times)" in summary.notes[0].words
        assert from_meta(read_header((tmp_path / "a.interp").read_bytes()).meta) == tuple(summary.notes)


def test_what_does_not_stand_out() -> None:
    """A plume in nothing, a peak, both phases of a flow, zeros: ordinary fields."""
    blank = np.zeros((50, 50), "f4")
    plume, phases = blank.copy(), 1 + smooth((50, 50)) * 0.01
    plume[20:30, 20:30] = 1 + np.abs(smooth((10, 10)))
    peak = smooth((50, 50)).astype("f4")
    peak[4, 4] = 1e6
    phases[25:] += 1000
    rain = np.maximum(smooth((50, 50)), 0)
    for field in (peak, phases, rain, smooth((50, 50))):
        assert not stray_values(lambda x=field: [x], Missing())[1]
    assert [stray.value for stray in stray_values(lambda: [np.where(plume == 0, -5e3, plume)], Missing())[1]] == [-5e3]


def test_several_stand_out() -> None:
    x = holed(-9999.0)
    x[50:55], x[60:62] = 1e20, -1e30
    missing, stray, extent = stray_values(lambda: [x[:30], x[30:]], Missing())
    assert {round(item.value / 1e3) * 1e3 for item in stray} >= {-10000.0}
    assert {np.float32(item.value) for item in stray} == {np.float32(v) for v in (-9999, 1e20, -1e30)}
    assert extent.span.top < 20
    assert missing.mask(x).sum() == (x != np.clip(x, 0, 20)).sum()


def test_extents_of_parts() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = rng.integers(0, 5, 12).astype(float)
        parts = Extent()
        for part in np.split(x, [3, 3, 8]):
            parts = parts.joined(extent_of(part))
        assert parts == extent_of(x)


def test_most_values_the_same_is_noted(interp: InterpCodec) -> None:
    """Outliers that are no single value: nothing is taken as missing, and the bound is said to be too large."""
    x = smooth((60, 60)).astype("f4")
    x[0, :8] = 10.0 ** np.arange(20, 28)
    notes = from_meta(read_header(interp.compress(x)).meta)
    assert [note.kind for note in notes] == ["bound"]
    assert "98 %" in notes[0].words


def test_declared_by_nothing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["v"] = np.zeros(4, "f4")
        file["v"].attrs["missing_value"] = "none"
        file["v"].attrs["_FillValue"] = h5py.Empty("f4")
        file["v"].attrs["valid_range"] = np.array([1, 2, 3])
        assert declared_missing(file["v"]) == Missing((DEFAULT_FILL,))


class TestMasked:
    @pytest.mark.parametrize("fill", [1e20, 3.5, np.nan])
    def test_there_and_back(self, interp: InterpCodec, fill: float) -> None:
        x = np.ma.masked_greater((10 + smooth((30, 31))).astype("f4"), 11)
        x.data[x.mask] = 1e35
        x.fill_value = fill
        x.data[0, 0] = np.nan  # not masked
        y = interp.decompress(interp.compress(x))
        assert isinstance(y, np.ma.MaskedArray)
        assert np.array_equal(np.ma.getmaskarray(y), np.ma.getmaskarray(x))
        assert np.array_equal(y.fill_value, x.fill_value, equal_nan=True)
        assert np.array_equal(y.data[x.mask], x.data[x.mask])
        valid = x.data[~x.mask & np.isfinite(x.data)]
        assert 0 < np.abs(y.data[~x.mask & np.isfinite(x.data)] - valid).max() <= 1e-3 * np.ptp(valid)

    @pytest.mark.parametrize("mask", [False, True, np.ma.nomask])
    def test_all_or_nothing(self, interp: InterpCodec, mask: Any) -> None:
        x = np.ma.MaskedArray(smooth((9, 9)), mask)
        y = interp.decompress(interp.compress(x))
        assert isinstance(y, np.ma.MaskedArray)
        assert np.array_equal(np.ma.getmaskarray(y), np.ma.getmaskarray(x))

    def test_as_npy_the_mask_is_noted(self, interp: InterpCodec, tmp_path: Path) -> None:
        (tmp_path / "a.interp").write_bytes(interp.compress(np.ma.masked_less(smooth((9, 9)), 0)))
        summary = interp.decode_file(tmp_path / "a.interp", tmp_path / "a.npy")
        assert [note.kind for note in summary.notes] == ["values"]

    def test_whole_numbers(self, interp: InterpCodec) -> None:
        with pytest.raises(UsageError):
            interp.compress(np.ma.masked_less(np.arange(9), 3))
