"""Metadata of a picture while its file is read: what is kept, and notes on what is left out.

A reader hands over what it meets; `Metadata` decides. Nothing here refuses a picture: what can't be read is a note.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import exif as exifs
from . import icc as iccs
from .notes import Note
from .values import Picture

__all__ = ["MAX_METADATA", "Metadata", "apply_orientation", "inflate", "of_pil"]

MAX_METADATA = (1 << 24) - (1 << 16)  # bytes: what the metadata of a file of ours can hold, less some room
_MAX_TEXTS = 1000
_XMP_TURN = re.compile(rb"""(tiff:Orientation(?:=["']|>))[2-8](["'<])""")
_RAW_PROFILE = re.compile(r"\s*\w+\s+(\d+)\s+([0-9A-Fa-f\s]*)")


@dataclass
class Metadata:
    """The things that were read beside the pixels. orientation: as in EXIF. code_points: of cICP or nclx, 4 bytes.

    gamma, places: of gAMA and cHRM. said_srgb: whether the file says that it is sRGB. left: bytes of each thing that is
    left out, by its name.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    code_points: bytes | None = None
    gamma: float | None = None
    places: tuple[float, ...] | None = None
    said_srgb: bool = False
    text: list[tuple[str, str]] = field(default_factory=list)
    orientation: int = 1
    notes: list[Note] = field(default_factory=list)
    left: dict[str, list[int]] = field(default_factory=dict)

    def leave_out(self, what: str, n_bytes: int) -> None:
        """Count a thing that is left out; there will be a note for each name."""
        self.left.setdefault(what, []).append(n_bytes)

    def note(self, kind: str, words: str) -> None:
        if Note(kind, words) not in self.notes:
            self.notes.append(Note(kind, words))

    def take_exif(self, raw: bytes, turns: bool = True) -> None:
        """Take an EXIF block; its orientation too, unless the format says orientation in its own way."""
        structure = exifs.as_structure(raw)
        if not structure:
            return
        kept = exifs.without_orientation(structure)
        if kept is None:
            self.leave_out("EXIF that can't be read", len(structure))
            return
        if self.exif is not None:
            self.leave_out("a second block of EXIF", len(structure))
            return
        if turns:
            self.orientation = exifs.orientation(structure)
        self.exif = kept

    def take_xmp(self, packet: bytes) -> None:
        if self.xmp is None:
            self.xmp = packet
        else:
            self.leave_out("a second packet of XMP", len(packet))

    def take_text(self, keyword: str, text: str) -> None:
        """Take a text. XMP and the profiles that ImageMagick writes as text become what they are."""
        if keyword == "XML:com.adobe.xmp":
            self.take_xmp(text.encode("utf-8"))
        elif keyword.startswith("Raw profile type "):
            self._take_raw_profile(keyword.rsplit(" ", 1)[1].lower(), text)
        elif len(self.text) < _MAX_TEXTS and "\0" not in keyword + text:
            self.text.append((keyword, text))
        else:
            self.leave_out("texts", len(text))

    def _take_raw_profile(self, name: str, text: str) -> None:
        match = _RAW_PROFILE.fullmatch(text)
        try:
            raw = bytes.fromhex(match[2]) if match else b""
        except ValueError:
            raw = b""
        if not raw or name not in ("exif", "app1", "xmp", "icc", "icm"):
            self.leave_out(f"a raw profile ({name})" + ("" if raw else " that can't be read"), len(text))
        elif name == "xmp":
            self.take_xmp(raw)
        elif name in ("icc", "icm"):
            self.icc = self.icc or raw
        elif name == "app1" and not raw.startswith(exifs.PREFIX):
            self.take_xmp(raw.partition(b"\0")[2])
        else:
            self.take_exif(raw)

    # ---- the picture

    def picture(self, array: NDArray[Any]) -> Picture:
        """The picture of stored samples, (H, W, C), turned upright, with all that is kept."""
        array = apply_orientation(array, self.orientation)
        if self.xmp is not None and self.orientation > 1:
            self.xmp = _XMP_TURN.sub(rb"\g<1>1\2", self.xmp)  # it is applied now
        dpi = self.dpi
        if dpi is not None and self.orientation > 4:
            dpi = (dpi[1], dpi[0])
        code_points = self._settle_colour(array.shape[2] < 3)
        self._cut_to_limit()
        for what, sizes in self.left.items():
            n_bytes = f"of {sum(sizes)} bytes" if len(sizes) == 1 else f"({len(sizes)}, {sum(sizes)} bytes)"
            verb = "is" if len(sizes) == 1 and not what.endswith("s") else "are"
            self.note("metadata", f"{what} {n_bytes} {verb} left out")
        base = Picture.from_stacked(array, self.icc, self.exif)
        return Picture(
            base.pixels,
            base.alpha,
            base.icc,
            base.exif,
            tuple(self.notes),
            self.xmp,
            dpi,
            code_points,
            tuple(self.text),
        )

    def _settle_colour(self, grey: bool) -> bytes | None:
        """Make one profile of what the file says of its colours; return the code points that no profile can hold."""
        if self.icc is not None:
            fault = iccs.fault_of(self.icc, grey)
            if fault is not None:
                self.note("colour", f"an ICC profile of {len(self.icc)} bytes {fault} is left out")
                self.icc = None
        kept = None
        if self.code_points is not None:
            made = iccs.of_code_points(self.code_points[0], self.code_points[1], grey)
            if isinstance(made, str) or self.code_points[3] == 0:
                kept = self.code_points
            elif made is not None:  # code points come before a profile, says PNG, third edition
                self.icc = made
            elif self.code_points[1] in (1, 13):
                return None
        if self.icc is None and kept is None and not self.said_srgb:
            self.icc = iccs.of_gamma(self.gamma, self.places, grey)
        if self.icc is None and kept is None and not grey and self.exif and exifs.says_adobe_rgb(self.exif):
            self.icc = iccs.adobe_rgb()
        return kept

    def _cut_to_limit(self) -> None:
        """Leave out the largest things until the rest fits into a file of ours."""
        names = {"text": "texts", "xmp": "XMP", "exif": "EXIF", "icc": "an ICC profile"}
        while True:
            sizes = {name: len(getattr(self, name) or b"") for name in ("xmp", "exif", "icc")}
            sizes["text"] = sum(len(key.encode()) + len(text.encode()) for key, text in self.text)
            if sum(sizes.values()) <= MAX_METADATA:
                return
            largest = max(sizes, key=lambda name: sizes[name])
            if largest == "icc":
                self.note("colour", f"an ICC profile of {sizes['icc']} bytes is left out: too large")
            else:
                self.leave_out(names[largest], sizes[largest])
            setattr(self, largest, [] if largest == "text" else None)


def inflate(data: bytes, limit: int = MAX_METADATA) -> bytes:
    """The content of a zlib stream; ValueError if it is damaged, or longer than the limit."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(f"damaged ({error})") from None
    if len(out) > limit or not stream.eof:
        raise ValueError("too long, or cut")
    return out


def apply_orientation(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored pixels (H, W, C) the way EXIF orientation 1..8 says that they are to be seen."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def of_pil(info: Mapping[Any, Any]) -> Metadata:
    """The metadata in the `info` of a PIL image."""
    about = Metadata()
    if isinstance(icc := info.get("icc_profile"), bytes) and icc:
        about.icc = icc
    if isinstance(exif := info.get("exif"), bytes):
        about.take_exif(exif)
    xmp = info.get("xmp", info.get("XML:com.adobe.xmp"))
    if isinstance(xmp, (bytes, str)) and xmp:
        about.take_xmp(xmp if isinstance(xmp, bytes) else xmp.encode("utf-8"))
    gamma, places = info.get("gamma"), info.get("chromaticity")  # of a PNG
    about.said_srgb = "srgb" in info
    if isinstance(gamma, float) and 0.05 < gamma < 20:
        about.gamma = gamma
    if isinstance(places, tuple) and len(places) == 8:
        about.places = tuple(float(value) for value in places)
    if isinstance(comment := info.get("comment"), (bytes, str)):
        about.take_text("Comment", comment if isinstance(comment, str) else comment.decode("utf-8", "replace"))
    dpi = info.get("dpi")
    if isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < float(value) < 1e6 for value in dpi):
        about.dpi = (float(dpi[0]), float(dpi[1]))
    return about
