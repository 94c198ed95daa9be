"""Motion between pictures: every instruction set gives what the twins in NumPy give, for any vectors and any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codec import native
from codec.native import motion

every_set = pytest.mark.parametrize("name", native.instruction_sets() or [None])
compiled = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
SIZES = ((1, 1), (5, 9), (16, 16), (24, 40), (37, 83), (50, 300))


def plane(h: int, w: int, seed: int, extreme: bool = False) -> NDArray[np.int16]:
    draw = np.random.default_rng(seed)
    return draw.choice([-255, 255], (h, w)).astype(np.int16) if extreme else draw.integers(-255, 256, (h, w), np.int16)


def fields(h: int, w: int, n: int, reach: int, seed: int = 1, side: int = 8) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(-reach, reach + 1, (n, -(-h // side), -(-w // side), 2))


def check_same(name: str | None, run: Callable[[], Any]) -> Any:
    with native.using(name):
        made = run()
    with native.using(None):
        twin = run()
    for a, b in zip(made, twin, strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    return made


@compiled
@every_set
@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("h", "w"), SIZES)
def test_interpolation_and_prediction(name: str, h: int, w: int, extreme: bool) -> None:
    a, b = plane(h, w, 0, extreme), plane(h, w, 1, extreme)
    check_same(name, lambda: [motion.interpolate(a)])
    modes = np.random.default_rng(2).integers(0, 3, (-(-h // 8), -(-w // 8)))
    for reach in (0, 3, 40, 5000):
        both = list(fields(h, w, 2, reach))
        check_same(
            name, lambda both=both: [motion.predict([a], both[:1], None, 8), motion.predict([a, b], both, modes, 8)]
        )
        fine = list(fields(h, w, 1, reach, side=4))
        check_same(name, lambda fine=fine: [motion.predict([b], fine, None, 4)])


@compiled
@every_set
@pytest.mark.parametrize(("h", "w"), SIZES)
def test_costs_and_refinement(name: str, h: int, w: int) -> None:
    b = plane(h, w, 3)
    aim = np.clip(np.roll(b, (2, 3), (0, 1)) + plane(h, w, 4) // 30, -255, 255).astype(np.int16) * np.int16(16)
    aim[::7] = aim[::7] // 16 * 31  # what is aimed at beside another reference
    phases = motion.interpolate(b)
    weight = np.random.default_rng(5).integers(0, 3, (-(-h // 8), -(-w // 8))).astype(np.uint8)
    tried = np.concatenate([fields(h, w, 1, 0), fields(h, w, 1, 12), fields(h, w, 1, 900)])
    check_same(name, lambda: [motion.costs(aim, phases, weight, tried)])
    best, cost = check_same(name, lambda: motion.refine(aim, phases, weight, tried, 3.3))
    with native.using(name):
        assert np.array_equal(motion.costs(aim, phases, weight, best[None])[0], cost)


@compiled
@every_set
@pytest.mark.parametrize(("h", "w", "reach"), [(4, 4, 2), (4, 8, 20), (20, 36, 6), (48, 140, 8), (12, 264, 4)])
def test_the_coarse_search(name: str, h: int, w: int, reach: int) -> None:
    draw = np.random.default_rng(6)
    for a in (draw.integers(-1020, 1021, (h, w), np.int16), np.full((h, w), 1020, np.int16)):
        noise = draw.integers(-40, 41, a.shape)
        b = np.clip(np.roll(a, (1, -2), (0, 1)) + noise, -1020, 1020).astype(np.int16)
        check_same(name, lambda a=a, b=b: [motion.coarse(a, b, reach)])
    check_same(name, lambda: [motion.coarse(np.full((h, w), -1020, np.int16), a, reach)])


@compiled
@every_set
@pytest.mark.parametrize(("k", "n"), [(1, 1), (3, 16), (41, 77), (256, 5)])
def test_choices(name: str, k: int, n: int) -> None:
    draw = np.random.default_rng(7)
    costs = draw.integers(0, 9, (k, n)).astype(np.float32) / 3  # with many that are equal
    between = draw.integers(0, 9, (k, k)).astype(np.float32)
    check_same(name, lambda: motion.choices(costs, between))


@compiled
def test_wrong_calls_end_in_python() -> None:
    a = plane(16, 16, 0)
    still = fields(16, 16, 1, 0)
    phases, weight = motion.interpolate(a), np.ones((2, 2), np.uint8)
    wrong: list[Callable[[], Any]] = [
        lambda: motion.interpolate(a.astype(np.int32)),
        lambda: motion.interpolate(a * np.int16(2)),
        lambda: motion.predict([a], [still[0][:1]], None, 8),
        lambda: motion.predict([a], [still[0] + (1 << 21)], None, 8),
        lambda: motion.predict([a, a], [still[0]] * 2, np.full((2, 2), 3), 8),
        lambda: motion.predict([a, a[:8]], [still[0]] * 2, np.zeros((2, 2), np.int64), 8),
        lambda: motion.predict([a], [still[0]], None, 16),
        lambda: motion.costs(a, phases[:, :8], weight, still),
        lambda: motion.costs(a, phases, weight[:1], still),
        lambda: motion.costs(a, phases, weight, still[:, :1]),
        lambda: motion.coarse(a[:10], a[:10], 4),
        lambda: motion.coarse(a, a, 3),
        lambda: motion.coarse(a * np.int16(5), a, 4),
        lambda: motion.choices(np.zeros((3, 4), np.float32), np.zeros((2, 2), np.float32)),
    ]
    for call in wrong:
        with pytest.raises(AssertionError):
            call()
