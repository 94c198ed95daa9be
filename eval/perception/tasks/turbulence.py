"""The reading of a flow: its vortices, extremes and spectrum, as the analysis after a simulation takes them.

There is no network here, and no label: the "model" is an analysis of a plane, and its answer for a decoded plane is
compared with that for the original. A vortex is a connected region where the field lies more than two standard
deviations from its mean, on one side (of vorticity this is a usual criterion; other fields have such regions too).
Flows: snapshots of a two-dimensional Kolmogorov flow, and the three components of vorticity in planes of isotropic
turbulence, from its velocity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....datasets.places import find_data
from ....errors import MediaError, UsageError
from ...bench.items import find_items
from ...bench.readers import read_array
from ...metrics.support import versions_of
from ..contract import Counts, Predict, Sample, Score, Task, share
from ..samples import digest_of

__all__ = ["Reading", "Turbulence", "read", "vorticity"]

ANALYSIS = "analysis"
PLANES = (("kolmogorov_flow_256.h5", "test/vorticity"), ("hit_dns_96.h5", "test/velocity"))
DEPTHS = (2, 6, 10)  # of planes in the 16 of the second file: far enough apart to differ, and from its ends
SMALLEST = 16  # pixels of a side

STRONG = 2.0  # standard deviations from the mean, from which a region is a vortex
SPECK = 4  # pixels below which it is none
RARE = 99.9  # percentile of the distance from the mean, beyond which a value is extreme
NEAR = 0.05  # of the power of a bin of the spectrum
FILLED = 1e-6  # of the largest power: a bin with less holds nothing but rounding

Field = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reading:
    """An analysis of a plane.

    spectrum: mean power of the modes whose wave number rounds to 1, 2, ... to half the shorter side (in waves over
    that side). distance: of each value from the mean, (H, W); extreme: what it exceeds at one place in a thousand.
    vortices: (N, 4), the sign, the centroid in pixels, y and x, and the area in pixels.
    """

    spectrum: Array
    distance: Array
    extreme: float
    vortices: Array


def read(field: NDArray[Any]) -> Reading:
    """The analysis of a plane (H, W). MediaError for other shapes, and for values that aren't finite."""
    if field.ndim != 2 or min(field.shape) < SMALLEST:
        raise MediaError(f"an array of shape {field.shape}; expected a plane with sides of at least {SMALLEST}")
    if not np.isfinite(field).all():
        raise MediaError("holds values that aren't finite: there is nothing to read in them")
    values = field.astype(np.float64)
    values -= values.mean()
    distance = np.abs(values)
    return Reading(_spectrum(values), distance, float(np.percentile(distance, RARE)), _vortices(values))


