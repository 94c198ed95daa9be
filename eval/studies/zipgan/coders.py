"""The coders that `codec.eval.studies.zipgan.main` compares, each brought to a ratio of bytes by its own setting.

A file here is everything that a decoder needs. What isn't a file is said in `counted`: a sharp spectral cut and the
largest coefficients of a wavelet are counted as float32 numbers, without what would say where they are, as in the
literature on super-resolution; they show what such an element count is worth.

SPERR comes twice: with a bound for every value (`sperr`, as its users take it) and aimed at the mean square alone
(`sperr-mse`), which is what the errors measured here are about.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ....codecs.base.codec import Codec
from ....codecs.base.field import Bound
from ....codecs.base.weights import manifests
from ....codecs.interp.codec import InterpCodec
from ....errors import UsageError
from ....registry import names as registered
from ... import peers
from ...metrics.images import psnr
from .simulations import Field

__all__ = [
    "CODERS",
    "OURS",
    "Coded",
    "FieldCoder",
    "code",
    "code_all",
    "coders",
    "has_weights",
    "low_pass",
    "our_coder",
    "peer_coder",
    "wavelet",
]

WITHIN = 0.02  # of the ratio of bytes that was asked for
_TRIES = 24
_NARROW = 1e-4  # a bracket of settings that isn't worth halving
_SLOPE = 8.0  # a first guess of d log(ratio) / d position


@dataclass(frozen=True)
class FieldCoder:
    """A compressor of velocity fields with one setting that moves its rate.

    encode takes a setting between `first` (many bytes) and `last` (few). log: settings are searched on a logarithmic
    scale. counted: how bytes were counted, of what isn't a file. between(a, b, weight): a field between two files, as
    the codec itself interpolates; None if it doesn't.
    """

    name: str
    encode: Callable[[Field, float], bytes]
    decode: Callable[[bytes], Field]
    first: float
    last: float
    log: bool = True
    counted: str = ""
    between: Callable[[bytes, bytes, float], Field] | None = None

    def setting(self, position: float) -> float:
        """The setting at a position between `first` (0) and `last` (1)."""
        if self.log:
            return math.exp(math.log(self.first) * (1 - position) + math.log(self.last) * position)
        return self.first + (self.last - self.first) * position


@dataclass(frozen=True)
class Coded:
    """One field, coded at about the ratio that was asked for, and decoded.

    position: where the setting is between the coder's ends, 0 to 1. ratio: of the field's bytes by the file's.
    reached: the ratio is within WITHIN of what was asked for; otherwise it's the nearest of all trials.
    """

    setting: float
    position: float
    n_bytes: int
    ratio: float
    reached: bool
    field: Field


def code(coder: FieldCoder, field: Field, ratio: float, position: float = 0.5) -> Coded:
    """Codes a field at a ratio of bytes, searching the setting by a bisection that interpolates; sizes are taken to
    fall from `first` to `last`, as they do but for ripples.

    position: where the search begins, 0 to 1; that of another snapshot of the same flow saves most of the trials.
    """
    if coder.counted:
        data = coder.encode(field, ratio)
        return Coded(ratio, 0.0, len(data), field.nbytes / len(data), True, coder.decode(data))
    low, high, below, above, best = 0.0, 1.0, math.nan, math.nan, None
    for step in range(_TRIES):
        setting = coder.setting(position)
        data = coder.encode(field, setting)
        miss = math.log(field.nbytes / len(data) / ratio)
        if best is None or abs(miss) < abs(best[0]):
            best = miss, position, data
        if abs(miss) <= math.log(1 + WITHIN / 2):
            break
        if miss < 0:
            low, below = position, miss
        else:
            high, above = position, miss
        if high - low < _NARROW:
            break
        if step % 3 == 2:  # a step function, or one that is far from straight
            position = (low + high) / 2
        elif math.isnan(below + above):
            position = min(1.0, max(0.0, position - miss / _SLOPE))
        else:
            position = low + (high - low) * min(0.95, max(0.05, below / (below - above)))
    assert best is not None
    miss, position, data = best
    reached = abs(miss) <= math.log(1 + WITHIN)
    return Coded(coder.setting(position), position, len(data), field.nbytes / len(data), reached, coder.decode(data))


def code_all(coder: FieldCoder, fields: Sequence[Field], ratio: float) -> list[Coded]:
    """Codes several fields of one flow; the search for each begins where that of the one before ended."""
    coded: list[Coded] = []
    for field in fields:
        coded.append(code(coder, field, ratio, coded[-1].position if coded else 0.5))
    return coded


# ---- ours


def our_coder(name: str, weights: Path | None = None, first: float = 100.0, last: float = 1.0) -> FieldCoder:
    """A codec of this library, such as `zipgan@64x`, whose setting is its quality. weights: a file in place of the
    shipped ones."""
    plain = name if weights is None else name.partition("@")[0]

    def encode(field: Field, quality: float) -> bytes:
        return Codec.load(plain, quality=quality, weights=weights).compress(field)

    def decode(data: bytes) -> Field:
        return Codec.load(plain, weights=weights).decompress(data)

    def between(a: bytes, b: bytes, weight: float) -> Field:
        codec: Any = Codec.load(plain, weights=weights)
        return codec.between(a, b, weight)

    return FieldCoder(name, encode, decode, first, last, log=False, between=between)


def _interp() -> FieldCoder:
    """The codec `interp`, whose setting is its bound: quality 1 is a tenth of the range, which isn't coarse enough for
    a ratio of 512."""

    def encode(field: Field, rel: float) -> bytes:
        return InterpCodec(Bound(rel)).compress(field)

    def decode(data: bytes) -> Field:
        return InterpCodec(Bound(1e-3)).decompress(data)

    return FieldCoder("interp", encode, decode, 1e-5, 0.49)


# ---- other people's


def peer_coder(name: str, first: float, last: float, axis: str = "rel", threads: int = 1) -> FieldCoder:
    """A family of `eval/peers/arrays.py`, whose setting is a value on its axis."""
    family = peers.families()[name]

    def made(setting: float) -> Any:
        options = {key: option.default for key, option in family.options.items()}
        return family.make({**options, axis: setting}, threads)

    def encode(field: Field, setting: float) -> bytes:
        return made(setting).encode(field)

    def decode(data: bytes) -> Field:
        return made(first).decode(data)

    return FieldCoder(name, encode, decode, first, last)


_LENGTHS = struct.Struct("<4I")  # of the three streams; and the side


def _sperr_mse() -> FieldCoder:
    """SPERR with a target for the mean square, the same for each component."""

    def encode(field: Field, rms: float) -> bytes:
        import imagecodecs

        scale = rms * math.sqrt(float(np.square(field, dtype=np.float64).mean()))
        streams = []
        for part in field:
            target = psnr(scale**2, float(part.max() - part.min()))
            stream = imagecodecs.sperr_encode(np.ascontiguousarray(part), target, "psnr", numthreads=1)
            streams.append(bytes(stream))
        return _LENGTHS.pack(*map(len, streams), field.shape[1]) + b"".join(streams)

    def decode(data: bytes) -> Field:
        import imagecodecs

        *lengths, n = _LENGTHS.unpack_from(data)
        at, parts = _LENGTHS.size, []
        for length in lengths:
            stream = data[at : at + length]
            parts.append(imagecodecs.sperr_decode(stream, shape=(n, n, n), dtype=np.float32, numthreads=1))
            at += length
        return np.stack(parts)

    return FieldCoder("sperr-mse", encode, decode, 1e-5, 1.5)


# ---- by count


def low_pass(field: Field, ratio: float) -> Field:
    """The field after a sharp spectral cut to a grid with 1 / ratio of the points: |k_i| < half its side."""
    n = field.shape[1]
    half = n / (2 * ratio ** (1 / 3)) - 1e-6  # the root of 64 is 3.9999999999999996
    whole, rfft = np.abs(scipy.fft.fftfreq(n, 1 / n)), np.arange(n // 2 + 1)
    passed = (rfft < half) & (whole[:, None] < half) & (whole[:, None, None] < half)
    axes = (1, 2, 3)
    u_hat: Any = scipy.fft.rfftn(field, axes=axes)
    cut: Any = scipy.fft.irfftn(u_hat * passed, s=(n, n, n), axes=axes)
    return cut.astype(np.float32)


# Lifting steps of the biorthogonal 9/7 wavelet (bior4.4): Daubechies and Sweldens, "Factoring wavelet transforms into
# lifting steps", J. Fourier Anal. Appl. 4, 1998, section 7.7; scaled so that it is nearly orthonormal.
_LIFTING = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
_SCALE = 1.149604398860241


def wavelet(x: NDArray[np.float64], levels: int, inverse: bool = False) -> NDArray[np.float64]:
    """Periodic 9/7 transform over the last three axes, in place of x: low halves first, which the next level splits.
    levels: each halves a side, so sides are multiples of 2^levels."""
    x = x.copy()
    n = x.shape[-1]
    for level in reversed(range(levels)) if inverse else range(levels):
        side = n >> level
        for axis in (-3, -2, -1):
            block = np.moveaxis(x[..., :side, :side, :side], axis, -1)
            block[...] = _unlift(block) if inverse else _lift(block)
    return x


def _lift(x: NDArray[np.float64]) -> NDArray[np.float64]:
    even, odd = x[..., ::2].copy(), x[..., 1::2].copy()
    for first, second in (_LIFTING[:2], _LIFTING[2:]):
        odd += first * (even + np.roll(even, -1, -1))
        even += second * (odd + np.roll(odd, 1, -1))
    return np.concatenate([even * _SCALE, odd / _SCALE], -1)


def _unlift(x: NDArray[np.float64]) -> NDArray[np.float64]:
    half = x.shape[-1] // 2
    even, odd = x[..., :half] / _SCALE, x[..., half:] * _SCALE
    for first, second in (_LIFTING[2:], _LIFTING[:2]):
        even = even - second * (odd + np.roll(odd, 1, -1))
        odd = odd - first * (even + np.roll(even, -1, -1))
    return np.stack([even, odd], -1).reshape(x.shape)


def _levels(n: int) -> int:
    """The number of levels that lead down to a side of 4 or 5 to 7, as far as n is even."""
    levels = 0
    while n % 2 == 0 and n >= 8:
        n, levels = n // 2, levels + 1
    return levels


def _wavelet_kept(field: Field, ratio: float) -> Field:
    """The field from the largest 1 / ratio of all its wavelet coefficients."""
    levels = _levels(field.shape[1])
    coefficients = wavelet(field.astype(np.float64), levels)
    n_kept = max(1, int(field.size / ratio))
    least = np.partition(np.abs(coefficients).ravel(), -n_kept)[-n_kept]
    return wavelet(np.where(np.abs(coefficients) >= least, coefficients, 0), levels, True).astype(np.float32)


def _counted(name: str, counted: str, change: Callable[[Field, float], Field]) -> FieldCoder:
    """A coder whose bytes are counted, 4 for each number that is kept. Its "file" has that length, and the field goes
    around it."""
    held: list[Field] = []

    def encode(field: Field, ratio: float) -> bytes:
        held[:] = [change(field, ratio)]
        return bytes(round(field.nbytes / ratio))

    return FieldCoder(name, encode, lambda data: held[0], 1, 1, counted=counted)


# ---- all of them

CODERS: Mapping[str, Callable[[], FieldCoder]] = {
    "sperr": lambda: peer_coder("sperr", 1e-6, 0.5),
    "sperr-mse": _sperr_mse,
    "sz3": lambda: peer_coder("sz3", 1e-6, 0.5),
    "zfp": lambda: peer_coder("zfp", 1e-6, 8),  # keeps far less error than it may, so beyond the range itself
    "interp": _interp,
    "wavelet": lambda: _counted("wavelet", "float32 coefficients, places not counted", _wavelet_kept),
    "spectral": lambda: _counted("spectral", "float32 points of the coarse grid", low_pass),
}
OURS = ("zipgan@8x", "zipgan@64x", "zipgan@512x")


def has_weights(name: str) -> bool:
    """Whether a coder of ours is in this version, with its weights."""
    plain, _, tag = name.partition("@")
    return plain in registered() and any(manifest.tag == tag for manifest in manifests(plain))


def coders(names: Sequence[str] | None = None, weights: Mapping[str, Path] | None = None) -> list[FieldCoder]:
    """The coders of these names, or all of them; ours only where there are weights: shipped, or a file by name in
    `weights`. UsageError for an unknown name."""
    files = weights or {}
    known = (*CODERS, *OURS)
    for name in (*(names or ()), *files):
        if name not in known:
            raise UsageError(f"no coder {name!r}: there are {', '.join(known)}")
    chosen = []
    for name in known if names is None else names:
        if name in CODERS:
            chosen.append(CODERS[name]())
        elif name in files or has_weights(name):
            chosen.append(our_coder(name, files.get(name)))
    return chosen
