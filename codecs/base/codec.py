"""The contract of all codecs: loading, settings, data to bytes and back, files to files.

A family writes `from_weights`, `weights_id` and what the base of its medium asks for (`codecs/base/image.py`, array,
field, video). Everything that callers need is here: the command, `codec bench` and Python know no medium.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, cast, overload

from ... import native
from ...container import Chunk, Header, Value, read_header
from ...container import describe as describe_file
from ...errors import ContainerError, StreamError, UsageError, WeightsError, torch_may_be_missing
from ...files import STDIO, PathLike, cpu_count, is_stream, read_bytes, refuse_existing
from ...media import MEDIA, Probe, probe, probe_bytes
from ...media.notes import Note
from ...registry import default, entry, load_class, names, split_tag
from ..layers.inference import fresh_torch, loaded_torch
from .doors import DATA, bytes_of, is_torch, text_of, wrap_doors
from .limits import DEFAULTS, Limits
from .limits import check as check_limits
from .settings import QUALITY, Select, Setting, check_declared, check_rivals
from .weights import ID_BYTES, find_by_hash, manifests

if TYPE_CHECKING:
    from typing_extensions import Self

    from .named import LoadByName  # pyright: ignore[reportMissingModuleSource]  a stub

__all__ = [
    "Codec",
    "Data",
    "EncodedPixels",
    "FileProgress",
    "PathLike",
    "Progress",
    "Report",
    "Source",
    "Summary",
    "check_device",
    "codec_for",
    "content_of",
    "decode",
    "decode_file",
    "decoder_for",
    "encode_file",
    "info",
    "is_torch",
    "opened",
    "path_of",
    "threads",
]

Progress = Callable[[float], None]  # called with the finished part of the work, 0 to 1
Data = bytes | bytearray | memoryview


class Readable(Protocol):
    """A file opened in binary mode, or any object that gives bytes as one does."""

    def read(self, size: int = -1, /) -> bytes: ...


# A file of ours: a path, "-" for stdin, its bytes, an open file, or what `media.probe` made of it.
Source = PathLike | Data | Readable | Probe


class FileProgress(Protocol):
    """The progress of coding one file. fraction: 0 to 1, None while it isn't known. words: one line for people."""

    @property
    def fraction(self) -> float | None: ...
    @property
    def words(self) -> str: ...


Report = Callable[[FileProgress], None]


@dataclass(frozen=True)
class Summary:
    """The facts about one file that `encode_file` or `decode_file` has written.

    bytes_in, bytes_out: sizes of the source and of the target; None where one has none, as a folder, or it isn't known.
    about: further facts, plain values by name, as the command prints them with --json. words: facts worth a line, such
    as "0.312 bpp". notes: what was left out, changed or cut off.
    """

    bytes_in: int | None = None
    bytes_out: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    words: Sequence[str] = ()
    notes: Sequence[Note] = ()


