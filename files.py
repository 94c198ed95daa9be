"""Reading and writing files so that nobody finds half of one: bytes and names, no medium and no codec.

    with whole("photo.s2lic") as file:                     # a file that appears when it is whole, or not at all
        file.write(data)
    with whole("flow.h5", path_only=True) as path:         # the same, for writers that need a name
        h5py.File(path, "w").close()
    with whole_folder("stills") as folder:                 # a folder of files
        (folder / "000.png").write_bytes(data)

A target is written under a temporary name in its own folder, brought to the disk and then renamed. Imports nothing but
the errors, so that everything may import it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Literal, overload

from .errors import MediaError, UsageError

__all__ = [
    "MAX_INPUT_BYTES",
    "PACKAGE",
    "STDIO",
    "PathLike",
    "TargetExistsError",
    "TargetIsFolderError",
    "is_stream",
    "name_of",
    "naming",
    "read_bytes",
    "refuse_existing",
    "remove_temporary",
    "set_owner",
    "temporary_of",
    "whole",
    "whole_folder",
]

PACKAGE = Path(__file__).resolve().parent  # the root of the package: what is shipped with it lies below
STDIO = "-"  # as a source: stdin; as a target: stdout
MAX_INPUT_BYTES = 1 << 30  # of one input; a device or an endless pipe ends here instead of in swap

PathLike = str | os.PathLike[str]

_SHOWN_BYTES = 80  # of a target's name in that of its temporary, which may have 255 in all


class TargetExistsError(UsageError, FileExistsError):
    """A target that exists already, and isn't to be replaced or can't be: made of a number, words and a name."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class TargetIsFolderError(UsageError, IsADirectoryError):
    """A target that has to be a file, and is a folder: made of a number, words and a name."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def is_stream(path: PathLike) -> bool:
    """Whether the bytes behind a name come or go once, in order: those of stdin or stdout, of a device or a pipe."""
    if path == STDIO:
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


# ---- reading


def name_of(source: PathLike) -> str:
    """The name of a source in words for people."""
    return "stdin" if source == STDIO else os.fspath(source)


@contextlib.contextmanager
def naming(source: PathLike) -> Iterator[None]:
    """Puts the name of a source in front of a MediaError about it, unless that begins with it."""
    try:
        yield
    except MediaError as error:
        name, words = name_of(source), str(error).removeprefix("the data: ")
        is_named = words.startswith((f"{name}: ", name + os.sep))
        raise MediaError(words if is_named else f"{name}: {words}") from error.__cause__


def read_bytes(source: PathLike, limit: int = MAX_INPUT_BYTES) -> bytes:
    """All bytes of a file, or of stdin for "-". MediaError if it can't be read, or there are more than `limit`."""
    if source == STDIO:
        return _read_bounded(sys.stdin.buffer, limit, name_of(source))
    try:
        with open(source, "rb") as file:
            return _read_bounded(file, limit, name_of(source))
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise MediaError(f"{name_of(source)}: {getattr(error, 'strerror', None) or error}") from None


def _read_bounded(file: BinaryIO, limit: int, name: str) -> bytes:
    parts, size = [], 0
    while part := file.read(min(1 << 24, limit + 1 - size)):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise MediaError(f"{name} has more than {limit} bytes, the most that one input may have: split it")
    return b"".join(parts)


# ---- writing


@overload
def whole(
    target: PathLike, *, replace: bool = False, path_only: Literal[False] = False
) -> AbstractContextManager[BinaryIO]: ...
@overload
def whole(target: PathLike, *, replace: bool = False, path_only: Literal[True]) -> AbstractContextManager[Path]: ...
def whole(
    target: PathLike, *, replace: bool = False, path_only: bool = False
) -> AbstractContextManager[BinaryIO] | AbstractContextManager[Path]:
    """A file to write whose content appears at `target` when the block ends, whole; nothing does if it raises.

    The block gets a binary file; with path_only, a path where it makes the file itself. An existing target is
    TargetExistsError unless `replace`, one that appears while the block runs, too; a folder is TargetIsFolderError. A
    link is written through; missing folders are made. "-" (stdout), a device or a pipe is written to directly, in order
    and with no way back: none of them can be had with path_only (UsageError), and a device or pipe only with `replace`.
    """
    return _whole_path(target, replace) if path_only else _whole_file(target, replace)


