"""Functions of real numbers whose results are the same on every machine, and the order of float32 bit patterns.

The mathematical library of a machine may round the last bit of an exponential or a logarithm otherwise than that of
another. These use additions, products and quotients of float64 alone, which IEEE 754 fixes, and err by about 1e-15.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOGITS", "exp", "float32_of", "log", "logit_of_byte", "ordered", "sigmoid", "unordered"]

Float64 = NDArray[np.float64]

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # the first has 21 zero bits at its end
_TERMS_OF_EXP = 14
_TERMS_OF_LOG = 13
_LARGEST = 708.0  # whose exponential, and that of its negative, float64 holds
_LEAST = 1e-6  # an opacity below this, or as near to 1, has the logit of this


def exp(x: NDArray[Any]) -> Float64:
    """The exponentials of real numbers; those beyond 708 are taken as 708, NaN stays NaN."""
    x = np.clip(np.asarray(x, np.float64), -_LARGEST, _LARGEST)
    k = np.rint(np.where(np.isnan(x), 0.0, x) * 1.4426950408889634)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    total = np.ones_like(r)
    for n in range(_TERMS_OF_EXP, 0, -1):
        total = total * r / n + 1.0
    return np.ldexp(total, k.astype(np.int32))


def log(x: NDArray[Any]) -> Float64:
    """The natural logarithms of positive numbers; of infinity it is infinity, of any other it is NaN."""
    x = np.asarray(x, np.float64)
    finite = np.isfinite(x) & (x > 0)
    mantissa, exponent = np.frexp(np.where(finite, x, 1.0))
    low = mantissa < 0.7071067811865476
    mantissa, exponent = np.where(low, mantissa * 2, mantissa), exponent - low
    s = (mantissa - 1) / (mantissa + 1)
    total = np.zeros_like(s)
    for n in range(2 * _TERMS_OF_LOG - 1, 0, -2):
        total = total * (s * s) + 1.0 / n
    value = exponent * _LN2_HIGH + (exponent * _LN2_LOW + 2 * s * total)
    return np.where(finite, value, np.where(x == np.inf, np.inf, np.nan))


def sigmoid(x: NDArray[Any]) -> Float64:
    """The opacities, 0 to 1, of logits; also of infinite ones."""
    return 1.0 / (1.0 + exp(-np.asarray(x, np.float64)))


def float32_of(x: NDArray[Any]) -> NDArray[np.float32]:
    """The nearest float32; what is beyond all of them becomes infinite, without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(x, np.float32)


def _logits() -> NDArray[np.float32]:
    opacity = np.clip(np.arange(256) / 255, _LEAST, 1 - _LEAST)
    return float32_of(log(opacity / (1 - opacity)))


LOGITS = _logits()  # of the opacities 0/255 to 255/255; those at the ends are -13.8 and 13.8, not infinite
LOGITS.flags.writeable = False


def logit_of_byte(values: NDArray[np.int32]) -> NDArray[np.float32]:
    """The logits of opacities that are stored as 0 to 255."""
    return LOGITS[values]


def ordered(bits: NDArray[np.signedinteger[Any]]) -> NDArray[np.int32]:
    """Integers in the order of the floating-point numbers whose bits are given: -0 is -1, and 0 is 0.

    bits: float32 as int32, or float16 as int16. Each has its own integer, NaN too.
    """
    mask = np.iinfo(bits.dtype).max
    return np.where(bits < 0, ~(bits & mask), bits).astype(np.int32)


def unordered(values: NDArray[np.int32], kind: type[np.signedinteger[Any]]) -> NDArray[Any]:
    """The bits, as signed integers of a kind, for which `ordered` gave these values."""
    least = np.iinfo(kind).min
    return np.where(values < 0, ~values | least, values).astype(kind)
