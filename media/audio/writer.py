"""Writing sound: WAV, FLAC, Opus and MP3 files, WAV to a pipe. Whole or not at all.

    with open_writer("talk.opus", info, kbps=48) as writer:      # what is written is told by the suffix
        for block in blocks:
            writer.write(block)
    writer.notes                                                  # what isn't stored as it is

A file of Opus or MP3 that is read again has exactly as many samples, the first where it was. Opus has 48000 samples a
second, MP3 nine rates: other sound is resampled, and its length is then that of `length_at`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import CodecError, MediaError, UsageError
from ...files import STDIO, PathLike, is_stream, whole
from .. import AUDIO_WRITES
from ..ffmpeg import errors
from ..notes import Note
from .encoders import MP3_RATES, OPUS_RATE, FlacSink, Mp3Sink, OpusSink
from .layouts import MASK_TAG
from .resample import Resampler, length_at
from .riff import WavSink
from .values import BITS, Audio, AudioInfo, SampleType, from_float, to_float

__all__ = ["AudioWriter", "open_writer", "write_audio"]

Bits = int | Literal["float"]

_BLOCK = 1 << 16  # samples that are worked on at once


class _Sink(Protocol):
    """A file that is being written. frame_size: samples of each block but the last; 0: any number. notes: of losses."""

    frame_size: int
    notes: list[Note]

    def write(self, samples: NDArray[Any]) -> None: ...
    def finish(self) -> None: ...
    def drop(self) -> None: ...


@dataclass(frozen=True)
class _Format:
    """A format that is written. samples: types that it stores, () for a lossy one, which takes floats.

    channels: how many it can have at most. streams: whether a pipe can take it.
    """

    name: str
    samples: tuple[SampleType, ...] = ()
    channels: int = 8
    streams: bool = True


_FORMATS: Mapping[str, _Format] = MappingProxyType(
    {
        "wav": _Format("WAV", ("int16", "int24", "int32", "float32")),
        "flac": _Format("FLAC", ("int16", "int24")),
        "opus": _Format("Opus"),
        "mp3": _Format("MP3", channels=2, streams=False),
    }
)
_MP3_KBPS = {  # bits of a frame a millisecond, of the rates from 32 kHz on, from 16 kHz on, and below
    32000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    16000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    8000: (8, 16, 24, 32, 40, 48, 56, 64),
}
_OPUS_KBPS = (6, 255)  # of a channel
_SAMPLES: Mapping[Bits, SampleType] = {16: "int16", 24: "int24", 32: "int32", "float": "float32"}
_FLAC_RATE = 655_350  # Hz; from 65535 on only tens of them


def open_writer(
    target: PathLike,
    info: AudioInfo,
    format: str | None = None,
    replace: bool = False,
    bits: Bits | None = None,
    kbps: int | None = None,
) -> AudioWriter:
    """A writer of sound to a file, or to stdout for "-", which gets WAV unless `format` says otherwise.

    info: of the samples that will come; n_samples may be None. format: "wav", "flac", "opus" or "mp3"; None: told by
    the suffix. replace: a file that exists, else that is TargetExistsError. bits: 16, 24, 32 or "float" of WAV, 16 or
    24 of FLAC; None: those of the source, 16 for that of a lossy codec. kbps: of all channels in Opus (about, by
    default 64 each) and MP3 (exactly, by default 96 each). Raises UsageError for what can't be written that way.
    """
    return AudioWriter(target, info, format, replace, bits, kbps)


def write_audio(
    audio: Audio,
    target: PathLike,
    format: str | None = None,
    replace: bool = False,
    bits: Bits | None = None,
    kbps: int | None = None,
) -> tuple[Note, ...]:
    """Write sound that is in memory, as open_writer does. Returns notes on what isn't stored as it is."""
    with open_writer(target, audio.info, format, replace, bits, kbps) as writer:
        writer.write(audio.samples)
    return tuple(writer.notes)


