"""A picture as a value: pixels, transparency, colour profile, EXIF; and how large it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from .notes import Note

__all__ = ["MAX_PIXELS", "MAX_SIDE", "Picture", "check_size"]

MAX_PIXELS = 1 << 28
MAX_SIDE = (1 << 20) - 1


@dataclass(frozen=True)
class Picture:
    """A still picture. Values are sRGB, or what `icc` says.

    pixels: (H, W, 1) or (H, W, 3), uint8 or uint16, without transparency. alpha: (H, W) of the same dtype, or None.
    exif: a TIFF structure, without the "Exif" prefix; its orientation is already applied and removed. notes: what the
    file that it was read from had besides, and what was changed. xmp: a packet of XML. dpi: pixels an inch, across and
    down. code_points: what no profile can say of the colours, as in a PNG's cICP (primaries, transfer, matrix, range;
    ITU-T H.273), 4 bytes. text: pairs of a keyword and a text.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    notes: tuple[Note, ...] = ()
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    code_points: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
            raise MediaError(f"pixels are {pixels.dtype} {pixels.shape}; expected uint8 or uint16, (H, W, 1 or 3)")
        if alpha is not None and (alpha.dtype != pixels.dtype or alpha.shape != pixels.shape[:2]):
            raise MediaError(f"alpha is {alpha.dtype} {alpha.shape}; expected {pixels.dtype} {pixels.shape[:2]}")
        check_size(pixels.shape[1], pixels.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape with transparency: (H, W, 1 to 4)."""
        height, width, channels = self.pixels.shape
        return height, width, channels + (self.alpha is not None)

    def stacked(self) -> NDArray[Any]:
        """The pixels with transparency behind them: (H, W, 1 to 4)."""
        return self.pixels if self.alpha is None else np.dstack((self.pixels, self.alpha))

    @staticmethod
    def from_stacked(array: NDArray[Any], icc: bytes | None = None, exif: bytes | None = None) -> Picture:
        """The picture of an array, (H, W, 1 to 4), uint8 or uint16; 2 and 4 channels have alpha last."""
        if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
            raise MediaError(f"an array of shape {array.shape}; expected (H, W, 1 to 4)")
        channels = array.shape[2]
        if channels in (1, 3):
            return Picture(array, None, icc, exif)
        return Picture(
            np.ascontiguousarray(array[:, :, : channels - 1]), np.ascontiguousarray(array[:, :, -1]), icc, exif
        )


def check_size(width: int, height: int) -> None:
    """Raise MediaError unless a picture of this size is within our caps."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or width * height > MAX_PIXELS:
        raise MediaError(
            f"a picture of {width}x{height}; expected sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels: "
            "cut it into parts"
        )
