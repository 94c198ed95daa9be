"""Values of video: what a video is, its frames, arrays of frames, and one fixed conversion between YUV and RGB.

The conversion is integer arithmetic (16 bits behind the point, rounded to nearest), the same on every machine. Chroma
is averaged over the 2x2 pixels that share it and repeated on the way back, so that YUV -> RGB -> YUV returns every
sample to within rounding (and clipping, where the colour isn't one of RGB's). The matrix is the one that the video
names: BT.601, BT.709, FCC, SMPTE 240M or BT.2020; a video that names none has BT.709 from 720 lines on and BT.601
below, as players assume.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ..bands import bands
from ..notes import Note

__all__ = [
    "FULL",
    "LIMITED",
    "MAX_PIXELS",
    "MAX_SIDE",
    "Chapter",
    "Frame",
    "Pixels",
    "Planes",
    "VideoInfo",
    "check_frame_size",
    "frames_of",
    "plane_shapes",
    "stack",
    "to_rgb",
    "to_yuv420",
    "to_yuv444",
    "yuv_to_rgb",
]

Pixels = Literal["rgb24", "yuv420p", "gray"]
# rgb24: one (H, W, 3); gray: one (H, W); yuv420p: Y (H, W), U and V (ceil(H/2), ceil(W/2)); uint8
Planes = tuple[NDArray[np.uint8], ...]

MAX_SIDE = 16384
MAX_PIXELS = 1 << 26  # of a frame: twice 8K
MAX_STACK = 1 << 32  # bytes of an array of frames
LIMITED, FULL = 1, 2  # FFmpeg's numbers for VideoInfo.color["range"]

_BITS = 16
_WEIGHTS = {  # FFmpeg's number of a matrix: weights of red and blue in luma
    1: (Fraction("0.2126"), Fraction("0.0722")),
    4: (Fraction("0.3"), Fraction("0.11")),
    5: (Fraction("0.299"), Fraction("0.114")),
    6: (Fraction("0.299"), Fraction("0.114")),
    7: (Fraction("0.212"), Fraction("0.087")),
    9: (Fraction("0.2627"), Fraction("0.0593")),
}


class Chapter(NamedTuple):
    """A chapter. start, end: seconds from the first picture on."""

    start: Fraction
    end: Fraction
    title: str = ""


@dataclass(frozen=True)
class VideoInfo:
    """The description of a video.

    width, height: as displayed, and as the frames are. time_base: seconds, the unit of Frame.pts. frame_rate: the
    nominal one; frames need not keep it. color: "range" (1 limited, 2 full), "matrix", "primaries", "transfer" and
    "chroma" (the place of the chroma samples: 1 left, 2 centre, 3 top left) as FFmpeg numbers them, those that were
    given. sample_aspect: width of a pixel over its height, None if square. early: seconds by which sound begins before
    the first picture. tags: texts about the whole, such as its title. track: those of the picture's track. chapters:
    parts with a name. notes: what of the source isn't kept as it was.
    """

    width: int
    height: int
    pixels: Pixels
    time_base: Fraction
    frame_rate: Fraction | None = None
    color: Mapping[str, int] = field(default_factory=dict)
    sample_aspect: Fraction | None = None
    notes: tuple[Note, ...] = ()
    early: Fraction = Fraction(0)
    tags: Mapping[str, str] = field(default_factory=dict)
    track: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()

    def __post_init__(self) -> None:
        check_frame_size(self.width, self.height)
        if self.pixels not in ("rgb24", "yuv420p", "gray"):
            raise MediaError(f"pixels {self.pixels!r}; expected rgb24, yuv420p or gray")
        if self.time_base <= 0 or (self.frame_rate is not None and self.frame_rate <= 0):
            raise MediaError(f"time base {self.time_base}, frame rate {self.frame_rate}; expected more than 0")

    @property
    def matrix(self) -> int:
        """The number of the matrix between RGB and YUV, guessed from the size if the video doesn't say."""
        return self.color.get("matrix", 1 if self.height >= 720 else 6)

    @property
    def full_range(self) -> bool:
        """Whether samples use all of 0 to 255. Grey that doesn't say is full, YUV limited."""
        return self.color.get("range", LIMITED if self.pixels == "yuv420p" else FULL) == FULL


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video.

    planes: rgb24 one (H, W, 3); gray one (H, W); yuv420p Y (H, W), U and V (ceil(H/2), ceil(W/2)); uint8.

    pts, duration: in VideoInfo.time_base. The first frame of a video is at 0, pts are strictly rising, and a frame
    lasts until the next one.
    """

    planes: Planes
    pts: int
    duration: int


def check_frame_size(width: int, height: int) -> None:
    """Raise MediaError unless a frame of this size is within our caps."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or width * height > MAX_PIXELS:
        raise MediaError(
            f"frames of {width}x{height}; expected sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels: "
            "make them smaller, ffmpeg -i IN -map 0 -c copy -c:v:0 ffv1 -filter:v:0 scale=3840:-2 OUT.mkv"
        )


