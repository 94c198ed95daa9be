"""The base of codecs of features: pictures in, what a network sees in them out, as an array or as its answer.

A family writes `encode_view`, `decode_features` and `predict`, beside `from_weights` and `weights_id`. A file holds no
picture, so it decodes to none: to float32 features (.npy), or to what a network that goes on from them says: about the
whole (.json), and about each pixel (.png).
"""

from __future__ import annotations

import io
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...container import Chunk, Header, check_critical, pack, unpack
from ...errors import ContainerError, StreamError, UsageError
from ...files import STDIO, naming, read_bytes, refuse_existing, whole
from ...media import FEATURE_WRITES
from ...media.image import read_picture
from ...media.notes import Note
from ...media.values import Picture
from .codec import Codec, Data, EncodedPixels, PathLike, Report, Source, Summary, content_of, opened, path_of
from .doors import is_torch
from .image import as_picture
from .settings import CODER, QUALITY, Select, Setting

__all__ = ["FeatureCodec"]

# What was given to `compress`, in params["k"]: anything but a tensor isn't recorded. Append only.
_ANY, _TENSOR = range(2)
_KIND = "k"


class FeatureCodec(Codec):
    """The base of codecs of features.

    critical_chunks: upper-case tags that the family writes. quality: 1 to 100.
    """

    medium: ClassVar[str] = "features"
    settings: ClassVar[tuple[Setting, ...]] = (QUALITY, CODER)
    critical_chunks: ClassVar[frozenset[str]] = frozenset()
    default_quality: ClassVar[float] = 50.0
    quality: float | None = None
    device: str = "cpu"

    @abstractmethod
    def view_of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of a picture (H, W, 3) that the network sees, at the scale in which it sees it."""

    @abstractmethod
    def view_in_words(self) -> str:
        """The same in words, for people."""

    @abstractmethod
    def encode_view(self, view: NDArray[np.uint8], quality: float) -> EncodedPixels:
        """The chunks of a view."""

    @abstractmethod
    def feature_shape(self) -> tuple[int, int, int]:
        """The shape of all features of this codec, (channels, height, width)."""

    @abstractmethod
    def decode_features(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        """The features, of `feature_shape`, or StreamError. Params and payloads are as hostile as they come."""

    @abstractmethod
    def predict(self, features: NDArray[np.float32]) -> Mapping[str, Any]:
        """The answer of the network that goes on from features: plain values by name. UsageError where it isn't here.

        features: (channels, height, width) float32, as `decompress` gives them.
        """

    def check_settings(self) -> None:
        """Raise UsageError for a quality out of range."""
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"quality {self.quality:g}: {self.name} takes 1 to 100")

    @abstractmethod
    def picture_of(self, features: NDArray[np.float32]) -> NDArray[np.uint8]:
        """A grey picture (H, W) of what features say about each pixel: the second head's answer."""

    # ---- in memory

    def compress_one(self, x: Any, quality: float | None = None) -> bytes:
        return self._encode(as_picture(x), quality, _TENSOR if is_torch(x) else _ANY)

    def decompress_one(self, data: Data) -> Any:
        """The features in a file, (channels, height, width) float32: a torch tensor if one was given to `compress`."""
        features, kind = self._decode(data)
        if kind != _TENSOR:
            return features
        import torch

        return torch.from_numpy(features).to(self.device)

    def _encode(self, picture: Picture, quality: float | None, kind: int) -> bytes:
        quality = self.quality if quality is None else quality
        quality = self.default_quality if quality is None else quality
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: {self.name} takes 1 to 100")
        return self.file_of(self.view_of(_in_bytes(picture)), quality, kind)

    def file_of(self, view: NDArray[np.uint8], quality: float, kind: int = _ANY) -> bytes:
        """The file of a view. kind: what was given to `compress`."""
        encoded = self.encode_view(view, quality)
        header = Header(
            codec=self.name,
            stream=self.stream,
            weights=self.weights_id,
            coder=encoded.coder,
            arithmetic=encoded.arithmetic,
            medium=self.medium,
            shape=self.feature_shape(),
            dtype="float32",
            params={**encoded.params, **({_KIND: kind} if kind != _ANY else {})},
        )
        return pack(header, list(encoded.chunks))

    def _decode(self, data: Data) -> tuple[NDArray[np.float32], int]:
        header, chunks = unpack(data)
        self.check_made_by_us(header)
        check_critical(chunks, set(self.critical_chunks))
        if header.shape != self.feature_shape() or header.dtype != "float32":
            raise ContainerError(
                f"features of {header.dtype} {header.shape}; {self.name} has float32 {self.feature_shape()}: "
                "a newer version, or damaged"
            )
        kind = header.params.get(_KIND, _ANY)
        if type(kind) is not int or kind not in (_ANY, _TENSOR):
            raise StreamError(f"params[{_KIND!r}] is {kind!r}: a newer version, or damaged")
        return self.decode_features(header, chunks), kind

    # ---- files

    def encode_file(
        self, source: PathLike, target: PathLike, report: Report | None = None, replace: bool = False
    ) -> Summary:
        del report
        refuse_existing(target, replace)
        given = read_bytes(path_of(source))
        with naming(source):
            picture = read_picture(given)
            data = self._encode(picture, None, _ANY)
        with whole(target, replace=replace) as file:
            file.write(data)
        height, width, _ = picture.shape
        bpp = 8 * len(data) / (height * width)
        about = {"codec": self.name, "shape": list(self.feature_shape()), "dtype": "float32", "bpp": bpp}
        notes = [*picture.notes, Note("view", f"{self.view_in_words()}; the picture itself isn't kept")]
        notes += [] if picture.alpha is None else [Note("alpha", "transparency is left out")]
        return Summary(len(given), len(data), about, [f"{bpp:.4f} bits a pixel of the picture"], notes)

    def decode_file(
        self,
        source: Source,
        target: PathLike,
        select: Select = Select(),  # noqa: B008  frozen
        report: Report | None = None,
        replace: bool = False,
    ) -> Summary:
        del report
        about = opened(source)
        self.check_request(about.require_header(), target, select, replace)
        data = about.read()
        features, _ = self._decode(data)
        facts: dict[str, Any] = {"shape": list(features.shape), "dtype": "float32"}
        suffix = ".npy" if target == STDIO and not select.form else select.form_of(target)
        words: list[str] = []
        if suffix == ".json":
            answer = dict(self.predict(features))
            out = (json.dumps(answer, indent=2, ensure_ascii=False) + "\n").encode()
            words = [str(answer["words"])] if "words" in answer else []
            facts |= answer
        elif suffix == ".png":
            buffer = io.BytesIO()
            Image.fromarray(self.picture_of(features)).save(buffer, "PNG")
            out = buffer.getvalue()
        else:
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, features, version=(1, 0), allow_pickle=False)
            out = buffer.getvalue()
        with whole(target, replace=replace) as file:
            file.write(out)
        return Summary(len(data), len(out), facts, words)

    def verify_file(self, source: Source) -> None:
        self._decode(content_of(source))

    @classmethod
    def output_suffixes(cls, header: Header, select: Select) -> tuple[str, ...]:
        del header, select
        return FEATURE_WRITES


def _in_bytes(picture: Picture) -> NDArray[np.uint8]:
    """The pixels of a picture as networks see them: (H, W, 3) uint8, rounded from 16 bits, without transparency."""
    pixels = picture.pixels
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return np.ascontiguousarray(pixels)
