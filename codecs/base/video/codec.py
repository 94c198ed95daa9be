"""The base of all video codecs: kinds of input, the file, streaming in both directions, resuming.

A codec of this kind fits each group of frames when it encodes, so it carries no weights: `presets` says what there is
to fit. `encode_file` and `open_file` stream; `compress` and `decompress` are the same in memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from .... import container
from ....errors import MediaError, UsageError
from ....files import STDIO, is_stream, refuse_existing, whole
from ....media import VIDEO_WRITES
from ....media.notes import Note, from_meta
from ....media.video.reader import VideoReader, chapters_of, open_video
from ....media.video.sound import cut_audio, kinds_of, without_sound
from ....media.video.values import Frame, VideoInfo, frames_of, stack
from ....media.video.writer import VideoWriter, parse_encoder
from ..codec import Codec, Data, PathLike, Report, Source, Summary, content_of, opened
from ..doors import bytes_of, text_of
from ..settings import VIDEO_SELECTION, VIDEO_SETTINGS, Select, Setting
from .encode import (
    OVERHEAD,
    EncodeContext,
    Encoded,
    EncodeProgress,
    EncodeReport,
    EncodeSettings,
    EncodeSource,
    OutOfReachError,
    encode,
    identity_of,
)
from .groups import Preset
from .journal import Journal, naming_target, part_of
from .sound import COPY, CodedTrack, SoundOfVideo, check_rate, chunks_of_tracks, described, encode_sounds, to_params
from .stream import LEADING, N_COPIES, VideoFile, chunks_of, header_of, sound_chunks, times_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EncodeProgress", "EncodeSettings", "VideoCodec", "VideoFile"]


_LEFT_OUT = {  # of tracks beside the picture, in an output that has no place for them
    "audio": Note("sound", "the sound is left out: -o NAME.mkv keeps it"),
    "subtitle": Note("track", "the subtitles are left out: -o NAME.mkv keeps them"),
    "attachment": Note("attachment", "the attached files are left out: -o NAME.mkv keeps them"),
}


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
        with _source(x, codec.encoding) as source:
            encoded = encode(source, codec._context(b""), Journal(None, b""), None)
            buffer = io.BytesIO()
            codec._write(buffer, source, encoded)
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
        """Encode a file, a folder of pictures, an array, a reader, or (info, frames) into a file.

        Everything that can refuse the source is looked at first: all of it is decoded once, and its sound collected.
        Progress is kept in TARGET.part (unless keep is False, or the target is no file): after an interruption the same
        call goes on from there, and gives the same bytes. The target appears when it is whole. The rest is as in
        `Codec.encode_file`.
        """
        refuse_existing(target, replace)
        place = None if is_stream(target) else Path(os.path.realpath(target))
        if report is not None and isinstance(source, (str, os.PathLike)):
            report(EncodeProgress(0, None, 0, 0, 0.0, 0.0, None, "input"))
        with _source(source, self.encoding) as video:
            identity = identity_of(video, self.preset, self.encoding, f"{self.name} {self.stream}")
            part, others = None, []
            if place is not None and keep and video.identity:
                place.parent.mkdir(parents=True, exist_ok=True)
                part, others = part_of(place, identity)
            journal = Journal(part, identity)
            done = False
            try:
                encoded = encode(video, self._context(identity), journal, report)
                with naming_target(place), whole(target, replace=replace) as file:
                    n_bytes, sound_bytes = self._write(file, video, encoded)
                tracks = video.sounds()
                done = True
            except OutOfReachError:
                done = True  # what there is of it is of no use
                raise
            finally:
                journal.close(remove=done)
            notes = video.notes()
        n_in = os.path.getsize(source) if isinstance(source, (str, os.PathLike)) and os.path.isfile(source) else None
        words = [f"{other.name} keeps the progress of other settings" for other in others]
        words += [track.words for track in tracks]
        summary = self._summary(encoded, video.info, n_in, n_bytes, sound_bytes, notes, words)
        if tracks:
            about = {**summary.about, "sound": [dict(track.about) for track in tracks]}
            summary = dataclasses.replace(summary, about=about)
        return summary

    def _summary(
        self,
        encoded: Encoded,
        info: VideoInfo,
        n_in: int | None,
        n_bytes: int,
        sound_bytes: int,
        notes: Sequence[Note],
        more: Sequence[str],
    ) -> Summary:
        stats = encoded.stats
        bpp = 8 * n_bytes / (stats["frames"] * info.width * info.height)
        about = {"codec": self.name, "preset": self.preset.name, **stats, "payload_bytes": stats["bytes"]}
        about |= {"bytes": n_bytes, "bpp": round(bpp, 4), "psnr": round(stats["psnr"], 4)}
        about |= {"sound_bytes": sound_bytes} if sound_bytes else {}
        words = [f"{bpp:.3f} bpp", f"{stats['psnr']:.2f} dB"]
        if self.encoding.goal:
            about["quality"] = round(stats["quality"], 2)
            words.append(f"-q {about['quality']:g}")
        if stats["key_bytes_extra"] > 0:
            words.append(f"key groups within scenes take {stats['key_bytes_extra']} bytes more than the others")
        if stats["resumed"]:
            words.append(f"{stats['resumed']} groups were done before")
        if sound_bytes:
            words.append(f"{sound_bytes} bytes of it are sound and other tracks")
        if (workers := self.encoding.jobs) > (most := stats["key_groups"]):
            words.append(
                f"{most} of {workers} workers had work: each begins at a key group, --key-every N makes more of them"
            )
        return Summary(n_in, n_bytes, about, [*words, *more], notes)

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
            audio, sounds, notes = self._sound_of(file, target, select)
            info, span = file.info, None
            if select.frames is not None:
                span = file.seconds(start), file.seconds(stop)
                audio = cut_audio(audio, *span)
                info = _part_of(info, *span)
            tracks = [sound.track(span) for sound in sounds]
            with VideoWriter(target, info, audio, select.encoder, replace, tracks) as writer:
                for frame in file.frames(start, stop):
                    writer.write(frame)
            notes += writer.notes
            shape = [stop - start, file.info.height, file.info.width]
            missing, n_in = file.missing, file.n_bytes
            notes += [note for note in file.notes if note.kind == "damage" and note not in from_meta(file.header.meta)]
            notes += [note for sound in sounds for note in sound.notes]
        if missing:
            notes.append(Note("damage", f"{len(missing)} frames are missing: {ranges_of(missing)}"))
        fps = round((stop - start) / (time.perf_counter() - started), 2)
        facts = {"codec": self.name, "shape": shape, "dtype": "uint8", "missing": missing, "fps": fps}
        return Summary(n_in, os.path.getsize(target) if os.path.isfile(target) else None, facts, (), notes)

    def _sound_of(
        self, file: VideoFile, target: PathLike, select: Select
    ) -> tuple[bytes | None, list[SoundOfVideo], list[Note]]:
        """The sound that is written, packets and samples, and notes where the output can't hold what there is."""
        audio = file.audio()
        if audio is not None and not select.sound:
            audio = without_sound(audio)
        sounds = file.sounds(self.limits) if select.sound else []
        form = ".y4m" if target == STDIO else Path(target).suffix.lower()
        if form in ("", ".y4m"):
            kinds = {*(kinds_of(audio) if audio is not None else ()), *(["audio"] if sounds else [])}
            return None, [], [_LEFT_OUT[kind] for kind in sorted(kinds) if kind in _LEFT_OUT]
        return audio, sounds, []

    def verify_file(self, source: Source) -> None:
        about = opened(source)
        about.require_header()
        with self.open_file(about.source if about.data is None else about.data) as file:
            for _ in file.frames():
                pass
            file.audio()
            for sound in file.sounds(self.limits):
                for _ in sound.blocks():
                    pass
            file.check_rest()

    @classmethod
    def describe(cls, source: Source) -> Mapping[str, Any]:
        """The codec, the weights and the rate of sound that is coded."""
        with io.BytesIO(content_of(source)) as file:
            return described(file)

    @classmethod
    def output_suffixes(cls, header: container.Header, select: Select) -> tuple[str, ...]:
        """The suffixes of videos, and "" for a folder of PNGs, which comes first where PNG is asked for."""
        del header
        return ("", *VIDEO_WRITES) if select.form == ".png" else (*VIDEO_WRITES, "")

    @classmethod
    def check_select(cls, select: Select) -> None:
        if select.encoder is not None:
            parse_encoder(select.encoder)

    def _context(self, identity: bytes) -> EncodeContext:
        return EncodeContext(self.preset, self.encoding, identity.hex())

    def _write(self, file: BinaryIO, source: EncodeSource, encoded: Encoded) -> tuple[int, int]:
        """Writes the file of a source that is encoded; returns its bytes, and how many of them are sound."""
        audio = source.audio(self.encoding.sound == COPY)
        tracks = source.sounds()
        chunks, pieces = sound_chunks(audio)
        chunks = [*chunks_of_tracks(tracks), *chunks]
        info = source.info
        header = header_of(
            self.name,
            self.stream,
            replace(info, early=max([info.early, *(track.early for track in tracks)])),
            len(encoded.durations),
            self.preset.name,
            self.coder,
            source.notes(),
            pieces,
            to_params(tracks),
        )
        body = chunks_of(encoded.entries, times_of(encoded.durations), encoded.groups(), chunks)
        n_chunks = LEADING + len(encoded.entries) + len(chunks) + N_COPIES
        sound_bytes = len(audio or b"") + sum(track.n_bytes for track in tracks)
        return container.write(file, header, body, n_chunks), sound_bytes

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
            video = VideoFile(file, self.presets(self.device), conceal)
            self._check_groups(video)
            yield video

    def _check_groups(self, video: VideoFile) -> None:
        """Raise LimitError for a group whose frames, which are decoded at once, are more than the limits allow."""
        _, height, width, _ = video.header.shape
        n_frames = max(group.n_frames for group in video.groups)
        what = f"{n_frames} frames of {width}x{height} in one group"
        self.limits.require("pixels", n_frames * height * width, what)

    def decode_frames(
        self, source: Source, start: int = 0, stop: int | None = None, conceal: bool = False
    ) -> Iterator[Frame]:
        """Gives the frames start to stop one at a time. `open_file` also says which are missing."""
        with self.open_file(source, conceal) as file:
            yield from file.frames(start, stop)


