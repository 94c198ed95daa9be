"""The settings of VQGAN's network `small`, and which of its codebooks a quality takes: no torch.

A configuration comes from a recipe or from a weights file, and says what is wrong with it by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..layers.transform_settings import (
    MOST_CHANNELS,
    MOST_PARTS,
    STEPS,
    WAVELET,
    check_sizes,
    synthesis_halo,
)

__all__ = ["CODEBOOKS", "LATENT_BITS", "LATENT_EXPONENT", "OTHER_WEIGHTS", "VqganConfig", "codebook_of"]

CODEBOOKS = tuple(2**bits for bits in range(3, 15))  # words: nine of the paper's curve, 8 to 2048, and larger ones
LATENT_BITS = 20  # of the latents that the token network gives to the synthesis,
LATENT_EXPONENT = 14  # which are multiples of 2**-14

OTHER_WEIGHTS = "export them again with `codec train vqgan`, or name another file with weights=... (--weights)"


@dataclass(frozen=True)
class VqganConfig:
    """The sizes of the configuration `small`."""

    dim: int = 16  # numbers of a codeword
    width: int = 256  # channels of the networks at 1/16 of the resolution
    head_blocks: int = 3  # residual blocks of the encoder
    blocks: int = 6  # and of the decoder, before the latents
    latent: int = 320  # channels of the linear map of wavelets, and of what the synthesis takes
    codebooks: tuple[int, ...] = CODEBOOKS
    synthesis_width: tuple[int, int, int] = (96, 160, 256)  # channels at 1/4, 1/8, 1/16 of the resolution
    synthesis_blocks: tuple[int, int, int] = (3, 4, 2)
    knots: int = 6  # of the gains in the synthesis
    step: int = 160  # the quality step at which the synthesis runs, whatever the codebook

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        channels, parts = (1, MOST_CHANNELS), (0, MOST_PARTS)
        limits = {
            **dict.fromkeys(("dim", "width", "synthesis_width"), channels),
            **dict.fromkeys(("head_blocks", "blocks", "synthesis_blocks"), parts),
            "latent": (1, 3 * 4**WAVELET),  # no more than the wavelets have
            "knots": (2, MOST_PARTS),
        }
        check_sizes(self, limits, {"synthesis_width": 3, "synthesis_blocks": 3})
        check_sizes(self, {"step": (0, STEPS * (self.knots - 1))}, {})
        words = self.codebooks if isinstance(self.codebooks, (tuple, list)) else ()
        allowed = [2**bits for bits in range(1, 17)]
        if not words or any(type(k) is not int or k not in allowed for k in words) or sorted({*words}) != [*words]:
            raise ValueError(f"codebooks is {self.codebooks!r:.80}; expected powers of two from 2 to 65536, rising")

    @property
    def quality_steps(self) -> int:
        """The last quality step of the synthesis."""
        return STEPS * (self.knots - 1)

    @property
    def halo(self) -> int:
        """The cells to each side that a pixel depends on; tiles with so many around them make no difference."""
        return 2 * self.blocks + synthesis_halo(self.synthesis_blocks)

    @property
    def encoder_halo(self) -> int:
        """The cells to each side that an index depends on."""
        return 2 * self.head_blocks + 4  # the wavelets' filters span 4 cells


def codebook_of(codebooks: tuple[int, ...], quality: float) -> int:
    """The words of the codebook that a quality, 1 to 100, takes: as many equal steps as there are codebooks."""
    return codebooks[min(len(codebooks) - 1, int((quality - 1) / 99 * len(codebooks)))]
