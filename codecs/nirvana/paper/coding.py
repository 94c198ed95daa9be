"""Integers of a network to bytes and back: a model for each tensor, one arithmetic-coded stream for all of them.

Each tensor is sent as it is, or as its difference to the previous group's, under a logistic distribution of two
parameters or a histogram: whichever takes the fewest bytes, model included. A logistic's cumulative at the k-th edge
is 1 / (1 + a r^k): with a and r sent in place of location and scale, the table takes only multiplications, additions
and divisions, so IEEE 754 makes it the same on every machine.

Payload: for each tensor its mode (1 byte) and model, then the stream. Modes: 0 no difference; 1, 2 values, logistic or
histogram; 3, 4 differences, the same. All integers little-endian; LEB128 where a length isn't said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ....entropy.coders import TOTAL
from ....entropy.integers import ByteReader, put_varint, put_zigzag
from ....entropy.tables import Tables
from ....errors import StreamError

__all__ = ["coded_bits", "decode_tensors", "encode_tensors"]

SAME, VALUES_LOGISTIC, VALUES_HISTOGRAM, CHANGE_LOGISTIC, CHANGE_HISTOGRAM = range(5)
MAX_COLUMNS = 8192  # symbols beyond are escapes

Int32Array = NDArray[np.int32]


class Logistic(NamedTuple):
    """A logistic distribution of the symbols low to low + n - 1.

    a = (256 + mantissa) * 2**(exponent - 128) and r = ratio / 2**16, as the module says.
    """

    low: int
    n: int
    mantissa: int
    exponent: int
    ratio: int

    @staticmethod
    def fit(low: int, counts: NDArray[np.int64]) -> Logistic:
        """The logistic for these counts of the symbols from `low` on, by their moments.

        The variance of the bins is taken off; good to a few per cent of a bit for bell shapes.
        """
        at = low + np.arange(len(counts), dtype=np.float64)
        total = counts.sum()
        mean = float((at * counts).sum() / total)
        variance = float(((at - mean) ** 2 * counts).sum() / total)
        best = None
        for factor in (0.7, 0.85, 1.0, 1.2):
            scale = max(math.sqrt(max(variance * factor, 0.01)) * math.sqrt(3) / math.pi, 0.05)
            model = Logistic._of(low, len(counts), mean, scale)
            bits = _bits(counts, model.table())
            if best is None or bits < best[0]:
                best = (bits, model)
        assert best is not None
        return best[1]

    @staticmethod
    def _of(low: int, n: int, mean: float, scale: float) -> Logistic:
        power = min(max((mean - low + 0.5) / scale / math.log(2), -120.0), 110.0)
        exponent = math.floor(power)
        mantissa = min(255, round((2 ** (power - exponent) - 1) * 256))
        ratio = min(max(round(math.exp(-1 / scale) * 2**16), 1), 2**16 - 1)
        return Logistic(low, n, mantissa, exponent - 8 + 128, ratio)

    def table(self) -> NDArray[np.int64]:
        """The counts of the n symbols and of the escape, which sum to 2**16."""
        a, r = (256 + self.mantissa) * 2.0 ** (self.exponent - 128), self.ratio / 65536
        factors = np.full(self.n + 1, r)
        factors[0] = a
        edges = 1 / (1 + np.multiply.accumulate(factors))  # one factor after the other: no freedom to round otherwise
        room = TOTAL - self.n - 1
        counts = np.ones(self.n + 1, dtype=np.int64)
        counts[:-1] += np.floor(np.diff(edges) * room).astype(np.int64)
        counts[int(counts.argmax())] += TOTAL - counts.sum()
        return counts

    def to_bytes(self) -> bytes:
        """The model as it is sent."""
        head = put_zigzag(self.low) + put_varint(self.n)
        return head + bytes([self.mantissa, self.exponent]) + self.ratio.to_bytes(2, "little")

    @staticmethod
    def read(reader: ByteReader) -> Logistic:
        """The model that `to_bytes` wrote."""
        low, n = _read_range(reader)
        mantissa, exponent = reader.take(2)
        ratio = int.from_bytes(reader.take(2), "little")
        if not ratio:
            raise StreamError("a distribution with a ratio of 0: the file is damaged")
        return Logistic(low, n, mantissa, exponent, ratio)


class Histogram(NamedTuple):
    """A histogram of the symbols from `low` on.

    weights: a byte of each symbol, the square root of its frequency in units of the largest root's 255th.
    """

    low: int
    weights: bytes

    @staticmethod
    def fit(low: int, counts: NDArray[np.int64]) -> Histogram:
        """The histogram for these counts of the symbols from `low` on."""
        root = np.sqrt(counts / counts.max()) * 255
        return Histogram(low, np.where(counts > 0, np.maximum(np.rint(root), 1), 0).astype(np.uint8).tobytes())

    def table(self) -> NDArray[np.int64]:
        weights = np.frombuffer(self.weights, np.uint8).astype(np.int64) ** 2
        room = TOTAL - len(weights) - 1
        counts = np.ones(len(weights) + 1, dtype=np.int64)
        counts[:-1] += weights * room // max(1, int(weights.sum()))
        counts[int(counts.argmax())] += TOTAL - counts.sum()
        return counts

    def to_bytes(self) -> bytes:
        """The model as it is sent."""
        return put_zigzag(self.low) + put_varint(len(self.weights)) + self.weights

    @staticmethod
    def read(reader: ByteReader) -> Histogram:
        """The model that `to_bytes` wrote."""
        low, n = _read_range(reader)
        return Histogram(low, reader.take(n))


SymbolModel = Logistic | Histogram


class Plan(NamedTuple):
    """The way to send a tensor. mode: one of the five above. bits: of model and symbols, without the mode."""

    mode: int
    model: SymbolModel | None
    bits: float


def coded_bits(values: Mapping[str, Int32Array], previous: Mapping[str, Int32Array] | None) -> dict[str, float]:
    """The bits that each tensor takes, less the byte of its mode."""
    return {name: _plan(array, _before(previous, name)).bits for name, array in values.items()}


def encode_tensors(
    values: Mapping[str, Int32Array], previous: Mapping[str, Int32Array] | None
) -> tuple[bytes, dict[str, float]]:
    """Codes tensors, given those of the group before (None for a key group): the payload, and the bits of each."""
    plans = {name: _plan(array, _before(previous, name)) for name, array in values.items()}
    head, symbols, models = [], [], []
    for name, plan in plans.items():
        head.append(bytes([plan.mode]))
        if plan.model is not None:
            head.append(plan.model.to_bytes())
            models.append(plan.model)
            change = plan.mode in (CHANGE_LOGISTIC, CHANGE_HISTOGRAM)
            symbols.append((values[name] - _before(previous, name) if change else values[name]).ravel())
    stream = b""
    if models:
        rows = [np.full(len(of_tensor), row, np.int32) for row, of_tensor in enumerate(symbols)]
        stream = _tables(models).encode(np.concatenate(symbols).astype(np.int32), np.concatenate(rows))
    return b"".join(head) + stream, {name: plan.bits + 8 for name, plan in plans.items()}


def decode_tensors(
    payload: bytes, shapes: Mapping[str, tuple[int, ...]], previous: Mapping[str, Int32Array] | None
) -> dict[str, Int32Array]:
    """The tensors of a payload of `encode_tensors`. StreamError if the payload can't be what it wrote."""
    reader = ByteReader(payload)
    plans: dict[str, tuple[int, int]] = {}  # mode and row
    models: list[SymbolModel] = []
    for name in shapes:
        mode = reader.byte()
        if mode > CHANGE_HISTOGRAM or (previous is None and mode not in (VALUES_LOGISTIC, VALUES_HISTOGRAM)):
            raise StreamError(f"tensor {name} is sent in a way ({mode}) that isn't known here: newer, or damaged")
        plans[name] = mode, len(models)
        if mode != SAME:
            histogram = mode in (VALUES_HISTOGRAM, CHANGE_HISTOGRAM)
            models.append(Histogram.read(reader) if histogram else Logistic.read(reader))
    sizes = [math.prod(shapes[name]) for name, (mode, _) in plans.items() if mode != SAME]
    stream = reader.rest()
    if not models:
        if stream:
            raise StreamError("bytes left over behind a network that didn't change: the file is damaged")
        symbols = np.zeros(0, np.int32)
    else:
        symbols = _tables(models).decode(stream, np.repeat(np.arange(len(models), dtype=np.int32), sizes))
    out, at = {}, 0
    for name, (mode, _) in plans.items():
        if mode == SAME:
            out[name] = _before(previous, name)
            continue
        n = math.prod(shapes[name])
        values, at = symbols[at : at + n].astype(np.int64).reshape(shapes[name]), at + n
        if mode in (CHANGE_LOGISTIC, CHANGE_HISTOGRAM):
            values = values + _before(previous, name)
        if np.abs(values).max() > 1 << 20:
            raise StreamError(f"a value of tensor {name} is out of all range: the file is damaged")
        out[name] = values.astype(np.int32)
    return out


