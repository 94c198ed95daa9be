"""The base of all audio codecs: kinds of sound, the open-ended file, streaming in both directions, parts, damage.

A family says how samples become pieces that can be decoded alone (`encoder`, `decoder`). The base owns the values
(`media.audio`), the container, the search for a rate, and what becomes of damage. Sound is never whole in memory: an
hour takes as much as a minute.

The file is open-ended (docs/format.md): a header without a length, a chunk `Soun` for each piece, and a last chunk with
the number of samples. So `AudioEncoder.push` gives the bytes of a file as its samples come, and they are the bytes that
`compress` gives for all of them at once.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace as changed
from typing import Any, BinaryIO, ClassVar, NamedTuple, cast

import numpy as np

from ....container import END_TAG, ChunkReader, Header
from ....errors import ContainerError, MediaError, UsageError
from ....files import STDIO, naming, refuse_existing, whole
from ....media import AUDIO_WRITES
from ....media.audio.reader import AudioReader, open_audio
from ....media.audio.values import MAX_RATE, Audio, AudioInfo
from ....media.audio.writer import open_writer
from ..codec import Codec, Data, PathLike, Report, Source, Summary, content_of, opened
from ..doors import bytes_of, check_dense, is_torch, text_of
from ..settings import AUDIO_SELECTION, AUDIO_SETTINGS, Select, Setting
from .file import AudioFile
from .headers import ARRAY, AUDIO, RATE, TENSOR, end_of, whole_number
from .pieces import PieceDecoder, PieceEncoder
from .rates import BLOCK, Encoding, Search
from .streams import AudioDecoder, AudioEncoder

__all__ = ["AudioCodec", "PieceDecoder", "PieceEncoder"]


class AudioCodec(Codec):
    """The base of audio codecs. A family writes `from_weights`, `weights_id`, `encoder` and `decoder`.

    rates: samples a second that it takes.
    """

    medium: ClassVar[str] = "audio"
    settings: ClassVar[tuple[Setting, ...]] = AUDIO_SETTINGS
    selection: ClassVar[tuple[Setting, ...]] = AUDIO_SELECTION
    critical_chunks: ClassVar[frozenset[str]] = frozenset()
    rates: ClassVar[tuple[int, int]] = (1000, MAX_RATE)
    arithmetic: ClassVar[str] = "int"
    coder: str = ""
    device: str = "cpu"
    quality: float | None = None
    goal: tuple[str, float] | None = None  # "size" or "kbps" and its value, in place of a quality

    @abstractmethod
    def encoder(self, info: AudioInfo, quality: float | None) -> PieceEncoder:
        """The encoder of a sound of this rate and these channels."""

    @abstractmethod
    def decoder(self, header: Header, rate: int, channels: int) -> PieceDecoder[Any]:
        """The decoder of a file. Its params are as hostile as they come: StreamError."""

    def change_setting(self, name: str, value: Any) -> None:
        """A goal takes the place of the one before, and a quality that of any goal."""
        if name in ("size", "kbps"):
            self.goal = None if value is None else (name, value)
        else:
            super().change_setting(name, value)
            self.goal = None if name == "quality" else self.goal

    # ---- in memory

    def compress_one(self, x: Any, quality: float | None = None) -> bytes:
        with taken_in(x) as (reader, kind):
            buffer = io.BytesIO()
            self._reach(reader, quality, kind).write(buffer)
            return buffer.getvalue()

    def decompress_one(self, data: Data) -> Any:
        with self.open_file(data) as file:
            audio = file.read()
            if file.kind == AUDIO:
                return audio
            samples = audio.samples
            if file.kind == ARRAY:
                return samples, audio.info.rate
            import torch

            return torch.from_numpy(audio.to_float().T.copy()).to(self.device), audio.info.rate

    def stream_encoder(self, info: AudioInfo, quality: float | None = None) -> AudioEncoder:
        """An encoder for samples as they come: `push`, then `flush`. info: its n_samples isn't needed.

        UsageError where a goal is set: a rate is reached by encoding a sound several times.
        """
        if quality is None and self.goal is not None:
            raise UsageError(f"{self.goal[0]} is reached by several encodings of a whole sound: set a quality instead")
        return AudioEncoder(self, info, self.quality if quality is None else quality, AUDIO, ahead=False)

    def stream_decoder(self) -> AudioDecoder:
        """A decoder for the bytes of a file as they come: `push`, then `flush`."""
        return AudioDecoder(self)

    @contextlib.contextmanager
    def open_file(self, source: Source, conceal: bool = False) -> Iterator[AudioFile]:
        """Opens a file, or bytes of one, for `info`, `n_samples`, `blocks(start, stop)`, `read` and `notes`."""
        data = None if isinstance(source, (str, os.PathLike)) else content_of(source)
        try:
            file: BinaryIO = io.BytesIO(data) if data is not None else open(text_of(cast(Any, source)), "rb")  # noqa: SIM115
        except OSError as error:
            raise MediaError(f"{source}: can't be read ({error.strerror or error})") from None
        with file:
            yield AudioFile(self, file, conceal)

    # ---- files

    def encode_file(
        self, source: Any, target: PathLike, report: Report | None = None, replace: bool = False
    ) -> Summary:
        """Write the file of sound: of a path, "-", bytes, an `Audio`, or the sound of a video."""
        refuse_existing(target, replace)
        with contextlib.ExitStack() as stack:
            if isinstance(source, (str, os.PathLike)):
                stack.enter_context(naming(source))
            reader, kind = stack.enter_context(taken_in(source))
            reached = self._reach(reader, None, kind, report)
            with whole(target, replace=replace) as file:
                n_bytes = reached.write(file, report)
            info, notes = reader.info, reached.notes()
        n_in = os.path.getsize(source) if isinstance(source, (str, os.PathLike)) and os.path.isfile(source) else None
        seconds = reached.n_samples / info.rate
        kbps = n_bytes * 8 / 1000 / seconds if seconds else 0.0
        about = {"codec": self.name, "rate": info.rate, "channels": info.channels, "samples": reached.n_samples}
        about |= {"duration": round(seconds, 3), "kbps": round(kbps, 3)}
        words = [f"{kbps:.1f} kbps", f"{seconds:.1f} s"]
        if reached.quality is not None:
            about |= {"quality": round(reached.quality, 2), "encodings": reached.encodings}
            words.append(f"-q {round(reached.quality, 2):g}")
        return Summary(n_in, n_bytes, about, words, notes)

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
        with self.open_file(about.source if about.data is None else about.data, select.conceal) as file:
            start, stop = file.range_of(select.seconds)
            info = changed(file.info, n_samples=stop - start)
            form = AUDIO_WRITES.get(select.form_of(target) or ".wav")
            with open_writer(target, info, form, replace) as writer:
                for samples in file.blocks(start, stop, report):
                    writer.write(samples)
            notes, n_in = [*writer.notes, *file.notes], file.n_bytes
        n_out = os.path.getsize(target) if target != STDIO and os.path.isfile(target) else None
        facts = {"rate": info.rate, "channels": info.channels, "samples": stop - start}
        return Summary(n_in, n_out, facts, notes=notes)

    def verify_file(self, source: Source) -> None:
        about = opened(source)
        about.require_header()
        with self.open_file(about.source if about.data is None else about.data) as file:
            for _ in file.blocks():
                pass

    @classmethod
    def output_suffixes(cls, header: Header, select: Select) -> tuple[str, ...]:
        del header, select
        return tuple(AUDIO_WRITES)

    @classmethod
    def describe(cls, source: Source) -> Mapping[str, Any]:
        """The rate, the channels, the length and the kilobits a second of a file."""
        with io.BytesIO(content_of(source)) as file:
            reader = ChunkReader(file)
            places = reader.places()
            if not places or places[-1].tag != END_TAG:
                raise ContainerError("a sound without an end: the file is damaged")
            n_samples = end_of(reader.read(len(places) - 1, places[-1].position)[0].payload)
            rate, n_bytes = whole_number(reader.header.params.get(RATE)), reader.n_bytes
        seconds = n_samples / rate if rate else 0.0
        about = {
            "rate": rate,
            "channels": math.prod(reader.header.shape),
            "samples": n_samples,
            "seconds": round(seconds, 6),
        }
        return about | {"kbps": round(n_bytes * 8 / 1000 / seconds, 3) if seconds else 0.0}

    # ---- rates

    def _reach(self, reader: AudioReader, quality: float | None, kind: int, report: Report | None = None) -> Encoding:
        """The encoding of a sound at a quality, or else at the goal."""
        if quality is not None or self.goal is None:
            return Encoding(self, reader, self.quality if quality is None else quality, kind)
        if not reader.again:
            raise UsageError(
                f"{self.goal[0]} takes several readings of the sound, which can be read once: save it first"
            )
        what, value = self.goal
        n_samples = sum(len(block) for block in reader.blocks(BLOCK))
        seconds = n_samples / reader.info.rate
        if what == "size":
            return Search(self, reader, kind, value, n_samples).run(report)
        return Search(self, reader, kind, max(1.0, value * 1000 / 8 * seconds), n_samples, kbps=value).run(report)


class Given(NamedTuple):
    reader: AudioReader
    kind: int


@contextlib.contextmanager
def taken_in(x: Any) -> Iterator[Given]:
    """A reader of anything that can be encoded. MediaError or UsageError for what can't."""
    kind = AUDIO
    if isinstance(x, AudioReader):
        yield Given(x, kind)
        return
    if isinstance(x, tuple) and len(x) == 2 and not isinstance(x[0], (str, bytes, os.PathLike)):
        samples, rate = x
        kind = ARRAY
        if is_torch(samples):
            check_dense(samples)
            if str(samples.dtype) == "torch.bfloat16":  # which NumPy doesn't have
                samples = samples.float()
            samples, kind = samples.detach().cpu().numpy().T, TENSOR
        x = Audio.from_array(np.asarray(samples), rate)
    elif not isinstance(x, (Audio, str, os.PathLike)):
        data = bytes_of(x)
        if data is None:
            raise UsageError(
                f"can't compress a {type(x).__name__}: expected a path, the bytes of a sound's file or an open one, "
                "a pair (array (n, channels), rate), a pair (torch tensor (channels, n), rate), or an Audio"
            )
        x = bytes(data)
    with open_audio(text_of(x) if isinstance(x, (str, os.PathLike)) else x) as reader:
        yield Given(reader, kind)
