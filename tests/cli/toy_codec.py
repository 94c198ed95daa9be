"""The command line with one lossless toy codec in its registry: quick, and without weights or torch.

Tests run it as a script (worker processes then import it again and have the toy too) or load it as a module.
A picture's first pixel makes the toy misbehave, so that a test can place a failure in the middle of a batch.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec import registry
from codec.codecs.base.codec import EncodedPixels, Summary
from codec.codecs.base.image import ImageCodec
from codec.codecs.base.progress import Step
from codec.codecs.base.settings import IMAGE_SETTINGS, Card
from codec.container import Chunk, Header
from codec.errors import StreamError, UsageError
from codec.media.image import read_picture
from codec.media.notes import Note

DIES = (1, 2, 3)  # the worker process disappears
MISTAKE = (4, 5, 6)  # an exception that is no CodecError
SLOW = (7, 8, 9)  # takes ten seconds
DIES_ONCE = (10, 11, 12)  # the worker process disappears, but not a second time: TOY_MARK names a file it leaves
WARNS = (13, 14, 15)  # a library complains to Python
NOTED = (16, 17, 18)  # something is left out, and said
CUT = (19, 20, 21)  # a part is missing, and said


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

    def encode_file(self, source: Any, target: Any, report: Any = None, replace: bool = False) -> Summary:
        summary = super().encode_file(source, target, report, replace)
        if report is not None:
            report(Step(0.5, "half of it"))
        first = tuple(int(v) for v in read_picture(source).pixels[0, 0]) if os.path.isfile(source) else ()
        notes: dict[tuple[int, ...], list[Note]] = {
            NOTED: [Note("metadata", f"XMP of {source} is left out"), Note("colour", "sRGB")]
        }
        notes[CUT] = [Note("cut", "5 of 9 rows")]
        return dataclasses.replace(summary, notes=notes.get(first, ()))

    def encode_pixels(self, pixels: NDArray[Any], quality: float | None) -> EncodedPixels:
        first = tuple(int(v) for v in pixels[0, 0])
        if first == DIES:
            os._exit(9)
        if first == MISTAKE:
            raise ZeroDivisionError("a mistake")
        if first == SLOW:
            time.sleep(10)
        if first == DIES_ONCE and not os.path.exists(os.environ["TOY_MARK"]):
            Path(os.environ["TOY_MARK"]).write_text("dead")
            os._exit(9)
        if first == WARNS:
            warnings.warn("a library's complaint", stacklevel=1)
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
