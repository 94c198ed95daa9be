"""Integer arrays and tables as files: IDX, NPY, CSV, PNG pictures and folders of them; read and written exactly.

The first axis of an array counts its items. Readers are strict: sizes are checked before anything is allocated, and a
file that can't be written again byte for byte is refused with the reason. Of IDX, NPY and CSV every byte comes back (of
a .gz file the bytes inside it); of PNG pictures the samples and the names of the files. Nothing here can run code: the
header of an NPY file is matched, not evaluated, and arrays of objects are refused.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError, UsageError
from ..files import naming, read_bytes
from . import ARRAY_WRITES
from .image import read_picture, write_picture
from .notes import Note
from .png import PNG, Palette, read_palette, write_palette
from .values import Picture

__all__ = ["MAX_BYTES", "ArrayFile", "read", "write"]

MAX_BYTES = 1 << 30  # of an array, and of a file
MAX_CELL = 255  # bytes of a cell of a table
MAX_AXES = 8

_IDX = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4"}
_IDX_FLOATS = (13, 14)
_NPY = b"\x93NUMPY"
_NPY_HEADER = re.compile(
    r"\{'descr': '([<>|=])([biu])([1248])', 'fortran_order': (False|True), "
    r"'shape': \(((?:\d{1,15}, ?)*\d{0,15})\), \} *\n",
    re.ASCII,
)
_DELIMITERS = (b",", b";", b"\t", b"|")
_NAME = re.compile(r"[^/\\\0-\x1f]{1,255}")


@dataclass(frozen=True, eq=False)
class ArrayFile:
    """An array, and the file that it came from.

    array: bool or integers of 1 to 4 bytes or int64, native byte order, any axes; a table is (rows, columns) of bytes.
    form: of ARRAY_FORMS. detail: what the file needs beside the values to be the same again. notes: what of the file
    isn't kept.
    """

    array: NDArray[Any]
    form: str = "array"
    detail: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


# ---- reading


def read(source: str | os.PathLike[str] | bytes) -> ArrayFile:
    """The array in a file (path), in a folder of PNG pictures, or in the bytes of a file; its content says what it is.

    MediaError for what can't be read, or couldn't be written again byte for byte.
    """
    if not isinstance(source, bytes):
        path = Path(source)
        if path.is_dir():
            return _read_folder(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise MediaError(f"{path} has more than {MAX_BYTES} bytes: cut it into parts")
            source = path.read_bytes()
        except OSError as error:
            raise MediaError(f"{path}: can't be read ({error.strerror or error})") from None
    if source.startswith(b"\x1f\x8b"):
        source = _gunzip(source)
    if source.startswith(_NPY):
        return _read_npy(source)
    if source.startswith(PNG):
        samples, palette, notes = _picture(source)
        detail = {} if palette is None else {"palette": _pack_palettes([palette])}
        return ArrayFile(samples[None], "picture", detail, notes)
    if source.startswith(b"\0\0") and len(source) >= 4:
        return _read_idx(source)
    return _read_csv(source)


def _gunzip(data: bytes) -> bytes:
    try:
        inflate = zlib.decompressobj(31)
        out = inflate.decompress(data, MAX_BYTES)
        if not inflate.eof or inflate.unused_data:
            raise MediaError(f"a gzip file that is cut, has several parts, or more than {MAX_BYTES} bytes in it")
    except zlib.error as error:
        raise MediaError(f"a damaged gzip file ({error})") from None
    return out


def _read_idx(data: bytes) -> ArrayFile:
    kind, n_axes = data[2], data[3]
    if kind in _IDX_FLOATS:
        raise MediaError("an IDX file of floating-point numbers; expected integers")
    if kind not in _IDX or not 1 <= n_axes <= MAX_AXES or len(data) < 4 + 4 * n_axes:
        raise MediaError(f"not an IDX file: type {kind:#x}, {n_axes} axes")
    shape = struct.unpack(f">{n_axes}I", data[4 : 4 + 4 * n_axes])
    dtype = np.dtype(_IDX[kind])
    body = memoryview(data)[4 + 4 * n_axes :]
    _check_size(shape, dtype, len(body))
    return ArrayFile(_native(np.frombuffer(body, dtype).reshape(shape)), "idx")


def _read_npy(data: bytes) -> ArrayFile:
    head, dtype, fortran, shape = _npy_head(data)
    body = memoryview(data)[len(head) :]
    _check_size(shape, dtype, len(body))
    array = np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")
    array = np.ascontiguousarray(_native(array)).reshape(shape)
    return ArrayFile(array, "npy", {} if _canonical_npy(array) == head else {"head": head})


def _npy_head(data: bytes) -> tuple[bytes, np.dtype[Any], bool, tuple[int, ...]]:
    """The bytes of an NPY header, and the type, the order (whether Fortran's) and the shape in it."""
    version = data[6:8]
    size = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}.get(bytes(version))
    if size is None or len(data) < 8 + size:
        raise MediaError("an NPY file that is cut, or of an unknown version")
    end = 8 + size + int.from_bytes(data[8 : 8 + size], "little")
    if end > min(len(data), 1 << 16):
        raise MediaError("an NPY file that is cut, or whose header is too long")
    match = _NPY_HEADER.fullmatch(data[8 + size : end].decode("latin-1"))
    if match is None:
        raise MediaError(
            "an NPY file of something else than whole numbers or booleans (or with an unusual header); expected bool, "
            "int8 to int64 or uint8 to uint32"
        )
    order, kind, n_bytes, fortran, text = match.groups()
    shape = tuple(int(side) for side in re.findall(r"\d+", text))
    if len(shape) > MAX_AXES or kind + n_bytes not in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4"):
        raise MediaError(f"an NPY file of type {kind}{n_bytes} with {len(shape)} axes; expected integers, no uint64")
    return bytes(data[:end]), np.dtype(order.replace("=", "<") + kind + n_bytes), fortran == "True", shape