@contextmanager
def _source(x: Any, settings: EncodeSettings) -> Iterator[EncodeSource]:
    """The source of anything that can be encoded; one that can be read twice is looked through before it is given."""
    check_rate(settings.sound, settings.sound_kbps)
    rate = None if settings.fps is None else Fraction(str(settings.fps))
    if isinstance(x, VideoReader):
        yield _of_reader(x, "", settings)
        return
    if isinstance(x, np.ndarray):
        info, _ = frames_of(x, rate or 25)
        digest = hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()
        identity = f"array {x.shape} {digest}"
        yield EncodeSource(info, lambda: frames_of(x)[1], identity, len(x), beside=OVERHEAD)
        return
    if isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], VideoInfo):
        info, frames = x
        n_frames = len(frames) if hasattr(frames, "__len__") else None
        again = not isinstance(frames, Iterator)
        notes = info.notes
        yield EncodeSource(info, lambda: frames, "", n_frames, again, OVERHEAD, notes=lambda: notes)
        return
    if isinstance(x, (str, os.PathLike)):
        with open_video(x, rate) as reader:
            yield _of_reader(reader, "" if is_stream(x) else _identity(Path(x)), settings)
        return
    data = bytes_of(x)
    if data is not None:
        with open_video(bytes(data), rate) as reader:
            yield _of_reader(reader, f"data {hashlib.sha256(data).hexdigest()}", settings)
        return
    raise UsageError(
        f"can't compress a {type(x).__name__}: expected a path to a video or to a folder of PNGs, the bytes of a "
        "video's file or an open one, a NumPy array (frames, height, width, 3) or (frames, height, width) of uint8, or "
        "(VideoInfo, frames)"
    )


