"""Reading and writing files so that nobody finds half of one: bytes and names, no medium and no codec.

    with whole("photo.s2lic") as file:                     # a file that appears when it is whole, or not at all
        file.write(data)
    with whole("flow.h5", path_only=True) as path:         # the same, for writers that need a name
        h5py.File(path, "w").close()
    with whole_folder("stills") as folder:                 # a folder of files
        (folder / "000.png").write_bytes(data)

A target is written under a temporary name in its own folder, brought to the disk and then renamed. Worker processes
find here how they end with their parent, and everybody how many CPUs may be used, and where files may lie that aren't
shipped. Imports nothing but the errors, so
that everything may import it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import shutil
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
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
    "as_private_as",
    "cpu_count",
    "end_with_parent",
    "find_model",
    "is_stream",
    "name_of",
    "naming",
    "owner",
    "places",
    "read_bytes",
    "refuse_existing",
    "remove_temporaries",
    "set_owner",
    "sweep",
    "temporary_of",
    "whole",
    "whole_folder",
]

PACKAGE = Path(__file__).resolve().parent  # the root of the package: what is shipped with it lies below
STDIO = "-"  # as a source: stdin; as a target: stdout
MAX_INPUT_BYTES = 1 << 30  # of one input; a device or an endless pipe ends here instead of in swap

PathLike = str | os.PathLike[str]

_SHOWN_BYTES = 32  # of a target's name in that of its temporary: some file systems take 143 in all
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a write, which name no file


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
        if sys.stdin is None:
            raise MediaError("stdin is closed: name a file, or send data into the command")
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
        if sys.stdout is None:
            raise UsageError("stdout is closed: name a file with -o")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif is_stream(target):
        refuse_existing(target, replace)
        with open(target, "wb") as device:
            yield device
    else:
        refuse_existing(target, replace)
        real = Path(os.path.realpath(target))
        with _temporary(real, _new_file) as temporary:
            with open(temporary, "r+b") as file:
                yield file
            _finish(temporary, real, replace)


@contextlib.contextmanager
def _whole_path(target: PathLike, replace: bool) -> Iterator[Path]:
    if target == STDIO:
        raise UsageError("this output is written in place, which stdout can't be: name a file with -o")
    if is_stream(target):
        raise UsageError(f"this output is written in place, which {os.fspath(target)} can't be: name a file with -o")
    refuse_existing(target, replace)
    real = Path(os.path.realpath(target))
    # A writer that needs a name would follow a link that somebody puts there: it gets a folder nobody else can enter.
    with _temporary(real, functools.partial(os.mkdir, mode=0o700)) as folder:
        temporary = folder / "data"
        yield temporary
        _finish(temporary, real, replace)


def _new_file(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666))


def _finish(temporary: Path, real: Path, replace: bool) -> None:
    """Bring a file to the disk and give it its name."""
    _set_mode(temporary, real, replace)
    _sync(temporary)
    if replace:
        os.replace(temporary, real)
    else:
        _rename_new(temporary, real)


def _set_mode(temporary: Path, real: Path, replace: bool) -> None:
    """A file has the permissions of the one it replaces; a new one none that its source doesn't give to others."""
    mode = stat.S_IMODE(os.stat(temporary).st_mode)
    wanted = mode & (_shared.get() | 0o700)
    if replace and real.exists():
        wanted = stat.S_IMODE(os.stat(real).st_mode) & 0o777
    if wanted != mode:
        with contextlib.suppress(OSError):  # a file system without permissions
            os.chmod(temporary, wanted)


@contextlib.contextmanager
def whole_folder(target: PathLike) -> Iterator[Path]:
    """An empty folder to fill, which is renamed to `target` when the block ends; nothing appears if it raises.

    Whatever is at `target` already is TargetExistsError: a folder is never replaced.
    """
    if target == STDIO:
        raise UsageError("the output is a folder of files, and stdout holds one: name a folder with -o")
    refuse_dangling(target)
    real = Path(os.path.realpath(target))
    with _temporary(real, os.mkdir) as temporary:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                _sync(path)
        _set_mode(temporary, real, False)
        if os.path.lexists(real):  # renaming would go over an empty folder
            words = "exists already, and a folder is never replaced: name another with -o"
            raise TargetExistsError(errno.EEXIST, words, str(real))
        os.rename(temporary, real)


