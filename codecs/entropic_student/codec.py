"""Entropic Student: a picture's view to integer latents to bytes, and back to the features of a classifier.

Matsubara, Yang, Levorato, Mandt, WACV 2022, arXiv 2108.11898; where the networks differ is in network.py. The latents
are coded with one table for each channel and quality, the factorised prior of the paper, frozen. Decoding is exact: a
file decodes to the same features on every machine. The prediction that a classifier makes of them is in floats, and may
differ in its last digits.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from ...container import Chunk, Header
from ...entropy.coders import DEFAULT as DEFAULT_CODER
from ...errors import StreamError, UsageError, torch_may_be_missing
from ..base.codec import EncodedPixels
from ..base.features import FeatureCodec
from ..base.settings import Setting
from ..base.weights import load_weights
from . import CARD
from .config import CELLS, CHANNELS, LARGEST_LATENT, LEVELS, OUTER, SEEN, SIDE, level_of, view_of
from .weights import EntropicStudentModel, read_model

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EntropicStudentCodec"]

_LATENTS = "Late"
_LEVEL = "l"
TEACHER = "efficientnet-lite0"
_NAMED = 5  # classes of a prediction


class EntropicStudentCodec(FeatureCodec):
    """The codec `entropic-student`: see the module's docstring.

    quality: 1 to 100, in 33 steps, finer upwards. coder: how latents are written, "constriction" or "torchac".
    """

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    stream: ClassVar[int] = 1
    critical_chunks: ClassVar[frozenset[str]] = frozenset({_LATENTS})
    coders: ClassVar[tuple[str, ...]] = ("constriction", "torchac")

    def __init__(
        self,
        model: EntropicStudentModel,
        quality: float | None = None,
        device: str = "cpu",
        coder: str = DEFAULT_CODER,
    ) -> None:
        self.model, self.quality, self.device, self.coder = model, quality, device, coder

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        return cls(read_model(load_weights(cls.name, tag, weights), device), quality, device)

    def check_settings(self) -> None:
        super().check_settings()
        if self.coder not in self.coders:
            raise UsageError(f"{self.name} has no coder {self.coder!r}: there are {', '.join(self.coders)}")

    @property
    def weights_id(self) -> bytes:
        return self.model.id

    def view_of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return view_of(pixels)

    def view_in_words(self) -> str:
        return f"features of the middle {SEEN}x{SEEN} pixels, at {OUTER} pixels on the short side"

    def feature_shape(self) -> tuple[int, int, int]:
        return CHANNELS, SIDE, SIDE

    # ---- latents

    def encode_view(self, view: NDArray[np.uint8], quality: float) -> EncodedPixels:
        level = level_of(quality)
        latents = self.model.networks.latents(view, self.model.config.step_of(level))
        flat = latents.reshape(len(latents), -1)
        payload = self.model.tables.encode(flat, self._rows(level), self.coder)
        return EncodedPixels([Chunk(_LATENTS, payload)], {_LEVEL: level}, self.coder, "int")

    def encode_seen(self, view: NDArray[np.uint8], quality: float) -> bytes:
        """The file of a picture (224, 224, 3) uint8 that is a view already: it isn't scaled again."""
        if view.shape != (SEEN, SEEN, 3) or view.dtype != np.uint8:
            raise UsageError(f"a view of {view.dtype} {view.shape}: expected uint8 {(SEEN, SEEN, 3)}")
        return self.file_of(view, quality)

    def parameters(self) -> Mapping[str, int]:
        """The numbers of parameters of the encoder, which a camera would have, and of the decoder."""
        counts = {"encoder": 0, "decoder": 0}
        parts = {"encoder": "encoder", "linear": "decoder", "correction": "decoder"}
        for name, array in self.model.arrays.items():
            part = parts.get(name.partition(".")[0])
            if part is not None and not name.endswith("exponent"):
                counts[part] += array.size
        return counts

    def _rows(self, level: int) -> NDArray[np.int32]:
        """The table row of each latent, (latent, CELLS * CELLS)."""
        channels = np.arange(self.model.config.latent, dtype=np.int32)[:, None]
        rows = level * self.model.config.latent + channels
        return np.ascontiguousarray(np.broadcast_to(rows, (len(rows), CELLS * CELLS)))

    def read_latents(self, header: Header, chunks: Sequence[Chunk]) -> tuple[NDArray[np.int32], int]:
        """The integer latents (latent, CELLS, CELLS) of a file, and its level; StreamError if it is damaged."""
        payloads = [chunk.payload for chunk in chunks if chunk.tag == _LATENTS]
        if len(payloads) != 1:
            raise StreamError(f"{len(payloads)} chunks of latents, expected 1: the file is damaged")
        level = header.params.get(_LEVEL)
        if type(level) is not int or not 0 <= level < LEVELS:
            raise StreamError(f"level {level!r}: expected 0 to {LEVELS - 1}; the file is damaged")
        if header.coder not in self.coders:
            raise StreamError(
                f"coder {header.coder!r}: {self.name} streams have {', '.join(self.coders)}; damaged, or newer"
            )
        rows = self._rows(level)
        decoder = self.model.tables.decoder(payloads[0], header.coder)
        symbols = decoder.take(rows.reshape(-1))
        decoder.finish()
        if int(np.abs(symbols.astype(np.int64)).max()) > LARGEST_LATENT:
            raise StreamError("a latent is out of range: the stream is damaged")
        return symbols.reshape(self.model.config.latent, CELLS, CELLS).astype(np.int32), level

    def decode_features(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        latents, level = self.read_latents(header, chunks)
        return self.model.networks.features(latents, self.model.config.step_of(level))

    # ---- what the classifier says

    def predict(self, features: NDArray[np.float32]) -> Mapping[str, Any]:
        """The five likeliest of ImageNet's classes of features (24, 56, 56), by the rest of EfficientNet-Lite0.

        Needs torch and the classifier's file (`make models`). Names are there where torchvision is.
        """
        if features.shape != self.feature_shape():
            raise UsageError(f"features of {features.shape}: expected {self.feature_shape()}")
        with torch_may_be_missing("the prediction of a classifier"):
            import torch

            from .heads import late
        with torch.inference_mode():
            logits = late(_teacher(), torch.from_numpy(np.array(features, np.float32))[None]).logits[0]
            chances = logits.softmax(0)
        names = _class_names()
        best = chances.argsort(descending=True)[:_NAMED].tolist()
        classes = [
            {
                "class": number,
                **({"name": names[number]} if names else {}),
                "probability": round(float(chances[number]), 4),
            }
            for number in best
        ]
        first = classes[0]
        words = f"{first.get('name', 'class ' + str(first['class']))}, {100 * cast(float, first['probability']):.1f} %"
        return {"teacher": TEACHER, "classes": classes, "words": words}

    def picture_of(self, features: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The edges in the view, (224, 224): 255 where one is certain, as HED would see them."""
        return np.rint(255 * self.model.edges(features)).astype(np.uint8)

    def edges(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probability of an edge at each pixel of the view, (224, 224), of features (24, 56, 56)."""
        return self.model.edges(features)


@functools.lru_cache(maxsize=1)
def _teacher() -> Any:
    from .heads import load_teacher

    return load_teacher()


def _class_names() -> Sequence[str]:
    """The names of ImageNet's classes, which torchvision brings; () without it."""
    try:
        from torchvision.models import EfficientNet_B0_Weights
    except (ImportError, RuntimeError):  # of another torch
        return ()
    return EfficientNet_B0_Weights.DEFAULT.meta["categories"]
