"""The base of all video codecs: kinds of input, the file, streaming in both directions, resuming.

A codec of this kind fits each group of frames when it encodes, so it carries no weights: `presets` says what there is
to fit. `encode_file` and `open_file` stream; `compress` and `decompress` are the same in memory.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from .... import container
from ....errors import MediaError, UsageError
from ....files import STDIO, is_stream, refuse_existing, whole
from ....media import VIDEO_WRITES
from ....media.video.reader import VideoReader, open_video
from ....media.video.sound import cut_audio
from ....media.video.values import Frame, VideoInfo, frames_of, stack
from ....media.video.writer import VideoWriter, parse_encoder
from ..codec import Codec, Data, PathLike, Report, Source, Summary, content_of, opened
from ..doors import bytes_of, text_of
from ..settings import VIDEO_SELECTION, VIDEO_SETTINGS, Select, Setting
from .encode import (
    EncodeContext,
    Encoded,
    EncodeProgress,
    EncodeReport,
    EncodeSettings,
    EncodeSource,
    encode,
    identity_of,
)
from .groups import Preset
from .journal import Journal
from .stream import VideoFile, chunks_of, header_of, times_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EncodeProgress", "EncodeSettings", "VideoCodec", "VideoFile"]

_OVERHEAD = 150  # bytes of a file's header and chunks, about


class VideoCodec(Codec):
    """The base of codecs that fit a network to each group of frames.

    preset: the one that encodes; any of `presets` decodes. encoding: its settings; `with_settings` gives the same codec
    with others.
    """

    medium: ClassVar[str] = "video"
    settings: ClassVar[tuple[Setting, ...]] = VIDEO_SETTINGS
    selection: ClassVar[tuple[Setting, ...]] = VIDEO_SELECTION
    coder: ClassVar[str] = "constriction"
    default_preset: ClassVar[str]
    device: str = "cpu"

    def __init__(self, preset: Preset, encoding: EncodeSettings, device: str = "cpu") -> None:
        self.preset, self.encoding, self.device = preset, encoding, device

    @classmethod
    @abstractmethod
    def presets(cls, device: str = "cpu") -> Mapping[str, Callable[[], Preset]]:
        """The presets by name, each as a function that makes it on this device."""

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        if weights is not None:
            raise UsageError(f"{cls.name} has no weights, each file carries its own networks: leave out {weights}")
        presets = cls.presets(device)
        name = tag or cls.default_preset
        if name not in presets:
            raise UsageError(
                f"no preset {name!r} of {cls.name}: there are {', '.join(presets)}, as in {cls.name}@{name}"
            )
        settings = EncodeSettings() if quality is None else EncodeSettings(quality=quality)
        return cls(presets[name](), settings, device)

    @property
    def weights_id(self) -> bytes:
        return b""

    def check_settings(self) -> None:
        """Raise UsageError for settings that can't be, or that this preset can't do."""
        self.encoding.check()
        if self.encoding.effort == 0 and self.preset.needs_effort:
            raise UsageError(f"effort 0: preset {self.preset.name} is nothing without optimiser steps")
        most = self.preset.most_frames
        if most is not None and (self.encoding.group or 0) > most:
            raise UsageError(
                f"group {self.encoding.group}: preset {self.preset.name} has groups of at most {most} frames"
            )

    def change_setting(self, name: str, value: Any) -> None:
        if name == "quality" and value is None:
            value = EncodeSettings.quality
        self.encoding = replace(self.encoding, **{name: value})

    # ---- in memory

    def compress_one(self, x: Any, quality: float | None = None) -> bytes:
        codec = self if quality is None else self.with_settings(quality=quality)
        with _source(x) as (source, audio):
            source, sound = codec._with_sound(source, audio)
            encoded = encode(source, codec._context(b""), Journal(None, b""), None)
            buffer = io.BytesIO()
            codec._write(buffer, source.info, encoded, sound())
            return buffer.getvalue()

    def decompress_one(self, data: Data) -> NDArray[np.uint8]:
        """All frames of the bytes of a file: (T, H, W, 3) RGB, or (T, H, W) if the video is grey."""
        with self.open_file(data) as file:
            return stack(file.info, file.frames())

    # ---- files

    def encode_file(
        self,
        source: Any,
        target: PathLike,
        report: EncodeReport | None = None,
        replace: bool = False,
        keep: bool = True,
    ) -> Summary:
        """Encode a file, a folder of PNGs, an array, a reader, or (info, frames) into a file.

        Progress is kept in TARGET.part (unless keep is False, or the target is no file): after an interruption the same
        call goes on from there, and gives the same bytes. The target appears when it is whole. The rest is as in
        `Codec.encode_file`.
        """
        refuse_existing(target, replace)
        place = None if is_stream(target) else Path(os.path.realpath(target))
        with _source(source) as (video, audio):
            identity = identity_of(video, self.preset, self.encoding, f"{self.name} {self.stream}")
            part = place.with_name(place.name + ".part") if place is not None and keep and video.identity else None
            if part is not None:
                part.parent.mkdir(parents=True, exist_ok=True)
            journal = Journal(part, identity)
            done = False
            try:
                video, sound = self._with_sound(video, audio)
                encoded = encode(video, self._context(identity), journal, report)
                with whole(target, replace=replace) as file:
                    carried = sound()
                    n_bytes = self._write(file, video.info, encoded, carried)
                done = True
            finally:
                journal.close(remove=done)
        n_in = os.path.getsize(source) if isinstance(source, (str, os.PathLike)) and os.path.isfile(source) else None
        return self._summary(encoded, video.info, n_in, n_bytes, len(carried or b""))

    def _summary(self, encoded: Encoded, info: VideoInfo, n_in: int | None, n_bytes: int, sound_bytes: int) -> Summary:
        stats = encoded.stats
        bpp = 8 * n_bytes / (stats["frames"] * info.width * info.height)
        about = {"codec": self.name, "preset": self.preset.name, **stats, "payload_bytes": stats["bytes"]}
        about |= {"bytes": n_bytes, "bpp": round(bpp, 4), "psnr": round(stats["psnr"], 4)}
        about |= {"sound_bytes": sound_bytes} if sound_bytes else {}
        words = [f"{bpp:.3f} bpp", f"{stats['psnr']:.2f} dB"]
        if self.encoding.goal:
            about["quality"] = round(stats["quality"], 2)
            words.append(f"-q {about['quality']:g}")
        if stats["key_bytes_extra"]:
            words.append(f"key groups within scenes take {stats['key_bytes_extra']} bytes more than the others")
        if stats["resumed"]:
            words.append(f"{stats['resumed']} groups were done before")
        notes = [f"{sound_bytes} bytes of it are sound"] if sound_bytes else []
        if (workers := self.encoding.jobs) > (most := stats["key_groups"]):
            notes.append(
                f"{most} of {workers} workers had work: each begins at a key group, --key-every N makes more of them"
            )
        return Summary(n_in, n_bytes, about, words, notes)

    def decode_file(
        self,
        source: Source,
        target: PathLike,
        select: Select = Select(),  # noqa: B008  frozen
        report: Report | None = None,
        replace: bool = False,
    ) -> Summary:
        del report
        started = time.perf_counter()
        start, stop = select.frames or (0, None)
        about = opened(source)
        self.check_request(about.require_header(), target, select, replace)
        with self.open_file(about.source if about.data is None else about.data, select.conceal) as file:
            if start >= file.n_frames:
                raise UsageError(f"--frames {start}:{'' if stop is None else stop}: there are {file.n_frames} frames")
            stop = file.n_frames if stop is None else min(stop, file.n_frames)
            audio, notes = self._sound_of(file, target, select)
            if select.frames is not None:
                audio = cut_audio(audio, file.seconds(start), file.seconds(stop))
            with VideoWriter(target, file.info, audio, select.encoder, replace) as writer:
                for frame in file.frames(start, stop):
                    writer.write(frame)
            notes += writer.notes
            shape = [stop - start, file.info.height, file.info.width]
            missing, n_in = file.missing, file.n_bytes
        if missing:
            notes.append(f"{len(missing)} frames are missing: {ranges_of(missing)}")
        fps = round((stop - start) / (time.perf_counter() - started), 2)
        facts = {"codec": self.name, "shape": shape, "dtype": "uint8", "missing": missing, "fps": fps}
        return Summary(n_in, os.path.getsize(target) if os.path.isfile(target) else None, facts, (), notes)

    @staticmethod
    def _sound_of(file: VideoFile, target: PathLike, select: Select) -> tuple[bytes | None, list[str]]:
        """The sound that is written, and a note where the output can't hold the one there is."""
        audio = file.audio() if select.sound else None
        form = ".y4m" if target == STDIO else Path(target).suffix.lower()
        if audio is not None and form in ("", ".y4m"):
            return None, ["the sound is left out: -o NAME.mkv keeps it"]
        return audio, []

    def verify_file(self, source: Source) -> None:
        about = opened(source)
        about.require_header()
        with self.open_file(about.source if about.data is None else about.data) as file:
            for _ in file.frames():
                pass
            file.audio()

    @classmethod
    def output_suffixes(cls, header: container.Header, select: Select) -> tuple[str, ...]:
        """The suffixes of videos, and "" for a folder of PNGs, which comes first where PNG is asked for."""
        del header
        return ("", *VIDEO_WRITES) if select.form == ".png" else (*VIDEO_WRITES, "")

    @classmethod
    def check_select(cls, select: Select) -> None:
        if select.encoder is not None:
            parse_encoder(select.encoder)

    def _with_sound(
        self, source: EncodeSource, audio: Callable[[], bytes | None]
    ) -> tuple[EncodeSource, Callable[[], bytes | None]]:
        """The source, with the bytes of its sound counted if a rate is asked for, and a function that gives it."""
        if not self.encoding.sound:
            return replace(source, beside=_OVERHEAD), lambda: None
        if self.encoding.bpp is None or not source.again:
            return source, audio
        sound = audio()
        return replace(source, beside=_OVERHEAD + len(sound or b"")), lambda: sound

    def _context(self, identity: bytes) -> EncodeContext:
        return EncodeContext(self.preset, self.encoding, identity.hex())

    def _write(self, file: BinaryIO, info: VideoInfo, encoded: Encoded, audio: bytes | None) -> int:
        header = header_of(self.name, self.stream, info, len(encoded.durations), self.preset.name, self.coder)
        chunks = chunks_of(encoded.entries, times_of(encoded.durations), encoded.groups(), audio)
        return container.write(file, header, chunks, len(encoded.entries) + 2 + (audio is not None))

    @contextmanager
    def open_file(self, source: Source, conceal: bool = False) -> Iterator[VideoFile]:
        """Opens a file, or bytes of one, for `info`, `n_frames`, `frames(start, stop)`, `audio()` and `missing`."""
        data = None if isinstance(source, (str, os.PathLike)) else content_of(source)
        try:
            file: BinaryIO = io.BytesIO(data) if data is not None else open(text_of(cast(Any, source)), "rb")  # noqa: SIM115
        except OSError as error:
            raise MediaError(f"{source}: can't be read ({error.strerror or error})") from None
        with file:
            self.check_made_by_us(container.ChunkReader(file).header)
            yield VideoFile(file, self.presets(self.device), conceal)

    def decode_frames(
        self, source: Source, start: int = 0, stop: int | None = None, conceal: bool = False
    ) -> Iterator[Frame]:
        """Gives the frames start to stop one at a time. `open_file` also says which are missing."""
        with self.open_file(source, conceal) as file:
            yield from file.frames(start, stop)


