"""The file format: layout byte by byte, round trips, and everything that has to be refused."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec import container
from codec.container import (
    MAX_CHUNKS,
    MAX_ITEMS,
    MAX_META,
    Chunk,
    ChunkReader,
    Header,
    check_critical,
    describe,
    is_container,
    pack,
    read_header,
    unpack,
    write,
)
from codec.errors import CodecError, ContainerError

from .damage import Damage, cbor_of, hostile_headers, replace_item, reseal

PHOTO = Header(
    codec="walloc",
    stream=1,
    weights=bytes(range(16)),
    coder="constriction",
    arithmetic="int",
    medium="image",
    shape=(512, 768, 3),
    dtype="uint8",
    params={"m": "16x", "q": 50},
)
BODY = Chunk("Body", b"payload of the one chunk")


def test_overhead_is_at_most_80_bytes():
    assert len(pack(PHOTO, [BODY])) - len(BODY.payload) <= 80


def test_layout_byte_by_byte():
    """Written from docs/format.md with cbor2, without the code under test."""
    body = cbor2.dumps(
        ["walloc", 1, bytes(range(16)), 1, 1, 0, [512, 768, 3], 0, {"m": "16x", "q": 50}, {}, 1], canonical=True
    )
    start = b"\x89CDC\x01" + struct.pack(">H", len(body)) + body
    crc = zlib.crc32(start)
    frame = b"Body" + struct.pack(">I", len(BODY.payload)) + BODY.payload
    seal = zlib.crc32(struct.pack(">II", crc, 0) + frame)
    assert pack(PHOTO, [BODY]) == start + struct.pack(">I", crc) + frame + struct.pack(">I", seal)


names = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,31}", fullmatch=True)
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), floats, st.text(max_size=40), st.binary(max_size=40)
)
values = st.one_of(scalars, st.lists(scalars, max_size=6).map(tuple))
maps = st.dictionaries(st.text(min_size=1, max_size=30), values, max_size=8)
headers = st.builds(
    Header,
    codec=names,
    stream=st.integers(0, 65535),
    weights=st.one_of(st.just(b""), st.binary(min_size=16, max_size=16)),
    coder=st.one_of(st.sampled_from(["", "constriction", "torchac", "webp"]), names),
    arithmetic=st.one_of(st.sampled_from(["", "int", "float64"]), names),
    medium=st.sampled_from(["image", "audio", "video", "other"]),
    shape=st.tuples(st.integers(1, 9999), st.integers(1, 9999), st.integers(1, 4)),
    dtype=st.one_of(st.sampled_from(["uint8", "uint16", "float32"]), names),
    params=maps,
    meta=maps,
)
tags = st.from_regex(r"[A-Za-z]{4}", fullmatch=True).filter(lambda tag: tag != "meta")
chunks_of = st.lists(st.builds(Chunk, tag=tags, payload=st.binary(max_size=60)), max_size=4)


@given(headers, chunks_of)
def test_round_trip(header, chunks):
    data = pack(header, chunks)
    back, unpacked = unpack(memoryview(data))
    assert unpacked == tuple(chunks)
    for name in vars(header):
        given_value, got = getattr(header, name), getattr(back, name)
        assert dict(got) == dict(given_value) if name in ("params", "meta") else got == given_value
        if name in ("params", "meta"):
            assert {key: type(value) for key, value in got.items()} == {k: type(v) for k, v in given_value.items()}
    assert pack(back, unpacked) == data
    assert vars(read_header(data)) == vars(back)


@given(maps)
def test_cbor_is_that_of_rfc_8949(params):
    """cbor2 is the oracle: same bytes when it writes canonically, same values when it reads."""
    body = cbor_of(pack(Header("x", 1, params=params), []))
    fields = cbor2.loads(body)
    assert fields[8] == {key: list(value) if isinstance(value, tuple) else value for key, value in params.items()}
    ordered = dict(sorted(fields[8].items(), key=lambda item: cbor2.dumps(item[0])))
    assert cbor2.dumps([*fields[:8], ordered, *fields[9:]], canonical=True) == body


@pytest.mark.parametrize("n_bytes", [0, 200, 255, 256, 257, 3144, 70000])
def test_metadata_of_any_size(n_bytes):
    import random

    icc = random.Random(n_bytes).randbytes(n_bytes)
    header = Header(**{**vars(PHOTO), "meta": {"icc": icc}})
    data = pack(header, [BODY])
    assert unpack(data)[0].meta == {"icc": icc}
    assert unpack(data)[1] == (BODY,)
    assert read_header(data[: -len(BODY.payload)]).meta == {"icc": icc}  # the payload isn't needed
    assert len(data) <= len(pack(PHOTO, [BODY])) + n_bytes + 30


def test_large_metadata_are_compressed():
    header = Header(**{**vars(PHOTO), "meta": {"icc": b"curve" * 1000}})
    assert len(pack(header, [BODY])) < 250


def test_metadata_have_a_cap():
    with pytest.raises(ContainerError, match="metadata"):
        pack(Header("x", 1, meta={"icc": bytes(MAX_META)}), [])


def test_what_is_in_the_metadata_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the writer takes the reader takes, and an item more is refused by both, before it is read."""
    full = {f"{i:04}": (i,) * 4000 for i in range(16)}  # 16 x 4002 items, in 4 kB compressed
    rest = MAX_ITEMS - 16 * 4002
    fits, over = full | {"rest": (1,) * (rest - 2)}, full | {"rest": (1,) * (rest - 1)}
    data = pack(replace(PHOTO, meta=fits), [BODY])
    assert dict(unpack(data)[0].meta) == fits
    with pytest.raises(ContainerError, match=f"{MAX_ITEMS + 1} values and keys"):
        pack(replace(PHOTO, meta=over), [BODY])
    monkeypatch.setattr(container, "MAX_ITEMS", MAX_ITEMS + 1)
    data = pack(replace(PHOTO, meta=over), [BODY])
    monkeypatch.undo()
    reads: list[int] = []
    take = container._take
    monkeypatch.setattr(container, "_take", lambda *given: reads.append(1) or take(*given))
    for read in (unpack, read_header, describe, lambda data: ChunkReader(io.BytesIO(data))):
        reads.clear()
        with pytest.raises(ContainerError, match="items"):
            read(data)
        assert len(reads) < 3 * MAX_ITEMS


