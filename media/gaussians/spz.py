"""SPZ files (Niantic Labs, MIT): Gaussians of some 20 bytes, quantised. Versions 1 to 4 are read, 3 and 4 written.

Versions 1 to 3 are a gzip stream of a header of 16 bytes and an attribute behind the other; version 4 is a header of 32
bytes, extensions, a table of contents and a zstd frame for each attribute. A table keeps the integers of the file, but
for signs of magnitudes, which become an offset: the smaller three of a rotation are 0 to 1023 around 511.5.

The axes of a file are right, up, back; a PLY file has right, down, front. As the reference and SplatTransform do, the
values that come out of here have the axes of PLY, and those that go in are taken to have them.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from ...container import Value
from ...errors import MediaError
from ..notes import Note
from .exact import float32_of, logit_of_byte, ordered, sigmoid, unordered
from .layouts import Part, harmonics, integer, payload
from .limits import MAX_GAUSSIANS, check_count
from .values import MAX_DEGREE, Column, Gaussians, Table, coefficients_of

__all__ = ["MAGIC", "count_of", "layout", "quantise", "read", "values", "write"]

MAGIC = b"NGSP"
FORM = "spz"
_GZIP = b"\x1f\x8b"
_OLD_HEADER, _HEADER, _ENTRY = 16, 32, 16  # bytes
_EXTENDED = 0x02  # in the flags: there are extensions
_MAX_EXTENSIONS = 1 << 16  # bytes
_AXES = 0xADBE0003  # the extension that names the axes, by Adobe
_RUB, _RDF, _STANDARD = 4, 6, range(1, 9)  # numbers of systems of axes: of SPZ, of PLY, and those that signs can turn
_LEVEL = 12  # of zstd
_WINDOW = 1 << 23  # bytes that any frame may refer back to
_FRACTION = 12  # bits, as the reference has it
_COLOUR = np.float32(0.15)
_SQRT_HALF = np.float32(0.70710678118654752440)
_MAGNITUDE = 511
_SH_BITS = (5, 4)  # that are kept of the harmonics of degree 1, and of those above
# Which axes turn the sign of each harmonic of degree 1 to 4: its factors of x, y and z, in the order of the file. The
# last has none, but the reference turns it with y: files that it made from a PLY file need the same.
_SIGNS = (
    *("y", "z", "x"),
    *("xy", "yz", "1", "xz", "1"),
    *("y", "xyz", "y", "z", "x", "z", "x"),
    *("xy", "yz", "xy", "yz", "1", "xz", "1", "xz", "y"),
)


def count_of(start: bytes) -> int | None:
    """The number of Gaussians in an SPZ file that begins like this; None if it begins otherwise, or too little is here.

    start: some hundred bytes of it.
    """
    if start.startswith(_GZIP):
        try:
            start = zlib.decompressobj(31).decompress(start, _OLD_HEADER)
        except zlib.error:
            return None
    return struct.unpack_from("<I", start, 8)[0] if start.startswith(MAGIC) and len(start) >= 12 else None


# ---- reading


def read(data: bytes) -> tuple[Table, tuple[Note, ...]]:
    """The integers of an SPZ file, and notes. MediaError for anything else, or a damaged one."""
    if data.startswith(MAGIC):
        version, n, detail, streams = _read_new(data)
    else:
        version, n, detail, streams = _read_old(data)
    coefficients = coefficients_of(int(detail["degree"]))  # type: ignore[arg-type]
    columns = [
        _position(streams[0], n, version),
        Column("opacity", _bytes_of(streams[1], n, 1), (8,)),
        Column("colour", _bytes_of(streams[2], n, 3), (8,) * 3),
        Column("scale", _bytes_of(streams[3], n, 3), (8,) * 3),
        _rotation(streams[4], n, version),
    ]
    if coefficients > 1:
        columns.append(
            Column("harmonics", _bytes_of(streams[5], n, 3 * (coefficients - 1)), (8,) * 3 * (coefficients - 1))
        )
    return Table(FORM, tuple(columns), detail=detail), _notes(detail)


def _check_head(version: int, versions: range, degree: int, bits: int) -> None:
    if version not in versions:
        raise MediaError(f"SPZ of version {version}; expected one of 1 to 4")
    if degree > MAX_DEGREE:
        raise MediaError(f"an SPZ file with harmonics of degree {degree}; expected 0 to {MAX_DEGREE}: is it damaged?")
    if bits > 23:
        raise MediaError(f"an SPZ file whose positions have {bits} bits behind the point, of 24: is it damaged?")


def _sizes(n: int, version: int, degree: int) -> list[int]:
    """The bytes of each attribute: positions, opacities, colours, scales, rotations, harmonics."""
    harmonics = 3 * (coefficients_of(degree) - 1)
    each = (6 if version == 1 else 9, 1, 3, 3, 4 if version >= 3 else 3, harmonics)
    return [n * size for size in each]


def _read_old(data: bytes) -> tuple[int, int, dict[str, Value], list[bytes]]:
    """Versions 1 to 3: the version, the number of Gaussians, the detail and the attributes."""
    inflate = zlib.decompressobj(31)
    try:
        head = inflate.decompress(data, _OLD_HEADER)
        if len(head) < _OLD_HEADER or not head.startswith(MAGIC):
            raise MediaError("not an SPZ file: what gzip packed doesn't begin with NGSP")
        version, n, degree, bits, flags, _ = struct.unpack("<IIBBBB", head[4:])
        _check_head(version, range(1, 4), degree, bits)
        sizes = _sizes(n, version, degree)
        check_count(n, sum(sizes) // max(n, 1), len(data), packed=True)
        body = inflate.decompress(inflate.unconsumed_tail, sum(sizes) + _MAX_EXTENSIONS + 1)
    except zlib.error as error:
        raise MediaError(f"a damaged SPZ file ({error})") from None
    if not inflate.eof:
        raise MediaError("an SPZ file that is cut, or has more in it than its header says")
    left = len(body) - sum(sizes)
    if left < 0 or (left and not flags & _EXTENDED):
        raise MediaError(f"an SPZ file with {len(body)} bytes of Gaussians; expected {sum(sizes)}: is it damaged?")
    detail = _detail(version, degree, bits, flags, body[len(body) - left :])
    return version, n, detail, _split(body[: len(body) - left], sizes)


def _split(data: bytes, sizes: list[int]) -> list[bytes]:
    ends = np.cumsum([0, *sizes])
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def _read_new(data: bytes) -> tuple[int, int, dict[str, Value], list[bytes]]:
    """Version 4: the same."""
    if len(data) < _HEADER:
        raise MediaError(f"an SPZ file that is cut: {len(data)} bytes")
    version, n, degree, bits, flags, n_streams, start = struct.unpack_from("<IIBBBBI", data, 4)
    _check_head(version, range(4, 5), degree, bits)
    sizes = _sizes(n, version, degree)
    check_count(n, sum(sizes) // max(n, 1), len(data), packed=True)
    if not _HEADER <= start <= _HEADER + _MAX_EXTENSIONS:
        raise MediaError(f"an SPZ file whose table of contents is at byte {start}: is it damaged?")
    table = data[start : start + _ENTRY * n_streams]
    if len(table) < _ENTRY * n_streams or n_streams not in (5, 6) or n_streams < 5 + (degree > 0):
        raise MediaError(f"an SPZ file that is cut, or damaged: {n_streams} attributes; expected 5 or 6")
    entries = list(struct.iter_unpack("<QQ", table))
    at, streams = start + len(table), []
    for (packed, size), expected in zip(entries, sizes, strict=False):
        if size != expected:
            raise MediaError(f"an SPZ file with an attribute of {size} bytes; expected {expected}: is it damaged?")
        if packed > len(data) - at:
            raise MediaError(f"an SPZ file that is cut: an attribute of {packed} bytes begins at byte {at}")
        streams.append(_unpacked(data[at : at + packed], expected))
        at += packed
    if at != len(data):
        raise MediaError(f"an SPZ file with {len(data) - at} bytes behind its end: is it damaged?")
    return version, n, _detail(version, degree, bits, flags, data[_HEADER:start]), streams


def _unpacked(frame: bytes, expected: int) -> bytes:
    """A zstd frame, which must hold so many bytes."""
    if expected == 0 and not frame:
        return b""
    try:
        window = max(_WINDOW, 1 << expected.bit_length())
        with zstandard.ZstdDecompressor(max_window_size=window).stream_reader(frame) as inflate:
            data = inflate.read(expected + 1)  # no more, whatever a bomb holds
    except (zstandard.ZstdError, MemoryError) as error:
        raise MediaError(f"a damaged SPZ file ({error})") from None
    if len(data) != expected:
        more = "more than " if len(data) > expected else ""
        raise MediaError(
            f"an SPZ file with a damaged attribute: {more}{min(len(data), expected)} bytes; expected {expected}"
        )
    return data


def _detail(version: int, degree: int, bits: int, flags: int, extensions: bytes) -> dict[str, Value]:
    detail: dict[str, Value] = {"version": version, "degree": degree, "fractional_bits": bits, "flags": flags}
    if extensions:
        detail["extensions"] = extensions
    _axes(detail)  # refused at once, if they can't be turned
    return detail


def _extensions(detail: Mapping[str, Any]) -> list[tuple[int, bytes]]:
    """The extensions of a file: type and payload. MediaError if their lengths can't be."""
    data, records, at = bytes(detail.get("extensions", b"")), [], 0
    while at < len(data):
        if len(data) - at < 8:
            raise MediaError("an SPZ file whose extensions are cut")
        kind, size = struct.unpack_from("<II", data, at)
        if size > len(data) - at - 8:
            raise MediaError(f"an SPZ file whose extension {kind:#x} is cut")
        records.append((kind, data[at + 8 : at + 8 + size]))
        at += 8 + size
    return records


