"""The settings of S2LIC's networks, and the constants that all of its modules share: no torch.

`S2licConfig` belongs to network.py, `S2licPaperConfig` to paper.py. A configuration comes from a recipe or from a
weights file, and says what is wrong with it by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..layers.transform_settings import (
    MOST_CHANNELS,
    MOST_PARTS,
    STEPS,
    WAVELET,
    check_choice,
    check_sizes,
    synthesis_halo,
)

__all__ = [
    "LAMBDA",
    "LARGEST_LATENT",
    "LEVELS",
    "LEVEL_UNIT",
    "MEAN_BITS",
    "OTHER_WEIGHTS",
    "Config",
    "S2licConfig",
    "S2licPaperConfig",
]

LEVELS = 64  # rows of the tables of y and of z
MEAN_BITS = 4  # means, and so all values of y_hat and z_hat, are multiples of 1/16
LEVEL_UNIT = 8.0  # networks and knots give levels in this unit, so that they learn fast; a power of two keeps it exact
LARGEST_LATENT = 1 << 14  # magnitude of a latent, and of a symbol
LAMBDA = (0.0012, 0.2)  # weight of 255^2 MSE against bits per pixel at the lowest and highest quality


@dataclass(frozen=True)
class S2licConfig:
    """The sizes of the configuration `small`."""

    latent: int = 320  # channels of y, M in the paper
    slices: tuple[int, ...] = (16, 16, 32, 64, 192)
    hyper: int = 96  # channels of z, N in the paper
    features: int = 256  # of the hyper synthesis
    analysis_width: tuple[int, int, int] = (96, 160, 256)  # channels at 1/4, 1/8, 1/16 of the resolution
    analysis_blocks: tuple[int, int, int] = (2, 3, 1)  # residual blocks there
    synthesis_width: tuple[int, int, int] = (96, 160, 256)
    synthesis_blocks: tuple[int, int, int] = (3, 4, 2)
    attention: int = 2  # SwinV2 blocks at 1/16, in the analysis; 0 = none
    heads: int = 8
    context: int = 128  # channels of the channel-wise context
    passes: Literal[1, 2] = 2  # over each slice: all of it at once, or a checkerboard
    anchor_context: Literal["none", "masked_conv"] = "masked_conv"  # what the second pass sees of the first
    hidden: int = 224  # of the parameter networks
    refine: int = 64  # hidden channels of latent residual prediction; 0 = none
    knots: int = 6  # of everything that depends on the quality

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        channels, parts = (1, MOST_CHANNELS), (0, MOST_PARTS)
        widths = ("hyper", "features", "context", "hidden", "heads", "analysis_width", "synthesis_width")
        limits = {
            "latent": (1, 3 * 4**WAVELET),  # no more than the wavelets have
            **dict.fromkeys(widths, channels),
            **dict.fromkeys(("analysis_blocks", "synthesis_blocks", "attention"), parts),
            "refine": (0, MOST_CHANNELS),
            "knots": (2, MOST_PARTS),
        }
        stages = ("analysis_width", "analysis_blocks", "synthesis_width", "synthesis_blocks")
        check_sizes(self, limits, dict.fromkeys(stages, 3))
        slices = self.slices if isinstance(self.slices, (tuple, list)) else ()
        whole = 1 <= len(slices) <= MOST_PARTS and all(type(size) is int and size >= 1 for size in slices)
        if not whole or sum(slices) != self.latent:
            raise ValueError(
                f"slices is {self.slices!r:.80}; expected at most {MOST_PARTS} whole numbers of 1 or more that sum to "
                f"latent, {self.latent}"
            )
        check_choice(self, "passes", (1, 2))
        check_choice(self, "anchor_context", ("none", "masked_conv"))
        if self.attention and self.analysis_width[2] % self.heads:
            raise ValueError(
                f"heads is {self.heads}; expected a divisor of the last analysis_width, {self.analysis_width[2]}"
            )

    @property
    def stride(self) -> int:
        """The sides of pictures are multiples of this: windows of 8 at 1/16 of the resolution."""
        return 128

    @property
    def multiple(self) -> int:
        """The sides of y are multiples of this."""
        return 1

    @property
    def quality_steps(self) -> int:
        return STEPS * (self.knots - 1)

    @property
    def synthesis_halo(self) -> int:
        """The cells of y to each side that a pixel depends on; tiles with so many around them make no difference."""
        return synthesis_halo(self.synthesis_blocks)


@dataclass(frozen=True)
class S2licPaperConfig:
    """The sizes of the configuration `paper`; defaults are the paper's."""

    width: int = 192  # N
    latent: int = 320  # M
    slices: int = 10
    depths: tuple[int, int, int] = (1, 2, 3)
    heads: tuple[int, int, int] = (4, 8, 16)
    mlp_ratio: float = 4.0
    drop_path: float = 0.1
    enhance: int = 64  # width of the dense block at full resolution; 0 = none
    anchor_context: Literal["none", "masked_conv"] = "masked_conv"
    norm: Literal["none", "group", "batch"] = "none"
    offset_kernel: int = 5
    max_keys: int = 2048
    offset_norm: Literal["none", "layer"] = "none"
    offset_groups: Literal["heads", "one"] = "heads"
    hyper_order: Literal["mlic", "figure"] = "mlic"
    knots: int = 6

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        limits = {
            **dict.fromkeys(("width", "latent", "heads"), (1, MOST_CHANNELS)),
            **dict.fromkeys(("slices", "depths"), (1, MOST_PARTS)),
            "enhance": (0, MOST_CHANNELS),
            "offset_kernel": (1, 31),
            "max_keys": (1, 1 << 20),
            "knots": (2, MOST_PARTS),
        }
        check_sizes(self, limits, {"depths": 3, "heads": 3})
        if self.latent % self.slices:
            raise ValueError(f"slices is {self.slices}; expected a divisor of latent, {self.latent}")
        if any(self.width % heads for heads in self.heads):
            raise ValueError(f"heads is {self.heads}; expected divisors of width, {self.width}")
        if self.offset_kernel % 2 == 0:
            raise ValueError(f"offset_kernel is {self.offset_kernel}; expected an odd number")
        check_choice(self, "anchor_context", ("none", "masked_conv"))
        check_choice(self, "norm", ("none", "group", "batch"))
        check_choice(self, "offset_norm", ("none", "layer"))
        check_choice(self, "offset_groups", ("heads", "one"))
        check_choice(self, "hyper_order", ("mlic", "figure"))
        for name, least, most in (("mlp_ratio", 1 / self.width, 16.0), ("drop_path", 0.0, 0.99)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not least <= value <= most:
                raise ValueError(f"{name} is {value!r:.80}; expected a number from {least:.3g} to {most:g}")

    @property
    def stride(self) -> int:
        """The sides of pictures are multiples of this."""
        return 64

    @property
    def multiple(self) -> int:
        """The sides of y are multiples of this: windows of 8 in the synthesis, at 1/8 of the resolution."""
        return 4

    @property
    def quality_steps(self) -> int:
        return STEPS * (self.knots - 1)

    @property
    def synthesis_halo(self) -> int:
        """The cells of y around a tile. The attention sees further, so cuts change pixels a little."""
        return 7

    @property
    def hyper(self) -> int:
        return self.width


Config = S2licConfig | S2licPaperConfig

OTHER_WEIGHTS = "export them again with `codec train s2lic`, or name another file with weights=... (--weights)"
