"""Varints and zigzag: the bytes, and a reader that takes nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.entropy.integers import VARINT_BITS, ByteReader, put_varint, put_zigzag
from codec.errors import StreamError

LARGEST = (1 << VARINT_BITS) - 1


@pytest.mark.parametrize(
    ("value", "data"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (LARGEST, "ffffffffffffffff7f")],
)
def test_the_bytes(value: int, data: str) -> None:
    assert put_varint(value).hex() == data
    assert ByteReader(bytes.fromhex(data)).varint() == value


@pytest.mark.parametrize(
    ("value", "data"), [(0, "00"), (-1, "01"), (1, "02"), (-64, "7f"), (64, "8001"), (-65, "8101")]
)
def test_signs_go_last(value: int, data: str) -> None:
    assert put_zigzag(value).hex() == data
    assert ByteReader(bytes.fromhex(data)).zigzag() == value


@given(st.lists(st.integers(0, LARGEST)), st.lists(st.integers(-(1 << VARINT_BITS - 1), LARGEST >> 1)), st.binary())
def test_numbers_come_back(plain: list[int], signed: list[int], rest: bytes) -> None:
    reader = ByteReader(b"".join([*map(put_varint, plain), *map(put_zigzag, signed)]) + rest)
    assert [reader.varint() for _ in plain] == plain
    assert [reader.zigzag() for _ in signed] == signed
    assert reader.left == len(rest)
    assert reader.rest() == rest and not reader.left and reader.rest() == b""


@pytest.mark.parametrize("value", [-1, LARGEST + 1])
def test_numbers_that_do_not_fit(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        put_varint(value)


@given(st.binary(max_size=12))
def test_whatever_is_read_is_what_would_be_written(data: bytes) -> None:
    """One number, one form: no two files of different bytes hold the same numbers."""
    reader = ByteReader(data)
    try:
        value = reader.varint()
    except StreamError:
        return
    assert put_varint(value) == data[: reader.at]


@pytest.mark.parametrize("data", ["8000", "ff8000", "80" * 9 + "01", "ff" * 20])
def test_longer_forms_are_refused(data: str) -> None:
    with pytest.raises(StreamError, match=r"^the table has a number .* shortest form"):
        ByteReader(bytes.fromhex(data), "the table").varint()


def test_the_end() -> None:
    reader = ByteReader(b"\x01\x80", "the header")
    assert reader.byte() == 1
    with pytest.raises(StreamError, match="the header ends too early"):
        reader.varint()
    reader = ByteReader(b"abc", at=1)
    with pytest.raises(StreamError, match="a payload ends too early: 3 more bytes expected, 2 left"):
        reader.take(3)
    with pytest.raises(StreamError):
        reader.take(-1)
    assert reader.take(0) == b"" and reader.take(2) == b"bc"
    with pytest.raises(StreamError):
        reader.byte()
