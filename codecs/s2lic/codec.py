"""S2LIC for RGB pictures: pixels to latents to bytes, and back.

Wang, Fu, Cao, Wang, Chen, Liang: "S2LIC: Learned Image Compression with the SwinV2 Block, Adaptive Channel-wise and
Global-inter Attention Context", arXiv 2403.14471. The networks, and where they differ: network.py, and paper.py for
those of the paper.

Decoding with the network that ships, `small`, is exact: table rows, latents and pixels are the same on every machine,
whatever the engine, the number of threads and the bands or tiles that a picture was cut into for memory. Encoding is
float: two machines may write (slightly) different files of one picture, and each of them decodes to what its encoder
saw. (With the networks of the paper, for which no weights ship, table rows and latents come from float64 rounded to a
grid, their checksum is in the file, and pixels are the same up to rounding.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...container import Chunk, Header
from ...entropy.coders import DEFAULT as DEFAULT_CODER
from ...entropy.coders import names as coder_names
from ...entropy.integers import ByteReader, put_varint
from ...errors import StreamError, UsageError
from ..base.codec import EncodedPixels
from ..base.image import ImageCodec
from ..base.settings import Setting
from ..base.weights import load_weights
from ..layers.tiles import CELL
from . import CARD
from .config import LARGEST_LATENT, MEAN_BITS
from .weights import S2licModel, read_model

if TYPE_CHECKING:
    from typing_extensions import Self

    from .engine import Engine
    from .oracle import Oracle

_LATENTS = "Late"
_STEP = "q"
_CHECK = "check"
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
        multiple = self.model.config.multiple
        h, w = (-(-side // (CELL * multiple)) * multiple for side in (height, width))
        return h, w

    @property
    def networks(self) -> Engine | Oracle:
        """The networks: in integers, or those of torch."""
        return self.model.engine or self.model.oracle

    # ---- encoding

    def encode_pixels(self, pixels: NDArray[Any], quality: float | None) -> EncodedPixels:
        step = self.step_of(quality)
        z, y_passes, check = self._symbols(pixels, step)
        payload = encode_streams(self.model, z, y_passes, self.coder)
        params = {_STEP: step} if check is None else {_STEP: step, _CHECK: check}
        return EncodedPixels([Chunk(_LATENTS, payload)], params, self.coder, self.model.arithmetic)

    def latents(self, pixels: NDArray[Any], step: int) -> NDArray[np.float32]:
        """The latents y of a picture, before rounding: (h, w, M), in quantisation steps.

        pixels: (H, W, 3) uint8 or uint16. step: the quality step.
        """
        return self.networks.latents(pixels, step)

    def symbols(self, pixels: NDArray[Any], step: int) -> tuple[Symbols, list[Symbols]]:
        """The symbols that a file holds, with their table rows: those of z, and those of each pass over y."""
        return self._symbols(pixels, step)[:2]

    def _symbols(self, pixels: NDArray[Any], step: int) -> tuple[Symbols, list[Symbols], int | None]:
        """`symbols`, and the checksum of y_hat as the decoder will have it where networks are in floats (else None)."""
        networks = self.networks
        y = networks.latents(pixels, step)
        h, w = y.shape[:2]
        z = networks.hyper_latents(y).astype(np.float64)
        z_mean, z_row = networks.z_parameters(step)
        z_mean, z_row = z_mean[:, None, None], z_row[:, None, None]
        z_symbols = np.clip(np.rint(z - z_mean), -LARGEST_LATENT / 2, LARGEST_LATENT / 2) * (z_row > 0)
        z_coded = _coded(z_symbols.astype(np.int32), np.broadcast_to(z_row, z.shape))
        z_hat = z_symbols + z_mean
        if self.effort:
            from .oracle import refined  # gradients need torch

            y = refined(self.model.refiner, self.model.device, y, z_hat, pixels, step, self.effort)
        y_passes: list[Symbols] = []
        flat = y.reshape(h * w, -1)

        def take(
            mean: NDArray[Any], row: NDArray[np.uint8], channels: slice, cells: NDArray[np.int64]
        ) -> NDArray[np.int32]:
            symbols = flat[cells, channels].T.astype(np.float64) - mean * 2.0**-MEAN_BITS
            whole = np.floor(symbols + 0.5).astype(np.int32)
            whole[row == 0] = 0
            y_passes.append(_coded(whole, row))
            return whole

        y_hat = networks.predict(z_hat, h, w, step, take)
        return z_coded, y_passes, None if self.model.arithmetic == "int" else self.model.checksum(y_hat)

    # ---- decoding

    def decode_pixels(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        height, width = header.shape[:2]
        y_hat, step = self._read_latents(header, chunks, height, width)
        return self.networks.pixels(y_hat, step, height, width, np.dtype(header.dtype))

    def read_latents(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[np.int32]:
        """The decoded latents y_hat of a file, (h, w, M) in units of 2**-MEAN_BITS."""
        return self.networks.integers(self._read_latents(header, chunks, *header.shape[:2])[0])

    def _read_latents(self, header: Header, chunks: Sequence[Chunk], height: int, width: int) -> tuple[Any, int]:
        """The decoded latents y_hat, as the networks have them, and the quality step."""
        networks, config = self.networks, self.model.config
        step = header.params.get(_STEP)
        if type(step) is not int or not 0 <= step <= config.quality_steps:
            raise StreamError(f"quality step {step!r}: expected 0 to {config.quality_steps}; the file is damaged")
        payloads = [chunk.payload for chunk in chunks if chunk.tag == _LATENTS]
        if len(payloads) != 1:
            raise StreamError(f"{len(payloads)} chunks of latents, expected 1: the file is damaged")
        z_decoder, y_decoder = open_streams(self.model, payloads[0], header.coder)
        h, w = self._grid(height, width)
        z_mean, z_row = networks.z_parameters(step)
        z_mean, z_row = z_mean[:, None, None], z_row[:, None, None]
        rows = np.broadcast_to(z_row, (len(z_row), -(-h // 4), -(-w // 4)))
        z_hat = _decoded(z_decoder, rows) + z_mean
        z_decoder.finish()

        def take(mean: NDArray[Any], row: NDArray[np.uint8], channels: slice, cells: NDArray[np.int64]) -> NDArray[Any]:
            del mean, channels, cells
            return _decoded(y_decoder, row)

        y_hat = networks.predict(z_hat, h, w, step, take)
        y_decoder.finish()
        if self.model.arithmetic != "int" and header.params.get(_CHECK) != self.model.checksum(y_hat):
            raise StreamError(
                "the latents aren't those that the encoder had: its machine rounded one differently (weights of "
                "the network `paper` can't rule that out), or the file is damaged; decode where it was made"
            )
        return y_hat, step


Symbols = tuple[NDArray[np.int32], NDArray[np.uint8]]  # what the coder takes: symbols and their table rows, (n,) each


def _coded(symbols: NDArray[np.int32], row: NDArray[np.uint8]) -> Symbols:
    """The symbols that are coded: row 0 is so narrow that its symbol is always 0, and left out."""
    used = row > 0
    return symbols[used], row[used]


def _decoded(decoder: Any, row: NDArray[np.uint8]) -> NDArray[Any]:
    """The inverse of `_coded`: symbols read from a decoder, in the shape of their rows."""
    used = row > 0
    coded = bool(used.all())
    symbols = decoder.take(row if coded else row[used])
    if symbols.size and max(int(symbols.max()), -int(symbols.min())) > LARGEST_LATENT:
        raise StreamError("a latent is out of range: the stream is damaged")
    if coded:
        return symbols
    out = np.zeros(row.shape, np.int16)  # LARGEST_LATENT fits
    out[used] = symbols
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
