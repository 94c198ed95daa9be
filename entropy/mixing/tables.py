"""Tables of the mixing coder: log odds and probabilities in integers, and how fast what it has learned changes.

All are made in integers from 64-bit constants, so they are the same on every machine; streams depend on each of them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOW", "Rates", "odds_place", "price", "squash", "stretch"]

LOW = 3072  # log odds are -LOW ... LOW - 1, in 256ths
_BITS = 80  # of the fixed-point numbers below


def _squash(bits: int) -> list[int]:
    """The probability, times 2^bits, of log odds -LOW / 256, ..., (LOW - 1) / 256."""
    unit = 1 << _BITS
    step = term = unit  # exp(1 / 256) as a series
    for k in range(1, 30):
        term = term // (256 * k)
        step += term
    power, powers = unit, [unit]
    for _ in range(LOW):
        power = (power * step) >> _BITS
        powers.append(power)
    low = [(1 << bits) * unit // (unit + powers[k]) for k in range(LOW, 0, -1)]  # of -LOW, ..., -1
    return [*low, 1 << (bits - 1), *((1 << bits) - p for p in reversed(low[1:]))]


@functools.cache
def squash() -> NDArray[np.int32]:
    """The probability, times 2^16, of log odds -LOW / 256, ..., (LOW - 1) / 256: (2 * LOW,), 1 to 65535."""
    return np.array(_squash(16), np.int32).clip(1, (1 << 16) - 1).astype(np.int32)


@functools.cache
def stretch() -> NDArray[np.int32]:
    """The log odds, in 256ths, of a probability of 16 bits, by its place in `odds_place`: (11776,)."""
    middles = np.concatenate([2 * np.arange(4096) + 1, 32 * np.arange(256, 3840) + 16, 2 * np.arange(61440, 65536) + 1])
    return (np.searchsorted(_squash(30), middles << 13, side="left") - LOW).clip(-LOW, LOW - 1).astype(np.int32)


def odds_place(p: int) -> int:
    """The place of a probability of 16 bits in `stretch`: 4096 steps at each end, 16ths of them between."""
    return p if p < 4096 else p - 53760 if p >= 61440 else 3840 + (p >> 4)


@functools.cache
def price() -> NDArray[np.int32]:
    """The bits, times 2^16, of an event whose probability has 12 bits, by squaring: (4096,)."""
    out = []
    for index in range(4096):
        value, bits = (2 * index + 1) << 50, 0  # of 2^13 in 2^50ths
        whole = value.bit_length() - 1
        mantissa = value << (62 - whole)
        for _ in range(16):
            mantissa = (mantissa * mantissa) >> 62
            bits <<= 1
            if mantissa >> 63:
                mantissa >>= 1
                bits |= 1
        out.append(((13 + 50 - whole) << 16) - bits)
    return np.array(out, np.int32)


@dataclass(frozen=True)
class Rates:
    """How fast a mixer learns.

    limit: the count at which a probability's step stops to fall, up to 1023. delay: the step at count n is
    1 / (n + delay). doubt: log odds of count n are weighed by n / (n + doubt). lean: weight of a probability less a
    half, in nats, at a high count; it grows as n / (n + 3). first, last, fall: the learning rate of weights after n
    decisions is last + (first - last) * fall / (fall + n), up to 1023. refine_by: refinements move by 2^-refine_by.
    """

    limit: int = 255
    delay: float = 1.5
    doubt: float = 0.25
    lean: float = 4.0
    first: float = 0.02
    last: float = 0.002
    fall: int = 32
    refine_by: int = 6

    def step(self) -> NDArray[np.int32]:
        """2^15 times the step of a probability, by count: (1024,)."""
        half = round(2 * self.delay)
        n = np.arange(1024, dtype=np.int64)
        return ((1 << 16) // (2 * n + half)).clip(0, 32767).astype(np.int32)

    def trust(self) -> NDArray[np.int32]:
        """2^8 times the weight of a count's log odds: (1024,)."""
        n, doubt = np.arange(1024, dtype=np.int64), round(64 * self.doubt)
        return np.where(n > 0, 256 * 64 * n // (64 * n + max(1, doubt)), 0).astype(np.int32)

    def weights_of_lean(self) -> NDArray[np.int32]:
        """The weight, times 2^8, of a count's probability less a half: (1024,)."""
        n = np.arange(1024, dtype=np.int64)
        return (round(256 * self.lean) * n // (n + 3)).astype(np.int32)

    def pace(self) -> NDArray[np.int32]:
        """2^14 times the learning rate of a set of weights, by age: (1024,)."""
        n = np.arange(1024, dtype=np.int64)
        first, last = round(self.first * (1 << 14)), round(self.last * (1 << 14))
        return (last + (first - last) * self.fall // (self.fall + n)).clip(1, 1023).astype(np.int32)
