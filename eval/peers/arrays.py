"""Classical compressors of numeric arrays: zfp, SZ3, SPERR with a bounded error; Blosc2, pcodec, Zstandard without any.

The axis `rel` of the first three is the largest error allowed for any value, as a part of the array's range (largest
minus smallest value; of a constant array, its absolute value, or 1). It becomes an absolute bound for each array.

- zfp keeps an absolute bound for floats (fixed accuracy), mostly with room to spare. `zfp-rate` spends a fixed number
  of bits per value, `zfp-precision` keeps a number of bit planes; these two take int32 and int64 as well, within
  +-2**30 and +-2**62, the room that its transform needs.
- SZ3 takes floats, and integers within +-2**53; small ones are handed to it as int32, others as int64.
- SPERR takes floats.

Axes: zfp and SZ3 code up to `dims` axes together and split an array along the others, SPERR at most 3. Vector fields
such as (3, z, y, x) come out much smaller that way (hit_dns_96, 1e-3: zfp 415 kB instead of 786 kB).

Known limits, measured: a bound below the spacing of the values' own type at their largest can't be kept by zfp and
SPERR, whose results are rounded to that type (SZ3 stores such values as they are). Arrays with NaN or infinity are
refused by all lossy ones; the lossless ones return every bit of a NaN. Floats whose largest lies beyond 2**+-32 are
brought near 1 by a power of two, which is exact, and back: zfp loses float32 below 1e-29 altogether, SPERR crashes on
large float64.

No stream says all that is needed, so each file has a header of ours: 5 bytes, the shape, a checksum of 4. It counts.
The checksum also keeps damage away from decoders that would crash on it; against a forged one, only sizes are checked.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata, util
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...entropy.integers import ByteReader, put_varint
from ...errors import CodecError, MediaError, StreamError
from ..bench.contract import Family, Option, OptionValue, Peer
from ..bench.readers import MAX_ARRAY_BYTES

__all__ = ["FAMILIES", "error_bound"]

_DTYPES = tuple(np.dtype(code) for code in ("f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"))
_HEAD = struct.Struct("<BBBh")  # layout of the header, family, type and number of axes, exponent
_LAYOUT = 0xA1
_CRC = struct.Struct("<I")
_MAX_AXES = 4
_EXPONENT = 32  # floats are scaled if their largest has a larger one

Array = NDArray[Any]


def error_bound(values: Array, rel: float) -> float:
    """The absolute bound that `rel` stands for: rel times the range of finite values; of a constant array, rel times
    its absolute value, or rel if that is 0."""
    low, high = values.min().item(), values.max().item()
    return rel * (float(high - low) or float(abs(high)) or 1.0)


# ---- the file


@dataclass(frozen=True)
class _File:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    exponent: int
    streams: tuple[bytes, ...]


def _pack(family: int, array: Array, exponent: int, streams: Sequence[bytes]) -> bytes:
    """A file of header, sides as varints, CRC-32 of all but itself, length of each stream but the last, streams."""
    head = _HEAD.pack(_LAYOUT, family, _DTYPES.index(array.dtype) | (array.ndim - 1) << 4, exponent)
    head += b"".join(map(put_varint, array.shape))
    body = b"".join(put_varint(len(stream)) for stream in streams[:-1]) + b"".join(streams)
    return head + _CRC.pack(zlib.crc32(body, zlib.crc32(head))) + body


def _unpack(family: int, data: bytes, count: Callable[[tuple[int, ...]], int]) -> _File:
    """The parts of a file that `_pack` made. count: how many streams a shape has. StreamError if one doesn't fit."""
    if len(data) < _HEAD.size:
        raise StreamError(f"{len(data)} bytes; expected a header of {_HEAD.size} or more")
    layout, tag, kind, exponent = _HEAD.unpack_from(data)
    n_axes, code = (kind >> 4) + 1, kind & 15
    if layout != _LAYOUT or tag != family or n_axes > _MAX_AXES or code >= len(_DTYPES):
        raise StreamError(f"not a file of this codec: starts with {data[:3].hex()}")
    reader = ByteReader(data, "the file", _HEAD.size)
    dtype, shape = _DTYPES[code], tuple(reader.varint() for _ in range(n_axes))
    if min(shape) < 1 or math.prod(shape) * dtype.itemsize > MAX_ARRAY_BYTES:
        raise StreamError(f"a shape of {shape}; expected 1 to {MAX_ARRAY_BYTES} bytes")
    header = data[: reader.at]
    (crc,) = _CRC.unpack(reader.take(_CRC.size))
    if zlib.crc32(memoryview(data)[reader.at :], zlib.crc32(header)) != crc:
        raise StreamError("damaged: the checksum differs")
    n_streams = count(shape)
    if n_streams > len(data):
        raise StreamError(f"{len(data)} bytes for {n_streams} streams")
    lengths = [reader.varint() for _ in range(n_streams - 1)]
    streams = (*map(reader.take, lengths), reader.rest())
    return _File(dtype, shape, exponent, streams)


