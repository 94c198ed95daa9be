"""The sizes and constants of WaLLoC, without torch: configurations, bits of the exact decoder, the compander's tables.

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405; `PAPER_CONFIGS` are
theirs. The tables are made with Python's own inverse of the normal distribution (Wichura's AS 241): no entry lies near
a rounding boundary, so they are the same integers on every machine, and those of `network.expansion_table`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Boundary = Literal["symmetric", "periodization"]

COEFFICIENT_BITS = 16  # fractional bits of wavelet coefficients in the exact decoder; pixels span one unit
SYNTHESIS_BITS = 24  # fractional bits of the inverse wavelet matrices
EXPANSION_BITS = 16  # fractional bits of expanded latents at gain 1
LARGEST_COEFFICIENT = 16  # magnitude at which the exact decoder clamps wavelet coefficients


@dataclass(frozen=True)
class WallocConfig:
    """The sizes of one model; defaults are those of the paper's "16x" image model."""

    levels: int = 3  # J: wavelet packet levels
    latent: int = 12  # latent channels
    latent_bits: int = 8
    encoder: Literal["linear", "full"] = "linear"
    encoder_width: int = 768  # of the full encoder (an ablation of the paper)
    decoder: Literal["small", "paper"] = "paper"
    width: int = 768  # of the paper's decoder, or of the small one's post-filter
    blocks: int = 5  # residual blocks of the post-filter
    boundary: Boundary = "periodization"
    groups: tuple[int, ...] = field(default=())  # channel groups of the context model; () = none
    context_width: int = 32

    @property
    def bands(self) -> int:
        return 3 * 4**self.levels

    @property
    def stride(self) -> int:
        return 2**self.levels


PAPER_CONFIGS = {
    # name in the authors' notebooks: configuration. "16x" and "4x" are the two published image models.
    "16x-paper": WallocConfig(),
    "4x-paper": WallocConfig(latent=48),
    "RGB_Li_16c_J3_nf8": WallocConfig(latent=16),
    "RGB_Li_27c_J3_nf3": WallocConfig(latent=27, latent_bits=3),
    "RGB_Li_27c_J3_nf6": WallocConfig(latent=27, latent_bits=6),
    "RGB_Li_48c_J4": WallocConfig(levels=4, latent=48, width=1024),
    "RGB_Li_8c_J4": WallocConfig(levels=4, latent=8, latent_bits=2, width=1024),
    "RGB_Li_147c_J4": WallocConfig(levels=4, latent=147, width=1024),
    "RGB_243c_J4_full": WallocConfig(levels=4, latent=243, encoder="full", encoder_width=768, width=768),
    "RGB_147c_J4_full": WallocConfig(levels=4, latent=147, encoder="full", encoder_width=1024, width=1024),
    "RGB_48c_J4_full": WallocConfig(levels=4, latent=48, latent_bits=4, encoder="full", encoder_width=1536, width=768),
}


# ---- the compander, u = 2 M (Phi(v / s) - 1/2)


def largest_latent(bits: int) -> int:
    """The largest integer latent."""
    return 2 ** (bits - 1) - 1


def compander_scale(bits: int) -> float:
    """The compander's s, in steps of the quantiser."""
    return largest_latent(bits) / 1.85


def compander_limit(bits: int) -> float:
    """The compander's M."""
    return largest_latent(bits) + 0.5 - 0.001


def _expanded(u: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """The inverse compander, in float64."""
    p = np.clip(u / (2 * compander_limit(bits)) + 0.5, 1e-4, 1 - 1e-4)
    normal = NormalDist()
    return compander_scale(bits) * np.array([normal.inv_cdf(value) for value in p.tolist()])


@lru_cache(maxsize=8)
def expansion_integers(bits: int) -> NDArray[np.int64]:
    """The inverse compander at each integer latent, (2**bits - 1,), in units of 2**-EXPANSION_BITS."""
    largest = largest_latent(bits)
    exact = _expanded(np.arange(-largest, largest + 1, dtype=np.float64), bits)
    return np.floor(exact * 2.0**EXPANSION_BITS + 0.5).astype(np.int64)


@lru_cache(maxsize=8)
def rounding_edges(bits: int) -> NDArray[np.float64]:
    """The values v between which the compander's output rounds to one integer, rising: (2 largest,)."""
    largest = largest_latent(bits)
    normal = NormalDist()
    edges = np.arange(-largest, largest) + 0.5
    p = edges / (2 * compander_limit(bits)) + 0.5
    return compander_scale(bits) * np.array([normal.inv_cdf(value) for value in p.tolist()])


def inverse_gain(gain16: int) -> float:
    """The factor 2**(-gain16 / 16) of the decoder, exactly the same everywhere: 16 bits and a power of two."""
    octave, fraction = divmod(gain16, 16)
    return float(round(2.0 ** (-fraction / 16) * 2**16)) * 2.0 ** (-16 - octave)
