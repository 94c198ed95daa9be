"""Transform coding of whole fields in wave number space: the coefficients that are kept, and their symbols.

Turbulence far from walls is statistically homogeneous, and for a homogeneous field the Karhunen-Loève transform is
the Fourier transform: coefficients are uncorrelated, with a variance that depends on the length of the wave vector.
So latents are the coefficients of a sharp spectral cut, uniformly quantised (one step for all of them is optimal for
the squared error), with a Gaussian for each shell of wave numbers whose spread is sent along. A divergence-free field
has two components to a wave vector, not three (the Craya-Herring frame: Herring, Phys. Fluids 17, 859, 1974). Fields
that aren't periodic take the cosine transform (DCT-II), which mirrors them at their borders.

All transforms are orthonormal, float64, and of components over 1 to 3 spatial axes. Wave numbers of an axis are in
cycles per sample times the longest axis, so that the spacing of the grid is the same along all axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...entropy.models import GaussianConditional
from ...entropy.tables import Tables

__all__ = [
    "HIGH",
    "LEVELS",
    "LOW",
    "Modes",
    "Order",
    "centres",
    "divergence",
    "level_of",
    "levels_of",
    "make_tables",
    "project",
    "quantise",
    "restore",
]

Floats = NDArray[np.float64]
Order = Literal["none", "x-last", "x-first"]  # of a solenoidal field: is component 0 along the last or the first axis?

LEVELS = 64
LOW, HIGH = 0.08, 512.0  # standard deviation in steps, of the first and the last level
LEVEL_ROW = 23  # row of the tables for differences of levels: their spread is about 2


@lru_cache(maxsize=1)
def _scales() -> GaussianConditional:
    return GaussianConditional(LEVELS, LOW, HIGH)


def make_tables() -> Tables:
    """The tables of all levels, a row each; level 0 is never coded.

    They are kept in weights files: another machine may round them otherwise.
    """
    return _scales().to_tables()


@dataclass(frozen=True)
class Modes:
    """The coefficients that are kept of a field.

    shape: of the field's spatial axes. coarse: of the grid that holds the latents; no axis is longer than the field's.
    components: of a point. order: "none" if components are coded one by one.
    """

    shape: tuple[int, ...]
    coarse: tuple[int, ...]
    components: int
    periodic: bool
    order: Order = "none"

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.shape), 0))

    @cached_property
    def _reach(self) -> tuple[int, ...]:
        """The largest wave number of each axis of a periodic field; else the number of cosines."""
        if self.periodic:
            return tuple((size - 1) // 2 for size in self.coarse)
        return self.coarse

    @property
    def groups(self) -> int:
        """The number of groups of components that have spreads of their own."""
        return 1 if self.order != "none" else self.components

    @cached_property
    def wave(self) -> Floats:
        """The wave vectors of the coded coefficients, (d, n), in cycles per longest axis."""
        longest = max(self.shape)
        if self.periodic:
            ranges = [np.arange(-k, k + 1) * (longest / size) for k, size in zip(self._reach, self.shape, strict=True)]
        else:
            ranges = [np.arange(k) * (0.5 * longest / size) for k, size in zip(self._reach, self.shape, strict=True)]
        grid = np.stack([axis.ravel() for axis in np.meshgrid(*ranges, indexing="ij")])
        # periodic: of k and -k, which are conjugate, the one behind the middle; the middle is the mean
        return grid[:, grid.shape[1] // 2 + 1 :] if self.periodic else grid[:, 1:]

    @cached_property
    def shell(self) -> NDArray[np.intp]:
        """The shell of each coefficient, (n,): the nearest whole number to the length of its wave vector."""
        return np.floor(np.sqrt((self.wave**2).sum(0)) + 0.5).astype(np.intp)

    @property
    def shells(self) -> int:
        return int(self.shell.max(initial=0)) + 1

    @cached_property
    def frame(self) -> Floats:
        """The unit vectors across the wave vectors, (2, 3, n), for solenoidal fields."""
        k = self._vectors(self.wave)
        thin = np.argmin(np.abs(k), axis=0)
        reference = np.zeros_like(k)
        reference[thin, np.arange(k.shape[1])] = 1.0
        first = np.cross(k, reference, axis=0)
        first /= np.sqrt((first**2).sum(0))
        second = np.cross(k, first, axis=0)
        second /= np.sqrt((second**2).sum(0))
        return np.stack([first, second])

    def _vectors(self, wave: Floats) -> Floats:
        """The wave vectors, (3, n), with component i along the axis of velocity component i."""
        return wave[::-1] if self.order == "x-last" else wave

    # ---- coefficients of fields

    def analyse(self, field: Floats) -> tuple[Floats, Floats]:
        """The mean (C,) and the coefficients (S, n) of a field (C, *shape).

        A mode has S real numbers: its components and, where periodic, their real and imaginary parts.
        """
        field = np.asarray(field, np.float64)
        mean = field.mean(self.axes)
        if not self.periodic:
            full = _cosines(field, len(self.shape))
            cut = full[(slice(None), *(slice(k) for k in self._reach))]
            return mean, cut.reshape(self.components, -1)[:, 1:]
        full = np.fft.fftn(field, axes=self.axes, norm="ortho")
        picked = full[np.ix_(list(range(self.components)), *(list(range(-k, k + 1)) for k in self._reach))]
        flat = picked.reshape(self.components, -1)
        flat = flat[:, flat.shape[1] // 2 + 1 :]
        if self.order != "none":
            flat = np.einsum("pcn,cn->pn", self.frame, flat)
        return mean, np.concatenate([flat.real, flat.imag])

    def synthesise(self, mean: Floats, coefficients: Floats, shape: tuple[int, ...] | None = None) -> Floats:
        """The field of a mean and coefficients, (C, *shape); on another grid the same function, sampled there."""
        shape = self.shape if shape is None else shape
        gain = math.sqrt(math.prod(shape) / math.prod(self.shape))
        if not self.periodic:
            full = np.zeros((self.components, *shape))
            inside = tuple(min(k, size) for k, size in zip(self._reach, shape, strict=True))
            cut = np.concatenate([np.zeros((self.components, 1)), coefficients], axis=1) * gain
            cut = cut.reshape(self.components, *self._reach)[(slice(None), *(slice(k) for k in inside))]
            full[(slice(None), *(slice(k) for k in inside))] = cut
            field = _from_cosines(full, len(shape))
        else:
            half = len(coefficients) // 2
            flat = (coefficients[:half] + 1j * coefficients[half:]) * gain
            if self.order != "none":
                flat = np.einsum("pcn,pn->cn", self.frame, flat)
            middle = np.zeros((self.components, 1), complex)
            flat = np.concatenate([np.conj(flat[:, ::-1]), middle, flat], axis=1)
            full = np.zeros((self.components, *shape), complex)
            cube = flat.reshape(self.components, *(2 * k + 1 for k in self._reach))
            reach = tuple(min(k, (size - 1) // 2) for k, size in zip(self._reach, shape, strict=True))
            inner = cube[(slice(None), *(slice(k - r, k + r + 1) for k, r in zip(self._reach, reach, strict=True)))]
            full[np.ix_(list(range(self.components)), *(list(range(-r, r + 1)) for r in reach))] = inner
            field = np.fft.ifftn(full, axes=self.axes, norm="ortho").real
        return field + mean.reshape(-1, *(1 for _ in shape))


def _cosines(field: Floats, n_axes: int) -> Floats:
    """The orthonormal DCT-II of the last axes: the Fourier transform of the field and its mirror image."""
    for axis in range(-n_axes, 0):
        x = np.moveaxis(field, axis, -1)
        n = x.shape[-1]
        turn = np.exp(-0.5j * np.pi / n * np.arange(n)) * math.sqrt(0.5 / n)
        turn[0] *= math.sqrt(0.5)
        spectrum = np.fft.rfft(np.concatenate([x, x[..., ::-1]], -1), axis=-1)[..., :n]
        field = np.moveaxis((spectrum * turn).real, -1, axis)
    return field


def _from_cosines(field: Floats, n_axes: int) -> Floats:
    """The inverse of `_cosines`."""
    for axis in range(-n_axes, 0):
        x = np.moveaxis(field, axis, -1)
        n = x.shape[-1]
        turn = np.exp(0.5j * np.pi / n * np.arange(n)) / math.sqrt(0.5 / n)
        turn[0] /= math.sqrt(0.5)
        spectrum = np.concatenate([x * turn, np.zeros((*x.shape[:-1], 1))], -1)
        field = np.moveaxis(np.fft.irfft(spectrum, 2 * n, axis=-1)[..., :n], -1, axis)
    return field


# --------------------------------------------------------------------------------------------------------- quantisation


def levels_of(modes: Modes, coefficients: Floats, step: float) -> NDArray[np.int64]:
    """The level, the Gaussian, of each shell, (G, shells); 0: nothing of it is coded."""
    parts = len(coefficients) // modes.groups
    counts = np.maximum(np.bincount(modes.shell, minlength=modes.shells), 1)
    power = np.stack(
        [
            np.bincount(modes.shell, (group**2).sum(0), modes.shells) / (counts * parts)
            for group in _grouped(modes, coefficients)
        ]
    )
    spread = np.sqrt(power) / step
    return np.where(spread < 2 * LOW, 0, level_of(np.maximum(spread, 1e-30)))


def level_of(spread: Floats) -> NDArray[np.int64]:
    """The nearest level to each standard deviation, in quantisation steps."""
    position = np.log(spread / LOW) / math.log(HIGH / LOW) * (LEVELS - 1)
    return np.clip(np.floor(position + 0.5), 0, LEVELS - 1).astype(np.int64)


def _grouped(modes: Modes, coefficients: Floats) -> Floats:
    """The coefficients by the group whose spreads they share, (G, parts, n)."""
    if modes.order != "none":
        return coefficients[None]
    if not modes.periodic:
        return coefficients[:, None]
    return coefficients.reshape(2, modes.components, -1).transpose(1, 0, 2)


def rows_of(modes: Modes, levels: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """The table row of each coefficient, (S, n)."""
    by_mode = levels[:, modes.shell]  # (G, n)
    if modes.order != "none":
        return np.broadcast_to(by_mode, (parts, by_mode.shape[1]))
    return np.tile(by_mode, (parts // modes.groups, 1))


def quantise(coefficients: Floats, step: float, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """The symbols of coefficients, (S, n), 0 where nothing is coded.

    There is no dead zone: the bits that it saves are worth no more than the error that it adds.
    """
    symbols = np.rint(coefficients / step)
    return np.where(rows > 0, np.clip(symbols, -(2**30), 2**30), 0).astype(np.int32)


def restore(symbols: NDArray[np.int32], step: float, rows: NDArray[np.int64]) -> Floats:
    """The coefficients of symbols, (S, n): each one's centre of mass under its Gaussian, best in the mean square."""
    size = np.abs(symbols)
    centre = centres()[rows, np.minimum(size, _CENTRED)]
    return np.sign(symbols) * np.where(size <= _CENTRED, centre, size) * step


