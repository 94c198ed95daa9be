"""Damaged and hostile files are refused, or read as something: in a second, and without much memory."""

from __future__ import annotations

import gzip
import io
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import zstandard
from PIL import Image

from codec.errors import MediaError
from codec.media import probe_bytes
from codec.media.gaussians import compressed_ply, ply, splat, spz
from codec.media.gaussians.sources import open_source

from .making import bundle, changed_meta, scene, sog_parts
from .test_compressed_ply import table as chunks

SECONDS, MIB = 1.0, 1 << 20
MEMORY = 96 * MIB
NAMES = {"splat": "a.splat"}


def small() -> dict[str, bytes]:
    g = scene(40, 1)
    return {
        "ply": ply.write(g),
        "compressed-ply": compressed_ply.write(chunks(260)),
        "splat": splat.write(splat.quantise(g)),
        "spz-4": spz.write(spz.quantise(g)),
        "spz-3": spz.write(spz.quantise(g, 3)),
        "sog": bundle(sog_parts(40, 1)),
    }


def try_out(data: bytes) -> bool:
    """Read a file; whether it was taken for one. Anything but a MediaError fails the test."""
    probe_bytes(data)
    try:
        g = open_source(data).frame(0)
    except MediaError as error:
        assert len(str(error)) < 500, "words, not the content of the file"
        return False
    assert len(g)
    return True


def bounded(action: Callable[[], object]) -> None:
    """The action, within the bounds of time and memory; a slow moment of the machine is tried again."""
    for _ in range(3):
        tracemalloc.start()
        start = time.process_time()
        try:
            action()
        finally:
            seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MEMORY, f"{peak / MIB:.0f} MiB"
        if seconds < SECONDS:
            return
    pytest.fail(f"{seconds:.1f} s")


@pytest.mark.parametrize("form", small())
def test_cuts(form: str) -> None:
    data = small()[form]
    ends = sorted({*range(min(len(data), 400)), *range(0, len(data), 97), len(data) - 1})
    for end in ends:
        taken = try_out(data[:end])
        assert not taken or form == "splat", f"{end} of {len(data)} bytes"


@pytest.mark.parametrize("form", small())
def test_flips(form: str) -> None:
    """Without a checksum in the format a flip may give other Gaussians; what can't be is refused."""
    data = small()[form]
    rng = np.random.default_rng(7)
    for at in [*range(min(len(data), 120)), *rng.integers(0, len(data), 200).tolist()]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(8))
        try_out(bytes(damaged))


@pytest.mark.parametrize("form", small())
def test_splices(form: str) -> None:
    data = small()[form]
    rng = np.random.default_rng(8)
    for _ in range(60):
        start, size = int(rng.integers(len(data))), int(rng.integers(1, 200))
        piece = rng.integers(0, 256, int(rng.integers(0, 200)), np.uint8).tobytes()
        try_out(data[:start] + piece + data[start + size :])


# ---- bombs


def _zeros(n: int) -> Iterator[bytes]:
    for _ in range(n >> 20):
        yield bytes(1 << 20)


def _gzip_bomb(head: bytes, n_bytes: int) -> bytes:
    deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join([deflate.compress(head), *(deflate.compress(part) for part in _zeros(n_bytes)), deflate.flush()])


def _zstd_bomb(n_bytes: int) -> bytes:
    pack = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join([*(pack.compress(part) for part in _zeros(n_bytes)), pack.flush()])


def _new_spz(n: int, frames: list[bytes], sizes: list[int]) -> bytes:
    toc = b"".join(struct.pack("<QQ", len(f), s) for f, s in zip(frames, sizes, strict=True))
    return b"NGSP" + struct.pack("<IIBBBBI", 4, n, 0, 12, 0, 5, 32) + bytes(12) + toc + b"".join(frames)


def _deflated(parts: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _large_picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", (8192, 4096)).save(stream, "WEBP", lossless=True, quality=0, method=0)
    return stream.getvalue()


HEAD = b"NGSP" + struct.pack("<IIBBBB", 3, 3, 0, 12, 0, 0)
MANY = (1 << 32) - 1
FRAME = zstandard.ZstdCompressor().compress(bytes(9))
SIZES = (9, 1, 3, 3, 4)  # bytes of an attribute of SPZ
BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: _gzip_bomb(HEAD, 128 * MIB),
    "gzip with a large count": lambda: _gzip_bomb(HEAD[:8] + struct.pack("<I", MANY) + HEAD[12:], 8 * MIB),
    "gzip with a million": lambda: _gzip_bomb(HEAD[:8] + struct.pack("<I", 1_000_000) + HEAD[12:], 20 * MIB),
    "zstd": lambda: _new_spz(3, [_zstd_bomb(128 * MIB), *[FRAME] * 4], [3 * size for size in SIZES]),
    "zstd with a large count": lambda: _new_spz(MANY, [FRAME] * 5, [MANY * size for size in SIZES]),
    "ply of 2^31": lambda: ply.write(scene(3, 0)).replace(b"vertex 3", b"vertex 2147483648"),
    "ply with many properties": lambda: (
        b"ply\nformat ascii 1.0\nelement vertex 1\n" + b"property float a\n" * 7000 + b"end_header\n"
    ),
    "ply of text": lambda: b"ply\nformat ascii 1.0\nelement vertex 16777216\nproperty float x\nend_header\n",
    "zip": lambda: _deflated({**sog_parts(40, 0), "meta.json": bytes(128 * MIB)}),
    "zip of a picture": lambda: _deflated({**sog_parts(40, 0), "sh0.webp": bytes(128 * MIB)}),
    "webp": lambda: bundle({**sog_parts(40, 0), "sh0.webp": _large_picture()}),
    "sog with a large count": lambda: bundle(changed_meta(sog_parts(40, 0), count=16_000_000)),
    "gzip of gzip": lambda: gzip.compress(_gzip_bomb(b"", 8 * MIB)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    data = BOMBS[name]()

    def read() -> None:
        with pytest.raises(MediaError):
            open_source(data)

    bounded(read)
