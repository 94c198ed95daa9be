"""The codec `walloc-audio`: sound of any rate, length and up to eight channels, to files of variable rate and back.

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405; what the model
that ships has in place of wavelet packets is in `lapped.py`. Sound is coded at its own rate: nothing is resampled.

Decoding is exact: files decode to the same samples on every machine, with any number of threads, from any second on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....container import Header, Value
from ....errors import StreamError, UsageError
from ...base.audio.codec import AudioCodec
from ...base.audio.pieces import PieceDecoder, PieceEncoder
from ...base.settings import Setting
from ...base.weights import load_weights
from .. import AUDIO_CARD as CARD
from .bands import MAX_BASE, frame_size
from .blocks import FULL_SCALE
from .lapped import Format
from .packets_model import PacketModel
from .packets_pieces import WEBP, PacketPieceDecoder, PacketPieceEncoder
from .pieces import FRAMES, DecodedPiece, PieceCoder, PieceJoiner, PieceSplitter
from .weights import LappedModel, read_model

if TYPE_CHECKING:
    from typing_extensions import Self

    from ....media.audio.values import AudioInfo

_BASE = "s"  # of the steps
_GAIN = "g"  # of the packet model
_DEFAULT_QUALITY = 50.0
_DEFAULT_TAG = "lapped"


def base_of_quality(quality: float) -> float:
    """The base of the steps, in sixteenths of octaves, of a quality from 1 to 100; files have the nearest integer."""
    return 372 - 3 * (quality - 1)


class WallocAudioCodec(AudioCodec):
    """The codec `walloc-audio`: see the module's docstring.

    A tag chooses the model: "lapped", the default, or "packets", which has the parts of the paper's: wavelet packets,
    a 1x1 convolution, a compander, a decoder with a residual network, a post-filter. coder: "mix", or "webp", the
    paper's lossless picture of latents, which packets alone have. quality: 1 to 100; the louder and the richer a sound
    is, the more bits it takes.
    """

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    stream: ClassVar[int] = 1
    coders: tuple[str, ...] = ("mix", WEBP)  # how a model's integers are written; webp is for those of packets

    def __init__(
        self, model: LappedModel | PacketModel, quality: float | None = None, device: str = "cpu", coder: str = "mix"
    ) -> None:
        self.model, self.quality, self.device, self.coder = model, quality, device, coder
        if isinstance(model, LappedModel):
            self.coders = ("mix",)

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        return cls(read_model(load_weights(cls.name, tag or _DEFAULT_TAG, weights), device), quality, device)

    @property
    def weights_id(self) -> bytes:
        return self.model.id

    def check_settings(self) -> None:
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"quality {self.quality:g}: {self.name} takes 1 to 100")
        if self.coder == WEBP and WEBP not in self.coders:
            raise UsageError(f"the coder webp is for the latents of the paper's model: {self.name}@packets")
        if self.coder not in self.coders:
            raise UsageError(f"{self.name} has no coder {self.coder!r}: there are {', '.join(self.coders)}")

    def encoder(self, info: AudioInfo, quality: float | None) -> PieceEncoder:
        if isinstance(self.model, PacketModel):
            self._check_packets(self.model)
            return PacketPieceEncoder(self.model, info.channels, quality, self.coder)
        quality = _DEFAULT_QUALITY if quality is None else quality
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: {self.name} takes 1 to 100")
        form = Format(info.rate, info.channels, frame_size(info.rate))
        return _Encoder(PieceCoder.at(form, base_of_quality(quality), self.model.start))

    @staticmethod
    def _check_packets(model: PacketModel) -> None:
        if not model.exact or model.config.channels != 2:
            raise UsageError("a model of the paper's size, or of one channel, has no files: only small ones are exact")

    def decoder(self, header: Header, rate: int, channels: int) -> PieceDecoder[Any]:
        if isinstance(self.model, PacketModel):
            gain16 = header.params.get(_GAIN)
            if type(gain16) is not int or not -96 <= gain16 <= 96:
                raise StreamError(f"gain {gain16!r}: expected an integer from -96 to 96; the file is damaged")
            self._check_packets(self.model)
            return PacketPieceDecoder(self.model, channels, gain16, header.coder)
        base = header.params.get(_BASE)
        if type(base) is not int or not 0 <= base < MAX_BASE:
            raise StreamError(f"steps {base!r}: expected an integer from 0 to {MAX_BASE - 1}; the file is damaged")
        form = Format(rate, channels, frame_size(rate))
        return _Decoder(PieceCoder(form, base, self.model.start))


class _Encoder:
    def __init__(self, coder: PieceCoder) -> None:
        self.params: Mapping[str, Value] = {_BASE: coder.base}
        self._coder, self._splitter = coder, PieceSplitter(coder.form)

    def push(self, x: NDArray[np.float64]) -> Iterator[Callable[[], bytes]]:
        for piece in self._splitter.push(np.ascontiguousarray(x.T) * FULL_SCALE):
            yield partial(self._coder.encode, *piece)

    def finish(self) -> Iterator[Callable[[], bytes]]:
        for piece in self._splitter.finish():
            yield partial(self._coder.encode, *piece)


class _Decoder:
    def __init__(self, coder: PieceCoder) -> None:
        self._coder, self._joiner = coder, PieceJoiner(coder.form)
        self.piece, self.delay = FRAMES * coder.form.size, self._joiner.delay

    def length(self, payload: bytes) -> int:
        return self._coder.frames(payload) * self._coder.form.size

    def decode(self, payload: bytes, number: int) -> DecodedPiece:
        return self._coder.decode(payload, number)

    def push(self, piece: DecodedPiece) -> NDArray[np.float64]:
        return self._joiner.push(piece).T

    def missing(self, number: int) -> DecodedPiece:
        return self._coder.missing(number, self._joiner.before)

    def finish(self) -> NDArray[np.float64]:
        return self._joiner.finish().T