def _axes(detail: Mapping[str, Any]) -> int:
    """The number of the system of axes that a file has. MediaError for one that signs can't turn into that of PLY."""
    for kind, content in _extensions(detail):
        if kind == _AXES:
            number = int.from_bytes(content[:4], "little")
            if number not in (0, *_STANDARD):
                raise MediaError(
                    f"an SPZ file with axes of kind {number}, which are turned by 90 degrees; expected 0 to 8: "
                    "save it with the usual axes (right, up, back)"
                )
            return number or _RDF
    return _RUB


def _notes(detail: Mapping[str, Any]) -> tuple[Note, ...]:
    if others := sorted({kind for kind, _ in _extensions(detail)} - {_AXES}):
        names = ", ".join(f"{kind:#x}" for kind in others[:5])
        return (Note("structure", f"extensions of the SPZ file ({names}) are of no effect here"),)
    return ()


def _bytes_of(data: bytes, n: int, width: int) -> NDArray[np.int32]:
    return np.frombuffer(data, np.uint8).reshape(n, width).astype(np.int32)


def _position(data: bytes, n: int, version: int) -> Column:
    """Fixed-point numbers of 24 bits; in version 1 the bits of float16, in their order."""
    if version == 1:
        return Column("position", ordered(np.frombuffer(data, "<i2").astype(np.int16)).reshape(n, 3), (16,) * 3)
    parts = np.frombuffer(data, np.uint8).reshape(n, 3, 3).astype(np.int32)
    unsigned = parts[..., 0] | parts[..., 1] << 8 | parts[..., 2] << 16
    return Column("position", (unsigned ^ 1 << 23) - (1 << 23), (24,) * 3)