@contextmanager
def _source(x: Any) -> Iterator[tuple[EncodeSource, Callable[[], bytes | None]]]:
    """The source of anything that can be encoded, and a function that gives its sound."""
    if isinstance(x, VideoReader):
        yield _of_reader(x, "", again=False), x.audio
        return
    if isinstance(x, np.ndarray):
        info, _ = frames_of(x)
        digest = hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()
        source = EncodeSource(info, lambda: frames_of(x)[1], f"array {x.shape} {digest}", len(x))
        yield source, lambda: None
        return
    if isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], VideoInfo):
        info, frames = x
        again = not isinstance(frames, Iterator)
        yield (
            EncodeSource(info, lambda: frames, "", len(frames) if hasattr(frames, "__len__") else None, again),
            lambda: None,
        )
        return
    if isinstance(x, (str, os.PathLike)):
        with open_video(x) as reader:
            piped = is_stream(x)
            yield _of_reader(reader, "" if piped else _identity(Path(x)), again=not piped), reader.audio
        return
    data = bytes_of(x)
    if data is not None:
        with open_video(bytes(data)) as reader:
            yield _of_reader(reader, f"data {hashlib.sha256(data).hexdigest()}", again=True), reader.audio
        return
    raise UsageError(
        f"can't compress a {type(x).__name__}: expected a path to a video or to a folder of PNGs, the bytes of a "
        "video's file or an open one, a NumPy array (frames, height, width, 3) or (frames, height, width) of uint8, or "
        "(VideoInfo, frames)"
    )


def _of_reader(reader: VideoReader, identity: str, again: bool) -> EncodeSource:
    def frames() -> Iterable[Frame]:
        return iter(reader)

    return EncodeSource(reader.info, frames, identity, reader.n_frames, again)


def _identity(path: Path) -> str:
    """The sha256 of a file, or of the names, sizes and bytes of a folder's files, in hexadecimal digits."""
    digest = hashlib.sha256()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        if not file.is_file():
            continue
        digest.update(f"{file.name if path.is_dir() else ''} {file.stat().st_size}\n".encode())
        with open(file, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def ranges_of(numbers: Iterable[int]) -> str:
    """A text of rising numbers, as ranges: 3-8, 20."""
    out = []
    for _, pairs in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        held = [number for _, number in pairs]
        out.append(str(held[0]) if len(held) == 1 else f"{held[0]}-{held[-1]}")
    return ", ".join(out)
