"""Items by context mixing with the circuit as one of its inputs: what `--mix` does.

A circuit knows how all values of an item hang together, a mixing coder (`entropy/mixing/items.py`) what the values
around one say, and it learns as it goes on. Their predictions are mixed, so the result is never much worse than the
better. Values are coded row by row, and the circuit's beliefs come in the same order (`entropy/circuits/order.py`).

What a mixing coder learned on other items can be kept, in the weights file of the circuit or, of those that ship, in a
companion file that names the circuit. Without that it starts from nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...entropy.circuits.coding import FrozenCircuit
from ...entropy.circuits.mixture import FrozenMixture
from ...entropy.circuits.order import CircuitGuide, bytes_of_block
from ...entropy.mixing.items import BLOCK, ItemModel
from ...errors import StreamError, UsageError, WeightsError
from ..base.weights import LoadedWeights, Manifest, find_by_hash, load_tensors, manifests, reading

__all__ = ["COMPANION", "MixedItems", "companion", "companion_metadata", "companion_of", "learned_state"]

COMPANION = "circuit-mix"  # what manifests of states call their codec
_OF = "circuit"  # metadata of a companion: the id of its circuit, in hexadecimal
_STATE = "mixing."
_MOST_GUIDE = 1 << 30  # bytes of a circuit's messages; one that takes more doesn't take part
_LINES = (12, 22)  # logarithms of the contexts that are kept where nothing was learned before


class MixedItems:
    """The mixing coder of a circuit's items.

    shape: of an item. state: what was learned beforehand, the arrays of `ItemModel.to_state`, or none. WeightsError if
    they don't fit the circuit. StreamError from whatever decodes.
    """

    def __init__(
        self, circuit: FrozenCircuit | FrozenMixture, shape: Sequence[int], state: Mapping[str, NDArray[Any]]
    ) -> None:
        self._circuit, self._state = circuit, {name: a for name, a in state.items() if name.startswith(_STATE)}
        self._circuits = circuit.circuits if isinstance(circuit, FrozenMixture) else (circuit,)
        self._grid, self._order = _grid(shape)
        self._sizes = np.asarray(circuit.sizes)[self._order].tolist()
        self._back = np.argsort(self._order)
        self._guided = bytes_of_block(self._circuits, BLOCK) <= _MOST_GUIDE

    @property
    def is_warm(self) -> bool:
        """Whether something was learned beforehand."""
        return bool(self._state)

    @cached_property
    def _learned(self) -> ItemModel:
        with reading("circuit", "make some with `codec fit --mix`"):
            model = ItemModel.from_state(self._state)
            if list(model.sizes) != self._sizes or math.prod(model.shape) != len(self._sizes):
                raise WeightsError("what was learned for mixing isn't for the items of this circuit")
            return model

    def model(self, n: int) -> ItemModel:
        """The model that n items are coded with, which must not be changed: it is the same for all calls."""
        if self._state:
            return self._learned
        few, many = _LINES
        lines = max(few, min(many, (16 * n * len(self._sizes)).bit_length()))
        try:
            return ItemModel.new(self._grid, self._sizes, lines)
        except ValueError as error:
            raise UsageError(f"these items can't be mixed ({error}): leave out --mix") from error

    def guide(self, component: NDArray[np.int64] | None) -> CircuitGuide | None:
        """The circuit as an input of the mixer. component: of each item, where there are several circuits."""
        return CircuitGuide(self._circuits, component, self._order) if self._guided else None

    def chosen(self, symbols: NDArray[np.int32]) -> NDArray[np.int64] | None:
        """The component of each item (N, D): that under which it is shortest; None where there is one circuit."""
        return self._circuit.components(symbols) if isinstance(self._circuit, FrozenMixture) else None

    def ordered(self, symbols: NDArray[np.int32]) -> NDArray[np.int32]:
        """The symbols (N, D) in the order in which they are coded."""
        return np.ascontiguousarray(symbols[:, self._order])

    # ---- streams

    def encode(self, symbols: NDArray[np.int32]) -> bytes:
        """All items (N, D) as one stream. Of several circuits, each item's comes first, as in the circuits' streams."""
        component = self.chosen(symbols)
        head = b""
        if component is not None:
            assert isinstance(self._circuit, FrozenMixture)
            head = self._circuit.pack(component)
        return head + self.model(len(symbols)).encode(self.ordered(symbols), self.guide(component))

    def decode(self, data: bytes, n: int) -> NDArray[np.int32]:
        """The n items (n, D) of a stream."""
        component = None
        if isinstance(self._circuit, FrozenMixture):
            component, data = self._circuit.unpack(data, n)
        return self.model(n).decode(data, n, self.guide(component))[:, self._back]

    def encode_each(self, symbols: NDArray[np.int32]) -> list[bytes]:
        """A stream of each item (N, D), which decodes alone: nothing is learned on the way."""
        component = self.chosen(symbols)
        streams = self.model(1).encode_each(self.ordered(symbols), self.guide(component))
        if component is None:
            return streams
        return [bytes([index]) + stream for index, stream in zip(component.tolist(), streams, strict=True)]

    def decode_each(self, streams: Sequence[bytes]) -> NDArray[np.int32]:
        """The items (N, D) of such streams, any of them in any order."""
        component = None
        if isinstance(self._circuit, FrozenMixture):
            if any(not stream or stream[0] >= len(self._circuits) for stream in streams):
                raise StreamError(f"an item of a circuit beyond the {len(self._circuits)}: the file is damaged")
            component = np.array([stream[0] for stream in streams], np.int64)
            streams = [stream[1:] for stream in streams]
        return self.model(1).decode_each(streams, self.guide(component))[:, self._back]


def _grid(shape: Sequence[int]) -> tuple[tuple[int, ...], NDArray[np.int64]]:
    """The shape that the mixing model takes an item for, and the value of the item at each of its places.

    Colours, the last axis of few, come first there. More axes than three become channels.
    """
    places = np.arange(math.prod(shape)).reshape(tuple(shape))
    if len(shape) == 3 and shape[-1] <= 4:
        places = np.moveaxis(places, -1, 0)
    if len(shape) > 3:
        places = places.reshape(-1, *shape[-2:])
    if not len(shape):
        places = places.reshape(1)
    return places.shape, places.ravel()


# ---- what was learned beforehand


def learned_state(
    items: MixedItems,
    symbols: NDArray[np.int32],
    last: NDArray[np.int32],
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, NDArray[Any]]:
    """The state of a mixing coder that has gone over all items, as arrays to be saved.

    symbols, last: (N, D). The circuit knows the items that it was fitted to better than any others, so the weights of
    its predictions come from `last`, which it wasn't fitted to.
    """
    model = items.model(len(symbols) + len(last)).copy()
    for part in (symbols, last):
        if len(part):
            component = items.chosen(part)
            model.learn(items.ordered(part), items.guide(component), progress)
    return model.to_state()


def companion(circuit_id: bytes) -> Manifest | None:
    """The shipped states of a circuit, or None."""
    for manifest in manifests(COMPANION):
        if not manifest.retired and manifest.metrics.get(_OF) == circuit_id.hex():
            return manifest
    return None


def companion_of(companion_id: bytes, circuit_id: bytes) -> LoadedWeights:
    """The states of this id. WeightsError if they aren't installed, or aren't those of this circuit."""
    manifest = find_by_hash(COMPANION, companion_id)
    loaded = load_tensors(manifest.path, manifest.sha256)
    if loaded.metadata.get("codec") != COMPANION or loaded.metadata.get(_OF) != circuit_id.hex():
        raise WeightsError(f"{manifest.path.name} isn't for the circuit {circuit_id.hex()}: reinstall codec-suite")
    return loaded


def companion_metadata(circuit_id: bytes) -> dict[str, str]:
    """The metadata of a companion file."""
    return {"codec": COMPANION, _OF: circuit_id.hex()}
