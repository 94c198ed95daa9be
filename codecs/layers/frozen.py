"""The exact layers of a weights file as integers, for kernels: without torch, and without a network around them.

`layers/exact_state.py` writes such files, and fills networks of torch from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import WeightsError
from ...native.grids import Grid

__all__ = ["FrozenState", "Integers", "check_numbers", "check_shapes"]


class Integers(NamedTuple):
    """A convolution in integers: weight (O, I, k, k) int16, bias (O,) int64, exponents of the weights (O,) int64.

    Its output is (sum of weight * input + bias) * 2**-(exponent + exponent of the input's grid).
    """

    weight: NDArray[np.int16]
    bias: NDArray[np.int64]
    exponent: NDArray[np.int64]


class FrozenState:
    """The tensors of a weights file by name, as exact layers and as floats; WeightsError for what isn't there."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    def _array(self, name: str) -> NDArray[Any]:
        try:
            return self.arrays[name]
        except KeyError:
            raise WeightsError(f"these weights don't fit the network they name: {name} is missing") from None

    def floats(self, name: str, dtype: Any = np.float32) -> NDArray[Any]:
        """A tensor of numbers."""
        return np.ascontiguousarray(self._array(name), dtype)

    def grid(self, name: str, bits: int, signed: bool, leak: int = 0) -> Grid:
        """The quantiser of this name; its exponent is in the file."""
        return Grid(bits, signed, int(self._array(f"{name}.exponent")), leak)

    def integers(self, name: str) -> Integers:
        """The convolution of this name."""
        weight, bias, exponent = (self._array(f"{name}.{part}") for part in ("weight", "bias", "weight_exponent"))
        if weight.dtype.kind != "i" or bias.dtype.kind != "i" or exponent.dtype.kind != "i" or weight.ndim != 4:
            raise WeightsError(f"{name} in the weights isn't a layer of integers")
        if weight.size and max(abs(int(weight.min())), abs(int(weight.max()))) > 32767:
            raise WeightsError(f"{name} in the weights has integers of more than 16 bits")
        return Integers(np.ascontiguousarray(weight, np.int16), bias.astype(np.int64), exponent.astype(np.int64))


def check_shapes(expected: Mapping[str, tuple[int, ...]], given: Mapping[str, Any]) -> None:
    """Raises WeightsError unless a file's arrays, or tensors, are those that a network needs, by name and shape."""
    have = {name: tuple(array.shape) for name, array in given.items()}
    wrong = sorted(name for name in expected.keys() | have.keys() if expected.get(name) != have.get(name))
    if wrong:
        name = wrong[0]
        raise WeightsError(
            f"these weights don't fit the network they name: {name} is {have.get(name, 'missing')}, expected "
            f"{expected.get(name, 'no such tensor')}"
        )


def check_numbers(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises WeightsError unless all numbers in a file are finite, and exponents (of int8) in their range."""
    for name, array in arrays.items():
        # how many batches were seen is no weight, and float16 may not hold it
        looked_at = array.dtype.kind == "f" and not name.endswith(".num_batches_tracked")
        if array.dtype.kind == "c" or (looked_at and not bool(np.isfinite(array).all())):
            raise WeightsError(f"{name} in the weights isn't all finite numbers")
        if name.endswith("exponent") and array.size and float(np.abs(array.astype(np.float64)).max()) > 128:
            raise WeightsError(f"{name} in the weights is beyond -128 to 127")
