"""Samples for tasks: photographs, labelled folders, files of small labelled pictures, sounds.

Data that must never be trained on lies in folders whose name begins with "test" (`shared/data`), and is what tasks use
unless a folder is named.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...datasets.places import find_data
from ...errors import MediaError, UsageError
from ..bench.contract import Audio, Medium, Value
from ..bench.items import Item, Skipped, find_items, printable
from ..bench.measure import explain
from .contract import Sample

__all__ = ["PHOTOGRAPHS", "digest_of", "each", "labelled_pictures", "loaded", "photographs", "read_idx", "sounds"]

PHOTOGRAPHS = ("images/test-kodak", "images/test-other/gb82", "images/test-other/clic2025")  # nobody trains on them
MAX_IDX = 1 << 30  # bytes of an IDX file, unpacked


def digest_of(value: Value) -> str:
    """The first 16 hex digits of a hash of the values: the same for equal values of one type and shape."""
    array = value.samples if isinstance(value, Audio) else np.asarray(value)
    rate = value.rate if isinstance(value, Audio) else 0
    head = f"{array.dtype.str} {array.shape} {rate} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def photographs(data: Path | None) -> Iterator[Sample | Skipped]:
    """The pictures of a folder; None: Kodak, GB82 and CLIC 2025 (33 of them). No labels."""
    folders = [find_data(name, "photographs") for name in PHOTOGRAPHS] if data is None else [data]
    for folder in folders:
        yield from _loaded(folder, "image", f"{folder.name}/" if data is None else "")


def sounds(folder: Path) -> Iterator[Sample | Skipped]:
    """The sounds of a folder, without labels."""
    return _loaded(folder, "audio", "")


def _loaded(folder: Path, medium: Medium, prefix: str, label: Any = None) -> Iterator[Sample | Skipped]:
    listed = find_items(folder, medium)
    yield from (Skipped(prefix + item.name, item.reason) for item in listed.skipped)
    for item in listed.items:
        yield loaded(item, prefix, label)


def loaded(item: Item, prefix: str = "", label: Any = None) -> Sample | Skipped:
    """The sample of an item, or why it can't be read: one damaged file doesn't stop a run."""
    try:
        value = item.load()
    except Exception as error:  # whatever a library says of a damaged file
        return Skipped(prefix + item.name, explain(error).removeprefix(f"{item.path}: "))
    return Sample(prefix + item.name, value, digest_of(value), label)


def each(samples: Iterable[Sample | Skipped], made: Callable[[Sample], Iterable[Sample]]) -> Iterator[Sample | Skipped]:
    """The samples that are made of each sample; what was skipped stays so."""
    for sample in samples:
        if isinstance(sample, Skipped):
            yield sample
        else:
            yield from made(sample)


def labelled_pictures(data: Path | None) -> Iterator[Sample | Skipped]:
    """The pictures of a folder with one sub-folder a class, whose name is the label. UsageError for another layout."""
    if data is None:
        raise UsageError("name a folder with --data: one sub-folder a class, with pictures in it")
    classes = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UsageError(f"{data}: no sub-folders; expected one a class, with pictures in it")
    for folder in classes:
        yield from _loaded(folder, "image", f"{printable(folder.name)}/", folder.name)


def read_idx(path: str | os.PathLike[str], n_dims: int) -> NDArray[np.uint8]:
    """The uint8 array of an IDX file, gzipped or not (LeCun's format of MNIST). MediaError for anything else."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            head = file.read(4 + 4 * n_dims)
            magic, *shape = struct.unpack(f">{1 + n_dims}I", head)
            size = int(np.prod(shape, dtype=object))
            if magic != 0x800 + n_dims or size > MAX_IDX:
                raise MediaError(f"{path}: not an IDX file of {n_dims} axes of bytes")
            body = file.read(size + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise MediaError(f"{path}: can't be read as an IDX file ({error})") from None
    if len(body) != size:
        raise MediaError(f"{path}: {len(body)} values; expected {size}: the file is cut, or too long")
    return np.frombuffer(body, np.uint8).reshape(shape)
