"""WAV files: RIFF, RF64 and BW64 for large ones, and Sony's Wave64. Their chunks are walked, nothing is guessed.

Microsoft, "Multimedia Programming Interface and Data Specifications", 1991; EBU Tech 3306 (RF64). A length that lies is
met at the end of the file; lengths of streams that weren't known when they were written (0xFFFFFFFF) are its end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from ...errors import MediaError
from .layouts import MASKS
from .pcm import PcmLayout, read_all, skip
from .tags import Tags, from_info
from .values import MAX_COVER, check_shape

__all__ = ["MAGICS", "Forward", "layout_of"]

MAGICS = (b"RIFF", b"RF64", b"BW64", b"riff")
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of the identifiers of its chunks, behind four letters
_W64_RIFF = bytes.fromhex("2e91cf11a5d628db04c10000")
_MAX_CHUNKS = 1 << 12
_MAX_FORMAT, _MAX_INFO = 1 << 12, 1 << 20  # bytes of chunks
_UNKNOWN = 0x7FFFF000  # sizes from here on are of a stream, where the file is smaller
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_LAYOUTS = {mask: name for name, mask in MASKS.items()}


class _Chunk(NamedTuple):
    """A chunk. size: of what it holds, as it says; offset: where that begins."""

    name: bytes
    size: int
    offset: int


class _Format(NamedTuple):
    code: str
    channels: int
    rate: int
    layout: str


class Forward:
    """A stream that is read forward, by a seek where it has one. n_bytes: of the file; None for a pipe."""

    def __init__(self, stream: BinaryIO, n_bytes: int | None) -> None:
        self._stream, self.n_bytes, self.at = stream, n_bytes, 0

    def read(self, n_bytes: int) -> bytes:
        """So many bytes; fewer only at the end."""
        data = read_all(self._stream, n_bytes)
        self.at += len(data)
        return data

    def go(self, at: int) -> bool:
        """Go to a position that isn't behind; whether there is one."""
        if at < self.at:
            return False
        if self.n_bytes is None:
            self.at += skip(self._stream, at - self.at)
            return self.at == at
        if at > self.n_bytes:
            return False
        self._stream.seek(at)
        self.at = at
        return True


def layout_of(stream: BinaryIO, n_bytes: int | None) -> PcmLayout | None:
    """The place of a WAV file's samples; None where they are coded in another way than as PCM (ADPCM, A-law, MP3).

    stream: at its start. n_bytes: of the file; None for a pipe, which is left at the first sample.
    """
    file = Forward(stream, n_bytes)
    head = file.read(12)
    wide = head[:4] == b"riff"
    if wide:
        head += file.read(28)
        if head[4:16] != _W64_RIFF or head[24:28] != b"wave":
            raise MediaError("a header of Wave64 that is damaged or cut")
    elif head[8:12] != b"WAVE":
        raise MediaError("a RIFF file that isn't WAV, or is cut in its header")
    unfinished = head[:4] == b"RIFF" and head[4:8] in (bytes(4), b"\xff\xff\xff\xff")
    format: _Format | None = None
    data: _Chunk | None = None
    tags, id3 = Tags(), None
    for chunk in _chunks(file, wide):
        if chunk.name == b"fmt ":
            format = _format(file.read(min(chunk.size, _MAX_FORMAT)))
            if format is None:
                return None
        elif chunk.name == b"LIST" and chunk.size <= _MAX_INFO:
            from_info(file.read(chunk.size), tags)
        elif chunk.name in (b"id3 ", b"ID3 ") and chunk.size <= MAX_COVER + _MAX_INFO:
            id3 = file.read(chunk.size)
        elif chunk.name == b"data" and data is None:
            data = chunk
            if n_bytes is None or (unfinished and chunk.size == 0):
                break
    if format is None:
        raise MediaError("no description of its samples (fmt): the file is damaged or cut")
    if data is None:
        raise MediaError("no samples (data) in it: the file is damaged or cut")
    return _layout(format, data, n_bytes, unfinished, tags, id3)


def _layout(
    format: _Format, data: _Chunk, n_bytes: int | None, unfinished: bool, tags: Tags, id3: bytes | None
) -> PcmLayout:
    width = int(format.code[-1]) * format.channels
    size: int | None = data.size
    is_short = n_bytes is None or data.offset + data.size > n_bytes
    if (data.size == 0 and unfinished) or (is_short and _UNKNOWN <= data.size <= 0xFFFFFFFF):
        size = None
    n_said = None if size is None else size // width
    if n_bytes is not None:
        rest = max(0, n_bytes - data.offset)
        size = rest if size is None else min(size, rest)
    size = None if size is None else size - size % width
    return PcmLayout(
        format.rate,
        format.channels,
        format.code,
        data.offset,
        size,
        n_said,
        format.layout,
        tags.values,
        id3,
        tuple(tags.notes),
    )


def _chunks(file: Forward, wide: bool) -> Iterator[_Chunk]:
    """The chunks of a file, the file at the content of each; what is left unread of it is passed over."""
    n_head = 24 if wide else 8
    large: int | None = None  # bytes of samples, of RF64
    for _ in range(_MAX_CHUNKS):
        head = file.read(n_head)
        if len(head) < n_head:
            return
        size = int.from_bytes(head[16:24], "little") - 24 if wide else int.from_bytes(head[4:8], "little")
        name = head[:4] if not wide or head[4:16] == _W64_TAIL else b""
        if size < 0:
            raise MediaError("a chunk of less than 0 bytes: the file is damaged")
        offset = file.at
        if name == b"ds64":
            body = file.read(min(size, _MAX_FORMAT))
            large = int.from_bytes(body[8:16], "little") if len(body) >= 16 else None
        elif name == b"data" and size == 0xFFFFFFFF and large is not None:
            size = large
        yield _Chunk(name, size, offset)
        if not file.go(offset + size + (-size % 8 if wide else size & 1)):
            return
    raise MediaError(f"more than {_MAX_CHUNKS} chunks; expected some: the file is damaged")


def _format(body: bytes) -> _Format | None:
    """The type of sample; None for one that isn't PCM. MediaError for what can't be."""
    if len(body) < 16:
        raise MediaError(f"a description of its samples (fmt) of {len(body)} bytes; expected at least 16")
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", body)
    mask = 0
    if tag == _EXTENSIBLE and len(body) >= 40:
        mask = int.from_bytes(body[20:24], "little")
        tag = int.from_bytes(body[24:26], "little") if body[26:40] == _GUID_TAIL else 0
    if tag not in (_PCM, _FLOAT):
        return None
    check_shape(rate, channels)
    width = -(-bits // 8)
    if align != width * channels or width not in ((1, 2, 3, 4) if tag == _PCM else (4, 8)):
        kind = "floats" if tag == _FLOAT else "integers"
        raise MediaError(
            f"samples of {bits} bits as {kind} in blocks of {align} bytes for {channels} channels; expected integers "
            "of 8 to 32 bits, or floats of 32 or 64"
        )
    code = f"<f{width}" if tag == _FLOAT else "u1" if width == 1 else f"<i{width}"
    layout = _LAYOUTS.get(mask, "") if mask.bit_count() == channels else ""
    return _Format(code, channels, rate, layout)