@contextlib.contextmanager
def _whole_file(target: PathLike, replace: bool) -> Iterator[BinaryIO]:
    if target == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif is_stream(target):
        refuse_existing(target, replace)
        with open(target, "wb") as device:
            yield device
    else:
        with _whole_path(target, replace) as temporary, open(temporary, "x+b") as file:
            yield file


@contextlib.contextmanager
def _whole_path(target: PathLike, replace: bool) -> Iterator[Path]:
    if target == STDIO:
        raise UsageError("this output is written in place, which stdout can't be: name a file with -o")
    if is_stream(target):
        raise UsageError(f"this output is written in place, which {os.fspath(target)} can't be: name a file with -o")
    refuse_existing(target, replace)
    real = Path(os.path.realpath(target))
    with _temporary(real) as temporary:
        yield temporary
        _sync(temporary)
        if replace:
            os.replace(temporary, real)
        else:
            _rename_new(temporary, real)


@contextlib.contextmanager
def whole_folder(target: PathLike) -> Iterator[Path]:
    """An empty folder to fill, which is renamed to `target` when the block ends; nothing appears if it raises.

    Whatever is at `target` already is TargetExistsError: a folder is never replaced.
    """
    if target == STDIO:
        raise UsageError("the output is a folder of files, and stdout holds one: name a folder with -o")
    real = Path(os.path.realpath(target))
    with _temporary(real) as temporary:
        temporary.mkdir()
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                _sync(path)
        if real.exists():  # renaming would go over an empty folder
            words = "exists already, and a folder is never replaced: name another with -o"
            raise TargetExistsError(errno.EEXIST, words, str(real))
        os.rename(temporary, real)


def refuse_existing(target: PathLike, replace: bool) -> None:
    """Raise, before any work is done for it, what `whole` would raise for a target that is there already."""
    if target == STDIO:
        return
    real = os.path.realpath(target)
    if os.path.isdir(real):
        raise TargetIsFolderError(errno.EISDIR, "is a folder", real)
    if os.path.exists(target) and not replace:
        words = "writes to" if is_stream(target) else "replaces"
        raise TargetExistsError(errno.EEXIST, f"exists already (--force {words} it)", real)


@contextlib.contextmanager
def _temporary(real: Path) -> Iterator[Path]:
    """The temporary name of a target whose folder exists now; whatever is made under it is removed at the end."""
    temporary = temporary_of(real)
    real.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(temporary):  # never written into: it may be another process's, on another machine
        words = (
            f"the temporary file of {real.name} is there: another run writes it, or was killed; if none runs, remove it"
        )
        raise TargetExistsError(errno.EEXIST, words, str(temporary))
    try:
        yield temporary
    finally:
        _remove(temporary)


def _sync(path: Path) -> None:
    """Bring a file's bytes to the disk: a rename that outlives a power cut must not name an empty file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename_new(temporary: Path, target: Path) -> None:
    """Rename, but not over a file that appeared since the target was looked at."""
    words = "appeared while this ran (--force replaces it)"
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise TargetExistsError(errno.EEXIST, words, str(target)) from None
    except OSError:  # a file system without links
        if target.exists():
            raise TargetExistsError(errno.EEXIST, words, str(target)) from None
        os.replace(temporary, target)


# ---- temporary names

_owner: int | None = None  # whose number temporaries bear, if not this process's


def set_owner(pid: int) -> None:
    """Name the temporaries of this process after another one, its parent, who removes them if this one is killed."""
    global _owner
    _owner = pid


def temporary_of(target: PathLike) -> Path:
    """The name under which a target is written until it is whole.

    It lies in the target's own folder and follows from the target and the owner's process number alone: a parent finds
    what a killed worker left. Long names are cut, and told apart by a checksum.
    """
    real = Path(os.path.realpath(target))
    name = os.fsencode(real.name)
    shown = os.fsdecode(name[:_SHOWN_BYTES])
    return real.with_name(f".{shown}.{zlib.crc32(name):08x}-{_owner or os.getpid()}.part")


def remove_temporary(target: PathLike) -> None:
    """Remove the temporary that a worker that was killed has left of a target, if there is one."""
    if target != STDIO:
        _remove(temporary_of(target))


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)