class AudioWriter:
    """A writer of sound, made by open_writer: a context manager.

    A file appears under its name once the block ends without an exception, or close() is called; otherwise nothing is
    left. Raises MediaError where samples can't be stored.

    notes: what isn't stored as it is; complete once it is closed. n_samples: of each channel, written so far.
    """

    def __init__(
        self,
        target: PathLike,
        info: AudioInfo,
        format: str | None,
        replace_existing: bool,
        bits: Bits | None,
        kbps: int | None,
    ) -> None:
        key = _format_of(target, format)
        self._name = "stdout" if target == STDIO else os.fspath(target)
        info = replace(info, tags={name: values for name, values in info.tags.items() if name != MASK_TAG})
        self.info, self.n_samples, self.notes = info, 0, list[Note]()
        self._format = _FORMATS[key]
        self._stored = _stored(self._format, info, bits, kbps, self.notes)  # the sound as the file has it
        self._kbps = _kbps(key, self._stored, kbps)
        self._resampler: Resampler | None = None
        if self._stored.rate != info.rate:
            self._resampler = Resampler(info.rate, self._stored.rate, info.channels)
        streams = is_stream(target)
        if streams and not self._format.streams:
            raise UsageError(f"{self._format.name} is written in place, which {self._name} can't be: name a file")
        self._waiting: list[NDArray[Any]] = []
        self._n_waiting = self._n_clipped = 0
        self._sink: _Sink | None = None
        self._writing = whole(target, replace=replace_existing)
        self._is_open = False
        with self._about():
            file = self._writing.__enter__()
            self._is_open = True
            self._sink = _sink(key, file, self._stored, not streams, self._kbps, info.rate)

    def write(self, samples: NDArray[Any]) -> None:
        """Add samples, (n, channels) of int16, int32 or float32, whatever the source has.

        int32 are 24 bits where info says so, else 32.
        """
        if not self._is_open:
            raise UsageError(f"{self._name}: samples after the end: the file is closed")
        if samples.ndim != 2 or samples.shape[1] != self.info.channels or samples.dtype not in _TYPES:
            raise UsageError(
                f"{self._name}: samples are {samples.dtype} {samples.shape}; expected int16, int32 or float32, "
                f"(n, {self.info.channels})"
            )
        with self._about():
            for at in range(0, len(samples), _BLOCK):
                self._add(samples[at : at + _BLOCK])
        self.n_samples += len(samples)

    def close(self) -> None:
        """Finish the file and give it its name."""
        if not self._is_open:
            return
        with self._about():
            if self._resampler is not None:
                self._store(self._resampler.finish())
            self._flush(whole_frames=False)
            assert self._sink is not None
            self._sink.finish()
            self.notes += self._sink.notes
            if self._n_clipped:
                words = (
                    f"{self._n_clipped} samples beyond full scale are clipped: WAV of floats keeps them (.wav, float)"
                )
                self.notes.append(Note("sound", words))
            self._is_open = False
            self._writing.__exit__(None, None, None)

    def abort(self) -> None:
        """Leave nothing behind, unless it is closed."""
        if self._sink is not None:
            self._sink.drop()
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(OSError):  # of a full disk, again
                self._writing.__exit__(_Abandoned, _Abandoned(), None)

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def _add(self, samples: NDArray[Any]) -> None:
        if samples.dtype.kind == "f" and not np.isfinite(samples).all():
            raise MediaError("samples that are infinite or no numbers (NaN); expected finite ones")
        if samples.dtype == np.int32 and self._bits_of(samples) == 24 and len(samples) and not _fits(samples):
            raise MediaError("samples beyond 24 bits, which info says they have; expected -8388608 to 8388607")
        if self._format.samples:
            self._store(self._converted(samples))
            return
        floats = to_float(samples, self._bits_of(samples))
        self._store(floats if self._resampler is None else self._resampler.push(floats))

    def _bits_of(self, samples: NDArray[Any]) -> int:
        if samples.dtype == np.int16:
            return 16
        return 24 if self.info.sample == "int24" else 32

    def _converted(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Samples of the type that is stored."""
        sample = self._stored.sample
        is_float, bits = samples.dtype.kind == "f", self._bits_of(samples)
        if sample == "float32":
            return to_float(samples, bits)
        wanted = BITS[sample]
        if not is_float and bits <= wanted:
            return samples.astype(self._stored.dtype, copy=False) << (wanted - bits)
        if is_float:
            self._n_clipped += int(np.count_nonzero(np.abs(samples) > 1))
            return from_float(samples, wanted)
        return from_float(samples.astype(np.float64) * 2.0 ** (1 - bits), wanted)

    def _store(self, samples: NDArray[Any]) -> None:
        if len(samples):
            self._waiting.append(samples)
            self._n_waiting += len(samples)
            self._flush(whole_frames=True)

    def _flush(self, whole_frames: bool) -> None:
        """Hand over what waits, in blocks of the size that the format wants; a part of a block only at the end."""
        assert self._sink is not None
        size = self._sink.frame_size or max(1, self._n_waiting)
        if not self._n_waiting or (whole_frames and self._n_waiting < size):
            return
        samples = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        stop = len(samples) - len(samples) % size if whole_frames else len(samples)
        for at in range(0, stop, size):
            self._sink.write(samples[at : at + size])
        self._waiting, self._n_waiting = [samples[stop:].copy()], len(samples) - stop

    @contextlib.contextmanager
    def _about(self) -> Iterator[None]:
        """Makes errors name the file, and MediaError of those of FFmpeg; nothing is left of the file."""
        try:
            yield
        except BaseException as error:
            self.abort()
            if isinstance(error, CodecError):
                text = str(error)
                if isinstance(error, OSError) or text.startswith(f"{self._name}: "):
                    raise
                raise type(error)(f"{self._name}: {text}") from error
            if isinstance(error, BrokenPipeError):
                raise
            if isinstance(error, (*errors(), ValueError)):
                words = getattr(error, "strerror", None) or error
                raise MediaError(f"{self._name}: can't be written ({words})") from error
            raise


def _fits(samples: NDArray[Any]) -> bool:
    return int(samples.min()) >= -(1 << 23) and int(samples.max()) < 1 << 23


class _Abandoned(Exception):
    """Ends the writing of something that isn't to appear."""


_TYPES = tuple(np.dtype(name) for name in ("int16", "int32", "float32"))


# ---- what can be written


def _format_of(target: PathLike, format: str | None) -> str:
    if not isinstance(target, (str, os.PathLike)):
        raise UsageError(f"can't write to a {type(target).__name__}: expected a path, or '-' for stdout")
    if format is not None:
        if format not in _FORMATS:
            raise UsageError(f"can't write {format!r}; expected one of {', '.join(_FORMATS)}")
        return format
    if target == STDIO:
        return "wav"
    suffix = Path(target).suffix.lower()
    if suffix not in AUDIO_WRITES:
        raise UsageError(f"{target}: unknown suffix {suffix!r}; expected one of {', '.join(AUDIO_WRITES)}")
    return AUDIO_WRITES[suffix]


def _stored(format: _Format, info: AudioInfo, bits: Bits | None, kbps: int | None, notes: list[Note]) -> AudioInfo:
    """The sound as a file of this format has it. Adds notes on what that changes; UsageError for what can't be."""
    if info.channels > format.channels:
        raise UsageError(
            f"{format.name} has at most {format.channels} channels, and this sound has {info.channels}: "
            "write .opus, .flac or .wav"
        )
    if format.samples and kbps is not None:
        raise UsageError(f"{format.name} is lossless and has no kbps: write .opus or .mp3, or leave it out")
    if not format.samples:
        if bits is not None:
            raise UsageError(f"{format.name} has no bits of a sample: write .wav or .flac, or leave them out")
        return _at_rate(format, info, notes)
    if format.name == "FLAC" and (info.rate > _FLAC_RATE or (info.rate > 65535 and info.rate % 10)):
        raise UsageError(f"FLAC can't hold {info.rate} samples a second: write .wav")
    if bits is not None:
        return replace(info, sample=_sample_of(format, bits))
    sample = info.wav_sample
    if sample not in format.samples:
        words = f"{format.name} has at most 24 bits, and this sound {'floats' if sample == 'float32' else '32'}"
        notes.append(Note("depth", f"{words}: rounded to 24 bits; .wav keeps them"))
        sample = "int24"
    return replace(info, sample=sample)


def _sample_of(format: _Format, bits: Bits) -> SampleType:
    known = {key: name for key, name in _SAMPLES.items() if name in format.samples}
    if bits not in known:
        raise UsageError(f"bits {bits!r} of {format.name}; expected one of {', '.join(str(key) for key in known)}")
    return _SAMPLES[bits]


def _at_rate(format: _Format, info: AudioInfo, notes: list[Note]) -> AudioInfo:
    """The sound at a rate that a lossy format can hold."""
    rate = OPUS_RATE
    if format.name == "MP3":
        fitting = [known for known in MP3_RATES if info.rate <= known]
        whole_parts = [known for known in (48000, 44100) if info.rate % known == 0]
        rate = fitting[0] if fitting else (*whole_parts, 48000)[0]
    if rate != info.rate:
        notes.append(Note("sound", f"{format.name} has no {info.rate} samples a second: resampled to {rate}"))
    n_samples = None if info.n_samples is None else length_at(info.n_samples, info.rate, rate)
    return replace(info, rate=rate, n_samples=n_samples, sample="float32")


def _kbps(key: str, info: AudioInfo, kbps: int | None) -> int:
    """Kilobits a second of a lossy format; 0 for another."""
    if key == "opus":
        low, high = (limit * info.channels for limit in _OPUS_KBPS)
        value = 64 * info.channels if kbps is None else kbps
        if not low <= value <= high:
            raise UsageError(f"kbps {value} of Opus; expected {low} to {high} for {info.channels} channels")
        return value
    if key == "mp3":
        known = next(values for rate, values in _MP3_KBPS.items() if info.rate >= rate)
        value = max(v for v in known if v <= 96 * info.channels) if kbps is None else kbps
        if value not in known:
            words = ", ".join(str(number) for number in known)
            raise UsageError(f"kbps {value} of MP3 at {info.rate} Hz; expected one of {words}")
        return value
    return 0


def _sink(key: str, file: BinaryIO, info: AudioInfo, seekable: bool, kbps: int, rate_before: int) -> _Sink:
    if key == "wav":
        return WavSink(file, info, seekable)
    if key == "flac":
        return FlacSink(file, info, seekable)
    if key == "opus":
        return OpusSink(file, info, kbps, rate_before)
    return Mp3Sink(file, info, kbps)
