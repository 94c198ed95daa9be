"""Layouts of channels: FFmpeg's names, and the masks that WAV has for them (which FLAC uses in a comment)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .values import LAYOUTS

__all__ = ["MASKS", "MASK_TAG", "is_usual", "mask_of"]

MASKS: Mapping[str, int] = MappingProxyType(  # a bit for each loudspeaker; the channels come in the order of the bits
    {
        "mono": 0x4,
        "stereo": 0x3,
        "2.1": 0xB,
        "3.0": 0x7,
        "3.0(back)": 0x103,
        "3.1": 0xF,
        "4.0": 0x107,
        "quad": 0x33,
        "quad(side)": 0x603,
        "4.1": 0x10F,
        "5.0": 0x37,
        "5.0(side)": 0x607,
        "5.1": 0x3F,
        "5.1(side)": 0x60F,
        "6.0": 0x707,
        "6.0(front)": 0x6C3,
        "hexagonal": 0x137,
        "6.1": 0x70F,
        "6.1(back)": 0x13F,
        "6.1(front)": 0x6CB,
        "7.0": 0x637,
        "7.0(front)": 0x6C7,
        "7.1": 0x63F,
        "7.1(wide)": 0xFF,
        "7.1(wide-side)": 0x6CF,
        "octagonal": 0x737,
    }
)


MASK_TAG = "WAVEFORMATEXTENSIBLE_CHANNEL_MASK"  # the Vorbis comment that says a mask, in FLAC and Ogg


def mask_of(layout: str, channels: int) -> int:
    """The mask of a layout, 0 for one that isn't known: its channels then are on no certain loudspeakers."""
    mask = MASKS.get(layout or LAYOUTS[channels], 0)
    return mask if mask.bit_count() == channels else 0


def is_usual(layout: str, channels: int) -> bool:
    """Whether these are the channels that everybody expects of so many."""
    return not layout or layout == LAYOUTS[channels]
