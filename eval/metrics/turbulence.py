"""Metrics of turbulent velocity fields: errors of a decoded field, and statistics of the small scales.

Fields are (3, n, n, n), n even, on a periodic cube with sides of 2 pi, as `datasets/turbulence.py` makes them:
component 0 is along the last axis (x), 1 along y, 2 along z. Derivatives are spectral, in the precision of the field;
what is summed is float64; spectra are of `rfftn` with norm "forward". Quantities are those that turbulence is judged by
(Pope, "Turbulent Flows", 2000, chapter 6): dissipation 2 nu s_ij s_ij, enstrophy omega_i omega_i, moments of the
longitudinal derivatives, E(k).

These aren't in the list of `codec bench`, whose arrays may be anything; `codec.eval.studies.zipgan.main` uses them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ...errors import MediaError

__all__ = [
    "Flow",
    "FlowErrors",
    "GaussianBound",
    "compare",
    "gaussian_bound",
    "gradient_error",
    "leaves",
    "project",
    "relative_error",
]

Array = NDArray[np.float64]
AnyArray = NDArray[np.floating]
Spectrum = NDArray[np.complexfloating]

_AXES = (1, 2, 3)
BINS = np.linspace(-40, 40, 401)  # of a gradient, in units of the rms of the original's; a fifth each
TAIL = 1e-5  # how rare the strongest gradients are that `tail` looks at
WITHIN = 0.1  # of the spectrum's ratio to the original's


def _waves(n: int) -> tuple[Array, Array, Array]:
    """Wave numbers along x, y, z for an `rfftn`. The mode n / 2, whose derivative isn't real, counts as 0."""
    whole, half = scipy.fft.fftfreq(n, 1 / n), np.arange(n // 2 + 1, dtype=np.float64)
    whole[n // 2] = half[n // 2] = 0
    return half[None, None, :], whole[None, :, None], whole[:, None, None]


def _twice(n: int) -> Array:
    """The number of times that each mode of the half spectrum counts."""
    weight = np.full(n // 2 + 1, 2.0)
    weight[0] = weight[-1] = 1
    return weight


def _shells(n: int) -> NDArray[np.int64]:
    """|k| rounded, of every mode of the half spectrum."""
    whole, half = scipy.fft.fftfreq(n, 1 / n), np.arange(n // 2 + 1)
    return np.rint(np.sqrt(half**2 + whole[:, None] ** 2 + whole[:, None, None] ** 2)).astype(np.int64)


def _resolved(n: int) -> NDArray[np.bool_]:
    """Modes that a solver with the 2/3 rule keeps, |k_i| < n / 3."""
    whole, half = np.abs(scipy.fft.fftfreq(n, 1 / n)), np.arange(n // 2 + 1)
    return (half < n / 3) & (whole[:, None] < n / 3) & (whole[:, None, None] < n / 3)


def _transformed(field: AnyArray) -> Spectrum:
    if field.ndim != 4 or field.shape[0] != 3 or len({*field.shape[1:]}) != 1 or field.shape[1] % 2:
        raise MediaError(f"a field of shape {field.shape}; expected three components on a cube of even side")
    u_hat: Any = scipy.fft.rfftn(field, axes=_AXES, norm="forward")
    return u_hat


def _mean_square(x: AnyArray) -> float:
    """The mean of squares, without a float64 copy of the whole; rows are short enough for float32."""
    return float(np.square(x).mean(-1).mean(dtype=np.float64))


def _back(u_hat: Spectrum) -> AnyArray:
    n = u_hat.shape[1]
    field: Any = scipy.fft.irfftn(u_hat, s=(n, n, n), axes=_AXES, norm="forward")
    return field


def project(field: AnyArray, cut: bool = False) -> AnyArray:
    """The nearest field without divergence (Helmholtz), of the same type. cut: and without the modes that a solver
    with the 2/3 rule never has. Both lower the squared error of a decoded flow that was made so, at no bits."""
    u_hat = _transformed(field.astype(np.float64))
    k = _waves(field.shape[1])
    k2 = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    pressure = (k[0] * u_hat[0] + k[1] * u_hat[1] + k[2] * u_hat[2]) / np.maximum(k2, 1)
    u_hat = np.stack([u_hat[i] - k[i] * pressure for i in range(3)])
    if cut:
        u_hat *= _resolved(field.shape[1])
    return _back(u_hat).astype(field.dtype)


@dataclass(frozen=True)
class Flow:
    """A field and what is derived from it, each computed once."""

    field: AnyArray

    @cached_property
    def _u_hat(self) -> Spectrum:
        return _transformed(self.field)

    @cached_property
    def gradients(self) -> AnyArray:
        """The gradient tensor, (3, 3, n, n, n): [i, j] is du_i/dx_j."""
        k = [1j * wave.astype(self.field.dtype) for wave in _waves(self.field.shape[1])]
        return np.stack([_back(np.stack([k[j] * self._u_hat[i] for j in range(3)])) for i in range(3)])

    @cached_property
    def spectrum(self) -> Array:
        """E(k), k = 0 ... n / 2: the energy in shells of |k| rounded."""
        n = self.field.shape[1]
        density = (np.abs(self._u_hat) ** 2).sum(0) * _twice(n) / 2
        return np.bincount(_shells(n).ravel(), density.ravel())[: n // 2 + 1].astype(np.float64)

    @cached_property
    def longitudinal(self) -> AnyArray:
        """The longitudinal derivatives, all du_i/dx_i, flat."""
        return np.concatenate([self.gradients[i, i].ravel() for i in range(3)])

    @cached_property
    def transverse(self) -> AnyArray:
        """The transverse derivatives, all du_i/dx_j of two axes, flat."""
        return np.concatenate([self.gradients[i, j].ravel() for i in range(3) for j in range(3) if i != j])

    @cached_property
    def longitudinal_sorted(self) -> AnyArray:
        return np.sort(self.longitudinal)

    @cached_property
    def transverse_sorted(self) -> AnyArray:
        return np.sort(self.transverse)

    @cached_property
    def square_gradient(self) -> float:
        """The mean of the sum of all nine squared derivatives."""
        return 9 * _mean_square(self.gradients)

    @cached_property
    def dissipation(self) -> float:
        """The mean of 2 s_ij s_ij; times the viscosity it is the dissipation."""
        return 2 * 9 * _mean_square((self.gradients + self.gradients.swapaxes(0, 1)) / 2)

    @cached_property
    def enstrophy(self) -> float:
        """The mean of omega_i omega_i."""
        return self.square_gradient * 2 - self.dissipation  # symmetric and antisymmetric parts are orthogonal

    def _moment(self, order: int) -> float:
        """A moment of du_i/dx_i over its rms, mean over i; NaN if one is zero everywhere."""
        moments = []
        for i in range(3):
            along = self.gradients[i, i].astype(np.float64)
            square = np.square(along)
            if not (mean := float(square.mean())):
                return math.nan
            moments.append(float((square * (along if order == 3 else square)).mean()) / mean ** (order / 2))
        return float(np.mean(moments))

    @cached_property
    def skewness(self) -> float:
        return self._moment(3)

    @cached_property
    def flatness(self) -> float:
        return self._moment(4)

    @cached_property
    def divergence(self) -> float:
        """The rms divergence over the rms of all nine derivatives."""
        square = self.square_gradient
        return math.sqrt(_mean_square(np.trace(self.gradients)) / square) if square else math.nan


@dataclass(frozen=True)
class FlowErrors:
    """A decoded field against the original.

    velocity, gradient: relative L2 errors, of u and of the full gradient tensor. dissipation, enstrophy: ratios to the
    original's. skewness, flatness: of the decoded field's du_i/dx_i, mean over i. leaves: wave number where the
    spectrum's ratio to the original's first leaves 1 +- 0.1, infinite if nowhere below n / 3. divergence: rms over rms
    gradient, decoded. *_w1: Wasserstein-1 distance of the gradients' distributions, in rms of the original's. *_js:
    Jensen-Shannon divergence in bits, of histograms with bins of a fifth of that rms. *_tail: the size that one in
    10^5 gradients exceeds, over the original's.
    """

    velocity: float
    gradient: float
    dissipation: float
    enstrophy: float
    skewness: float
    flatness: float
    leaves: float
    divergence: float
    longitudinal_w1: float
    longitudinal_js: float
    longitudinal_tail: float
    transverse_w1: float
    transverse_js: float
    transverse_tail: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def density(ordered: AnyArray, rms: float) -> Array:
    """Probability density of sorted gradients in units of `rms`, in BINS; what is beyond is in the outermost ones."""
    inner = np.searchsorted(ordered, (BINS[1:-1] * rms).astype(ordered.dtype))
    counts = np.diff(inner, prepend=0, append=ordered.size)
    return counts / (ordered.size * (BINS[1] - BINS[0]))


def jensen_shannon(p: Array, q: Array) -> float:
    """The Jensen-Shannon divergence in bits, 0 to 1, of two histograms over the same bins."""
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def divergence(histogram: Array) -> float:
        filled = histogram > 0
        return float((histogram[filled] * np.log2(histogram[filled] / middle[filled])).sum())

    return max(0.0, (divergence(p) + divergence(q)) / 2)


def leaves(original: Array, decoded: Array, n: int) -> float:
    """The wave number at which the ratio of two spectra E(k) first leaves 1 +- WITHIN: from 1 on, below n / 3; infinite
    if nowhere."""
    for k in range(1, math.ceil(n / 3)):
        if original[k] > 0 and abs(decoded[k] / original[k] - 1) > WITHIN:
            return float(k)
    return math.inf


def _tail(ordered: AnyArray) -> float:
    """The size that a part TAIL of the values exceeds."""
    n_tail = max(1, round(TAIL * ordered.size))
    ends = np.concatenate([-ordered[:n_tail], ordered[-n_tail:]])
    return float(np.sort(ends)[-n_tail])


def compare(original: Flow, decoded: Flow) -> FlowErrors:
    """All errors of a decoded field. MediaError if the shapes differ, or the original doesn't move."""
    if original.field.shape != decoded.field.shape:
        raise MediaError(f"fields of {original.field.shape} and {decoded.field.shape}: expected the same shape")
    if not original.square_gradient:
        raise MediaError("a field without gradients: there is nothing to measure")
    distances = {}
    for kind in ("longitudinal", "transverse"):
        a, b = getattr(original, f"{kind}_sorted"), getattr(decoded, f"{kind}_sorted")
        rms = math.sqrt(float(np.square(a).mean(dtype=np.float64)))
        distances[f"{kind}_w1"] = float(np.abs(a - b).mean(dtype=np.float64)) / rms
        distances[f"{kind}_js"] = jensen_shannon(density(a, rms), density(b, rms))
        distances[f"{kind}_tail"] = _tail(b) / _tail(a)
    wrong = 9 * _mean_square(original.gradients - decoded.gradients)
    error = _mean_square(original.field - decoded.field)
    return FlowErrors(
        velocity=math.sqrt(error / _mean_square(original.field)),
        gradient=math.sqrt(wrong / original.square_gradient),
        dissipation=decoded.dissipation / original.dissipation,
        enstrophy=decoded.enstrophy / original.enstrophy,
        skewness=decoded.skewness,
        flatness=decoded.flatness,
        leaves=leaves(original.spectrum, decoded.spectrum, original.field.shape[1]),
        divergence=decoded.divergence,
        **distances,
    )


def relative_error(original: AnyArray, decoded: AnyArray) -> float:
    """||u - u_hat|| / ||u||, Euclidean norms over all values."""
    return math.sqrt(float(np.square(original - decoded).mean() / np.square(original).mean()))


def gradient_error(original: Flow, decoded: AnyArray) -> float:
    """The relative L2 error of the gradient tensor alone, which takes less time than all of `compare`."""
    wrong = 9 * _mean_square(original.gradients - Flow(decoded).gradients)
    return math.sqrt(wrong / original.square_gradient)


# ---- what second-order statistics alone allow


@dataclass(frozen=True)
class GaussianBound:
    """The least errors at some bits. velocity, gradient: relative L2 errors; dissipation: its ratio, of the expectation
    that attains the bound."""

    velocity: float
    gradient: float
    dissipation: float


def gaussian_bound(field: AnyArray, bits: float) -> GaussianBound:
    """Rate-distortion bound of a Gaussian, homogeneous, solenoidal field with this field's spectrum, at so many bits.

    Reverse water-filling (Cover and Thomas, "Elements of Information Theory", 10.3.3) for the squared error, over the
    real degrees of freedom: two for the plane normal to k and each mode that the solver resolves, with the variance of
    their shell. No coder that uses only the spectrum can do better; one that does uses what isn't Gaussian. Side
    information is free here.
    """
    n = field.shape[1]
    u_hat, shells, resolved = _transformed(field.astype(np.float64)), _shells(n), _resolved(n)
    weight = np.broadcast_to(_twice(n), shells.shape) * resolved
    energy = np.bincount(shells.ravel(), ((np.abs(u_hat) ** 2).sum(0) * weight).ravel())
    freedoms = 2 * np.bincount(shells.ravel(), weight.ravel())
    k2_sum = np.bincount(shells.ravel(), (weight * sum(k**2 for k in _waves(n))).ravel())
    filled = (freedoms > 0) & (np.arange(len(freedoms)) > 0) & (energy > 0)
    energy, freedoms, k2 = energy[filled], freedoms[filled], 2 * k2_sum[filled] / freedoms[filled]
    variance = energy / freedoms

    def rate(level: float) -> float:
        return float((freedoms * np.maximum(0, np.log2(variance / level) / 2)).sum())

    low, high = math.log(variance.max()) - 200.0, math.log(variance.max())
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(math.exp(middle)) > bits else (low, middle)
    wrong = np.minimum(math.exp(high), variance) * freedoms
    return GaussianBound(
        velocity=math.sqrt(wrong.sum() / energy.sum()),
        gradient=math.sqrt((wrong * k2).sum() / (energy * k2).sum()),
        dissipation=1 - float((wrong * k2).sum() / (energy * k2).sum()),
    )
