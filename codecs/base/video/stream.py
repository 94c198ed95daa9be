"""The stream of a video codec: times, a table of groups, one chunk for each group, sound. docs/format.md has the bytes.

A group's chunk can be read, verified and decoded alone once the groups since the last key group are decoded, so a
video opens at any frame, and damage reaches no further than the next key group.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ....container import Chunk, ChunkPlace, ChunkReader, Header, Value
from ....entropy.integers import ByteReader, put_varint
from ....errors import CodecError, ContainerError, StreamError
from ....media.notes import Note, from_meta, to_meta
from ....media.video.sound import joined, pieces_of, with_cluster
from ....media.video.values import Chapter, Frame, VideoInfo
from ...layers.inference import fresh_torch
from ..doors import damage_is_an_error
from ..limits import DEFAULTS, Limits
from .groups import GroupShape, Planes, Preset
from .sound import SoundOfVideo, open_sounds, places_of_tracks

__all__ = ["GroupEntry", "VideoFile", "digest_of", "group_payload", "header_of", "table_of", "times_of"]

GROUP, TABLE, TIMES, AUDIO = "Grou", "Grps", "Time", "audi"
SOUND, TABLE_COPY, TIMES_COPY, SOUND_COPY = "Soun", "grps", "time", "soun"
PIECES = "sound"  # in params: the lengths of the chunks "Soun"
SMALL_SOUND = 1 << 14  # bytes, kept in one chunk, which older versions read
LEADING = 2  # chunks in front of the groups: times, then the table
MAX_GROUP = 1024  # frames
PIXELS_PER_BYTE = 8192  # of a group's chunk, all frames counted: what is simpler is filled up with zeros
PIXELS = ("rgb24", "yuv420p", "gray")  # in params["p"]. Append only.
COLOR = ("range", "matrix", "primaries", "transfer", "chroma")
MAX_TEXTS = 4000  # texts and numbers of one entry of the metadata
GREY = 128  # shown, when concealing, where there is no frame yet


class GroupEntry(NamedTuple):
    """A line of the table of groups. n_bytes: of the chunk's payload."""

    n_frames: int
    key: bool
    n_bytes: int


# ---- writing


def header_of(
    codec: str,
    stream: int,
    info: VideoInfo,
    n_frames: int,
    preset: str,
    coder: str = "",
    notes: Sequence[Note] = (),
    pieces: Sequence[int] = (),
    tracks: Mapping[str, Value] = MappingProxyType({}),
) -> Header:
    """The header of a file that holds such a video. notes: what is lost. pieces: lengths of those of its sound.

    tracks: the params of sound that is coded.
    """
    meta: dict[str, Value] = {"tb": info.time_base.as_integer_ratio()}
    if info.frame_rate is not None:
        meta["fps"] = info.frame_rate.as_integer_ratio()
    if info.sample_aspect is not None:
        meta["sar"] = info.sample_aspect.as_integer_ratio()
    meta |= {name: info.color[name] for name in COLOR if name in info.color}
    if info.early:
        meta["early"] = info.early.limit_denominator(1_000_000).as_integer_ratio()
    for name, texts in (("tags", info.tags), ("track", info.track)):
        if texts:
            meta[name] = tuple(_clean(text) for pair in texts.items() for text in pair)[:MAX_TEXTS]
    if info.chapters:
        flat = [(_micros(c.start), _micros(c.end), _clean(c.title)) for c in info.chapters]
        meta["chapters"] = tuple(value for chapter in flat for value in chapter)[: MAX_TEXTS - MAX_TEXTS % 3]
    meta |= to_meta(tuple(notes))
    params: dict[str, Value] = {"p": PIXELS.index(info.pixels), "preset": preset, **tracks}
    if pieces:
        params[PIECES] = tuple(pieces)
    return Header(
        codec=codec,
        stream=stream,
        coder=coder,
        arithmetic="int",
        medium="video",
        shape=(n_frames, info.height, info.width, 1 if info.pixels == "gray" else 3),
        params=params,
        meta=meta,
    )


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _micros(seconds: Fraction) -> int:
    return min(round(seconds * 1_000_000), 1 << 60)


