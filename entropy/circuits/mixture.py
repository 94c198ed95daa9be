"""Several circuits, each for its own kind of items: a mixture of trees whose component is coded with each item.

Mixtures of trees: Meila and Jordan, "Learning with Mixtures of Trees", JMLR 2000. One hidden Chow-Liu tree has one
structure for all items; kinds that differ (shoes, shirts) have other neighbours that matter. An item says which circuit
it is coded by, the one under which it is shortest: log2(components) bits. Has the interface of `FrozenCircuit`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError, WeightsError
from .coding import TOTAL, Floats, FrozenCircuit, IntArray

if TYPE_CHECKING:
    from .model import HiddenTree

__all__ = ["MAX_COMPONENTS", "FrozenMixture", "frozen"]

MAX_COMPONENTS = 16
_LENGTH = struct.Struct("<I")
_CLOSE = 2.0  # bits; float32 is within a few hundredths over thousands of variables


def frozen(circuits: Sequence[FrozenCircuit]) -> FrozenCircuit | FrozenMixture:
    """One circuit as it is, several as a mixture."""
    return circuits[0] if len(circuits) == 1 else FrozenMixture(circuits)


class FrozenMixture:
    """A mixture of circuits over the same variables. WeightsError if they aren't.

    A stream: for each item its component, in as few bits as number them, padded to bytes; then for each component the
    length of its stream (4 bytes, little-endian) and the stream of its items in their order, if it has any. A stream of
    one item alone (`encode_each`): the component (1 byte), and the item's stream.
    """

    def __init__(self, circuits: Sequence[FrozenCircuit]) -> None:
        if not 2 <= len(circuits) <= MAX_COMPONENTS:
            raise WeightsError(f"{len(circuits)} circuits; a mixture has 2 to {MAX_COMPONENTS}")
        self.circuits = tuple(circuits)
        self.sizes, self.tree, self.states = circuits[0].sizes, circuits[0].tree, circuits[0].states
        if any(not np.array_equal(circuit.sizes, self.sizes) for circuit in circuits):
            raise WeightsError("the circuits of a mixture are for different values: not valid weights")

    @property
    def n_parameters(self) -> int:
        return sum(circuit.n_parameters for circuit in self.circuits)

    def to_state(self) -> dict[str, NDArray[Any]]:
        return {
            f"{i}.{name}": array
            for i, circuit in enumerate(self.circuits)
            for name, array in circuit.to_state().items()
        }

    @staticmethod
    def from_state(state: Mapping[str, NDArray[Any]]) -> FrozenCircuit | FrozenMixture:
        """The mixture, or the circuit, of the arrays that `to_state` made. WeightsError."""
        numbers = {name.partition(".")[0] for name in state if name.partition(".")[0].isdecimal()}
        if not numbers:
            return FrozenCircuit.from_state(state)
        if numbers != {str(i) for i in range(len(numbers))}:
            raise WeightsError(f"circuits {sorted(numbers)}: not valid weights")
        return FrozenMixture(
            [
                FrozenCircuit.from_state(
                    {name.partition(".")[2]: array for name, array in state.items() if name.startswith(f"{i}.")}
                )
                for i in range(len(numbers))
            ]
        )

    # ---- coding

    def bits(self, x: IntArray) -> Floats:
        """The ideal code length of each row in bits, (N,), with what says its component."""
        return self._all_bits(x).min(0) + np.log2(len(self.circuits))

    def encode(self, x: IntArray) -> bytes:
        component = self.components(x)
        parts = [self.pack(component)]
        for index, circuit in enumerate(self.circuits):
            rows = x[component == index]
            stream = circuit.encode(rows) if len(rows) else b""
            parts += [_LENGTH.pack(len(stream)), stream]
        return b"".join(parts)

    def decode(self, data: bytes, n: int) -> NDArray[np.int32]:
        """Decodes (n, D) rows of a stream. StreamError. The caller bounds n, as for a circuit."""
        component, data = self.unpack(data, n)
        at = 0
        out = np.empty((n, len(self.tree)), np.int32)
        streams = []
        for index, circuit in enumerate(self.circuits):
            if len(data) < at + _LENGTH.size:
                raise StreamError("the streams of a mixture are cut: the file is damaged")
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            mine = component == index
            if length > len(data) - at or (length == 0) != (not mine.any()):
                raise StreamError("the streams of a mixture don't fit its items: the file is damaged")
            if length:
                streams.append((circuit, mine, data[at : at + length]))
            at += length
        if at != len(data):
            raise StreamError(f"{len(data) - at} bytes too many behind the streams of a mixture")

        def decode(circuit: FrozenCircuit, mine: NDArray[np.bool_], stream: bytes) -> None:
            out[mine] = circuit.decode(stream, int(mine.sum()))

        if native.threads() == 1 or len(streams) < 2:
            for stream in streams:
                decode(*stream)
            return out
        with ThreadPoolExecutor(native.threads()) as threads:  # compiled loops let others run
            for done in [threads.submit(decode, *stream) for stream in streams]:
                done.result()
        return out

    def pack(self, component: NDArray[np.int64]) -> bytes:
        """The components of items, in as few bits as number them."""
        return np.packbits(_unpacked(component, self._width)).tobytes()

    def unpack(self, data: bytes, n: int) -> tuple[NDArray[np.int64], bytes]:
        """The components of n items that a stream begins with, and the rest. StreamError."""
        n_bits = n * self._width
        at = -(-n_bits // 8)
        if len(data) < at:
            raise StreamError("the components of the items are cut: the file is damaged")
        unpacked = np.unpackbits(np.frombuffer(data, np.uint8, at))
        if unpacked[n_bits:].any():
            raise StreamError("the components of the items are damaged")
        component = unpacked[:n_bits].reshape(n, self._width) @ (1 << np.arange(self._width)[::-1])
        if n and component.max() >= len(self.circuits):
            raise StreamError(f"component {component.max()} of {len(self.circuits)}: the file is damaged")
        return component, data[at:]

    def encode_each(self, x: IntArray) -> list[bytes]:
        component = self.components(x)
        out = [b""] * len(x)
        for index, circuit in enumerate(self.circuits):
            places = np.flatnonzero(component == index)
            for place, part in zip(places.tolist(), circuit.encode_each(x[places]), strict=True):
                out[place] = bytes([index]) + part
        return out

    def decode_each(self, parts: Sequence[bytes]) -> NDArray[np.int32]:
        component = np.array([part[0] if part else MAX_COMPONENTS for part in parts], np.int64)
        if len(parts) and component.max() >= len(self.circuits):
            raise StreamError(f"an item of component {component.max()} of {len(self.circuits)}: the file is damaged")
        out = np.empty((len(parts), len(self.tree)), np.int32)
        for index, circuit in enumerate(self.circuits):
            places = np.flatnonzero(component == index)
            if len(places):
                out[places] = circuit.decode_each([parts[place][1:] for place in places])
        return out

    @property
    def _width(self) -> int:
        return (len(self.circuits) - 1).bit_length()

    def components(self, x: IntArray) -> NDArray[np.int64]:
        """The component (N,) under which each row is shortest, to a sixteenth of a bit.

        A logarithm's last digit must not decide on a tie. Floats find the component of most rows, several times as
        fast. Where two circuits are close, integers do: the result is that of integers, on every machine.
        """
        if not len(x):
            return np.zeros(0, np.int64)
        estimate = self._estimate(x)
        if estimate is None:
            return np.rint(16 * self._all_bits(x)).argmin(0)
        best = estimate.argmin(0)
        close = np.partition(estimate, 1, axis=0)[1] - estimate.min(0) < _CLOSE
        if close.any():
            best[close] = np.rint(16 * self._all_bits(x[close])).argmin(0)
        return best

    def _estimate(self, x: IntArray) -> Floats | None:
        """About `_all_bits`, by floats, which aren't the same everywhere; None without anything that is fast."""
        engine = native.engine()
        if engine == "torch":
            return np.stack([-tree.log_likelihood(x).numpy() / np.log(2) for tree in self._trees])
        estimates = []
        for circuit in self.circuits:
            estimate = circuit.estimate(x)
            if estimate is None:
                return None
            estimates.append(estimate)
        return np.stack(estimates)

    @cached_property
    def _trees(self) -> list[HiddenTree]:
        """The circuits as floats."""
        import torch

        from .model import HiddenTree

        trees = []
        for circuit in self.circuits:
            tree = circuit.tree
            theta = np.concatenate([np.diff(circuit.leaves[v], axis=0) for v in tree.order.tolist()])
            inner = [v for v in tree.order.tolist() if v in circuit.matrices]
            shape = (0, circuit.states, circuit.states)
            weights = np.stack([circuit.matrices[v] for v in inner]) if inner else np.zeros(shape)
            model = HiddenTree(tree, circuit.sizes, circuit.states, initialise=False)
            model.set_parameters(
                torch.from_numpy(theta / TOTAL),
                torch.from_numpy(weights / TOTAL),
                torch.from_numpy(circuit.prior / TOTAL),
            )
            trees.append(model)
        return trees

    def _all_bits(self, x: IntArray) -> Floats:
        return np.stack([circuit.bits(x) for circuit in self.circuits])


def _unpacked(values: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """The bits (N * width,) of the values, of each the highest first."""
    return ((values[:, None] >> np.arange(width)[::-1]) & 1).astype(np.uint8).reshape(-1)
