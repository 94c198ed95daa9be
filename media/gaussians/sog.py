"""SOG files (PlayCanvas): Gaussians as lossless WebP pictures and codebooks, version 2, and version 1 without them.

A ZIP file, or a folder, of a text `meta.json` and pictures whose pixels are the Gaussians, row by row. A table keeps
the integers of the pictures; its detail keeps codebooks, bounds and, of harmonics, the palette that labels point into.
Files of this kind are read only. The axes are those of PLY.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ...container import Value
from ...errors import MediaError
from ..notes import Note
from .exact import exp, float32_of, logit_of_byte
from .layouts import Part, integer, numbers, payload
from .limits import check_count
from .values import Column, Gaussians, Table, coefficients_of

__all__ = ["META", "layout", "read", "read_folder", "values"]

FORM = "sog"
META = "meta.json"
_MAX_META = 1 << 20  # bytes
_MAX_FILE = 1 << 28  # bytes of a picture as it is stored
_MAX_MEMBERS = 64  # of a ZIP file
_MAX_PALETTE = 1 << 16
_PER_ROW = 64  # palette entries in a row of its picture
_BYTES = 17  # of pixels a Gaussian
_TAG = 252  # of a rotation whose largest component is w; 253 is x
_SQRT2 = 1.4142135623730951
_CODEBOOK = 256

Loader = Callable[[str], bytes]


def read(data: bytes) -> tuple[Table, tuple[Note, ...]]:
    """The integers of a bundled SOG file, and notes. MediaError for anything else, or a damaged one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if len(archive.infolist()) > _MAX_MEMBERS:
                raise MediaError(f"a SOG file of more than {_MAX_MEMBERS} parts: is it one?")

            def load(name: str) -> bytes:
                limit = _MAX_META if name == META else min(_MAX_FILE, 2 * len(data) + 4096)
                with archive.open(name) as file:
                    return _bounded(file.read(limit + 1), limit, name)

            return _read(load, len(data))
    except KeyError as error:
        raise MediaError(f"a SOG file that lacks a part ({str(error)[:80]})") from None
    except MediaError:
        raise
    except Exception as error:  # the boundary of zipfile: what it raises on damage isn't specified
        raise MediaError(f"a damaged SOG file ({str(error)[:80]})") from error


def read_folder(folder: Path) -> tuple[Table, tuple[Note, ...]]:
    """The same of a folder with `meta.json` and the pictures that it names."""

    def load(name: str) -> bytes:
        if not name or name != Path(name).name or name.startswith("."):
            raise MediaError(f"a SOG folder whose {META} names {name[:80]!r}; expected names of files in it")
        limit = _MAX_META if name == META else _MAX_FILE
        try:
            with (folder / name).open("rb") as file:
                return _bounded(file.read(limit + 1), limit, name)
        except OSError as error:
            raise MediaError(f"{folder / name}: can't be read ({error.strerror or error})") from None

    return _read(load, sum(item.stat().st_size for item in folder.iterdir() if item.is_file()))


def _bounded(data: bytes, limit: int, name: str) -> bytes:
    if len(data) > limit:
        raise MediaError(f"a SOG file with {name[:80]} of more than {limit} bytes: is it damaged?")
    return data


# ---- meta.json