def _of_reader(reader: VideoReader, identity: str, settings: EncodeSettings) -> EncodeSource:
    kept: list[list[CodedTrack]] = []

    def sounds() -> list[CodedTrack]:
        if not kept:
            kept.append(encode_sounds(reader, settings.sound, settings.sound_kbps))
        return kept[0]

    def frames() -> Iterable[Frame]:
        return iter(reader)

    def notes() -> Sequence[Note]:
        ours = (note for tracks in kept for track in tracks for note in track.notes)
        return tuple(dict.fromkeys((*reader.notes, *ours)))

    if not reader.again:
        n_frames = reader.n_frames
        return EncodeSource(reader.info, frames, identity, n_frames, False, OVERHEAD, reader.beside, notes, sounds)
    reader.check()
    audio = reader.beside(settings.sound == COPY)
    beside = OVERHEAD + len(audio or b"") + sum(track.n_bytes for track in sounds())
    return EncodeSource(
        reader.info, frames, identity, reader.n_frames, True, beside, lambda sound: audio, notes, sounds
    )


def _part_of(info: VideoInfo, begin: Fraction, end: Fraction) -> VideoInfo:
    """The description of the part of a video from `begin` to `end`, in seconds."""
    early = info.early if begin == 0 else Fraction(0)
    return replace(info, chapters=chapters_of(info, begin, end), early=early)


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