def _before(previous: Mapping[str, Int32Array] | None, name: str) -> Int32Array:
    return previous[name] if previous is not None else np.zeros(0, np.int32)


def _plan(values: Int32Array, before: Int32Array) -> Plan:
    plans = _plans(values, VALUES_LOGISTIC)
    if before.size:
        change = values - before
        if not change.any():
            return Plan(SAME, None, 0.0)
        plans += _plans(change, CHANGE_LOGISTIC)
    return min(plans, key=lambda plan: plan.bits)


def _plans(symbols: Int32Array, mode: int) -> list[Plan]:
    """The plans to send symbols with a logistic, and with a histogram. mode: the number of the former."""
    flat = symbols.ravel().astype(np.int64)
    low, high = int(flat.min()), int(flat.max())
    if high - low >= MAX_COLUMNS:  # the rarest become escapes
        middle = int(np.sort(flat)[flat.size // 2])
        low = min(max(middle - MAX_COLUMNS // 2, low), high - MAX_COLUMNS + 1)
        high = low + MAX_COLUMNS - 1
    beyond = np.maximum(low - flat, flat - high)
    counts = np.bincount(flat[beyond <= 0] - low, minlength=high - low + 1)
    # the escape's 16 bits, then Exp-Golomb of twice the distance
    escapes = float((19 + 2 * np.floor(np.log2(beyond[beyond > 0]))).sum())
    out = []
    for offset, kind in enumerate((Logistic, Histogram)):
        model = kind.fit(low, counts)
        bits = _bits(counts, model.table()) + 8 * len(model.to_bytes()) + escapes
        out.append(Plan(mode + offset, model, bits))
    return out


def _bits(counts: NDArray[np.int64], table: NDArray[np.int64]) -> float:
    return float((counts * (16 - np.log2(table[:-1]))).sum())


def _tables(models: Sequence[SymbolModel]) -> Tables:
    counts = [model.table() for model in models]
    lengths = np.array([len(row) for row in counts], np.int32)
    cdf = np.full((len(counts), int(lengths.max()) + 1), TOTAL, np.int32)
    cdf[:, 0] = 0
    for row, count in zip(cdf, counts, strict=True):
        row[1 : len(count) + 1] = np.cumsum(count)
    return Tables(cdf, lengths, np.array([model.low for model in models], np.int32))


def _read_range(reader: ByteReader) -> tuple[int, int]:
    low, n = reader.zigzag(), reader.varint()
    if not (abs(low) <= 1 << 20 and 1 <= n <= MAX_COLUMNS):
        raise StreamError(f"{n} symbols from {low} on: the file is damaged")
    return low, n