def refuse_existing(target: PathLike, replace: bool) -> None:
    """Raise, before any work is done for it, what `whole` would raise for a target that is there already."""
    if not isinstance(target, (str, os.PathLike)):
        raise UsageError(f"can't write to a {type(target).__name__}: expected a path, or '-' for stdout")
    if target == STDIO:
        return
    refuse_dangling(target)
    real = os.path.realpath(target)
    if os.path.isdir(real):
        raise TargetIsFolderError(errno.EISDIR, "is a folder", real)
    if os.path.exists(target) and not replace:
        words = "writes to" if is_stream(target) else "replaces"
        raise TargetExistsError(errno.EEXIST, f"exists already (--force {words} it)", real)


def refuse_dangling(target: PathLike) -> None:
    """Raise TargetExistsError for a link that leads nowhere: what is behind it is not what its name says."""
    if os.path.islink(target) and not os.path.exists(target):
        words = f"is a link to {os.readlink(target)}, which isn't there: remove it, or name another place with -o"
        raise TargetExistsError(errno.EEXIST, words, os.fspath(target))


@contextlib.contextmanager
def _temporary(real: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """A temporary of a target, made now, by a name that nobody can know before; it is removed at the end."""
    temporary = temporary_of(real)
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        sweep(real.parent)
        make(temporary)
        _live.add(temporary)
        try:
            yield temporary
        finally:
            _remove(temporary)
            _live.discard(temporary)
    except OSError as error:  # people know the target, not its temporary
        named = None if error.filename is None else os.fspath(error.filename)
        if (named is None and error.errno in _FULL) or str(named).startswith(str(temporary)):
            error.filename, error.filename2 = str(real), None
        raise


def _sync(path: Path) -> None:
    """Bring a file's bytes to the disk: a rename that outlives a power cut must not name an empty file."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
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


# ---- permissions

_shared: ContextVar[int] = ContextVar("_shared", default=0o777)  # permissions that new files may give to others


@contextlib.contextmanager
def as_private_as(source: PathLike) -> Iterator[None]:
    """Files that appear while the block runs give others no permission that the source doesn't give them."""
    shared = 0o777
    if source != STDIO:
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(source)
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                shared = stat.S_IMODE(status.st_mode) & 0o066
                shared |= shared >> 2 & 0o011  # whoever may read a folder may enter it
    token = _shared.set(shared)
    try:
        yield
    finally:
        _shared.reset(token)


# ---- temporary names
#
# .photo.png.3f2a91bc-4711-5d0c7e21-9a0b1c2d3e4f5061.part: the target's name, the machine, the process that answers for
# it, a number of that run, and 64 random bits.

_PART = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)-([0-9a-f]{8})-[0-9a-f]{16}\.part", re.DOTALL)
_owner = ""  # whose temporaries this process makes; "" until somebody asks
_live: set[Path] = set()  # temporaries that this process has made and not removed yet
_swept: set[Path] = set()  # folders that were looked through


@functools.lru_cache(maxsize=1)
def _machine() -> str:
    """Eight digits for the set of processes in which a number is one process: the machine and its namespace."""
    words = os.uname().nodename if hasattr(os, "uname") else ""
    with contextlib.suppress(OSError):
        words += Path("/etc/machine-id").read_text(encoding="ascii", errors="replace")
    with contextlib.suppress(OSError):
        words += os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32(words.encode(errors='replace')):08x}"


def owner() -> str:
    """The mark that temporaries of this process have; a parent gives its own to its workers."""
    global _owner
    if not _owner:
        _owner = f"{_machine()}-{os.getpid()}-{os.urandom(4).hex()}"
    return _owner


def set_owner(mark: str) -> None:
    """Mark the temporaries of this process as those of its parent, who removes them if this one is killed."""
    global _owner
    _owner = mark


def temporary_of(target: PathLike) -> Path:
    """A new name under which a target can be written until it is whole, in the target's own folder."""
    real = Path(os.path.realpath(target))
    return real.with_name(f".{_cut(real.name)}.{owner()}-{os.urandom(8).hex()}.part")


