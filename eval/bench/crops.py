"""The same picture or sound under several codecs at the same rate: crops for the report's before/after slider, and
parts of sounds for its players.

The setting of each codec is searched on its axis, between the settings that were measured, for the file that comes
nearest to the target from either side. A codec that has no setting within `TOLERANCE` of it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...media.audio.values import from_float
from .. import peers
from ..report.html import Crop, CropSet, SoundSet, Take
from .contract import Audio, OptionValue, Value
from .items import Item
from .rows import Table
from .specs import Curve, Point

__all__ = ["TOLERANCE", "at_rate", "busiest", "equal_rate_crops", "equal_rate_sounds", "flac_part", "loudest"]

TOLERANCE = 0.15  # of the rate
NEAR = 0.02  # of the rate: no further encoding, some codecs take long for one
SIDE = (384, 256)  # width and height of a crop
BPP, KBPS = 0.5, 64.0  # what is aimed at, moved into common range
SECONDS, STEP = 5.0, 0.25  # the duration of a part of a sound, and of the grid that it begins on


def equal_rate_crops(table: Table, n: int) -> list[CropSet]:
    """Crops of up to n pictures, spread evenly over the items: every lossy codec's at about the same bits per pixel."""
    picked = _spread(table, n)
    curves = [curve for curve in table.curves if not curve.family.lossless]
    sets = []
    for item in picked:
        target = _target(table, curves, item, BPP)
        try:
            pixels = item.load()
        except Exception:  # noqa: S112  gone since it was measured: the report can do without it
            continue
        assert isinstance(pixels, np.ndarray)
        left, top, width, height = box = busiest(pixels)
        view = np.s_[top : top + height, left : left + width]
        crops = [
            Crop(curve.label, point.spec, bpp, values, np.ascontiguousarray(decoded[view]))
            for curve in curves
            if (nearest := at_rate(table, curve, item, pixels, target)) is not None
            for point, bpp, values, decoded in [nearest]
        ]
        if crops:
            sets.append(CropSet(item.name, box, float(f"{target:.3g}"), np.ascontiguousarray(pixels[view]), crops))
    return sets


def equal_rate_sounds(table: Table, n: int) -> list[SoundSet]:
    """Parts of up to n sounds, spread evenly over the items, as FLAC of 16 bits: every lossy codec's at about the same
    rate. Sounds of more than two channels, which FLAC's peer doesn't take, are left out."""
    curves = [curve for curve in table.curves if not curve.family.lossless]
    sets = []
    for item in _spread(table, n):
        target = _target(table, curves, item, KBPS)
        try:
            sound = item.load()
        except Exception:  # noqa: S112  gone since it was measured: the report can do without it
            continue
        assert isinstance(sound, Audio)
        if len(sound.samples) > 2:
            continue
        start, stop = loudest(sound)
        takes = [
            Take(curve.label, point.spec, kbps, values, flac_part(decoded, start, stop))
            for curve in curves
            if (nearest := at_rate(table, curve, item, sound, target)) is not None
            for point, kbps, values, decoded in [nearest]
        ]
        if takes:
            span = (start / sound.rate, stop / sound.rate)
            sets.append(SoundSet(item.name, span, float(f"{target:.3g}"), flac_part(sound, start, stop), takes))
    return sets


def loudest(sound: Audio, seconds: float = SECONDS) -> tuple[int, int]:
    """The part of so many seconds with the most energy: its first sample, and the one after its last."""
    n_samples, length, step = sound.samples.shape[1], round(seconds * sound.rate), max(1, round(STEP * sound.rate))
    energy = np.concatenate([[0.0], np.square(sound.samples.astype(np.float64)).sum(axis=0).cumsum()])
    starts = np.arange(0, max(1, n_samples - length + 1), step)
    start = int(starts[np.argmax(energy[np.minimum(starts + length, n_samples)] - energy[starts])])
    return start, min(start + length, n_samples)


def flac_part(sound: Audio, start: int, stop: int) -> bytes:
    """A part of a sound as a FLAC file that browsers play: what is beyond full scale is clipped."""
    flac = peers.families()["flac"]
    part = from_float(sound.samples[:, start:stop], 16).astype(np.float32) / np.float32(1 << 15)
    return flac.make({key: option.default for key, option in flac.options.items()}, 1).encode(Audio(part, sound.rate))


def _spread(table: Table, n: int) -> list[Item]:
    """Up to n items, spread evenly over all."""
    usable = table.sources
    places = {round(k * (len(usable) - 1) / max(1, n - 1)) for k in range(min(n, len(usable)))}
    return [usable[place] for place in sorted(places)]