def test_the_cost_of_metadata_is_in_proportion_to_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    take = container._take
    monkeypatch.setattr(container, "_take", lambda *given: reads.append(1) or take(*given))
    costs = []
    for n in (1000, 2000, 4000):
        data = pack(replace(PHOTO, meta={f"{i:04}": i for i in range(n)}), [BODY])
        reads.clear()
        read_header(data)
        costs.append(len(reads))
    assert costs[2] < 2.1 * costs[1] < 4.3 * costs[0]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x02" + b"x" * 300,
        b"\x00\xa0",
        b"\x00" + b"\x81" * 300,
        b"\x00" + cbor2.dumps([0] * 300),
        b"\x00" + cbor2.dumps({"a": "b" * 300}) + b"\x00",
        b"\x01" + zlib.compress(cbor2.dumps({"a": "b" * 300}))[:-5],
        b"\x01" + zlib.compress(cbor2.dumps({"a": "b" * 300})) + b"\x00",
        b"\x01" + zlib.compress(bytes(1 << 28)),
        b"\x01" + zlib.compress(cbor2.dumps({"a": [0] * 10_000_000})),
        b"\x01" + zlib.compress(cbor2.dumps({f"{i:04}": [0] * 4090 for i in range(4090)})),
    ],
)
def test_hostile_metadata(payload):
    body = replace_item(cbor_of(pack(PHOTO, [BODY])), 9, b"\xf6")
    data = reseal(body, pack(PHOTO, [Chunk("Meta", payload)])).replace(b"Meta", b"meta")
    start = 7 + len(body)
    frame = data[start + 4 : -4]
    data = data[:-4] + struct.pack(">I", zlib.crc32(data[start : start + 4] + bytes(4) + frame))
    good = Damage(pack(PHOTO, [BODY]), unpack)
    good.check(data, "metadata", only_error=True)
    good.decode = read_header
    good.check(data, "metadata", only_error=True)


