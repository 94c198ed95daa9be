"""Index coders: an index map to bytes and back, by four methods, one of which a file names as its coder.

`fixed`: log2 K bits an index, packed; the rate of the paper (Mao et al., "Extreme Image Compression using Fine-tuned
VQGANs", arXiv 2307.08265, whose coder is uniform). `histogram`: one static table of the indices of photographs.
`circuit`: the suite's circuits as an index model, for codebooks of at most 256 words: beyond, its tables outgrow what
photographs can teach. `mix`, the default: a causal model of neighbouring codewords (causal.py).

What the models know lies in the codec's weights, in integers, so that a stream is the same bytes everywhere:
`index.256.mix.codes` and so on. May import entropy and codecs/base; no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...entropy.circuits.index_model import IndexModel
from ...entropy.tables import Tables
from ...errors import StreamError, UsageError, WeightsError
from ..base.weights import reading
from .causal import CausalModel

__all__ = ["METHODS", "PREFIX", "Models", "decode", "encode", "pack_bits", "unpack_bits"]

IntArray = NDArray[np.integer[Any]]

METHODS = ("mix", "fixed", "histogram", "circuit")  # as files name them
PREFIX = "index."  # of the names of arrays in the weights
_FIXED = "fixed"


@dataclass(frozen=True)
class Models:
    """The index models in a weights file, each made when it is needed.

    arrays: those of the weights whose names begin with PREFIX, or all.
    """

    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    _made: dict[tuple[str, int], Any] = field(default_factory=dict, repr=False, compare=False)

    def methods(self, bits: int) -> tuple[str, ...]:
        """The methods that there are for indices of so many bits, the best first."""
        start = f"{PREFIX}{1 << bits}."
        kinds = {name[len(start) :].partition(".")[0] for name in self.arrays if name.startswith(start)}
        return tuple(method for method in ("mix", "histogram", _FIXED, "circuit") if method in {*kinds, _FIXED})

    def state(self, method: str, bits: int) -> dict[str, NDArray[Any]]:
        """The arrays of a model, by the names that it has for them; none if there is no such model."""
        start = f"{PREFIX}{1 << bits}.{method}."
        return {name[len(start) :]: np.asarray(a) for name, a in self.arrays.items() if name.startswith(start)}

    def mix(self, bits: int) -> CausalModel:
        """The causal model of a codebook of 2**bits words. WeightsError if there is none, or it is damaged."""
        model = self._model("mix", bits, CausalModel.from_state)
        if model.bits != bits:
            raise WeightsError(f"an index model of {model.bits} bits in place of {bits}: export the weights again")
        return model

    def histogram(self, bits: int) -> Tables:
        """The static table of a codebook."""
        tables = self._model("histogram", bits, Tables.from_state)
        if tables.lengths.tolist() != [(1 << bits) + 1] or tables.offset.tolist() != [0]:
            raise WeightsError(f"a histogram that isn't of {1 << bits} indices: export the weights again")
        return tables

    def circuit(self, bits: int) -> IndexModel:
        """The circuit of a codebook."""
        model = self._model("circuit", bits, IndexModel.from_state)
        if model.levels != (1 << bits,) or not model.one_channel:
            raise WeightsError(f"a circuit that isn't of {1 << bits} indices: export the weights again")
        return model

    def _model(self, method: str, bits: int, make: Any) -> Any:
        if (method, bits) not in self._made:
            state = self.state(method, bits)
            if not state:
                words = ", ".join(self.methods(bits))
                raise WeightsError(f"these weights have no {method!r} of {1 << bits} indices: there are {words}")
            with reading("vqgan"):
                self._made[method, bits] = make(state)
        return self._made[method, bits]


def encode(indices: IntArray, bits: int, method: str, models: Models) -> bytes:
    """The payload of an index map (h, w), each index below 2**bits. UsageError for a method that there isn't."""
    indices = np.asarray(indices)
    if indices.ndim != 2 or (indices.size and not 0 <= indices.min() <= indices.max() < 1 << bits):
        raise ValueError(f"an index map of shape {indices.shape}: expected (h, w) and indices below {1 << bits}")
    if method not in METHODS:
        raise UsageError(f"no index coder is called {method!r}: there are {', '.join(METHODS)}")
    if method == _FIXED:
        return pack_bits(indices.ravel(), bits)
    if method not in models.methods(bits):
        raise UsageError(
            f"these weights can't code {1 << bits} indices by {method!r}: there are {', '.join(models.methods(bits))}"
        )
    if method == "histogram":
        symbols = indices.ravel().astype(np.int32)
        return models.histogram(bits).encode(symbols, np.zeros(symbols.shape, np.uint8))
    if method == "circuit":
        return models.circuit(bits).encode(indices.astype(np.int32))
    return models.mix(bits).encode(indices)


def decode(data: bytes, method: str, bits: int, shape: tuple[int, int], models: Models) -> NDArray[np.int32]:
    """The index map (h, w) of a payload. StreamError if it can't be one, WeightsError if its model isn't here."""
    n_cells = shape[0] * shape[1]
    if method == _FIXED:
        return unpack_bits(data, bits, n_cells).reshape(shape)
    if method == "histogram":
        indices = models.histogram(bits).decode(data, np.zeros(n_cells, np.uint8)).reshape(shape)
    elif method == "circuit":
        indices = models.circuit(bits).decode(data, shape)
    elif method == "mix":
        indices = models.mix(bits).decode(data, shape)
    else:
        raise StreamError(f"indices coded by {method!r:.80}: a newer version? pip install -U codec-suite")
    if not 0 <= indices.min() <= indices.max() < 1 << bits:
        raise StreamError("an index of no codeword: the file is damaged")
    return indices


def pack_bits(values: IntArray, bits: int) -> bytes:
    """Values (n,) below 2**bits in so many bits each, the highest first, filled up to whole bytes with zeros."""
    places = np.arange(bits - 1, -1, -1)
    return np.packbits((values.astype(np.int64)[:, None] >> places & 1).astype(np.uint8)).tobytes()


def unpack_bits(data: bytes, bits: int, n: int) -> NDArray[np.int32]:
    """The n values that `pack_bits` wrote; StreamError unless the bytes are just those."""
    expected = -(-n * bits // 8)
    if len(data) != expected:
        raise StreamError(f"{len(data)} bytes for {n} indices of {bits} bits; expected {expected}: the file is damaged")
    given = np.unpackbits(np.frombuffer(data, np.uint8))
    if given[n * bits :].any():
        raise StreamError("bits behind the last index: the file is damaged")
    return (given[: n * bits].reshape(n, bits).astype(np.int32) << np.arange(bits - 1, -1, -1)).sum(1, dtype=np.int32)
