"""S2LIC for RGB pictures: pixels to latents to bytes, and back.

Wang, Fu, Cao, Wang, Chen, Liang: "S2LIC: Learned Image Compression with the SwinV2 Block, Adaptive Channel-wise and
Global-inter Attention Context", arXiv 2403.14471. The networks, and where they differ: network.py, and paper.py for
those of the paper.

Decoding with the network that ships, `small`, is exact: table rows, latents and pixels are the same on every machine,
whatever the number of threads and however the picture was cut into tiles for memory. Encoding is float: two machines
may write (slightly) different files of one picture, and each of them decodes to what its encoder saw. (With the
networks of the paper, for which no weights ship, table rows and latents come from float64 rounded to a grid, their
checksum is in the file, and pixels are the same up to rounding.)
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

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
from ..base.progress import each
from ..base.settings import Setting
from ..base.weights import load_weights
from ..layers.inference import own_arithmetic
from . import CARD
from .config import MEAN_BITS
from .refine import STEPS
from .tiles import CELL, around, mirrored_pixels, tiles
from .weights import S2licModel, read_model

if TYPE_CHECKING:
    from typing_extensions import Self

_LATENTS = "Late"
_STEP = "q"
_CHECK = "check"
_HALO_ANALYSIS = 16  # cells around a tile that are looked at; a multiple of the attention's window of 8
_LARGEST = 1 << 14  # magnitude of a latent
DEFAULT_QUALITY = 50.0
MOST_EFFORT = 100.0


class S2licCodec(ImageCodec):
    """The codec `s2lic`: see the module's docstring.

    quality: 1 to 100, about 0.13 to 1.9 bits per pixel of a photograph. effort: 1 is 20 gradient steps on each picture
    while encoding (refine.py), 0 none; files decode alike.
    """

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    stream: ClassVar[int] = 1
    critical_chunks: ClassVar[frozenset[str]] = frozenset({_LATENTS})
    sweep: ClassVar[tuple[int, ...]] = (1, *range(10, 101, 10))  # qualities of a rate-distortion curve
    coders: ClassVar[tuple[str, ...]] = coder_names()

    def __init__(
        self,
        model: S2licModel,
        quality: float | None = None,
        device: str = "cpu",
        coder: str = DEFAULT_CODER,
        effort: float = 0.0,
    ) -> None:
        self.model, self.quality, self.device, self.coder, self.effort = model, quality, device, coder, effort

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        return cls(read_model(load_weights(cls.name, tag, weights), device), quality, device)

    def check_settings(self) -> None:
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
        """The quality step that is written into the file; quality None: the codec's."""
        quality = self.quality if quality is None else quality
        quality = DEFAULT_QUALITY if quality is None else quality
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: s2lic takes 1 to 100")
        return self.model.step_of(quality)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of y, (h, w), for a picture of (height, width) pixels."""
        multiple = self.model.net.config.multiple
        h, w = (-(-side // (CELL * multiple)) * multiple for side in (height, width))
        return h, w

    # ---- encoding

    def encode_pixels(self, pixels: NDArray[Any], quality: float | None) -> EncodedPixels:
        step = self.step_of(quality)
        z, y_passes, check = self._symbols(pixels, step)
        payload = encode_streams(self.model, z, y_passes, self.coder)
        params = {_STEP: step} if check is None else {_STEP: step, _CHECK: check}
        return EncodedPixels([Chunk(_LATENTS, payload)], params, self.coder, self.model.net.arithmetic)

    @own_arithmetic
    def latents(self, pixels: NDArray[Any], step: int) -> Tensor:
        """The latents y of a picture, before rounding and tile by tile: (1, M, h, w) float32, in quantisation steps.

        pixels: (H, W, 3) uint8 or uint16. step: the quality step.
        """
        net = self.model.net
        height, width = pixels.shape[:2]
        h, w = self._grid(height, width)
        out = torch.empty(1, net.config.latent, h, w, dtype=torch.float32, device=self.device)
        t = torch.tensor([step / net.config.quality_steps], dtype=torch.float32, device=self.device)
        window = net.config.stride // CELL
        for rows, columns in each(list(tiles(h, w)), "tile", 0.0, 0.7):  # the rest is coding
            seen_rows = around(rows, h, _HALO_ANALYSIS, window)
            seen_columns = around(columns, w, _HALO_ANALYSIS, window)
            x = self._cut(pixels, seen_rows, seen_columns).contiguous(memory_format=torch.channels_last)
            inside = (min(h, seen_rows.stop) - seen_rows.start, min(w, seen_columns.stop) - seen_columns.start)
            y = net.latents(x, t, (CELL * inside[0], CELL * inside[1]))
            out[..., _slice(rows), _slice(columns)] = y[
                ..., _slice(rows, seen_rows.start), _slice(columns, seen_columns.start)
            ]
        return out.clamp_(-_LARGEST / 2, _LARGEST / 2)

    def _cut(self, pixels: NDArray[Any], rows: range, columns: range) -> Tensor:
        """The pixels of rows and columns of cells, mirrored over the edges: (1, 3, H, W) float32 in [0, 1]."""
        tile = pixels[mirrored_pixels(rows, pixels.shape[0])][:, mirrored_pixels(columns, pixels.shape[1])]
        x = torch.from_numpy(tile.transpose(2, 0, 1).astype(np.float32)).to(self.device)[None]
        return x * (1.0 / float(np.iinfo(pixels.dtype).max))

    def symbols(self, pixels: NDArray[Any], step: int) -> tuple[Symbols, list[Symbols]]:
        """The symbols that a file holds, with their table rows: those of z, and those of each pass over y."""
        return self._symbols(pixels, step)[:2]

    @own_arithmetic
    def _symbols(self, pixels: NDArray[Any], step: int) -> tuple[Symbols, list[Symbols], int | None]:
        """`symbols`, and the checksum of y_hat as the decoder will have it where networks are in floats (else None)."""
        net = self.model.net
        y = self.latents(pixels, step)
        h, w = y.shape[-2:]
        z = net.hyper_analysis(F.pad(y, (0, -w % 4, 0, -h % 4)))[0]
        z_mean, z_row = net.z_parameters(step)
        z_symbols = torch.round(z.double() - z_mean[:, None, None]).clamp_(-_LARGEST / 2, _LARGEST / 2)
        z_symbols = z_symbols * (z_row > 0)[:, None, None]
        z_coded = _coded(z_symbols, z_row[:, None, None].expand(z.shape))
        z_hat = (z_symbols + z_mean[:, None, None])[None]
        if self.effort:
            steps = max(1, round(STEPS * self.effort))
            cut = functools.partial(self._cut, pixels)
            size = (pixels.shape[0], pixels.shape[1])
            y = self.model.refiner(y, z_hat, cut, size, step, steps).clamp_(-_LARGEST / 2, _LARGEST / 2)
        y_passes: list[Symbols] = []
        flat = y[0].flatten(1)

        def take(mean: Tensor, row: Tensor, channels: slice, cells: Tensor) -> Tensor:
            symbols = round_half_up(flat[channels, cells].double() - mean).mul_(row > 0)
            y_passes.append(_coded(symbols, row))
            return symbols + mean

        y_hat = net.predict(z_hat, h, w, step, take)
        return z_coded, y_passes, None if net.arithmetic == "int" else checksum(y_hat)

    # ---- decoding

    def decode_pixels(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        height, width = header.shape[:2]
        y_hat, step = self._read_latents(header, chunks, height, width)
        return self._synthesise(y_hat, step, height, width, np.dtype(header.dtype))

    @own_arithmetic
    def _read_latents(self, header: Header, chunks: Sequence[Chunk], height: int, width: int) -> tuple[Tensor, int]:
        """The decoded latents y_hat, (1, M, h, w) float64, and the quality step."""
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

    @own_arithmetic
    def _synthesise(self, y_hat: Tensor, step: int, height: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The picture of decoded latents, (height, width, 3), tile by tile; the cut makes no difference."""
        h, w = y_hat.shape[-2:]
        largest = float(np.iinfo(dtype).max)
        config = self.model.net.config
        out = np.empty((height, width, 3), dtype)
        for rows, columns in each(list(tiles(h, w)), "tile", 0.3, 1.0):  # what comes before is decoding
            seen_rows = around(rows, h, config.synthesis_halo, config.multiple)
            seen_columns = around(columns, w, config.synthesis_halo, config.multiple)
            x = self.model.net.pixels(y_hat[..., _slice(seen_rows), _slice(seen_columns)], step)[0]
            top, left = CELL * (rows.start - seen_rows.start), CELL * (columns.start - seen_columns.start)
            target = out[CELL * rows.start : CELL * rows.stop, CELL * columns.start : CELL * columns.stop]
            x = x[:, top : top + target.shape[0], left : left + target.shape[1]]
            x = torch.floor(x * largest + 0.5).clamp_(0, largest).permute(1, 2, 0).to(torch.int32)
            target[:] = x.cpu().numpy()
        return out