def _spectrum(values: Array) -> Array:
    """The radially averaged power under a Hann window: planes needn't be periodic."""
    side = min(values.shape)
    windows = [np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in values.shape]
    power = np.abs(np.fft.fft2(values * windows[0][:, None] * windows[1])) ** 2
    waves = [np.fft.fftfreq(n) * side for n in values.shape]
    rings = np.rint(np.hypot(waves[0][:, None], waves[1])).astype(np.int64).ravel()
    sums, modes = np.bincount(rings, power.ravel()), np.bincount(rings)
    return (sums / np.maximum(modes, 1))[1 : side // 2 + 1]


def _vortices(values: Array) -> Array:
    from scipy import ndimage

    strong, rows = STRONG * values.std(), []
    for sign in (1.0, -1.0):
        labelled: Any = ndimage.label(sign * values > strong)
        regions, n = labelled
        numbers = np.arange(1, n + 1)
        areas = np.bincount(regions.ravel(), minlength=n + 1)[1:]
        numbers = numbers[areas >= SPECK]
        if len(numbers):
            middles = np.asarray(ndimage.center_of_mass(np.ones_like(values), regions, numbers))
            rows.append(np.column_stack([np.full(len(numbers), sign), middles, areas[numbers - 1]]))
    return np.concatenate(rows) if rows else np.zeros((0, 4))


def _n_matched(a: Array, b: Array) -> int:
    """The largest number of pairs of vortices of two readings that turn the same way, with centroids no farther apart
    than the smaller one's radius, that of a disc of its area. Each is in one pair at most."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    apart = np.hypot(a[:, None, 1] - b[:, 1], a[:, None, 2] - b[:, 2])
    radius = np.sqrt(np.minimum(a[:, None, 3], b[:, 3]) / np.pi)
    pairs = csr_array((apart <= radius) & (a[:, None, 0] == b[:, 0]))
    return int((maximum_bipartite_matching(pairs) >= 0).sum())


def vorticity(velocity: NDArray[np.floating], depth: int) -> Array:
    """The three components of vorticity (3, N, N), along x, y and z, of a plane of a slab of velocity (3, Z, N, N).

    Axes are component, z, x, y, and the box has sides of 2 pi: periodic in x and y, where derivatives are spectral.
    Along z they are central differences of fourth order, for which a plane needs two on either side.
    """
    n = velocity.shape[-1]
    u, v, w = velocity[:, depth - 2 : depth + 3].astype(np.float64)
    waves = 1j * np.fft.fftfreq(n, 1 / n)
    waves[n // 2] = 0  # its derivative isn't real

    def along_x(part: Array) -> Array:
        return np.fft.ifft(waves[:, None] * np.fft.fft(part[2], axis=0), axis=0).real

    def along_y(part: Array) -> Array:
        return np.fft.ifft(waves * np.fft.fft(part[2], axis=1), axis=1).real

    def along_z(part: Array) -> Array:
        return (8 * (part[3] - part[1]) - (part[4] - part[0])) / (12 * 2 * np.pi / n)

    return np.stack([along_y(w) - along_z(v), along_z(u) - along_x(w), along_x(v) - along_y(u)])


class Turbulence(Task):
    """The vortices, extremes and spectrum of planes of a flow."""

    name, medium = "turbulence", "array"
    models: ClassVar[tuple[str, ...]] = (ANALYSIS,)
    about = "vortices, extremes and spectrum of planes of vorticity"
    data = "test planes of kolmogorov_flow_256.h5 and hit_dns_96.h5; or a folder with .h5 or .npy, taken plane by plane"
    scores = (
        Score(
            "vortices",
            "F-score of vortices against those of the original",
            share(("vortices_matched", "vortices_matched"), ("vortices_answered", "vortices_wanted")),
        ),
        Score(
            "extremes",
            f"F-score of places beyond the original's percentile {RARE:g}",
            share(("extremes_kept", "extremes_kept"), ("extremes_answered", "extremes")),
        ),
        Score(
            "spectrum",
            f"share of the spectrum's bins whose power is within {100 * NEAR:g} % of the original's",
            share("bins_kept", "bins"),
        ),
    )

    def samples(self, data: Path | None) -> Iterator[Sample]:
        planes = _given(data) if data is not None else _own(find_data("scientific", "fields of a flow"))
        for name, plane in planes:
            field = np.ascontiguousarray(plane, np.float32)
            yield Sample(name, field, digest_of(field))

    def load(self, model: str) -> Predict:
        if model != ANALYSIS:
            raise UsageError(f"no model {model!r}: expected {ANALYSIS}")
        return read

    def compare(self, answer: Any, original: Any, label: Any) -> Counts:
        del label
        filled = original.spectrum > FILLED * original.spectrum.max(initial=0)
        off = np.abs(answer.spectrum[filled] - original.spectrum[filled])
        extreme, other = (side.distance > original.extreme for side in (original, answer))
        return {
            "bins": float(filled.sum()),
            "bins_kept": float((off <= NEAR * original.spectrum[filled]).sum()),
            "extremes": float(extreme.sum()),
            "extremes_kept": float((extreme & other).sum()),
            "extremes_answered": float(other.sum()),
            "vortices_wanted": float(len(original.vortices)),
            "vortices_answered": float(len(answer.vortices)),
            "vortices_matched": float(_n_matched(answer.vortices, original.vortices)),
        }

    def versions(self) -> Mapping[str, str]:
        return versions_of("numpy", "scipy")()


def _own(folder: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """The planes of `PLANES`, the Kolmogorov flow first."""
    for file, _ in PLANES:
        if not (folder / file).is_file():
            raise UsageError(f"{folder}: no {file}; name a folder with --data, whose .h5 or .npy are fields of a flow")
    snapshots, velocity = (read_array(folder / file, array) for file, array in PLANES)
    for index, plane in enumerate(snapshots):
        yield f"kolmogorov-{index}", plane
    for depth in DEPTHS:
        for axis, plane in zip("xyz", vorticity(velocity, depth), strict=True):
            yield f"isotropic-z{depth:02d}-{axis}", plane


def _given(data: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """The planes of all arrays of a folder, over the last two axes; arrays without such planes are passed over."""
    n_planes = 0
    for item in find_items(data, "array").items:
        array = np.asarray(item.load())
        if array.ndim < 2 or min(array.shape[-2:]) < SMALLEST:
            continue
        for index in np.ndindex(array.shape[:-2]):
            n_planes += 1
            yield f"{item.name}{list(index) if index else ''}".replace(" ", ""), array[index]
    if not n_planes:
        raise UsageError(f"{data}: no array whose last two axes have at least {SMALLEST} values each")