def sound_chunks(audio: bytes | None) -> tuple[list[Chunk], list[int]]:
    """The chunks of sound, and their lengths if there are several: each is a few seconds, with a checksum of its own.

    The first, which names the tracks, is there twice.
    """
    if audio is None:
        return [], []
    pieces = pieces_of(audio) if len(audio) > SMALL_SOUND else [audio]
    if len(pieces) == 1:
        return [Chunk(AUDIO, audio)], []
    chunks = [Chunk(SOUND, piece) for piece in pieces]
    return [*chunks, Chunk(SOUND_COPY, pieces[0])], [len(piece) for piece in pieces]


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
        self._file, self._chunks = file, ChunkReader(file)
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
        self.notes: list[Note] = list(from_meta(self.header.meta))
        times, position = self._leading(0, TIMES, self._chunks.start)
        table, position = self._leading(1, TABLE, position)
        self.groups = read_table(table, self.n_frames, self.info)
        self._first = list(accumulate((entry.n_frames for entry in self.groups), initial=0))
        self._places = self._check_places(position)
        self._pts = read_times(times, self.n_frames) if times else self._nominal_times()

    @property
    def n_bytes(self) -> int:
        """The size of the file."""
        return self._chunks.n_bytes

    def _leading(self, index: int, tag: str, position: int) -> tuple[bytes, int]:
        """The payload of a chunk before the groups, and where it ends; of damaged times, when concealing, b""."""
        try:
            chunk, end = self._chunks.read(index, position)
            if chunk.tag != tag:
                raise StreamError(f"chunk {index} is {chunk.tag!r}; expected {tag!r}: the file is damaged")
            return chunk.payload, end
        except (ContainerError, StreamError):
            if not self.conceal:
                raise
        copy = self._copy_of(tag)
        if copy is not None:
            end = position + ChunkPlace(tag, 0, len(copy)).end
            words = {TIMES: "times of the frames", TABLE: "lengths of the groups"}[tag]
            self._damaged(f"the {words} in front are damaged: those at the end are taken")
            return copy, end
        if tag == TABLE:
            raise StreamError("the table of the groups is damaged, and so is its copy, if there is one: get it again")
        self._damaged("the times of the frames are damaged: they are shown at a constant rate")
        place = self._find(TABLE, 1, self._chunks.start)
        if place is None:
            raise StreamError("times and table of the groups are damaged: get the file again")
        return b"", place

    def _copy_of(self, tag: str) -> bytes | None:
        """The copy of a leading chunk among the last ones of the file, which is found by its tag and its checksum."""
        index = self._chunks.n_chunks - (2 if tag == TIMES else 1)
        name = {TIMES: TIMES_COPY, TABLE: TABLE_COPY}[tag]
        place = self._find(name, index, max(self._chunks.start, self._chunks.n_bytes - _SEARCHED))
        return None if place is None else self._chunks.read(index, place)[0].payload

    def _find(self, tag: str, index: int, position: int) -> int | None:
        """The position of chunk number `index` with this tag, at or behind `position` and not far."""
        return self._chunks.find(tag, index, position, position + _SEARCHED)

    def _nominal_times(self) -> Times:
        rate = self.info.frame_rate or Fraction(25)
        return Times(max(1, round(1 / (rate * self.info.time_base))), np.zeros(0, np.int64))

    def _damaged(self, words: str) -> None:
        if (note := Note("damage", words)) not in self.notes:
            self.notes.append(note)

    def _check_places(self, position: int) -> list[ChunkPlace]:
        """The places of the groups by the table, with which the file must agree unless damage is to be concealed."""
        places = []
        for entry in self.groups:
            places.append(ChunkPlace(GROUP, position, entry.n_bytes))
            position = places[-1].end
        self._tracks = places_of_tracks(self.header, LEADING + len(places), position, self.n_bytes)
        parts = [part for track in self._tracks for part in track.parts]
        self._behind, self._n_before = (parts[-1].end if parts else position), LEADING + len(places) + len(parts)
        if not self.conceal:
            in_file = self._chunks.places()
            if in_file[LEADING : LEADING + len(places)] != places:
                raise StreamError("the groups aren't where the table says: the file is damaged; get it again")
            if in_file[LEADING + len(places) : self._n_before] != parts:
                raise StreamError("the sound isn't where the header says: the file is damaged; get it again")
            for place in in_file[self._n_before :]:
                if place.tag[0].isupper() and place.tag != SOUND:
                    raise ContainerError(
                        f"chunk {place.tag!r} is needed to decode this file and not known here: made by a newer "
                        "version, or damaged; try pip install -U codec-suite"
                    )
        return places

    def audio(self) -> bytes | None:
        """The tracks beside the picture, as `VideoReader.audio` gave them, a Matroska file; None if there are none.

        Sound that is coded isn't among them: `sounds` has it. When concealing, what is damaged of them is left out, and
        noted.
        """
        sizes = _pieces(self.header)
        index, position = self._n_before, self._behind
        if sizes:
            return self._joined(sizes, index, position)
        try:
            while index < self._chunks.n_chunks:
                chunk, position = self._chunks.read(index, position)
                if chunk.tag == AUDIO:
                    return chunk.payload
                index += 1
        except ContainerError:
            if not self.conceal:
                raise
            self._damaged("the sound can't be read: left out")
        return None

    def sounds(self, limits: Limits = DEFAULTS) -> list[SoundOfVideo]:
        """The tracks of sound that a codec has coded, in order, to be decoded. They can be read while this is open.

        WeightsError where the weights of that codec are missing. When concealing, a track of which nothing can be read
        is left out, and noted.
        """
        tracks, lost = open_sounds(self._file, self._chunks, self._tracks, self.conceal, limits)
        self.notes += [note for note in lost if note not in self.notes]
        return tracks

    def check_rest(self) -> None:
        """Read all chunks behind the sound. ContainerError for one that is damaged, though nobody may need it."""
        position = self._behind
        for index in range(self._n_before, self._chunks.n_chunks):
            _, position = self._chunks.read(index, position)

    def _joined(self, sizes: Sequence[int], index: int, position: int) -> bytes | None:
        """The sound of pieces of these lengths, the first of which is chunk number `index`, at `position`."""
        pieces: list[bytes | None] = []
        start = position
        for number, size in enumerate(sizes):
            try:
                chunk, _ = self._chunks.read(index + number, position)
                if chunk.tag != SOUND or len(chunk.payload) != size:
                    raise StreamError(f"chunk {index + number} isn't a piece of the sound: the file is damaged")
                pieces.append(chunk.payload)
            except (ContainerError, StreamError):
                if not self.conceal:
                    raise
                pieces.append(None)
            position = ChunkPlace(SOUND, position, size).end
        missing = [number for number, piece in enumerate(pieces) if piece is None]
        if missing and missing[0] == 0:
            place = self._find(SOUND_COPY, index + len(sizes), position) or self._find(
                SOUND_COPY, index + len(sizes), start
            )
            pieces[0] = None if place is None else self._chunks.read(index + len(sizes), place)[0].payload
            missing.pop(0)
        if pieces[0] is None:
            self._damaged("the sound can't be read: left out")
            return None
        if missing:
            share = sum(sizes[number] for number in missing) / max(1, sum(sizes[1:]))
            seconds = float(self.seconds(self.n_frames)) * share
            self._damaged(f"{len(missing)} of {len(sizes) - 1} pieces of the sound, about {seconds:.1f} s: left out")
        audio = joined(pieces, sizes)
        return audio if len(missing) < len(sizes) - 1 else with_cluster(audio)  # no packet is left

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
            early=_fraction(header, "early") or Fraction(0),
            tags=_texts(header, "tags"),
            track=_texts(header, "track"),
            chapters=_chapters(header),
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


