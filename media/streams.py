"""Streams of bytes that can be read once: as they come, or kept in a temporary file. Videos and sound come so."""

from __future__ import annotations

import io
import os
import tempfile
from typing import Any, BinaryIO

from ..errors import MediaError

__all__ = ["MAX_MEMORY", "Again", "Joined", "keep"]

MAX_MEMORY = 1 << 30  # bytes of a file that comes through a pipe, and is kept in a temporary file
_IN_MEMORY = 1 << 24  # bytes of it that are kept in memory before there is a file


def keep(stream: BinaryIO, head: bytes, name: str, owned: bool, advice: str, limit: int = MAX_MEMORY) -> Any:
    """A temporary file with what was read of a stream, and all that comes. MediaError, with advice, beyond the limit.

    owned: whether the stream is closed after that.
    """
    kept = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  its reader closes it
    kept.write(head)
    n_bytes = len(head)
    while part := stream.read(1 << 20):
        n_bytes += len(part)
        if n_bytes > limit:
            kept.close()
            raise MediaError(f"{name}: more than {limit} bytes through a pipe; {advice}")
        kept.write(part)
    if owned:
        stream.close()
    return kept


class Again(io.RawIOBase):
    """The bytes of a temporary file from their start, which stay when this is closed."""

    def __init__(self, kept: Any) -> None:
        self._kept, self._at = kept, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = self._at if whence == os.SEEK_CUR else 0 if whence == os.SEEK_SET else self._kept.seek(0, os.SEEK_END)
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._kept.seek(self._at)
        data = self._kept.read(len(buffer))
        self._at += len(data)
        buffer[: len(data)] = data
        return len(data)


class Joined(io.RawIOBase):
    """A stream of bytes that were already read, and then the rest, which is closed with this if it is owned."""

    def __init__(self, head: bytes, rest: BinaryIO, owned: bool) -> None:
        self._head, self._rest, self._owned = head, rest, owned

    def close(self) -> None:
        if self._owned:
            self._rest.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._rest.read(len(buffer)) or b""
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)
