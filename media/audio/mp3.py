"""The beginning of MP3 files: ID3v2, and the frame in which an encoder says how much it put around the sound.

That is the tag of Xing and of LAME ("MP3 Info Tag revision 1"): frames, delay, padding. A decoder is late by 529
samples more: its own delay. Files without it give all that their frames hold.
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

from .pcm import read_all
from .tags import from_id3, size_of_id3
from .timing import Timing
from .values import MAX_COVER, MAX_TAGS

__all__ = ["DECODER_DELAY", "XingTag", "samples_of_frame", "timing_of", "xing_of"]

DECODER_DELAY = 529  # samples
_START = 1 << 16  # bytes in which the first frame is looked for
_BITRATES = {  # kbit/s by the version (1, or 2 and 2.5), of layer III
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


class XingTag(NamedTuple):
    """An encoder's tag. frames: of sound, if it says it; delay, padding: samples, None without LAME's part."""

    n_each: int  # samples of a frame
    n_bytes: int  # of all frames, this one included; 0 if it doesn't say it
    frames: int | None
    delay: int | None
    padding: int | None


def timing_of(stream: BinaryIO, n_bytes: int) -> tuple[Timing, bool]:
    """The words of an MP3 file's beginning, and whether they tell its length: else its frames are to be counted.

    stream: at its start. n_bytes: of the file. What an encoder says of the length isn't believed of a cut file.
    """
    timing = Timing()
    at = 0
    while size := size_of_id3(read_all(stream, 10)):
        stream.seek(at)
        from_id3(read_all(stream, min(size, MAX_COVER + MAX_TAGS)), timing.tags)
        at += size
        stream.seek(at)
    stream.seek(at)
    head = read_all(stream, _START)
    first = next((i for i in range(len(head) - 3) if _length(head, i)), len(head))
    tag = xing_of(head[first : first + 256])
    if tag is None or tag.delay is None or tag.padding is None:
        return timing, False
    timing.skip = tag.delay + DECODER_DELAY
    if tag.frames:  # what the decoder is late by must be in the padding
        timing.n_samples = max(0, tag.frames * tag.n_each - tag.delay - max(tag.padding, DECODER_DELAY))
    return timing, bool(tag.frames and tag.n_bytes and at + first + tag.n_bytes <= n_bytes)


def _length(data: bytes, at: int) -> int:
    """The bytes of the frame of layer III that begins there; 0 if none does. The next one must begin behind it."""
    size = _frame_size(data, at)
    return size if size and (at + size + 4 > len(data) or _frame_size(data, at + size)) else 0


def _frame_size(data: bytes, at: int) -> int:
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, index, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or index in (0, 15) or rate == 3:
        return 0
    bits = 144 if version == 3 else 72
    return bits * 1000 * _BITRATES[version == 3][index] // _RATES[version][rate] + (head[2] >> 1 & 1)


def samples_of_frame(head: bytes) -> int:
    """The samples of a frame of layer III, by its first bytes."""
    return 1152 if head[1] >> 3 & 3 == 3 else 576


def xing_of(frame: bytes) -> XingTag | None:
    """The tag in a frame; None if it holds sound."""
    if len(frame) < 40:
        return None
    mono = frame[3] >> 6 == 3
    at = 4 + ((17 if mono else 32) if frame[1] >> 3 & 3 == 3 else (9 if mono else 17))
    if frame[at : at + 4] not in (b"Xing", b"Info"):
        return None
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    at += 8
    frames = int.from_bytes(frame[at : at + 4], "big") if flags & 1 else None
    where = at + 4 * (flags & 1)
    n_bytes = int.from_bytes(frame[where : where + 4], "big") if flags & 2 else 0
    at += sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
    packed = frame[at + 21 : at + 24]
    if frame[at : at + 4] not in (b"LAME", b"Lavf", b"Lavc") or len(packed) < 3:
        return XingTag(samples_of_frame(frame), n_bytes, frames, None, None)
    value = int.from_bytes(packed, "big")
    return XingTag(samples_of_frame(frame), n_bytes, frames, value >> 12, value & 0xFFF)