def _canonical_npy(array: NDArray[Any]) -> bytes:
    """The header that NumPy writes for a contiguous array in little-endian order."""
    code = f"{'|' if array.dtype.itemsize == 1 else '<'}{array.dtype.kind}{array.dtype.itemsize}"
    sides = ", ".join(map(str, array.shape)) + ("," if array.ndim == 1 else "")
    text = f"{{'descr': '{code}', 'fortran_order': False, 'shape': ({sides}), }}"
    # NumPy leaves room for the first side to grow
    text += " " * (max(0, 21 - len(str(array.shape[0]))) if array.ndim else 0)
    return _padded(text)


def _padded(text: str) -> bytes:
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    return _NPY + b"\1\0" + struct.pack("<H", len(text)) + text.encode("ascii")


def _read_csv(data: bytes) -> ArrayFile:
    """The table in lines of equally many cells, parted by one of , ; tab |. A cell is its bytes, quotes and all."""
    if not data or b"\0" in data[: 1 << 16] or b"\0" in data:
        raise MediaError("expected an IDX, NPY, CSV or PNG file, or a folder of PNG pictures")
    newline = _newline(data)
    lines = data.split(newline)
    last = lines.pop() if data.endswith(newline) else None
    first = lines[0]
    delimiter = max(_DELIMITERS, key=first.count)
    n_columns = first.count(delimiter) + 1
    cells = [line.split(delimiter) for line in lines]
    for number, row in enumerate(cells):
        if len(row) != n_columns:
            raise MediaError(
                f"a table whose line {number + 1} has {len(row)} cells, and the first {n_columns} (parted by "
                f"{delimiter.decode()!r}): expected as many in each line, those inside quotes counted, too"
            )
    longest = max((len(cell) for row in cells for cell in row), default=0)
    if longest > MAX_CELL:
        raise MediaError(f"a table with a cell of {longest} bytes; expected at most {MAX_CELL}")
    detail = {"delimiter": delimiter, "newline": newline, "end": last is not None}
    return ArrayFile(np.array(cells, dtype=f"S{max(1, longest)}").reshape(len(cells), n_columns), "csv", detail)


def _newline(data: bytes) -> bytes:
    """The end of all lines. Where ends are mixed it is LF: the CR of some is then a part of their last cell."""
    if b"\n" not in data:
        return b"\r" if b"\r" in data else b"\n"
    return b"\r\n" if data.count(b"\r\n") == data.count(b"\n") else b"\n"


def _read_folder(path: Path) -> ArrayFile:
    names = sorted(item.name for item in path.iterdir() if item.suffix.lower() == ".png" and item.is_file())
    if not names:
        raise MediaError(f"{path}: no PNG pictures in this folder")
    arrays: list[NDArray[Any]] = []
    palettes: list[Palette] = []
    notes: dict[Note, int] = {}
    for name in names:
        with naming(path / name):
            samples, palette, more = _picture(read_bytes(path / name))
        notes |= {note: notes.get(note, 0) + 1 for note in more}
        if arrays and (palette is None) == bool(palettes):
            raise MediaError(
                f"{path}: {name} isn't like {names[0]}, as to whether it holds indices of a palette or samples: "
                "expected pictures of one size and kind"
            )
        palettes += [] if palette is None else [palette]
        if arrays and (samples.shape != arrays[0].shape or samples.dtype != arrays[0].dtype):
            raise MediaError(
                f"{path / name} is {samples.dtype} {samples.shape}, {names[0]} is {arrays[0].dtype} {arrays[0].shape}: "
                "expected pictures of one size and kind"
            )
        arrays.append(samples)
        if samples.nbytes * len(names) > MAX_BYTES:
            raise MediaError(f"{path}: more than {MAX_BYTES} bytes of samples: cut it into parts")
    detail: dict[str, Any] = {"names": "\n".join(_checked_names(names))}
    if palettes:
        detail["palette"] = _pack_palettes(palettes)
    counted = [Note(note.kind, f"{note.words} ({n} of {len(names)} pictures)") for note, n in notes.items()]
    return ArrayFile(np.stack(arrays), "pictures", detail, tuple(counted[:50]))


