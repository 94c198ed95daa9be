"""The filter behind a block transform: every instruction set gives what the twin in NumPy gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codec import native
from codec.codecs.nirvana.grid.frame import PlaneLayout, Sum, filtered
from codec.codecs.nirvana.grid.networks import random_nets
from codec.native.repair import repair

compiled = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
KINDS = {"small": 9, "full": 127}


def nets(size: int, seed: int) -> Any:
    draw = np.random.default_rng(seed)
    empty = random_nets()
    new = {
        name: draw.integers(-size, size + 1, value.shape)
        for name, value in empty.flat().items()
        if name.startswith(("luma", "chroma"))
    }
    return empty.changed(new)


def sums(layout: PlaneLayout, seed: int, share: float, wild: bool) -> list[Sum]:
    draw = np.random.default_rng(seed)
    made = []
    for p in range(len(layout.scales)):
        h, w = (-(-side // 16) * 16 for side in layout.shape(p))
        smooth = np.add.outer(np.arange(h) * 11.0, np.arange(w) * 7.0) % 4080
        far = (1 << 17) if wild else 300
        residual = draw.integers(-far, far + 1, (h, w)).astype(np.float64)
        active = draw.random((h // 8, w // 8)) < share
        residual[~active.repeat(8, 0).repeat(8, 1)] = 0
        made.append(Sum(np.floor(smooth) + residual, residual, active))
    return made


@compiled
@pytest.mark.parametrize("name", native.instruction_sets() or [None])
@pytest.mark.parametrize("pixels", ["yuv420p", "gray", "rgb24"])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (16, 16), (35, 130), (64, 48)])
@pytest.mark.parametrize("kind", ["small", "full"])
def test_every_instruction_set_gives_the_same_samples(name: str, pixels: Any, h: int, w: int, kind: str) -> None:
    layout = PlaneLayout(pixels, h, w)
    changed = 0
    for seed, (share, index) in enumerate([(1.0, 0), (0.5, 20), (0.1, 55), (0.02, 30)]):
        planes = sums(layout, seed, share, kind == "full")
        filters = nets(KINDS[kind], seed)
        with native.using(name):
            made = filtered(filters, layout, planes, index)
        with native.using(None):
            twin = filtered(filters, layout, planes, index)
            idle = filtered(random_nets(), layout, planes, index)
        assert all(a.dtype == b.dtype == np.int16 and np.array_equal(a, b) for a, b in zip(made, twin, strict=True))
        changed += sum(int((a != b).sum()) for a, b in zip(made, idle, strict=True))
    assert changed or h * w == 1  # which a wild correction leaves where it is


@compiled
def test_wrong_calls_end_in_python() -> None:
    filters = nets(9, 0).luma
    parameters = filters.w1, filters.b1, filters.w2, filters.b2
    good = [np.zeros((16, 16))], [np.zeros((16, 16))], [np.ones((2, 2), bool)]
    repair(*good, parameters, 2, 16, (16, 16), (0, 255))
    for total, residual, active in (
        ([np.zeros((8, 16))], *good[1:]),
        (good[0], [np.full((16, 16), 1e9)], good[2]),
        (*good[:2], [np.ones((2, 3), bool)]),
    ):
        with pytest.raises(AssertionError):
            repair(total, residual, active, parameters, 2, 16, (16, 16), (0, 255))
    with pytest.raises(AssertionError):
        repair(*good, parameters, 2, 16, (17, 16), (0, 255))
    with pytest.raises(AssertionError):
        repair(*good, (parameters[0] * 0 + 128, *parameters[1:]), 2, 16, (16, 16), (0, 255))
