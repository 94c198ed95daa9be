"""Frames of Gaussians as the page takes them: a header of 16 bytes, then planes of four 32-bit words for each Gaussian.

All little-endian. The header is the tag `GSVF`, the number of the frame, the number N of Gaussians, and how many planes
follow; a plane is N times 16 bytes, so that a page hands each to the graphics card as a texture of RGBA32UI:

- place: position x, y, z as float32, and a word whose low half is the opacity in 0..1, a float16;
- shape: six halves, colour red, green, blue (`DC f_dc + 0.5`) and the logarithms of the scales x, y, z, as float16 in
  three words, the first in the low half; then a word with the rotation: its axis, folded onto an octahedron, in two
  numbers of 10 bits, and its angle of 0 to pi in 12;
- harmonics, of which a frame has 1, 2 or 4 planes for a degree of 1, 2 or 3: a word for each coefficient after `f_dc`,
  in the order of a PLY file: three magnitudes of 8 bits (red lowest), their signs in bits 24 to 26, and an exponent e
  in bits 27 to 31; a value is its magnitude / 255 * 2^(e - 15).

These are the words of Spark's ExtSplats, so that the page copies and computes nothing. What can't be drawn, since it
isn't finite, is sent as transparent. A degree above 3 is shown without the coefficients above it.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from ..media.gaussians.values import DC, Gaussians

__all__ = ["HARMONICS", "HEADER", "PLANES", "Bounds", "Frames", "Playable", "bounds_of", "pack", "pack_harmonics"]

HEADER = np.dtype([("tag", "S4"), ("frame", "<u4"), ("count", "<u4"), ("planes", "<u4")])
TAG = b"GSVF"
PLANES = 2
HARMONICS = (0, 1, 2, 4)  # planes of them for each degree
MAX_COUNT = 1 << 24  # Gaussians that a page is asked to draw: 512 MiB of words
NEAR = 3  # frames that are decoded on the way to another before the source is asked for that one
_HALF = 65504.0  # the largest float16

Words = NDArray[np.uint32]


class Playable(Protocol):
    """The frames of a scene or a sequence. fps: None where the source doesn't say."""

    @property
    def n_frames(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def fps(self) -> float | None: ...
    def frame(self, number: int, /) -> Gaussians: ...


# ---- words


def pack(gaussians: Gaussians, frame: int = 0) -> bytes:
    """The message of a frame with place and shape. MediaError for more Gaussians than a page can be asked to draw."""
    n = _check_count(gaussians)
    words = np.empty((PLANES, n, 4), "<u4")
    place, shape = words
    place[:, :3] = np.nan_to_num(gaussians.positions, posinf=0, neginf=0).astype("<f4").view("<u4")
    place[:, 3] = _halves(_opacities(gaussians))
    colour = _halves(DC * gaussians.harmonics[:, 0].astype(np.float64) + 0.5)
    scales = _halves(gaussians.scales)
    shape[:, 0] = colour[:, 0] | colour[:, 1] << 16
    shape[:, 1] = colour[:, 2] | scales[:, 0] << 16
    shape[:, 2] = scales[:, 1] | scales[:, 2] << 16
    shape[:, 3] = _rotations(gaussians.rotations)
    return _message(frame, words)


def pack_harmonics(gaussians: Gaussians, frame: int = 0) -> bytes:
    """The message of a frame with the planes of its harmonics after `f_dc`, of which a degree of 0 has none."""
    n = _check_count(gaussians)
    planes = HARMONICS[min(gaussians.degree, 3)]
    words = np.zeros((planes, n, 4), "<u4")
    for k, coefficient in enumerate(_shared_exponents(gaussians.harmonics[:, 1:16])):
        words[k // 4, :, k % 4] = coefficient
    return _message(frame, words)


def _message(frame: int, words: NDArray[Any]) -> bytes:
    header = np.array([(TAG, frame, words.shape[1], words.shape[0])], HEADER)
    return header.tobytes() + words.tobytes()


def _check_count(gaussians: Gaussians) -> int:
    if len(gaussians) > MAX_COUNT:
        raise MediaError(f"{len(gaussians)} Gaussians in a frame; the viewer shows at most {MAX_COUNT}")
    return len(gaussians)


def _halves(values: NDArray[Any]) -> Words:
    """Values as float16, in the low half of a word each."""
    near = np.clip(np.nan_to_num(values, posinf=_HALF, neginf=-_HALF), -_HALF, _HALF)
    return near.astype("<f2").view("<u2").astype(np.uint32)


def _opacities(gaussians: Gaussians) -> NDArray[np.float64]:
    """Opacities in 0..1; 0 for Gaussians of which something isn't finite."""
    logits = np.clip(np.nan_to_num(gaussians.opacities.astype(np.float64)), -700, 700)
    drawn = np.isfinite(gaussians.opacities)
    for values in (gaussians.positions, gaussians.scales, gaussians.rotations, gaussians.harmonics[:, 0]):
        if not np.isfinite(values).all():
            drawn &= np.isfinite(values).all(axis=1)
    return np.where(drawn, 1 / (1 + np.exp(-logits)), 0.0)


def _rotations(rotations: NDArray[np.float32]) -> Words:
    """Quaternions as axes on a folded octahedron, 10 bits for each of two coordinates, and angles in 12 bits."""
    w, *vector = np.nan_to_num(rotations.T.astype(np.float64), posinf=0, neginf=0)
    length = np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
    angle = 2 * np.arctan2(length, np.abs(w))
    total = np.abs(vector[0]) + np.abs(vector[1]) + np.abs(vector[2])
    turned = np.where(w < 0, -1, 1) / np.where(total > 0, total, 1)
    x, y, z = (part * turned for part in vector)
    below = z < 0
    u = np.where(below, np.copysign(1 - np.abs(y), x), x)
    v = np.where(below, np.copysign(1 - np.abs(x), y), y)
    words: Words = np.rint(angle * (4095 / np.pi)).astype(np.uint32) << np.uint32(20)
    words |= np.rint((v / 2 + 0.5) * 1023).astype(np.uint32) << np.uint32(10)
    words |= np.rint((u / 2 + 0.5) * 1023).astype(np.uint32)
    return words


def _shared_exponents(values: NDArray[np.float32]) -> Words:
    """Coefficients (N, K, 3) as (K, N) magnitudes of 8 bits, signs, and an exponent that the three colours share."""
    colours = np.ascontiguousarray(values.transpose(2, 1, 0))
    if not np.isfinite(colours).all():
        colours = np.nan_to_num(colours, posinf=_HALF, neginf=-_HALF)
    magnitudes = np.abs(colours)
    exponent = np.frexp(np.maximum(np.maximum(magnitudes[0], magnitudes[1]), magnitudes[2]))[1]  # the largest is below
    biased = np.clip(exponent + 15, 0, 31)
    factor = np.ldexp(np.float32(255), 15 - biased)
    words: Words = biased.astype(np.uint32) << np.uint32(27)
    for k in range(3):
        words |= np.minimum(np.rint(magnitudes[k] * factor), 255).astype(np.uint32) << np.uint32(8 * k)
        words |= np.signbit(colours[k]).astype(np.uint32) << np.uint32(24 + k)
    return words


# ---- where to look


@dataclass(frozen=True)
class Bounds:
    """The ball that holds what is to be seen, without stray Gaussians far from the others."""

    centre: tuple[float, float, float]
    radius: float


def bounds_of(gaussians: Gaussians) -> Bounds:
    """The bounds of the Gaussians that can be seen: of each coordinate, all but a hundredth on each side."""
    visible = _opacities(gaussians) > 0.05
    positions = gaussians.positions[visible].astype(np.float64)
    if not len(positions):
        return Bounds((0.0, 0.0, 0.0), 1.0)
    low, high = np.percentile(positions, (1, 99), axis=0)
    reach = np.exp(np.median(np.clip(gaussians.scales[visible].max(axis=1), -30, 30)))
    radius = float(np.linalg.norm(high - low) / 2 + 2 * reach)
    x, y, z = ((low + high) / 2).tolist()
    return Bounds((x, y, z), radius)


# ---- messages of a source


class Frames:
    """The messages of a source, made when they are asked for; the last ones are kept, up to `budget` bytes.

    A source that has `frames(start)`, an iterator, is read with it while frames are asked for in about their order:
    most codecs decode the next frame sooner than any other. Threads may ask at the same time: the source is asked by
    one at a time, in their order.
    """

    def __init__(self, source: Playable, budget: int = 256 << 20) -> None:
        self.source, self._budget = source, budget
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._kept: collections.OrderedDict[tuple[str, int], tuple[Any, int]] = collections.OrderedDict()
        self._running: Iterator[Gaussians] | None = None
        self._next = 0  # frame that the iterator gives

    def frame(self, number: int) -> Gaussians:
        """The Gaussians of a frame."""
        key = ("gaussians", number)
        if (kept := self._look_up(key)) is not None:
            return kept
        with self._turn:
            if (kept := self._look_up(key)) is not None:
                return kept
            return self._decode(number)

    def _decode(self, number: int) -> Gaussians:
        frames = getattr(self.source, "frames", None)
        if frames is None:
            return self._keep_frame(number, self.source.frame(number))
        running, self._running = self._running, None  # one that raises is not asked again
        if running is None or not self._next <= number <= self._next + NEAR:
            running, self._next = frames(number), number
        while True:
            gaussians = self._keep_frame(self._next, next(running))
            self._next += 1
            if self._next > number:
                self._running = running
                return gaussians

    def _keep_frame(self, number: int, gaussians: Gaussians) -> Gaussians:
        names = ("positions", "scales", "rotations", "opacities", "harmonics")
        self._keep(("gaussians", number), gaussians, sum(getattr(gaussians, name).nbytes for name in names))
        return gaussians

    def words(self, number: int) -> bytes:
        """The message of a frame with place and shape."""
        return self._packed("words", number, pack)

    def harmonics(self, number: int) -> bytes:
        """The message of a frame with its harmonics."""
        return self._packed("harmonics", number, pack_harmonics)

    def _packed(self, kind: str, number: int, packed: Callable[[Gaussians, int], bytes]) -> bytes:
        if (kept := self._look_up((kind, number))) is not None:
            return kept
        message = packed(self.frame(number), number)
        self._keep((kind, number), message, len(message))
        return message

    def _look_up(self, key: tuple[str, int]) -> Any:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def _keep(self, key: tuple[str, int], value: Any, n_bytes: int) -> None:
        with self._lock:
            self._kept[key] = value, n_bytes
            total = sum(size for _, size in self._kept.values())
            while total > self._budget and len(self._kept) > 1:
                total -= self._kept.popitem(last=False)[1][1]
