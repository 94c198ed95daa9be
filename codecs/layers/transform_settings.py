"""The constants of transforms in wavelets and fixed point, and checks of configurations: no torch.

`exact_transforms.py` has the networks that these belong to, `exact_synthesis.py` their integers. A configuration comes
from a recipe or from a weights file, and says what is wrong with it by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = [
    "FINER",
    "LEAK",
    "LOW_BITS",
    "MATRIX_BITS",
    "MOST_CHANNELS",
    "MOST_PARTS",
    "STEPS",
    "TABLE_BITS",
    "WAVELET",
    "SynthesisSizes",
    "check_choice",
    "check_sizes",
    "synthesis_halo",
]

TABLE_BITS = 10  # knots are multiples of 1/1024
STEPS = 64  # quality steps between two knots: interpolation is exact
MATRIX_BITS = 24  # fractional bits of the inverse wavelet matrices
LEAK = 3  # negative values go on at 2**-3 of their slope: plain ReLUs died by the layer (docs/notes/s2lic.md)
FINER = 2  # bits that activations have more near the pixels, where rounding them was seen (docs/notes/s2lic.md)
LOW_BITS = 4  # of these activations, where they have to be cut in two
WAVELET = 4  # packet levels of the linear shortcut: y has 1/16 of the resolution

# A config comes from a recipe or a weights file, and may ask for terabytes: no network of ours is near these sizes.
MOST_CHANNELS = 4096  # of a layer
MOST_PARTS = 64  # blocks of a stage, slices, knots


class SynthesisSizes(Protocol):
    """The sizes of a synthesis (`exact_transforms.Synthesis`), as a configuration has them."""

    @property
    def latent(self) -> int:
        """The channels of its input."""
        ...

    @property
    def synthesis_width(self) -> tuple[int, int, int]:
        """The channels at 1/4, 1/8, 1/16 of the resolution."""
        ...

    @property
    def synthesis_blocks(self) -> tuple[int, int, int]:
        """The residual blocks there."""
        ...

    @property
    def knots(self) -> int:
        """The knots of what depends on the quality."""
        ...


def synthesis_halo(blocks: tuple[int, int, int]) -> int:
    """The cells of y to each side that a pixel depends on; tiles with so many around them make no difference.

    blocks: `SynthesisSizes.synthesis_blocks`.
    """
    n4, n8, n16 = blocks
    last = (2 * n4 + 1) / 4  # blocks at 1/4 of the resolution, and the layer that leaves
    network = 1 + 2 * n16 + n8 + last
    linear = (4 * (2**WAVELET - 1) + 1) / 2**WAVELET + 1 / 4 + last  # the picture that the network looks at
    return math.ceil(max(network, linear))


def check_sizes(config: object, limits: Mapping[str, tuple[int, int]], counts: Mapping[str, int]) -> None:
    """Raises ValueError if a setting isn't a whole number between its limits, or `counts` such numbers."""
    for name, (least, most) in limits.items():
        value = getattr(config, name)
        count = counts.get(name)
        values = [value] if count is None else value if isinstance(value, (tuple, list)) else []
        if len(values) != (count or 1) or not all(type(v) is int and least <= v <= most for v in values):
            wanted = "a whole number" if count is None else f"{count} whole numbers"
            raise ValueError(f"{name} is {value!r:.80}; expected {wanted} from {least} to {most}")


def check_choice(config: object, name: str, allowed: Sequence[str | int]) -> None:
    """Raises ValueError if the setting isn't one of these."""
    value = getattr(config, name)
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise ValueError(f"{name} is {value!r:.80}; there are {', '.join(map(str, allowed)).lower()}")
