"""The sizes of WaLLoC's audio models, and their one-dimensional wavelet packets as small matrices, without torch.

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405, and their
`train_stereo.ipynb`; `PAPER_CONFIGS` are their two stereo models. The transform is J levels of the CDF 9/7 filters,
every band split again, bands in natural order (the latest split fastest).

Differs: J levels are one or two filter banks of up to 16 bands, a matrix over nine blocks each, in place of J splits: a
block of 2**l samples, l <= 4, depends on the four blocks to either side of it. `decoder="small"` is a model of our own:
middle and side in place of left and right, sound that is zero beyond its ends in place of one that wraps round, a
decoder that is a linear map and a residual network beside it, in integers (`packets_exact.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ....native.wavelet import synthesis_matrix
from ...layers.wavelet_plans import analysis_matrix

__all__ = ["DILATIONS", "PAPER_CONFIGS", "REACH", "PacketConfig", "filter_bank", "stage_levels"]

REACH = 4  # blocks to either side that a block of a filter bank depends on
STAGE = 4  # levels of a filter bank at most
DILATIONS = (1, 3, 9)  # of the residual units of a block


@dataclass(frozen=True)
class PacketConfig:
    """The sizes of one model; defaults are those of the paper's "5x" stereo model.

    decoder: "oobleck", the paper's, or "small". width: of the decoder; the paper's is the multiple of `latent` below
    it. blocks, kernel, linear_taps: of "small"; frames that its residual network's convolutions and its linear map see.
    """

    channels: int = 2
    levels: int = 8  # J: wavelet packet levels
    latent: int = 108  # latent channels
    latent_bits: int = 8
    decoder: Literal["oobleck", "small"] = "oobleck"
    width: int = 768
    blocks: int = 2
    kernel: int = 7
    linear_taps: int = 1
    post_taps: int = 129  # of the filter on the decoded waveform
    rate: int = 44100  # samples per second

    def __post_init__(self) -> None:
        """ValueError for sizes that make no network."""
        if self.channels not in (1, 2):
            raise ValueError(f"channels is {self.channels}; there are models of 1 and 2")
        if not 1 <= self.levels <= 2 * STAGE:
            raise ValueError(f"levels is {self.levels}; expected 1 to {2 * STAGE}")
        if not 1 <= self.latent <= self.bands:
            raise ValueError(f"latent is {self.latent}; expected 1 to {self.bands}, the bands of a frame")
        if any(taps % 2 == 0 for taps in (self.kernel, self.linear_taps, self.post_taps)):
            raise ValueError("kernel, linear_taps and post_taps must be odd")
        if self.decoder == "oobleck" and self.width < self.latent:
            raise ValueError(f"width is {self.width}; the decoder of the paper needs at least {self.latent}")

    @property
    def frame(self) -> int:
        """The samples of a frame."""
        return 2**self.levels

    @property
    def bands(self) -> int:
        """The wavelet coefficients of a frame: channel after channel."""
        return self.channels * self.frame

    @property
    def decoder_width(self) -> int:
        """The channels inside the decoder."""
        return self.width // self.latent * self.latent if self.decoder == "oobleck" else self.width

    @property
    def dimension_ratio(self) -> float:
        """The numbers of a frame of samples to each number of its latent."""
        return self.bands / self.latent

    @property
    def receptive_field(self) -> int:
        """The frames to either side that a frame of the decoder's coefficients depends on."""
        if self.decoder == "oobleck":
            # seven taps at both ends, and in the units; two transposed convolutions of two taps, one to either side
            return 3 + 2 * 3 * sum(DILATIONS) + 1 + 3
        return max(self.linear_taps // 2, self.kernel // 2 * (2 + self.blocks * sum(DILATIONS)))

    @property
    def halo(self) -> int:
        """The latent frames to either side that a frame of samples depends on."""
        samples = self.post_taps // 2 + (REACH << STAGE if self.levels > STAGE else 0)
        return self.receptive_field + REACH + -(-samples // self.frame)


PAPER_CONFIGS = {
    # The two published models, by their ratio of dimensions, 4.74 and 18.96.
    "5x-paper": PacketConfig(),
    "20x-paper": PacketConfig(latent=27),
}


def stage_levels(levels: int) -> tuple[int, ...]:
    """The levels of each filter bank of J levels, in the order of the analysis."""
    return (levels,) if levels <= STAGE else (STAGE, levels - STAGE)


@lru_cache(maxsize=16)
def filter_bank(levels: int, inverse: bool) -> NDArray[np.float64]:
    """The matrix (9, m, m), m = 2**levels, of a filter bank away from borders.

    Output block t is the sum over k of matrix[k] @ (input block t - 4 + k). A block is m samples, or the m bands of it.
    """
    m = 2**levels
    n_blocks = 4 * REACH
    whole = (synthesis_matrix if inverse else analysis_matrix)(n_blocks * m, levels, "periodization")
    middle = whole.reshape(n_blocks, m, n_blocks, m)[n_blocks // 2]
    bank = np.ascontiguousarray(middle[:, n_blocks // 2 - REACH : n_blocks // 2 + REACH + 1].transpose(1, 0, 2))
    bank.flags.writeable = False
    return bank
