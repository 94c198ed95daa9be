"""The contract of all codecs: loading, data to bytes and back, and what checks a file's origin."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, overload

from ...container import Chunk, Header, Value, read_header
from ...errors import ContainerError, MediaError, StreamError, UsageError, WeightsError
from ...registry import load_class, names, split_tag
from .weights import find_by_hash

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Codec",
    "Data",
    "EncodedPixels",
    "PathLike",
    "Progress",
    "check_device",
    "codec_for",
    "decode",
    "read_file",
    "threads",
]

Progress = Callable[[float], None]  # called with the finished part of the work, 0 to 1


Data = bytes | bytearray | memoryview


PathLike = str | os.PathLike[str]


class Codec(ABC):
    """Data to bytes and back, for one family with one set of weights. Ready when made; never changes afterwards.

    stream: version of the family's payload, raised when old files would decode differently; reads: older versions
    that still decode.
    """

    name: ClassVar[str]
    stream: ClassVar[int]
    medium: ClassVar[str]
    reads: ClassVar[tuple[int, ...]] = ()

    @classmethod
    def load(
        cls, name: str, quality: float | None = None, weights: PathLike | None = None, device: str = "cpu"
    ) -> Codec:
        """A codec by name, with a tag or without: "walloc", "walloc@16x".

        quality: what `compress` uses if it isn't told; None: the family's default. weights: a safetensors file in
        place of the shipped one. Raises UsageError (a device that can't be used too), WeightsError.
        """
        plain, tag = split_tag(name)
        family = load_class(plain)
        if not issubclass(family, cls):
            raise UsageError(f"{plain!r} isn't a {cls.__name__}: call Codec.load({name!r})")
        check_device(device)
        codec = family.from_weights(tag, quality, None if weights is None else Path(weights), device)
        codec.check_settings()
        return codec

    @classmethod
    @abstractmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        """What `load` calls. Finds the shipped weights of `tag` unless a file is named."""

    @classmethod
    def for_header(cls, header: Header, weights: PathLike | None = None, device: str = "cpu") -> Self:
        """The codec that decodes a file: shipped weights are found by the hash in its header, under any tag."""
        if header.codec != cls.name:
            raise UsageError(f"a file of {header.codec!r} can't be decoded by {cls.name!r}")
        check_device(device)
        tag = None
        if weights is None and header.weights:
            found = find_by_hash(cls.name, header.weights)
            tag, weights = found.tag, found.path
        codec = cls.from_weights(tag, None, None if weights is None else Path(weights), device)
        codec.check_made_by_us(header)
        return codec

    def check_settings(self) -> None:  # noqa: B027
        """UsageError for settings that `compress` would refuse: called by `load`, which refuses them sooner."""

    def with_coder(self, coder: str) -> Self:
        """The same codec, writing its payload with another of its coders (class attribute `coders`); reading any."""
        raise UsageError(f"{self.name!r} writes its payload in one way only; it can't take coder {coder!r}")

    def with_effort(self, effort: float) -> Self:
        """The same codec, taking more time to encode for smaller files; 0: the time it usually takes."""
        if effort == 0:
            return self
        raise UsageError(f"{self.name!r} encodes in one way only; it can't take effort {effort:g}")

    @property
    @abstractmethod
    def weights_id(self) -> bytes:
        """First 16 bytes of the sha256 of the weights file; b"" for a codec without weights."""

    @overload
    def compress(self, x: list[Any], quality: float | None = None, progress: Progress | None = None) -> list[bytes]: ...
    @overload
    def compress(self, x: Any, quality: float | None = None, progress: Progress | None = None) -> bytes: ...
    def compress(self, x: Any, quality: float | None = None, progress: Progress | None = None) -> bytes | list[bytes]:
        """The file of x; a list gives a list, each item the same bytes as it would alone.

        progress: called with 0..1 as items are done.
        """
        items = x if isinstance(x, list) else [x]
        out = []
        for index, item in enumerate(items):
            out.append(self.compress_one(item, quality))
            if progress is not None:
                progress((index + 1) / len(items))
        return out if isinstance(x, list) else out[0]

    @overload
    def decompress(self, data: list[Data]) -> list[Any]: ...
    @overload
    def decompress(self, data: Data) -> Any: ...
    def decompress(self, data: Data | list[Data]) -> Any:
        """What was given to `compress`, in the same kind; a path comes back as a PIL image. A list gives a list."""
        if isinstance(data, list):
            return [self.decompress_one(item) for item in data]
        return self.decompress_one(data)

    @abstractmethod
    def compress_one(self, x: Any, quality: float | None) -> bytes: ...

    @abstractmethod
    def decompress_one(self, data: Data) -> Any: ...

    def check_made_by_us(self, header: Header) -> None:
        """Refuse a file of another codec, stream version, or set of weights."""
        if header.codec != self.name:
            raise ContainerError(
                f"made by {header.codec!r}, not by {self.name!r}: use Codec.load({header.codec!r}), or codec.decode"
            )
        if header.stream not in (self.stream, *self.reads):
            raise StreamError(
                f"made by {self.name} stream {header.stream}; this version reads up to {self.stream}: "
                "pip install -U codec-suite"
            )
        if header.medium != self.medium:
            raise ContainerError(f"a file of {self.name!r} with medium {header.medium!r}; expected {self.medium!r}")
        if header.weights != self.weights_id:
            raise WeightsError(
                f"made with other weights of {self.name!r} (sha256 {header.weights.hex() or 'none'}..., these are "
                f"{self.weights_id.hex() or 'none'}...): use codec.decode(data), which finds them, or weights=..."
            )


@dataclass(frozen=True)
class EncodedPixels:
    """What a family makes of the pixels. coder and arithmetic: which ones were used, for the header."""

    chunks: Sequence[Chunk]
    params: Mapping[str, Value] = field(default_factory=dict)
    coder: str = ""
    arithmetic: str = ""


def check_device(device: str) -> None:
    """UsageError unless tensors can be made on this device and read back."""
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0][:120]
        raise UsageError(f"device {device!r} can't be used here ({reason}): --device cpu always works") from None


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """torch with n threads, and as before afterwards: the last bits of a float sum may depend on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def codec_for(header: Header, weights: PathLike | None = None, device: str = "cpu") -> Codec:
    """The codec that decodes the file of this header. ContainerError if this version doesn't have it."""
    if header.codec not in names():
        raise ContainerError(
            f"made by codec {header.codec!r}, which this version doesn't have: pip install -U codec-suite"
        )
    return load_class(header.codec).for_header(header, weights, device)


def decode(data: Data, weights: PathLike | None = None, device: str = "cpu") -> Any:
    """What is in a file, in the kind that was given to `compress`; codec and weights are found from the file."""
    return codec_for(read_header(data), weights, device).decompress(data)


def read_file(path: PathLike) -> bytes:
    """The bytes of a file, or a MediaError that says why not."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MediaError(f"{path}: can't be read ({error.strerror or error})") from None
