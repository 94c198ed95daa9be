"""Label maps by context mixing: unordered symbols on a grid, as in segmentations, masks, pictures of few colours.

The contexts are the model's own: neighbourhoods, their patterns of equality, what followed them before, a match further
back, the sheet before (native/src/mixing_labels.h; twin: labels_oracle.py). The order of the labels means nothing to
it. A stream begins with a byte that says which of the model's modes wrote it; an encoder tries them on a part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError
from ...native import mixing_labels as kernels
from ...native.mixing import PRICE, READ, WRITE
from .coding import compiled
from .labels_oracle import LabelOracle
from .mixer import Mixer, Plan
from .oracle import Oracle
from .tables import Rates

__all__ = ["LabelModel", "Mode"]

_SAMPLE = 1 << 15  # labels on which modes are tried
_RATES = (Rates(last=0.003, refine_by=5), Rates(first=0.04, last=0.004, fall=128, lean=8.0))  # by kind
_WEIGHT = 0.2


@dataclass(frozen=True)
class Mode:
    """A way to code a map. kind: 0, maps, 1, pictures of few colours; candidates: guesses before a label is spelled.

    deep: contexts look into the sheet before. work: an estimate of the time, in microseconds: of a label, of each
    decision.
    """

    kind: int
    candidates: int
    deep: bool
    work: tuple[float, float]


# Streams name a mode by its place: append only.
MODES = (
    Mode(0, 3, False, (0.4, 0.15)),
    Mode(0, 0, False, (0.4, 0.2)),
    Mode(1, 3, False, (0.1, 0.12)),
    Mode(1, 0, False, (0.1, 0.12)),
    Mode(0, 3, True, (0.5, 0.2)),
)
_LEAST_WORK = 1.0  # microseconds a label that are always granted


@dataclass(frozen=True)
class LabelModel:
    """Label maps of one shape. size: of the alphabet, 1 to 65536. shape: (sheets, height, width).

    Streams hold neither. Any change of the model's numbers, or of its order, is another stream version of those who
    use it.
    """

    size: int
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        n, height, width = self.shape
        if not 1 <= self.size <= 1 << 16:
            raise ValueError(f"an alphabet of {self.size} labels: expected 1 to 65536")
        if min(self.shape) < 0 or (height + 5) * (width + 8) >= 1 << 30 or n * height * width >= 1 << 31:
            raise ValueError(f"label maps of {n} x {height} x {width}: too many labels")

    def encode(self, labels: NDArray[np.integer]) -> bytes:
        """The stream of labels (sheets, height, width), each from 0 to size - 1."""
        values = self._checked(labels)
        if not values.size:
            return b""
        number = self._best(values)
        return bytes([number]) + self._run(WRITE, MODES[number], values)[0]

    def decode(self, data: bytes) -> NDArray[np.int32]:
        """The labels (sheets, height, width) int32. StreamError for a damaged stream."""
        values = np.zeros(self.shape, np.int32)
        if not values.size:
            if data:
                raise StreamError("a stream of no labels that has bytes: the file is damaged")
            return values
        if not data or data[0] >= len(MODES):
            raise StreamError("labels in a mode that this version doesn't know: pip install -U codec-suite")
        mode = MODES[data[0]]
        self._run(READ, mode, values, data[1:])
        return values

    def price(self, labels: NDArray[np.integer], mode: int | None = None) -> float:
        """The bits of the stream, nearly; mode: which of MODES, None for the one that `encode` would take."""
        values = self._checked(labels)
        if not values.size:
            return 0.0
        return 8 + self._run(PRICE, MODES[self._best(values) if mode is None else mode], values)[1]

    # ---- parts

    def _checked(self, labels: NDArray[np.integer]) -> NDArray[np.int32]:
        if labels.shape != self.shape:
            raise ValueError(f"labels of shape {labels.shape}: expected {self.shape}")
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < self.size:
            raise ValueError(f"labels from {labels.min()} to {labels.max()}: expected 0 to {self.size - 1}")
        return np.array(labels, np.int32, order="C")

    def _best(self, values: NDArray[np.int32]) -> int:
        """The mode that is shortest on a part in the middle, of those that take about a microsecond a label."""
        n, height, width = self.shape
        sheets = min(n, max(4, _SAMPLE // (height * width)))
        rows = min(height, max(8, _SAMPLE // (sheets * width)))
        first, top = (n - sheets) // 2, (height - rows) // 2
        part = np.ascontiguousarray(values[first : first + sheets, top : top + rows])
        model = LabelModel(self.size, (sheets, rows, width))
        prices = []
        for number, mode in enumerate(MODES):
            if mode.deep and sheets == 1:
                continue
            _, bits, decisions = model._run(PRICE, mode, part.copy())
            work = mode.work[0] + mode.work[1] * decisions / part.size
            prices.append((max(work, _LEAST_WORK), bits, number))
        granted = max(_LEAST_WORK, min(prices)[0])
        return min((bits, number) for work, bits, number in prices if work <= granted)[1]

    def _run(self, role: int, mode: Mode, values: NDArray[np.int32], data: bytes = b"") -> tuple[bytes, float, int]:
        """Codes the values in place. Returns the stream that is written, its bits if priced, and its decisions."""
        _, height, width = self.shape
        bits = values.size.bit_length()
        lines, seen = min(20, max(10, bits + 1)), min(20, max(8, bits))
        contexts = kernels.CONTEXTS[mode.kind, mode.deep]
        plan = Plan(contexts, lines, kernels.SETS, kernels.FINALS, kernels.ROWS, 1, _RATES[mode.kind])
        mixer = Mixer.new(plan, _WEIGHT)
        tables = kernels.Tables.new(height, width, seen)
        if native.library() is None:
            coder = Oracle(role, mixer, data)
            oracle = LabelOracle(coder, self.shape, self.size, mode.kind, mode.candidates, mode.deep, tables)
            values[:] = oracle.code(None if role == READ else values.tolist())
            return coder.finish(), coder.bits, oracle.decisions
        room = 0 if role == PRICE else 4 * values.size + 64
        coder = compiled(role, mixer, data if role == READ else None, room)
        try:
            decisions = kernels.labels(coder, values, self.size, mode.kind, mode.candidates, mode.deep, tables)
            return b"" if role == PRICE else coder.finish(), coder.bits, decisions
        except ValueError as error:
            raise StreamError("a mixed stream of labels is cut, or too long: the file is damaged") from error
