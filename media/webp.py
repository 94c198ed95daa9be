"""Lossless WebP of 8-bit arrays, as codecs use it for planes of their own."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import MediaError

__all__ = ["decode_webp", "encode_webp"]


def encode_webp(array: NDArray[np.uint8], method: int = 4, effort: int = 75) -> bytes:
    """The lossless WebP of (H, W) or (H, W, 3) uint8, sides up to 16383. method 0..6, effort 0..100: libwebp's."""
    stream = io.BytesIO()
    image = Image.fromarray(array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2))
    image.save(stream, "WEBP", lossless=True, quality=effort, method=method)
    return stream.getvalue()


def decode_webp(data: bytes | memoryview, height: int, width: int) -> NDArray[np.uint8]:
    """The array that `encode_webp` was given, as (H, W, 3). MediaError, before it is decoded, for any other WebP."""
    data = bytes(data)
    bits = int.from_bytes(data[21:25], "little")
    fields = (data[:4], data[8:16], data[20:21], (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, bits >> 28)
    if len(data) < 25 or fields != (b"RIFF", b"WEBPVP8L", b"\x2f", height, width, 0):
        raise MediaError(f"not a plain lossless WebP of {width}x{height}")
    if int.from_bytes(data[4:8], "little") != len(data) - 8:
        raise MediaError("a WebP of another length than it says")
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's boundary: what it raises on damage isn't specified
        raise MediaError(f"a damaged WebP ({error})") from error
