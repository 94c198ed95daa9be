"""PNG with 16 bits a channel, which Pillow neither reads nor writes in colour."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from .bands import bands
from .values import Picture

__all__ = ["PNG", "read_png16", "write_png16"]

PNG = b"\x89PNG\r\n\x1a\n"


def read_png16(stream: BinaryIO, size: tuple[int, int]) -> NDArray[np.uint16]:
    """The pixels of a 16-bit PNG, (H, W, C), C = 2, 3 or 4."""
    import av

    channels = {"ya16be": 2, "rgb48be": 3, "rgba64be": 4}
    with av.open(stream, format="png_pipe") as container:
        frame = next(container.decode(video=0))
    if frame.format.name not in channels or (frame.width, frame.height) != size:
        raise MediaError(f"a 16-bit PNG that FFmpeg reads as {frame.format.name} {frame.width}x{frame.height}")
    plane, n = frame.planes[0], channels[frame.format.name]
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * frame.height].reshape(frame.height, plane.line_size)
    return rows[:, : 2 * n * frame.width].copy().view(">u2").reshape(frame.height, frame.width, n).astype(np.uint16)


def write_png16(picture: Picture, stream: BinaryIO) -> None:
    """Write a 16-bit PNG of any channel count (PNG specification, third edition), with iCCP and eXIf."""
    height, width, channels = picture.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    stream.write(PNG)
    _png_chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    if picture.icc:
        _png_chunk(stream, b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(picture.icc))
    if picture.exif:
        _png_chunk(stream, b"eXIf", picture.exif)
    zipper = zlib.compressobj(6)
    above = np.zeros((1, width * channels * 2), np.uint8)
    for top, bottom in bands(height, width * channels):
        parts = [picture.pixels[top:bottom]]
        if picture.alpha is not None:
            parts.append(picture.alpha[top:bottom, :, None])
        rows = np.concatenate(parts, axis=2).astype(">u2").view(np.uint8).reshape(bottom - top, -1)
        previous = np.concatenate((above, rows[:-1]))
        filtered = _png_filter(rows, previous, 2 * channels)
        above = rows[-1:]
        if packed := zipper.compress(filtered.tobytes()):
            _png_chunk(stream, b"IDAT", packed)
    _png_chunk(stream, b"IDAT", zipper.flush())
    _png_chunk(stream, b"IEND", b"")


def _png_filter(rows: NDArray[np.uint8], previous: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Filtered rows, (n, bytes a row + 1), each behind the number of its filter (0 none, 1 left, 2 above, 4 Paeth).

    Chosen as the PNG specification advises: least sum of absolute differences.
    """
    left = np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    corner = np.zeros_like(rows)
    corner[:, step:] = previous[:, :-step]
    a, b, c = left.astype(np.int16), previous.astype(np.int16), corner.astype(np.int16)
    to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    paeth = np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, previous, corner))
    options = np.stack([rows, rows - left, rows - previous, rows - paeth])
    cost = np.abs(options.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = cost.argmin(axis=0)
    out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    out[:, 0] = np.array([0, 1, 2, 4], np.uint8)[best]
    out[:, 1:] = np.take_along_axis(options, best[None, :, None], axis=0)[0]
    return out


def _png_chunk(stream: BinaryIO, tag: bytes, payload: bytes) -> None:
    stream.write(struct.pack(">I", len(payload)) + tag + payload)
    stream.write(struct.pack(">I", zlib.crc32(payload, zlib.crc32(tag))))