def _picture(data: bytes) -> tuple[NDArray[Any], Palette | None, tuple[Note, ...]]:
    """The samples of a PNG, or the indices and the palette: the index of a label map is its class."""
    picture = read_picture(data)
    kept = ("icc", "exif", "xmp", "dpi", "code_points", "text")
    words = {"icc": "ICC profile", "exif": "EXIF", "xmp": "XMP", "dpi": "resolution", "code_points": "colour space"}
    left = [words.get(name, "texts") for name in kept if getattr(picture, name)]
    notes = tuple(note for note in picture.notes if note.kind != "damage")
    if left:
        notes += (Note("metadata", f"{', '.join(left)}: left out of pictures that are stored as arrays"),)
    palette = read_palette(data)
    if palette is not None:
        return palette.indices, palette, notes
    notes = (*picture.notes, *notes[len(notes) - bool(left) :])
    if data.startswith(PNG) and data[24] < 8:  # grey: other pictures of so few bits have palettes
        most = (1 << data[24]) - 1
        notes += (Note("depth", f"samples of fewer than 8 bits are stored as 8: {most} comes back as 255"),)
    return _samples(picture), None, notes


_PALETTE = struct.Struct(">BBH")  # depth, number of colours less 1, number of opacities


def _pack_palettes(palettes: Sequence[Palette]) -> bytes:
    """The palettes of pictures: how many differ, each of these, and if there are several the one of each picture."""
    packed = [_PALETTE.pack(p.depth, len(p.colours) // 3 - 1, len(p.alpha)) + p.colours + p.alpha for p in palettes]
    distinct = list(dict.fromkeys(packed))
    out = struct.pack(">I", len(distinct)) + b"".join(distinct)
    if len(distinct) > 1:
        place = {item: number for number, item in enumerate(distinct)}
        out += struct.pack(f">{len(packed)}I", *(place[item] for item in packed))
    return out


def _unpack_palettes(data: bytes, n: int) -> list[tuple[int, bytes, bytes]]:
    """Depth, colours and opacities of each of n pictures; ValueError for what `_pack_palettes` doesn't write."""
    if not isinstance(data, bytes) or len(data) < 4:
        raise ValueError("its palette isn't bytes")
    count, at = struct.unpack_from(">I", data)[0], 4
    distinct = []
    for _ in range(min(count, n)):
        depth, last, n_alpha = _PALETTE.unpack_from(data, at)
        middle = at + _PALETTE.size + 3 * (last + 1)
        distinct.append((depth, data[at + _PALETTE.size : middle], data[middle : middle + n_alpha]))
        at = middle + n_alpha
    order = struct.unpack_from(f">{n}I", data, at) if count > 1 else (0,) * n
    at += 4 * n if count > 1 else 0
    if len(data) != at or count != len(distinct) or max(order) >= count:
        raise ValueError("its palettes are damaged")
    return [distinct[number] for number in order]


def _samples(picture: Picture) -> NDArray[Any]:
    """The samples of a picture: (H, W) of a grey one, (H, W, 3) of a coloured one."""
    if picture.alpha is not None:
        raise MediaError("a picture with transparency; expected grey or RGB")
    pixels = picture.pixels
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _checked_names(names: Sequence[str]) -> Sequence[str]:
    """The names, if they may be written into a new folder; else MediaError."""
    for name in names:
        if not name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are no text
            shown = name.encode("unicode_escape").decode("ascii")
            words = "rename it, or all: convmv -r -f latin1 -t utf8 --notest FOLDER"
            raise MediaError(f"the name {shown} isn't UTF-8, as names in files of ours are: {words}")
        if not _NAME.fullmatch(name) or name.startswith(".") or not name.lower().endswith(".png"):
            raise MediaError(f"a picture called {name!r}: expected a plain file name that ends in .png")
    if len({name.lower() for name in names}) != len(names):
        raise MediaError("two pictures with the same name")
    return names


def _check_size(shape: Sequence[int], dtype: np.dtype[Any], n_bytes: int) -> None:
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != n_bytes:
        raise MediaError(f"an array of {dtype} {tuple(shape)} needs {wanted} bytes, the file has {n_bytes}: damaged")


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("="))


# ---- writing


def write(value: ArrayFile, suffix: str = "") -> bytes | dict[str, bytes]:
    """The bytes of the file that an array was, or of another form by its suffix; of a folder the files in it, by name.

    suffix: "" for its own form; .npy takes any integers, .idx those up to 32 bits, .gz the same, compressed.
    UsageError for a form that can't hold it.
    """
    form = value.form if value.form != "array" else "npy"
    suffix = suffix.lower()
    fitting = [name for name, suffixes in ARRAY_WRITES.items() if suffix in suffixes]
    if suffix and suffix not in ARRAY_WRITES[form]:
        if not fitting:
            raise UsageError(f"unknown suffix {suffix}: expected {', '.join(ARRAY_WRITES[form])} or .npy")
        form = fitting[0]
    try:
        if form == "npy":
            return _write_npy(value)
        if form == "idx":
            data = _write_idx(value.array)
            return _gzip(data) if suffix == ".gz" else data
        if form == "csv":
            return _write_csv(value)
        if form == "picture":
            if len(value.array) != 1:
                raise ValueError(f"{len(value.array)} items")
            return _pngs(value)[0]
        return _write_folder(value)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise UsageError(
            f"{value.array.dtype} {value.array.shape} can't be written as {form} ({error}): it was {value.form}"
        ) from None


def _write_npy(value: ArrayFile) -> bytes:
    array = value.array
    if array.dtype.kind not in "biu":
        raise ValueError("not whole numbers")
    given = value.detail.get("head") if value.form == "npy" else None
    head = _canonical_npy(array) if given is None else given
    if not isinstance(head, bytes):
        raise ValueError("its header isn't bytes")
    parsed, dtype, fortran, shape = _npy_head(head)
    if parsed != head or shape != array.shape or dtype.newbyteorder("=") != array.dtype:
        raise ValueError("its header is for another array")
    return head + array.astype(dtype).tobytes("F" if fortran else "C")


def _write_idx(array: NDArray[Any]) -> bytes:
    codes = {np.dtype(text).newbyteorder("="): code for code, text in _IDX.items()}
    if array.dtype not in codes or not 1 <= array.ndim <= MAX_AXES:
        raise ValueError("expected uint8, int8, int16 or int32")
    code = codes[array.dtype]
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.astype(_IDX[code]).tobytes()


def _gzip(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)  # no name, no time: the same bytes each time
    return deflate.compress(data) + deflate.flush()


def _write_csv(value: ArrayFile) -> bytes:
    if value.array.dtype.kind != "S" or value.array.ndim != 2:
        raise ValueError("not a table of text")
    delimiter, newline = value.detail["delimiter"], value.detail["newline"]
    if delimiter not in _DELIMITERS or newline not in (b"\n", b"\r\n", b"\r"):
        raise ValueError("unknown delimiters")
    lines = [delimiter.join(row) for row in value.array.tolist()]
    return newline.join(lines) + (newline if value.detail["end"] and lines else b"")


def _write_folder(value: ArrayFile) -> dict[str, bytes]:
    text = value.detail["names"]
    names = _checked_names(text.split("\n"))
    if len(names) != len(value.array):
        raise ValueError(f"{len(names)} names for {len(value.array)} pictures")
    return dict(zip(names, _pngs(value), strict=True))


def _pngs(value: ArrayFile) -> list[bytes]:
    """The PNG of each item: of indices where there is a palette."""
    if "palette" not in value.detail:
        return [_png(samples) for samples in value.array]
    if value.array.ndim != 3 or value.array.dtype != np.uint8:
        raise ValueError("indices of a palette aren't bytes")
    palettes = _unpack_palettes(value.detail["palette"], len(value.array))
    return [
        write_palette(Palette(indices, colours, alpha, depth))
        for indices, (depth, colours, alpha) in zip(value.array, palettes, strict=True)
    ]


def _png(samples: NDArray[Any]) -> bytes:
    stacked = samples[:, :, None] if samples.ndim == 2 else samples
    if stacked.ndim != 3 or stacked.shape[2] not in (1, 3) or stacked.dtype not in (np.uint8, np.uint16):
        raise ValueError("not a picture of 8 or 16 bits")
    buffer = io.BytesIO()
    write_picture(Picture.from_stacked(np.ascontiguousarray(stacked)), buffer, "PNG")
    return buffer.getvalue()
