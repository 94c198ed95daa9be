"""Passes over the grids of a plane, compiled: levels of blocks and coefficients, as nirvana's preset grid codes them.

Their twin is codecs/nirvana/grid/coefficients.py, which says what is coded in the light of what. A pass computes the
rows of all its symbols, and then decodes them with the coder of `codes`, or hands them out to an encoder.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, codes, library

__all__ = ["Choice", "Coder", "Network", "coefficients", "levels", "pyramid"]

HIDDEN = 32
BANDS = 64
LEVELS = 4
ROWS = 61  # of magnitudes, then as many of yes or no
_STEPS = 16  # at most in a call
_TAIL = 9  # rows of escapes behind those of a table
_TOP = 127  # the largest feature

Bytes = NDArray[np.uint8]


class _Coder(ctypes.Structure):
    """`PassCoder` of args.h."""

    _fields_ = (
        ("tables", ctypes.c_void_p),
        ("ans", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
        ("min_bits", ctypes.c_void_p),
        ("n_rows", ctypes.c_int64),
        ("largest", ctypes.c_int32),
        ("rows", ctypes.c_void_p),
        ("symbols", ctypes.c_void_p),
        ("steps", ctypes.c_void_p),
        ("n_steps", ctypes.c_int64),
    )


class _Network(ctypes.Structure):
    """`PassNetwork` of args.h."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("weight", "bias", "out", "out_bias"))


class _Levels(ctypes.Structure):
    """`LevelPlane` of args.h."""

    _fields_ = (
        ("h", ctypes.c_int64),
        ("w", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("texture", "past", "cross", "twin", "motion", "levels", "out")),
    )


class _Coefficients(ctypes.Structure):
    """`CoefficientPlane` of args.h."""

    _fields_ = (
        ("h", ctypes.c_int64),
        ("w", ctypes.c_int64),
        ("first_band", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("levels", "texture", "cross", "twin", "past", "of_block")),
        *((name, ctypes.c_void_p) for name in ("band_bias", "magnitude", "given", "q", "sizes", "target", "costs")),
        ("lmbda", ctypes.c_float),
        ("spent", ctypes.c_void_p),
    )


def _at(x: NDArray[Any] | None, dtype: Any, shape: tuple[int, ...]) -> int | None:
    """The address of an array, which somebody keeps; None for None."""
    if x is None:
        return None
    assert x.dtype == dtype and x.shape == shape and x.flags.c_contiguous, f"{x.dtype} {x.shape}, not {dtype} {shape}"
    return x.ctypes.data


def _module() -> ctypes.CDLL:
    module = library()
    assert module is not None, "this needs the compiled module"
    return module


@dataclass(frozen=True)
class Coder:
    """The rows of symbols, and the stream that they are read from; `ans` is None for an encoder.

    offset: (K,) int32, the first symbol of each row. min_bits: (K + 9,) float64, of the cheapest column of these and of
    those of escapes. largest: magnitude of a symbol. keep: whether an encoder wants its symbols back, with their rows.
    """

    model: codes.Model
    offset: NDArray[np.int32]
    min_bits: NDArray[np.float64]
    largest: int
    ans: codes.AnsReader | None = None
    keep: bool = True

    def _begin(self, n: int) -> tuple[_Coder, list[NDArray[Any]]]:
        """The structure, and its arrays: rows and symbols, at most n, of an encoder; the sizes of the steps."""
        rows = len(self.offset)
        assert len(self.model) == rows + _TAIL and rows < 256 and (self.ans is None or self.ans.model is self.model)
        kept = n if self.keep and self.ans is None else 0
        arrays = [np.empty(kept, np.uint8), np.empty(kept, np.int32), np.zeros(_STEPS, np.int64)]
        struct = _Coder(
            ctypes.cast(self.model.pointer, ctypes.c_void_p),
            None if self.ans is None else ctypes.cast(self.ans.pointer, ctypes.c_void_p),
            _at(self.offset, np.int32, (rows,)),
            _at(self.min_bits, np.float64, (rows + _TAIL,)),
            rows,
            self.largest,
            arrays[0].ctypes.data if kept else None,
            arrays[1].ctypes.data if kept else None,
            arrays[2].ctypes.data,
            0,
        )
        return struct, arrays


def _steps(struct: _Coder, arrays: list[NDArray[Any]]) -> Iterator[tuple[Bytes, NDArray[np.int32]]]:
    """The steps of an encoder: rows and symbols."""
    done = 0
    for n in arrays[2][: struct.n_steps].tolist():
        yield arrays[0][done : done + n], arrays[1][done : done + n]
        done += n


class Network:
    """A network with 32 hidden units, in integers: weights below 128 in magnitude, features from 0 to 127.

    w1: (I, 32). b1: (P, 32), biases of each of P kinds of pass, in 64ths of a hidden unit, with half a unit. w2:
    (O, 32). b2: (O,), in 256ths of a row, with half a row.
    """

    def __init__(self, w1: NDArray[Any], b1: NDArray[Any], w2: NDArray[Any], b2: NDArray[Any]) -> None:
        assert w1.shape[1] == b1.shape[1] == w2.shape[1] == HIDDEN and b2.shape == w2.shape[:1]
        if max(int(np.abs(w).max()) for w in (w1, w2)) > _TOP or max(int(np.abs(b).max()) for b in (b1, b2)) > 1 << 22:
            raise ValueError("a parameter of the network is out of range")
        self.features, self.passes, self.outputs = len(w1), len(b1), len(w2)
        self._arrays = [
            np.ascontiguousarray(x, dtype)
            for x, dtype in ((w1, np.int16), (b1, np.int32), (w2, np.int16), (b2, np.int32))
        ]
        self._struct = _Network(*(x.ctypes.data for x in self._arrays))

    @property
    def pointer(self) -> Any:
        return ctypes.byref(self._struct)