def test_damage():
    damage = Damage(pack(Header(**{**vars(PHOTO), "meta": {"icc": b"\x07" * 400}}), [BODY, Chunk("more", b"")]), unpack)
    damage.truncations()
    damage.flips_and_splices()
    damage.foreign()


def test_header_of_a_damaged_file_is_refused():
    data = pack(PHOTO, [BODY])
    damage = Damage(data, lambda part: read_header(part[: len(data) - len(BODY.payload) - 12]))
    damage.flips_and_splices(500)


# What is well formed, so that only a codec can refuse it; tests/codecs/ see to that.
WELL_FORMED = re.compile(
    r"size .*|[1-4] channels|dtype .*|another codec|a later stream|other weights|another medium|an unknown medium"
    r"|an unknown critical chunk|no chunks|field 1 is b'(\\x19\\xff\\xff)'|field 2 is b'@'"
)


def test_hostile_headers_are_refused():
    damage = Damage(pack(PHOTO, [BODY]), unpack)
    for what, data in hostile_headers(PHOTO, [BODY]):
        well_formed = WELL_FORMED.fullmatch(what) is not None
        damage.check(data, what, only_error=not well_formed, any_result=well_formed)


def test_entries_are_counted_before_they_are_read():
    with pytest.raises(ContainerError, match="announces 12 entries"):
        unpack(reseal(b"\x8c" + b"\x00" * 11, pack(PHOTO, [])))


def test_chunks_are_bound_to_their_place_and_header():
    first, second = Chunk("Aaaa", b"1234"), Chunk("Aaaa", b"5678")
    data, other = pack(PHOTO, [first, second]), pack(Header(**{**vars(PHOTO), "stream": 2}), [first, second])
    with pytest.raises(ContainerError, match="CRC"):
        unpack(data[:-32] + data[-16:] + data[-32:-16])  # in another order
    with pytest.raises(ContainerError, match="CRC"):
        unpack(data[:-16] + other[-16:])  # from another file


def test_critical_chunks():
    check_critical([Chunk("Body", b""), Chunk("note", b"")], {"Body"})
    with pytest.raises(ContainerError, match="'Next'.*newer"):
        check_critical([Chunk("Body", b""), Chunk("Next", b"")], {"Body"})


@pytest.mark.parametrize(
    "fields",
    [
        {"codec": ""},
        {"codec": "WaLLoC"},
        {"codec": "a/b"},
        {"codec": "x" * 33},
        {"stream": -1},
        {"stream": 1 << 16},
        {"stream": True},
        {"weights": bytes(15)},
        {"shape": (1 << 20, 1, 3)},
        {"shape": (0, 1, 3)},
        {"shape": (1, 1)},
        {"shape": (1, 1, 5)},
        {"shape": (32768, 32768, 3)},
        {"shape": (1.0, 1, 3)},
        {"medium": "audio", "shape": (1,) * 9},
        {"medium": "audio", "shape": (1 << 30, 1 << 30)},
        {"params": {"": 1}},
        {"params": {"a": None}},
        {"params": {"a": {"b": 1}}},
        {"params": {"a": ((1,),)}},
        {"params": {"a": math.nan}},
        {"params": {"a": math.inf}},
        {"params": {"a": 1 << 63}},
        {"params": {"a": "x" * 70000}},
        {"params": {"a": "\ud800"}},
        {"params": {str(n): 0 for n in range(5000)}},
        {"meta": {1: "a"}},
    ],
)
def test_headers_that_cannot_be_written(fields):
    with pytest.raises(ContainerError):
        pack(Header(**{**vars(PHOTO), **fields}), [])


@pytest.mark.parametrize("tag", ["", "abc", "abcde", "ab1d", "äbcd", "meta"])
def test_tags_that_cannot_be_written(tag):
    with pytest.raises(ContainerError, match="tag"):
        pack(PHOTO, [Chunk(tag, b"")])


