"""Files of sound for tests: made by PyAV and soundfile, and streams that can't be sought."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

RATES = {"libopus": 48000}


def music(n: int, channels: int = 2, rate: int = 44100, seed: int = 0) -> NDArray[np.float32]:
    """Tones and quiet noise, different in each channel, (n, channels), of about -0.5 to 0.5."""
    times = np.arange(n)[:, None] / rate
    rng = np.random.default_rng(seed)
    tones = sum(
        np.sin(2 * np.pi * (220.0 * (k + 1) + 37.0 * np.arange(channels)) * times + k) / (k + 1) for k in range(4)
    )
    return (0.2 * tones + 0.01 * rng.standard_normal((n, channels))).astype(np.float32)


def integers(samples: NDArray[np.float32], bits: int) -> NDArray[Any]:
    """Integers of so many bits, 24 of them at the lower end of an int32."""
    return np.round(samples * (2 ** (bits - 1) - 1)).astype(np.int16 if bits == 16 else np.int32)


def coded(
    samples: NDArray[np.float32], codec: str, format: str, rate: int = 0, bits: int = 0, kbps: int = 0, **options: str
) -> bytes:
    """A file of sound, coded by FFmpeg. bits: 16 or 24, of a lossless codec; kbps: of others; options: of files."""
    buffer = io.BytesIO()
    rate = rate or RATES.get(codec, 44100)
    with av.open(buffer, "w", format=format, container_options=options) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
        if kbps:
            stream.bit_rate = 1000 * kbps
        if bits:
            stream.format = {("flac", 16): "s16", ("flac", 24): "s32", ("alac", 16): "s16p"}[codec, bits]
        _mux(output, stream, samples, rate, bits)
    return buffer.getvalue()


def _mux(output: Any, stream: Any, samples: NDArray[np.float32], rate: int, bits: int, later: int = 0) -> None:
    array: NDArray[Any] = samples
    if bits:
        array = integers(samples, bits) if bits == 16 else integers(samples, bits) << 8
    kind = {"f": "flt", "i": "s16" if bits == 16 else "s32"}[array.dtype.kind]
    frame = av.AudioFrame.from_ndarray(array.reshape(1, -1).copy(), format=kind, layout=stream.layout.name)
    frame.sample_rate, frame.pts, frame.time_base = rate, later, Fraction(1, rate)
    for packet in (*stream.encode(frame), *stream.encode(None)):
        output.mux(packet)


def vorbis(samples: NDArray[np.float32], rate: int = 44100) -> bytes:
    return stored(samples, "OGG", "VORBIS", rate)


def stored(samples: NDArray[Any], format: str, subtype: str, rate: int = 44100, endian: str = "FILE") -> bytes:
    """A file that libsndfile writes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype, endian=endian)
    return buffer.getvalue()


def clip(samples: NDArray[np.float32], late: Fraction, format: str = "matroska", n_frames: int = 25) -> bytes:
    """A video of 25 frames a second, whose sound, AAC, begins so many seconds after its first picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as output:
        video: Any = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound: Any = output.add_stream("aac", rate=44100)
        sound.layout = "stereo"
        for index in range(n_frames):
            frame = av.VideoFrame.from_ndarray(np.full((72, 64), 9 * index, np.uint8), format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        _mux(output, sound, samples, 44100, 0, round(late * 44100))
    return buffer.getvalue()


def wav(
    data: bytes,
    channels: int = 2,
    rate: int = 44100,
    bits: int = 16,
    tag: int = 1,
    n_bytes: int | None = None,
    riff: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A WAV file, in which any number may lie. n_bytes: what it says of its samples; riff: of the whole."""
    width = channels * bits // 8 & 0xFFFF
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * width & 0xFFFFFFFF, width, bits)
    size = len(data) if n_bytes is None else n_bytes
    body = b"WAVE" + chunk(b"fmt ", form) + before + b"data" + struct.pack("<I", size) + data + bytes(len(data) & 1)
    body += after
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


def chunk(name: bytes, data: bytes, order: str = "<") -> bytes:
    return name + struct.pack(order + "I", len(data)) + data + bytes(len(data) & 1)


class Pipe(io.RawIOBase):
    """A stream that can't be sought, and gives at most so many bytes at a time."""

    def __init__(self, data: bytes, most: int = 1000) -> None:
        self._data, self._at, self._most = data, 0, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._data[self._at : self._at + min(len(buffer), self._most)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def lag(samples: NDArray[Any], expected: NDArray[Any], most: int = 40) -> int:
    """By how many samples the first come later than the expected ones, in a stretch of them."""
    n = len(expected) - 2 * most
    inner = expected[most : most + n].astype(np.float64)
    errors = [np.sum((samples[most + k : most + k + n] - inner) ** 2) for k in range(-most, most + 1)]
    return int(np.argmin(errors)) - most


def snr(samples: NDArray[Any], expected: NDArray[Any]) -> float:
    """Signal over noise in dB."""
    noise = np.sum((samples.astype(np.float64) - expected) ** 2)
    return float(10 * np.log10(np.sum(expected.astype(np.float64) ** 2) / max(noise, 1e-30)))
