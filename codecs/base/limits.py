"""Limits of decoding: how much a file may decode to unless its user asks for more.

A header says what decoding its file takes, so a file over a limit is refused before its weights are loaded and before
anything is allocated. Every codec is checked in one place, `Codec.check_made_by_us`; what only a chunk tells (frames of
a group, datasets of an HDF5 file) is checked by the base of the medium as soon as it is read. What a limit means in
memory and time is in docs/usage.md. Imports nothing heavy: the command makes its options of LIMITS.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from ...container import Header
from ...errors import LimitError, UsageError
from ...media.notes import Note
from .settings import Setting

__all__ = ["DEFAULTS", "LIMITS", "Limits", "amount", "check", "note_of", "rounded"]

PIXELS = 178_956_970  # where Pillow refuses a picture: twice the pixels that fill 256 MiB as RGB
VALUES = 3 * PIXELS  # the samples of a picture of that size, in three channels
SECONDS = 86_400  # a day of sound
FRAMES = 216_000  # an hour at 60 frames a second
BYTES = 8 * VALUES  # all values in float64: 4.3 GB

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)", re.ASCII)
_NONE = "none"


def amount(given: str | int | None) -> int | None:
    """A whole number above 0, as 200M or 1.5G, or "none" for no limit."""
    if isinstance(given, bool):
        raise TypeError(given)
    if given is None or (isinstance(given, str) and given.strip().lower() == _NONE):
        return None
    if isinstance(given, str):
        parts = _AMOUNT.fullmatch(given.strip().lower())
        if parts is None:
            raise ValueError(given)
        value = math.floor(float(parts[1]) * _UNITS[parts[2]])
    else:
        value = operator.index(given)
    if not 0 < value < 1 << 63:
        raise ValueError(given)
    return value


LIMITS = (
    Setting("max_pixels", "pixels of a picture, or of a group of frames (default 179M; or none)", amount, "N"),
    Setting("max_frames", "frames of a video (default 216k; or none)", amount, "N"),
    Setting("max_seconds", "seconds of sound (default 86.4k; or none)", amount, "N"),
    Setting("max_values", "values of an array, of fields, of an HDF5 file (default 537M; or none)", amount, "N"),
    Setting("max_bytes", "bytes of an array, of fields, of an HDF5 file (default 4.3G; or none)", amount, "N"),
)


@dataclass(frozen=True)
class Limits:
    """The most that a file may decode to; None lifts a limit.

    pixels: of a picture, or of the frames of a video that are decoded at once, a group. frames: of a video. seconds: of
    sound. values, bytes: of an array, of fields, of all datasets of an HDF5 file, of a sound in memory. Text is read as
    the command reads it, "200M".
    """

    pixels: int | None = PIXELS
    frames: int | None = FRAMES
    seconds: int | None = SECONDS
    values: int | None = VALUES
    bytes: int | None = BYTES

    def __post_init__(self) -> None:
        for item in fields(self):
            given = getattr(self, item.name)
            try:
                object.__setattr__(self, item.name, amount(given))
            except (TypeError, ValueError):
                words = "a whole number above 0, as 200M or 1.5G, or none"
                raise UsageError(f"a limit of {str(given)[:80]} {item.name}: expected {words}") from None

    @staticmethod
    def none() -> Limits:
        """Limits that refuse nothing."""
        return Limits(None, None, None, None, None)

    @staticmethod
    def of_options(given: Mapping[str, int | None]) -> Limits:
        """The limits that a command line names, by the names of LIMITS; the others are the defaults."""
        return Limits(**{name.removeprefix("max_"): value for name, value in given.items()})

    def require(self, name: str, needed: int, what: str) -> None:
        """Raise LimitError for something that needs more than a limit. what: it, in words, with its size."""
        most = getattr(self, name)
        if most is not None and needed > most:
            raise LimitError(
                f"{what}; at most {rounded(most)} are decoded unless --max-{name} {_enough(needed)} is given",
                name,
                min(needed, (1 << 63) - 1),
            )


DEFAULTS = Limits()


def check(header: Header, limits: Limits) -> None:
    """Raise LimitError for a file whose header says that it decodes to more than a limit.

    header: one that `container.check_header` accepts. Of a file of HDF5 it tells the fields alone; their base checks
    the whole, once it knows it.
    """
    for name, needed, what in _needs(header):
        limits.require(name, needed, what)


def note_of(header: Header) -> tuple[Note, ...]:
    """A note for a file that was just written, if decoding it needs an option. The file doesn't keep it."""
    try:
        check(header, DEFAULTS)
    except LimitError as error:
        return (Note("limit", f"decoding this file needs --max-{error.name} {_enough(error.needed)}"),)
    return ()


def _needs(header: Header) -> list[tuple[str, int, str]]:
    """The amounts that a file needs, by limit: the name of the limit, the amount, and words about it."""
    shape = header.shape
    sides = "x".join(map(str, shape))
    if header.medium == "image":
        pixels = shape[0] * shape[1]
        return [("pixels", pixels, f"a picture of {shape[1]}x{shape[0]}, {rounded(pixels)} pixels")]
    if header.medium == "video":
        if len(shape) != 4:  # the base of video refuses it
            return []
        frame = shape[1] * shape[2]
        return [
            ("pixels", frame, f"frames of {shape[2]}x{shape[1]}, {rounded(frame)} pixels each"),
            ("frames", shape[0], f"a video of {rounded(shape[0])} frames"),
        ]
    if header.medium == "audio":  # its length is at its end: the base of sound looks there
        return []
    values = math.prod(shape)
    n_bytes = values * _item_bytes(header.dtype)
    return [
        ("values", values, f"an array of {sides}, {rounded(values)} values"),
        ("bytes", n_bytes, f"an array of {sides} {header.dtype}, {rounded(n_bytes)} bytes"),
    ]


def _item_bytes(dtype: str) -> int:
    """The bytes of one value of a type by its name, which may be any; 1 where the name doesn't say it."""
    bits = re.fullmatch(r"(?:u?int|float|complex)(8|16|32|64|128)", dtype, re.ASCII)
    return int(bits[1]) // 8 if bits else 1


def rounded(n: int) -> str:
    """A number for people, in three digits: 268 million. Of any size: a hostile file claims what it likes."""
    if n >= 10**15:
        return f"2^{n.bit_length() - 1}"
    for factor, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if n >= factor:
            return f"{n / factor:.3g} {word}"
    return str(n)


def _enough(n: int) -> str:
    """An amount of at least n, as an option takes it: 269M."""
    if n >= 10**15:
        return _NONE
    for factor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= 100 * factor:
            return f"{-(-n // factor)}{unit}"
    return str(n)
