"""Values of sound: samples with their rate, channels, tags and cover, and the exact arithmetic between types of sample.

Samples are (n, channels), time first, in the order of channels that WAV has (front left, right, centre, low, ...).
A sample of b bits is an integer v in [-2**(b-1), 2**(b-1)) that means v / 2**(b-1); 24 bits lie in an int32, at its
lower end. 0 dB is 1.0; floats may go beyond. May import errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, UsageError

__all__ = [
    "BITS",
    "DTYPES",
    "LAYOUTS",
    "MAX_CHANNELS",
    "MAX_COVER",
    "MAX_RATE",
    "MAX_SAMPLES",
    "MAX_TAGS",
    "Audio",
    "AudioInfo",
    "Cover",
    "SampleType",
    "check_shape",
    "from_float",
    "to_float",
]

SampleType = Literal["int16", "int24", "int32", "float32"]

MAX_CHANNELS = 8
MAX_RATE = 768_000  # samples a second
MAX_SAMPLES = 1 << 40  # of a channel: 18 days at the highest rate
MAX_COVER = 1 << 24  # bytes
MAX_TAGS = 1 << 20  # characters of all tags of a file

DTYPES: Mapping[str, str] = MappingProxyType(  # of arrays, by type of sample
    {"int16": "int16", "int24": "int32", "int32": "int32", "float32": "float32"}
)
BITS: Mapping[str, int] = MappingProxyType({"int16": 16, "int24": 24, "int32": 32, "float32": 32})
LAYOUTS: Mapping[int, str] = MappingProxyType(  # FFmpeg's names of what so many channels usually are
    {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
)
_LOSSY = frozenset({"mp3", "aac", "opus", "vorbis", "ac3", "eac3", "mp2", "amr", "wma"})


@dataclass(frozen=True)
class Cover:
    """A picture that goes with the sound, as it is stored. mime: "image/jpeg", "image/png". kind: "front", "other"."""

    data: bytes = field(repr=False)
    mime: str = "image/jpeg"
    kind: str = "front"


@dataclass(frozen=True)
class AudioInfo:
    """The description of sound.

    rate: samples a second. n_samples: of each channel, without the delay and the padding of an encoder; None where only
    the end of the input says it (a pipe). layout: FFmpeg's name of what the channels are, "" for the usual one of
    LAYOUTS. sample: the type of sample that the source has. tags: by names of Vorbis comments in capital letters
    (TITLE, ARTIST, ALBUM, TRACKNUMBER, DATE, GENRE, COMMENT, REPLAYGAIN_TRACK_GAIN; others as they are called), each
    with its values in order. format: how the source codes its samples, "pcm", "flac", "mp3", ...; "" for an array.
    """

    rate: int
    channels: int
    n_samples: int | None = None
    layout: str = ""
    sample: SampleType = "int16"
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cover: Cover | None = None
    format: str = ""

    def __post_init__(self) -> None:
        check_shape(self.rate, self.channels)
        if self.n_samples is not None and not 0 <= self.n_samples <= MAX_SAMPLES:
            raise MediaError(f"{self.n_samples} samples; expected 0 to {MAX_SAMPLES}")
        if self.sample not in DTYPES:
            raise MediaError(f"samples of type {self.sample!r}; expected {', '.join(DTYPES)}")
        if not self.layout:
            object.__setattr__(self, "layout", LAYOUTS[self.channels])

    @property
    def bits(self) -> int:
        """Bits of a sample: 16, 24 or 32."""
        return BITS[self.sample]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type of its samples."""
        return np.dtype(DTYPES[self.sample])

    @property
    def seconds(self) -> Fraction | None:
        return None if self.n_samples is None else Fraction(self.n_samples, self.rate)

    @property
    def wav_sample(self) -> SampleType:
        """The type of sample in which a decoder writes this sound unless it is asked for another.

        A lossy codec's samples are floats of no certain depth: 16 bits, as players and other decoders give.
        """
        return "int16" if self.format in _LOSSY else self.sample


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound in memory. samples: (n, channels) of info.dtype, n = info.n_samples."""

    samples: NDArray[Any]
    info: AudioInfo

    def __post_init__(self) -> None:
        samples, info = self.samples, self.info
        if samples.ndim != 2 or samples.shape != (info.n_samples, info.channels) or samples.dtype != info.dtype:
            raise UsageError(
                f"samples are {samples.dtype} {samples.shape}; "
                f"expected {info.dtype} ({info.n_samples}, {info.channels})"
            )

    @staticmethod
    def from_array(
        array: NDArray[Any],
        rate: int,
        bits: int | None = None,
        tags: Mapping[str, tuple[str, ...]] | None = None,
        cover: Cover | None = None,
    ) -> Audio:
        """The sound of an array, (n,) or (n, channels), of int16, int32 or floats, whose full scale is 1.0.

        bits: 24 for an int32 that holds 24 bits at its lower end. UsageError for what can't be sound.
        """
        if array.ndim not in (1, 2) or array.dtype not in (np.int16, np.int32, np.float16, np.float32, np.float64):
            raise UsageError(f"an array of {array.dtype} {array.shape}; expected int16, int32 or floats, (n, channels)")
        samples = array[:, None] if array.ndim == 1 else array
        n_samples, channels = samples.shape
        if not 1 <= channels <= MAX_CHANNELS:
            turned = ": turn it, array.T" if 1 <= n_samples <= MAX_CHANNELS else ""
            raise UsageError(f"an array of {channels} channels; expected (n, channels), 1 to {MAX_CHANNELS}{turned}")
        if not isinstance(rate, (int, np.integer)) or not 1 <= rate <= MAX_RATE:
            raise UsageError(f"rate {rate!r}; expected samples a second, 1 to {MAX_RATE}")
        sample: SampleType = "float32"
        if samples.dtype.kind == "f":
            if not np.isfinite(samples).all():
                raise UsageError("samples that are infinite or no numbers (NaN); expected finite ones")
            with np.errstate(over="ignore"):
                samples = samples.astype(np.float32, copy=False)
            if not np.isfinite(samples).all():
                raise UsageError("samples beyond what float32 can hold; expected about -1.0 to 1.0")
        else:
            sample = "int16" if samples.dtype == np.int16 else "int24" if bits == 24 else "int32"
        if bits not in (None, BITS[sample]):
            raise UsageError(f"bits {bits} of {samples.dtype}; expected {BITS[sample]}, or 24 for an int32")
        if sample == "int24" and n_samples and (samples.min() < -(1 << 23) or samples.max() >= 1 << 23):
            raise UsageError("samples beyond 24 bits; expected -8388608 to 8388607: array >> 8, or bits=32")
        info = AudioInfo(int(rate), channels, n_samples, sample=sample, tags=dict(tags or {}), cover=cover)
        return Audio(samples, info)

    def to_float(self) -> NDArray[np.float32]:
        """Its samples as floats, (n, channels)."""
        return to_float(self.samples, self.info.bits)

    def converted(self, sample: SampleType) -> Audio:
        """The same sound with another type of sample, rounded to the nearest and clipped where that is coarser."""
        if sample == self.info.sample:
            return self
        if sample == "float32":
            samples: NDArray[Any] = self.to_float()
        else:  # in float64, which holds 32 bits
            whole = 1.0 if self.info.sample == "float32" else 2.0 ** (self.info.bits - 1)
            samples = from_float(self.samples.astype(np.float64) / whole, BITS[sample])
        return Audio(samples, replace(self.info, sample=sample))


def check_shape(rate: int, channels: int) -> None:
    """Raise MediaError unless sound of so many samples a second and channels is within our caps."""
    if not 1 <= rate <= MAX_RATE:
        raise MediaError(f"{rate} samples a second; expected 1 to {MAX_RATE}")
    if not 1 <= channels <= MAX_CHANNELS:
        mixed = ": mix them down, ffmpeg -i IN -ac 2 OUT.wav" if channels > MAX_CHANNELS else ""
        raise MediaError(f"sound of {channels} channels; expected 1 to {MAX_CHANNELS}{mixed}")


def to_float(samples: NDArray[Any], bits: int) -> NDArray[np.float32]:
    """Samples as floats: integers of so many bits over 2**(bits - 1); floats as they are.

    samples: of any shape. Exact up to 24 bits, in [-1, 1). 32 bits are rounded to the nearest float32, half to even,
    and the highest 64 of them become 1.0.
    """
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    return samples.astype(np.float32) * np.float32(2.0 ** (1 - bits))


def from_float(samples: NDArray[Any], bits: int) -> NDArray[Any]:
    """Floats as integers of 16, 24 or 32 bits: times 2**(bits - 1), rounded half to even, then clipped. NaN becomes 0.

    samples: of any shape. Returns int16, or int32 for 24 and 32 bits. What `to_float` gave comes back as it was, up to
    24 bits.
    """
    if bits not in (16, 24, 32):
        raise UsageError(f"bits {bits}; expected 16, 24 or 32")
    scale = 2.0 ** (bits - 1)
    clipped = np.nan_to_num(np.clip(samples.astype(np.float64), -1.0, 1.0), nan=0.0)
    return np.minimum(np.rint(clipped * scale), scale - 1.0).astype(np.int16 if bits == 16 else np.int32)
