"""S2LIC for RGB pictures: pixels to latents to bytes, and back. The networks are in `codecs/s2lic/network.py`.

Wang, Fu, Cao, Wang, Chen, Liang: "S2LIC: Learned Image Compression with the SwinV2 Block, Adaptive Channel-wise and
Global-inter Attention Context", arXiv 2403.14471.

Decoding with the network that ships, `small`, is exact: table rows, latents and pixels are the same on every machine,
whatever the number of threads and however the picture was cut into tiles for memory. Encoding is float: two machines
may write (slightly) different files of one picture, and each of them decodes to what its encoder saw. (With the
network of the paper, paper.py, for which no weights ship, table rows and latents come from float64 rounded to a
grid, their checksum is in the file, and pixels are the same up to rounding.)
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...container import Chunk, Header
from ...entropy.coders import DEFAULT as DEFAULT_CODER
from ...entropy.coders import names as coder_names
from ...entropy.exact import round_half_up
from ...entropy.integers import ByteReader, put_varint
from ...errors import StreamError, UsageError
from ..base.codec import EncodedPixels
from ..base.image import ImageCodec
from ..base.settings import Setting
from ..base.weights import find, load_tensors
from . import CARD
from .layers import MEAN_BITS
from .refine import STEPS
from .weights import Model, read_model

if TYPE_CHECKING:
    from typing_extensions import Self

_LATENTS = "Late"
_STEP = "q"
_CHECK = "check"
_CELL = 16  # pixels to a latent
_TILE = 48  # latents to a side of a tile: what is worked on at a time
_HALO_ANALYSIS = 16  # latents around a tile that are looked at; a multiple of the attention's window of 8
_LARGEST = 1 << 14  # of a latent
DEFAULT_QUALITY = 50.0
MOST_EFFORT = 100.0


Method = TypeVar("Method", bound=Callable[..., Any])


def _own_arithmetic(method: Method) -> Method:
    """Runs a method of the codec without gradients, and out of reach of a caller's autocast."""

    @functools.wraps(method)
    def run(self: S2licCodec, *args: Any) -> Any:
        with torch.inference_mode(), torch.autocast(torch.device(self.device).type, enabled=False):
            return method(self, *args)

    return cast(Method, run)


