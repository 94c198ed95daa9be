"""AVIF and HEIF (HEIC): the boxes that say depth, colours and what else a file holds.

Pillow decodes AVIF, and pillow-heif (the extra `heif`) HEIC. Both would reduce 10 bits to 8, or drop colours told by
code points, without a word.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from .metadata import Metadata
from .raster import divided, loaded

__all__ = ["brands", "read_avif", "read_heif"]

_INSTALL = "pip install 'codec-suite[heif]' makes it readable, or convert it, e.g. `heif-convert IN OUT.png`"


def brands(data: bytes) -> tuple[bytes, ...]:
    """The brands of a file of boxes: the major one first; none if it isn't one."""
    size = int.from_bytes(data[:4], "big")
    if data[4:8] != b"ftyp" or not 16 <= size <= min(len(data), 1024):
        return ()
    return (data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4)))


def read_avif(data: bytes) -> tuple[NDArray[Any], Metadata]:
    """The samples of an AVIF, (H, W, 1 to 4), uint8; deeper ones are rounded to 8 bits, with a note."""
    about = Metadata()
    facts = _Facts(data)
    image = loaded("AVIF", data)
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1:
        raise MediaError(
            f"an animation of {n_frames} frames; expected a still picture: extract one, e.g. "
            "`ffmpeg -i IN -frames:v 1 OUT.png`"
        )
    if facts.bits > 8:
        about.note("depth", f"{facts.bits} bits a sample became 8")
    about.icc = image.info.get("icc_profile")
    about.code_points = None if about.icc else facts.code_points
    if exif := image.info.get("exif"):
        about.take_exif(exif)
    if xmp := image.info.get("xmp"):
        about.take_xmp(xmp)
    facts.note_others(about)
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise MediaError(f"an AVIF that Pillow reads as {image.mode}: convert it, e.g. `avifdec IN OUT.png`")
    array = np.array(image)
    array = array[:, :, None] if array.ndim == 2 else array
    if facts.premultiplied and array.shape[2] in (2, 4):
        about.note("alpha", "the colours were premultiplied with transparency: they were divided by it, and rounded")
    if facts.grey and array.shape[2] > 2 and (array[:, :, :1] == array[:, :, 1:3]).all():
        array = array[:, :, [0, 3]] if array.shape[2] == 4 else array[:, :, :1]
    return np.ascontiguousarray(array), about


def read_heif(data: bytes) -> tuple[NDArray[Any], Metadata]:
    """The samples of a HEIC, (H, W, 1, 3 or 4): uint8, or uint16 of deeper ones. MediaError without pillow-heif."""
    try:
        import pillow_heif
    except ImportError:
        raise MediaError(f"a HEIC (HEIF) picture: {_INSTALL}") from None
    about = Metadata()
    facts = _Facts(data)
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    array = np.array(file)
    array = array[:, :, None] if array.ndim == 2 else array
    info = file.info
    mode = file.mode.partition(";")[0]
    if mode not in ("L", "RGB", "RGBA", "RGBa") or array.dtype not in (np.uint8, np.uint16):
        raise MediaError(f"a HEIC that libheif reads as {file.mode}: convert it, e.g. `heif-convert IN OUT.png`")
    if array.dtype == np.uint16:
        bits = min(16, max(9, int(info.get("bit_depth") or facts.bits)))
        low = (array >> (16 - bits)).astype(np.uint32)
        top = (1 << bits) - 1
        array = ((low * 65535 + top // 2) // top).astype(np.uint16)
        about.note("depth", f"{bits} bits a sample became 16, scaled: white is white")
    if mode == "RGBa":
        array = np.concatenate((divided(array[:, :, :3], array[:, :, 3:], about), array[:, :, 3:]), axis=2)
    about.icc = info.get("icc_profile") or None
    about.code_points = None if about.icc else facts.code_points
    if info.get("exif"):
        about.take_exif(info["exif"], turns=False)  # libheif has turned it
    if info.get("xmp"):
        about.take_xmp(info["xmp"])
    if len(file) > 1:
        n = len(file) - 1
        about.note("picture", f"{n} more {'picture' if n == 1 else 'pictures'} of the file left out")
    facts.note_others(about)
    return array, about


class _Facts:
    """The facts in the boxes of a file: bits of a sample, code points of the colours, other pictures."""

    def __init__(self, data: bytes) -> None:
        self.bits, self.code_points, self.premultiplied, self.grey = 8, None, False, False
        self.others: dict[str, int] = {}
        try:
            meta = next((body for tag, body in _boxes(data) if tag == b"meta"), b"")[4:]
            self._read(dict(_boxes(meta)))
        except (ValueError, struct.error, LookupError):
            return  # the decoder says what is wrong

    def _read(self, meta: dict[bytes, bytes]) -> None:
        properties = dict(_boxes(meta.get(b"iprp", b"")))
        boxes = list(_boxes(properties.get(b"ipco", b"")))
        primary = int.from_bytes(meta[b"pitm"][4 : 6 if meta[b"pitm"][0] == 0 else 8], "big")
        owners = _associations(properties.get(b"ipma", b""))
        self.premultiplied = b"prem" in meta.get(b"iref", b"")
        for number in owners.get(primary, ()):
            tag, body = boxes[number - 1]
            if tag == b"pixi" and len(body) > 5:
                self.bits = max(self.bits, *body[5 : 5 + body[4]])
            elif tag == b"av1C":
                self.bits = max(self.bits, (12 if body[2] & 32 else 10) if body[2] & 64 else 8)
                self.grey = bool(body[2] & 16)
            elif tag == b"hvcC" and len(body) > 17:
                self.bits = max(self.bits, 8 + (body[17] & 7))
            elif tag == b"colr" and body[:4] == b"nclx":
                primaries, transfer = struct.unpack_from(">HH", body, 4)
                if primaries < 256 and transfer < 256:
                    self.code_points = bytes([primaries, transfer, 0, 1])  # as RGB of the full range
        for item, numbers in owners.items():
            for number in numbers:
                tag, body = boxes[number - 1]
                if tag == b"auxC" and item != primary:
                    name = body[4:].rstrip(b"\0").decode("latin-1").rpartition(":")[2]
                    if "alpha" not in body.decode("latin-1") and "auxid:1" not in body.decode("latin-1"):
                        self.others[name] = self.others.get(name, 0) + 1

    def note_others(self, about: Metadata) -> None:
        words = {"2": "depth map", "hdrgainmap": "gain map"}  # urn:mpeg:hevc:2015:auxid:2; of Apple
        for name, count in ((words.get(name, name), count) for name, count in self.others.items()):
            about.note("picture", f"an auxiliary picture ({name}{', ' + str(count) if count > 1 else ''}) is left out")


def _associations(body: bytes) -> dict[int, list[int]]:
    """The numbers of the properties (from 1 on) of each item."""
    version, flags = body[0], body[3]
    count, at = struct.unpack_from(">I", body, 4)[0], 8
    owners: dict[int, list[int]] = {}
    for _ in range(min(count, 4096)):
        width = 2 if version < 1 else 4
        item, n = int.from_bytes(body[at : at + width], "big"), body[at + width]
        at += width + 1
        step = 2 if flags & 1 else 1
        mask = 0x7FFF if flags & 1 else 0x7F
        numbers = [int.from_bytes(body[at + i * step : at + (i + 1) * step], "big") & mask for i in range(n)]
        owners.setdefault(item, []).extend(number for number in numbers if number)
        at += n * step
    return owners


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes in a content: type and content of each."""
    at = 0
    while at + 8 <= len(data):
        size, tag, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < head:
            return
        yield tag, data[at + head : at + size]
        at += size
