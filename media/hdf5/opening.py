"""Opening HDF5 files for reading, and errors of the HDF5 library in words for people."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import CodecError, MediaError
from ..signatures import START, describe_unknown

if TYPE_CHECKING:
    import h5py

__all__ = ["Handles", "find_filters", "guarded", "name_of_filter", "open_file", "words_of"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FILTERS = {
    4: "szip",
    5: "nbit",
    6: "scale-offset",
    305: "lzo",
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fci",
    32019: "jpeg",
    32024: "sz3",
    32026: "blosc2",
}
_LIBRARY = (OSError, RuntimeError, ValueError, TypeError, KeyError, UnicodeError, NotImplementedError, AssertionError)


def open_file(path: str | os.PathLike[str] | io.BytesIO) -> h5py.File:
    """An HDF5 file, open for reading, also while another program writes it in SWMR mode. MediaError for others."""
    import h5py

    name = "the data" if isinstance(path, io.BytesIO) else os.fspath(path)
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise MediaError(f"{name}: no such file") from None
    except PermissionError as error:
        raise MediaError(f"{name}: {error.strerror or error}") from None
    except (
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        AssertionError,
    ) as error:  # ValueError: a zero byte in the name
        if _is_held(error) and not isinstance(path, io.BytesIO):
            return _open_held(name, error)
        raise MediaError(f"{name}: {_why_not(path, error)}") from None


def _is_held(error: BaseException) -> bool:
    """Whether a file can't be opened because another program has it open, or had when it died."""
    words = str(error)
    return "already open for" in words or "unable to lock file" in words or "consistency flags" in words


def _open_held(name: str, error: BaseException) -> h5py.File:
    import h5py

    with contextlib.suppress(OSError, ValueError, RuntimeError):
        return h5py.File(name, "r", swmr=True, libver="latest")
    if "lock" in str(error):
        raise MediaError(
            f"{name}: it is open for writing in another program: close it there, or read what is there so far with "
            "HDF5_USE_FILE_LOCKING=FALSE in front of the command"
        ) from None
    raise MediaError(
        f"{name}: it is marked as open for writing: another program writes it (close it there), or one died while it "
        "did (h5clear -s FILE takes the mark away)"
    ) from None


def _why_not(path: str | os.PathLike[str] | io.BytesIO, error: BaseException) -> str:
    """The reason why something isn't an HDF5 file that can be opened, by its first bytes."""
    if isinstance(path, io.BytesIO):
        start, size = path.getvalue()[: 1 << 16], len(path.getvalue())
    else:
        name = os.fspath(path)
        if os.path.isdir(name):
            what = describe_unknown(b"", name)
            return what if "zarr" in what.lower() else "a folder; expected an HDF5 file"
        try:
            with open(name, "rb") as file:
                start = file.read(1 << 16)
            size = os.path.getsize(name)
        except (OSError, ValueError) as reason:
            return str(getattr(reason, "strerror", None) or reason)
    if not size:
        return "an empty file; expected an HDF5 file"
    words = " ".join(str(error).split())
    if any(start.startswith(_SIGNATURE, at) for at in (0, 512, 1024, 2048, 4096, 8192, 16384, 32768)):
        if "truncated" in words or size < 96:
            stored = re.search(r"stored_eof = (\d+)", words)
            expected = f" of {stored[1]}" if stored else ""
            return f"a damaged HDF5 file: it is cut, only {size} bytes{expected} are there"
        return f"a damaged HDF5 file ({words_of(error)})"
    if not start.strip(b"\0"):
        return "not an HDF5 file: it begins with zeros, as a file does whose copying broke off"
    source = "" if isinstance(path, io.BytesIO) else path
    return f"not an HDF5 file, but {describe_unknown(start[:START], source, 'HDF5 or NetCDF-4')}"


def words_of(error: BaseException) -> str:
    """The message of the library in one short line, without names of files."""
    words = " ".join(str(error.args[0] if error.args else error).split())
    inner = re.search(r"\(([^()]*(?:\([^()]*\))?[^()]*)\)$", words)
    words = inner[1] if inner and not words.startswith("Unable to synchronously open file") else words
    return re.sub(r"name = '[^']*'", "its name", words)[:160] or type(error).__name__


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Turns whatever the library raises while a part of a file is read into a MediaError with the part's name."""
    try:
        yield
    except CodecError:
        raise
    except MemoryError:
        raise MediaError(f"{what}: too large for the memory of this machine") from None
    except _LIBRARY as error:
        words = words_of(error)
        if "filter" in words or "checksum" in words:
            words = f"a chunk is damaged, or its filter can't undo it ({words})"
        raise MediaError(f"{what} can't be read: the file is damaged there ({words})") from None


class Handles:
    """Objects of a file, opened from the group that they are in, which is often open still: paths may be very long.

    access: how links are followed, for the library. Whoever asks knows that a path leads through groups only.
    """

    _KEPT = 64

    def __init__(self, file: h5py.File, access: Any = None) -> None:
        self.file, self.access = file, access
        self._groups: dict[str, Any] = {}  # the latest last

    def open(self, path: str) -> Any:
        """The object at a path."""
        from h5py import h5g, h5o  # pyright: ignore[reportAttributeAccessIssue]

        item = self._groups.pop(path, None)
        if item is None:
            above, _, name = path.rpartition("/")
            parent = self._groups.get(above or "/")
            place, words = (self.file.id, path) if parent is None or not name else (parent, name)
            item = h5o.open(place, words.encode("utf-8", "surrogateescape"), self.access)
        if isinstance(item, h5g.GroupID):
            self._groups[path] = item
            while len(self._groups) > self._KEPT:
                del self._groups[next(iter(self._groups))]
        return item


# ---- filters


def name_of_filter(number: int, given: bytes = b"") -> str:
    """A filter in words for people. given: the name that the file has for it."""
    name = _FILTERS.get(number) or given.decode("ascii", "replace").split(";")[0][:40].strip()
    return f"{name} (HDF5 filter {number})" if name else f"HDF5 filter {number}"


def find_filters(numbers: list[int]) -> list[int]:
    """The filters of these that aren't available, also not from the package hdf5plugin, which is loaded if need be."""
    from h5py import h5z  # pyright: ignore[reportAttributeAccessIssue]

    def missing() -> list[int]:
        return [number for number in numbers if not h5z.filter_avail(number)]

    if missing():
        with contextlib.suppress(ImportError):
            import hdf5plugin  # type: ignore[import-not-found]  # noqa: F401

    return missing()
