"""The journal of an encoding that may be interrupted: the file `OUT.part`, beside the output.

Where that is of another source or of other settings, nothing of it is lost: the journal is `OUT.HASH.part` then.

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ....errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DoneGroup", "FitFile", "Journal", "naming_target", "part_of"]

_SIGNATURE = b"codecpart1\n"
_RECORD = struct.Struct(">BBII")  # kind, attempt, index, length of the body
_GROUP = struct.Struct(">IIId")  # frames, digest, decibels of the frames' PSNR times 1000, seconds
_KIND_GROUP, _KIND_NOTE = 1, 2
_MOST_BYTES, _SHOWN_BYTES = 210, 80  # of a target's name, and what is shown of a longer one


class DoneGroup(NamedTuple):
    """A group that is coded. digest: CRC-32 of its decoded frames. psnr: in decibels. seconds: that its fit took."""

    payload: bytes
    n_frames: int
    digest: int
    psnr: float
    seconds: float


class Journal:
    """The groups and notes of an encoding, in memory, and in a file if there is a path.

    identity: 32 bytes that tell all that decides the groups' bytes; a file with others is refused (`part_of` finds a
    name for this one). groups: by attempt and index; an attempt is an encoding at one quality, and a target may take
    several.
    """

    def __init__(self, path: Path | None, identity: bytes) -> None:
        self.path, self.identity = path, identity
        self.groups: dict[tuple[int, int], DoneGroup] = {}
        self.notes: dict[str, Any] = {}
        self._file = None if path is None else self._open(path)

    def _open(self, path: Path) -> Any:
        path.parent.mkdir(parents=True, exist_ok=True)
        start = _SIGNATURE + self.identity
        _refuse_foreign(path)
        file = open(path, "a+b")  # noqa: SIM115
        try:
            _lock(file, path)
            file.seek(0)
            data = file.read()
            if start.startswith(data):  # new, or torn in its first bytes
                data = b""
            elif not data.startswith(start):
                raise UsageError(f"{path} holds the progress of another encoding: move it away, or name another output")
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
                notes = _json(body)
                if not isinstance(notes, dict):
                    break  # not written by us
                self.notes |= notes
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
        with naming_target(self.path):
            self._file.write(record + zlib.crc32(record).to_bytes(4, "big"))
            self._file.flush()

    def fit_path(self, attempt: int, index: int) -> Path | None:
        """The place of the checkpoint of a group's fit; None if the journal has no file."""
        return None if self.path is None else self.path.with_name(f"{self.path.name}.{attempt}-{index}")

    def close(self, remove: bool = False) -> None:
        """Closes the file. remove: deletes it and all checkpoints, once the output is whole. An empty one goes, too."""
        remove = remove or not (self.groups or self.notes or self._fits())
        if self._file is not None:
            self._file.close()
            self._file = None
        if remove and self.path is not None:
            self.path.unlink(missing_ok=True)
            for fit in self._fits():
                fit.unlink(missing_ok=True)

    def _fits(self) -> list[Path]:
        """The checkpoints of fits that lie beside the file."""
        if self.path is None:
            return []
        return list(self.path.parent.glob(f"{glob.escape(self.path.name)}.[0-9]*-[0-9]*"))


def part_of(target: Path, identity: bytes) -> tuple[Path, list[Path]]:
    """The name of the journal of an encoding to this target, and of those that hold the progress of others.

    UsageError if another process is writing to the same target.
    """
    name = _short(target.name)
    plain, own = (target.with_name(name + ending) for ending in (".part", f".{identity[:4].hex()}.part"))
    pattern = f"{glob.escape(name)}.[0-9a-f]" + "[0-9a-f]" * 7 + ".part"
    others = [path for path in (plain, *sorted(target.parent.glob(pattern))) if path != own and os.path.lexists(path)]
    for path in others:
        _refuse_foreign(path)
    others = [path for path in others if not _is_of(path, identity)]
    for path in others:
        with open(path, "rb") as file:
            _lock(file, path)
    return (own if plain in others or own.exists() else plain), others


def _short(name: str) -> str:
    """A name to which endings can be added: file systems take 255 bytes. Long ones are told apart by a checksum."""
    data = os.fsencode(name)
    if len(data) <= _MOST_BYTES:
        return name
    return f"{os.fsdecode(data[:_SHOWN_BYTES])}.{zlib.crc32(data):08x}"


def _refuse_foreign(path: Path) -> None:
    """Raise UsageError for something else than a journal in its place: it isn't ours to write to."""
    if not os.path.lexists(path):
        return
    words = f"{path} isn't a file of ours: move it away, the encoding keeps its progress there"
    if path.is_symlink() or not path.is_file():
        raise UsageError(words)
    with open(path, "rb") as file:
        start = file.read(len(_SIGNATURE))
    if not _SIGNATURE.startswith(start) and start != _SIGNATURE:
        raise UsageError(words)


def _is_of(path: Path, identity: bytes) -> bool:
    """Whether a journal is that of this encoding, or was only just begun."""
    start = _SIGNATURE + identity
    with open(path, "rb") as file:
        return start.startswith(file.read(len(start)))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


@contextlib.contextmanager
def naming_target(path: Path | None) -> Iterator[None]:
    """Makes an error of writing, such as of a full disk, name the file that is written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and path is not None:
            error.filename = str(path)
        raise


def _lock(file: Any, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # freed when the file is closed
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