_CENTRED = 6  # symbols beyond this are restored at themselves


@lru_cache(maxsize=1)
def centres() -> Floats:
    """The centres of mass in steps, (LEVELS, _CENTRED + 1): E |x| where |x| was rounded to 0, 1, ...; 0 for 0."""
    out = np.tile(np.arange(_CENTRED + 1.0), (LEVELS, 1))
    for level in range(1, LEVELS):
        scale = LOW * (HIGH / LOW) ** (level / (LEVELS - 1))
        for size in range(1, _CENTRED + 1):
            low, high = ((size + edge) / scale for edge in (-0.5, 0.5))
            mass = 0.5 * (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2)))
            if mass > 1e-12:
                density = (math.exp(-low * low / 2) - math.exp(-high * high / 2)) / math.sqrt(2 * math.pi)
                out[level, size] = scale * density / mass
            else:
                out[level, size] = size - 0.5
    return out


# ------------------------------------------------------------------------------------------------ no divergence


def _wave_grid(shape: tuple[int, ...], order: Order) -> Floats:
    """The wave numbers of rfftn that belong to the velocity components, (3, *half shape); Nyquist's count as 0."""
    k = [np.fft.fftfreq(size) for size in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    for numbers, size in zip(k, shape, strict=True):
        if size % 2 == 0:
            numbers[np.abs(numbers) == 0.5] = 0
    grid = np.stack(np.meshgrid(*k, indexing="ij"))
    return grid[::-1] if order == "x-last" else grid


def divergence(field: Floats, order: Order) -> float:
    """The root mean square of the divergence over that of the gradient, of a periodic velocity field (3, *shape)."""
    spectrum = np.fft.rfftn(field, axes=(-3, -2, -1))
    k = _wave_grid(field.shape[1:], order)
    weight = np.full(spectrum.shape[-1], 2.0)  # of what rfftn leaves out
    weight[0] = 1
    if field.shape[-1] % 2 == 0:
        weight[-1] = 1
    div = np.sum(np.abs((k * spectrum).sum(0)) ** 2 * weight)
    grad = np.sum((np.abs(spectrum) ** 2).sum(0) * (k**2).sum(0) * weight)
    return float(np.sqrt(div / grad)) if grad > 0 else 0.0


def project(field: Floats, order: Order, reach: tuple[int, ...] | None = None) -> Floats:
    """The nearest divergence-free field, (3, *shape) float64, without wave numbers above reach (one to an axis).

    order "none": the field keeps its divergence.
    """
    spectrum = np.fft.rfftn(np.asarray(field, np.float64), axes=(-3, -2, -1))
    if order != "none":
        k = _wave_grid(field.shape[1:], order)
        length = (k**2).sum(0)
        spectrum = spectrum - k * ((k * spectrum).sum(0) / np.where(length > 0, length, 1))
    if reach is not None:
        for axis, (size, top) in enumerate(zip(field.shape[1:], reach, strict=True)):
            last = axis == len(reach) - 1
            index = np.arange(size // 2 + 1) if last else np.abs(np.fft.fftfreq(size, 1 / size))
            keep = [1, 1, 1, 1]
            keep[axis + 1] = len(index)
            spectrum = spectrum * (index <= top).reshape(keep)
    return np.fft.irfftn(spectrum, field.shape[1:], axes=(-3, -2, -1))