def _texts(header: Header, name: str) -> dict[str, str]:
    """Pairs of texts in the metadata; those that aren't are left out, since none decides what is decoded."""
    value = header.meta.get(name, ())
    texts = [text for text in value if isinstance(text, str)] if isinstance(value, tuple) else []
    is_whole = isinstance(value, tuple) and len(texts) == len(value)
    return dict(zip(texts[::2], texts[1::2], strict=False)) if is_whole else {}


def _chapters(header: Header) -> tuple[Chapter, ...]:
    value = header.meta.get("chapters", ())
    if not isinstance(value, tuple) or len(value) % 3:
        return ()
    out = []
    for start, end, title in zip(value[::3], value[1::3], value[2::3], strict=True):
        if type(start) is int and type(end) is int and isinstance(title, str) and 0 <= start <= end < 1 << 61:
            out.append(Chapter(Fraction(start, 1_000_000), Fraction(end, 1_000_000), title))
    return tuple(out)


def _pieces(header: Header) -> tuple[int, ...]:
    """The lengths of the pieces of sound; StreamError for what no encoder writes."""
    value = header.params.get(PIECES, ())
    if not isinstance(value, tuple) or not all(type(size) is int and 0 < size < 1 << 32 for size in value):
        raise StreamError("the lengths of the pieces of sound aren't any: the file is damaged")
    return tuple(size for size in value if isinstance(size, int))