def test_number_of_chunks_is_checked_before_they_are_read():
    body = replace_item(cbor_of(pack(PHOTO, [])), 10, b"\x1a" + struct.pack(">I", MAX_CHUNKS))
    with pytest.raises(ContainerError, match="announces"):
        unpack(reseal(body, pack(PHOTO, [])))


def test_messages_say_what_to_do():
    data = pack(PHOTO, [BODY])
    with pytest.raises(CodecError, match="not a codec file"):
        unpack(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(CodecError, match="pip install -U codec-suite"):
        unpack(data[:4] + b"\x02" + data[5:])
    with pytest.raises(CodecError, match="cut short"):
        unpack(data[:-1])


def test_describe():
    data = pack(Header(**{**vars(PHOTO), "meta": {"icc": bytes(10)}}), [BODY])
    info = describe(data)
    assert info["codec"] == "walloc"
    assert (info["height"], info["width"], info["channels"]) == (512, 768, 3)
    assert info["chunks"] == [["Body", 24]]
    assert info["n_bytes"] == len(data)
    assert info["overhead"] == len(data) - 24
    assert info["bpp"] == 8 * len(data) / (512 * 768)
    assert info["meta"] == {"icc": "10 bytes"}
    with pytest.raises(ContainerError):
        describe(data[:-1])


def test_is_container():
    assert is_container(pack(PHOTO, []))
    assert not is_container(b"")
    assert not is_container(b"\x89PNG")


# ---- chunk by chunk


def big_meta() -> Header:
    return replace(PHOTO, meta={"exif": bytes(range(256)) * 9})


@pytest.mark.parametrize("spilled", [False, True])
def test_a_reader_of_chunks_reads_what_unpack_reads(spilled: bool) -> None:
    header = big_meta() if spilled else PHOTO
    chunks = (Chunk("Body", b"abc" * 100), Chunk("none", b""), Chunk("Body", b"x"))
    data = pack(header, chunks)
    reader = ChunkReader(io.BytesIO(data))
    assert (reader.header, reader.n_chunks) == (header, 3)
    position, read = reader.start, []
    for index in range(3):
        chunk, position = reader.read(index, position)
        read.append(chunk)
    assert (tuple(read), position) == (chunks, len(data))
    places = reader.places()
    assert [(place.tag, place.n_bytes) for place in places] == [(c.tag, len(c.payload)) for c in chunks]
    assert reader.read(2, places[2].position)[0] == chunks[2]
    assert places[2].end == len(data)
    buffer = io.BytesIO()
    assert write(buffer, header, iter(chunks), 3) == len(data)
    assert buffer.getvalue() == data
    with pytest.raises(AssertionError, match="announced"):
        write(io.BytesIO(), header, iter(chunks[:2]), 3)


def test_a_reader_of_chunks_is_strict() -> None:
    chunks = (Chunk("Body", b"abc" * 100), Chunk("Body", b"x" * 40))
    data = pack(PHOTO, chunks)
    start, second = ChunkReader(io.BytesIO(data)).start, ChunkReader(io.BytesIO(data)).places()[1].position
    for n_bytes in range(len(data)):
        with pytest.raises(ContainerError):
            ChunkReader(io.BytesIO(data[:n_bytes])).places()
    with pytest.raises(ContainerError, match="follow"):
        ChunkReader(io.BytesIO(data + b"x")).places()
    reader = ChunkReader(io.BytesIO(data))
    for index, position in ((1, start), (0, second), (0, start + 1), (0, len(data)), (0, len(data) - 4)):
        with pytest.raises(ContainerError):
            reader.read(index, position)  # elsewhere, or as another chunk
    for at in range(start, len(data)):
        bad = ChunkReader(io.BytesIO(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]))
        index = 0 if at < second else 1
        with pytest.raises(ContainerError):
            bad.read(index, (start, second)[index])
        assert bad.read(1 - index, (second, start)[index])[0] == chunks[1 - index]