def _cut(name: str) -> str:
    """The beginning of a name, without half a letter at its end."""
    data = os.fsencode(name)
    if len(data) <= _SHOWN_BYTES:
        return name
    end = _SHOWN_BYTES
    while end > _SHOWN_BYTES - 4 and data[end] & 0xC0 == 0x80:  # inside a letter of UTF-8
        end -= 1
    return os.fsdecode(data[:end])


def remove_temporaries(folder: PathLike) -> None:
    """Remove the temporaries in a folder that bear this process's mark: for a parent whose workers are all gone."""
    for path, mark in _temporaries(folder):
        if mark == owner() and path not in _live:
            _remove(path)


def sweep(folder: PathLike) -> None:
    """Remove, once for each folder, what processes of this machine and user have left that were killed."""
    folder = Path(folder)
    if folder in _swept:
        return
    _swept.add(folder)
    for path, mark in _temporaries(folder):
        machine, pid, _ = mark.split("-")
        with contextlib.suppress(OSError):
            is_mine = os.lstat(path).st_uid == os.getuid()
            if is_mine and machine == _machine() and mark != owner() and not _is_alive(int(pid)):
                _remove(path)


def _temporaries(folder: PathLike) -> list[tuple[Path, str]]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".part")]
    except OSError:
        return []
    matches = [(name, _PART.fullmatch(name)) for name in names]
    return [(Path(folder, name), "-".join(match.groups())) for name, match in matches if match is not None]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _remove(temporary: Path) -> None:
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)


# ---- processes


def end_with_parent(parent: int) -> None:
    """End this process, a worker, when its parent ends, however that ends. parent: its number, as it gave it.

    The kernel sends a signal (Linux); a thread that waits for the parent's end works anywhere, and cleans up.
    """
    import threading
    from multiprocessing import connection, parent_process

    if sys.platform == "linux":
        import ctypes
        import signal

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG
    above = parent_process()

    def end() -> None:
        if above is not None:
            connection.wait([above.sentinel])
        for path in tuple(_live):
            with contextlib.suppress(OSError):
                _remove(path)
        os._exit(1)

    if os.getppid() != parent:  # it ended before this began
        end()
    if above is not None:
        threading.Thread(target=end, name="ends with its parent", daemon=True).start()


def cpu_count() -> int:
    """The number of CPUs that this process may use: those of its affinity, and no more than its container's share."""
    try:
        n_cpus = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on Linux
        n_cpus = os.cpu_count() or 1
    return max(1, min([n_cpus, *_quotas()]))


def _quotas(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """The limits, in CPUs, of the control groups that this process is in (versions 2 and 1), rounded up."""
    limits = []
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except (OSError, ValueError):
        groups = []
    for _, kinds, path in (group for group in groups if len(group) == 3):
        if kinds and "cpu" not in kinds.split(","):
            continue
        for folder in (root / kinds / path.lstrip("/"), root / kinds, root / ("cpu" if kinds else "")):
            with contextlib.suppress(OSError, ValueError):
                if not kinds:
                    quota, period = (folder / "cpu.max").read_text().split()
                else:
                    quota = (folder / "cpu.cfs_quota_us").read_text()
                    period = (folder / "cpu.cfs_period_us").read_text()
                if quota != "max" and int(quota) > 0:
                    limits.append(max(1, -(-int(quota) // int(period))))
    return limits


# ---- files that aren't shipped


def places() -> list[Path]:
    """Folders that may hold data: $CODEC_DATA, `data` here, `data` and `shared/data` beside or above the package."""
    named = [Path(os.environ["CODEC_DATA"])] if "CODEC_DATA" in os.environ else []
    return [*named, Path("data"), PACKAGE / "data", PACKAGE.parent / "shared" / "data"]


def find_model(name: str, *folders: Path) -> Path | None:
    """The path of a file of weights, or None. It is looked for in $CODEC_MODELS, in `models` wherever data may be, then
    in `folders`."""
    named = [Path(os.environ["CODEC_MODELS"])] if os.environ.get("CODEC_MODELS") else []
    usual = [place / "models" for place in places()]
    return next((place / name for place in (*named, *usual, *folders) if (place / name).is_file()), None)
