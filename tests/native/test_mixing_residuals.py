"""Mixed residuals: the compiled loops against the twin, on all instruction sets: streams, values and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codec import native
from codec.codecs.layers import interpolation, mixed_fields
from codec.entropy.mixing.coding import PRICE, READ, WRITE
from codec.entropy.mixing.mixer import Mixer
from codec.entropy.mixing.residuals import new_mixer

FIELDS = ["smooth", "noise", "wild", "steps", "double"]
SHAPES = [(1, 1, 1), (1, 9), (2, 7, 6), (1, 3, 1, 8), (2, 2, 3, 4, 5), (1, 5, 12)]


def field(kind: str, shape: tuple[int, ...]) -> tuple[np.ndarray[Any, Any], float]:
    """A field and a bound for it."""
    draw = np.random.default_rng(len(shape))
    grid = np.indices(shape)
    waves = np.sin(sum((0.3 + 0.1 * k) * axis for k, axis in enumerate(grid)))
    if kind == "smooth":
        return waves.astype(np.float32), 1e-2
    if kind == "noise":
        return draw.normal(size=shape).astype(np.float32), 1e-5
    if kind == "wild":  # residuals of all sizes, and values that are kept as they are
        return (waves * 10.0 ** draw.uniform(-20, 38, shape)).astype(np.float32), 1e-3
    if kind == "steps":
        return np.round(3 * waves).astype(np.float32), 0.5
    return waves + draw.normal(size=shape) * 1e-6, 1e-9


def coded(
    role: int, x: np.ndarray[Any, Any], bound: float, pace: int, stream: bytes = b"", kept: Any = None
) -> tuple[Any, Any, Any, Mixer]:
    """The result of one pass, and the mixer after it."""
    way = mixed_fields._Way(2, pace, interpolation._smoothness(x))
    mixer = new_mixer(x.size)
    if role == READ:
        _, folded = way.plan.folded(x.shape)
        made: Any = mixed_fields._coded(READ, folded, bound, way, float(x.flat[0]), stream, kept, None, mixer)
    else:
        made = mixed_fields._code(role, x, bound, way, mixer)
    first, second, third = made
    return first, second, third, mixer


def same(a: Mixer, b: Mixer) -> bool:
    names = ("lines", "weights", "ages", "finals", "final_ages", "refined")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.mark.skipif(not native.instruction_sets(), reason="the compiled module isn't there")
@pytest.mark.parametrize("pace", [0, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", FIELDS)
def test_the_twin_s_streams_values_and_tables(kind: str, shape: tuple[int, ...], pace: int) -> None:
    x, bound = field(kind, shape)
    with native.using(None):
        stream, kept, _, written = coded(WRITE, x, bound, pace)
        _, _, values, read = coded(READ, x, bound, pace, stream, kept)
        price, priced = coded(PRICE, x, bound, pace)[2:]
    assert same(written, read)
    assert same(written, priced)
    order, _ = mixed_fields._Way(2, pace, interpolation._smoothness(x)).plan.folded(x.shape)
    back = values.reshape([x.shape[axis] for axis in order]).transpose(np.argsort(order))
    assert interpolation.within(x, back, bound).all()
    for name in native.instruction_sets():
        with native.using(name):
            made, raw, _, mixer = coded(WRITE, x, bound, pace)
            assert made == stream
            assert raw.tobytes() == kept.tobytes()
            assert same(mixer, written)
            _, _, decoded, mixer = coded(READ, x, bound, pace, stream, kept)
            assert decoded.tobytes() == values.tobytes()
            assert same(mixer, written)
            assert coded(PRICE, x, bound, pace)[2] == price


@pytest.mark.skipif(not native.instruction_sets(), reason="the compiled module isn't there")
def test_what_the_price_says_is_what_the_stream_takes() -> None:
    x, bound = field("noise", (1, 20, 30))
    stream, kept, _, _ = coded(WRITE, x, bound, 2)
    price = coded(PRICE, x, bound, 2)[2]
    assert abs(8 * len(stream) + 8 * kept.nbytes - price) < 0.01 * price + 64
