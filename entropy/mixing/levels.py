"""Levels of pictures, mixed: ordered values of up to 16 bits on sheets of one to four channels.

Predictions by least squares over the neighbours, which forget, give the mixer distributions; hashed contexts give what
these can't. native/src/mixing_levels.h does the same; `levels_oracle.py` is its twin, a thousandth as fast.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError
from ...native import mixing_levels as kernels
from ...native.mixing import PRICE, READ, WRITE
from ...native.mixing_levels import BEST, GRADIENT, ZERO
from . import levels_oracle
from .coding import compiled
from .mixer import Mixer, Plan
from .oracle import Oracle
from .tables import Rates

__all__ = ["BASES", "BEST", "GRADIENT", "MOST_VALUES", "ZERO", "LevelModel", "logistic", "middle_part"]

MOST_VALUES = 1 << 30
BASES = (ZERO, BEST, GRADIENT)
_CONTEXTS, _EXPERTS = 12, 5
_SETS = (1024, 576, 576)
_PART = 1 << 16  # values on which bases are compared
_MOST_LINES = 20  # 2^20 lines, 64 MB
_RATES = Rates(limit=255, delay=1.5, doubt=0.25, lean=4.0, first=0.02, last=0.003, fall=32, refine_by=6)


@functools.cache
def logistic() -> NDArray[np.int32]:
    """2^24 times the logistic distribution at -16, -16 + 1/64, ..., 16: (2049,), in integers only."""
    bits, unit = 80, 1 << 80
    step = term = unit  # exp(1 / 64) as a series
    for k in range(1, 40):
        term //= 64 * k
        step += term
    power, upper = unit, []
    for _ in range(1025):
        upper.append((power << 24) // (unit + power))
        power = (power * step) >> bits
    lower = [(1 << 24) - value for value in upper[:0:-1]]
    return np.array([*lower, *upper], np.int32)


@dataclass(frozen=True)
class LevelModel:
    """A coder of sheets (n, h, w, c) of values below 2^bits; it learns from nothing, anew for each stream.

    base: what a value is told from. With ZERO the value itself is spelled out, which suits nearly all; BEST tells it
    from the best prediction, GRADIENT from a gradient: for noisy photographs and for wide values.
    """

    shape: tuple[int, int, int, int]
    bits: int
    base: int = ZERO

    @staticmethod
    def new(shape: Sequence[int], bits: int, base: int = ZERO) -> LevelModel:
        """A model of sheets of a shape, (n, h, w, c). ValueError for what can't be coded."""
        if len(shape) != 4 or min(shape) < 1 or shape[3] > 4:
            raise ValueError(f"sheets are (n, h, w, c) with one to four channels, not {tuple(shape)}")
        if int(np.prod([float(side) for side in shape])) > MOST_VALUES:
            raise ValueError(f"sheets of more than {MOST_VALUES} values")
        if not 1 <= bits <= 16 or base not in (ZERO, GRADIENT, BEST):
            raise ValueError(f"levels of {bits} bits, told from {base}")
        n, h, w, c = (int(side) for side in shape)
        return LevelModel((n, h, w, c), bits, base)

    @staticmethod
    def fitting(sheets: NDArray[np.uint16], bits: int) -> LevelModel:
        """The model of sheets of this shape whose base costs the fewest bits on a part of them."""
        part = middle_part(sheets)
        models = [LevelModel.new(part.shape, bits, base) for base in (BASES if bits > 1 else (ZERO,))]
        prices = [model.price(part) for model in models] if len(models) > 1 else [0.0]
        return LevelModel.new(sheets.shape, bits, models[prices.index(min(prices))].base)

    def mixer(self) -> Mixer:
        """The state in which a stream begins."""
        groups = self.shape[0] * self.shape[1] * self.shape[2] * self.shape[3] * -(-self.bits // 4)
        lines = min(_MOST_LINES, max(10, (_CONTEXTS * groups).bit_length()))
        plan = Plan(_CONTEXTS, lines, _SETS, _SETS[0], _SETS[0] + _SETS[1], _EXPERTS, _RATES)
        mixer = Mixer.new(plan, 0.1)
        mixer.weights[:, 2 * _CONTEXTS : 2 * _CONTEXTS + _EXPERTS] = 1 << 18  # a quarter each
        return mixer

    def encode(self, values: NDArray[Any], room: int | None = None) -> bytes:
        """The stream of sheets. room: MemoryError if it would be longer."""
        sheets = self._sheets(values)
        mixer = self.mixer()
        if native.library() is None:
            return _within(self._oracle(WRITE, mixer, sheets).finish(), room)
        coder = compiled(WRITE, mixer, None, 2 * self.bits * sheets.size if room is None else room)
        kernels.code_levels(coder, sheets, self.bits, self.base, logistic())
        return _within(coder.finish(), room)

    def price(self, values: NDArray[Any]) -> float:
        """The bits that `encode` takes, without it."""
        sheets, mixer = self._sheets(values), self.mixer()
        if native.library() is None:
            return self._oracle(PRICE, mixer, sheets).bits
        coder = compiled(PRICE, mixer)
        kernels.code_levels(coder, sheets, self.bits, self.base, logistic())
        return coder.bits

    def decode(self, data: bytes) -> NDArray[np.uint16]:
        """The sheets of a stream, (n, h, w, c) uint16; StreamError for one that is damaged."""
        sheets, mixer = np.zeros(self.shape, np.uint16), self.mixer()
        if native.library() is None:
            self._oracle(READ, mixer, sheets, data).finish()
            return sheets
        try:
            coder = compiled(READ, mixer, data)
            kernels.code_levels(coder, sheets, self.bits, self.base, logistic())
            coder.finish()
        except ValueError as error:
            raise StreamError("a mixed stream doesn't end where its values do: the file is damaged") from error
        return sheets

    def _sheets(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        if values.shape != self.shape or values.dtype.kind not in "bu" or int(values.max()) >= 1 << self.bits:
            raise ValueError(f"values {values.dtype} {values.shape}: expected {self.shape}, below 2^{self.bits}")
        return np.ascontiguousarray(values, np.uint16)

    def _oracle(self, role: int, mixer: Mixer, sheets: NDArray[np.uint16], data: bytes = b"") -> Oracle:
        coder = Oracle(role, mixer, data)
        levels_oracle.code_levels(coder, sheets, self.bits, self.base, logistic())
        return coder


def _within(data: bytes, room: int | None) -> bytes:
    if room is not None and len(data) > room:
        raise MemoryError("a stream is longer than its room")
    return data


def middle_part(sheets: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """About `_PART` values from the middle: whole sheets, or rows of a sheet, or a piece of a row."""
    n, h, w, c = sheets.shape
    if sheets.size <= 2 * _PART:
        return sheets
    if h * w * c <= _PART:
        count = _PART // (h * w * c)
        return sheets[(n - count) // 2 :][:count]
    if w * c <= _PART:
        count = min(h, max(1, _PART // (w * c)))
        return np.ascontiguousarray(sheets[n // 2, (h - count) // 2 :][:count])[None]
    count = _PART // c
    return np.ascontiguousarray(sheets[n // 2, h // 2, (w - count) // 2 :][:count])[None, None]
