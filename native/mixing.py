"""Context mixing in compiled loops: the coder, and symbols whose contexts the caller knows.

The twin, which these loops equal to the last digit of every table, is entropy/mixing/oracle.py. The caller owns all
arrays: what is learned is written into them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library

__all__ = ["PRICE", "READ", "WRITE", "Coder"]

WRITE, READ, PRICE = 0, 1, 2  # what a model's code does with its decisions
_DAMAGED = -3
_void = ctypes.c_void_p
_ROOM = 64


class _Struct(ctypes.Structure):
    """`MixingCoder` of src/args_mixing.h."""

    _tables_ = ("stretch", "squash", "step", "trust", "lean", "worth", "pace", "price")
    _learned_ = ("lines", "weights", "ages", "finals", "final_ages", "refined")
    _sizes_ = ("n_lines", "n_contexts", "n_extra", "n_inputs", "n_choices", "n_sets", "n_finals", "n_refined")
    _fields_ = (
        *((name, _void) for name in (*_tables_, *_learned_)),
        *((name, ctypes.c_int64) for name in (*_sizes_, "limit", "refine_by", "frozen")),
        ("bytes", _void),
        *((name, ctypes.c_int64) for name in ("size", "at")),
        *((name, ctypes.c_uint64) for name in ("low", "range", "code")),
        *((name, ctypes.c_int64) for name in ("bits", "failed")),
    )


def ends_well(at: int, data: NDArray[np.uint8]) -> bool:
    """Whether a stream ends where it was read to: its last 8 bytes are left out as far as they are zeros."""
    return at - 8 <= len(data) <= at and (len(data) == at - 8 or data[-1] != 0)


class Coder:
    """A stream of decisions that the compiled module writes, reads or prices.

    tables, learned: the arrays that `MixingCoder` names; sizes: the numbers that it names. data: a stream to read, or
    None with the room of a stream to write, in bytes; role: WRITE, READ or PRICE.
    """

    def __init__(
        self,
        role: int,
        tables: Mapping[str, NDArray[Any]],
        learned: Mapping[str, NDArray[Any]],
        sizes: Mapping[str, int],
        data: bytes | None = None,
        room: int = 0,
    ) -> None:
        module = library()
        assert module is not None, "this needs the compiled module"
        self.role, self._module = role, module
        types = dict.fromkeys(_Struct._tables_, np.int32) | dict.fromkeys(_Struct._learned_, np.int32)
        types |= {"lines": np.uint32, "refined": np.uint16}
        self._kept = {**tables, **learned}
        self.struct = _Struct(**sizes)
        for name, array in self._kept.items():
            assert array.dtype == types[name] and array.flags.c_contiguous, name
            assert name in tables or array.flags.writeable, name
            setattr(self.struct, name, array.ctypes.data)
        self._bytes = np.frombuffer(data, np.uint8) if data is not None else np.empty(room + _ROOM, np.uint8)
        self.struct.bytes, self.struct.size = self._bytes.ctypes.data, len(self._bytes)
        check(module.codec_mixing_start(self.pointer, ctypes.c_int(role)))

    @property
    def pointer(self) -> Any:
        """The address that a kernel takes."""
        return ctypes.byref(self.struct)

    @property
    def bits(self) -> float:
        """The bits of all decisions that were priced."""
        return self.struct.bits / (1 << 16)

    def symbols(
        self,
        width: int,
        contexts: NDArray[np.uint64],
        select: NDArray[np.int32],
        n_select: int,
        symbols: NDArray[np.int32],
    ) -> None:
        """Codes symbols (n,) of `width` bits in place; contexts (n, C), select (n,). ValueError for a cut stream."""
        assert contexts.dtype == np.uint64 and contexts.shape == (len(symbols), self.struct.n_contexts)
        assert select.dtype == symbols.dtype == np.int32 and select.shape == symbols.shape
        assert contexts.flags.c_contiguous and select.flags.c_contiguous and symbols.flags.c_contiguous
        assert self.role == READ or not len(symbols) or 0 <= symbols.min() <= symbols.max() < 1 << width
        status = self._module.codec_mixing_symbols(
            self.pointer,
            ctypes.c_int(self.role),
            ctypes.c_int64(len(symbols)),
            ctypes.c_int64(width),
            _void(contexts.ctypes.data),
            _void(select.ctypes.data),
            ctypes.c_int32(n_select),
            _void(symbols.ctypes.data),
        )
        check(status)

    def reserve(self, n_bytes: int) -> None:
        """Sees that so many bytes can still be written."""
        if self.role == WRITE and self.struct.at + n_bytes + _ROOM > self.struct.size:
            room = np.empty(2 * (self.struct.size + n_bytes + _ROOM), np.uint8)
            room[: self.struct.at] = self._bytes[: self.struct.at]
            self._bytes, self.struct.bytes, self.struct.size = room, room.ctypes.data, len(room)

    def finish(self) -> bytes:
        """The stream that was written; of one that was read, ValueError unless it ends here."""
        if self.role == READ:
            if not ends_well(self.struct.at, self._bytes):
                check(_DAMAGED)
            return b""
        check(self._module.codec_mixing_stop(self.pointer))
        return self._bytes[: self.struct.at].tobytes()