def _rotation(data: bytes, n: int, version: int) -> Column:
    """Versions 3 and 4: the index of the largest of x, y, z, w, and the others. Before: x, y and z of 8 bits each."""
    if version < 3:
        return Column("rotation", _bytes_of(data, n, 3), (8,) * 3)
    packed = np.frombuffer(data, "<u4").astype(np.int64)
    parts = np.stack([packed >> 30, *(packed >> shift & 1023 for shift in (20, 10, 0))], axis=1).astype(np.int32)
    signed = parts[:, 1:]
    parts[:, 1:] = np.where(signed > _MAGNITUDE, _MAGNITUDE - (signed & _MAGNITUDE), _MAGNITUDE + 1 + signed)
    return Column("rotation", parts, (2, 10, 10, 10))


def layout(detail: Mapping[str, Value]) -> tuple[Part, ...]:
    """The columns of a table of this detail. MediaError for a detail that no SPZ file has."""
    version = integer(detail, "version", 1, 4)
    integer(detail, "fractional_bits", 0, 23)
    integer(detail, "flags", 0, 255)
    if "extensions" in detail and len(payload(detail, "extensions")) > _MAX_EXTENSIONS:
        raise MediaError(f"SPZ extensions of more than {_MAX_EXTENSIONS} bytes")
    _axes(detail)
    return (
        Part("position", (16 if version == 1 else 24,) * 3, signed=True),
        Part("opacity", (8,)),
        Part("colour", (8,) * 3),
        Part("scale", (8,) * 3),
        Part("rotation", (8,) * 3 if version < 3 else (2, 10, 10, 10)),
        *harmonics(integer(detail, "degree", 0, MAX_DEGREE)),
    )