class S2licCodec(ImageCodec):
    """See the module's docstring. quality: 1 to 100, about 0.13 to 1.9 bits per pixel of a photograph."""

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    stream: ClassVar[int] = 1
    critical_chunks: ClassVar[frozenset[str]] = frozenset({_LATENTS})
    sweep: ClassVar[tuple[int, ...]] = (1, *range(10, 101, 10))  # qualities of a rate-distortion curve

    def __init__(
        self,
        model: Model,
        quality: float | None = None,
        device: str = "cpu",
        coder: str = DEFAULT_CODER,
        effort: float = 0.0,
    ) -> None:
        self.model, self.quality, self.device, self.coder, self.effort = model, quality, device, coder, effort

    coders: ClassVar[tuple[str, ...]] = coder_names()

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        if weights is not None:
            return cls(read_model(load_tensors(weights), device), quality, device)
        manifest = find(cls.name, tag)
        return cls(read_model(load_tensors(manifest.path, manifest.sha256), device), quality, device)

    def check_settings(self) -> None:
        """effort: 1 is 20 gradient steps on each picture (`codecs/s2lic/refine.py`), 0 none; files decode alike."""
        if self.coder not in self.coders:
            raise UsageError(f"s2lic has no coder {self.coder!r}: there are {', '.join(self.coders)}")
        if not 0 <= self.effort <= MOST_EFFORT:
            raise UsageError(f"effort {self.effort:g}; s2lic takes 0 to {MOST_EFFORT:g}")
        if self.effort:
            self.model.refiner  # noqa: B018  refuses networks that have none
        self.step_of(None)

    @property
    def weights_id(self) -> bytes:
        return self.model.id

    def step_of(self, quality: float | None) -> int:
        """The quality step that is written into the file."""
        quality = self.quality if quality is None else quality
        quality = DEFAULT_QUALITY if quality is None else quality
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: s2lic takes 1 to 100")
        return self.model.step_of(quality)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Size of y."""
        multiple = self.model.net.config.multiple
        h, w = (-(-side // (_CELL * multiple)) * multiple for side in (height, width))
        return h, w

    # ---- encoding

    def encode_pixels(self, pixels: NDArray[Any], quality: float | None) -> EncodedPixels:
        step = self.step_of(quality)
        z_part, y_parts, check = self._symbols(pixels, step)
        payload = encode_streams(self.model, z_part, y_parts, self.coder)
        params = {_STEP: step} if check is None else {_STEP: step, _CHECK: check}
        return EncodedPixels([Chunk(_LATENTS, payload)], params, self.coder, self.model.net.arithmetic)

    @_own_arithmetic
    def latents(self, pixels: NDArray[Any], step: int) -> Tensor:
        """(1, M, h, w) float32, in units of the quantisation step, of (H, W, 3) pixels; made tile by tile."""
        net = self.model.net
        height, width = pixels.shape[:2]
        h, w = self._grid(height, width)
        out = torch.empty(1, net.config.latent, h, w, dtype=torch.float32, device=self.device)
        t = torch.tensor([step / net.config.quality_steps], dtype=torch.float32, device=self.device)
        window = net.config.stride // _CELL
        for top, bottom in _tiles(h):
            for left, right in _tiles(w):
                rows = _around(top, bottom, h, _HALO_ANALYSIS, window)
                columns = _around(left, right, w, _HALO_ANALYSIS, window)
                x = self._cut(pixels, rows, columns).contiguous(memory_format=torch.channels_last)
                inside = (_CELL * (min(h, rows.stop) - rows.start), _CELL * (min(w, columns.stop) - columns.start))
                y = net.latents(x, t, inside)
                a, b = top - rows[0], left - columns[0]
                out[:, :, top:bottom, left:right] = y[:, :, a : a + bottom - top, b : b + right - left]
        return out.clamp_(-_LARGEST / 2, _LARGEST / 2)

    def _cut(self, pixels: NDArray[Any], rows: range, columns: range) -> Tensor:
        """The pixels of rows and columns of latents, mirrored over the edges: (1, 3, h, w) float32 in [0, 1]."""
        tile = pixels[mirrored(rows, pixels.shape[0])][:, mirrored(columns, pixels.shape[1])]
        x = torch.from_numpy(tile.transpose(2, 0, 1).astype(np.float32)).to(self.device)[None]
        return x * (1.0 / float(np.iinfo(pixels.dtype).max))

    def symbols(self, pixels: NDArray[Any], step: int) -> tuple[Symbols, list[Symbols]]:
        """What is coded: (symbols, rows) of z, and of each pass over y."""
        return self._symbols(pixels, step)[:2]

    @_own_arithmetic
    def _symbols(self, pixels: NDArray[Any], step: int) -> tuple[Symbols, list[Symbols], int | None]:
        """And the checksum of y_hat as the decoder will have it, where arithmetic is of floats."""
        net = self.model.net
        y = self.latents(pixels, step)
        h, w = y.shape[-2:]
        z = net.hyper_analysis(F.pad(y, (0, -w % 4, 0, -h % 4)))[0]
        z_mean, z_row = net.z_parameters(step)
        z_symbols = torch.round(z.double() - z_mean[:, None, None]).clamp_(-_LARGEST / 2, _LARGEST / 2)
        z_symbols = z_symbols * (z_row > 0)[:, None, None]
        z_part = _coded(z_symbols, z_row[:, None, None].expand(z.shape))
        z_hat = (z_symbols + z_mean[:, None, None])[None]
        if self.effort:
            steps = max(1, round(STEPS * self.effort))
            cut = functools.partial(self._cut, pixels)
            size = (pixels.shape[0], pixels.shape[1])
            y = self.model.refiner(y, z_hat, cut, size, step, steps).clamp_(-_LARGEST / 2, _LARGEST / 2)
        parts: list[Symbols] = []
        flat = y[0].flatten(1)

        def take(mean: Tensor, row: Tensor, channels: slice, cells: Tensor) -> Tensor:
            symbols = round_half_up(flat[channels, cells].double() - mean).mul_(row > 0)
            parts.append(_coded(symbols, row))
            return symbols + mean

        y_hat = net.predict(z_hat, h, w, step, take)
        return z_part, parts, None if net.arithmetic == "int" else checksum(y_hat)

    # ---- decoding

    def decode_pixels(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        height, width = header.shape[:2]
        y_hat, step = self._read_latents(header, chunks, height, width)
        return self._synthesise(y_hat, step, height, width, np.dtype(header.dtype))

    @_own_arithmetic
    def _read_latents(self, header: Header, chunks: Sequence[Chunk], height: int, width: int) -> tuple[Tensor, int]:
        """y_hat (1, M, h, w), float64, and the quality step."""
        net = self.model.net
        step = header.params.get(_STEP)
        if type(step) is not int or not 0 <= step <= net.config.quality_steps:
            raise StreamError(f"quality step {step!r}: expected 0 to {net.config.quality_steps}; the file is damaged")
        payloads = [chunk.payload for chunk in chunks if chunk.tag == _LATENTS]
        if len(payloads) != 1:
            raise StreamError(f"{len(payloads)} chunks of latents, expected 1: the file is damaged")
        z_decoder, y_decoder = open_streams(self.model, payloads[0], header.coder)
        h, w = self._grid(height, width)
        z_mean, z_row = net.z_parameters(step)
        rows = z_row[:, None, None].expand(-1, -(-h // 4), -(-w // 4))
        z_hat = _decoded(z_decoder, rows) + z_mean[:, None, None]
        z_decoder.finish()

        def take(mean: Tensor, row: Tensor, channels: slice, cells: Tensor) -> Tensor:
            return _decoded(y_decoder, row) + mean

        y_hat = net.predict(z_hat[None], h, w, step, take)
        y_decoder.finish()
        if net.arithmetic != "int" and header.params.get(_CHECK) != checksum(y_hat):
            raise StreamError(
                "the latents aren't those that the encoder had: its machine rounded one differently (weights of "
                "the network `paper` can't rule that out), or the file is damaged; decode where it was made"
            )
        return y_hat, step

    @_own_arithmetic
    def _synthesise(self, y_hat: Tensor, step: int, height: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Pixels (height, width, 3), in tiles of bounded memory; the cut makes no difference."""
        h, w = y_hat.shape[-2:]
        top_value = float(np.iinfo(dtype).max)
        config = self.model.net.config
        out = np.empty((height, width, 3), dtype)
        for top, bottom in _tiles(h):
            for left, right in _tiles(w):
                rows, columns = (
                    _around(start, stop, size, config.synthesis_halo, config.multiple)
                    for start, stop, size in ((top, bottom, h), (left, right, w))
                )
                x = self.model.net.pixels(y_hat[:, :, rows.start : rows.stop, columns.start : columns.stop], step)[0]
                y0, x0 = (top - rows.start) * _CELL, (left - columns.start) * _CELL
                target = out[top * _CELL : bottom * _CELL, left * _CELL : right * _CELL]
                x = x[:, y0 : y0 + target.shape[0], x0 : x0 + target.shape[1]]
                x = torch.floor(x * top_value + 0.5).clamp_(0, top_value).permute(1, 2, 0).to(torch.int32)
                target[:] = x.cpu().numpy()
        return out


