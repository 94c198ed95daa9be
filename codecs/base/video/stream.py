"""The stream of a video codec: times, a table of groups, one chunk for each group, sound. docs/format.md has the bytes.

A group's chunk can be read, verified and decoded alone once the groups since the last key group are decoded, so a
video opens at any frame, and damage reaches no further than the next key group.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ....container import Chunk, ChunkPlace, ChunkReader, Header, Value
from ....entropy.integers import ByteReader, put_varint
from ....errors import CodecError, ContainerError, StreamError
from ....media.video.values import Frame, VideoInfo
from ...layers.inference import fresh_torch
from ..doors import damage_is_an_error
from .groups import GroupShape, Planes, Preset

__all__ = ["GroupEntry", "VideoFile", "digest_of", "group_payload", "header_of", "table_of", "times_of"]

GROUP, TABLE, TIMES, AUDIO = "Grou", "Grps", "Time", "audi"
LEADING = 2  # chunks in front of the groups: times, then the table
MAX_GROUP = 1024  # frames
PIXELS_PER_BYTE = 8192  # of a group's chunk, all frames counted: what is simpler is filled up with zeros
PIXELS = ("rgb24", "yuv420p", "gray")  # in params["p"]. Append only.
COLOR = ("range", "matrix", "primaries", "transfer")
GREY = 128  # shown, when concealing, where there is no frame yet


class GroupEntry(NamedTuple):
    """A line of the table of groups. n_bytes: of the chunk's payload."""

    n_frames: int
    key: bool
    n_bytes: int


# ---- writing


def header_of(codec: str, stream: int, info: VideoInfo, n_frames: int, preset: str, coder: str = "") -> Header:
    """The header of a file that holds such a video."""
    meta: dict[str, Value] = {"tb": info.time_base.as_integer_ratio()}
    if info.frame_rate is not None:
        meta["fps"] = info.frame_rate.as_integer_ratio()
    if info.sample_aspect is not None:
        meta["sar"] = info.sample_aspect.as_integer_ratio()
    meta |= {name: info.color[name] for name in COLOR if name in info.color}
    return Header(
        codec=codec,
        stream=stream,
        coder=coder,
        arithmetic="int",
        medium="video",
        shape=(n_frames, info.height, info.width, 1 if info.pixels == "gray" else 3),
        params={"p": PIXELS.index(info.pixels), "preset": preset},
        meta=meta,
    )


def times_of(durations: Sequence[int]) -> bytes:
    """The chunk of times: 0 and the duration that all frames share, or 1 and a zlib stream of all durations."""
    if len(set(durations)) == 1:
        return b"\0" + put_varint(durations[0])
    return b"\1" + zlib.compress(b"".join(map(put_varint, durations)), 9)


def table_of(entries: Iterable[GroupEntry]) -> bytes:
    """The chunk of the table: of each group twice its frames, plus 1 for a key group, and its bytes, as varints."""
    return b"".join(put_varint(2 * entry.n_frames + entry.key) + put_varint(entry.n_bytes) for entry in entries)


