"""The items of a benchmark: what lies in a folder, read once, by medium.

A picture is an item, and so is a sound file, a video, an array of a file of arrays. What can't be read, or isn't of
the run's medium, is set aside with the reason: a folder of a user's holds text files and broken downloads.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import CodecError, MediaError, UsageError
from ...media import MEDIA as OF_MEDIA
from ...media.image import read_picture
from . import readers
from .contract import MEDIA, Audio, Medium, Value, Video

__all__ = [
    "Item",
    "ItemList",
    "Skipped",
    "find_items",
    "guess_medium",
    "n_values",
    "printable",
    "raw_bytes",
    "seconds_of",
    "shape_of",
]

SUFFIXES: dict[Medium, tuple[str, ...]] = {"image": OF_MEDIA["image"].reads, **readers.SUFFIXES}
_SEPARATOR = "::"  # run.h5::test/velocity


@dataclass(frozen=True)
class Item:
    """One thing to be coded. name: its path in the folder, and the array in it. digest: what it is, whatever it is
    called: the first 16 hex digits of the sha256 of the file (and of the array's name)."""

    name: str
    path: Path
    medium: Medium
    digest: str
    array: str = ""
    max_frames: int | None = None

    def load(self) -> Value:
        """The value in memory. MediaError if it can't be read, or isn't what the harness measures."""
        if self.medium == "image":
            return read_rgb(self.path)
        if self.medium == "audio":
            return readers.read_audio(self.path)
        if self.medium == "video":
            return readers.read_video(self.path, self.max_frames)
        return readers.read_array(self.path, self.array)


@dataclass(frozen=True)
class Skipped:
    """Something in the folder that isn't measured, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ItemList:
    """The items of a folder, and what else is in it."""

    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...]


def find_items(
    data: str | os.PathLike[str],
    medium: Medium,
    max_frames: int | None = None,
    leave_out: str | os.PathLike[str] | None = None,
) -> ItemList:
    """Everything of one medium in a file or a folder, sorted by name; hidden files are left alone.

    max_frames: of each video. leave_out: a folder that isn't looked into; folders with results of ours never are. A
    file is hashed, not decoded: what turns out to be damaged shows when it is loaded.
    UsageError if there is no such folder, or nothing in it.
    """
    root = Path(data)
    files, skipped = ([root], []) if root.is_file() else _walk(root, leave_out)
    items: list[Item] = []
    for path in files:
        name = printable(path.name if root.is_file() else path.relative_to(root).as_posix())
        kinds = [kind for kind in MEDIA if path.suffix.lower() in SUFFIXES[kind]]
        if medium not in kinds:
            reason = f"{kinds[0]}, and these codecs take {medium}" if kinds else "not a kind of file that is measured"
            skipped.append(Skipped(name, reason))
            continue
        try:
            digest = _digest(path)
            for array in readers.array_names(path) if medium == "array" else [""]:
                part = f"{_SEPARATOR}{array}" if array else ""
                cut = f" {max_frames} frames" if medium == "video" and max_frames is not None else ""
                own = hashlib.sha256(f"{digest}{part}{cut}".encode()).hexdigest() if part or cut else digest
                items.append(Item(name + printable(part), path, medium, own[:16], array, max_frames))
        except CodecError as error:
            skipped.append(Skipped(name, _without_name(str(error), path)))
        except OSError as error:
            skipped.append(Skipped(name, f"can't be read ({error.strerror or error})"))
    if not items:
        why = f"; the first of {len(skipped)} others: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise UsageError(f"{data}: no {medium} here ({', '.join(SUFFIXES[medium])}){why}")
    return ItemList(tuple(items), tuple(skipped))


def printable(name: str) -> str:
    """A file's name as text that any file and terminal can hold: other bytes and control characters are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def guess_medium(data: str | os.PathLike[str]) -> Medium:
    """The one medium that a folder holds. UsageError if it holds none, or several."""
    root = Path(data)
    files = [root] if root.is_file() else _walk(root)[0]
    kinds: list[Medium] = [kind for kind in MEDIA if any(path.suffix.lower() in SUFFIXES[kind] for path in files)]
    if not kinds:
        raise UsageError(f"{data} holds nothing that can be measured: pictures, sound, video or arrays")
    if len(kinds) > 1:
        raise UsageError(f"{data} holds {' and '.join(kinds)}: say which with --medium, or name codecs with -c")
    return kinds[0]


def read_rgb(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The pixels of a picture of 8 bits a channel, (H, W, 3) uint8; grey three times. MediaError for what would not be
    measured whole: more bits, or transparency."""
    picture = read_picture(os.fspath(path))
    if picture.pixels.dtype != np.uint8:
        raise MediaError(f"{path}: {picture.pixels.dtype.itemsize * 8} bits a channel; rates and PSNR here are of 8")
    if picture.alpha is not None and not (picture.alpha == 255).all():
        raise MediaError(f"{path}: has transparency, which isn't measured; flatten it first")
    pixels = picture.pixels
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of a value: (H, W, 3), (C, N), (T, H, W, 3), or the array's own."""
    if isinstance(value, Audio):
        return value.samples.shape
    return value.frames.shape if isinstance(value, Video) else value.shape


def n_values(value: Value, medium: Medium) -> int:
    """The number that a rate is divided by: pixels of a picture or of all frames, samples of all channels, values of an
    array."""
    shape = shape_of(value)
    return math.prod(shape[:-1] if medium in ("image", "video") else shape)


def raw_bytes(value: Value) -> int:
    """The size in bytes that a ratio is taken of: 3 bytes a pixel, 16-bit samples, an array as it lies in memory."""
    if isinstance(value, Audio):
        return 2 * value.samples.size
    return (value.frames if isinstance(value, Video) else value).nbytes


def seconds_of(value: Value) -> float | None:
    """The duration of sound or video in seconds; None for other values."""
    if isinstance(value, Audio):
        return value.samples.shape[1] / value.rate
    return float(len(value.frames) / value.fps) if isinstance(value, Video) else None


def _walk(root: Path, leave_out: str | os.PathLike[str] | None = None) -> tuple[list[Path], list[Skipped]]:
    """Regular files below a folder, and what else lies there."""
    if not root.is_dir():
        raise UsageError(f"{root}: no such file or folder")
    away = None if leave_out is None else os.path.realpath(leave_out)
    regular: list[Path] = []
    skipped: list[Skipped] = []

    def place(path: Path) -> str:
        return printable(path.relative_to(root).as_posix())

    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(place(Path(error.filename)), f"can't be read ({error.strerror})"))

    for parent, folders, files in os.walk(root, onerror=unreadable):
        kept = []
        for folder in sorted(name for name in folders if not name.startswith(".")):
            path = Path(parent, folder)
            if path.is_symlink():
                skipped.append(Skipped(place(path), "a link to a folder, which isn't followed"))
            elif os.path.realpath(path) != away and not _holds_results(path):
                kept.append(folder)
        folders[:] = kept
        for file in sorted(name for name in files if not name.startswith(".")):
            path = Path(parent, file)
            if path.is_file():
                regular.append(path)
            else:
                skipped.append(Skipped(place(path), "not a regular file"))
    return regular, skipped


def _holds_results(folder: Path) -> bool:
    """Whether a folder is the --out of an earlier run: its plots aren't data."""
    return (folder / "rows.csv").is_file() and (folder / "summary.json").is_file()


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        sha = hashlib.sha256()
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _without_name(text: str, path: Path) -> str:
    return text.removeprefix(f"{path}: ")