def checksum(y_hat: Tensor) -> int:
    """CRC-32 of latents, (1, M, h, w) float64, as integers of their grid, 4 bytes each, low byte first."""
    grid = torch.round(y_hat * 2**MEAN_BITS).to(torch.int32).cpu().contiguous()
    return zlib.crc32(grid.numpy().astype("<i4", copy=False).data)


Symbols = tuple[NDArray[np.int32], NDArray[np.uint8]]


def _coded(symbols: Tensor, row: Tensor) -> Symbols:
    """Symbols and rows as the coder takes them: row 0 is so narrow that its symbol is always 0 and is not coded."""
    used = row > 0
    return symbols[used].to(torch.int32).cpu().numpy(), row[used].cpu().numpy()


def _decoded(decoder: Any, row: Tensor) -> Tensor:
    """The reverse: symbols, float64, in the shape of row."""
    used = row > 0
    symbols = torch.from_numpy(decoder.take(row[used].cpu().numpy()))
    if len(symbols) and int(symbols.long().abs().max()) > _LARGEST:
        raise StreamError("a latent is out of range: the stream is damaged")
    out = torch.zeros(row.shape, dtype=torch.float64, device=row.device)
    out[used] = symbols.to(row.device, torch.float64)
    return out


def encode_streams(model: Model, z_part: Symbols, y_parts: list[Symbols], coder: str) -> bytes:
    """One payload: length of the stream of z as a variable-length integer, that stream, the stream of y."""
    z = model.z_tables.encode(*z_part, coder)
    y = model.y_tables.encode_steps(y_parts, coder)
    return put_varint(len(z)) + z + y


def open_streams(model: Model, payload: bytes, coder: str) -> tuple[Any, Any]:
    """Decoders of z and y; StreamError if the payload is too short for what it says."""
    reader = ByteReader(payload, "the payload")
    z, y = reader.take(reader.varint()), reader.rest()
    return model.z_tables.decoder(z, coder), model.y_tables.decoder(y, coder)


def _tiles(size: int) -> list[tuple[int, int]]:
    """0...size in pieces of at most _TILE latents, the last one up to half as large again."""
    count = max(1, round(size / _TILE))
    edges = [*(index * _TILE for index in range(count)), size]
    return list(pairwise(edges))


def _around(start: int, stop: int, size: int, halo: int, multiple: int = 1) -> range:
    """Latents to look at for start...stop: a halo to each side, inside 0...size rounded up to the multiple."""
    first = max(0, start - halo) // multiple * multiple
    last = min(size, stop + halo)
    return range(first, last + -(last - first) % multiple)


def mirrored(cells: range, size: int) -> NDArray[np.intp]:
    """Indices of the pixels of these latents, folded into 0...size - 1 by reflection about the first and last edge."""
    pixels = np.arange(cells.start * _CELL, cells.stop * _CELL) % (2 * size)
    return np.minimum(pixels, 2 * size - 1 - pixels)


# ---- weights files