def read_table(data: bytes, n_frames: int, info: VideoInfo) -> list[GroupEntry]:
    """The table of groups in the bytes of `table_of`; StreamError if it isn't that of so many frames."""
    reader, out, total, end = ByteReader(data), [], 0, len(data)
    area = info.width * info.height
    while reader.at < end:
        count, n_bytes = reader.varint(), reader.varint()
        out.append(GroupEntry(count >> 1, bool(count & 1), n_bytes))
        total += count >> 1
        if not 1 <= count >> 1 <= MAX_GROUP or n_bytes > 0xFFFF_FFFF:
            raise StreamError(f"a group of {count >> 1} frames, {n_bytes} bytes: the file is damaged")
        if (count >> 1) * area > PIXELS_PER_BYTE * n_bytes:
            raise StreamError(
                f"{n_bytes} bytes can't hold {count >> 1} frames of {info.width}x{info.height} (at most "
                f"{PIXELS_PER_BYTE} pixels a byte): the file is damaged"
            )
    if not out or not out[0].key or total != n_frames:
        raise StreamError(f"the table has {total} frames, the header {n_frames}, or no key group first: damaged")
    return out


class Times(NamedTuple):
    """The times of n frames, in units of the time base. each: the duration of all, or 0 and `starts` has n + 1."""

    each: int
    starts: NDArray[np.int64]

    def at(self, frame: int) -> int:
        """The time at which a frame begins."""
        return self.each * frame if self.each else int(self.starts[frame])


def read_times(data: bytes, n_frames: int) -> Times:
    """The times in the bytes of `times_of`; StreamError if they aren't those of so many frames."""
    if data[:1] == b"\0":
        reader = ByteReader(data[1:])
        each = reader.varint()
        if not each or reader.rest() or each * n_frames >= 1 << 62:
            raise StreamError("the times of the frames aren't any: the file is damaged")
        return Times(each, np.zeros(0, np.int64))
    if data[:1] != b"\1":
        raise StreamError("the times of the frames are kept in an unknown way: newer, or damaged")
    unzip = zlib.decompressobj()
    try:
        body = unzip.decompress(data[1:], 10 * n_frames + 1)
    except zlib.error:
        raise StreamError("the times of the frames can't be decompressed: the file is damaged") from None
    durations = _varints(body, n_frames)
    fits = unzip.eof and not unzip.unused_data and durations is not None
    if not fits or durations is None or (durations[:-1] == 0).any() or durations.sum(dtype=np.float64) >= 1 << 61:
        raise StreamError("the times of the frames don't fit their number: the file is damaged")
    starts = np.zeros(n_frames + 1, np.int64)
    np.cumsum(durations, out=starts[1:])
    return Times(0, starts)


def _varints(data: bytes, n: int) -> NDArray[np.int64] | None:
    """So many varints, each below 2^63 and in its shortest form, that fill the bytes; None if they don't."""
    values = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(values < 128)
    if len(ends) != n or not n or ends[-1] != len(values) - 1:
        return None
    begins = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - begins + 1
    if lengths.max() > 9 or ((lengths > 1) & (values[ends] == 0)).any():
        return None
    out = np.zeros(n, np.int64)
    for place in range(int(lengths.max())):
        held = lengths > place
        out[held] |= (values[begins[held] + place] & 127).astype(np.int64) << (7 * place)
    return out


def chunks_of(
    entries: Sequence[GroupEntry], times: bytes, groups: Iterable[bytes], sound: Sequence[Chunk]
) -> Iterator[Chunk]:
    """The chunks of a file, in order: times, table, groups, sound if there is any, and copies of times and table."""
    table = table_of(entries)
    yield Chunk(TIMES, times)
    yield Chunk(TABLE, table)
    for payload in groups:
        yield Chunk(GROUP, payload)
    yield from sound
    yield Chunk(TIMES_COPY, times)
    yield Chunk(TABLE_COPY, table)


N_COPIES = 2  # chunks behind the sound
_SEARCHED = 1 << 26  # bytes in which a chunk is looked for whose place isn't known