def _slice(cells: range, origin: int = 0) -> slice:
    return slice(cells.start - origin, cells.stop - origin)


def checksum(y_hat: Tensor) -> int:
    """The CRC-32 of latents, (1, M, h, w) float64: of the integers of their grid, 4 bytes each, low byte first."""
    grid = torch.round(y_hat * 2**MEAN_BITS).to(torch.int32).cpu().contiguous()
    return zlib.crc32(grid.numpy().astype("<i4", copy=False).data)


Symbols = tuple[NDArray[np.int32], NDArray[np.uint8]]  # what the coder takes: symbols and their table rows, (n,) each


def _coded(symbols: Tensor, row: Tensor) -> Symbols:
    """The symbols that are coded: row 0 is so narrow that its symbol is always 0, and left out."""
    used = row > 0
    return symbols[used].to(torch.int32).cpu().numpy(), row[used].cpu().numpy()


def _decoded(decoder: Any, row: Tensor) -> Tensor:
    """The inverse of `_coded`: symbols in float64, read from a decoder, in the shape of their rows."""
    used = row > 0
    symbols = torch.from_numpy(decoder.take(row[used].cpu().numpy()))
    if len(symbols) and int(symbols.long().abs().max()) > _LARGEST:
        raise StreamError("a latent is out of range: the stream is damaged")
    out = torch.zeros(row.shape, dtype=torch.float64, device=row.device)
    out[used] = symbols.to(row.device, torch.float64)
    return out


def encode_streams(model: S2licModel, z: Symbols, y_passes: list[Symbols], coder: str) -> bytes:
    """The payload of a file: length of the stream of z as a variable-length integer, that stream, the stream of y."""
    z_stream = model.z_tables.encode(*z, coder)
    return put_varint(len(z_stream)) + z_stream + model.y_tables.encode_steps(y_passes, coder)


def open_streams(model: S2licModel, payload: bytes, coder: str) -> tuple[Any, Any]:
    """The decoders of z and of y in a payload; StreamError if it is too short for what it says."""
    reader = ByteReader(payload, "the payload")
    z, y = reader.take(reader.varint()), reader.rest()
    return model.z_tables.decoder(z, coder), model.y_tables.decoder(y, coder)