# ---- the values


def values(table: Table) -> Gaussians:
    """The Gaussians of a table that came from SPZ, with the axes of PLY: float32 as the reference computes them."""
    detail: Mapping[str, Any] = table.detail
    n, version = len(table), detail["version"]
    turn = _turn(_axes(detail))
    position = table.column("position").values
    if version == 1:
        held = unordered(position, np.int16).view(np.float16).astype(np.float32)
    else:
        held = position.astype(np.float32) * np.float32(2.0 ** -int(detail["fractional_bits"]))
    rotation = table.column("rotation").values
    xyzw = _first_three(rotation) if version < 3 else _smallest_three(rotation)
    x, y, z = turn
    xyzw[:, :3] *= np.array([y * z, x * z, x * y], np.float32)
    harmonics = np.empty((n, coefficients_of(detail["degree"]), 3), np.float32)
    colour = table.column("colour").values.astype(np.float32)
    harmonics[:, 0] = (colour / np.float32(255) - np.float32(0.5)) / _COLOUR
    if harmonics.shape[1] > 1:
        rest = table.column("harmonics").values.astype(np.float32).reshape(n, -1, 3)
        harmonics[:, 1:] = (rest - np.float32(128)) / np.float32(128) * _signs(turn, harmonics.shape[1] - 1)
    return Gaussians(
        held * np.array(turn, np.float32),
        float32_of(table.column("scale").values / 16 - 10),
        np.ascontiguousarray(xyzw[:, [3, 0, 1, 2]]),
        logit_of_byte(table.column("opacity").values[:, 0]),
        harmonics,
    )