def _target(table: Table, curves: Sequence[Curve], item: Item, usual: float) -> float:
    """The rate where most curves are: that of our codec if it has one point, else the usual one, moved into common
    range."""
    rates = {
        curve.label: [row.rate for row in table.rows if row.item == item.name and row.codec == curve.label]
        for curve in curves
    }
    fixed = [rates[curve.label][0] for curve in curves if peers.is_ours(curve.family) and len(rates[curve.label]) == 1]
    target = fixed[0] if fixed else usual
    lows = sorted(min(own) for own in rates.values() if len(own) > 1)
    highs = sorted(max(own) for own in rates.values() if len(own) > 1)
    if not fixed and lows:
        # the middle codec's ends: one odd curve must not move everybody's
        target = min(max(target, lows[len(lows) // 2]), highs[len(highs) // 2])
    return target


def at_rate(
    table: Table, curve: Curve, item: Item, value: Value, target: float
) -> tuple[Point, float, dict[str, float], Any] | None:
    """The point of a curve nearest to a rate, what it costs, its metrics, and what it decodes to; None if there is none
    near it. value: the item's, a picture or a sound, whose rate is in bits per pixel or kbit/s.

    metrics: of a picture the first two of the run; of a sound all, without slow ones that weren't measured before.
    """
    threads = int(table.settings.get("threads", 1))
    rows = sorted(
        (row for row in table.rows if row.item == item.name and row.codec == curve.label), key=lambda r: r.rate
    )
    if not rows:
        return None
    points = {point.spec: point for point in curve.points}
    tried: dict[OptionValue | None, tuple[float, Point, bytes]] = {}

    def rate(point: Point) -> float:
        if point.setting not in tried:
            data = curve.family.make(point.settings, threads).encode(value)
            tried[point.setting] = (_rate(value, len(data)), point, data)
        return tried[point.setting][0]

    try:
        below = [row for row in rows if row.rate <= target]
        above = [row for row in rows if row.rate > target]
        ends = [(row.rate, points[row.spec]) for row in [*below[-1:], *above[:1]]]  # their rates are measured already
        if len(ends) == 2 and curve.family.axis is not None and not any(_off(bpp, target) <= NEAR for bpp, _ in ends):
            _search(curve, ends[0], ends[1], target, rate)
        candidates = [(bpp, point) for bpp, point, _ in tried.values()] + ends
        bpp, point = min(candidates, key=lambda candidate: _off(candidate[0], target))
        if abs(bpp / target - 1) > TOLERANCE:
            return None
        bpp = rate(point)
        decoded = curve.family.make(point.settings, threads).decode(tried[point.setting][2])
    except Exception:  # whatever a library says of this picture at this setting: it isn't shown
        return None
    row = next((row for row in rows if row.spec == point.spec), None)
    known = {} if row is None or not isinstance(value, Audio) else row.metrics
    values = {
        metric.name: known[metric.name] if metric.name in known else metric.measure(value, decoded)
        for metric in (table.metrics if isinstance(value, Audio) else table.metrics[:2])
        if metric.name in known or not metric.slow
    }
    return point, bpp, values, decoded


def _rate(value: Value, n_bytes: int) -> float:
    """Bits per pixel of a picture, kbit/s of a sound."""
    if isinstance(value, Audio):
        return 8 * n_bytes * value.rate / value.samples.shape[1] / 1000
    assert isinstance(value, np.ndarray)
    return 8 * n_bytes / (value.shape[0] * value.shape[1])


def _off(bpp: float, target: float) -> float:
    return abs(math.log(bpp / target))


def _search(
    curve: Curve,
    low: tuple[float, Point],
    high: tuple[float, Point],
    target: float,
    rate: Callable[[Point], float],
) -> None:
    """Tries up to six settings between two neighbours on the axis, where the logarithm of the rate is about a line."""
    axis = curve.family.axis
    assert axis is not None
    option = curve.family.options[axis]
    (rate_a, point_a), (rate_b, point_b) = low, high
    a, b = point_a.settings[axis], point_b.settings[axis]
    for _ in range(6):
        if isinstance(a, str) or isinstance(b, str):
            return
        part = math.log(target / rate_a) / math.log(rate_b / rate_a)
        middle = a + (b - a) * min(0.9, max(0.1, part))
        if isinstance(option.default, int):
            middle = min(max(a, b) - 1, max(min(a, b) + 1, round(middle)))
            if not min(a, b) < middle < max(a, b):
                return
        point = Point(curve.family, {**point_a.settings, axis: middle})
        bpp = rate(point)
        if _off(bpp, target) <= NEAR:
            return
        if bpp <= target:
            a, rate_a = middle, bpp
        else:
            b, rate_b = middle, bpp


def busiest(pixels: NDArray[np.uint8], size: tuple[int, int] = SIDE) -> tuple[int, int, int, int]:
    """The crop with most detail, on a grid of 32 pixels: (left, top, width, height). size: width and height."""
    height, width = pixels.shape[:2]
    w, h = min(size[0], width), min(size[1], height)
    grey = pixels.astype(np.float32).mean(axis=2)
    detail = np.zeros_like(grey)
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    detail[1:] += np.abs(np.diff(grey, axis=0))
    total = np.pad(detail.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    best = max(
        ((top, left) for top in range(0, height - h + 1, 32) for left in range(0, width - w + 1, 32)),
        key=lambda at: (
            total[at[0] + h, at[1] + w] - total[at[0], at[1] + w] - total[at[0] + h, at[1]] + total[at[0], at[1]]
        ),
    )
    return best[1], best[0], w, h