class Codec(ABC):
    """A codec: data to bytes and back, for a family with one set of weights. It is ready when made, and never changes.

    stream: version of the family's payload, raised when old files would decode differently; reads: older versions
    that still decode. medium: of the card; wire_medium: as the header of a file names it, where that is another word.
    any_suffix: whether an output may also have a suffix that no medium knows. settings: what `with_settings` takes;
    selection: what `decode_file` can be asked for. A family takes both from its card. limits: how much a file may
    decode to; `with_limits` changes them.
    """

    name: ClassVar[str]
    stream: ClassVar[int]
    medium: ClassVar[str]
    wire_medium: ClassVar[str] = ""
    any_suffix: ClassVar[bool] = False
    reads: ClassVar[tuple[int, ...]] = ()
    settings: ClassVar[tuple[Setting, ...]] = ()
    selection: ClassVar[tuple[Setting, ...]] = ()
    limits = DEFAULTS  # not annotated: of some families, which are dataclasses, it would become a field

    _origin: _Origin | None = None  # how `load` made this codec; None: its class was called
    _changes: tuple[tuple[str, Any], ...] = ()  # the settings that were changed since, in order

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        wrap_doors(cls)

    # ---- making one

    if TYPE_CHECKING:
        load: ClassVar[LoadByName]  # typed by the name: named.pyi, which tests compare with the registry
    else:

        @classmethod
        def load(cls, name, quality=None, weights=None, device="cpu"):
            """The codec of this name, with a tag or without: "walloc", "walloc@16x".

            quality: what `compress` uses if it isn't told; None: the family's default. weights: a safetensors file in
            place of the shipped one. device: as torch names it, or "auto", a GPU if there is one. Raises UsageError (a
            device that can't be used too), WeightsError.
            """
            plain, tag = split_tag(name)
            family = load_class(plain)
            if not (isinstance(family, type) and issubclass(family, Codec)):
                raise UsageError(f"the codec {plain!r} can't be used: {family!r} isn't a class of codec.Codec")
            if not issubclass(family, cls):
                raise UsageError(f"{plain!r} isn't a {cls.__name__}: call Codec.load({name!r})")
            device = check_device(device)
            if quality is not None:
                quality = QUALITY.checked(quality)
            codec = family._made(_Origin(name, quality, _weights_path(weights), device), tag)
            codec.check_settings()
            return codec

    @classmethod
    def _made(cls, origin: _Origin, tag: str | None, path: Path | None = None) -> Self:
        """The codec of an origin. path: where its weights lie, if that is known."""
        with torch_may_be_missing(f"the codec {cls.name!r} with these weights"), fresh_torch(origin.device):
            codec = cls.from_weights(tag, origin.quality, path or origin.weights, origin.device)
        object.__setattr__(codec, "_origin", origin)  # some families are frozen dataclasses
        return codec

    @classmethod
    @abstractmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        """The codec of a tag, or of a weights file: what `load` calls. Finds shipped weights unless a file is named."""

    @classmethod
    def for_header(
        cls, header: Header, weights: PathLike | None = None, device: str = "cpu", limits: Limits = DEFAULTS
    ) -> Self:
        """The codec that decodes a file: shipped weights are found by the hash in its header, under any tag.

        LimitError, before any weights are looked for, if the file decodes to more than the limits allow.
        """
        if header.codec != cls.name:
            raise UsageError(f"a file of {header.codec!r} can't be decoded by {cls.name!r}")
        check_limits(header, limits)
        device, given = check_device(device), _weights_path(weights)
        if given is None and header.weights:
            manifest = find_by_hash(cls.name, header.weights)
            codec = cls._made(_Origin(f"{cls.name}@{manifest.tag}", None, None, device), manifest.tag, manifest.path)
        else:
            codec = cls._made(_Origin(cls.name, None, given, device), None)
        codec = codec.with_limits(limits)
        codec.check_made_by_us(header)
        return codec

    def to(self, device: str) -> Self:
        """The same codec on another device, or on "auto"; itself if it is there."""
        device = check_device(device)
        if device == getattr(self, "device", "cpu"):
            return self
        if self._origin is None:
            raise UsageError(f"this {self.name} was made by its class: give that the device, or use Codec.load")
        return cast("Self", _restored(self._origin._replace(device=device), self.weights_id, self._changes))

    # ---- as a value: it never changes, so that copies share the networks, and a pickle names them

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:  # noqa: B027
        """A codec holds nothing that has to be closed; `with` only says where it is used."""

    def __copy__(self) -> Self:
        codec = object.__new__(type(self))
        vars(codec).update(vars(self))
        return codec

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        del memo
        return copy.copy(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._origin is None:
            return super().__reduce_ex__(protocol)
        return _restored, (self._origin, self.weights_id, self._changes)

    def __repr__(self) -> str:
        """The name with its tag, the first half of the weights' hash, the settings that were made, and the device."""
        name = self.name if self._origin is None else self._origin.name
        if "@" not in name and (made := [item for item in manifests(self.name) if item.id == self.weights_id]):
            name += "@" + made[0].tag
        words = [name]
        words += [f"weights={self.weights_id.hex()[:ID_BYTES]}"] if self.weights_id else []
        settings = {"quality": None if self._origin is None else self._origin.quality} | dict(self._changes)
        words += [f"{key}={_in_short(value)!r}" for key, value in settings.items() if value is not None]
        return f"<codec {' '.join(words)} device={getattr(self, 'device', 'cpu')}>"

    # ---- settings

    def with_settings(self, **changes: Any) -> Self:
        """The same codec with other settings: `codec.with_settings(effort=1)`. `settings` says which there are.

        A text is read as the command reads it: size="20kB". A quality and what refines it (a size, a bound) can be
        given together, in any order. UsageError for a setting that the codec doesn't have, a value that it doesn't
        take, or two settings that exclude each other.
        """
        check_declared(self.name, changes, self.settings)
        declared = {setting.name: setting for setting in self.settings}
        values = {name: declared[name].checked(value) for name, value in changes.items()}
        check_rivals(self.name, values, self.settings)
        codec = copy.copy(self)
        for name, value in sorted(values.items(), key=_quality_first):
            codec.change_setting(name, value)
        object.__setattr__(codec, "_changes", (*self._changes, *sorted(values.items(), key=_quality_first)))
        codec.check_settings()
        return codec

    def change_setting(self, name: str, value: Any) -> None:
        """Give a declared setting a value that is of its kind, or None if it is optional.

        `with_settings` alone calls it, on a fresh copy; families extend it.
        """
        object.__setattr__(self, name, value)  # some families are frozen dataclasses

    def check_settings(self) -> None:  # noqa: B027
        """Raise UsageError for settings that `compress` would refuse: `load` and `with_settings` refuse them sooner."""

    def with_limits(self, limits: Limits) -> Self:
        """The same codec with other limits of how much a file may decode to: `codec.Limits(pixels=400_000_000)`."""
        if limits == self.limits:
            return self
        codec = copy.copy(self)
        object.__setattr__(codec, "limits", limits)
        return codec

    @property
    @abstractmethod
    def weights_id(self) -> bytes:
        """The first 16 bytes of the sha256 of the weights file; b"" for a codec without weights."""

    # ---- data

    @overload
    def compress(self, x: list[Any], quality: float | None = None, progress: Progress | None = None) -> list[bytes]: ...
    @overload
    def compress(self, x: Any, quality: float | None = None, progress: Progress | None = None) -> bytes: ...
    def compress(self, x: Any, quality: float | None = None, progress: Progress | None = None) -> bytes | list[bytes]:
        """The file of x; a list gives a list, each item the same bytes as it would alone.

        x: what the codec is for, in any of the kinds that its medium has, or a file of it: a path, the bytes of one, an
        open file. progress: called with 0..1 as items are done.
        """
        quality = None if quality is None else QUALITY.checked(quality)
        items = x if isinstance(x, list) else [x]
        out = []
        for index, item in enumerate(items):
            out.append(self.compress_one(item, quality))
            if progress is not None:
                progress((index + 1) / len(items))
        return out if isinstance(x, list) else out[0]

    @overload
    def decompress(self, data: Source) -> Any: ...
    @overload
    def decompress(self, data: list[Any]) -> list[Any]: ...
    def decompress(self, data: Source | list[Any]) -> Any:
        """The data that `compress` was given, of the same kind; a picture's file comes back as a PIL image.

        data: the bytes of a file, a path, or an open file; a list of them gives a list.
        """
        if isinstance(data, list):
            return [self.decompress_one(content_of(item)) for item in data]
        return self.decompress_one(content_of(data))

    @abstractmethod
    def compress_one(self, x: Any, quality: float | None) -> bytes:
        """The file of one item."""

    @abstractmethod
    def decompress_one(self, data: Data) -> Any:
        """The data that `compress_one` was given."""

    # ---- files

    @abstractmethod
    def encode_file(
        self, source: Any, target: PathLike, report: Report | None = None, replace: bool = False
    ) -> Summary:
        """Write the file of a source at `target`: whole or not at all.

        source: a path, "-" for stdin, or what the medium's base takes besides. target: a path, or "-" for stdout.
        report: told how far it is. replace: whether an existing target may be replaced.

        MediaError, with the source's name in front, for one that can't be read; UsageError for settings that don't fit
        it; files.TargetExistsError (a FileExistsError) or TargetIsFolderError before any work is done; OSError where
        the target can't be written.
        """

    @abstractmethod
    def decode_file(
        self,
        source: Source,
        target: PathLike,
        select: Select = Select(),  # noqa: B008  frozen
        report: Report | None = None,
        replace: bool = False,
    ) -> Summary:
        """Write the content of a file of this codec, or the selected part of it, at `target`: whole or not at all.

        The target's suffix says in which form (`output_suffixes`). Bases call `check_request` first. ContainerError or
        StreamError for a damaged file; of sources and targets as `encode_file`.
        """

    @abstractmethod
    def verify_file(self, source: Source) -> None:
        """Decode all of a file, and keep nothing: ContainerError or StreamError if it is damaged."""

    @classmethod
    @abstractmethod
    def output_suffixes(cls, header: Header, select: Select) -> tuple[str, ...]:
        """Suffixes that `decode_file` can write for a file with this header, the usual one first; "" is a folder."""

    def check_request(self, header: Header, target: PathLike, select: Select, replace: bool) -> None:
        """Raise UsageError, before anything is decoded, for a selection, a form or a target that can't be."""
        check_declared(self.name, select.named, self.selection)
        self.check_select(select)
        if header.codec == self.name:  # else decoding says what is wrong
            self.check_output(header, target, select)
        fills = "" in self.output_suffixes(header, select) and not Path(target).suffix and os.path.isdir(target)
        if not fills:  # an empty folder may be filled with pictures
            refuse_existing(target, replace)

    @classmethod
    def check_select(cls, select: Select) -> None:
        """Raise UsageError, before anything is decoded, for a selection that no file can have."""
        del select

    @classmethod
    def check_output(cls, header: Header, target: PathLike, select: Select) -> None:
        """Raise UsageError for a target whose suffix says a form that a file with this header can't be decoded to."""
        suffix = "" if target == STDIO else Path(target).suffix.lower()
        allowed = cls.output_suffixes(header, select)
        is_known = any(suffix in medium.writes for medium in MEDIA.values())
        if suffix and suffix not in allowed and (is_known or not cls.any_suffix):
            words = ", ".join(name or "a folder" for name in allowed)
            few = "one of " if len(allowed) > 1 else ""
            raise UsageError(f"{target}: unknown suffix {suffix} for a file of {header.codec}; expected {few}{words}")

    @classmethod
    def describe(cls, source: Source) -> Mapping[str, Any]:
        """Facts that `codec info` shows of a file beside what every file has, by name."""
        del source
        return {}

    def plan_file(self, source: PathLike) -> Mapping[str, str]:
        """The parts of a source by name, with words for what `encode_file` would do with each; nothing is written.

        {} where there is nothing to decide.
        """
        del source
        return {}

    def check_made_by_us(self, header: Header) -> None:
        """Refuse a file of another codec, stream version, or set of weights, or one that decodes to too much.

        All that decodes calls it, before anything is allocated.
        """
        if header.codec != self.name:
            raise ContainerError(
                f"made by {header.codec!r}, not by {self.name!r}: use Codec.load({header.codec!r}), or codec.decode"
            )
        if header.stream not in (self.stream, *self.reads):
            raise StreamError(
                f"made by {self.name} stream {header.stream}; this version reads up to {self.stream}: "
                "pip install -U codec-suite"
            )
        if header.medium != (self.wire_medium or self.medium):
            raise ContainerError(f"a file of {self.name!r} with medium {header.medium!r}; expected {self.medium!r}")
        if not header.made_with(self.weights_id):
            raise WeightsError(
                f"made with other weights of {self.name!r} (sha256 {header.weights.hex() or 'none'}..., these are "
                f"{self.weights_id.hex() or 'none'}...): use codec.decode(data), which finds them, or weights=..."
            )
        check_limits(header, self.limits)


@dataclass(frozen=True)
class EncodedPixels:
    """The chunks that a family makes of pixels or of an array, and the fields of the header that it decides."""

    chunks: Sequence[Chunk]
    params: Mapping[str, Value] = field(default_factory=dict)
    coder: str = ""
    arithmetic: str = ""


# ---- files of any codec


def path_of(source: Any) -> PathLike:
    """A source that has to be a file or stdin; UsageError for anything else."""
    if not isinstance(source, (str, os.PathLike)):
        raise UsageError(f"can't encode a {type(source).__name__} into a file: expected a path, or '-' for stdin")
    return text_of(source)


def opened(source: Source) -> Probe:
    """The probe of a file of ours, which a probe already is. What can be read only once, as stdin, is read whole.

    UsageError for what is neither a path nor bytes nor an open file.
    """
    if isinstance(source, Probe):
        once = source.data is None and is_stream(source.source)
        return probe_bytes(read_bytes(source.source), source.source) if once else source
    if isinstance(source, (str, os.PathLike)):
        path = text_of(source)
        return probe_bytes(read_bytes(path), path) if is_stream(path) else probe(path)
    data = bytes_of(source, arrays=True)
    if data is None:
        raise UsageError(f"can't read a {type(source).__name__}: expected {DATA}")
    return probe_bytes(bytes(data))


def content_of(source: Source) -> Data:
    """All bytes of a file of ours, however it is given: see `opened`. MediaError if it can't be read."""
    if isinstance(source, (bytes, bytearray)):  # as it is: no copy
        return source
    return opened(source).read()


def codec_for(header: Header, weights: PathLike | None = None, device: str = "cpu", limits: Limits = DEFAULTS) -> Codec:
    """The codec that decodes the file of this header. ContainerError if this version doesn't have it.

    LimitError, before anything is loaded, for a file that decodes to more than the limits allow.
    """
    return cast(Codec, _family_of(header).for_header(header, weights, device, limits))


def _family_of(header: Header) -> Any:
    if header.codec not in names():
        raise ContainerError(
            f"made by codec {header.codec!r}, which this version doesn't have: pip install -U codec-suite"
        )
    return load_class(header.codec)


_KEPT = 4  # codecs whose networks stay in memory between two calls of `decode`
_decoders: collections.OrderedDict[tuple[Any, ...], Codec] = collections.OrderedDict()
_lock = threading.Lock()


def decoder_for(
    header: Header, weights: PathLike | None = None, device: str = "cpu", limits: Limits = DEFAULTS
) -> Codec:
    """`codec_for`, which keeps the last codecs: many files of the same weights don't build a network each.

    Whoever decodes shares their networks, so that they must not be changed or given away.
    """
    check_limits(header, limits)
    device = check_device(device)
    key = (_family_of(header), header.weights, device, _state_of(_weights_path(weights)))
    with _lock:
        if key in _decoders:
            _decoders.move_to_end(key)
            codec = _decoders[key]
        else:
            codec = _decoders[key] = codec_for(header, weights, device, limits)
            if len(_decoders) > _KEPT:
                _decoders.popitem(last=False)
    codec = codec.with_limits(limits)
    codec.check_made_by_us(header)  # of another stream version, perhaps
    return codec


def _state_of(path: Path | None) -> tuple[Any, ...]:
    """The facts of a weights file by which a changed one is told from what was read before."""
    if path is None:
        return ()
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # reading it says what is wrong
        return (os.fspath(path),)
    return (os.path.realpath(path), state.st_mtime_ns, state.st_size, state.st_ino)


def _new_lock() -> None:
    """In a child process another thread of the parent's may hold the lock, and won't give it back."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def decode(data: Source, weights: PathLike | None = None, device: str = "cpu", limits: Limits = DEFAULTS) -> Any:
    """The content of a file, in the kind that was given to `compress`; codec and weights are found from the file.

    data: the bytes of a file, a path, or an open file. limits: how much it may decode to; LimitError if it is more.
    """
    content = content_of(data)
    return decoder_for(read_header(content), weights, device, limits).decompress(content)


def info(source: Source) -> dict[str, Any]:
    """The facts about a file, all of which is verified (the public `codec.info`): see `container.describe`.

    Of files of fields also `fields`: by path, how each is coded, and within what.

    source: a path, the bytes of a file, or an open file.
    """
    data = content_of(source)
    about = describe_file(data)
    if about["codec"] in names():
        from . import base_of

        about |= base_of(entry(about["codec"])).describe(data)
    return about


def encode_file(
    source: Any,
    target: PathLike,
    codec: str | None = None,
    *,
    replace: bool = False,
    weights: PathLike | None = None,
    device: str = "cpu",
    **settings: Any,
) -> Summary:
    """Encode a file of any medium (the public `codec.encode_file`).

    source: a path, "-" for stdin, or what else the codec's `encode_file` takes. codec: a name, with a tag or without;
    None: the default of what the source holds. settings: as `with_settings` takes them, such as quality=60 or
    max_error=0.1. weights, device: as for `Codec.load`. Raises as `Codec.encode_file` does.
    """
    loaded = Codec.load(_codec_of(source) if codec is None else codec, weights=weights, device=device)
    return (loaded.with_settings(**settings) if settings else loaded).encode_file(source, target, replace=replace)


def _codec_of(source: Any) -> str:
    """The name of the default codec of what a source holds; UsageError where there is none."""
    about = probe(path_of(source))
    if os.path.isdir(source):
        takers = [name for medium in MEDIA.values() if medium.folders for name in names(medium.name)]
        raise UsageError(f"{about.source} is a folder: name a codec that takes one ({', '.join(takers)})")
    if about.ours:
        made_by = "" if about.header is None else f" of {about.header.codec}"
        raise UsageError(f"{about.source} is a file{made_by} already: decode it first, or name a codec")
    name = default(about.medium)
    if name is None:
        takers = ", ".join(names(about.medium)) or "none yet"
        raise UsageError(
            f"{about.source} holds {about.medium}, for which there is no default codec: name one ({takers})"
        )
    return name


def decode_file(
    source: Source,
    target: PathLike,
    *,
    replace: bool = False,
    weights: PathLike | None = None,
    device: str = "cpu",
    limits: Limits = DEFAULTS,
    **select: Any,
) -> Summary:
    """Decode a file of any codec into a file (the public `codec.decode_file`).

    select: fields of `Select`, such as frames=(30, 45), dataset="/velocity" or form=".tiff". weights, device,
    limits: as for `decode`. Raises as `Codec.decode_file` does.
    """
    about = opened(source)
    loaded = decoder_for(about.require_header(), weights, device, limits)
    check_declared(loaded.name, [name for name in select if name != "form"], loaded.selection)
    return loaded.decode_file(about, target, Select(**select), replace=replace)


# ---- how a codec was made


class _Origin(NamedTuple):
    """The arguments of `Codec.load`, from which a codec can be made again."""

    name: str
    quality: float | None
    weights: Path | None
    device: str


def _in_short(value: Any) -> Any:
    """A setting as it was given: one that may differ by dataset is pairs, with "" for all others."""
    return value[0][1] if isinstance(value, tuple) and len(value) == 1 and value[0][:1] == ("",) else value


def _quality_first(item: tuple[str, Any]) -> tuple[bool, str]:
    """The order in which settings are changed: a quality first, since the others refine it."""
    return item[0] != "quality", item[0]


def _weights_path(weights: Any) -> Path | None:
    if weights is None:
        return None
    if not isinstance(weights, (str, os.PathLike)):
        raise UsageError(f"weights: expected the path of a safetensors file, not a {type(weights).__name__}")
    return Path(text_of(weights))


def _restored(origin: _Origin, weights_id: bytes, changes: tuple[tuple[str, Any], ...]) -> Codec:
    """The codec that a pickle names. Shipped weights are found by their hash, whatever their tag is now."""
    plain, tag = split_tag(origin.name)
    family = load_class(plain)
    device = check_device(origin.device)
    codec = None
    with contextlib.suppress(WeightsError):  # another version has other tags
        codec = family._made(origin._replace(device=device), tag)
    if codec is None or codec.weights_id != weights_id:
        if origin.weights is not None:
            raise WeightsError(
                f"{origin.weights} isn't there, or isn't the file that this codec was made with (sha256 "
                f"{weights_id.hex()}...): put it there, and load the codec again"
            )
        manifest = find_by_hash(plain, weights_id)
        origin = _Origin(f"{plain}@{manifest.tag}", origin.quality, None, device)
        codec = family._made(origin, manifest.tag, manifest.path)
    for name, value in changes:
        codec = codec.with_settings(**{name: value})
    return cast(Codec, codec)


# ---- torch


def check_device(device: Any) -> str:
    """The device as torch names it: "auto" is the first GPU, or else the CPU.

    UsageError unless tensors can be made on it and read back. Apple's has no float64, which exact layers need.
    """
    if device == "cpu":
        return "cpu"
    if not isinstance(device, str):
        if type(device).__module__ != "torch":
            raise UsageError(f"device {device!r:.80}: expected cpu, cuda, cuda:1 or auto")
        device = str(device)
    if device == "auto" and not native.has_torch():
        return "cpu"
    with torch_may_be_missing(f"device {device!r:.80}"):
        import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        if "device type" in reason or "device string" in reason:  # torch lists all that it has ever had
            reason = "no such device"
        raise UsageError(
            f"device {device!r:.80} can't be used here ({reason[:120]}); expected cpu, cuda, cuda:1 or auto: "
            "--device cpu always works"
        ) from None
    return device


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Computes with n threads, and as before afterwards: the last bits of a float sum may depend on their number."""
    torch, kernels, variable = loaded_torch(), native.threads(), os.environ.get("OMP_NUM_THREADS")
    before = cpu_count() if torch is None else torch.get_num_threads()
    native.set_threads(n)
    if torch is None:
        os.environ["OMP_NUM_THREADS"] = str(n)  # torch reads it where it is imported, which may be inside
    else:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        native.set_threads(kernels)
        if torch is None and variable is None:
            del os.environ["OMP_NUM_THREADS"]
        elif torch is None and variable is not None:
            os.environ["OMP_NUM_THREADS"] = variable
        if (torch := loaded_torch()) is not None:
            torch.set_num_threads(before)
