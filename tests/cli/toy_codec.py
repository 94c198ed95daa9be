"""The command line with one lossless toy codec in its registry: quick, and without weights or torch.

Tests run it as a script (worker processes then import it again and have the toy too) or load it as a module.
A picture's first pixel makes the toy misbehave, so that a test can place a failure in the middle of a batch.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec import registry
from codec.codecs.base.codec import EncodedPixels
from codec.codecs.base.image import ImageCodec
from codec.codecs.base.settings import IMAGE_SETTINGS, Card
from codec.container import Chunk, Header
from codec.errors import StreamError, UsageError

DIES = (1, 2, 3)  # the worker process disappears
MISTAKE = (4, 5, 6)  # an exception that is no CodecError
SLOW = (7, 8, 9)  # takes ten seconds


class ToyCodec(ImageCodec):
    """zlib over the pixels."""

    name, stream = "toy", 1
    critical_chunks = frozenset({"Toyp"})

    def __init__(self, weights: bytes) -> None:
        self._weights = weights

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> ToyCodec:
        if quality is not None and not 0 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: expected 0 to 100")
        return cls(bytes(16) if weights is None else weights.read_bytes()[:16])

    @property
    def weights_id(self) -> bytes:
        return b"" if self._weights == bytes(16) else self._weights

    def encode_pixels(self, pixels: NDArray[Any], quality: float | None) -> EncodedPixels:
        first = tuple(int(v) for v in pixels[0, 0])
        if first == DIES:
            os._exit(9)
        if first == MISTAKE:
            raise ZeroDivisionError("a mistake")
        if first == SLOW:
            time.sleep(10)
        return EncodedPixels([Chunk("Toyp", zlib.compress(pixels.tobytes()))])

    def decode_pixels(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        height, width = header.shape[:2]
        if [chunk.tag for chunk in chunks] != ["Toyp"]:
            raise StreamError("expected one chunk of pixels")
        try:
            raw = zlib.decompress(chunks[0].payload)
            return np.frombuffer(raw, header.dtype).reshape(height, width, 3)
        except (zlib.error, ValueError) as error:
            raise StreamError(f"the pixels are damaged: {error}") from error


def install() -> None:
    """Put the toy into the registry, as the only codec and the default."""
    card = Card("toy", "image", ".toy", "a toy", f"{__name__}:ToyCodec", settings=IMAGE_SETTINGS, default=True)
    registry._families = lambda: ()
    registry._ours = lambda: {"toy": card}
    registry._plugins = lambda: ({}, {})


if __name__ in ("__main__", "__mp_main__"):
    install()

if __name__ == "__main__":
    from codec.cli import main

    sys.exit(main())
