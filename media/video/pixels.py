"""Pixels of a decoded frame: which of our three kinds they become, their colour, and the way the frame is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ..notes import Note
from .values import FULL, Pixels, Planes, VideoInfo, yuv_to_rgb

if TYPE_CHECKING:
    from av import VideoFrame

__all__ = ["kind_of", "planes_of", "shown", "turn_of"]

Turn = tuple[bool, bool, bool]
Advice = Callable[[str], str]  # the command that makes another file of this one, by options of its encoder

_HDR = {16: "PQ", 18: "HLG"}
# Channel of the first plane that holds red, green and blue.
_PACKED = {
    "rgb24": (0, 1, 2),
    "bgr24": (2, 1, 0),
    "rgb0": (0, 1, 2),
    "bgr0": (2, 1, 0),
    "0rgb": (1, 2, 3),
    "0bgr": (3, 2, 1),
}
_HALVED = {"yuv422p": (1, 2), "yuv440p": (2, 1), "yuv444p": (1, 1)}  # rows and columns that share a sample of chroma
_REPACKED = {"nv12": "yuv420p", "nv21": "yuv420p", "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p"}
_TONEMAP = "zscale=t=linear:npl=100,tonemap=hable,zscale=p=709:t=709:m=709:r=tv,format=yuv420p"


def kind_of(frame: VideoFrame, context: Any, advice: Advice) -> tuple[Pixels, dict[str, int], list[Note]]:
    """The kind of pixels that frames become, the colour that is kept, and notes. MediaError for what isn't taken.

    context: of the decoder, which knows what frames of an older PyAV don't.
    """
    name = frame.format.name
    color = {}
    for key, value, unknown in (
        ("range", int(frame.color_range), 0),
        ("matrix", int(frame.colorspace), 2),
        ("primaries", int(getattr(frame, "color_primaries", context.color_primaries)), 2),
        ("transfer", int(getattr(frame, "color_trc", context.color_trc)), 2),
    ):
        if value not in (unknown, 0):
            color[key] = value
    if (hdr := _HDR.get(color.get("transfer", 0))) is not None:
        raise MediaError(f"HDR ({hdr}): {advice(f'-filter:v:0 {_TONEMAP}')} makes 8-bit BT.709 of it")
    if frame.interlaced_frame:
        raise MediaError(f"interlaced: {advice('-filter:v:0 bwdif')} makes whole frames of it")
    plain = _plain(name)
    if name.startswith("yuvj"):
        color["range"] = FULL
    if plain == "yuv420p":
        return "yuv420p", color, []
    if plain in ("gray", "gray8"):
        return "gray", color, []
    if plain in _PACKED or plain == "gbrp":
        return "rgb24", {key: value for key, value in color.items() if key in ("primaries", "transfer")}, []
    if plain in _HALVED:
        kept = {key: value for key, value in color.items() if key in ("primaries", "transfer")}
        return "rgb24", kept, [Note("chroma", f"{name}: converted to RGB, 8 bits")]
    rgb = "rgb" in name or "bgr" in name or name.startswith(("gbr", "pal", "argb", "abgr"))
    fitting = advice(f"-pix_fmt {'bgr0' if rgb else 'yuv420p'}")
    clear = any(getattr(component, "is_alpha", False) for component in frame.format.components) or name == "pal8"
    drops = ", which drops the transparency" if clear else ""
    bits = max((component.bits for component in frame.format.components), default=0)
    if bits > 8:
        words = "8 bits without transparency" if clear else "8"
        raise MediaError(f"{name}, {bits} bits; expected {words}: {fitting}{drops}")
    raise MediaError(
        f"frames of {name}; expected 8 bits without transparency, RGB, grey or YUV 4:2:0, 4:2:2 or 4:4:4: "
        f"{fitting}{drops}"
    )


def _plain(name: str) -> str:
    return _REPACKED.get(name, name.replace("yuvj", "yuv"))


def planes_of(frame: VideoFrame, info: VideoInfo) -> Planes:
    """The planes of a frame as `info.pixels` says, not yet turned."""
    if frame.format.name in _REPACKED:
        frame = frame.reformat(format=_REPACKED[frame.format.name])
    name, height, width = _plain(frame.format.name), frame.height, frame.width
    chroma = (-(-height // 2), -(-width // 2))
    if name in _PACKED:
        n = 3 if name in ("rgb24", "bgr24") else 4
        pixels = _plane(frame, 0, height, n * width).reshape(height, width, n)
        return (np.ascontiguousarray(pixels[:, :, list(_PACKED[name])]),)
    if name == "gbrp":
        green, blue, red = (_plane(frame, index, height, width) for index in range(3))
        return (np.stack([red, green, blue], axis=2),)
    if name == "yuv420p":
        return (_plane(frame, 0, height, width), *(_plane(frame, index, *chroma) for index in (1, 2)))
    if name in ("gray", "gray8"):
        return (_plane(frame, 0, height, width),)
    rows, columns = _HALVED[name]
    yuv = [_plane(frame, 0, height, width)]
    yuv += [_plane(frame, index, -(-height // rows), -(-width // columns)) for index in (1, 2)]
    matrix = int(frame.colorspace)
    full = frame.format.name.startswith("yuvj") or int(frame.color_range) == FULL
    return (yuv_to_rgb(tuple(yuv), matrix if matrix != 2 else info.matrix, full),)


def _plane(frame: VideoFrame, index: int, height: int, width: int) -> NDArray[np.uint8]:
    """A copy of a plane, (height, width), without what pads the rows."""
    plane: Any = frame.planes[index]
    line = plane.line_size
    if line < width:
        raise MediaError(f"rows of {line} bytes; expected at least {width}")
    data = np.frombuffer(plane, np.uint8)
    if data.size < (height - 1) * line + width:
        raise MediaError(f"a plane of {data.size} bytes; expected {height} rows of {line}")
    return np.lib.stride_tricks.as_strided(data, (height, width), (line, 1)).copy()


def turn_of(frame: VideoFrame, advice: Advice) -> Turn:
    """The way a frame is to be shown: whether with rows and columns exchanged, then upside down, then mirrored."""
    data = frame.side_data.get("DISPLAYMATRIX")  # pyright: ignore[reportCallIssue, reportArgumentType]
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if (b, c) == (0, 0) and a and d:
        return False, d < 0, a < 0
    if (a, d) == (0, 0) and b and c:
        return True, b < 0, c < 0
    raise MediaError(f"turned by an angle that isn't a multiple of 90 degrees: {advice('')}")


def shown(planes: Planes, crop: Mapping[str, int], turn: Turn) -> Planes:
    """The planes as they are shown: what the container crops is cut off, and then they are turned.

    Chroma of an odd crop, or of an odd side that is reversed, stays with its pixels, half of one off.
    """
    out = []
    height, width = planes[0].shape[:2]
    exchanged, upside_down, mirrored = turn
    for plane in planes:
        if crop:
            rows, columns = -(-height // plane.shape[0]), -(-width // plane.shape[1])
            top, left = crop.get("top", 0) // rows, crop.get("left", 0) // columns
            bottom = top - (-(height - crop.get("top", 0) - crop.get("bottom", 0)) // rows)
            right = left - (-(width - crop.get("left", 0) - crop.get("right", 0)) // columns)
            plane = plane[top:bottom, left:right]
        if exchanged:
            plane = plane.swapaxes(0, 1)
        if upside_down:
            plane = plane[::-1]
        if mirrored:
            plane = plane[:, ::-1]
        out.append(np.ascontiguousarray(plane))
    return tuple(out)
