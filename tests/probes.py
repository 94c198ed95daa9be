"""What the contract tests ask of a codec, and the same questions in another process.

    python tests/probes.py < job.json     # {"shape": ..., "encode": [[codec, raw samples], ...], "decode": [file, ...]}

prints the digests of files, pixels and latents as JSON. A shape of its own may stand behind the samples. "sounds":
[codec, ...]: those that encode a short sound. "splats": [codec, ...]: those that encode a scene and a sequence, each
of "n" Gaussians.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codec import Codec, native, registry
from codec.codecs.base import weights
from codec.codecs.base.array import ArrayCodec
from codec.codecs.base.audio.codec import AudioCodec
from codec.codecs.base.codec import codec_for
from codec.codecs.base.features import FeatureCodec
from codec.codecs.base.field import FieldCodec
from codec.codecs.base.gaussians.codec import GaussiansCodec
from codec.codecs.base.image import ImageCodec
from codec.codecs.base.video.codec import VideoCodec
from codec.container import read_header, unpack
from codec.media.audio.values import Audio
from codec.media.gaussians.values import Gaussians


@dataclass(frozen=True)
class Probe:
    """What can't be asked of every codec in the same words. latents: all that the entropy decoder gives for a file, as
    bytes. bits: what the training loss says that a picture (H, W, 3) costs at the default quality."""

    latents: Callable[[Any, bytes], bytes]
    bits: Callable[[Any, np.ndarray], float]


def _walloc_latents(codec: Any, data: bytes) -> bytes:
    header, chunks = unpack(data)
    return codec._read_latents(header, chunks, *header.shape[:2]).astype(np.float32).tobytes()


def _walloc_bits(codec: Any, pixels: np.ndarray) -> float:
    net, gain16 = codec.model.net, codec.model.gain_of(None)
    with torch.inference_mode():
        latents = torch.from_numpy(codec.model.networks.latents(pixels, gain16)).float()[None]
        return float(net.context.bits(latents, net.side(latents.shape, gain16)))


def _s2lic_latents(codec: Any, data: bytes) -> bytes:
    header, chunks = unpack(data)
    return codec.read_latents(header, chunks).tobytes()


def _s2lic_bits(codec: Any, pixels: np.ndarray) -> float:
    """Of the densities themselves, not of the tables that were made of them."""
    net = codec.model.net
    z_part, y_parts = codec.symbols(pixels, codec.step_of(None))

    def bits(density: Any, symbols: np.ndarray, row: np.ndarray) -> float:
        return float(density.bits(torch.from_numpy(symbols), density.scale(torch.from_numpy(row).double())).sum())

    return bits(net.z_density, *z_part) + sum(bits(net.y_density, *part) for part in y_parts)


def _vqgan_latents(codec: Any, data: bytes) -> bytes:
    return codec.read_indices(*unpack(data))[0].tobytes()


def _vqgan_bits(codec: Any, pixels: np.ndarray) -> float:
    """What a copy of the index model says that it costs, without a coder."""
    bits = codec.bits_of(None)
    model = codec.model.models.mix(bits)
    return replace(model, mixer=model.mixer.copy()).learn([codec.indices(pixels, bits)])


PROBES = {
    "walloc": Probe(_walloc_latents, _walloc_bits),
    "s2lic": Probe(_s2lic_latents, _s2lic_bits),
    "vqgan": Probe(_vqgan_latents, _vqgan_bits),
}


def probe(name: str) -> Probe:
    plain, _ = registry.split_tag(name)
    assert plain in PROBES, (
        f"add {plain!r} to PROBES in tests/probes.py: the contract needs its latents and its estimate"
    )
    return PROBES[plain]


def cases() -> list[str]:
    """name@tag of all weights that ship, for image codecs; a codec without weights by its name."""
    out = []
    for name in registry.names("image"):
        tags = [manifest.tag for manifest in weights.manifests(name) if not manifest.retired]
        out += [f"{name}@{tag}" for tag in tags] or [name]
    return out


def array_cases() -> list[str]:
    """name@tag of all weights that ship, for lossless codecs of arrays; a codec without weights by its name."""
    out = []
    for name in registry.names("array"):
        tags = [manifest.tag for manifest in weights.manifests(name) if not manifest.retired]
        out += [f"{name}@{tag}" for tag in tags] or [name]
    return out


def field_cases() -> list[str]:
    """name@tag of all weights that ship, for codecs of float fields; a codec without weights by its name."""
    out = []
    for name in registry.names("field"):
        tags = [manifest.tag for manifest in weights.manifests(name) if not manifest.retired]
        out += [f"{name}@{tag}" for tag in tags] or [name]
    return out


def audio_cases() -> list[str]:
    """name@tag of all weights that ship, for codecs of sound; a codec without weights by its name."""
    out = []
    for name in registry.names("audio"):
        tags = [manifest.tag for manifest in weights.manifests(name) if not manifest.retired]
        out += [f"{name}@{tag}" for tag in tags] or [name]
    return out


def video_cases() -> list[str]:
    """name@preset of every codec of videos."""
    families: list[tuple[str, Any]] = [(name, registry.load_class(name)) for name in registry.names("video")]
    return [f"{name}@{preset}" for name, family in families for preset in family.presets()]


def gaussians_cases() -> list[str]:
    """name@tag of all weights that ship, for codecs of Gaussian splats; a codec without weights by its name."""
    out = []
    for name in registry.names("gaussians"):
        tags = [manifest.tag for manifest in weights.manifests(name) if not manifest.retired]
        out += [f"{name}@{tag}" for tag in tags] or [name]
    return out


def features_cases() -> list[str]:
    """name@tag of all weights that ship, for codecs of features."""
    names = registry.names("features")
    return [f"{name}@{made.tag}" for name in names for made in weights.manifests(name) if not made.retired]


MEDIA = (cases, array_cases, field_cases, video_cases, audio_cases, gaussians_cases, features_cases)


def load(name: str) -> Any:
    codec = Codec.load(name)
    bases = (ImageCodec, ArrayCodec, FieldCodec, VideoCodec, AudioCodec, GaussiansCodec, FeatureCodec)
    assert isinstance(codec, bases)
    return codec


def clip(n: int = 6, height: int = 34, width: int = 42) -> np.ndarray:
    """(n, H, W, 3) uint8: a slope with a square that moves, by integer arithmetic."""
    t, y, x = np.mgrid[0:n, 0:height, 0:width]
    square = (abs(y - 15 - t) < 6) & (abs(x - 12 - 2 * t) < 6)
    planes = [3 * x + 2 * y, 4 * y + x + t, 255 - 3 * x]
    return np.stack([np.where(square, 230 - 60 * i, plane) for i, plane in enumerate(planes)], -1).astype(np.uint8)


def clip_with_sound() -> bytes:
    """The clip as a Matroska file, 25 frames a second, and a quarter of a second of sound that begins 0.08 s late."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        video: Any = out.add_stream("ffv1", rate=25)
        track: Any = out.add_stream("pcm_s16le", rate=8000)
        video.height, video.width, video.pix_fmt = 34, 42, "bgr0"
        track.codec_context.layout = "mono"
        for picture in clip():
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        out.mux(video.encode(None))
        packet = av.Packet(sound(2000).samples.tobytes())
        packet.pts = packet.dts = 640
        packet.duration, packet.time_base, packet.stream = 2000, Fraction(1, 8000), track
        out.mux(packet)
    return buffer.getvalue()


