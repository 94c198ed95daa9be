"""Coders over a `Mixer`, compiled or in plain integers: symbols whose contexts a codec feeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError
from ...native import mixing as kernels
from ...native.mixing import PRICE, READ, WRITE
from . import oracle
from .mixer import Mixer, Plan
from .tables import Rates, price, squash, stretch

__all__ = ["PRICE", "READ", "WRITE", "SymbolCoder", "compiled", "symbol_plan"]


def compiled(role: int, mixer: Mixer, data: bytes | None = None, room: int = 0) -> kernels.Coder:
    """The compiled coder of a mixer. role: WRITE, READ or PRICE; data: the stream to read; room: bytes to write."""
    plan, rates = mixer.plan, mixer.plan.rates
    tables = {
        "stretch": stretch(),
        "squash": squash(),
        "price": price(),
        "step": rates.step(),
        "trust": rates.trust(),
        "lean": rates.weights_of_lean(),
        "worth": rates.trust() | rates.weights_of_lean() << 16,
        "pace": rates.pace(),
    }
    names = ("lines", "weights", "ages", "finals", "final_ages", "refined")
    sizes = {
        "n_lines": len(mixer.lines),
        "n_contexts": plan.contexts,
        "n_extra": plan.extra,
        "n_inputs": plan.inputs,
        "n_choices": len(plan.sets),
        "n_sets": len(mixer.weights),
        "n_finals": len(mixer.finals),
        "n_refined": len(mixer.refined),
        "limit": rates.limit,
        "refine_by": rates.refine_by,
        "frozen": int(mixer.frozen),
    }
    return kernels.Coder(role, tables, {name: getattr(mixer, name) for name in names}, sizes, data, room)


def symbol_plan(width: int, contexts: int, n_select: int, lines: int = 16, rates: Rates | None = None) -> Plan:
    """The plan of a `SymbolCoder` of symbols of `width` bits, with `n_select` sets of weights to choose from."""
    decisions = 16 * -(-width // 4)
    return Plan(contexts, lines, (decisions, n_select), decisions, n_select, 0, rates or Rates())


class SymbolCoder:
    """A stream of symbols whose contexts both sides know when they are coded. StreamError for a damaged stream.

    width: bits of a symbol, 1 to 30. mixer: of `symbol_plan`; it is changed in place. data: a stream to read; None
    writes one. Codecs whose contexts depend on what was just decoded call `code` step by step.
    """

    def __init__(self, width: int, n_select: int, mixer: Mixer, data: bytes | None = None) -> None:
        self.width, self.n_select, self.mixer, self._data = width, n_select, mixer, data
        role = WRITE if data is None else READ
        self._native: kernels.Coder | None = None
        self._oracle: oracle.Oracle | None = None
        self._written: list[tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]] = []
        if native.library() is None:
            self._oracle = oracle.Oracle(role, mixer, data or b"")
        elif data is not None:
            self._native = compiled(role, mixer, data)

    @property
    def reader(self) -> kernels.Coder | None:
        """The compiled coder of a stream that is read; None where there is none, or a stream is written."""
        return self._native

    def code(
        self, contexts: NDArray[np.uint64], select: NDArray[np.int32], symbols: NDArray[np.int32] | None = None
    ) -> NDArray[np.int32]:
        """The symbols (n,): the given ones, to be written, or those that are read.

        contexts: (n, C) any numbers; select: (n,) which set of weights, below n_select.
        """
        given = np.zeros(len(contexts), np.int32) if symbols is None else np.ascontiguousarray(symbols, np.int32)
        if self._oracle is not None:
            made = oracle.symbols(self._oracle, self.width, contexts.tolist(), select.tolist(), given.tolist())
            return np.array(made, np.int32)
        if self._native is None:
            self._written.append((contexts, select, given))
            return given
        try:
            self._native.symbols(self.width, contexts, select, self.n_select, given)
        except ValueError as error:
            raise StreamError("a mixed stream ends too early: the file is damaged") from error
        return given

    def finish(self) -> bytes:
        """The stream that was written; of one that was read, StreamError unless it ends here."""
        if self._oracle is not None:
            return self._oracle.finish()
        if self._native is None:
            n = sum(len(given) for _, _, given in self._written)
            coder = compiled(WRITE, self.mixer, None, 2 * n * self.width)
            for contexts, select, given in self._written:
                coder.symbols(self.width, contexts, select, self.n_select, given)
            return coder.finish()
        try:
            return self._native.finish()
        except ValueError as error:
            raise StreamError("a mixed stream is longer than what is in it: the file is damaged") from error
