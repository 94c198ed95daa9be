"""Classical audio codecs: MP3, Opus, AAC, Vorbis and lossless FLAC.

MP3 (libmp3lame), Opus (libopus), AAC (FFmpeg's own encoder) and FLAC run through PyAV, Vorbis (libvorbis) through
libsndfile, because FFmpeg's own Vorbis encoder is experimental. Each writes the container it is usually found in: MP3
with a LAME tag, Ogg, M4A, FLAC; no other tags, no padding. What is measured is the whole file. M4A costs about 1 kB
before the first sample.

`kbps` is the total over all channels, and a wish: where the format has a limit for the rate and channels of an item
(MP3: 64 kbit/s at 8 kHz; AAC: 6 bits per sample), the nearest that it allows is taken, and the file's size says what
it came to.

Decoded samples start where the original did and there are as many of them: encoder delay and padding are in the file
(LAME tag, Opus pre-skip, MP4 edit list) and cut off. Items at rates that a format doesn't have are resampled to the
next higher one that it has, or its highest, and back, with a windowed sinc that is flat up to 93 % of the lower
Nyquist frequency. Such a file gets 12 bytes of ours in front with the rate and number of samples; so does the rare
file whose container can't say how long it is. Opus is given 8, 12, 16, 24 or 48 kHz as it is, so that the encoder
knows its bandwidth, and always comes back at 48 kHz; here that is turned into the rate of the item again. It is decoded
by libopus, the reference, and not by FFmpeg's own decoder, PyAV's default, which places speech differently in mono and
stereo. In Opus's modes for speech (SILK above narrowband, hybrid; below about 64 kbit/s) libopus comes out about 2
samples of 48 kHz early; files with mostly such packets are delayed by 2. The right delay depends on the content. 2 was
chosen, of 0 to 3, for the SNR of 13 test clips of speech at 32 kbit/s: the mean rises by 3.1 dB on LibriSpeech (4
clips), 3.3 on LibriVox (2) and 4.7 on three others, and falls by 1.2 on LJSpeech (4).
Narrowband is left 2 or 3 late. `application=voip` filters out low tones first, which shifts the rest by more.

Files of the same samples are the same bytes, except Vorbis, where libsndfile draws a serial number.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module, metadata, util
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, StreamError
from ..bench.contract import Audio, Family, Option, OptionValue, Peer
from ..bench.readers import MAX_AUDIO_SAMPLES, MAX_AUDIO_SECONDS, Decoded, audio_samples, frame_samples

if TYPE_CHECKING:
    from av.audio.stream import AudioStream

__all__ = ["FAMILIES", "resample"]

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_OPUS_EARLY = 2  # samples at 48 kHz: see above for how it was chosen
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_MAX_RATE = 384_000
_LAYOUTS = {1: "mono", 2: "stereo"}
_HEADER = struct.Struct("<4sII")  # magic, rate, samples per channel
_MAGIC = b"CdcA"
_SPARE = 4096  # samples that a decoder may return too many
_SINC_ZEROS, _SINC_EDGE, _SINC_BETA = 96, 0.97, 12.0


def resample(samples: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """The sound at another rate, (C, ceil(N * target / rate)) of (C, N): sample n is the signal at n / target seconds,
    zero outside the clip.

    A polyphase filter: sinc under a Kaiser window (beta 12, about 118 dB), 96 zero crossings to either side, cut off
    at 0.97 of the lower Nyquist frequency.
    """
    if rate == target:
        return samples
    signal: Any = import_module("scipy.signal")
    ratio = Fraction(target, rate)
    up, down = ratio.numerator, ratio.denominator
    widest = max(up, down)
    taps = signal.firwin(2 * _SINC_ZEROS * widest + 1, _SINC_EDGE / widest, window=("kaiser", _SINC_BETA))
    return np.stack(
        [signal.resample_poly(channel.astype(np.float64), up, down, window=taps) for channel in samples]
    ).astype(np.float32)


def _checked(value: Audio, most_channels: int = 2) -> NDArray[np.float32]:
    samples = np.asarray(value.samples)
    if samples.ndim != 2 or samples.dtype != np.float32 or 0 in samples.shape:
        raise MediaError(f"samples are {samples.dtype} {samples.shape}; expected float32, (channels, samples)")
    if samples.shape[0] > most_channels:
        raise MediaError(f"{samples.shape[0]} channels; expected mono or stereo: mix it down first")
    if not 1 <= value.rate <= _MAX_RATE:
        raise MediaError(f"a sample rate of {value.rate} Hz; expected 1 to {_MAX_RATE}")
    if samples.shape[1] > MAX_AUDIO_SECONDS * value.rate or samples.size > MAX_AUDIO_SAMPLES:
        raise MediaError(f"{samples.shape[1] / value.rate:.0f} s of sound; expected at most {MAX_AUDIO_SECONDS}")
    if not np.isfinite(samples).all():
        raise MediaError("samples with NaN or infinity; expected finite ones")
    return samples


def _rate_for(rate: int, rates: tuple[int, ...]) -> int:
    return min((r for r in rates if r >= rate), default=rates[-1])


def _encode_av(
    samples: NDArray[Any],
    rate: int,
    codec: str,
    container: str,
    sample_format: str,
    bit_rate: int | None,
    options: Mapping[str, str],
    container_options: Mapping[str, str],
) -> bytes:
    """The bytes of a file. samples: (C, N), of the type that sample_format says."""
    import av
    from av.codec.context import Flags
    from av.container.core import Flags as ContainerFlags

    layout = _LAYOUTS[samples.shape[0]]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=dict(container_options)) as output:
        output.flags |= ContainerFlags.bitexact.value  # no tags with FFmpeg's version, and serial numbers from 0
        stream: AudioStream = output.add_stream(
            codec, rate=rate, options=dict(options), layout=layout, format=sample_format
        )
        stream.codec_context.flags |= Flags.bitexact.value
        if bit_rate is not None:
            stream.codec_context.bit_rate = bit_rate
        for start in range(0, samples.shape[1], rate):
            part = samples[:, start : start + rate]
            if not sample_format.endswith("p"):
                part = part.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format=sample_format, layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def _decode_av(data: bytes, container: str) -> Decoded:
    try:
        return audio_samples(io.BytesIO(data), container)
    except MediaError as error:
        raise StreamError(f"can't be decoded: {error}") from error
    except Exception as error:  # FFmpeg's boundary: what PyAV raises on damage has no common ground
        raise StreamError(f"damaged, or not of FFmpeg's format {container!r} ({error})") from error


# ---- MP3, Opus and AAC


class _Limits(Protocol):
    def __call__(self, rate: int, channels: int) -> tuple[float, float]: ...


def _mp3_limits(rate: int, channels: int) -> tuple[float, float]:
    return (32, 320) if rate >= 32000 else (8, 160) if rate >= 16000 else (8, 64)


def _lame_states_length(n_samples: int, rate: int) -> bool:
    """FFmpeg doesn't cut off padding of less than 47 samples, as if it were the delay of the decoder: tried for all."""
    frame = 1152 if rate >= 32000 else 576
    return not 0 < n_samples % frame <= 46


