"""The sizes of Entropic Student, its view of a photograph, and which level a quality takes: no torch.

Matsubara, Yang, Levorato, Mandt, "Supervised Compression for Resource-Constrained Edge Computing Systems", WACV 2022,
arXiv 2108.11898.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..layers.transform_settings import MOST_CHANNELS, MOST_PARTS, STEPS, check_sizes

__all__ = ["CHANNELS", "FACTOR", "LEVELS", "SEEN", "SIDE", "EntropicStudentConfig", "level_of", "view_of"]

SEEN, OUTER = 224, 256  # pixels to a side that the teacher sees, and of the short side that they are cut out of
FACTOR = 4  # the features have a quarter of the resolution,
CHANNELS = 24  # and as many channels as the teacher's second stage
SIDE = SEEN // FACTOR
CELL = 4  # features to a side of a block that is transformed as a whole
CELLS = SIDE // CELL
STEM = 32  # channels of the first layer
BLOCKS = ((32, 16, 1, 1), (16, 24, 2, 6), (24, 24, 1, 6))  # inputs, outputs, stride and expansion of those after it
LEVELS = 33  # rates: qualities 1 to 100 in equal steps
LARGEST_LATENT = 1 << 20  # in size, of an integer latent
GRID_BITS = 12  # of the integers that the decoder takes
FEATURE_BITS = 16  # of those that it gives
OTHER_WEIGHTS = "export them again with `codec train entropic-student`, or name another file with --weights"


@dataclass(frozen=True)
class EntropicStudentConfig:
    """The sizes of the networks."""

    latent: int = 192  # channels of the bottleneck
    decoder_width: tuple[int, int] = (64, 64)  # of the part of the decoder that isn't linear
    knots: int = 5  # of the gains, over the range of qualities

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        channels = (1, MOST_CHANNELS)
        limits = {"latent": (1, CHANNELS * CELL**2), "decoder_width": channels, "knots": (2, MOST_PARTS)}
        check_sizes(self, limits, {"decoder_width": 2})
        if STEPS * (self.knots - 1) % (LEVELS - 1):
            raise ValueError(f"knots is {self.knots}; its steps are no multiple of the levels")

    @property
    def last_step(self) -> int:
        """The quality step of the highest quality."""
        return STEPS * (self.knots - 1)

    def step_of(self, level: int) -> int:
        """The quality step of a level, from 0 on."""
        return level * (self.last_step // (LEVELS - 1))


def level_of(quality: float) -> int:
    """The level, 0 to LEVELS - 1, of a quality from 1 to 100."""
    return round((quality - 1) / 99 * (LEVELS - 1))


def view_of(pixels: NDArray[np.uint8], outer: int = OUTER, seen: int = SEEN) -> NDArray[np.uint8]:
    """The middle square of a picture whose short side is scaled to `outer` pixels: (seen, seen, 3), bicubic.

    It is what EfficientNet-Lite0 was trained to see. pixels: (H, W, 3).
    """
    height, width = pixels.shape[:2]
    scale = outer / min(height, width)
    size = (max(seen, round(width * scale)), max(seen, round(height * scale)))
    scaled = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    top, left = ((n - seen) // 2 for n in scaled.shape[:2])
    return np.ascontiguousarray(scaled[top : top + seen, left : left + seen])
