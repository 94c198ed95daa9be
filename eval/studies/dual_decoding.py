"""Files of dualgs taken apart: look-up tables as several coders keep them, and how fast frames come.

A part of the study of sequences. What is compared is what the decoder gets, so each way to keep it gives the same
Gaussians.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ... import container
from ...codecs.base.codec import Codec, threads
from ...codecs.base.gaussians.codec import GaussiansCodec
from ...codecs.dualgs.codec import SEGMENT
from ...codecs.dualgs.lookup import decode_lookup, encode_lookup
from ...codecs.dualgs.sequence import SegmentReader
from ...codecs.dualgs.tracks import Kind, encode_tracks
from ...entropy.mixing.levels import LevelModel
from ...errors import MediaError

__all__ = ["speed", "tables", "tracks_of"]

THREADS = 2
_SEEKS = 9  # frames, evenly spread

Tracks = dict[str, NDArray[np.int32]]


def _codec() -> GaussiansCodec:
    return cast(GaussiansCodec, Codec.load("dualgs"))


# ---- look-up tables


def tracks_of(data: bytes) -> Iterator[tuple[Tracks, NDArray[np.int64]]]:
    """The segments of a file: tracks of scales and opacities, (T, N, c), and the order of rows in a table."""
    from ...codecs.dualgs import sequence

    with _codec().open_frames(data) as file:
        if file.n_frames < 2:
            raise MediaError("a file of a scene has no look-up tables: give one of a sequence")
        stream: Any = file._stream
        base = stream._base
        n_frames = 0
        for part in container.unpack(data)[1]:
            if part.tag != SEGMENT:
                continue
            held = min(stream._size, file.n_frames - n_frames)
            reader: Any = SegmentReader(base, part.payload, held)
            names = [name for name, _ in reader._names]
            columns = [dict(zip(names, reader._tracks.next(), strict=True)) for _ in range(held)]
            if reader._picture is not None:
                tracks = {"scale": reader._picture[:, :, :3], "opacity": reader._picture[:, :, 3:]}
            else:
                tracks = {name: np.stack([column[name] for column in columns]) for name in ("scale", "opacity")}
            yield tracks, sequence._rows(base)
            n_frames += held


def tables(data: bytes) -> dict[str, Any]:
    """Bytes a frame of scales and opacities as WebP, as our pictures of levels, as tracks by themselves; of the file.

    None for a table whose changes don't fit 8 bits. in_file: whether the file holds pictures.
    """
    sizes: dict[str, int | None] = {"webp": 0, "levels": 0, "tracks": 0}
    n_frames = 0
    for tracks, rows in tracks_of(data):
        changes = np.concatenate([tracks["scale"], tracks["opacity"]], 2)
        n_frames += len(changes)
        _add(sizes, "tracks", len(encode_tracks([tracks["scale"], tracks["opacity"]], [Kind(3), Kind(1)])))
        picture = encode_lookup(changes, rows)
        _add(sizes, "webp", len(picture) or None)
        _add(sizes, "levels", _as_levels(picture, changes, rows) if picture else None)
    storage = _codec().describe(data)["storage"]
    about: dict[str, Any] = {name: None if size is None else size / n_frames for name, size in sizes.items()}
    return {**about, "file": len(data) / n_frames, "in_file": "look-up tables" in storage, "storage": storage}


def _add(sizes: dict[str, int | None], name: str, size: int | None) -> None:
    held = sizes[name]
    sizes[name] = None if held is None or size is None else held + size


def _as_levels(picture: bytes, tracks: NDArray[np.int32], rows: NDArray[np.int64]) -> int:
    """The bytes of the pixels of a WebP picture through our mixing coder of levels."""
    if not np.array_equal(decode_lookup(picture, len(tracks), rows, tracks.shape[2]), tracks):
        raise MediaError("a look-up table didn't come back")
    with Image.open(io.BytesIO(picture), formats=("WEBP",)) as image:
        pixels = np.asarray(image.convert("RGB"))[:, :, 1]
    model = LevelModel.fitting(pixels[None, :, :, None].astype(np.uint16), 8)
    return len(model.encode(pixels[None, :, :, None].astype(np.uint16)))


# ---- speed


def speed(data: bytes, repeat: int = 5, n_threads: int = THREADS) -> dict[str, Any]:
    """Frames a second, from opening a file and once it is open; milliseconds to open it, and to a frame anywhere in it.

    Medians of `repeat` runs.
    """
    codec = _codec()
    rates, running, opened, seeks = [], [], [], []
    with threads(n_threads):
        for _ in range(max(1, repeat)):
            began = time.perf_counter()
            with codec.open_frames(data) as file:
                opened.append(time.perf_counter() - began)
                n_frames = sum(1 for _ in file.frames())
                took = time.perf_counter() - began
                rates.append(n_frames / took)
                running.append(n_frames / (took - opened[-1]))
        for index in np.unique(np.linspace(0, n_frames - 1, _SEEKS).round().astype(int)).tolist():
            began = time.perf_counter()
            with codec.open_frames(data) as file:
                file.frame(index)
            seeks.append(time.perf_counter() - began)
    return {
        "threads": n_threads,
        "frames_a_second": statistics.median(rates),
        "frames_a_second_each": sorted(rates),
        "frames_a_second_open": statistics.median(running),
        "open_ms": 1000 * statistics.median(opened),
        "seek_ms": 1000 * statistics.median(seeks),
        "seek_worst_ms": 1000 * max(seeks),
    }
