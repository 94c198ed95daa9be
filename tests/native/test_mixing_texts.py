"""Tables of texts, mixed: compiled and in Python, the same bytes and the same numbers in every table."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from codec import native
from codec.entropy.mixing import texts
from codec.entropy.mixing.coding import compiled
from codec.entropy.mixing.oracle import Oracle
from codec.entropy.mixing.texts import TextModel
from codec.errors import StreamError
from codec.native import mixing_texts
from codec.native.mixing import PRICE, READ, WRITE

TABLES = ("lines", "weights", "ages", "finals", "final_ages", "refined")
compiled_here = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")


def _table(n: int) -> np.ndarray:
    rows = [[b"id", b"kind", b"", b"value \xff"]]
    rows += [[b"%d" % (1000 + i), (b"red", b"green", b"blue")[i * i % 3], b"", b"%.2f" % (i / 7)] for i in range(n)]
    return np.array(rows)


CASES = {"table": _table(9), "cell": np.array([[b""]]), "one": np.array([[b"abc"]]), "column": _table(5)[:, 1:2]}


@compiled_here
@pytest.mark.parametrize("case", CASES)
def test_the_twin_gives_the_same_numbers(case: str) -> None:
    table = CASES[case]
    rows, columns = table.shape
    model = TextModel.new(rows, columns, max(map(len, table.ravel().tolist())))
    text = model._text(table)
    expected = model.mixer()
    oracle = Oracle(WRITE, expected)
    assert texts.code_table(oracle, text.copy(), rows, columns, model.longest) == len(text)
    stream = oracle.finish()
    for name in native.instruction_sets():
        with native.using(name):
            for role, given in ((WRITE, None), (READ, stream), (PRICE, None)):
                mixer = model.mixer()
                room = np.zeros(table.size * (model.longest + 1), np.uint8) if role == READ else text.copy()
                coder = compiled(role, mixer, given, 64 * len(text))
                used = mixing_texts.code_table(coder, room, rows, columns, model.longest)
                assert used == len(text) and np.array_equal(room[:used], text), name
                if role != PRICE:
                    assert coder.finish() == (stream if role == WRITE else b""), name
                for attribute in TABLES:
                    assert np.array_equal(getattr(mixer, attribute), getattr(expected, attribute)), (name, attribute)


def test_tables_come_back_or_are_refused() -> None:
    table = CASES["table"]
    rows, columns = table.shape
    model = TextModel.new(rows, columns, 8)
    data = model.encode(table)
    assert np.array_equal(model.decode(data), table)
    with native.using(None):
        assert model.encode(table) == data
        assert np.array_equal(model.decode(data), table)
    with pytest.raises(MemoryError):
        model.encode(table, len(data) - 1)
    for damaged in (data + b"x" * 20, data + data):
        with pytest.raises(StreamError):
            model.decode(damaged)
    for cut in range(len(data)):  # what is missing reads as zeros: an error, or another table
        with contextlib.suppress(StreamError):
            assert not np.array_equal(model.decode(data[:cut]), table)
    with pytest.raises(ValueError, match="zeros"):
        model.encode(np.where(table == b"red", b"r\0d", table))
    with pytest.raises(ValueError, match="bytes"):
        TextModel.new(1 << 20, 1 << 10, 255)


@compiled_here
def test_wrong_calls_are_refused_before_any_pointer() -> None:
    table = CASES["table"]
    rows, columns = table.shape
    model = TextModel.new(rows, columns, 8)
    text = model._text(table)
    calls: tuple[Any, ...] = (text.astype(np.int8), text[::2], text[:-1].copy(), np.append(text, 0).astype(np.uint8))
    for wrong in calls:
        with pytest.raises(AssertionError):
            mixing_texts.code_table(compiled(PRICE, model.mixer()), wrong, rows, columns, 8)
    with pytest.raises(AssertionError):
        mixing_texts.code_table(compiled(PRICE, model.mixer()), text, rows, columns, 2)
