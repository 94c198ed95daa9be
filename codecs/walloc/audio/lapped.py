"""The model that ships: a lapped transform, band-wise steps, noise in the holes, and context mixing.

Differs from the paper (arXiv 2412.09405) in all that it measured to be better; docs/notes/walloc-audio.md has the
figures. Wavelet packets and a 1x1 convolution see one frame of 256 samples at a time; here the linear encoder is a
lapped cosine transform of 256 to 2048 samples, which stays with a tone for longer (`blocks.py`). In place of the
compander, which makes steps coarser where a value is large, steps grow with the loudness of their band, as in transform
codecs (Brandenburg, "MP3 and AAC explained", AES 1999). What is quantised to zero comes back as noise of the same
loudness, as in Opus (Valin et al., "High-quality, low-delay music coding in the Opus codec", AES 2013).

A piece is some seconds of sound that can be decoded alone, from integers (`entropy/mixing/sound.py`). What decides a
sample is exact: whole numbers carried in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....entropy.mixing import sound
from ....entropy.mixing.sound import ANGLES, NOISES, SoundPiece
from ....errors import StreamError
from .bands import MAX_BASE, STEP_BITS, band_edges, hashed_noise, noise_gains, steps
from .blocks import SHAPES, uniform_spectra

__all__ = ["Format", "Tuning", "best_shapes", "dequantised", "quantised"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_ANGLE_BITS = 20
_MIDDLE = 12.0  # log2 of the loudness of a band, in units of 2^-23, at which its scale is 0
_TOP_SCALE = 80
_FINE, _COARSE, _CONTRASTS = 165, 285, (0.45, 0.65)  # bases of the steps of qualities 70 and 30, and what they take


@dataclass(frozen=True)
class Format:
    """The rate, channels and frame of a sound that is coded."""

    rate: int
    channels: int
    size: int

    @property
    def edges(self) -> Ints:
        """The edges of the bands, (bands + 1,)."""
        return band_edges(self.size, self.rate)


@dataclass(frozen=True)
class Tuning:
    """The choices of an encoder, which a decoder doesn't know.

    loudness: steps grow with the loudness of a piece to this power, and with that of a band against its piece to the
    power contrast; 0 gives the least mean square error, and more what ears prefer. fill: the loudness of noise in
    holes, relative to what was there. threshold: the part of a step from which a value is rounded up. shapes: how many
    sizes of blocks there are to choose from, the longest first. turned: whether stereo is turned, band by band, to
    where the first channel has most of the energy. beyond: octaves that steps are coarser than their base says.
    """

    loudness: float = 0.7
    contrast: float = 0.55
    fill: float = 0.8
    threshold: float = 0.6
    shapes: int = SHAPES
    turned: bool = True
    beyond: float = 0.0

    @classmethod
    def of_base(cls, base: float) -> Tuning:
        """The best choices at a base of the steps: the coarser they are, the more do the loud bands hide."""
        coarse = min(1.0, max(0.0, (base - _FINE) / (_COARSE - _FINE)))
        contrast = _CONTRASTS[0] + (_CONTRASTS[1] - _CONTRASTS[0]) * coarse
        return cls(contrast=contrast, beyond=(base - round(base)) / 16)


@lru_cache(maxsize=32)
def _band_of(edges: bytes, shape: int) -> NDArray[np.int64]:
    """The band of each place of a frame of 2^shape blocks."""
    numbers = np.frombuffer(edges, np.int32)
    widths = np.diff(numbers) >> shape
    return np.tile(np.repeat(np.arange(len(widths)), widths), 1 << shape)


def _bands(form: Format, shapes: Ints) -> NDArray[np.int64]:
    """The band of each place of each frame, (frames, size)."""
    return np.stack([_band_of(form.edges.tobytes(), int(shape)) for shape in shapes])


def _summed(x: Floats, shapes: Ints, edges: Ints) -> Floats:
    """The sums of x (frames, channels, size) in each band, (frames, channels, bands)."""
    frames, channels, size = x.shape
    out = np.empty((frames, channels, len(edges) - 1))
    for shape in np.unique(shapes):
        where = shapes == shape
        blocks = x[where].reshape(-1, channels, 1 << int(shape), size >> int(shape)).sum(2)
        out[where] = np.add.reduceat(blocks, edges[:-1] >> shape, axis=-1)
    return out


def _at(values: NDArray[Any], bands: NDArray[np.int64]) -> NDArray[Any]:
    """The values of bands (frames, channels, bands) at each place, (frames, channels, size)."""
    frames, channels, n_bands = values.shape
    rows = np.arange(frames * channels).reshape(frames, channels, 1) * n_bands
    return values.ravel().take(rows + bands[:, None, :])


# ---- encoding


def best_shapes(x: Floats, form: Format, base: int, tuning: Tuning) -> Ints:
    """The shapes of all frames but the first and the last of samples (channels, frames * size), in units of 2^-23.

    The shape is taken whose spectrum costs fewest bits, by a logarithm, at the steps of the frame.
    """
    mixed = _mixed_down(x)
    costs = []
    step = np.empty(0)
    for shape in range(tuning.shapes):
        spectra = uniform_spectra(mixed, form.size >> shape).reshape(-1, 1, form.size)
        bands = _bands(form, np.full(len(spectra), shape, np.int32))
        if shape == 0:
            energy = _summed(spectra**2, np.zeros(len(spectra), np.int32), form.edges)
            scales = _scales(energy, form, tuning)
            step = (1 << STEP_BITS) / steps()[np.clip(base + 4 * scales, 0, MAX_BASE - 1)]
        parts = np.abs(spectra, out=spectra)
        parts *= _at(step, bands)
        parts += 1
        for _ in range(3):  # the logarithm of a product in place of eight
            parts = parts[..., : parts.shape[-1] // 2] * parts[..., parts.shape[-1] // 2 :]
        costs.append(np.log(parts).sum((1, 2)))
    costs[0] *= 0.995
    return np.argmin(costs, 0)[1:-1].astype(np.int32)


def _mixed_down(x: Floats) -> Floats:
    """One channel (n,) that stands for all: the sum of the first two, or their difference where it is louder."""
    if len(x) == 1:
        return x[0]
    total = x.sum(0) * len(x) ** -0.5
    if len(x) > 2:
        return total
    difference = (x[0] - x[1]) * 0.5**0.5
    return total if np.square(total).sum() >= np.square(difference).sum() else difference


def _scales(energy: Floats, form: Format, tuning: Tuning) -> Ints:
    """The scales of bands of this energy (frames, channels, bands), in units of 2^-46."""
    whole = float(energy.sum(2).max(1).mean()) / form.size  # of the loudest channel
    octaves = 0.5 * np.log2(np.maximum(energy / np.diff(form.edges), 1.0))
    middle = 0.5 * math.log2(max(whole, 1.0))
    coarser = tuning.loudness * (middle - _MIDDLE) + tuning.contrast * (octaves - middle) + tuning.beyond
    return np.rint(4 * coarser).clip(-_TOP_SCALE, _TOP_SCALE).astype(np.int32)


def _steadied(scales: Ints) -> Ints:
    """Scales (frames, ...) that stay as they were in the frame before where they differ by one step only."""
    out = scales.copy()
    for frame in range(1, len(out)):
        near = np.abs(out[frame] - out[frame - 1]) <= 1
        out[frame][near] = out[frame - 1][near]
    return out


@lru_cache(maxsize=1)
def _turns() -> tuple[Floats, Floats]:
    angle = np.pi / ANGLES * np.arange(ANGLES)
    return np.cos(angle), np.sin(angle)


def _turned(spectra: Floats, shapes: Ints, form: Format) -> tuple[Floats, Ints]:
    """Spectra whose first two channels are turned, in each band, to where the first has most of the energy."""
    a, b = spectra[:, :1], spectra[:, 1:2]
    aa, bb, ab = (_summed(v, shapes, form.edges).sum((0, 1)) for v in (a * a, b * b, a * b))
    angle = np.rint(0.5 * np.arctan2(2 * ab, aa - bb) * ANGLES / np.pi).astype(np.int64) % ANGLES
    # where it makes no difference, as the band below
    floor = 1e-3 * (aa + bb) + 1.0
    for band in range(len(angle)):
        if np.hypot(aa[band] - bb[band], 2 * ab[band]) < 20 * floor[band]:
            angle[band] = angle[band - 1] if band else ANGLES // 4
    bands = _bands(form, shapes)
    cos, sin = (table[angle][bands][:, None] for table in _turns())
    out = spectra.copy()
    out[:, :1], out[:, 1:2] = cos * a + sin * b, cos * b - sin * a
    return out, angle.astype(np.int32)


def quantised(spectra: Floats, shapes: Ints, form: Format, base: int, tuning: Tuning) -> SoundPiece:
    """The integers of spectra (frames, channels, size) in units of 2^-23. base: of the steps, in sixteenth octaves."""
    bands = _bands(form, shapes)
    angles = np.zeros(len(form.edges) - 1, np.int32)
    if tuning.turned and form.channels > 1:
        spectra, angles = _turned(spectra, shapes, form)
    scales = _steadied(_scales(_summed(spectra**2, shapes, form.edges), form, tuning))
    scales = np.clip(scales, -(base // 4), (MAX_BASE - 1 - base) // 4)
    step = steps()[base + 4 * scales] / (1 << STEP_BITS)
    magnitude = np.abs(spectra) / _at(step, bands)
    values = np.floor(magnitude + (1 - tuning.threshold)).clip(0, sound.MOST)
    zero = values == 0
    holes, energy = (_summed(v * zero, shapes, form.edges) for v in (np.ones_like(magnitude), magnitude**2))
    loud = tuning.fill * np.sqrt(energy / np.maximum(holes, 1))
    level = np.rint(-2 * np.log2(np.maximum(loud, 1e-9))) - 1
    noises = np.where((level < NOISES) & (holes > 0) & (tuning.fill > 0), level.clip(1, NOISES - 1), 0)
    filled = _summed(values, shapes, form.edges) > 0
    signed = np.where(spectra < 0, -values, values)
    arrays = (angles, shapes, filled, scales, noises, signed, form.edges)
    return SoundPiece(*(np.ascontiguousarray(array, np.int32) for array in arrays))


# ---- decoding


@lru_cache(maxsize=1)
def _turn_integers() -> tuple[Floats, Floats]:
    cos, sin = _turns()
    return np.rint(cos * 2.0**_ANGLE_BITS), np.rint(sin * 2.0**_ANGLE_BITS)


def _shifted(x: Floats, bits: int) -> Floats:
    return np.floor(x * 2.0**-bits + 0.5)


def dequantised(piece: SoundPiece, form: Format, base: int, first: int) -> Floats:
    """The spectra (frames, channels, size) of a piece, whole numbers of 2^-23. first: the number of its first frame.

    StreamError for integers that are out of range.
    """
    index = base + 4 * piece.scales.astype(np.int64)
    if index.min() < 0 or index.max() >= MAX_BASE:
        raise StreamError("a step of a piece of sound is out of range: it is damaged")
    bands = _bands(form, piece.shapes)
    step = steps()[index]
    frames, channels, size = piece.values.shape
    magnitude = np.abs(piece.values).astype(np.float64)
    # in 64ths of a step: a density that falls is denser below the middle of a cell
    centre = 64 * magnitude - 5 * (magnitude == 1) - 3 * (magnitude == 2)
    wide = _at(step, bands)
    if float((magnitude * wide).max(initial=0)) > 2.0**38:
        raise StreamError("a value of a piece of sound is out of range: it is damaged")
    out = _shifted(np.sign(piece.values) * centre * wide, 6 + STEP_BITS)
    amplitude = np.floor(step * noise_gains()[piece.noises] * 2.0**-16)
    noise = hashed_noise(first * channels * size, frames * channels * size).reshape(frames, channels, size)
    fill = _at(amplitude, bands)
    if float(fill.max(initial=0)) > 2.0**37:
        raise StreamError("noise of a piece of sound is out of range: it is damaged")
    out = np.where(piece.values == 0, _shifted(noise * fill, 15 + STEP_BITS), out)
    if channels > 1:
        cos, sin = (table[piece.angles][bands] for table in _turn_integers())
        a, b = out[:, 0].copy(), out[:, 1].copy()
        out[:, 0], out[:, 1] = _shifted(cos * a - sin * b, _ANGLE_BITS), _shifted(sin * a + cos * b, _ANGLE_BITS)
    return out
