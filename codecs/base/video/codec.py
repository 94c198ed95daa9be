"""The base of all video codecs: kinds of input, the file, streaming in both directions, resuming.

A codec of this kind fits each group of frames when it encodes, so it carries no weights: `presets` says what there is
to fit. `encode_file` and `open_file` stream; `compress` and `decompress` are the same in memory.
"""

from __future__ import annotations

import hashlib
import io
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from .... import container
from ....errors import MediaError, UsageError
from ....media.video.reader import VideoReader, open_video
from ....media.video.values import Frame, VideoInfo, frames_of, stack
from ..codec import Codec, Data, PathLike
from .encode import EncodeContext, Encoded, EncodeProgress, EncodeSettings, Source, encode, identity_of
from .groups import Preset
from .journal import Journal
from .stream import VideoFile, chunks_of, header_of, times_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EncodeProgress", "EncodeSettings", "VideoCodec", "VideoFile"]

Report = Callable[[EncodeProgress], None]
_OVERHEAD = 150  # bytes of a file's header and chunks, about


class VideoCodec(Codec):
    """Base of codecs that fit a network to each group of frames.

    preset: the one that encodes; any of `presets` decodes. settings: of encoding; `with_settings` gives the same codec
    with others.
    """

    medium: ClassVar[str] = "video"
    coder: ClassVar[str] = "constriction"
    default_preset: ClassVar[str]
    device: str = "cpu"

    def __init__(self, preset: Preset, settings: EncodeSettings, device: str = "cpu") -> None:
        self.preset, self.settings, self.device = preset, settings, device

    @classmethod
    @abstractmethod
    def presets(cls, device: str = "cpu") -> Mapping[str, Callable[[], Preset]]:
        """The presets by name, each as what makes it on this device."""

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
        """UsageError for settings that can't be, or that this preset can't do."""
        self.settings.check()
        if self.settings.effort == 0 and self.preset.needs_effort:
            raise UsageError(f"effort 0: preset {self.preset.name} is nothing without optimiser steps")
        most = self.preset.most_frames
        if most is not None and (self.settings.group or 0) > most:
            raise UsageError(
                f"group {self.settings.group}: preset {self.preset.name} has groups of at most {most} frames"
            )

    def with_settings(self, **changes: Any) -> Self:
        """The same codec with some of `EncodeSettings` changed; UsageError for values that can't be."""
        codec = type(self)(self.preset, replace(self.settings, **changes), self.device)
        codec.check_settings()
        return codec

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
        self, source: Any, target: PathLike, report: Report | None = None, force: bool = False, keep: bool = True
    ) -> dict[str, Any]:
        """Encodes a file, folder, array, reader, or (info, frames) into a file, and returns a summary.

        Progress is kept in TARGET.part (unless keep is False): after an interruption the same call goes on from there,
        and gives the same bytes. The target appears when it is whole.
        """
        target = Path(os.path.realpath(target))
        if target.is_dir() or (target.exists() and not force):
            raise UsageError(f"{target} exists already: name another place, or replace it (force, --force)")
        with _source(source) as (video, audio):
            identity = identity_of(video, self.preset, self.settings, f"{self.name} {self.stream}")
            journal = Journal(target.with_name(target.name + ".part") if keep and video.identity else None, identity)
            temporary = target.with_name(f".{target.name[:80]}.{os.getpid()}.tmp")
            done = False
            try:
                video, sound = self._with_sound(video, audio)
                encoded = encode(video, self._context(identity), journal, report)
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(temporary, "xb") as file:
                    carried = sound()
                    n_bytes = self._write(file, video.info, encoded, carried)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
                done = True
            finally:
                temporary.unlink(missing_ok=True)
                journal.close(remove=done)
        pixels = encoded.stats["frames"] * video.info.width * video.info.height
        whole = {"bytes": n_bytes, "bpp": 8 * n_bytes / pixels, "sound_bytes": len(carried or b"")}
        return {**encoded.stats, "payload_bytes": encoded.stats["bytes"], **whole}

    def _with_sound(
        self, source: Source, audio: Callable[[], bytes | None]
    ) -> tuple[Source, Callable[[], bytes | None]]:
        """The source, with the bytes of its sound counted where a rate is asked for, and what gives that sound."""
        if not self.settings.sound:
            return replace(source, beside=_OVERHEAD), lambda: None
        if self.settings.bpp is None or not source.again:
            return source, audio
        sound = audio()
        return replace(source, beside=_OVERHEAD + len(sound or b"")), lambda: sound

    def _context(self, identity: bytes) -> EncodeContext:
        return EncodeContext(self.preset, self.settings, identity.hex())

    def _write(self, file: BinaryIO, info: VideoInfo, encoded: Encoded, audio: bytes | None) -> int:
        header = header_of(self.name, self.stream, info, len(encoded.durations), self.preset.name, self.coder)
        chunks = chunks_of(encoded.entries, times_of(encoded.durations), encoded.groups(), audio)
        return container.write(file, header, chunks, len(encoded.entries) + 2 + (audio is not None))

    @contextmanager
    def open_file(self, source: Data | PathLike, conceal: bool = False) -> Iterator[VideoFile]:
        """Opens a file, or bytes of one, for `info`, `n_frames`, `frames(start, stop)`, `audio()` and `missing`."""
        in_memory = isinstance(source, (bytes, bytearray, memoryview))
        try:
            file: BinaryIO = io.BytesIO(source) if in_memory else open(source, "rb")  # type: ignore[arg-type]  # noqa: SIM115
        except OSError as error:
            raise MediaError(f"{source}: can't be read ({error.strerror or error})") from None
        with file:
            self.check_made_by_us(container.ChunkReader(file).header)
            yield VideoFile(file, self.presets(self.device), conceal)

    def decode_frames(
        self, source: Data | PathLike, start: int = 0, stop: int | None = None, conceal: bool = False
    ) -> Iterator[Frame]:
        """Gives the frames start to stop one at a time. `open_file` also says which are missing."""
        with self.open_file(source, conceal) as file:
            yield from file.frames(start, stop)


@contextmanager
def _source(x: Any) -> Iterator[tuple[Source, Callable[[], bytes | None]]]:
    """The source that this is, whatever can be encoded, and what gives its sound."""
    if isinstance(x, VideoReader):
        yield _of_reader(x, "", again=False), x.audio
        return
    if isinstance(x, np.ndarray):
        info, _ = frames_of(x)
        digest = hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()
        source = Source(info, lambda: frames_of(x)[1], f"array {x.shape} {digest}", len(x))
        yield source, lambda: None
        return
    if isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], VideoInfo):
        info, frames = x
        again = not isinstance(frames, Iterator)
        yield Source(info, lambda: frames, "", len(frames) if hasattr(frames, "__len__") else None, again), lambda: None
        return
    if isinstance(x, (str, os.PathLike)):
        with open_video(x) as reader:
            piped = x == "-"
            yield _of_reader(reader, "" if piped else _identity(Path(x)), again=not piped), reader.audio
        return
    raise UsageError(
        f"can't compress a {type(x).__name__}: expected a path to a video or to a folder of PNGs, a NumPy array "
        "(frames, height, width, 3) or (frames, height, width) of uint8, or (VideoInfo, frames)"
    )


def _of_reader(reader: VideoReader, identity: str, again: bool) -> Source:
    def frames() -> Iterable[Frame]:
        return iter(reader)

    return Source(reader.info, frames, identity, reader.n_frames, again)


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