class _Meta:
    """The fields of a meta.json, with MediaErrors for whatever is missing or of another type."""

    def __init__(self, data: bytes) -> None:
        try:
            held = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise MediaError(f"a SOG file whose {META} is damaged ({str(error)[:80]})") from None
        if not isinstance(held, dict):
            raise MediaError(f"a SOG file whose {META} isn't an object")
        self.held: dict[str, Any] = held

    def part(self, name: str) -> dict[str, Any]:
        part = self.held.get(name)
        if not isinstance(part, dict):
            raise MediaError(f"a SOG file whose {META} has no object {name!r}")
        return part

    def files(self, name: str, n: int) -> list[str]:
        files = self.part(name).get("files")
        if not isinstance(files, list) or len(files) < n or not all(isinstance(file, str) for file in files):
            raise MediaError(f"a SOG file whose {META} names no {n} files for {name!r}")
        return files[:n]

    def numbers(self, name: str, field: str, n: int) -> tuple[float, ...]:
        held = self.part(name).get(field)
        held = [held] if n == 1 and not isinstance(held, list) else held
        numbers = [float(value) for value in held if _is_number(value)] if isinstance(held, list) else []
        if not isinstance(held, list) or len(numbers) != n or len(held) != n:
            raise MediaError(f"a SOG file whose {META} has no {n} numbers as {name}.{field}")
        return tuple(numbers)

    def count(self, value: object, what: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1 << 31:
            raise MediaError(f"a SOG file whose {META} has {str(value)[:40]} as {what}")
        return value


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30


# ---- reading


def _read(load: Loader, n_bytes: int) -> tuple[Table, tuple[Note, ...]]:
    meta = _Meta(load(META))
    version = meta.held.get("version", 1)
    if version not in (1, 2):
        raise MediaError(f"SOG of version {str(version)[:40]}; expected 1 or 2")
    shape = meta.part("means").get("shape")
    stated = meta.held.get("count") if version == 2 else shape[0] if isinstance(shape, list) and shape else None
    n = meta.count(stated, "the number of Gaussians")
    check_count(n, _BYTES, n_bytes, packed=True)
    detail: dict[str, Value] = {"version": version}
    if meta.held.get("antialias") is True:
        detail["antialias"] = True
    detail |= {f"means_{end}": meta.numbers("means", end, 3) for end in ("mins", "maxs")}
    for name, width in (("scales", 3), ("sh0", 4)):
        if version == 2:
            detail[f"{name}_codebook"] = meta.numbers(name, "codebook", _CODEBOOK)
        else:
            detail |= {f"{name}_{end}": meta.numbers(name, end, width) for end in ("mins", "maxs")}
    low, high = (_pixels(load(name), n, 3, name) for name in meta.files("means", 2))
    colour = _pixels(load(name := meta.files("sh0", 1)[0]), n, 4, name)
    scale = _pixels(load(name := meta.files("scales", 1)[0]), n, 3, name)
    rotation = _pixels(load(name := meta.files("quats", 1)[0]), n, 4, name)
    if (invalid := rotation[:, 3] < _TAG).any():
        raise MediaError(f"a SOG file whose {name[:80]} has {int(invalid.sum())} invalid rotations: is it lossless?")
    columns = [
        Column("position", low | high << 8, (16,) * 3),
        Column("scale", scale, (8,) * 3),
        Column("rotation", np.concatenate([rotation[:, 3:] - _TAG, rotation[:, :3]], axis=1), (2, 8, 8, 8)),
        Column("colour", np.ascontiguousarray(colour[:, :3]), (8,) * 3),
        Column("opacity", np.ascontiguousarray(colour[:, 3:]), (8,)),
    ]
    degree = 0
    if meta.held.get("shN") is not None:
        degree, labels = _palette(meta, load, n, version, detail)
        columns += [labels] if degree else []
    detail["degree"] = degree
    return Table(FORM, tuple(columns), detail=detail), ()


def _palette(meta: _Meta, load: Loader, n: int, version: int, detail: dict[str, Value]) -> tuple[int, Column]:
    """The degree and the labels of the harmonics; their palette goes to the detail."""
    part, (palette_name, labels_name) = meta.part("shN"), meta.files("shN", 2)
    picture = _picture(load(palette_name), palette_name, _MAX_PALETTE * 24)[..., :3]
    height, width = picture.shape[:2]
    if version == 2:
        degree = part.get("bands")
        n_entries = meta.count(part.get("count"), "shN.count")
        if degree not in (0, 1, 2, 3):
            raise MediaError(f"a SOG file with harmonics of degree {str(degree)[:40]}; expected 0 to 3")
        detail["harmonics_codebook"] = meta.numbers("shN", "codebook", _CODEBOOK)
    else:
        degree = next((d for d in (1, 2, 3) if width == _PER_ROW * (coefficients_of(d) - 1)), 0)
        n_entries = height * _PER_ROW
        detail |= {f"harmonics_{end}": meta.numbers("shN", end, 1) for end in ("mins", "maxs")}
    coefficients = coefficients_of(degree) - 1
    labels = _pixels(load(labels_name), n, 2, labels_name)
    if not degree:
        return 0, Column("label", labels, ())
    if width != _PER_ROW * coefficients or n_entries > min(_MAX_PALETTE, height * _PER_ROW):
        raise MediaError(f"a SOG file whose palette of {n_entries} entries has a picture of {width}x{height}")
    entries = picture.reshape(height * _PER_ROW, coefficients * 3)[:n_entries]
    label = labels[:, :1] | labels[:, 1:] << 8
    if label.max() >= n_entries:
        raise MediaError(f"a SOG file with the label {label.max()} in a palette of {n_entries} entries")
    detail["palette"] = entries.tobytes()
    return degree, Column("label", label, (_label_bits(n_entries),))


def _picture(data: bytes, name: str, most: int) -> NDArray[np.uint8]:
    """The pixels of a picture, as (H, W, 4). MediaError if it has more than `most`."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("WEBP", "PNG")) as image:
            width, height = image.size
            if width * height > most:
                raise MediaError(f"a SOG file whose {name[:80]} has {width}x{height} pixels; expected up to {most}")
            return np.asarray(image.convert("RGBA"))
    except MediaError:
        raise
    except Exception as error:  # Pillow's boundary: what it raises on damage isn't specified
        raise MediaError(f"a SOG file whose {name[:80]} can't be read ({str(error)[:80]})") from error


def _pixels(data: bytes, n: int, channels: int, name: str) -> NDArray[np.int32]:
    """The first channels of n pixels, as (n, channels)."""
    picture = _picture(data, name, 2 * n + (1 << 16))
    if picture.shape[0] * picture.shape[1] < n:
        raise MediaError(f"a SOG file whose {name[:80]} has fewer pixels than the {n} Gaussians")
    return picture.reshape(-1, 4)[:n, :channels].astype(np.int32)


def layout(detail: Mapping[str, Value]) -> tuple[Part, ...]:
    """The columns of a table of this detail. MediaError for a detail that no SOG file has."""
    version, degree = integer(detail, "version", 1, 2), integer(detail, "degree", 0, 3)
    for name, width in (("means", 3), ("scales", 3), ("sh0", 4), *((("harmonics", 1),) if degree else ())):
        if version == 2 and name != "means":
            numbers(detail, f"{name}_codebook", _CODEBOOK)
        else:
            numbers(detail, f"{name}_mins", width)
            numbers(detail, f"{name}_maxs", width)
    label: tuple[Part, ...] = ()
    if degree:
        entries, left = divmod(len(payload(detail, "palette")), 3 * (coefficients_of(degree) - 1))
        if left or not 1 <= entries <= _MAX_PALETTE:
            raise MediaError(f"a palette of {len(payload(detail, 'palette'))} bytes, which isn't whole")
        label = (Part("label", (_label_bits(entries),)),)
    return (
        Part("position", (16,) * 3),
        Part("scale", (8,) * 3),
        Part("rotation", (2, 8, 8, 8)),
        Part("colour", (8,) * 3),
        Part("opacity", (8,)),
        *label,
    )


def _label_bits(entries: int) -> int:
    return max(1, (entries - 1).bit_length())


# ---- the values


def values(table: Table) -> Gaussians:
    """The Gaussians of a table that came from SOG."""
    detail: Mapping[str, Any] = table.detail
    degree, n = detail["degree"], len(table)
    harmonics = np.empty((n, coefficients_of(degree), 3), np.float32)
    if detail["version"] == 2:
        scales = np.array(detail["scales_codebook"])[table.column("scale").values]
        colour = np.array(detail["sh0_codebook"])[table.column("colour").values]
        opacities = logit_of_byte(table.column("opacity").values[:, 0])
    else:
        scales = _between(table.column("scale").values, detail["scales_mins"], detail["scales_maxs"], 255)
        colour = _between(table.column("colour").values, detail["sh0_mins"][:3], detail["sh0_maxs"][:3], 255)
        logits = _between(table.column("opacity").values, detail["sh0_mins"][3:], detail["sh0_maxs"][3:], 255)
        opacities = float32_of(logits[:, 0])
    harmonics[:, 0] = float32_of(colour)
    if degree:
        entries = np.frombuffer(detail["palette"], np.uint8).reshape(-1, 3 * (coefficients_of(degree) - 1))
        label = table.column("label").values[:, 0]
        if label.max(initial=0) >= len(entries):
            raise MediaError(f"the label {label.max()} in a palette of {len(entries)} entries")
        held = entries[label].astype(np.int32)
        if detail["version"] == 2:
            rest = np.array(detail["harmonics_codebook"])[held]
        else:
            rest = _between(held, detail["harmonics_mins"], detail["harmonics_maxs"], 255)
        harmonics[:, 1:] = float32_of(rest).reshape(n, -1, 3)
    v = _between(table.column("position").values, detail["means_mins"], detail["means_maxs"], 65535, span=1.0)
    magnitude = exp(np.abs(v)) - 1
    positions = float32_of(np.where(v < 0, -magnitude, magnitude))
    return Gaussians(positions, float32_of(scales), _quaternions(table.column("rotation").values), opacities, harmonics)


def _between(
    values: NDArray[np.int32], low: tuple[float, ...], high: tuple[float, ...], most: int, span: float = 0.0
) -> NDArray[np.float64]:
    """Numbers between bounds of each column. span: the distance of bounds that are the same."""
    start = np.array(low)
    width = np.array(high) - start
    return start + np.where(width == 0, span, width) * (values / most)


def _quaternions(rotation: NDArray[np.int32]) -> NDArray[np.float32]:
    small = (rotation[:, 1:] / 255 * 2 - 1) / _SQRT2
    squares = (small[:, 0] * small[:, 0] + small[:, 1] * small[:, 1]) + small[:, 2] * small[:, 2]
    wxyz = np.empty((len(rotation), 4), np.float32)
    rows = np.arange(len(rotation))
    for k in range(3):
        wxyz[rows, k + (k >= rotation[:, 0])] = small[:, k]
    wxyz[rows, rotation[:, 0]] = np.sqrt(np.maximum(0.0, 1.0 - squares))
    return wxyz
