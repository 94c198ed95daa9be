"""Reading a folder of pictures, one a frame, in the order of their numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import MediaError
from ..image import read_picture
from ..names import gaps, natural
from ..notes import Note
from .base import VideoReader
from .values import Frame, Pixels, VideoInfo, check_frame_size

__all__ = ["MAX_PICTURES", "FolderReader"]

MAX_PICTURES = 1_000_000  # in a folder
USUAL_RATE = Fraction(25)
_FORMS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg")}  # the first that a folder has is taken
_SHOWN = 3  # names, in a note
_ORIENTATION, _EXCHANGED = 0x0112, (5, 6, 7, 8)  # of EXIF: the tag, and values that exchange rows and columns


class FolderReader(VideoReader):
    """A folder of PNGs, or else of JPEGs. rate: None if nobody gave one."""

    def __init__(self, folder: Path, rate: Fraction | None) -> None:
        super().__init__()
        try:
            names = sorted((name for name in os.listdir(folder) if not name.startswith(".")), key=natural)
        except OSError as error:
            raise MediaError(f"{folder}: can't be read ({error.strerror or error})") from None
        form, taken = next(
            ((form, held) for form, ends in _FORMS.items() if (held := [n for n in names if n.lower().endswith(ends)])),
            ("PNG", []),
        )
        if not taken or len(taken) > MAX_PICTURES:
            raise MediaError(f"{folder}: {len(taken)} PNGs; expected 1 to {MAX_PICTURES}, one a frame (or JPEGs)")
        self._files = [folder / name for name in taken]
        kinds = [_picture_kind(file, form) for file in self._files]
        for file, kind in zip(self._files, kinds, strict=True):
            if kind != kinds[0]:
                raise MediaError(
                    f"{file}: {kind[0]}x{kind[1]} {kind[2]}, and {self._files[0].name} is {kinds[0][0]}x{kinds[0][1]} "
                    f"{kinds[0][2]}; expected pictures that are all alike"
                )
        width, height, pixels = kinds[0]
        notes = []
        if rate is None:
            notes.append(Note("time", f"{USUAL_RATE} frames a second are assumed: --fps gives another rate"))
        if missing := gaps(taken):
            notes.append(
                Note("frames", f"no pictures of the numbers {missing}: those before and behind follow each other")
            )
        if others := sorted(set(names) - set(taken)):
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            notes.append(Note("file", f"other files of the folder aren't taken: {', '.join(others[:_SHOWN])}{more}"))
        rate = USUAL_RATE if rate is None else rate
        self.info = VideoInfo(width, height, pixels, 1 / rate, rate, notes=tuple(notes))
        self.n_frames = len(taken)

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            picture = read_picture(file)
            pixels = picture.pixels[:, :, 0] if picture.pixels.shape[2] == 1 else picture.pixels
            grey = self.info.pixels == "gray"
            for name, held in (("colour profiles (ICC)", picture.icc), ("EXIF", picture.exif)):
                if held:
                    self._note("metadata", f"{name} of the pictures: left out")
            for note in picture.notes:
                self._note(*note)
            if pixels.shape[:2] != (self.info.height, self.info.width) or (pixels.ndim == 2) != grey:
                raise MediaError(f"{file}: changed while it was read")
            yield Frame((np.ascontiguousarray(pixels),), index, 1)


def _picture_kind(file: Path, form: str) -> tuple[int, int, Pixels]:
    """The width, height and kind of pixels of a picture as shown, from its header. MediaError for what is no frame."""
    try:
        with Image.open(file, formats=[form]) as image:
            mode, (width, height), clear = image.mode, image.size, "transparency" in image.info
            moving = getattr(image, "n_frames", 1) > 1
            turned = image.getexif().get(_ORIENTATION) in _EXCHANGED
    except Exception as error:  # Pillow's boundary: what it raises on damage isn't specified
        raise MediaError(f"{file}: can't be read as a {form}, damaged? ({error})") from error
    check_frame_size(width, height)
    if mode not in ("L", "1", "RGB", "P") or clear or moving or (form == "PNG" and _deep(file)):
        raise MediaError(
            f"{file}: {mode}{' with transparency' if clear else ''}; expected a still {form} of 8 bits, grey or RGB, "
            "without transparency"
        )
    width, height = (height, width) if turned else (width, height)
    return width, height, "gray" if mode in ("L", "1") else "rgb24"


def _deep(file: Path) -> bool:
    """Whether a PNG has more than 8 bits: Pillow shows 16-bit RGB as 8 bits."""
    with file.open("rb") as stream:
        head = stream.read(26)
    return len(head) < 26 or head[24] > 8
