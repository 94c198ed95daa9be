"""The sums of a layer's weights, against NumPy's on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from codec import native
from codec.native.sums import weight_sums


@pytest.mark.parametrize("name", [*native.instruction_sets(), None])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7, 3, 3), (2, 40_000)])
def test_sums(name: str | None, dtype: type, shape: tuple[int, ...]) -> None:
    limits = np.iinfo(np.int16 if dtype is np.int64 else dtype)
    draw = np.random.default_rng(0).integers(limits.min, limits.max + 1, shape).astype(dtype)
    extreme = np.full(shape, limits.min, dtype)
    for weight in (draw, extreme, -(extreme + 1)):
        flat = weight.reshape(shape[0], -1).astype(np.int64)
        with native.using(name):
            sums = weight_sums(weight)
        assert np.array_equal(sums.magnitudes, np.abs(flat).sum(1))
        assert np.array_equal(sums.totals, flat.sum(1))
        assert (sums.least, sums.most) == (flat.min(), flat.max())
