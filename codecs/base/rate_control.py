"""Rate control: the quality at which a codec of variable rate hits a size or a PSNR, by a few encodings, not a scan.

    reached = at_size(codec, picture, n_bytes=20_000)     # the largest file of at most 20 kB
    reached = at_bpp(codec, picture, 0.25)
    reached = at_psnr(codec, picture, 34.0)               # the smallest file of at least 34 dB

log2(file size) and PSNR are nearly straight lines over `quality`, so the search interpolates between the two nearest
encodings and keeps the goal between them. A codec that knows some qualities only, its `steps`, is asked at those: the
range is halved until two neighbours are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ...container import unpack
from ...errors import ContainerError, UsageError
from ...media.distortion import psnr, psnr_of_mse
from ...media.values import Picture
from .progress import within

__all__ = ["GOALS", "Reached", "at_bpp", "at_psnr", "at_size"]

MOST = 8  # encodings
OCTAVES = 4.0  # from the lowest to the highest quality, for the first guess; 12 dB are the same


Encode = Callable[[Picture, float], bytes]  # the file of a picture at a quality


class PictureCodec(Protocol):
    """The part of an `ImageCodec` that rate control needs."""

    name: str

    def encode_picture(self, picture: Picture, quality: float | None = None) -> bytes: ...
    def decode_picture(self, data: bytes) -> Picture: ...


@dataclass(frozen=True)
class Reached:
    """The end of a search: a file and how it was found.

    quality: of the file. value: what was asked for, as it came out: bytes, bits per pixel or decibels. encodings: how
    many it took.
    """

    data: bytes
    quality: float
    value: float
    encodings: int


def at_size(
    codec: PictureCodec,
    picture: Picture,
    n_bytes: float,
    quality: tuple[float, float] = (1.0, 100.0),
    tolerance: float = 0.01,
    encode: Encode | None = None,
    steps: Sequence[float] = (),
) -> Reached:
    """The largest file of at most n_bytes, or one that falls short of it by less than `tolerance` of it.

    encode: makes the file of a picture at a quality, in place of the codec's `encode_picture`. steps: the qualities
    there are, rising, in place of a range; the largest file of theirs that fits is taken.
    UsageError if the file of the lowest quality is larger already.
    """

    def measure(q: float) -> tuple[bytes, float]:
        data = (encode or codec.encode_picture)(picture, q)
        return data, math.log2(len(data))

    if steps:
        reached = _halve(measure, math.log2(n_bytes), steps)
    else:
        reached = _search(measure, math.log2(n_bytes), quality, OCTAVES, -math.log2(1 - tolerance))
    if len(reached.data) > n_bytes:
        raise UsageError(
            f"{n_bytes:.0f} bytes are too few: {codec.name} at quality {reached.quality:g} makes {len(reached.data)}"
            + _shares(reached.data)
        )
    return Reached(reached.data, reached.quality, float(len(reached.data)), reached.encodings)


_NAMES = {"icc": "the ICC profile", "exif": "EXIF", "xmp": "XMP", "text": "texts"}


def _shares(data: bytes) -> str:
    """Words for the part of a file that no quality makes smaller: metadata (packed together) and transparency."""
    try:
        header, chunks = unpack(data)
    except ContainerError:
        return ""
    fixed = len(data) - sum(12 + len(chunk.payload) for chunk in chunks)
    parts = {
        _NAMES[key]: len(value) for key, value in header.meta.items() if key in _NAMES and isinstance(value, bytes)
    }
    words = [f"{name} of {size}" for name, size in parts.items()]
    shares = [f"{fixed} are metadata ({', '.join(words)})"] if words else []
    alpha = sum(12 + len(chunk.payload) for chunk in chunks if chunk.tag == "Alph")
    shares += [f"{alpha} are transparency"] if alpha else []
    return f", of which {' and '.join(shares)}" if shares else ""


def at_bpp(
    codec: PictureCodec,
    picture: Picture,
    bpp: float,
    quality: tuple[float, float] = (1.0, 100.0),
    tolerance: float = 0.01,
    encode: Encode | None = None,
    steps: Sequence[float] = (),
) -> Reached:
    """The largest file of at most so many bits per pixel, all bytes counted; the rest is as for `at_size`."""
    height, width, _ = picture.shape
    reached = at_size(codec, picture, bpp * height * width / 8, quality, tolerance, encode, steps)
    return Reached(reached.data, reached.quality, 8 * len(reached.data) / (height * width), reached.encodings)


def at_psnr(
    codec: PictureCodec,
    picture: Picture,
    decibel: float,
    quality: tuple[float, float] = (1.0, 100.0),
    tolerance: float = 0.05,
    encode: Encode | None = None,
    steps: Sequence[float] = (),
) -> Reached:
    """The smallest file of at least that PSNR over colours, or one that exceeds it by less than `tolerance` decibels.

    encode, steps: as for `at_size`. UsageError if the highest quality doesn't reach it.
    """
    colours = 1 if picture.shape[2] < 3 else 3
    peak = float(np.iinfo(picture.pixels.dtype).max)
    lossless = psnr_of_mse(1e-12, peak)  # the search needs a finite number

    def measure(q: float) -> tuple[bytes, float]:
        data = (encode or codec.encode_picture)(picture, q)
        return data, psnr(codec.decode_picture(data).pixels[..., :colours], picture.pixels, peak, at_most=lossless)

    ends = sum((steps[0], steps[-1]) if steps else quality)

    # the same search upside down: the highest quality is where the goal is certainly met
    def mirrored(q: float) -> tuple[bytes, float]:
        data, value = measure(ends - q)
        return data, -value

    if steps:
        reached = _halve(mirrored, -decibel, [ends - q for q in reversed(steps)])
    else:
        reached = _search(mirrored, -decibel, quality, 3 * OCTAVES, tolerance)
    if -reached.value < decibel:
        raise UsageError(
            f"{decibel:g} dB is out of reach: {codec.name} at quality {ends - reached.quality:g} has "
            f"{-reached.value:.2f} dB"
        )
    return Reached(reached.data, ends - reached.quality, -reached.value, reached.encodings)


GOALS: Mapping[str, Callable[..., Reached]] = {"size": at_size, "bpp": at_bpp, "psnr": at_psnr}


def _search(
    measure: Callable[[float], tuple[bytes, float]],
    goal: float,
    quality: tuple[float, float],
    rise: float,
    tolerance: float,
) -> Reached:
    """The highest quality whose measure, which rises with it, is at most `goal`; the lowest one if none is.

    rise: of the measure over the whole range of qualities, about.
    """
    low, high = quality
    below: Reached | None = None
    above: tuple[float, float] | None = None
    q = (low + high) / 2
    for count in range(1, MOST + 1):
        with within(f"encoding {count} of at most {MOST}", (count - 1) / MOST, count / MOST):
            data, value = measure(q)
        if value <= goal:
            below = Reached(data, q, value, count)
        else:
            above = (q, value)
        if below is not None and (goal - below.value <= tolerance or below.quality == high):
            return below
        if above is not None and above[0] == low:
            return Reached(data, q, value, count)
        if below is not None and above is not None:
            if above[0] - below.quality < 1e-3 * (high - low):
                return below
            part = (goal - tolerance / 2 - below.value) / (above[1] - below.value)
            q = below.quality + min(0.95, max(0.05, part)) * (above[0] - below.quality)
        else:  # no bracket yet: go by the slope, a little further than it says
            q += 1.15 * (goal - tolerance / 2 - value) / rise * (high - low)
        q = min(high, max(low, q))
    if below is None:
        data, value = measure(low)
        below = Reached(data, low, value, MOST + 1)
    return Reached(below.data, below.quality, below.value, MOST)


def _halve(measure: Callable[[float], tuple[bytes, float]], goal: float, steps: Sequence[float]) -> Reached:
    """The highest of some rising qualities whose measure is at most `goal`; the lowest one if none is."""
    best: Reached | None = None
    lowest: Reached | None = None
    low, high, count = 0, len(steps), 0  # those below `low` meet the goal, those from `high` on don't
    most = len(steps).bit_length()
    while low < high:
        middle = (low + high) // 2
        with within(f"encoding {count + 1} of at most {most}", count / most, (count + 1) / most):
            data, value = measure(steps[middle])
        count += 1
        if value <= goal:
            best, low = Reached(data, steps[middle], value, count), middle + 1
        else:
            high, lowest = middle, Reached(data, steps[middle], value, count)
    reached = best or lowest
    assert reached is not None, "no steps"
    return replace(reached, encodings=count)