def _opus_limits(rate: int, channels: int) -> tuple[float, float]:
    return 6, 256 * channels


def _aac_limits(rate: int, channels: int) -> tuple[float, float]:
    return 4, 6 * rate * channels / 1000  # 6144 bits per channel and frame of 1024


@dataclass(frozen=True)
class _Lossy:
    """A lossy codec of FFmpeg's in a container. codec, container, sample_format: FFmpeg's names."""

    codec: str
    container: str
    sample_format: str
    rates: tuple[int, ...]
    limits: _Limits
    kbps: float
    options: Mapping[str, str]
    container_options: Mapping[str, str] = field(default_factory=dict)
    decoder: str = ""  # container's name for the demuxer, if it is another one
    states_length: Callable[[int, int], bool] = lambda n_samples, rate: True  # or else our header does

    def encode(self, value: Audio) -> bytes:
        samples = _checked(value)
        rate = _rate_for(value.rate, self.rates)
        low, high = self.limits(rate, samples.shape[0])
        bit_rate = round(1000 * min(max(self.kbps, low), high))
        options = dict(self.container_options)
        if self.container == "ipod":
            options["movie_timescale"] = str(rate)  # or the edit list rounds the duration to milliseconds
        coded = resample(samples, value.rate, rate)
        head = b""
        if rate != value.rate or not self.states_length(coded.shape[1], rate):
            head = _HEADER.pack(_MAGIC, value.rate, samples.shape[1])
        return head + _encode_av(
            coded, rate, self.codec, self.container, self.sample_format, bit_rate, self.options, options
        )

    def decode(self, data: bytes) -> Audio:
        wanted: tuple[int, int] | None = None
        if data[:4] == _MAGIC:
            if len(data) < _HEADER.size:
                raise StreamError(f"{len(data)} bytes; expected a header of {_HEADER.size} and a file behind it")
            _, rate, n_samples = _HEADER.unpack_from(data)
            if not (1 <= rate <= _MAX_RATE and 1 <= n_samples <= MAX_AUDIO_SECONDS * rate):
                raise StreamError(f"a header of {n_samples} samples at {rate} Hz; damaged?")
            wanted, data = (rate, n_samples), data[_HEADER.size :]
        if self.codec == "libopus":
            decoded = _decode_opus(data)
        else:
            decoded = _decode_av(data, self.decoder or self.container)
        samples, rate = decoded.samples, decoded.rate
        if wanted is None and self.codec == "libopus":
            wanted = _opus_origin(decoded)
        if wanted is not None:
            rate, n_samples = wanted
            n_found = samples.shape[1]
            expected = -(-n_samples * decoded.rate // rate)
            if n_samples > -(-n_found * rate // decoded.rate) or n_found > expected + _SPARE:
                raise StreamError(
                    f"{n_found} samples at {decoded.rate} Hz; expected {n_samples} at {rate} Hz: damaged?"
                )
            samples = np.ascontiguousarray(resample(samples, decoded.rate, rate)[:, :n_samples])
        return Audio(samples, rate)


def _decode_opus(data: bytes) -> Decoded:
    """Decodes Ogg Opus by libopus, with pre-skip and end trimming done here (RFC 7845, sections 4.2 and 4.4): FFmpeg
    does them only with the decoder that it picks itself. extradata: the OpusHead packet."""
    import av
    from av.codec.context import Flags2

    parts: list[NDArray[np.float32]] = []
    try:
        with av.open(io.BytesIO(data), format="ogg") as container:
            stream = container.streams.audio[0]
            head, end = bytes(stream.codec_context.extradata or b""), stream.duration
            if len(head) != 19 or head[:8] != b"OpusHead" or head[9] not in _LAYOUTS or not end:
                raise StreamError("an Ogg file that isn't mono or stereo Opus of known length")
            decoder = av.CodecContext.create("libopus", "r")
            decoder.extradata, decoder.options = head, {"request_sample_fmt": "flt"}
            decoder.sample_rate, decoder.layout = _OPUS_RATES[-1], _LAYOUTS[head[9]]
            decoder.flags2 |= Flags2.skip_manual.value
            n_packets = n_speech = n_samples = 0
            limit = MAX_AUDIO_SECONDS * _OPUS_RATES[-1]
            for packet in container.demux(stream):
                if packet.size:
                    n_packets += 1
                    n_speech += 4 <= bytes(packet)[0] >> 3 < 16  # RFC 6716, section 3.1, table 2
                for frame in decoder.decode(packet if packet.size else None):
                    parts.append(frame_samples(frame))
                    n_samples += frame.samples
                    if n_samples > limit + _SPARE:
                        raise StreamError(f"longer than {MAX_AUDIO_SECONDS // 60} minutes")
    except StreamError:
        raise
    except Exception as error:  # FFmpeg's boundary, as below
        raise StreamError(f"damaged, or not Ogg Opus ({error})") from error
    start = int.from_bytes(head[10:12], "little")
    if not start < end <= n_samples:
        raise StreamError(f"{n_samples} samples at 48 kHz; expected {start} to skip and {end} in all: cut off?")
    early = min(start, _OPUS_EARLY) if 2 * n_speech > n_packets else 0
    samples = np.concatenate(parts, axis=1)[:, start - early : end - early]
    return Decoded(np.ascontiguousarray(samples), _OPUS_RATES[-1], head)


def _opus_origin(decoded: Decoded) -> tuple[int, int]:
    """Rate and samples per channel of what was encoded (RFC 7845, section 5.1: input sample rate)."""
    rate = int.from_bytes(decoded.extradata[12:16], "little")
    if rate not in _OPUS_RATES or decoded.rate != _OPUS_RATES[-1]:
        raise StreamError(f"Opus made from {rate} Hz; expected one of {', '.join(map(str, _OPUS_RATES))}")
    return rate, max(1, decoded.samples.shape[1] * rate // decoded.rate)


def _make_mp3(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    options = {"compression_level": str(settings["q"]), "abr": "1" if settings["mode"] == "abr" else "0"}
    tags = {"id3v2_version": "0", "write_id3v1": "0", "write_xing": "1"}
    return _Lossy(
        "libmp3lame",
        "mp3",
        "fltp",
        _MP3_RATES,
        _mp3_limits,
        _kbps(settings),
        options,
        tags,
        states_length=_lame_states_length,
    )


def _make_opus(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    options = {
        "application": str(settings["application"]),
        "vbr": {"vbr": "on", "cbr": "off", "constrained": "constrained"}[str(settings["mode"])],
        "compression_level": str(settings["complexity"]),
    }
    return _Lossy("libopus", "ogg", "flt", _OPUS_RATES, _opus_limits, _kbps(settings), options)


def _make_aac(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    options = {"aac_coder": str(settings["coder"])}
    return _Lossy("aac", "ipod", "fltp", _AAC_RATES, _aac_limits, _kbps(settings), options, decoder="mp4")


def _kbps(settings: Mapping[str, OptionValue]) -> float:
    return float(settings["kbps"])


# ---- FLAC


@dataclass(frozen=True)
class _Flac:
    level: int

    def encode(self, value: Audio) -> bytes:
        samples = _checked(value)
        if value.rate > 65535 and value.rate % 10:
            raise MediaError(f"FLAC has no room for a rate of {value.rate} Hz: expected a multiple of 10")
        bits = _pcm_bits(samples)
        options = {"compression_level": str(self.level)}
        if bits == 16:
            sample_format = "s16"
            coded: NDArray[Any] = (samples.astype(np.float64) * (1 << 15)).astype(np.int16)
        else:
            sample_format = "s32"
            coded = (samples.astype(np.float64) * (1 << 31)).astype(np.int32)  # FFmpeg wants 24 bits in the upper ones
            options["bits_per_raw_sample"] = "24"
        no_padding = {"metadata_header_padding": "0"}  # FFmpeg reserves 8 KiB otherwise
        return _encode_av(coded, value.rate, "flac", "flac", sample_format, None, options, no_padding)

    def decode(self, data: bytes) -> Audio:
        decoded = _decode_av(data, "flac")
        return Audio(decoded.samples, decoded.rate)


def _pcm_bits(samples: NDArray[np.float32]) -> int:
    """16 or 24: the least integer PCM that holds the samples exactly."""
    for bits in (16, 24):
        scaled = samples.astype(np.float64) * (1 << (bits - 1))
        if (scaled == np.rint(scaled)).all() and scaled.min() >= -(1 << (bits - 1)) and scaled.max() < 1 << (bits - 1):
            return bits
    raise MediaError(
        "samples that aren't 16 or 24-bit integers (decoded from a lossy file, or computed?), which FLAC can't hold "
        "without loss: round them first, np.rint(x * 2**23) / 2**23, within [-1, 1)"
    )


def _make_flac(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    return _Flac(int(settings["level"]))


# ---- Vorbis


@dataclass(frozen=True)
class _Vorbis:
    quality: float  # libvorbis's -0.1..1.0 as 0..10, as oggenc counts; libsndfile starts at 0

    def encode(self, value: Audio) -> bytes:
        import soundfile

        samples = _checked(value)
        if not 4000 <= value.rate <= 200_000:
            raise MediaError(f"libvorbis has no setup for {value.rate} Hz: expected 4000 to 200000")
        buffer = io.BytesIO()
        try:
            with soundfile.SoundFile(
                buffer,
                "w",
                samplerate=value.rate,
                channels=samples.shape[0],
                format="OGG",
                subtype="VORBIS",
                compression_level=1 - self.quality / 10,
            ) as file:
                for start in range(0, samples.shape[1], 4096):  # libsndfile's encoder keeps a write on its stack
                    file.write(np.ascontiguousarray(samples[:, start : start + 4096].T))
        except RuntimeError as error:
            raise MediaError(f"libvorbis can't encode this ({error})") from error
        return buffer.getvalue()

    def decode(self, data: bytes) -> Audio:
        """Decodes with libsndfile too: FFmpeg leaves the padding of the last block in short files and at low rates."""
        import soundfile

        try:
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                if (file.format, file.subtype) != ("OGG", "VORBIS") or not 1 <= file.channels <= 2:
                    raise StreamError(f"{file.format} {file.subtype} of {file.channels} channels; expected Ogg Vorbis")
                longest = min(MAX_AUDIO_SECONDS * file.samplerate, MAX_AUDIO_SAMPLES // file.channels)
                if not 0 < file.frames <= longest:
                    raise StreamError(f"{file.frames} samples at {file.samplerate} Hz; damaged?")
                samples = np.asarray(file.read(dtype="float32", always_2d=True), np.float32)
                if len(samples) != file.frames:
                    raise StreamError(f"{len(samples)} samples; the file says {file.frames}: cut off?")
                return Audio(np.ascontiguousarray(samples.T), file.samplerate)
        except RuntimeError as error:
            raise StreamError(f"damaged, or not Ogg Vorbis ({error})") from error


def _make_vorbis(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    return _Vorbis(float(settings["quality"]))


# ---- what there is


def _missing(*codecs: str, packages: tuple[str, ...] = ()) -> Callable[[], str | None]:
    def missing() -> str | None:
        for package in ("av", *packages):
            if util.find_spec(package) is None:
                return f"{package} isn't installed: pip install 'codec-suite[eval]'"
        try:
            known = import_module("av").codecs_available
        except (ImportError, OSError) as error:
            return f"PyAV can't be loaded ({error}): pip install --force-reinstall av"
        lacking = [codec for codec in codecs if codec not in known]
        return f"this build of PyAV has no {', '.join(lacking)}: pip install av, the wheel has it" if lacking else None

    return missing


def _versions(*packages: str) -> Callable[[], Mapping[str, str]]:
    def versions() -> Mapping[str, str]:
        import av

        known = {"av": metadata.version("av"), "ffmpeg": str(getattr(av, "ffmpeg_version_info", ""))}
        known.update({package: metadata.version(package) for package in packages})
        if "soundfile" in packages:
            known["libsndfile"] = str(import_module("soundfile").__libsndfile_version__)
        return known

    return versions


_TOTAL = "kbit/s over all channels; the nearest that the format has for an item's rate and channels"

FAMILIES: tuple[Family, ...] = (
    Family(
        name="mp3",
        medium="audio",
        about="MP3 by LAME, MP3 file with a LAME tag; mono or stereo; rates it lacks are resampled",
        options={
            "kbps": Option(128, _TOTAL, 8, 320),
            "mode": Option("cbr", "constant or average bit rate", choices=("cbr", "abr")),
            "q": Option(2, "LAME's -q: 0 slow and best, 9 fast", 0, 9),
        },
        make=_make_mp3,
        axis="kbps",
        sweep=(32, 48, 64, 96, 128, 192, 256, 320),
        missing=_missing("libmp3lame", packages=("scipy",)),
        versions=_versions("scipy"),
    ),
    Family(
        name="opus",
        medium="audio",
        about="Opus by libopus, Ogg file; mono or stereo; decoded at 48 kHz and resampled to the item's rate",
        options={
            "kbps": Option(64, _TOTAL, 6, 512),
            "application": Option("audio", "what it is tuned for", choices=("audio", "voip", "lowdelay")),
            "mode": Option("vbr", "how closely the bit rate is kept", choices=("vbr", "constrained", "cbr")),
            "complexity": Option(10, "0 fast, 10 slow and best", 0, 10),
        },
        make=_make_opus,
        axis="kbps",
        sweep=(6, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
        missing=_missing("libopus", packages=("scipy",)),
        versions=_versions("scipy"),
    ),
    Family(
        name="aac",
        medium="audio",
        about="AAC-LC by FFmpeg's own encoder, M4A file (about 1 kB more than the sound); mono or stereo",
        options={
            "kbps": Option(128, _TOTAL, 8, 512),
            "coder": Option("twoloop", "search for the quantisers", choices=("twoloop", "fast")),
        },
        make=_make_aac,
        axis="kbps",
        sweep=(24, 32, 48, 64, 96, 128, 192, 256),
        missing=_missing("aac", packages=("scipy",)),
        versions=_versions("scipy"),
    ),
    Family(
        name="vorbis",
        medium="audio",
        about="Vorbis by libvorbis (in libsndfile), Ogg file, variable bit rate; mono or stereo",
        options={"quality": Option(5, "0 to 10, as oggenc -q", 0, 10)},
        make=_make_vorbis,
        axis="quality",
        sweep=(0, 1, 2, 3, 4, 5, 6, 8, 10),
        missing=_missing("vorbis", packages=("soundfile",)),
        versions=_versions("soundfile"),
    ),
    Family(
        name="flac",
        medium="audio",
        about="FLAC, lossless; takes samples that are 16 or 24-bit integers; mono or stereo",
        options={"level": Option(12, "0 fast, 12 smallest", 0, 12)},
        make=_make_flac,
        lossless=True,
        missing=_missing("flac"),
        versions=_versions(),
    ),
)
