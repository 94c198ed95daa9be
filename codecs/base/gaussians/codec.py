"""The base of codecs of Gaussian splats: kinds of input, files and folders of frames, access to any frame.

A family writes `encode_source` and `open_stream`, beside `from_weights` and `weights_id`. A scene is a sequence of one
frame. A frame is decoded when it is asked for, so that memory holds a few of them however long a sequence is.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, cast

from .... import container
from ....container import Chunk, ChunkReader, Header, Value
from ....errors import ContainerError, MediaError, StreamError, UsageError
from ....files import STDIO, naming, refuse_existing, whole, whole_folder
from ....media import GAUSSIAN_WRITES
from ....media.gaussians.forms import FORMS
from ....media.gaussians.sources import Source as FrameSource
from ....media.gaussians.sources import open_source
from ....media.gaussians.values import Gaussians, Table, degree_of
from ....media.gaussians.writer import losses, suffix_of, write, write_table
from ....media.notes import Note, from_meta, to_meta
from ....registry import load_class
from ..codec import Codec, Data, PathLike, Report, Source, Summary, content_of, opened, path_of
from ..doors import bytes_of, text_of
from ..limits import note_of, rounded
from ..progress import tell, told, within
from ..settings import GAUSSIAN_SELECTION, GAUSSIAN_SETTINGS, Select, Setting
from .bounds import Bounds, named_bounds

__all__ = ["EncodedGaussians", "Frames", "GaussiansCodec", "StreamOfFrames"]

_VALUE, _FRAMES = 0, 1  # what was given to `compress`, in params["k"]: a scene, or a tuple of frames. Append only
_KIND, _FPS, _FORM = "k", "fps", "form"
_DIGITS = 4  # of the number in the name of a frame's file
_MOST_TRIES = 9  # encodings, where a size is to be reached


@dataclass(frozen=True)
class EncodedGaussians:
    """The chunks that a family makes of frames, what its decoder has to know, and notes on what isn't kept.

    sizes: bytes by what they hold, for the words of a summary. n_frames, count: where some frames or Gaussians are left
    out, which a note says, those that are kept.
    """

    chunks: Iterable[Chunk]
    n_chunks: int
    count: int
    params: Mapping[str, Value] = field(default_factory=dict)
    meta: Mapping[str, Value] = field(default_factory=dict)
    notes: Sequence[Note] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    words: Sequence[str] = ()


@dataclass(frozen=True)
class _Reached:
    """A file, and how it was made. quality: where it was looked for."""

    data: bytes
    encoded: EncodedGaussians
    header: Header
    quality: float | None = None


class StreamOfFrames(Protocol):
    """The open payload of a file."""

    def frame(self, index: int) -> Gaussians: ...
    def frames(self, start: int, stop: int) -> Iterator[Gaussians]: ...
    def table(self) -> Table | None: ...


class Frames:
    """The frames of a file of ours that is open.

    n_frames; count: Gaussians of a frame; degree: of their harmonics; fps: frames a second, or None; notes.
    """

    def __init__(self, header: Header, stream: StreamOfFrames) -> None:
        self.header = header
        self._stream = stream
        self.n_frames, self.count, width = header.shape
        self.degree = degree_of((width - 11) // 3)
        fps = header.params.get(_FPS)
        self.fps = float(fps) if isinstance(fps, (int, float)) and 0 < fps <= 1000 else None
        self.notes = from_meta(header.meta)

    def frame(self, index: int) -> Gaussians:
        """The Gaussians of a frame. UsageError if there are fewer."""
        if not 0 <= index < self.n_frames:
            raise UsageError(f"frame {index}: there are {self.n_frames}, counted from 0")
        return self._stream.frame(index)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Gaussians]:
        """The frames start to stop - 1, one after the other."""
        return self._stream.frames(start, self.n_frames if stop is None else min(stop, self.n_frames))

    def table(self) -> Table | None:
        """The integers of a scene whose file was quantised, and which was coded exactly; None for all else."""
        return self._stream.table()


class GaussiansCodec(Codec):
    """The base of codecs of Gaussian splats.

    quality: 1 to 100. named: error bounds by attribute, in place of those of the quality. lossless: None: where the
    input is quantised already, and nothing says how well it is to be kept. critical_chunks: tags that the family
    writes.
    """

    medium: ClassVar[str] = "gaussians"
    wire_medium: ClassVar[str] = "gaussian"
    settings: ClassVar[tuple[Setting, ...]] = GAUSSIAN_SETTINGS
    selection: ClassVar[tuple[Setting, ...]] = GAUSSIAN_SELECTION
    critical_chunks: ClassVar[frozenset[str]] = frozenset()
    default_quality: ClassVar[float] = 60.0
    device: str = "cpu"
    longest: ClassVar[int] = 256  # segment, in frames
    quality: float | None = None
    named: Mapping[str, float] = {}
    lossless: bool | None = None
    keep_order: bool = False
    segment: int | None = None
    fps: float | None = None
    size: float | None = None

    @abstractmethod
    def encode_source(self, source: FrameSource) -> EncodedGaussians:
        """The chunks of the frames of a source."""

    @abstractmethod
    def open_stream(self, header: Header, chunk: Callable[[int], Chunk], n_chunks: int) -> StreamOfFrames:
        """The open payload of a file. chunk: reads the chunk of a number. All of it is as hostile as it comes."""

    def change_setting(self, name: str, value: Any) -> None:
        if name == "max_error":
            name, value = "named", {**self.named, **named_bounds(value)}
        super().change_setting(name, value)

    def check_settings(self) -> None:
        """Raise UsageError for settings out of range, and for those that exclude each other."""
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"quality {self.quality:g}: expected 1 to 100")
        if self.segment is not None and not 1 <= self.segment <= self.longest:
            raise UsageError(f"segment {self.segment}: expected 1 to {self.longest} frames")
        if self.lossless and (self.named or self.quality is not None or self.size is not None):
            raise UsageError("lossless keeps every value: leave out quality, size and max_error")

    def bounds(self, extent: float, quality: float | None = None) -> Bounds:
        """The error bounds of the settings. extent: of the scene, as in `Bounds.of_quality`."""
        chosen = self.quality if quality is None else quality
        of_quality = Bounds.of_quality(self.default_quality if chosen is None else chosen, extent)
        return of_quality.changed(self.named.items())

    # ---- in memory

    def compress_one(self, x: Any, quality: float | None = None) -> bytes:
        codec = self if quality is None else self.with_settings(quality=quality)
        source, kind = _taken_in(x)
        return codec._reach(source, kind).data

    def decompress_one(self, data: Data) -> Any:
        with self.open_frames(data) as file:
            self._check_memory(file)
            frames = tuple(file.frames())
            return frames if file.header.params.get(_KIND) == _FRAMES else frames[0]

    def _check_memory(self, file: Frames) -> None:
        values = math.prod(file.header.shape)
        self.limits.require("values", values, f"{file.n_frames} frames of {file.count} Gaussians at once")

    # ---- files

    def encode_file(
        self, source: Any, target: PathLike, report: Report | None = None, replace: bool = False
    ) -> Summary:
        """Write the file of a scene or a sequence: of a path, a folder of frames, "-", or what `compress` takes."""
        refuse_existing(target, replace)
        with contextlib.ExitStack() as stack:
            if isinstance(source, (str, os.PathLike)):
                stack.enter_context(naming(source))
            frames, kind = _taken_in(source)
            stack.enter_context(told(report))
            reached = self._reach(frames, kind)
            with whole(target, replace=replace) as file:
                file.write(reached.data)
        encoded, n_bytes = reached.encoded, len(reached.data)
        n_in = _size_of(source)
        per_frame = n_bytes / frames.n_frames
        about = {"codec": self.name, "frames": frames.n_frames, "gaussians": encoded.count}
        about |= {"bits_per_gaussian": round(8 * per_frame / encoded.count, 3), "bytes_per_frame": round(per_frame, 1)}
        words = [f"{8 * per_frame / encoded.count:.1f} bits a Gaussian"]
        words += [f"{per_frame / 1000:.1f} kB a frame"] if frames.n_frames > 1 else []
        if reached.quality is not None:
            about["quality"] = round(reached.quality, 2)
            words.append(f"-q {about['quality']:g}")
        notes = [*frames.notes, *encoded.notes, *note_of(reached.header)]
        return Summary(n_in, n_bytes, {**about, **encoded.about}, [*words, *encoded.words], notes)

    def _reach(self, source: FrameSource, kind: int) -> _Reached:
        """The file of a source; where a size is set, that of the highest quality that fits into it."""
        if self.size is None:
            return self._encoded(source, kind)
        low, high = 1.0, 100.0
        best, fits = None, f"{rounded(int(self.size))} bytes"
        for step in range(_MOST_TRIES):
            quality = low if not step else (low + high) / 2
            codec = copy.copy(self)
            object.__setattr__(codec, "quality", quality)
            with within(f"try {step + 1}"):
                reached = replace(codec._encoded(source, kind), quality=quality)
            if len(reached.data) > self.size:
                if best is None:
                    raise UsageError(f"{fits} are too few: the lowest quality takes {len(reached.data)}")
                high = quality
            else:
                best, low = reached, quality
        assert best is not None
        return best

    def _encoded(self, source: FrameSource, kind: int) -> _Reached:
        encoded = self.encode_source(source)
        params: dict[str, Value] = {**encoded.params, _FORM: source.form}
        params |= {_KIND: kind} if kind else {}
        fps = self.fps or source.fps
        params |= {_FPS: float(fps)} if fps and source.n_frames > 1 else {}
        header = Header(
            codec=self.name,
            stream=self.stream,
            weights=self.weights_id,
            medium=self.wire_medium,
            shape=(source.n_frames, encoded.count, 11 + 3 * (source.degree + 1) ** 2),
            dtype="float32",
            params=params,
            meta={**encoded.meta, **to_meta([*source.notes, *encoded.notes])},
        )
        buffer = io.BytesIO()
        container.write(buffer, header, encoded.chunks, encoded.n_chunks)
        return _Reached(buffer.getvalue(), encoded, header)

    @contextlib.contextmanager
    def open_frames(self, source: Source) -> Iterator[Frames]:
        """Opens a file, or bytes of one, for `n_frames`, `count`, `fps`, `frame(i)` and `frames(start, stop)`."""
        data = None if isinstance(source, (str, os.PathLike)) else content_of(source)
        try:
            file: BinaryIO = io.BytesIO(data) if data is not None else open(text_of(cast(Any, source)), "rb")  # noqa: SIM115
        except OSError as error:
            raise MediaError(f"{source}: can't be read ({error.strerror or error})") from None
        with file:
            reader = ChunkReader(file)
            header = reader.header
            self.check_made_by_us(header)
            self._check_shape(header)
            places = reader.places()
            container.check_critical([Chunk(place.tag, b"") for place in places], self.critical_chunks)

            def chunk(index: int) -> Chunk:
                if not 0 <= index < len(places):
                    raise StreamError(f"there is no chunk {index}: the file is damaged")
                return reader.read(index, places[index].position)[0]

            yield Frames(header, self.open_stream(header, chunk, len(places)))

    @staticmethod
    def _check_shape(header: Header) -> None:
        if len(header.shape) != 3 or header.dtype != "float32" or (header.shape[2] - 11) % 3:
            raise ContainerError(f"Gaussians of {header.dtype} {header.shape}: newer, or damaged")
        try:
            degree_of((header.shape[2] - 11) // 3)
        except MediaError as error:
            raise ContainerError(f"{error}: newer, or damaged") from None

    def decode_file(
        self,
        source: Source,
        target: PathLike,
        select: Select = Select(),  # noqa: B008  frozen
        report: Report | None = None,
        replace: bool = False,
    ) -> Summary:
        about = opened(source)
        self.check_request(about.require_header(), target, select, replace)
        with self.open_frames(about.source if about.data is None else about.data) as file, told(report):
            start, stop = select.frames or (0, None)
            if start >= file.n_frames:
                raise UsageError(f"--frames {start}:{'' if stop is None else stop}: there are {file.n_frames} frames")
            stop = file.n_frames if stop is None else min(stop, file.n_frames)
            suffix = _form_of(target, select)
            if stop - start > 1:
                n_out, notes = self._decode_folder(file, target, start, stop, select.form or ".ply")
            else:
                n_out, notes = self._decode_scene(file, target, start, suffix, replace)
            facts = {"frames": stop - start, "gaussians": file.count, "degree": file.degree}
            n_in = file.header and (len(about.data) if about.data is not None else os.path.getsize(about.source))
            return Summary(n_in, n_out, facts, (), [*notes, *file.notes])

    def _decode_scene(
        self, file: Frames, target: PathLike, index: int, suffix: str, replace: bool
    ) -> tuple[int, Sequence[Note]]:
        table = file.table()
        if table is not None and FORMS[table.form].write is not None and suffix == _suffix_of(table.form):
            data, notes = write_table(table), ()
        else:
            data, notes = write(gaussians := file.frame(index), suffix), losses(gaussians, suffix)
        with whole(target, replace=replace) as out:
            out.write(data)
        return len(data), notes

    def _decode_folder(
        self, file: Frames, target: PathLike, start: int, stop: int, suffix: str
    ) -> tuple[int, Sequence[Note]]:
        n_bytes, notes = 0, []
        with whole_folder(target) as folder:
            for index, gaussians in enumerate(file.frames(start, stop), start):
                tell((index - start) / (stop - start), f"frame {index - start + 1}/{stop - start}")
                data = write(gaussians, suffix)
                notes += [note for note in losses(gaussians, suffix) if note not in notes]
                (folder / f"{index:0{_DIGITS}d}{suffix}").write_bytes(data)
                n_bytes += len(data)
        return n_bytes, notes

    def verify_file(self, source: Source) -> None:
        about = opened(source)
        about.require_header()
        with self.open_frames(about.source if about.data is None else about.data) as file:
            for _ in file.frames():
                pass

    @classmethod
    def output_suffixes(cls, header: Header, select: Select) -> tuple[str, ...]:
        """Suffixes of splat files, that of the input's form first; of a sequence a folder comes first."""
        form = header.params.get(_FORM)
        own = _suffix_of(form)
        files = (own, *(suffix for suffix in GAUSSIAN_WRITES if suffix and suffix != own))
        start, stop = select.frames or (0, None)
        n_frames = header.shape[0] if header.shape else 1
        several = min(n_frames, n_frames if stop is None else stop) - start > 1
        return ("",) if several else files

    @classmethod
    def check_output(cls, header: Header, target: PathLike, select: Select) -> None:
        """Raise UsageError for a single file where there are several frames, beside what every codec refuses."""
        suffix = "" if target == STDIO else Path(target).suffix.lower()
        if cls.output_suffixes(header, select) == ("",) and (suffix in GAUSSIAN_WRITES or target == STDIO):
            raise UsageError(f"{target}: there are {header.shape[0]} frames: -o names a folder, or --frames picks one")
        super().check_output(header, target, select)

    @classmethod
    def storage(cls, header: Header, chunks: Sequence[Chunk]) -> Mapping[str, int]:
        """The payload bytes of a file by what they hold. A family that knows better extends it."""
        del header
        sizes: dict[str, int] = {}
        for chunk in chunks:
            sizes[chunk.tag] = sizes.get(chunk.tag, 0) + len(chunk.payload)
        return sizes

    @classmethod
    def describe(cls, source: Source) -> Mapping[str, Any]:
        """The frames, the Gaussians, the degree of harmonics, the bytes a frame, and what the bytes hold."""
        data = content_of(source)
        header, chunks = container.unpack(data)
        cls._check_shape(header)
        n_frames, count, width = header.shape
        about: dict[str, Any] = {"frames": n_frames, "gaussians": count, "degree": degree_of((width - 11) // 3)}
        about |= {"fps": header.params[_FPS]} if _FPS in header.params else {}
        about |= {
            "bytes_per_frame": round(len(data) / n_frames, 1),
            "bits_per_gaussian": round(8 * len(data) / n_frames / count, 3),
        }
        family = load_class(header.codec)
        if issubclass(family, GaussiansCodec):
            about["storage"] = dict(family.storage(header, chunks))
        return about


_COMPRESSED = ".compressed.ply"  # a suffix of two parts: what compressed PLY is usually called


def _form_of(target: PathLike, select: Select) -> str:
    """The suffix that says how a scene is written, of compressed PLY both parts of it."""
    name = os.path.basename(os.fspath(target)).lower()
    if name.endswith(_COMPRESSED):
        return _COMPRESSED
    return ".ply" if target == STDIO and not select.form else select.form_of(target)


def _suffix_of(form: object) -> str:
    """The suffix of the files that a decoded scene becomes where nothing else is asked for."""
    if form == "compressed-ply":
        return _COMPRESSED
    return suffix_of(form) if isinstance(form, str) and form in ("spz", "splat") else ".ply"


def _size_of(source: Any) -> int | None:
    """The bytes of a file, or of the files of a folder; None for all else."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    if os.path.isfile(source):
        return os.path.getsize(source)
    if os.path.isdir(source):
        return sum(item.stat().st_size for item in Path(source).rglob("*") if item.is_file())
    return None


def _taken_in(x: Any) -> tuple[FrameSource, int]:
    """The frames of anything that can be encoded, and which kind it is."""
    if isinstance(x, Gaussians):
        return open_source(x), _VALUE
    if isinstance(x, tuple) and x and all(isinstance(item, Gaussians) for item in x):
        return open_source(x), _FRAMES
    if isinstance(x, (str, os.PathLike)):
        source = open_source(path_of(x))
        return source, _FRAMES if source.n_frames > 1 else _VALUE
    data = bytes_of(x)
    if data is None:
        raise UsageError(
            f"can't compress a {type(x).__name__}: expected a path (PLY, SPZ, SOG, .splat, a folder of them), the "
            "bytes of such a file or an open one, Gaussians, or a tuple of Gaussians, one for each frame"
        )
    return open_source(bytes(data)), _VALUE