def levels(
    coder: Coder,
    net: Network,
    texture: Bytes,
    past: Bytes | None,
    cross: Bytes | None,
    twin: Bytes | None,
    motion: Bytes,
    given: Bytes | None,
    want_outputs: bool,
) -> tuple[Bytes, list[tuple[Bytes, NDArray[np.int32]]], NDArray[np.int32] | None]:
    """The levels of blocks (h, w), read or given; an encoder's steps; what the network gave, (4, h, w) in 256ths.

    texture: (16, h, w). The others: (h, w), levels up to 4, motion up to 127.
    """
    assert net.features >= 19 and net.outputs == LEVELS and (given is None) == (coder.ans is not None)
    _, h, w = texture.shape
    made = np.empty((h, w), np.uint8) if given is None else given
    out = np.empty((LEVELS, h, w), np.int32) if want_outputs else None
    grids = [None if x is None else _at(x, np.uint8, (h, w)) for x in (past, cross, twin, motion, made)]
    plane = _Levels(h, w, _at(texture, np.uint8, (16, h, w)), *grids, _at(out, np.int32, (LEVELS, h, w)))
    struct, arrays = coder._begin(LEVELS * h * w)
    check(_module().codec_pass_levels(ctypes.byref(struct), net.pointer, ctypes.byref(plane)))
    return made, list(_steps(struct, arrays)), out


def pyramid(coder: Coder, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """A field of vectors or modes that is read as a pyramid of four grids, less what was expected: of this shape."""
    assert coder.ans is not None
    h, w, channels = shape
    field = np.empty(shape, np.int64)
    struct, _ = coder._begin(0)
    sizes = ctypes.c_int64(h), ctypes.c_int64(w), ctypes.c_int(channels)
    check(_module().codec_pass_pyramid(ctypes.byref(struct), *sizes, ctypes.c_void_p(field.ctypes.data)))
    return field


@dataclass(frozen=True)
class Choice:
    """The choice of coefficients by an encoder: the cheapest for what it aims at.

    target: (64, h, w) float64, in steps. costs: (61, 81) float32, bits of the symbols -40...40 by row; beyond they are
    as at the end. lmbda: squared steps that a bit is worth. spent: (5, h, w) float64, to which the costs of the bands
    of each level are added.
    """

    target: NDArray[np.float64]
    costs: NDArray[np.float32]
    lmbda: float
    spent: NDArray[np.float64]


def coefficients(
    coder: Coder,
    net: Network,
    band_bias: NDArray[Any],
    magnitude: Bytes,
    first_band: int,
    level: Bytes,
    grids: tuple[Bytes, Bytes | None, Bytes | None, Bytes | None],
    of_block: Bytes,
    given: NDArray[Any] | Choice | None,
) -> tuple[NDArray[np.int32], Bytes, list[tuple[Bytes, NDArray[np.int32]]]]:
    """The coefficients (64, h, w) of a plane, read, given or chosen; features of their magnitudes; an encoder's steps.

    band_bias: (64,), in 256ths of a row. magnitude: (largest + 1,), the feature of each magnitude. level: (h, w).
    grids: (64, h, w), texture, cross, twin, past. of_block: (3, h, w), texture of low bands, level of the past, motion.
    All features are at most 127.
    """
    assert net.features >= 26 and net.passes == 2 and net.outputs == 1
    assert (given is None) == (coder.ans is not None)
    assert magnitude.dtype == np.uint8 and magnitude.shape == (coder.largest + 1,)
    h, w = level.shape
    shape = (BANDS, h, w)
    bias = np.ascontiguousarray(band_bias, np.int32)
    q, sizes = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
    choice = given if isinstance(given, Choice) else None
    fixed = None if choice is not None or given is None else np.ascontiguousarray(given, np.int32)
    plane = _Coefficients(
        h, w, first_band, _at(level, np.uint8, (h, w)),
        *(_at(grid, np.uint8, shape) for grid in grids),
        _at(of_block, np.uint8, (3, h, w)),
        _at(bias, np.int32, (BANDS,)), magnitude.ctypes.data, _at(fixed, np.int32, shape),
        q.ctypes.data, sizes.ctypes.data,
    )  # fmt: skip
    if choice is not None:
        plane.target = _at(choice.target, np.float64, shape)
        plane.costs = _at(choice.costs, np.float32, (ROWS, 81))
        plane.lmbda = choice.lmbda
        plane.spent = _at(choice.spent, np.float64, (LEVELS + 1, h, w))
    struct, arrays = coder._begin(q.size)
    check(_module().codec_pass_coefficients(ctypes.byref(struct), net.pointer, ctypes.byref(plane)))
    return q, sizes, list(_steps(struct, arrays))
