"""WaLLoC for RGB pictures: pixels to integer latents to bytes, and back.

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405; the networks and
where they differ are in network.py, and as integers, without torch, in engine.py. Latents are stored as the paper does,
tiled into a lossless WebP picture (coder "webp"), or with arithmetic coding under the context model of
`layers/lattice.py` (coders "constriction", the default, and "torchac").

Decoding is exact: latents, coefficients and pixels are the same on every machine, whatever the number of threads
and however the picture was cut into strips for memory. (With the paper's decoder, a large float network for which no
weights ship, this holds for the latents, and for pixels up to rounding.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from ...container import Chunk, Header, read_header
from ...entropy.coders import DEFAULT as DEFAULT_CODER
from ...entropy.tables import Tables
from ...errors import StreamError, UsageError
from ..base.codec import EncodedPixels
from ..base.image import ImageCodec, as_picture
from ..base.limits import check as check_limits
from ..base.settings import Setting
from ..base.weights import find_by_hash, load_weights
from ..layers.lattice_steps import positions_of
from . import CARD
from .config import EXPANSION_BITS, compander_limit, compander_scale, expansion_integers, largest_latent
from .webp import latents_from_webp, webp_from_latents
from .weights import WallocModel, read_model

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

    from ...media.values import Picture

_LATENTS = "Late"
_GAIN = "g"


@dataclass(frozen=True)
class WallocLatents:
    """The compressed domain of a picture, for learning on it.

    integers: (latent, h, w) int8, what the file stores. scale: (latent, 1, 1) float32: integers * scale is the output
    of the encoder's 1x1 convolution to first order; `expanded` is how the decoder reads them. gain16: 16 log2 of the
    gain before the quantiser, as in the file.
    """

    integers: Tensor
    scale: Tensor
    gain16: int

    @property
    def expanded(self) -> Tensor:
        """The latents as the decoder reads them, (latent, h, w) float32: with the compander's coarser steps undone."""
        import torch

        table = torch.from_numpy(expansion_integers(8) * 2.0**-EXPANSION_BITS).to(self.integers.device)
        return (table[self.integers.long() + 127] * 2.0 ** (-self.gain16 / 16)).float()