def plane_shapes(info: VideoInfo) -> tuple[tuple[int, ...], ...]:
    """The shapes of a frame's planes."""
    if info.pixels == "rgb24":
        return ((info.height, info.width, 3),)
    if info.pixels == "gray":
        return ((info.height, info.width),)
    chroma = (-(-info.height // 2), -(-info.width // 2))
    return ((info.height, info.width), chroma, chroma)


# ---- arrays


def frames_of(array: NDArray[Any], frame_rate: Fraction | int = 25) -> tuple[VideoInfo, Iterator[Frame]]:
    """The description and the frames of an array, (T, H, W, 3) RGB or (T, H, W) grey, uint8, at a constant rate."""
    array = np.asarray(array)
    if (
        array.dtype != np.uint8
        or 0 in array.shape
        or not (array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3))
    ):
        raise MediaError(
            f"an array of {array.dtype} {array.shape}; expected uint8 and (frames, height, width, 3) or "
            "(frames, height, width), not empty"
        )
    rate = Fraction(frame_rate)
    if rate <= 0:
        raise MediaError(f"{frame_rate} frames a second; expected more than 0")
    pixels: Pixels = "rgb24" if array.ndim == 4 else "gray"
    info = VideoInfo(array.shape[2], array.shape[1], pixels, 1 / rate, rate)
    return info, (Frame((np.ascontiguousarray(picture),), index, 1) for index, picture in enumerate(array))


def stack(info: VideoInfo, frames: Iterable[Frame]) -> NDArray[np.uint8]:
    """The array of all frames: (T, H, W, 3) RGB, yuv420p converted by `to_rgb`; (T, H, W) for gray."""
    pictures: list[NDArray[np.uint8]] = []
    for frame in frames:
        picture = frame.planes[0] if info.pixels == "gray" else to_rgb(frame, info)
        if (len(pictures) + 1) * picture.size > MAX_STACK:
            raise MediaError(f"more than {MAX_STACK} bytes of frames for one array: take fewer, --frames 0:100")
        pictures.append(picture)
    if not pictures:
        raise MediaError("no frames; expected at least one")
    return np.stack(pictures)


# ---- colour


def to_rgb(frame: Frame, info: VideoInfo) -> NDArray[np.uint8]:
    """The frame as RGB, (H, W, 3) uint8, full range. rgb24 is given back as it is."""
    if info.pixels == "rgb24":
        return frame.planes[0]
    if info.pixels == "gray" and info.full_range:
        return np.repeat(frame.planes[0][:, :, None], 3, axis=2)
    return yuv_to_rgb(frame.planes, info.matrix, info.full_range)


def yuv_to_rgb(planes: Planes, matrix: int, full_range: bool) -> NDArray[np.uint8]:
    """RGB, (H, W, 3), of luma and two planes of chroma with half or all of its rows and columns; or of luma alone."""
    luma = planes[0]
    height, width = luma.shape
    red, blue = _weights(matrix)
    green = 1 - red - blue
    y_scale = _fixed(Fraction(1) if full_range else Fraction(255, 219))
    c_scale = Fraction(1) if full_range else Fraction(255, 224)
    to_red, to_blue = _fixed(2 * (1 - red) * c_scale), _fixed(2 * (1 - blue) * c_scale)
    u_to_green = _fixed(2 * (1 - blue) * blue / green * c_scale)
    v_to_green = _fixed(2 * (1 - red) * red / green * c_scale)
    rgb = np.empty((height, width, 3), np.uint8)
    for top, bottom in bands(height, width):
        y = (luma[top:bottom].astype(np.int32) - (0 if full_range else 16)) * y_scale + (1 << (_BITS - 1))
        if len(planes) == 1:
            rgb[top:bottom] = np.clip(y >> _BITS, 0, 255)[:, :, None]
            continue
        u, v = (_spread(plane, top, bottom, height, width) for plane in planes[1:3])
        rgb[top:bottom, :, 0] = np.clip((y + to_red * v) >> _BITS, 0, 255)
        rgb[top:bottom, :, 1] = np.clip((y - u_to_green * u - v_to_green * v) >> _BITS, 0, 255)
        rgb[top:bottom, :, 2] = np.clip((y + to_blue * u) >> _BITS, 0, 255)
    return rgb


def to_yuv420(rgb: NDArray[np.uint8], info: VideoInfo) -> Planes:
    """Y (H, W), U and V (ceil(H/2), ceil(W/2)) of RGB, (H, W, 3).

    They are in the matrix of `info` and the range that it names, or else limited range.
    """
    height, width, _ = rgb.shape
    luma = np.empty((height, width), np.uint8)
    chroma = np.empty((2, -(-height // 2), -(-width // 2)), np.uint8)
    weights, black = _to_yuv(info)
    for top, bottom in bands(chroma.shape[1], 6 * width):
        part = rgb[2 * top : 2 * bottom].astype(np.int32)
        luma[2 * top : 2 * bottom] = _weighted(part, weights[0], black)
        part = np.pad(part, ((0, part.shape[0] % 2), (0, width % 2), (0, 0)), mode="edge")
        part = part[::2, ::2] + part[1::2, ::2] + part[::2, 1::2] + part[1::2, 1::2]
        for plane, row in zip(chroma, weights[1:], strict=True):
            plane[top:bottom] = _weighted(part, row, 128, 2)
    return luma, chroma[0], chroma[1]


def to_yuv444(rgb: NDArray[np.uint8], info: VideoInfo) -> Planes:
    """Y, U and V, each (H, W), of RGB, (H, W, 3); matrix and range are as for `to_yuv420`."""
    weights, black = _to_yuv(info)
    planes = np.empty((3, *rgb.shape[:2]), np.uint8)
    for top, bottom in bands(rgb.shape[0], 3 * rgb.shape[1]):
        part = rgb[top:bottom].astype(np.int32)
        for plane, row, offset in zip(planes, weights, (black, 128, 128), strict=True):
            plane[top:bottom] = _weighted(part, row, offset)
    return planes[0], planes[1], planes[2]


def _to_yuv(info: VideoInfo) -> tuple[list[tuple[int, int, int]], int]:
    """The weights of R, G and B in Y, U and V, and the value of black.

    Green's make up the rest, so that white is white and grey has no colour.
    """
    full_range = info.color.get("range", LIMITED) == FULL
    red, blue = _weights(info.matrix)
    y_scale, c_scale = (Fraction(1), Fraction(1)) if full_range else (Fraction(219, 255), Fraction(224, 255))
    y_red, y_blue, y_all = _fixed(red * y_scale), _fixed(blue * y_scale), _fixed(y_scale)
    half = _fixed(c_scale / 2)
    u_red, v_blue = -_fixed(red / (1 - blue) / 2 * c_scale), -_fixed(blue / (1 - red) / 2 * c_scale)
    rows = [(y_red, y_all - y_red - y_blue, y_blue), (u_red, -half - u_red, half), (half, -half - v_blue, v_blue)]
    return rows, 0 if full_range else 16


def _weighted(rgb: NDArray[np.int32], weights: tuple[int, int, int], offset: int, shift: int = 0) -> NDArray[np.int32]:
    """A weighted sum for each (R, G, B), which is the sum of 1 << shift pixels: (H, W), 0 to 255."""
    bits = _BITS + shift
    total = rgb[:, :, 0] * weights[0] + rgb[:, :, 1] * weights[1] + rgb[:, :, 2] * weights[2]
    return np.clip(((total + (1 << (bits - 1))) >> bits) + offset, 0, 255)


def _weights(matrix: int) -> tuple[Fraction, Fraction]:
    if matrix not in _WEIGHTS:
        raise MediaError(
            f"colours of matrix {matrix} (FFmpeg's number); expected one of {', '.join(map(str, sorted(_WEIGHTS)))}: "
            "ffmpeg -i IN -map 0 -c copy -c:v:0 ffv1 -filter:v:0 scale=out_color_matrix=bt709 -colorspace bt709 OUT.mkv"
        )
    return _WEIGHTS[matrix]


def _fixed(value: Fraction) -> int:
    return round(value * (1 << _BITS))


def _spread(plane: NDArray[np.uint8], top: int, bottom: int, height: int, width: int) -> NDArray[np.int32]:
    """The rows top to bottom of chroma, repeated to the size of luma, centred on 0."""
    rows = -(-height // plane.shape[0])
    columns = -(-width // plane.shape[1])
    part = plane[np.arange(top, bottom) // rows]
    if columns > 1:
        part = np.repeat(part, columns, axis=1)[:, :width]
    return part.astype(np.int32) - 128
