"""The journal of an encoding that may be interrupted: the file `OUT.part`, beside the output.

It has a signature, the identity of source and settings (sha256), then records with a CRC each: groups that are done,
and notes. A torn record at the end, from a crash, is cut off. Fits of the groups under way lie beside it, as
safetensors.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import struct
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ....errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DoneGroup", "FitFile", "Journal"]

_SIGNATURE = b"codecpart1\n"
_RECORD = struct.Struct(">BBII")  # kind, attempt, index, length of the body
_GROUP = struct.Struct(">IIId")  # frames, digest, decibels of the frames' PSNR times 1000, seconds
_KIND_GROUP, _KIND_NOTE = 1, 2


class DoneGroup(NamedTuple):
    """A group that is coded. digest: CRC-32 of its decoded frames. psnr: in decibels. seconds: that its fit took."""

    payload: bytes
    n_frames: int
    digest: int
    psnr: float
    seconds: float


class Journal:
    """The groups and notes of an encoding, in memory, and in a file if there is a path.

    identity: 32 bytes that tell all that decides the groups' bytes; a file with others is begun anew. groups: by
    attempt and index; an attempt is an encoding at one quality, and a target may take several.
    """

    def __init__(self, path: Path | None, identity: bytes) -> None:
        self.path, self.identity = path, identity
        self.groups: dict[tuple[int, int], DoneGroup] = {}
        self.notes: dict[str, Any] = {}
        self._file = None if path is None else self._open(path)

    def _open(self, path: Path) -> Any:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b")  # noqa: SIM115
        try:
            _lock(file, path)
            file.seek(0)
            data = file.read()
            start = _SIGNATURE + self.identity
            if data and not data.startswith(start):
                if not data.startswith(_SIGNATURE):
                    raise UsageError(
                        f"{path} isn't a file of ours: move it away, the encoding keeps its progress there"
                    )
                data = b""  # of another source or other settings
            end = len(start)
            if data:
                end = self._parse(data, len(start))
            else:
                file.truncate(0)
                file.write(start)
            file.truncate(end)
            file.seek(0, 2)
            file.flush()
        except BaseException:
            file.close()
            raise
        return file

    def _parse(self, data: bytes, at: int) -> int:
        """Reads the records from position `at` on; the position behind the last whole one."""
        while at + _RECORD.size <= len(data):
            kind, attempt, index, n_bytes = _RECORD.unpack_from(data, at)
            end = at + _RECORD.size + n_bytes + 4
            if end > len(data) or zlib.crc32(data[at : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                break
            body = data[at + _RECORD.size : end - 4]
            if kind == _KIND_GROUP and n_bytes >= _GROUP.size:
                n_frames, digest, millibels, seconds = _GROUP.unpack_from(body)
                payload = body[_GROUP.size :]
                self.groups[attempt, index] = DoneGroup(payload, n_frames, digest, millibels / 1000, seconds)
            elif kind == _KIND_NOTE:
                self.notes |= json.loads(body)
            at = end
        return at

    def add(self, attempt: int, index: int, done: DoneGroup) -> None:
        """Records a group that is done."""
        done = done._replace(psnr=round(done.psnr * 1000) / 1000)  # as it is read back
        self.groups[attempt, index] = done
        head = _GROUP.pack(done.n_frames, done.digest, round(done.psnr * 1000), done.seconds)
        self._append(_KIND_GROUP, attempt, index, head + done.payload)

    def note(self, **notes: Any) -> None:
        """Records facts about the encoding, such as the quality that a target was found to need."""
        self.notes |= notes
        self._append(_KIND_NOTE, 0, 0, json.dumps(notes).encode())

    def _append(self, kind: int, attempt: int, index: int, body: bytes) -> None:
        if self._file is None:
            return
        record = _RECORD.pack(kind, attempt, index, len(body)) + body
        self._file.write(record + zlib.crc32(record).to_bytes(4, "big"))
        self._file.flush()

    def fit_path(self, attempt: int, index: int) -> Path | None:
        """The place of the checkpoint of a group's fit; None if the journal has no file."""
        return None if self.path is None else self.path.with_name(f"{self.path.name}.{attempt}-{index}")

    def close(self, remove: bool = False) -> None:
        """Closes the file. remove: deletes it and all checkpoints, once the output is whole."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if remove and self.path is not None:
            self.path.unlink(missing_ok=True)
            for fit in self.path.parent.glob(f"{glob.escape(self.path.name)}.[0-9]*-[0-9]*"):
                fit.unlink(missing_ok=True)


def _lock(file: Any, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(f"{path} is being written by another process: wait for it, or name another output") from None


@dataclass
class FitFile:
    """A `Checkpoint` in a safetensors file. identity: text of the fit it belongs to. every: seconds between saves."""

    path: Path
    identity: str
    every: float = 30.0
    _saved: float = 0.0

    def __post_init__(self) -> None:
        self._saved = time.monotonic()

    def load(self) -> Mapping[str, Tensor] | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                if (file.metadata() or {}).get("identity") != self.identity:
                    return None
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None

    def due(self) -> bool:
        return time.monotonic() - self._saved >= self.every

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        from safetensors.torch import save_file

        temporary = self.path.with_name(self.path.name + ".new")  # a name that `Journal.close` finds after a kill
        save_file(dict(tensors), temporary, {"identity": self.identity})
        os.replace(temporary, self.path)
        self._saved = time.monotonic()

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