def sound(n: int, channels: int = 1, rate: int = 8000, bits: int = 16) -> Audio:
    """Two saw teeth of each channel that swell, a click and a hiss, by integer arithmetic: the same anywhere.

    bits: 16, 24 or 32 of integers; 0 for floats.
    """
    t, k = np.arange(n, dtype=np.int64)[:, None], np.arange(channels)
    period = rate // (200 + 30 * k)
    saws = (t % period) * 65536 // period - 32768 + ((3 * t + 7 * k) % (2 * period)) * 32768 // period - 32768
    hiss = (t * 1103515245 + 12345 * (k + 1) ^ t >> 3) * 2654435761 % (1 << 32) // 65536 - 32768
    swell = 40 + np.abs(t * 8 // max(1, n // 24) % 64 - 32)
    x = np.where(t % max(1, n // 3) < 3, 25000, saws * swell // 400 + hiss // 60) * 256  # of 24 bits
    if bits == 0:
        return Audio.from_array((x / (1 << 23)).astype(np.float32), rate)
    integers = x >> 8 if bits == 16 else x + hiss % 256 if bits == 24 else (x << 8) + hiss
    return Audio.from_array(integers.astype(np.int16 if bits == 16 else np.int32), rate, bits)


def splats(n: int = 40, degree: int = 1, frame: int = 0) -> Gaussians:
    """A frame of n Gaussians on a sheet that moves, turns and brightens, by integer arithmetic: the same anywhere."""
    row, t = np.arange(n, dtype=np.int64), frame
    k = np.arange((degree + 1) ** 2 * 3)
    x, y = row * 1103515245 % 1021 - 510, row * 2654435761 % 1013 - 506
    positions = np.stack([x + 9 * t, y - x * t // 60, x * y // 700 + 3 * t], 1) / 512
    rotations = np.stack([row % 7 + 9, 3 * row % 11 - 5 + t, 5 * row % 13 - 6, 0 * row + t], 1) / 8
    harmonics = ((row[:, None] // 3 + 5 * k) % 17 - 8 + (x[:, None] + 64 * k) // 96 + t * (k % 3)) / 64
    return Gaussians(
        positions.astype(np.float32),
        (-(2 * 64) + (7 * row[:, None] + 5 * np.arange(3)) % 64 + t % 2).astype(np.float32) / 32,
        rotations.astype(np.float32),
        ((11 * row % 96 - 32 - 2 * t) / 16).astype(np.float32),
        harmonics.reshape(n, -1, 3).astype(np.float32),
    )


def moving_splats(n: int = 40, degree: int = 1, n_frames: int = 4) -> tuple[Gaussians, ...]:
    """The frames of the sheet, each with the same Gaussians."""
    return tuple(splats(n, degree, frame) for frame in range(n_frames))


def field(shape: tuple[int, ...] = (3, 12, 13, 14)) -> np.ndarray:
    """A smooth float32 field by integer arithmetic, the same anywhere; with a hole and a NaN."""
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    steps = sum((2 * i + 3) * one for i, one in enumerate(grid))
    out = (np.abs(steps % 64 - 32) * (1 + grid[-1] % 7) - 100).astype(np.float32) / 16
    out[..., 2:4, 5], out.reshape(-1)[7] = np.inf, np.nan
    return out


def velocity(n: int = 16) -> np.ndarray:
    """(3, n, n, n) float32: a periodic flow without divergence, of few waves, component 0 along the last axis."""
    z, y, x = np.meshgrid(*[2 * np.pi * np.arange(n) / n] * 3, indexing="ij")
    out = np.zeros((3, n, n, n))
    for k in (1, 2, 3, 5):
        waves = [np.sin(k * z) + np.cos(k * y), np.sin(k * x) + np.cos(k * z), np.sin(k * y) + np.cos(k * x)]
        out += np.stack(waves) / k**1.5
    return out.astype(np.float32)


def decoder_of(data: bytes) -> Any:
    """The codec that decodes a file. The last ones are kept, for each engine and instruction set their own."""
    header = read_header(data)
    way = (os.environ.get("CODEC_ENGINE"), native.instruction_set())
    key = (header.codec, header.stream, header.weights, *way)
    if key not in _DECODERS:
        while len(_DECODERS) >= 4:
            del _DECODERS[next(iter(_DECODERS))]
        _DECODERS[key] = codec_for(header)
    return _DECODERS[key]


_DECODERS: dict[tuple[Any, ...], Codec] = {}


def methods_of(data: bytes) -> list[str]:
    """The ways in which the blocks of an array's file are coded."""
    codec, (_, chunks) = decoder_of(data), unpack(data)
    assert isinstance(codec, FieldCodec)
    return sorted({codec.method_of(chunk.payload) for chunk in chunks if chunk.tag == "Bloc"})


def samples_of(data: bytes, n: int = 16) -> list[float]:
    """Some of the values that an array's file decodes to."""
    values = decoder_of(data).decompress(data)
    return [float(value) for value in values.ravel()[:: values.size // n][:n]]


# the shape of the items that the weights are for; they are of bytes
ITEM_SHAPE: dict[str, Callable[[Any], tuple[int, ...]]] = {
    "circuit": lambda codec: codec.domain.shape,
    "mix": lambda codec: (9, 8),
}


def items(codec: Any, n: int, seed: int = 0) -> np.ndarray:
    """(n, ...) uint8 of the right shape: a soft blob each, which is easy, and every fourth one noise, which isn't."""
    shape = ITEM_SHAPE[codec.name](codec)
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij"))
    centres = rng.uniform(-0.5, 0.5, (n, len(shape), *(1 for _ in shape)))
    out = np.clip(400 - 900 * np.sqrt(((grid - centres) ** 2).sum(1)), 0, 255).astype(np.uint8)
    out[3::4] = rng.integers(0, 256, out[3::4].shape)
    return out


def coders(codec: Codec) -> tuple[str, ...]:
    """Ways in which it can write its payload, the default one first; ("",) if there is no choice."""
    if not hasattr(codec, "coders"):
        return ("",)
    known = tuple(codec.coders)  # type: ignore[attr-defined]
    default = getattr(codec, "coder", None) or known[0]
    return (default, *(coder for coder in known if coder != default))


def networks(x: Any, depth: int = 3) -> Iterator[torch.nn.Module]:
    """The networks that a codec holds, in itself or in dataclasses."""
    if isinstance(x, torch.nn.Module):
        yield x
    elif depth and (isinstance(x, Codec) or is_dataclass(x)):
        values = [getattr(x, f.name) for f in fields(x)] if is_dataclass(x) else list(vars(x).values())
        for value in values:
            yield from networks(value, depth - 1)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of_pixels(data: bytes) -> str:
    """Of shape, type and samples (little-endian) of the picture, array or sound in a file, whoever wrote it.

    Of a video, of its sound that is coded, too. Of Gaussians, all values of all frames.
    """
    codec = decoder_of(data)
    if isinstance(codec, GaussiansCodec):
        return _digest_of_gaussians(codec, data)
    if isinstance(codec, ArrayCodec):
        pixels = codec.decode_array_file(data).array
    elif isinstance(codec, (FieldCodec, VideoCodec)):
        pixels = codec.decompress(data)
    elif isinstance(codec, FeatureCodec):
        pixels = np.asarray(codec.decompress(data))
    elif isinstance(codec, AudioCodec):
        with codec.open_file(data) as file:
            pixels = file.read().samples
    else:
        assert isinstance(codec, ImageCodec)
        pixels = codec.decode_picture(data).stacked()
    hidden = b"" if not isinstance(pixels, np.ma.MaskedArray) else np.ma.getmaskarray(pixels).tobytes()
    if isinstance(codec, VideoCodec):
        with codec.open_file(data) as video:
            hidden += b"".join(str(track.start).encode() + track.read().samples.tobytes() for track in video.sounds())
    little = np.ma.getdata(pixels).astype(pixels.dtype.newbyteorder("<"))
    return sha256(f"{pixels.shape} {pixels.dtype.name} ".encode() + little.tobytes() + hidden)


def values_of(gaussians: Gaussians) -> bytes:
    """All values of Gaussians, little-endian, in the order of their rows."""
    arrays = (getattr(gaussians, item.name) for item in fields(gaussians))
    return b"".join(str(array.shape).encode() + array.astype("<f4").tobytes() for array in arrays)


def _digest_of_gaussians(codec: GaussiansCodec, data: bytes) -> str:
    with codec.open_frames(data) as file:
        return sha256(f"{file.n_frames} {file.fps} ".encode() + b"".join(map(values_of, file.frames())))


def digest_of_latents(data: bytes) -> str:
    codec = decoder_of(data)
    return sha256(probe(codec.name).latents(codec, data))


def answer(job: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"encode": {}, "decode": {}, "capability": torch.backends.cpu.get_cpu_capability()}
    for name, picture, *shape in job.get("encode", []):
        array = np.frombuffer(Path(picture).read_bytes(), np.uint8).reshape(shape or job["shape"])
        out["encode"][name] = sha256(load(name).compress(array))
    for name in job.get("sounds", []):
        out["encode"][name] = sha256(load(name).compress(sound(900, 2)))
    for name in job.get("splats", []):
        given = (splats(job["n"]), moving_splats(job["n"], n_frames=3))
        out["encode"][name] = [sha256(data) for data in load(name).compress(list(given))]
    for file in job.get("decode", []):
        data = Path(file).read_bytes()
        without = ("field", "audio", "gaussian", "features")
        latents = [] if read_header(data).medium in without else [digest_of_latents(data)]
        out["decode"][file] = [digest_of_pixels(data), *latents]
    return out


if __name__ == "__main__":
    with io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8") as stream:
        json.dump(answer(json.load(sys.stdin)), stream)