class WallocCodec(ImageCodec):
    """The codec `walloc`: see the module's docstring.

    quality: 1 to 50 is the "16x" model, above 50 to 100 the "4x" model, finer steps upwards. coder: how latents are
    written, "constriction", "torchac" or "webp" (as the paper does).

    A codec loaded by tag ("walloc@16x") or from a weights file keeps to its model, and refuses qualities of the other.
    """

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    stream: ClassVar[int] = 1
    critical_chunks: ClassVar[frozenset[str]] = frozenset({_LATENTS})
    coders: ClassVar[tuple[str, ...]] = ("constriction", "torchac", "webp")

    def __init__(
        self,
        model: WallocModel,
        quality: float | None = None,
        device: str = "cpu",
        pinned: bool = True,
        coder: str = DEFAULT_CODER,
    ) -> None:
        self.model, self.quality, self.device, self.pinned, self.coder = model, quality, device, pinned, coder
        self._models: dict[str, WallocModel] = {}  # of other tags, read when they are needed

    # ---- loading

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        pinned = tag is not None or weights is not None
        loaded = load_weights(cls.name, _tag_for(quality) if tag is None else tag, weights)
        return cls(read_model(loaded, device), quality, device, pinned)

    def check_settings(self) -> None:
        if self.coder not in self.coders:
            raise UsageError(f"walloc has no coder {self.coder!r}: there are {', '.join(self.coders)}")
        self._for_quality(None)

    @property
    def weights_id(self) -> bytes:
        return self.model.id

    def _for_quality(self, quality: float | None) -> WallocCodec:
        """The codec whose model covers a quality: this one, or a sibling; UsageError where this one is pinned."""
        quality = self.quality if quality is None else quality
        if quality is None:
            return self
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: walloc takes 1 to 100")
        low, high = self.model.quality
        if self.pinned and low <= quality <= high:
            return self
        if self.pinned:
            raise UsageError(
                f"quality {quality:g}: walloc@{self.model.tag} takes {low:g} to {high:g}; "
                "use `walloc` without a tag for 1 to 100"
            )
        return self._sibling(_tag_for(quality))

    def _sibling(self, tag: str) -> WallocCodec:
        """The codec with the shipped model of another tag, which is read once."""
        if tag == self.model.tag:
            return self
        if tag not in self._models:
            self._models[tag] = type(self).from_weights(tag, None, None, self.device).model
        return WallocCodec(self._models[tag], self.quality, self.device, False, self.coder)

    def _encode(self, picture: Picture, quality: float | None, kind: int) -> bytes:
        codec = self._for_quality(quality)
        return super(WallocCodec, codec)._encode(picture, self.quality if quality is None else quality, kind)

    def _decode(self, data: bytes | bytearray | memoryview, conceal: bool = False) -> tuple[Picture, int]:
        """`ImageCodec._decode`; a codec without a tag reads the files of both models, as it writes them."""
        if not self.pinned:
            header = read_header(data)
            if header.codec == self.name and header.weights != self.weights_id:
                made = find_by_hash(self.name, header.weights)
                if made.retired:
                    codec = type(self).for_header(header, device=self.device, limits=self.limits)
                else:
                    check_limits(header, self.limits)  # before other weights are loaded
                    codec = self._sibling(made.tag).with_limits(self.limits)
                return super(WallocCodec, codec)._decode(data, conceal)
        return super()._decode(data, conceal)

    def check_made_by_us(self, header: Header) -> None:
        super().check_made_by_us(header)
        if header.coder not in self.coders:
            raise StreamError(
                f"coder {header.coder!r}: walloc streams have {', '.join(self.coders)}; the file is damaged or newer"
            )

    # ---- encoding

    def encode_pixels(self, pixels: NDArray[Any], quality: float | None) -> EncodedPixels:
        gain16 = self.model.gain_of(quality)
        latents = self.model.networks.latents(pixels, gain16)
        if self.coder == "webp":
            payload = webp_from_latents(latents, self.model.config)
        else:
            payload = self._entropy_encode(latents, gain16)
        return EncodedPixels([Chunk(_LATENTS, payload)], {_GAIN: gain16}, self.coder, "int")

    def _entropy_encode(self, latents: NDArray[Any], gain16: int) -> bytes:
        """The stream of latents (latent, h, w) under the context model."""
        tables = self._tables()
        _, h, w = latents.shape
        walk = self.model.networks.walk(h, w, gain16)
        flat = latents.reshape(len(latents), -1)
        steps = []
        for index, step in enumerate(walk.steps):
            row, centre = walk.rows(index)
            values = flat[step.start : step.stop, positions_of(step.levels, h, w)]
            walk.put(index, values)
            steps.append((values - centre, row))
        return tables.encode_steps(steps, self.coder)

    def _tables(self) -> Tables:
        """The tables of the context model; UsageError for a model that has none."""
        if not self.model.config.groups or self.model.tables is None:
            raise UsageError(
                f"the model {self.model.tag!r} has no context model: with_settings(coder='webp') can store its latents"
            )
        return self.model.tables

    # ---- decoding

    def decode_pixels(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        height, width = header.shape[:2]
        latents = self._read_latents(header, chunks, height, width)
        gain16 = cast(int, header.params[_GAIN])
        return self.model.networks.pixels(latents, gain16, height, width, np.dtype(header.dtype))

    def _read_latents(self, header: Header, chunks: Sequence[Chunk], height: int, width: int) -> NDArray[np.int16]:
        """The latents (latent, h, w) of a file; StreamError if it is damaged."""
        payloads = [chunk.payload for chunk in chunks if chunk.tag == _LATENTS]
        if len(payloads) != 1:
            raise StreamError(f"{len(payloads)} chunks of latents, expected 1: the file is damaged")
        gain16 = header.params.get(_GAIN)
        if type(gain16) is not int or not -96 <= gain16 <= 96:
            raise StreamError(f"quantiser gain {gain16!r}: expected an integer from -96 to 96; the file is damaged")
        stride = self.model.config.stride
        h, w = -(-height // stride), -(-width // stride)
        if header.coder == "webp":
            return latents_from_webp(payloads[0], self.model.config, h, w)
        return self._entropy_decode(payloads[0], header.coder, gain16, h, w)

    def _entropy_decode(self, payload: bytes, coder: str, gain16: int, h: int, w: int) -> NDArray[np.int16]:
        """The latents (latent, h, w) of a stream of `_entropy_encode`; StreamError if it is damaged."""
        tables, config = self._tables(), self.model.config
        if config.latent * h * w * tables.min_bits > 8 * len(payload) + 64:
            raise StreamError(f"{len(payload)} bytes can't hold the latents of {h}x{w} blocks: the file is damaged")
        decoder = tables.decoder(payload, coder)
        walk = self.model.networks.walk(h, w, gain16)
        largest = largest_latent(config.latent_bits)
        for index, step in enumerate(walk.steps):
            if not len(positions_of(step.levels, h, w)):
                continue
            row, centre = walk.rows(index)
            # far symbols of a damaged stream must not wrap around in 32 bits
            values = decoder.take(row).astype(np.int64) + centre
            if int(np.abs(values).max()) > largest:
                raise StreamError("a latent is out of range: the stream is damaged")
            walk.put(index, values)
        decoder.finish()
        return walk.latents()

    # ---- the compressed domain

    def latents(self, x: Any, quality: float | None = None) -> WallocLatents:
        """The compressed domain of a picture, of any kind that `compress` takes.

        Sides are padded up to a multiple of 2**J = 8 by mirroring at the bottom and right; grey is taken as RGB,
        transparency is left out.
        """
        picture = as_picture(x)
        codec = self._for_quality(quality)
        gain16 = codec.model.gain_of(self.quality if quality is None else quality)
        pixels = picture.pixels
        if pixels.shape[2] == 1:
            pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        import torch

        integers = torch.from_numpy(codec.model.networks.latents(np.ascontiguousarray(pixels), gain16).astype(np.int8))
        integers = integers.to(self.device)
        bits = codec.model.config.latent_bits
        # slope of the compander at zero: 2 M / (s sqrt(2 pi))
        slope = 2 * compander_limit(bits) / (compander_scale(bits) * (2 * np.pi) ** 0.5) * 2.0 ** (gain16 / 16)
        scale = torch.full((len(integers), 1, 1), 1 / slope, dtype=torch.float32)
        return WallocLatents(integers, scale, gain16)


def _tag_for(quality: float | None) -> str:
    return "16x" if quality is None or quality <= 50 else "4x"