def group_payload(payload: bytes, digest: int, shape: GroupShape) -> bytes:
    """The chunk of a group: length and bytes of the preset's payload, CRC-32 of its frames, zeros if needed."""
    body = put_varint(len(payload)) + payload + digest.to_bytes(4, "big")
    pixels = shape.n_frames * shape.width * shape.height
    return body + bytes(max(0, -(-pixels // PIXELS_PER_BYTE) - len(body)))


def digest_of(frames: Iterable[Planes]) -> int:
    """The CRC-32 of all samples, plane after plane: decoding anything else is an error."""
    crc = 0
    for planes in frames:
        for plane in planes:
            crc = zlib.crc32(np.ascontiguousarray(plane).data, crc)
    return crc


# ---- reading


class VideoFile:
    """An open file of a video codec. It reads what it is asked for; memory is that of one group.

    presets: by name, what makes each. conceal: where a group is damaged or missing, show the last good frame until the
    next key group, and list the frames in `missing`; without it, StreamError.
    """

    def __init__(self, file: BinaryIO, presets: Mapping[str, Callable[[], Preset]], conceal: bool = False) -> None:
        self._chunks = ChunkReader(file)
        self.header = self._chunks.header
        self.conceal = conceal
        self.missing: list[int] = []
        self.info = info_of(self.header)
        self.n_frames = self.header.shape[0]
        name = self.header.params.get("preset")
        if not isinstance(name, str) or name not in presets:
            raise StreamError(
                f"made with preset {name!r}; this version has {', '.join(presets)}: pip install -U codec-suite"
            )
        with fresh_torch():
            self._preset = presets[name]()
        times, position = self._leading(0, TIMES, self._chunks.start)
        table, position = self._leading(1, TABLE, position)
        self.groups = read_table(table, self.n_frames)
        self._first = list(accumulate((entry.n_frames for entry in self.groups), initial=0))
        self._places = self._check_places(position)
        self._pts = read_times(times, self.n_frames)

    @property
    def n_bytes(self) -> int:
        """The size of the file."""
        return self._chunks.n_bytes

    def _leading(self, index: int, tag: str, position: int) -> tuple[bytes, int]:
        chunk, end = self._chunks.read(index, position)
        if chunk.tag != tag:
            raise StreamError(f"chunk {index} is {chunk.tag!r}; expected {tag!r}: the file is damaged")
        return chunk.payload, end

    def _check_places(self, position: int) -> list[ChunkPlace]:
        """The places of the groups by the table, with which the file must agree unless damage is to be concealed."""
        places = []
        for entry in self.groups:
            places.append(ChunkPlace(GROUP, position, entry.n_bytes))
            position = places[-1].end
        self._behind = position
        if not self.conceal:
            in_file = self._chunks.places()
            if in_file[LEADING : LEADING + len(places)] != places:
                raise StreamError("the groups aren't where the table says: the file is damaged; get it again")
            for place in in_file[LEADING + len(places) :]:
                if place.tag[0].isupper():
                    raise ContainerError(
                        f"chunk {place.tag!r} is needed to decode this file and not known here: made by a newer "
                        "version, or damaged; try pip install -U codec-suite"
                    )
        return places

    def audio(self) -> bytes | None:
        """The sound, as `VideoReader.audio` gave it, a Matroska file; None if there is none."""
        index, position = LEADING + len(self.groups), self._behind
        try:
            while index < self._chunks.n_chunks:
                chunk, position = self._chunks.read(index, position)
                if chunk.tag == AUDIO:
                    return chunk.payload
                index += 1
        except ContainerError:
            if not self.conceal:
                raise
        return None

    def seconds(self, frame: int) -> Fraction:
        """The time at which frame number `frame` begins, in seconds; for n_frames, that at which the last one ends."""
        return self._pts.at(frame) * self.info.time_base

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Gives the frames start to stop, the first of them at time 0. They are the same for any range."""
        stop = self.n_frames if stop is None else min(stop, self.n_frames)
        start = max(0, start)
        origin = self._pts.at(start) if start < stop else 0
        for number, planes in self._numbered(start, stop):
            at = self._pts.at(number)
            yield Frame(planes, at - origin, self._pts.at(number + 1) - at)

    def _numbered(self, start: int, stop: int) -> Iterator[tuple[int, Planes]]:
        state: Any = None
        whole = False  # whether `state` is what the group before left
        last: Planes | None = None
        for index in range(self._key_before(start), len(self.groups)):
            first = self._first[index]
            if first >= stop:
                return
            entry = self.groups[index]
            frames: list[Planes] = []
            if entry.key or whole:
                try:
                    frames, state = self._group(index, None if entry.key else state)
                except CodecError:
                    if not self.conceal:
                        raise
            whole = bool(frames)
            for offset in range(entry.n_frames):
                number = first + offset
                if whole:
                    last = frames[offset]
                if start <= number < stop:
                    if not whole:
                        self.missing.append(number)
                        last = last or self._grey()
                    assert last is not None
                    yield number, last

    def _key_before(self, frame: int) -> int:
        """The number of the last key group that begins at or before `frame`."""
        keys = [i for i, entry in enumerate(self.groups) if entry.key and self._first[i] <= frame]
        return keys[-1] if keys else 0

    def _group(self, index: int, state: Any) -> tuple[list[Planes], Any]:
        place, entry = self._places[index], self.groups[index]
        chunk, end = self._chunks.read(LEADING + index, place.position)
        if chunk.tag != GROUP or end != place.end:
            raise StreamError(f"group {index} isn't where the table says: the file is damaged; get it again")
        shape = GroupShape(entry.n_frames, self.info.pixels, self.info.width, self.info.height)
        pixels = entry.n_frames * self.info.width * self.info.height
        if pixels > PIXELS_PER_BYTE * len(chunk.payload):
            raise StreamError(
                f"{len(chunk.payload)} bytes can't hold {entry.n_frames} frames of {shape.width}x{shape.height} (at "
                f"most {PIXELS_PER_BYTE} pixels a byte): the file is damaged"
            )
        reader = ByteReader(chunk.payload)
        payload = reader.take(reader.varint())
        digest = int.from_bytes(reader.take(4), "big")
        with fresh_torch(self._preset.device), damage_is_an_error():
            frames, state = self._preset.decode(payload, state, shape)
        if digest_of(frames) != digest:
            raise StreamError(f"group {index} decodes to other frames than were encoded: the file is damaged")
        return frames, state

    def _grey(self) -> Planes:
        shape = (self.info.height, self.info.width)
        if self.info.pixels == "rgb24":
            return (np.full((*shape, 3), GREY, np.uint8),)
        if self.info.pixels == "gray":
            return (np.full(shape, GREY, np.uint8),)
        half = (-(-shape[0] // 2), -(-shape[1] // 2))
        return (np.full(shape, GREY, np.uint8), np.full(half, GREY, np.uint8), np.full(half, GREY, np.uint8))


def info_of(header: Header) -> VideoInfo:
    """The description of a video in its header; StreamError for what no encoder writes."""
    if len(header.shape) != 4 or header.dtype != "uint8":
        raise StreamError(f"a video of shape {header.shape}, {header.dtype}; expected four sides of uint8: damaged")
    index = header.params.get("p")
    if type(index) is not int or not 0 <= index < len(PIXELS):
        raise StreamError(f"pixels of kind {index!r}: a newer version, or damaged")
    pixels = PIXELS[index]
    if header.shape[3] != (1 if pixels == "gray" else 3):
        raise StreamError(f"{header.shape[3]} channels of {pixels}: the file is damaged")
    color = {}
    for name in COLOR:
        if (value := header.meta.get(name)) is not None:
            if type(value) is not int or not 0 <= value < 256:
                raise StreamError(f"metadata {name!r} is {value!r}: the file is damaged")
            color[name] = value
    time_base = _fraction(header, "tb")
    if time_base is None:
        raise StreamError("the file doesn't say what its times are counted in: it is damaged")
    try:
        return VideoInfo(
            width=header.shape[2],
            height=header.shape[1],
            pixels=pixels,
            time_base=time_base,
            frame_rate=_fraction(header, "fps"),
            color=color,
            sample_aspect=_fraction(header, "sar"),
        )
    except CodecError as error:
        raise StreamError(f"{error}: the file is damaged") from None


def _fraction(header: Header, name: str) -> Fraction | None:
    value = header.meta.get(name)
    if value is None:
        return None
    if not isinstance(value, tuple) or len(value) != 2 or not all(type(n) is int and 0 < n < 1 << 62 for n in value):
        raise StreamError(f"metadata {name!r} is {value!r}; expected two numbers: the file is damaged")
    return Fraction(int(value[0]), int(value[1]))


def read_table(data: bytes, n_frames: int) -> list[GroupEntry]:
    """The table of groups in the bytes of `table_of`; StreamError if it isn't that of so many frames."""
    reader, out, total, end = ByteReader(data), [], 0, len(data)
    while reader.at < end:
        count, n_bytes = reader.varint(), reader.varint()
        out.append(GroupEntry(count >> 1, bool(count & 1), n_bytes))
        total += count >> 1
        if not 1 <= count >> 1 <= MAX_GROUP or n_bytes > 0xFFFF_FFFF:
            raise StreamError(f"a group of {count >> 1} frames, {n_bytes} bytes: the file is damaged")
    if not out or not out[0].key or total != n_frames:
        raise StreamError(f"the table has {total} frames, the header {n_frames}, or no key group first: damaged")
    return out


class Times(NamedTuple):
    """The times of n frames, in units of the time base. each: the duration of all, or 0 and `starts` has n + 1."""

    each: int
    starts: list[int]

    def at(self, frame: int) -> int:
        """The time at which a frame begins."""
        return self.each * frame if self.each else self.starts[frame]


def read_times(data: bytes, n_frames: int) -> Times:
    """The times in the bytes of `times_of`; StreamError if they aren't those of so many frames."""
    if data[:1] == b"\0":
        reader = ByteReader(data[1:])
        each = reader.varint()
        if not each or reader.rest() or each * n_frames >= 1 << 62:
            raise StreamError("the times of the frames aren't any: the file is damaged")
        return Times(each, [])
    if data[:1] != b"\1":
        raise StreamError("the times of the frames are kept in an unknown way: newer, or damaged")
    unzip = zlib.decompressobj()
    try:
        body = unzip.decompress(data[1:], 10 * n_frames + 1)
    except zlib.error:
        raise StreamError("the times of the frames can't be decompressed: the file is damaged") from None
    reader = ByteReader(body)
    durations = [reader.varint() for _ in range(n_frames)]
    starts = list(accumulate(durations, initial=0))
    if not unzip.eof or unzip.unused_data or reader.rest() or 0 in durations[:-1] or starts[-1] >= 1 << 62:
        raise StreamError("the times of the frames don't fit their number: the file is damaged")
    return Times(0, starts)


def chunks_of(
    entries: Sequence[GroupEntry], times: bytes, groups: Iterable[bytes], audio: bytes | None
) -> Iterator[Chunk]:
    """The chunks of a file, in order: times, table, groups, sound if there is any."""
    yield Chunk(TIMES, times)
    yield Chunk(TABLE, table_of(entries))
    for payload in groups:
        yield Chunk(GROUP, payload)
    if audio is not None:
        yield Chunk(AUDIO, audio)
