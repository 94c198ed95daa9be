"""The weights files of WaLLoC's audio models, read strictly; and what a codec asks of them.

A small model needs no torch: `packets_exact.py`. One of the paper does, and promises no exact samples.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .... import native
from ....errors import StreamError, UsageError, WeightsError
from ...base.weights import LoadedWeights, about_of, config_of, load_tensors, reading
from ...layers.frozen import check_numbers, check_shapes
from .packets import PacketConfig
from .packets_exact import MOST_GAIN16, PacketDecoder, PacketEncoder, frames_of, tensor_shapes

__all__ = ["PacketModel"]

_LIMITS: Mapping[str, tuple[float, float]] = {  # of a configuration's numbers
    "channels": (1, 2),
    "levels": (1, 8),
    "latent": (1, 512),
    "latent_bits": (2, 12),
    "width": (1, 4096),
    "blocks": (0, 16),
    "kernel": (1, 15),
    "linear_taps": (1, 15),
    "post_taps": (1, 1025),
    "rate": (1000, 768000),
}


@dataclass(frozen=True, eq=False)
class PacketModel:
    """The content of a weights file: configuration, facts about it, and networks, made when they are needed.

    gain16: 16 log2(gain) at the ends of the quality scale 1-100; nominal: if no quality is asked for. id: the first
    bytes of the file's hash.
    """

    config: PacketConfig
    tag: str
    gain16: tuple[int, int]
    nominal: int
    id: bytes
    weights: LoadedWeights = field(repr=False)
    device: str = "cpu"

    @classmethod
    def read(cls, weights: LoadedWeights | str | Path, device: str = "cpu") -> PacketModel:
        """The model of a weights file, or of one that has been loaded. WeightsError if it holds anything else."""
        loaded = weights if isinstance(weights, LoadedWeights) else load_tensors(weights)
        with reading("walloc-audio"):
            about = about_of(loaded, "walloc-audio")
            config = config_of(PacketConfig, about["config"], _LIMITS)
            low, high = about["gain16"]
            nominal = about["nominal"]
            if any(type(g) is not int for g in (low, high, nominal)) or not -MOST_GAIN16 <= low <= high <= MOST_GAIN16:
                raise ValueError(f"gains {low!r:.40}, {high!r:.40}, {nominal!r:.40}; expected rising whole numbers")
            if not low <= nominal <= high:
                raise ValueError(f"nominal is {nominal}; expected {low} to {high}")
            check_numbers(loaded.arrays)
            if config.decoder == "small":
                check_shapes(tensor_shapes(config), loaded.arrays)
            elif not native.has_torch():
                raise WeightsError("these weights need PyTorch: pip install torch")
            model = cls(config, str(about["tag"]), (low, high), nominal, loaded.id, loaded, device)
            model._networks  # noqa: B018  what is wrong with them is said now
            return model

    @property
    def exact(self) -> bool:
        """Whether files decode to the same samples on every machine."""
        return self.config.decoder == "small"

    @functools.cached_property
    def _networks(self) -> Any:
        """The encoder and decoder of a small model, or the network of the paper twice."""
        if self.exact:
            return PacketEncoder(self.weights.arrays, self.config), PacketDecoder(self.weights.arrays, self.config)
        from .packets_torch import TorchPackets

        network = TorchPackets(self.config, self.weights.tensors, self.device)
        return network, network

    def gain_of(self, quality: float | None) -> int:
        """The gain at a quality from 1 to 100, as 16 log2(gain); None: the nominal one."""
        if quality is None:
            return self.nominal
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: expected 1 to 100")
        return round(self.gain16[0] + (quality - 1) / 99 * (self.gain16[1] - self.gain16[0]))

    def latents(self, samples: NDArray[Any], gain16: int) -> NDArray[np.int16]:
        """The integer latents, (latent, frames_of(n)), of samples (n, channels), float in [-1, 1].

        gain16: 16 log2(gain), -96 to 96. The first frame lies before the first sample, the last one behind the last.
        """
        self._check_gain(gain16)
        if samples.ndim != 2 or samples.shape[1] != self.config.channels:
            raise UsageError(f"samples of shape {samples.shape}: this model takes (n, {self.config.channels})")
        return self._networks[0].latents(samples, gain16)

    def samples(
        self, latents: NDArray[Any], gain16: int, n: int, start: int = 0, stop: int | None = None
    ) -> NDArray[np.int32]:
        """The samples [start, stop) of n, (stop - start, channels) in units of 2**-23, of all latents (latent, F).

        They may go beyond one in magnitude. StreamError if the latents are none of n samples.
        """
        self._check_gain(gain16)
        if latents.shape != (self.config.latent, frames_of(n, self.config)):
            raise StreamError(
                f"latents of shape {latents.shape}: {n} samples have {frames_of(n, self.config)} frames of "
                f"{self.config.latent}; the stream is damaged"
            )
        if self.exact:
            return self._networks[1].samples(latents, gain16, n, start, stop)
        return self._networks[1].samples(latents, gain16, n)[start:stop]

    def frames(self, latents: NDArray[Any], gain16: int) -> NDArray[np.int32]:
        """The samples of the middle frames, ((T - 2 halo) * frame, channels), of latents (latent, T) with their halo.

        The same values as in `samples`: latents beyond a recording are zero. Frame k of the latents, counted from 0,
        has the samples from (k - 1) * frame on. UsageError for a model of the paper, which has no such promise.
        """
        self._check_gain(gain16)
        if not self.exact:
            raise UsageError("a model of the paper decodes whole recordings only")
        return self._networks[1].frames(latents, gain16)

    @staticmethod
    def _check_gain(gain16: int) -> None:
        if not -MOST_GAIN16 <= gain16 <= MOST_GAIN16:
            raise StreamError(f"a gain of {gain16}: expected {-MOST_GAIN16} to {MOST_GAIN16}; the stream is damaged")