def _checked(array: Array) -> Array:
    """A contiguous array in native byte order."""
    array = np.asarray(array)
    dtype = array.dtype.newbyteorder("=")
    if dtype not in _DTYPES or not 1 <= array.ndim <= _MAX_AXES or array.size == 0:
        raise MediaError(
            f"an array of {array.dtype} {array.shape}; expected float32, float64 or integers, 1 to 4 axes, not empty"
        )
    if array.nbytes > MAX_ARRAY_BYTES:
        raise MediaError(f"an array of {array.nbytes} bytes; expected at most {MAX_ARRAY_BYTES}: cut it into parts")
    return np.ascontiguousarray(array, dtype)


# ---- one interface for all


class _Coder(Protocol):
    """One library that turns arrays into streams and back. tag: the family in our header. dims: most axes of one
    stream."""

    @property
    def lossless(self) -> bool: ...
    @property
    def tag(self) -> int: ...
    @property
    def dims(self) -> int: ...

    def prepare(self, array: Array) -> tuple[Array, Any]:
        """The array as the library wants it, and what `encode` needs to know of the whole. MediaError if unfit."""
        ...

    def encode(self, part: Array, known: Any) -> bytes: ...

    def decode(self, stream: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """The array of a stream, of that shape; its type may be wider than dtype."""
        ...


@dataclass(frozen=True)
class _ArrayPeer:
    coder: _Coder

    def encode(self, value: Array) -> bytes:
        array = _checked(value)
        exponent, scaled = (0, array) if self.coder.lossless else _near_one(array)
        carried, known = self.coder.prepare(scaled)
        parts = carried.reshape(-1, *array.shape[-self.coder.dims :]) if array.ndim > self.coder.dims else [carried]
        try:
            streams = [self.coder.encode(part, known) for part in parts]
        except CodecError:
            raise
        except Exception as error:  # the boundary to five libraries, each with its own exceptions
            raise MediaError(f"an array of {array.dtype} {array.shape} can't be encoded ({error})") from error
        return _pack(self.coder.tag, array, exponent, streams)

    def decode(self, data: bytes) -> Array:
        dims = self.coder.dims
        file = _unpack(self.coder.tag, data, lambda shape: math.prod(shape[: max(0, len(shape) - dims)]))
        part_shape = file.shape[-dims:]
        out = np.empty((len(file.streams), *part_shape), file.dtype)
        for part, stream in zip(out, file.streams, strict=True):
            try:
                decoded = self.coder.decode(stream, file.dtype, part_shape)
            except CodecError:
                raise
            except Exception as error:  # the boundary to five libraries, each with its own exceptions
                raise StreamError(f"can't be decoded, damaged? ({error})") from error
            if decoded.shape != part_shape:
                raise StreamError(f"a stream of shape {decoded.shape}; expected {part_shape}")
            if file.dtype.kind in "iu" and decoded.dtype != file.dtype:  # lossy, so it may leave the range of the type
                limits = np.iinfo(file.dtype)
                decoded = np.clip(decoded, limits.min, limits.max)
            if file.exponent and file.dtype.kind == "f":
                largest = np.finfo(file.dtype).max
                with np.errstate(over="ignore"):  # the error may carry the largest beyond the type
                    decoded = np.clip(np.ldexp(decoded, file.exponent), -largest, largest)
            part[...] = decoded
        return out.reshape(file.shape)


def _near_one(array: Array) -> tuple[int, Array]:
    """The power of two that was taken out of the array, and the array without it."""
    if array.dtype.kind != "f":
        return 0, array
    largest = float(np.abs(array).max())
    if not math.isfinite(largest):
        raise MediaError("an array with NaN or infinity, which a lossy codec would turn into anything: fill it first")
    exponent = math.frexp(largest)[1]
    if abs(exponent) <= _EXPONENT:
        return 0, array
    for step in (exponent // 2, exponent - exponent // 2):  # 2**-exponent itself may be too large a factor
        array = np.ldexp(array, -step)
    return exponent, array


def _float_bound(array: Array, rel: float, name: str) -> float:
    if array.dtype.kind != "f":
        raise MediaError(f"an array of {array.dtype}; {name} with an error bound takes float32 and float64: convert it")
    return error_bound(array, rel)


# ---- zfp


_ZFP_ROOM = {np.dtype("i4"): 30, np.dtype("i8"): 62}


@dataclass(frozen=True)
class _Zfp:
    mode: str  # tolerance, rate or precision, as zfpy calls them
    value: float
    dims: int
    tag: int = 1
    lossless: bool = False

    def prepare(self, array: Array) -> tuple[Array, float]:
        if self.mode == "tolerance":
            return array, _float_bound(array, self.value, "zfp")
        if array.dtype.kind != "f":
            room = _ZFP_ROOM.get(array.dtype)
            if room is None:
                raise MediaError(f"an array of {array.dtype}; zfp takes float32, float64, int32 and int64: convert it")
            if array.min() <= -(1 << room) or array.max() >= 1 << room:
                raise MediaError(f"{array.dtype} values beyond 2**{room}, which zfp's transform has no room for")
        return array, self.value

    def encode(self, part: Array, known: float) -> bytes:
        import zfpy

        part = np.ascontiguousarray(part)
        if self.mode == "tolerance":
            return zfpy.compress_numpy(part, tolerance=known)
        if self.mode == "rate":
            return zfpy.compress_numpy(part, rate=known)
        return zfpy.compress_numpy(part, precision=int(known))

    def decode(self, stream: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        import zfpy

        head = zfpy.header(stream)
        sides = tuple(n for n in (head["nw"], head["nz"], head["ny"], head["nx"]) if n)
        if sides != shape:
            raise StreamError(f"zfp has an array of {sides}; expected {shape}")
        decoded = zfpy.decompress_numpy(stream)
        if decoded.dtype != dtype:
            raise StreamError(f"zfp has an array of {decoded.dtype}; expected {dtype}")
        return decoded


def _make_zfp(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    return _ArrayPeer(_Zfp("tolerance", float(settings["rel"]), int(settings["dims"])))


def _make_zfp_rate(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    return _ArrayPeer(_Zfp("rate", float(settings["bpv"]), int(settings["dims"])))


def _make_zfp_precision(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    return _ArrayPeer(_Zfp("precision", float(settings["planes"]), int(settings["dims"])))


# ---- SZ3


@dataclass(frozen=True)
class _Sz3:
    rel: float
    algorithm: str
    dims: int
    tag: int = 2
    lossless: bool = False

    def prepare(self, array: Array) -> tuple[Array, float]:
        if array.dtype.kind == "f":
            return array, _float_bound(array, self.rel, "SZ3")
        bound = error_bound(array, self.rel)
        low, high = array.min().item(), array.max().item()
        if max(-low, high) >= 1 << 53:
            raise MediaError(f"{array.dtype} values beyond 2**53; SZ3 counts in float64: use a lossless codec")
        return array.astype(_sz3_carrier(array)), bound

    def encode(self, part: Array, known: float) -> bytes:
        import pysz

        names = {"interp-lorenzo": "INTERP_LORENZO", "interp": "INTERP", "lorenzo": "LORENZO_REG"}
        part = np.ascontiguousarray(part)
        config = pysz.szConfig(part.shape)
        config.errorBoundMode = pysz.szErrorBoundMode.ABS
        config.absErrorBound = known
        config.cmprAlgo = getattr(pysz.szAlgorithm, names[self.algorithm])
        stream, _ = pysz.sz.compress(part, config)
        return bytes([part.dtype == np.int64]) + stream.tobytes() if part.dtype.kind == "i" else stream.tobytes()

    def decode(self, stream: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        import pysz

        if dtype.kind != "f":
            if not stream or stream[0] > 1:
                raise StreamError("SZ3 integers of an unknown width")
            dtype, stream = np.dtype(np.int64 if stream[0] else np.int32), stream[1:]
        decoded, _ = pysz.sz.decompress(np.frombuffer(stream, np.uint8), dtype, shape)
        return decoded


def _sz3_carrier(array: Array) -> type[np.signedinteger[Any]]:
    """The type that integers are handed to SZ3 in: int32 if sums of a few values fit it, else int64."""
    return np.int32 if max(-array.min().item(), array.max().item()) < 1 << 27 else np.int64


def _make_sz3(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    return _ArrayPeer(_Sz3(float(settings["rel"]), str(settings["algorithm"]), int(settings["dims"])))


# ---- SPERR


@dataclass(frozen=True)
class _Sperr:
    rel: float
    threads: int
    dims: int = 3
    tag: int = 3
    lossless: bool = False

    def prepare(self, array: Array) -> tuple[Array, float]:
        return array, _float_bound(array, self.rel, "SPERR")

    def encode(self, part: Array, known: float) -> bytes:
        import imagecodecs

        part = np.ascontiguousarray(part.reshape(_sperr_shape(part.shape)))
        return bytes(imagecodecs.sperr_encode(part, known, "pwe", numthreads=self.threads))

    def decode(self, stream: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        import imagecodecs

        flat = _sperr_shape(shape)
        return imagecodecs.sperr_decode(stream, shape=flat, dtype=dtype, numthreads=self.threads).reshape(shape)


def _sperr_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Two or three axes: it aborts the process on (1, n, m), and knows nothing of one axis."""
    sides = tuple(side for side in shape if side > 1)
    return sides if len(sides) > 1 else (1, *(sides or (1,)))


def _make_sperr(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    return _ArrayPeer(_Sperr(float(settings["rel"]), threads))


# ---- lossless


@dataclass(frozen=True)
class _Blosc2:
    level: int
    shuffle: str
    threads: int
    dims: int = _MAX_AXES
    tag: int = 4
    lossless: bool = True

    def prepare(self, array: Array) -> tuple[Array, None]:
        return array, None

    def encode(self, part: Array, known: None) -> bytes:
        import imagecodecs

        filters = {"bit": "bitshuffle", "byte": "shuffle", "none": "noshuffle"}
        return bytes(
            imagecodecs.blosc2_encode(
                part.tobytes(),
                self.level,
                compressor="zstd",
                shuffle=filters[self.shuffle],
                typesize=part.itemsize,
                numthreads=self.threads,
            )
        )

    def decode(self, stream: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        import imagecodecs

        raw = imagecodecs.blosc2_decode(stream, numthreads=self.threads, out=math.prod(shape) * dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(shape)


def _make_blosc2(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    return _ArrayPeer(_Blosc2(int(settings["level"]), str(settings["shuffle"]), threads))


@dataclass(frozen=True)
class _Pcodec:
    level: int
    dims: int = _MAX_AXES
    tag: int = 5
    lossless: bool = True

    def prepare(self, array: Array) -> tuple[Array, None]:
        return array, None

    def encode(self, part: Array, known: None) -> bytes:
        pcodec: Any = import_module("pcodec")  # a compiled module that type checkers can't see into
        config = pcodec.ChunkConfig(compression_level=self.level, enable_8_bit=True)
        return pcodec.standalone.simple_compress(part.reshape(-1), config)

    def decode(self, stream: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        pcodec: Any = import_module("pcodec")
        out = np.empty(math.prod(shape), dtype)
        progress = pcodec.standalone.simple_decompress_into(stream, out)
        if not progress.finished or progress.n_processed != out.size:
            raise StreamError(f"{progress.n_processed} values; expected {out.size}")
        return out.reshape(shape)


def _make_pcodec(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    return _ArrayPeer(_Pcodec(int(settings["level"])))


@dataclass(frozen=True)
class _Zstd:
    level: int
    shuffle: str
    dims: int = _MAX_AXES
    tag: int = 6
    lossless: bool = True

    def prepare(self, array: Array) -> tuple[Array, None]:
        return array, None

    def encode(self, part: Array, known: None) -> bytes:
        import imagecodecs

        planes = part.reshape(-1).view(np.uint8)
        if self.shuffle == "byte":
            planes = np.ascontiguousarray(planes.reshape(-1, part.itemsize).T)
        return bytes([self.shuffle == "byte"]) + bytes(imagecodecs.zstd_encode(planes.tobytes(), self.level))

    def decode(self, stream: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        import imagecodecs

        if not stream or stream[0] > 1:
            raise StreamError("Zstandard with an unknown shuffle")
        n_bytes = math.prod(shape) * dtype.itemsize
        raw = np.frombuffer(imagecodecs.zstd_decode(stream[1:], out=n_bytes), np.uint8)
        if raw.size != n_bytes:
            raise StreamError(f"{raw.size} bytes; expected {n_bytes}")
        if stream[0]:
            raw = np.ascontiguousarray(raw.reshape(dtype.itemsize, -1).T)
        return raw.reshape(-1).view(dtype).reshape(shape)


def _make_zstd(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    return _ArrayPeer(_Zstd(int(settings["level"]), str(settings["shuffle"])))


# ---- what there is


def _missing(package: str, *codecs: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        if util.find_spec(package) is None:
            return f"{package} isn't installed: pip install 'codec-suite[eval]'"
        if codecs:
            module = import_module(package)
            lacking = [codec for codec in codecs if not getattr(getattr(module, codec), "available", False)]
            if lacking:
                return f"this build of {package} has no {', '.join(lacking)}: pip install {package}, the wheel has it"
        return None

    return missing


def _versions(package: str, *functions: str) -> Callable[[], Mapping[str, str]]:
    """A function for `Family.versions`. functions: those of imagecodecs that name the library behind it, such as
    "sperr 0.8.4"."""

    def versions() -> Mapping[str, str]:
        known = {package: metadata.version(package)}
        for function in functions:
            name, _, version = str(getattr(import_module(package), function)()).partition(" ")
            known[name] = version
        return known

    return versions


_REL = Option(1e-3, "largest error of any value, as a part of the array's range", 1e-12, 0.5)
_REL_SWEEP = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
_DIMS = Option(3, "axes that are coded together; leading ones are split", 1, 4)

FAMILIES: tuple[Family, ...] = (
    Family(
        name="zfp",
        medium="array",
        about="zfp, fixed accuracy: an absolute error bound; float32 and float64",
        options={"rel": _REL, "dims": _DIMS},
        make=_make_zfp,
        axis="rel",
        sweep=_REL_SWEEP,
        missing=_missing("zfpy"),
        versions=_versions("zfpy"),
    ),
    Family(
        name="zfp-rate",
        medium="array",
        about="zfp, fixed rate; floats, int32, int64",
        options={"bpv": Option(8, "bits per value", 1, 64), "dims": _DIMS},
        make=_make_zfp_rate,
        axis="bpv",
        sweep=(1, 2, 3, 4, 6, 8, 12, 16),
        missing=_missing("zfpy"),
        versions=_versions("zfpy"),
    ),
    Family(
        name="zfp-precision",
        medium="array",
        about="zfp, fixed precision: a number of bit planes, near to a relative error; floats, int32, int64",
        options={
            "planes": Option(
                16, "bit planes kept, from a block's largest value down; of integers, from the type's top", 1, 64
            ),
            "dims": _DIMS,
        },
        make=_make_zfp_precision,
        axis="planes",
        sweep=(4, 6, 8, 10, 12, 16, 20, 24),
        missing=_missing("zfpy"),
        versions=_versions("zfpy"),
    ),
    Family(
        name="sz3",
        medium="array",
        about="SZ3: an absolute error bound; floats and integers; one thread",
        options={
            "rel": _REL,
            "algorithm": Option("interp-lorenzo", "prediction", choices=("interp-lorenzo", "interp", "lorenzo")),
            "dims": _DIMS,
        },
        make=_make_sz3,
        axis="rel",
        sweep=_REL_SWEEP,
        missing=_missing("pysz"),
        versions=_versions("pysz"),
    ),
    Family(
        name="sperr",
        medium="array",
        about="SPERR, wavelets with a point-wise error bound; float32 and float64; 2 or 3 axes together",
        options={"rel": _REL},
        make=_make_sperr,
        axis="rel",
        sweep=_REL_SWEEP,
        missing=_missing("imagecodecs", "SPERR"),
        versions=_versions("imagecodecs", "sperr_version"),
    ),
    Family(
        name="blosc2",
        medium="array",
        about="Blosc2 with Zstandard, lossless",
        options={
            "level": Option(9, "0 stores, 9 is smallest", 0, 9),
            "shuffle": Option("bit", "what is put together before", choices=("bit", "byte", "none")),
        },
        make=_make_blosc2,
        lossless=True,
        missing=_missing("imagecodecs", "BLOSC2"),
        versions=_versions("imagecodecs", "blosc2_version"),
    ),
    Family(
        name="pcodec",
        medium="array",
        about="pcodec (Pco), lossless, for sequences of numbers: sees an array as one long row",
        options={"level": Option(8, "0 fast, 12 smallest", 0, 12)},
        make=_make_pcodec,
        lossless=True,
        missing=_missing("pcodec"),
        versions=_versions("pcodec"),
    ),
    Family(
        name="zstd",
        medium="array",
        about="Zstandard, lossless",
        options={
            "level": Option(19, "1 fast, 22 smallest", 1, 22),
            "shuffle": Option("none", "bytes of equal weight put together before", choices=("none", "byte")),
        },
        make=_make_zstd,
        lossless=True,
        missing=_missing("imagecodecs", "ZSTD"),
        versions=_versions("imagecodecs", "zstd_version"),
    ),
)
