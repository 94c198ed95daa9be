"""YUV4MPEG2 (Y4M): raw frames behind one line of text, for pipes. 8 bits, progressive."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from ...errors import MediaError
from .values import FULL, LIMITED, Pixels, Planes, VideoInfo, check_frame_size

__all__ = ["MAGIC", "Y4mHeader", "frame_bytes", "header_of", "read_frames", "read_header"]

MAGIC = b"YUV4MPEG2"
_FRAME = b"FRAME"
_MAX_LINE = 1024
_CHROMA = {  # tag C: rows and columns of luma that share a sample of chroma; None: no chroma
    "420": (2, 2),
    "420jpeg": (2, 2),
    "420mpeg2": (2, 2),
    "420paldv": (2, 2),
    "422": (1, 2),
    "444": (1, 1),
    "mono": None,
}
_PLACES = {"420mpeg2": 1, "420jpeg": 2, "420paldv": 3}  # of the chroma samples, as FFmpeg numbers them


@dataclass(frozen=True)
class Y4mHeader:
    """The first line of a Y4M. chroma: a key of _CHROMA. n_bytes: of the line."""

    info: VideoInfo
    chroma: str
    n_bytes: int

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shapes of the planes in the file."""
        height, width = self.info.height, self.info.width
        shared = _CHROMA[self.chroma]
        if shared is None:
            return [(height, width)]
        return [(height, width), *[(-(-height // shared[0]), -(-width // shared[1]))] * 2]


def read_header(stream: BinaryIO) -> Y4mHeader:
    """The first line, read. info.pixels is what the planes are to become: rgb24 for 4:2:2 and 4:4:4."""
    line = stream.readline(_MAX_LINE)
    words = line[:-1].decode("ascii", "replace").split(" ")
    if not line.endswith(b"\n") or words[0].encode() != MAGIC:
        raise MediaError("a Y4M whose first line is damaged, or longer than 1024 bytes")
    tags = {word[0]: word[1:] for word in words[1:] if word and word[0] != "X"}
    extra = {key: value for key, _, value in (word[1:].partition("=") for word in words[1:] if word[:1] == "X")}
    try:
        width, height = int(tags["W"]), int(tags["H"])
        rate = _ratio(tags.get("F", "25:1"))
        aspect = _ratio(tags.get("A", "0:0"))
    except (KeyError, ValueError):
        raise MediaError(f"a Y4M whose first line is damaged: {line[:80]!r}") from None
    check_frame_size(width, height)
    chroma = tags.get("C", "420")
    if chroma not in _CHROMA:
        raise MediaError(
            f"a Y4M of C{chroma}; expected 8 bits without transparency, C{', C'.join(_CHROMA)}: "
            "ffmpeg -i IN -pix_fmt yuv420p OUT.y4m"
        )
    if tags.get("I", "p") == "m":
        raise MediaError(
            "some of its frames are interlaced, and FFmpeg doesn't read that in a Y4M: make it of its source"
        )
    if tags.get("I", "p") not in ("p", "?"):
        raise MediaError("interlaced: ffmpeg -i IN -vf bwdif OUT.y4m makes whole frames of it")
    color: dict[str, int] = {}
    if chroma in _PLACES:
        color["chroma"] = _PLACES[chroma]
    if "COLORRANGE" in extra:
        color["range"] = FULL if extra["COLORRANGE"].upper() == "FULL" else LIMITED
    pixels: Pixels = "yuv420p" if chroma.startswith("420") else "gray" if chroma == "mono" else "rgb24"
    rate = rate or Fraction(25)
    return Y4mHeader(
        VideoInfo(width, height, pixels, 1 / rate, rate, color, aspect if aspect not in (None, 1) else None),
        chroma,
        len(line),
    )


def _ratio(text: str) -> Fraction | None:
    match = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text)
    if not match:
        raise ValueError(text)
    over, under = map(int, match.groups())
    return Fraction(over, under) if over and under else None


def read_frames(stream: BinaryIO, header: Y4mHeader) -> Iterator[Planes | None]:
    """The planes as they are in the file, frame by frame; None at the end if the last frame isn't whole."""
    shapes = header.shapes
    while line := stream.readline(_MAX_LINE):
        if not line.startswith(_FRAME) or not line.endswith(b"\n"):
            if len(line) < len(_FRAME) and _FRAME.startswith(line):
                yield None
                return
            raise MediaError(f"a damaged Y4M: {line[:16]!r} where FRAME was expected")
        planes = []
        for rows, columns in shapes:
            data = _read_whole(stream, rows * columns)
            if data is None:
                yield None
                return
            planes.append(np.frombuffer(data, np.uint8).reshape(rows, columns))
        yield tuple(planes)


def _read_whole(stream: BinaryIO, n_bytes: int) -> bytes | None:
    """So many bytes of a stream, or None if it ends before. Pipes give less than was asked for, a part at a time."""
    data = stream.read(n_bytes)
    if len(data) == n_bytes:
        return data
    parts, missing = [data], n_bytes - len(data)
    while missing and (data := stream.read(missing)):
        parts.append(data)
        missing -= len(data)
    return None if missing else b"".join(parts)


def header_of(info: VideoInfo, rate: Fraction) -> bytes:
    """The first line for frames of `info`; rgb24 becomes 4:4:4."""
    chroma = {"yuv420p": "420jpeg", "gray": "mono", "rgb24": "444"}[info.pixels]
    if info.pixels == "yuv420p":
        chroma = {place: name for name, place in _PLACES.items()}.get(info.color.get("chroma", 0), chroma)
    aspect = info.sample_aspect or Fraction(1)
    words = [MAGIC.decode(), f"W{info.width}", f"H{info.height}", f"F{rate.numerator}:{rate.denominator}", "Ip"]
    words += [f"A{aspect.numerator}:{aspect.denominator}", f"C{chroma}"]
    if info.pixels == "rgb24" or "range" in info.color:
        full = info.pixels != "rgb24" and info.color["range"] == FULL
        words.append(f"XCOLORRANGE={'FULL' if full else 'LIMITED'}")
    return " ".join(words).encode() + b"\n"


def frame_bytes(planes: Planes) -> bytes:
    return b"".join([_FRAME + b"\n", *[plane.tobytes() for plane in planes]])
