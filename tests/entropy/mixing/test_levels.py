"""The models of levels and of texts: what they take, what they refuse, and streams that must stay as they are."""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pytest

from codec.entropy.mixing.levels import BASES, BEST, ZERO, LevelModel, logistic, middle_part
from codec.entropy.mixing.texts import TextModel
from codec.errors import StreamError


def _sheets(shape: tuple[int, ...], top: int) -> np.ndarray:
    """Sheets that a formula in integers gives: a slope, waves, a flat corner."""
    n, h, w, c = shape
    t, y, x, k = np.ogrid[0:n, 0:h, 0:w, 0:c]
    out = (37 * x + 11 * y + 5 * t + 13 * k * (x % 3) + (x * y) % 7) % (top + 1)
    out = np.array(np.broadcast_to(out, shape))
    out[:, : h // 2, : w // 2] = top // 2
    return out.astype(np.uint16)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("shape", "bits"), [((2, 12, 13, 1), 8), ((1, 9, 8, 3), 8), ((1, 9, 9, 4), 11), ((1, 8, 9, 1), 16)]
)
def test_sheets_come_back(shape: tuple[int, ...], bits: int, base: int) -> None:
    sheets = _sheets(shape, (1 << bits) - 1)
    model = LevelModel.new(shape, bits, base)
    data = model.encode(sheets)
    assert np.array_equal(model.decode(data), sheets)
    assert abs(model.price(sheets) - 8 * len(data)) < 24
    with pytest.raises(MemoryError):
        model.encode(sheets, len(data) - 1)
    assert model.encode(sheets, len(data)) == data


GOLDEN = {0: "4ea7402959224f0e", 1: "0d2fc8fd4ffb6ecd", 2: "2b4983cc26ba5b94", "texts": "26aa7ae86a993cd6"}


@pytest.mark.parametrize("base", BASES)
def test_streams_stay_as_they_are(base: int) -> None:
    """One unit more anywhere in the arithmetic, and these are others."""
    sheets = _sheets((2, 20, 30, 3), 255)
    data = LevelModel.new(sheets.shape, 8, base).encode(sheets)
    assert hashlib.sha256(data).hexdigest()[:16] == GOLDEN[base], (len(data), hashlib.sha256(data).hexdigest())


def test_streams_of_texts_stay_as_they_are() -> None:
    table = np.array([[b"%d" % (i * i), (b"yes", b"no")[i % 3 == 0], b"%.3f" % (i / 8)] for i in range(60)])
    data = TextModel.new(60, 3, 9).encode(table)
    assert hashlib.sha256(data).hexdigest()[:16] == GOLDEN["texts"], (len(data), hashlib.sha256(data).hexdigest())


def test_damaged_streams_are_refused_or_decode_to_something() -> None:
    sheets = _sheets((1, 16, 16, 3), 255)
    model = LevelModel.new(sheets.shape, 8)
    data = model.encode(sheets)
    for damaged in (data + b"longer than it may be", data + data, b"\xff" * 8000):
        with pytest.raises(StreamError):
            model.decode(damaged)
    draw = np.random.default_rng(0)
    for _ in range(50):
        bytes_of = bytearray(data)
        bytes_of[draw.integers(len(data))] ^= 1 << draw.integers(8)
        with contextlib.suppress(StreamError):
            assert model.decode(bytes(bytes_of)).shape == sheets.shape


def test_what_cannot_be_coded_is_refused() -> None:
    for shape, bits, base in (
        ((1, 2, 3), 8, ZERO),
        ((1, 2, 0, 1), 8, ZERO),
        ((1, 2, 3, 5), 8, ZERO),
        ((1 << 20, 1 << 20, 1, 1), 8, ZERO),
        ((1, 2, 3, 1), 0, ZERO),
        ((1, 2, 3, 1), 17, ZERO),
        ((1, 2, 3, 1), 8, 3),
    ):
        with pytest.raises(ValueError, match="levels|sheets"):
            LevelModel.new(shape, bits, base)
    model = LevelModel.new((1, 2, 3, 1), 4)
    for wrong in (
        np.full((1, 2, 3, 1), 16, np.uint8),
        np.zeros((1, 3, 2, 1), np.uint8),
        np.zeros((1, 2, 3, 1), np.int8),
    ):
        with pytest.raises(ValueError, match="values"):
            model.encode(wrong)


def test_the_base_is_chosen_on_a_part() -> None:
    draw = np.random.default_rng(1)
    slopes = np.add.outer(np.arange(160) * 300, np.arange(160) * 131)[None, :, :, None]
    noisy = (slopes + draw.normal(0, 4, slopes.shape)).clip(0, 65535).astype(np.uint16)
    assert LevelModel.fitting(noisy, 16).base == BEST
    few = (draw.integers(0, 3, (1, 64, 64, 1)) * 100).astype(np.uint16)
    assert LevelModel.fitting(few, 8).base == ZERO
    for shape in ((1, 3000, 200, 1), (900, 28, 28, 1), (1, 1, 400_000, 1), (1, 400_000, 1, 1), (2, 600, 600, 3)):
        part = middle_part(np.zeros(shape, np.uint16))
        assert part.ndim == 4 and 1 << 14 <= part.size <= 1 << 17 and part.shape[3] == shape[3]


def test_the_logistic_table_is_symmetric_and_rises() -> None:
    table = logistic()
    assert table.shape == (2049,) and table[1024] == 1 << 23
    assert (np.diff(table) >= 0).all() and np.abs(table + table[::-1] - (1 << 24)).max() <= 1
    expected = (1 << 24) / (1 + np.exp(-np.arange(-1024, 1025) / 64))
    assert np.abs(table - expected).max() < 1.5