def _turn(axes: int) -> tuple[int, int, int]:
    """The sign of each axis that leads from a system of axes to that of PLY, and back."""
    differ = (axes - 1) ^ (_RDF - 1)
    return (1 - 2 * (differ & 1), 1 - (differ & 2), 1 - (differ & 4) // 2)


def _signs(turn: tuple[int, int, int], n: int) -> NDArray[np.float32]:
    """The signs, as (n, 1), of harmonics from degree 1 on where axes are turned."""
    of = dict(zip("xyz1", (*turn, 1), strict=True))
    return np.array([[np.prod([of[letter] for letter in factors])] for factors in _SIGNS[:n]], np.float32)


def _first_three(rotation: NDArray[np.int32]) -> NDArray[np.float32]:
    """Quaternions x, y, z, w of version 2."""
    xyz = rotation.astype(np.float32) * np.float32(1.0 / 127.5) - np.float32(1)
    squares = (xyz[:, 0] * xyz[:, 0] + xyz[:, 1] * xyz[:, 1]) + xyz[:, 2] * xyz[:, 2]
    w = np.sqrt(np.maximum(np.float32(1) - squares, np.float32(0)))
    return np.concatenate([xyz, w[:, None]], axis=1)


def _smallest_three(rotation: NDArray[np.int32]) -> NDArray[np.float32]:
    """Quaternions x, y, z, w of versions 3 and 4."""
    offset = rotation[:, 1:]
    negative = offset <= _MAGNITUDE
    size = np.where(negative, _MAGNITUDE - offset, offset - _MAGNITUDE - 1).astype(np.float32)
    small = _SQRT_HALF * size / np.float32(_MAGNITUDE)
    small = np.where(negative, -small, small)
    squares = (small[:, 2] * small[:, 2] + small[:, 1] * small[:, 1]) + small[:, 0] * small[:, 0]
    large = np.sqrt(np.maximum(np.float32(1) - squares, np.float32(0)))
    xyzw = np.empty((len(rotation), 4), np.float32)
    rows = np.arange(len(rotation))
    for k in range(3):
        xyzw[rows, k + (k >= rotation[:, 0])] = small[:, k]
    xyzw[rows, rotation[:, 0]] = large
    return xyzw


# ---- from values to integers


def quantise(gaussians: Gaussians, version: int = 4) -> Table:
    """The integers of an SPZ file that holds these Gaussians, as the reference rounds them.

    Positions have 12 bits behind the point, or fewer where the scene is so large that they don't fit into 24 bits.
    MediaError for values that aren't finite.
    """
    n, coefficients = len(gaussians), gaussians.harmonics.shape[1]
    turn = _turn(_RUB)
    x, y, z = turn
    if not all(np.isfinite(array).all() for array in (gaussians.positions, gaussians.rotations, gaussians.harmonics)):
        raise MediaError("positions, rotations or harmonics that aren't finite can't be written as SPZ: write PLY")
    largest = float(np.abs(gaussians.positions).max(initial=0))
    bits = next((bits for bits in range(_FRACTION, -1, -1) if largest * 2.0**bits < (1 << 23) - 1), None)
    if bits is None:
        raise MediaError(f"a position of {largest:.3g} is too large for SPZ, whose largest is {1 << 23}: write PLY")
    fixed = _rounded(gaussians.positions.astype(np.float64) * np.array(turn) * 2.0**bits)
    rest = gaussians.harmonics[:, 1:] * _signs(turn, coefficients - 1) if coefficients > 1 else None
    wxyz = gaussians.rotations * np.array([1, y * z, x * z, x * y], np.float32)
    columns = [
        Column("position", fixed, (24,) * 3),
        Column("opacity", _byte(sigmoid(np.nan_to_num(gaussians.opacities)) * 255)[:, None], (8,)),
        Column("colour", _byte(gaussians.harmonics[:, 0].astype(np.float64) * (0.15 * 255) + 0.5 * 255), (8,) * 3),
        Column("scale", _byte((np.nan_to_num(gaussians.scales).astype(np.float64) + 10) * 16), (8,) * 3),
        Column("rotation", _packed_rotation(wxyz), (2, 10, 10, 10)),
    ]
    if rest is not None:
        columns.append(Column("harmonics", _packed_harmonics(rest).reshape(n, -1), (8,) * 3 * (coefficients - 1)))
    detail = {"version": version, "degree": gaussians.degree, "fractional_bits": bits, "flags": 0}
    return Table(FORM, tuple(columns), detail=detail)


def _rounded(x: NDArray[np.float64]) -> NDArray[np.int32]:
    """The nearest integers; halves away from zero, as in C."""
    return (np.sign(x) * np.floor(np.abs(x) + 0.5)).astype(np.int32)


def _byte(x: NDArray[np.float64]) -> NDArray[np.int32]:
    return _rounded(np.clip(x, 0, 255))


def _packed_rotation(wxyz: NDArray[np.float32]) -> NDArray[np.int32]:
    xyzw = wxyz[:, [1, 2, 3, 0]].astype(np.float64)
    length = np.sqrt((xyzw[:, 0] ** 2 + xyzw[:, 1] ** 2) + (xyzw[:, 2] ** 2 + xyzw[:, 3] ** 2))
    xyzw[length == 0] = (0, 0, 0, 1)
    xyzw /= np.where(length == 0, 1, length)[:, None]
    largest = np.argmax(np.abs(xyzw), axis=1)
    rows = np.arange(len(xyzw))
    negate = xyzw[rows, largest] < 0
    parts = [largest]
    for k in range(3):
        part = xyzw[rows, k + (k >= largest)]
        size = np.minimum(np.floor(_MAGNITUDE * (np.abs(part) / 0.70710678118654752440) + 0.5), _MAGNITUDE)
        parts.append(np.where((part < 0) ^ negate, _MAGNITUDE - size, _MAGNITUDE + 1 + size).astype(np.int64))
    return np.stack(parts, axis=1).astype(np.int32)


def _packed_harmonics(rest: NDArray[np.float32]) -> NDArray[np.int32]:
    """Harmonics from degree 1 on, as (N, K, 3), rounded to multiples of 8 (degree 1) and 16 around 128."""
    value = _rounded(np.clip(rest.astype(np.float64), -4, 4) * 128) + 128
    for part, bits in zip((slice(0, 3), slice(3, None)), _SH_BITS, strict=True):
        step = 1 << (8 - bits)
        value[:, part] = (value[:, part] + step // 2) // step * step
    return np.clip(value, 0, 255)


# ---- writing


def write(table: Table, version: int | None = None) -> bytes:
    """The SPZ file of a table: the same integers, whatever wrote them first. version: another one, 3 for 4 or back."""
    held: Mapping[str, Any] = table.detail
    version = int(held["version"]) if version is None else version
    if not 1 <= version <= 4 or (version != held["version"] and min(version, held["version"]) < 3):
        raise MediaError(f"SPZ of version {held['version']} can't be written as version {version}; expected the same")
    n = len(table)
    if n > MAX_GAUSSIANS:
        raise MediaError(f"{n} Gaussians; expected at most {MAX_GAUSSIANS}")
    streams = [_position_bytes(table.column("position").values, version)]
    streams += [table.column(role).values.astype(np.uint8).tobytes() for role in ("opacity", "colour", "scale")]
    streams.append(_rotation_bytes(table.column("rotation").values, version))
    if held["degree"]:
        streams.append(table.column("harmonics").values.astype(np.uint8).tobytes())
    extensions = held.get("extensions", b"")
    head = [version, n, held["degree"], held["fractional_bits"], held["flags"]]
    if version < 4:
        body = b"".join([MAGIC, struct.pack("<IIBBBB", *head, 0), *streams, extensions])
        deflate = zlib.compressobj(6, zlib.DEFLATED, 31)
        return deflate.compress(body) + deflate.flush()
    pack = zstandard.ZstdCompressor(level=_LEVEL)
    frames = [pack.compress(stream) for stream in streams]
    toc = b"".join(struct.pack("<QQ", len(f), len(s)) for f, s in zip(frames, streams, strict=True))
    start = struct.pack("<IIBBBBI", *head, len(streams), _HEADER + len(extensions)) + bytes(12)
    return b"".join([MAGIC, start, extensions, toc, *frames])


def _position_bytes(position: NDArray[np.int32], version: int) -> bytes:
    if version == 1:
        return unordered(position, np.int16).astype("<i2").tobytes()
    return position.astype("<i4").view(np.uint8).reshape(-1, 3, 4)[..., :3].tobytes()


def _rotation_bytes(rotation: NDArray[np.int32], version: int) -> bytes:
    if version < 3:
        return rotation.astype(np.uint8).tobytes()
    offset = rotation[:, 1:]
    signed = np.where(offset <= _MAGNITUDE, _MAGNITUDE - offset | 1 << 9, offset - _MAGNITUDE - 1).astype(np.uint32)
    packed = rotation[:, 0].astype(np.uint32) << 30 | signed[:, 0] << 20 | signed[:, 1] << 10 | signed[:, 2]
    return packed.astype("<u4").tobytes()
