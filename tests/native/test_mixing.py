"""The callers of the mixing kernels: wrong calls are refused before a pointer is passed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codec import native
from codec.entropy.mixing.coding import READ, WRITE, compiled, symbol_plan
from codec.entropy.mixing.items import ItemModel
from codec.entropy.mixing.mixer import Mixer
from codec.native import mixing_items
from codec.native.mixing import ends_well
from codec.native.mixing_items import Belief, Block

pytestmark = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
PLAN = symbol_plan(4, 2, 1, 4)


def test_symbols_of_wrong_types_and_shapes_are_refused() -> None:
    coder = compiled(WRITE, Mixer.new(PLAN), None, 100)
    contexts, select, symbols = np.zeros((3, 2), np.uint64), np.zeros(3, np.int32), np.zeros(3, np.int32)
    calls: tuple[Any, ...] = (
        (contexts[:2], select, symbols),
        (contexts.astype(np.int64), select, symbols),
        (contexts, select.astype(np.int64), symbols),
        (contexts, select, symbols + 16),
        (np.zeros((6, 2), np.uint64)[::2], select, symbols),
    )
    for wrong in calls:
        with pytest.raises(AssertionError):
            coder.symbols(4, wrong[0], wrong[1], 1, wrong[2])
    for width, chosen in ((4, select + 1), (4, select - 1), (31, select), (0, select)):
        with pytest.raises((AssertionError, ValueError)):
            coder.symbols(width, contexts, chosen, 1, symbols)


def test_tables_of_wrong_types_are_refused() -> None:
    for name in ("lines", "weights", "ages", "finals", "final_ages", "refined"):
        mixer = Mixer.new(PLAN)
        setattr(mixer, name, getattr(mixer, name).astype(np.int64))
        with pytest.raises(AssertionError):
            compiled(WRITE, mixer, None, 10)
        mixer = Mixer.new(PLAN)
        getattr(mixer, name).flags.writeable = False
        with pytest.raises(AssertionError):
            compiled(WRITE, mixer, None, 10)


def test_a_stream_that_is_full_is_an_error_and_reserving_makes_room() -> None:
    contexts = np.random.default_rng(0).integers(0, 1 << 60, (4000, 2)).astype(np.uint64)
    symbols = np.random.default_rng(1).integers(0, 16, 4000).astype(np.int32)
    select = np.zeros(4000, np.int32)
    with pytest.raises((ValueError, MemoryError)):
        compiled(WRITE, Mixer.new(PLAN), None, 10).symbols(4, contexts, select, 1, symbols)
    coder = compiled(WRITE, Mixer.new(PLAN), None, 10)
    coder.reserve(4000)
    coder.symbols(4, contexts, select, 1, symbols.copy())
    stream, out = coder.finish(), np.zeros(4000, np.int32)
    reader = compiled(READ, Mixer.new(PLAN), stream)
    reader.symbols(4, contexts, select, 1, out)
    reader.finish()
    assert np.array_equal(out, symbols)


def test_where_a_stream_may_end() -> None:
    data = np.array([1, 2, 3], np.uint8)
    assert ends_well(3, data) and ends_well(11, data) and not ends_well(2, data) and not ends_well(12, data)
    zeros = np.zeros_like(data)
    assert ends_well(11, zeros) and not ends_well(10, zeros)


def test_items_of_wrong_shapes_are_refused() -> None:
    model = ItemModel.new((2, 2), [4] * 4, 4)
    coder = compiled(WRITE, model.mixer, None, 1000)
    block = Block.new((1, 2, 2), np.zeros((4, 3), np.int32))
    with pytest.raises(AssertionError):
        Block.new((1, 2, 3), np.zeros((4, 3), np.int32))
    for t in (-1, 4):
        with pytest.raises((AssertionError, IndexError)):
            mixing_items.code(coder, model.trees, block, t, None)
    tables, which = [np.ones((5, 3), np.float32)], np.zeros(3, np.int32)
    for wrong in (
        Belief(np.ones((2, 3)), tables, which),
        Belief(np.ones((3, 4)), tables, which),
        Belief(np.ones((3, 3), np.float32), tables, which),  # type: ignore[arg-type]
        Belief(np.ones((3, 3)), [np.ones((4, 3), np.float32)], which),
        Belief(np.ones((3, 3)), tables, which + 1),
        Belief(np.ones((3, 3)), tables, which - 1),
    ):
        with pytest.raises(AssertionError):
            mixing_items.code(coder, model.trees, block, 0, wrong)
    block.symbols[0] = 4
    with pytest.raises(AssertionError):
        mixing_items.code(coder, model.trees, block, 0, None)
