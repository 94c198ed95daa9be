"""WaLLoC for RGB pictures: pixels to integer latents to bytes, and back.

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405; the networks and
where they differ are in network.py. Latents are stored as the paper does, tiled into a lossless WebP picture
(coder "webp"), or with arithmetic coding under the context model of `layers/lattice.py` (coders "constriction", the
default, and "torchac").

Decoding is exact: latents, coefficients and pixels are the same on every machine, whatever the number of threads
and however the picture was cut into strips for memory. (With the paper's decoder, a large float network for which no
weights ship, this holds for the latents, and for pixels up to rounding.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...container import Chunk, Header, read_header
from ...entropy.coders import DEFAULT as DEFAULT_CODER
from ...entropy.exact import round_half_up
from ...entropy.tables import Tables
from ...errors import MediaError, StreamError, UsageError, WeightsError
from ...media.webp import decode_webp, encode_webp
from ..base.codec import EncodedPixels
from ..base.image import ImageCodec, as_picture
from ..base.limits import check as check_limits
from ..base.progress import each
from ..base.settings import Setting
from ..base.weights import LoadedWeights, about_of, config_of, find_by_hash, load_weights, reading
from ..layers import exact_state
from ..layers.autoencoder_kl import KLDecoder
from ..layers.inference import own_arithmetic
from ..layers.lattice import row_parameters, step_positions
from ..layers.wavelet import apply_plan, blocks_to_channels, channels_to_blocks, transform_plan
from . import CARD
from .network import COEFFICIENT_BITS, SYNTHESIS_BITS, LinearDecoder, WallocConfig, WallocNet, expansion_table, mirrored

if TYPE_CHECKING:
    from typing_extensions import Self

    from ...media.values import Picture

_LATENTS = "Late"
_GAIN = "g"
# Pixels worked on at a time, and the widest tile of the post-filter. Larger ones are slower: the allocator gives large
# tensors back to the system after each operation, and the page faults cost as much as the arithmetic (on one thread,
# a Kodak picture: 0.40 s and 0.27 s in the kernel with tiles of 256x1536, 0.42 s and 0.03 s with these).
_STRIP_PIXELS = 3 << 16
_TILE_WIDTH = 384  # a multiple of every model's block
_WEBP_SIDE = 16383


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
        table = expansion_table(8).to(self.integers.device)
        return (table[self.integers.long() + 127] * 2.0 ** (-self.gain16 / 16)).float()


@dataclass(frozen=True)
class WallocModel:
    """The content of a weights file: frozen networks, tables, and facts about them."""

    net: WallocNet
    tables: Tables | None
    tag: str
    quality: tuple[float, float]  # the part of the quality scale 1-100 that this model covers
    gain16: tuple[int, int]  # 16 log2(gain) at its two ends
    nominal: int  # 16 log2(gain) if no quality is asked for
    id: bytes

    def gain_of(self, quality: float | None) -> int:
        """The gain at a quality of this model's range, as 16 log2(gain); quality None: the nominal gain."""
        if quality is None:
            return self.nominal
        (low, high), (first, last) = self.quality, self.gain16
        return round(first + (quality - low) / (high - low) * (last - first))


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

    def _decode(self, data: bytes | bytearray | memoryview) -> tuple[Picture, int]:
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
                return super(WallocCodec, codec)._decode(data)
        return super()._decode(data)

    def check_made_by_us(self, header: Header) -> None:
        super().check_made_by_us(header)
        if header.coder not in self.coders:
            raise StreamError(
                f"coder {header.coder!r}: walloc streams have {', '.join(self.coders)}; the file is damaged or newer"
            )

    # ---- encoding

    @own_arithmetic
    def integers(self, pixels: NDArray[Any], gain16: int) -> Tensor:
        """The integer latents, (1, latent, h, w) float32, of (H, W, 3) pixels, made strip by strip."""
        net = self.model.net
        config = net.config
        stride = config.stride
        height, width = pixels.shape[:2]
        bottom, right = -height % stride, -width % stride
        if bottom or right:
            pixels = np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="symmetric")
        scale = 1.0 / float(np.iinfo(pixels.dtype).max)
        full_height, full_width = pixels.shape[:2]
        h, w = full_height // stride, full_width // stride
        out = torch.empty(1, config.latent, h, w, dtype=torch.float32, device=self.device)
        across = transform_plan(full_width, config.levels, config.boundary, False, None)
        down = transform_plan(full_height, config.levels, config.boundary, False, None)
        gain = 2.0 ** (gain16 / 16)
        chunks = down.chunks
        # the full encoder sees further than one latent: it takes the picture whole
        per_strip = max(1, _STRIP_PIXELS // (64 * full_width)) if config.encoder == "linear" else len(chunks)
        for first in each(range(0, len(chunks), per_strip), "strip", 0.0, 0.9):
            group = chunks[first : first + per_strip]
            start, stop = group[0].source.start, group[-1].source.stop
            rows = np.arange(start - down.wrap, stop - down.wrap) % full_height if down.wrap else slice(start, stop)
            strip = torch.from_numpy(np.ascontiguousarray(pixels[rows].transpose(2, 0, 1)).astype(np.float32))
            strip = (strip.to(self.device) * scale - 0.5)[None]
            parts = []
            for chunk in group:
                source = strip[:, :, chunk.source.start - start : chunk.source.stop - start]
                parts.append(torch.matmul(chunk.matrix.to(strip), source))
            coefficients = apply_plan(torch.cat(parts, 2) if len(parts) > 1 else parts[0], -1, across)
            coefficients = blocks_to_channels(coefficients, config.levels)
            u = net.compander(net.encoder(coefficients) * gain)
            out[:, :, group[0].out.start // stride : group[-1].out.stop // stride] = torch.round(u)
        return out

    def encode_pixels(self, pixels: NDArray[Any], quality: float | None) -> EncodedPixels:
        gain16 = self.model.gain_of(quality)
        latents = self.integers(pixels, gain16)
        if self.coder == "webp":
            payload = webp_from_latents(latents[0].cpu().numpy().astype(np.int16), self.model.net.config)
        else:
            payload = self._entropy_encode(latents, gain16)
        return EncodedPixels([Chunk(_LATENTS, payload)], {_GAIN: gain16}, self.coder, "int")

    @own_arithmetic
    def _entropy_encode(self, latents: Tensor, gain16: int) -> bytes:
        """The stream of latents (1, latent, h, w) under the context model."""
        context, tables = self._context()
        h, w = latents.shape[-2:]
        side = self.model.net.side(latents.shape, gain16)
        flat = latents[0].flatten(1)
        steps = []
        for index, step in enumerate(context.steps):
            row, centre = context.rows(index, latents, side)
            where = step_positions(step, h, w).to(latents.device)
            symbols = flat[step.start : step.stop, where].int() - centre
            steps.append((symbols.cpu().numpy(), row.cpu().numpy()))
        return tables.encode_steps(steps, self.coder)

    def _context(self) -> tuple[Any, Tables]:
        """The context model and its tables; UsageError for a model that has none."""
        if self.model.net.context is None or self.model.tables is None:
            raise UsageError(
                f"the model {self.model.tag!r} has no context model: with_settings(coder='webp') can store its latents"
            )
        return self.model.net.context, self.model.tables

    # ---- decoding

    def decode_pixels(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        height, width = header.shape[:2]
        latents = self._read_latents(header, chunks, height, width)
        gain16 = cast(int, header.params[_GAIN])
        return self._synthesise(latents, gain16, height, width, np.dtype(header.dtype))

    def _read_latents(self, header: Header, chunks: Sequence[Chunk], height: int, width: int) -> Tensor:
        """The latents (1, latent, h, w), float32, of a file; StreamError if it is damaged."""
        payloads = [chunk.payload for chunk in chunks if chunk.tag == _LATENTS]
        if len(payloads) != 1:
            raise StreamError(f"{len(payloads)} chunks of latents, expected 1: the file is damaged")
        gain16 = header.params.get(_GAIN)
        if type(gain16) is not int or not -96 <= gain16 <= 96:
            raise StreamError(f"quantiser gain {gain16!r}: expected an integer from -96 to 96; the file is damaged")
        stride = self.model.net.config.stride
        h, w = -(-height // stride), -(-width // stride)
        if header.coder == "webp":
            return (
                torch.from_numpy(latents_from_webp(payloads[0], self.model.net.config, h, w))
                .float()[None]
                .to(self.device)
            )
        return self._entropy_decode(payloads[0], header.coder, gain16, h, w)

    @own_arithmetic
    def _entropy_decode(self, payload: bytes, coder: str, gain16: int, h: int, w: int) -> Tensor:
        """The latents (1, latent, h, w), float32, of a stream of `_entropy_encode`; StreamError if it is damaged."""
        context, tables = self._context()
        net = self.model.net
        if net.config.latent * h * w * tables.min_bits > 8 * len(payload) + 64:
            raise StreamError(f"{len(payload)} bytes can't hold the latents of {h}x{w} blocks: the file is damaged")
        decoder = tables.decoder(payload, coder)
        latents = torch.zeros(1, net.config.latent, h, w, dtype=torch.float32, device=self.device)
        side = net.side(latents.shape, gain16)
        flat = latents[0].flatten(1)  # a view
        for index, step in enumerate(context.steps):
            where = step_positions(step, h, w).to(latents.device)
            if not len(where):
                continue
            row, centre = context.rows(index, latents, side)
            symbols = torch.from_numpy(decoder.take(row.cpu().numpy())).to(latents.device)
            # far symbols of a damaged stream must not wrap around in 32 bits
            values = symbols.long() + centre.long()
            if int(values.abs().max()) > net.compander.largest:
                raise StreamError("a latent is out of range: the stream is damaged")
            flat[step.start : step.stop, where] = values.float()
        decoder.finish()
        return latents

    @own_arithmetic
    def _synthesise(self, latents: Tensor, gain16: int, height: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The picture of integer latents, (height, width, 3), tile by tile; the cut makes no difference."""
        net = self.model.net
        stride = net.config.stride
        full_height, full_width = latents.shape[-2] * stride, latents.shape[-1] * stride
        top = float(np.iinfo(dtype).max)
        post = net.post
        reach = 0 if post is None else post.border
        whole = isinstance(net.decoder, KLDecoder) or net.config.boundary == "periodization"
        columns = full_width if whole else min(full_width, _TILE_WIDTH)
        rows = full_height if whole else max(64, _STRIP_PIXELS // columns // 64 * 64)
        out = np.empty((height, width, 3), dtype)
        for start in each(range(0, full_height, rows), "strip", 0.3, 1.0):
            stop = min(full_height, start + rows)
            low, high = max(0, start - reach), min(full_height, stop + reach)
            x = self._inverse_wavelet(latents, gain16, low, high)
            for left in range(0, full_width, columns):
                right = min(full_width, left + columns)
                # beyond the borders the picture is mirrored: zeros would show, on saturated flats most
                down = mirrored(start - reach, stop + reach, full_height) - low
                across = mirrored(left - reach, right + reach, full_width)
                tile = x.index_select(2, down.to(x.device)).index_select(3, across.to(x.device))
                if post is not None:
                    tile = post(tile)[:, :, reach:-reach, reach:-reach]
                tile = torch.floor((tile[0] + 0.5) * top + 0.5).clamp_(0, top).permute(1, 2, 0).to(torch.int32)
                target = out[start:stop, left:right]
                target[:] = tile[: target.shape[0], : target.shape[1]].cpu().numpy()
        return out

    def _inverse_wavelet(self, latents: Tensor, gain16: int, start: int, stop: int) -> Tensor:
        """The rows start:stop of pixels minus 1/2 before the post-filter, (1, 3, rows, W) float64 on a 2**-16 grid.

        start and stop are multiples of the stride. All sums are exact: coefficients of at most 21 bits, 23 after the
        first axis, times rows of matrix entries whose magnitudes sum to 2**26.5.
        """
        net = self.model.net
        levels, boundary, stride = net.config.levels, net.config.boundary, net.config.stride
        h = latents.shape[-2]
        down = transform_plan(h * stride, levels, boundary, True, SYNTHESIS_BITS)
        across = transform_plan(latents.shape[-1] * stride, levels, boundary, True, SYNTHESIS_BITS)
        chunks = [c for c in down.chunks if c.out.stop > start and c.out.start < stop]
        first, last = (0, h) if down.wrap else (chunks[0].source.start // stride, chunks[-1].source.stop // stride)
        if isinstance(net.decoder, LinearDecoder):
            # the 3x3 map looks one latent further; beyond the borders they are mirrored
            w = latents.shape[-1]
            rows, columns = mirrored(first - 1, last + 1, h), mirrored(-1, w + 1, w)
            near = latents.index_select(2, rows.to(latents.device)).index_select(3, columns.to(latents.device))
            y = net.decoder(net.expand_exact(near, gain16))[:, :, 1:-1, 1:-1]
        else:
            y = net.decoder(net.expand_exact(latents[:, :, first:last], gain16).float())
        grid = 2.0**COEFFICIENT_BITS
        y = torch.clamp(round_half_up(y.double() * grid), -16 * grid, 16 * grid)
        y = apply_plan(channels_to_blocks(y, levels), -1, across)
        y = round_half_up(y.mul_(2.0**-SYNTHESIS_BITS))
        base = first * stride
        if down.wrap:
            y = torch.cat([y[:, :, -down.wrap :], y, y[:, :, : down.wrap]], 2)
            base = 0
        parts = [
            torch.matmul(c.matrix.to(y.device), y[:, :, c.source.start - base : c.source.stop - base]) for c in chunks
        ]
        x = round_half_up(torch.cat(parts, 2).mul_(2.0**-SYNTHESIS_BITS)).mul_(2.0**-COEFFICIENT_BITS)
        skip = start - chunks[0].out.start
        return x[:, :, skip : skip + stop - start]

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
        integers = codec.integers(np.ascontiguousarray(pixels), gain16)[0].to(torch.int8)
        compander = codec.model.net.compander
        # slope of the compander at zero: 2 M / (s sqrt(2 pi))
        slope = 2 * compander.limit / (compander.scale * (2 * np.pi) ** 0.5) * 2.0 ** (gain16 / 16)
        scale = torch.full((len(integers), 1, 1), 1 / slope, dtype=torch.float32)
        return WallocLatents(integers, scale, gain16)


def _tag_for(quality: float | None) -> str:
    return "16x" if quality is None or quality <= 50 else "4x"


# ---- latents as a lossless WebP picture (paper; section 6 of the authors' package)


def _webp_tiling(config: WallocConfig) -> tuple[int, int]:
    """The tiling (planes, n): latent = planes * n**2, with 3 planes (RGB) or 1 (grey)."""
    for planes in (3, 1):
        n = round((config.latent / planes) ** 0.5)
        if n * n * planes == config.latent:
            return planes, n
    raise UsageError(f"{config.latent} latent channels can't be tiled into a picture: they must be 3 n^2 or n^2")


def webp_from_latents(latents: NDArray[np.int16], config: WallocConfig) -> bytes:
    """The latents (latent, h, w) as a lossless WebP: channel (plane, i, j) is the tile (i, j) of its plane."""
    planes, n = _webp_tiling(config)
    _, h, w = latents.shape
    if max(n * h, n * w) > _WEBP_SIDE:
        raise MediaError(
            f"the latents of this picture make a WebP of {n * w}x{n * h}, over its limit of {_WEBP_SIDE}: "
            "use another coder"
        )
    tiled = (latents + 2 ** (config.latent_bits - 1)).astype(np.uint8).reshape(planes, n, n, h, w)
    tiled = tiled.transpose(1, 3, 2, 4, 0).reshape(n * h, n * w, planes)
    return encode_webp(tiled if planes == 3 else tiled[:, :, 0])


def latents_from_webp(payload: bytes, config: WallocConfig, h: int, w: int) -> NDArray[np.int16]:
    """The inverse of `webp_from_latents`; StreamError unless the picture is what the header says."""
    planes, n = _webp_tiling(config)
    try:
        tiled = decode_webp(payload, n * h, n * w)[:, :, :planes]
    except MediaError as error:
        raise StreamError(f"the WebP picture that holds the latents is damaged: {error}") from None
    values = tiled.reshape(n, h, n, w, planes).transpose(4, 0, 2, 1, 3).reshape(config.latent, h, w).astype(np.int16)
    values -= 2 ** (config.latent_bits - 1)
    if np.abs(values).max(initial=0) > 2 ** (config.latent_bits - 1) - 1:
        raise StreamError("a latent is out of range: the stream is damaged")
    return values


# ---- weights files


def logistic_tables(largest: int) -> Tables:
    """The tables of every row of `layers.lattice`: logistic densities over integers, cut where they carry < 2**-17."""
    means, scales = row_parameters()
    pmf, offsets = [], []
    for mean, scale in zip(means.tolist(), scales.tolist(), strict=True):
        reach = min(2 * largest, max(1, int(np.ceil(scale * 11.8 + abs(mean)))))
        edges = (np.arange(-reach, reach + 2) - 0.5 - mean) / scale
        cdf = 1 / (1 + np.exp(-np.clip(edges, -700, 700)))
        pmf.append(np.diff(cdf))
        offsets.append(-reach)
    return Tables.from_pmf(pmf, np.array(offsets))


def export_state(net: WallocNet, tables: Tables | None) -> dict[str, Tensor]:
    """The tensors of a weights file: integers and exponents of exact layers, floats of the others, entropy tables."""
    state = exact_state.export_state(net, torch.float32)
    if tables is not None:
        state |= {f"tables.{k}": torch.from_numpy(np.array(v)) for k, v in tables.to_state().items()}
    return state


def import_state(net: WallocNet, state: Mapping[str, Tensor]) -> Tables | None:
    """Fills a network from the tensors of a weights file, and returns the tables. WeightsError if they don't fit."""
    tables = {k.removeprefix("tables."): v.numpy() for k, v in state.items() if k.startswith("tables.")}
    exact_state.import_state(net, _of_network(state))
    try:
        return Tables.from_state(tables) if tables else None
    except KeyError as error:
        raise WeightsError(f"these weights lack entropy tables that they should have: {error}") from None


def metadata(
    config: WallocConfig, tag: str, quality: tuple[float, float], gain16: tuple[int, int], nominal: int
) -> dict[str, str]:
    """The text map of a weights file: all that is needed to rebuild the network."""
    fields = {"config": asdict(config), "tag": tag, "quality": quality, "gain16": gain16, "nominal": nominal}
    return {"codec": "walloc", "walloc": json.dumps(fields, sort_keys=True)}


_LIMITS: Mapping[str, tuple[float, float]] = {  # of a configuration's numbers
    "levels": (1, 6),
    "latent": (1, 4096),
    "latent_bits": (2, 8),
    "encoder_width": (1, 4096),
    "width": (1, 4096),
    "blocks": (0, 64),
    "groups": (1, 4096),
    "context_width": (1, 4096),
}
_MOST_GROUPS = 64


def read_model(weights: LoadedWeights, device: str = "cpu") -> WallocModel:
    """The model of a weights file: networks frozen, in eval mode. WeightsError if it holds anything else."""
    with reading("walloc"):
        about = about_of(weights, "walloc")
        config = config_of(WallocConfig, about["config"], _LIMITS)
        if config.groups and (len(config.groups) > _MOST_GROUPS or sum(config.groups) != config.latent):
            raise ValueError(f"groups is {config.groups!r:.80}; expected numbers that sum to latent, {config.latent}")
        quality = _rising(about["quality"], (0, 100), (int, float))
        gain16 = _rising(about["gain16"], (-96, 96), (int,))
        tag, nominal = str(about["tag"]), _rising([about["nominal"], 96], (-96, 96), (int,))[0]
        if config.groups and not any(name.startswith("tables.") for name in weights.tensors):
            raise WeightsError("these weights lack entropy tables that they should have")
        with torch.device("meta"):  # takes no memory
            exact_state.check_state(WallocNet(config), _of_network(weights.tensors))
        exact_state.check_numbers(weights.tensors)
        with torch.device("cpu"):
            net = WallocNet(config).float()  # whatever the caller's default device and dtype are
        tables = import_state(net, weights.tensors)
        if tables is not None and len(tables.lengths) != len(row_parameters()[0]):
            raise WeightsError(f"the entropy tables have {len(tables.lengths)} rows, not {len(row_parameters()[0])}")
        net.requires_grad_(False)
        net.to(device).freeze()
        return WallocModel(net, tables, tag, quality, cast("tuple[int, int]", gain16), cast(int, nominal), weights.id)


def _rising(pair: Any, limits: tuple[int, int], kinds: tuple[type, ...]) -> tuple[float, float]:
    """A pair of rising numbers within limits; ValueError for anything else."""
    low, high = pair
    if type(low) not in kinds or type(high) not in kinds or not limits[0] <= low <= high <= limits[1]:
        raise ValueError(f"{pair!r:.80}; expected two rising numbers from {limits[0]} to {limits[1]}")
    return low, high


def _of_network(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("tables.")}
