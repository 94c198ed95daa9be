"""The compact form of files: layout byte by byte, strictness, and packets of which any may be lost."""

from __future__ import annotations

import io
import random
import struct
import zlib
from dataclasses import replace

import pytest

from codec import container
from codec.container import (
    PACKET,
    Chunk,
    ChunkReader,
    Header,
    describe,
    is_container,
    is_whole,
    pack,
    read_header,
    salvage,
    unpack,
)
from codec.errors import ContainerError

WEIGHTS = bytes(range(16))
PHOTO = Header("vqgan", 1, WEIGHTS, "mix", "int", shape=(256, 256, 3), params={"bits": 3})
INDEX = Chunk("Indx", random.Random(1).randbytes(96))
SPREAD = replace(PHOTO, coder="fixed", params={"bits": 8, "packets": 6})
PACKETS = [Chunk(PACKET, random.Random(n).randbytes(40)) for n in range(6)]


def same(read: Header, header: Header) -> bool:
    return read == replace(header, weights=header.weights[:4])


class TestOneChunk:
    def test_layout_byte_by_byte(self) -> None:
        """Written from docs/format.md, without the code under test."""
        start = b"\x8aCD\x01" + b"\x00\x01" + WEIGHTS[:4] + bytes([1 << 3]) + b"\x03" + b"\x80\x02" + b"\x80\x02"
        body = start + INDEX.payload
        assert pack(PHOTO, [INDEX], compact=True) == body + zlib.crc32(body).to_bytes(4, "big")

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("kind", [{}, {"k": 4}])
    @pytest.mark.parametrize("sides", [(256, 256), (1, 127), (16383, 16383), ((1 << 20) - 1, 3)])
    def test_overhead_is_at_most_24_bytes(self, channels: int, kind: dict[str, int], sides: tuple[int, int]) -> None:
        header = replace(PHOTO, shape=(*sides, channels), params={"bits": 11, **kind}, coder="circuit")
        data = pack(header, [INDEX], compact=True)
        assert len(data) - len(INDEX.payload) <= 24
        read, chunks = unpack(memoryview(data))
        assert same(read, header) and chunks == (INDEX,)
        assert same(read_header(data[:30]), header)  # the payload isn't needed
        assert pack(read, chunks, compact=True) == data
        assert describe(data) == describe(io.BytesIO(data)) and describe(data)["overhead"] <= 24

    @pytest.mark.parametrize(
        "changes",
        [
            {"codec": "walloc"},
            {"coder": "torchac"},
            {"arithmetic": "float32"},
            {"meta": {"icc": b"x"}},
            {"dtype": "uint16"},
            {"shape": (256, 256, 4)},
            {"params": {"bits": 3, "more": 1}},
            {"params": {}},
            {"params": {"bits": -1}},
            {"params": {"bits": True}},
            {"params": {"bits": 3, "k": 0}},
            {"params": {"bits": 3, "k": True}},
            {"params": {"bits": 3, "k": 2.0}},
            {"weights": b""},
        ],
        ids=str,
    )
    def test_what_it_cannot_hold_takes_the_long_form(self, changes: dict[str, object]) -> None:
        header = replace(PHOTO, **changes)  # type: ignore[arg-type]
        data = pack(header, [INDEX], compact=True)
        assert data == pack(header, [INDEX])
        assert unpack(data)[0] == header

    def test_a_number_of_packets_is_a_number(self) -> None:
        for n in (True, 1.0, 2, 0):
            header = replace(SPREAD, params={"bits": 8, "packets": n})
            data = pack(header, PACKETS[:1], compact=True)
            assert data == pack(header, PACKETS[:1]) and unpack(data)[0] == header

    def test_several_chunks_take_the_long_form(self) -> None:
        for chunks in ([], [INDEX, INDEX], [Chunk("Body", b"x")]):
            assert pack(PHOTO, chunks, compact=True) == pack(PHOTO, chunks)

    def test_every_change_is_noticed(self) -> None:
        data = pack(PHOTO, [INDEX], compact=True)
        for at in range(len(data)):
            for bit in (0, 3, 7):
                damaged = bytearray(data)
                damaged[at] ^= 1 << bit
                with pytest.raises(ContainerError):
                    unpack(bytes(damaged))
        for n in range(len(data)):
            with pytest.raises(ContainerError):
                unpack(data[:n])
        for more in (b"\0", data):
            with pytest.raises(ContainerError):
                unpack(data + more)

    @pytest.mark.parametrize(
        "start",
        [
            b"\x8aCD\x02\x00\x01" + WEIGHTS[:4] + b"\x08\x03\x10\x10",  # version
            b"\x8aCD\x01\x01\x01" + WEIGHTS[:4] + b"\x08\x03\x10\x10",  # codec
            b"\x8aCD\x01\x80\x00\x01" + WEIGHTS[:4] + b"\x08\x03\x10\x10",  # a varint that isn't the shortest
            b"\x8aCD\x01\x00\x80\x80\x04" + WEIGHTS[:4] + b"\x08\x03\x10\x10",  # stream 65536
            b"\x8aCD\x01\x00\x01" + WEIGHTS[:4] + b"\x07\x03\x10\x10",  # coder
            b"\x8aCD\x01\x00\x01" + WEIGHTS[:4] + b"\x18\x03\x10\x10",  # arithmetic
            b"\x8aCD\x01\x00\x01" + WEIGHTS[:4] + b"\x48\x03\x00\x10\x10",  # k is 0
            b"\x8aCD\x01\x00\x01" + WEIGHTS[:4] + b"\x08\x03\x00\x10",  # no rows
            b"\x8aCD\x01\x00\x01" + WEIGHTS[:4] + b"\x08\x03\xff\xff\xff\x7f\x10",  # too many
            b"\x8aCD\x01\x00\x01" + WEIGHTS[:4] + b"\x88\x03\x00\x10\x10",  # 0 packets
            b"\x8aCD\x01\x00\x01" + WEIGHTS[:4] + b"\x88\x03\x81\x08\x10\x10",  # 1025 packets
        ],
    )
    def test_one_way_to_write(self, start: bytes) -> None:
        body = start + b"payload"
        data = body + zlib.crc32(body).to_bytes(4, "big")
        for read in (unpack, read_header, salvage, lambda data: ChunkReader(io.BytesIO(data))):
            with pytest.raises(ContainerError):
                read(data)

    def test_names_of_weights(self) -> None:
        read = read_header(pack(PHOTO, [INDEX], compact=True))
        assert read.made_with(WEIGHTS) and PHOTO.made_with(WEIGHTS) and Header("x", 1).made_with(b"")
        assert not read.made_with(b"\x01" + WEIGHTS[1:])
        assert not read.made_with(b"") and not Header("x", 1).made_with(WEIGHTS)
        with pytest.raises(ContainerError, match="4 bytes"):
            pack(read, [INDEX])

    def test_is_container(self) -> None:
        assert is_container(b"\x8aCD\x01")
        assert not is_container(b"\x8aCE")


def lost(data: bytes) -> list[int]:
    """The packets of a file that `salvage` doesn't give back; the others are as they were."""
    header, chunks = salvage(data)
    assert same(header, SPREAD) and len(chunks) == len(PACKETS)
    assert all(chunk in (packet, Chunk(PACKET, b"")) for chunk, packet in zip(chunks, PACKETS, strict=True))
    return [n for n, chunk in enumerate(chunks) if not chunk.payload]


class TestPackets:
    DATA = pack(SPREAD, PACKETS, compact=True)
    SIZE = len(DATA) // len(PACKETS)

    def part(self, n: int) -> bytes:
        return self.DATA[n * self.SIZE : (n + 1) * self.SIZE]

    def test_a_whole_file(self) -> None:
        header, chunks = unpack(self.DATA)
        assert same(header, SPREAD) and chunks == tuple(PACKETS) and lost(self.DATA) == []
        assert self.SIZE - 40 <= 24
        assert describe(self.DATA) == describe(io.BytesIO(self.DATA))
        reader = ChunkReader(io.BytesIO(self.DATA))
        places = reader.places()
        assert [place.end for place in places] == [self.SIZE * (n + 1) for n in range(6)]
        assert [reader.read(n, place.position)[0] for n, place in enumerate(places)] == PACKETS

    def test_any_packet_is_enough(self) -> None:
        for n in range(6):
            assert lost(self.part(n)) == [m for m in range(6) if m != n]
            assert same(read_header(self.part(n)), SPREAD)

    def test_order_and_copies_do_not_matter(self) -> None:
        assert lost(b"".join(self.part(n) for n in (5, 3, 3, 0))) == [1, 2, 4]

    @pytest.mark.parametrize("bits", [0x55, 0x80])  # the latter of the flags: no packets
    def test_every_byte_of_a_packet_may_be_damaged(self, bits: int) -> None:
        for at in range(self.SIZE):
            damaged = bytearray(self.DATA)
            damaged[at] ^= bits
            assert lost(bytes(damaged)) == [0] and same(read_header(bytes(damaged)), SPREAD)
            for read in (unpack, lambda data: ChunkReader(io.BytesIO(data))):
                with pytest.raises(ContainerError, match=r"5 of 6 packets are whole; codec decode --conceal"):
                    read(bytes(damaged))

    def test_strict_reading_wants_all_in_order(self) -> None:
        for data in (self.DATA[self.SIZE :], self.DATA + self.part(0), self.part(1) + self.part(0), self.DATA[:-1]):
            with pytest.raises(ContainerError, match="--conceal"):
                unpack(data)

    def test_nothing_left(self) -> None:
        for data in (b"", self.part(0)[:-1], b"\x8aCD" * 1000):
            with pytest.raises(ContainerError):
                salvage(data)
        with pytest.raises(
            ContainerError, match=r"^the file is damaged or cut short \(CRC-32 differs\): get it again$"
        ):
            salvage(pack(PHOTO, [INDEX], compact=True)[:-1])

    def test_packets_of_another_file(self) -> None:
        other = pack(replace(SPREAD, shape=(16, 16, 3)), PACKETS, compact=True)
        assert lost(self.DATA[: 2 * self.SIZE] + other[: len(other) // 6]) == [2, 3, 4, 5]

    @pytest.mark.parametrize("compact", [True, False])
    def test_packets_of_several_files_with_equal_headers(self, compact: bool) -> None:
        """They can't be told apart, and a picture of both would look like one that is whole."""
        others = [Chunk(PACKET, bytes([n]) * 40) for n in range(6)]
        parts = pack(SPREAD, PACKETS, compact), pack(SPREAD, others, compact)
        at = parts[0].index(PACKETS[5].payload)
        assert sum(not chunk.payload for chunk in salvage(parts[0][:at])[1]) == 1
        with pytest.raises(ContainerError, match="packets of several files: decode them apart"):
            salvage(parts[0][:at] + parts[1])

    def test_empty_packets(self) -> None:
        """They would be taken for lost ones, and guessed without a word."""
        body = self.DATA[: self.DATA.index(PACKETS[0].payload) - 1] + b"\0"
        data = body + zlib.crc32(body).to_bytes(4, "big") + self.DATA[self.SIZE :]
        assert lost(data) == [0]
        for read in (unpack, lambda data: ChunkReader(io.BytesIO(data))):
            with pytest.raises(ContainerError, match="an empty packet: the file is damaged: 5 of 6 packets are whole"):
                read(data)
        for compact in (True, False):
            with pytest.raises(ContainerError, match="an empty packet can't be told from a lost one"):
                pack(SPREAD, [Chunk(PACKET, b""), *PACKETS[1:]], compact)

    def test_words_about_what_is_missing(self) -> None:
        n_around = self.SIZE - 40
        for data, words in (
            (self.DATA[:-1], "packet 5: 4 bytes expected, 3 left"),
            (self.DATA[:-44], "packet 5: 40 bytes expected, 0 left"),
            (self.DATA[:-45], "packet 5: 1 byte expected, 0 left"),
            (self.DATA[: -self.SIZE], "packet 5 isn't where it is expected: the file is damaged or cut short"),
            (self.DATA[: self.SIZE - n_around] + self.DATA[self.SIZE :], "packet 0 is damaged (CRC-32 differs)"),
            (self.DATA[:6] + b"\xff" * 4 + self.DATA[10:], "packet 0 is damaged (CRC-32 differs)"),
            (self.DATA[:4] + b"\x01" + self.DATA[5:], "header: compact form 1; expected 0 to 0: a newer version?"),
            (self.DATA[1:], "the file doesn't begin with a whole packet"),
        ):
            with pytest.raises(ContainerError) as error:
                unpack(data)
            advice = "5 of 6 packets are whole; codec decode --conceal restores the rest, or get it again"
            assert str(error.value) == f"{words}: {advice}"

    @pytest.mark.parametrize("compact", [True, False])
    @pytest.mark.parametrize(("more", "words"), [(b"\n", "1 byte follows"), (b"\r\n", "2 bytes follow")])
    def test_bytes_behind_the_end(self, more: bytes, words: str, compact: bool) -> None:
        data = pack(SPREAD, PACKETS, compact)
        for read in (unpack, lambda data: describe(io.BytesIO(data))):
            with pytest.raises(ContainerError) as error:
                read(data + more)
            assert str(error.value) == (
                f"{words} the end of the file, to be cut off: all 6 packets are whole, and codec decode --conceal "
                "takes them"
            )
        assert salvage(data + more) == unpack(data) and is_whole(data) and not is_whole(data + more)

    def test_a_hostile_search_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Starts that announce much, everywhere: checksums are made of so many bytes at most."""
        monkeypatch.setattr(container, "MAX_SEARCHED", 1 << 20)
        summed = []
        monkeypatch.setattr(container.zlib, "crc32", lambda data, start=0: summed.append(len(data)) or 0)
        start = self.DATA[: self.DATA.index(PACKETS[0].payload) - 1] + b"\x80\x80\x04"  # 65536 bytes
        with pytest.raises(ContainerError):
            salvage(start * 5000)
        assert sum(summed) < 3 << 20

    def test_a_hostile_search_ends_where_tries_are_many_or_packets_are(self) -> None:
        """A real file has at most 1024 packets that are damaged, and as many that are whole."""
        bad = self.part(0)[:-1] + bytes([self.part(0)[-1] ^ 1])
        assert lost(bad * 2048 + self.part(1)) == [0, 2, 3, 4, 5]
        with pytest.raises(ContainerError):
            salvage(bad * 20000 + self.part(1))
        part = pack(replace(SPREAD, params={"bits": 8, "packets": 1}), [PACKETS[0]], compact=True)
        widths = (pack(replace(SPREAD, shape=(16, n, 3)), PACKETS, compact=True) for n in range(1, 4097))
        others = b"".join(data[: len(data) // 6] for data in widths)
        assert len(others) > 4096 * 40 and salvage(others[:-60] + part * 9)[0].shape != SPREAD.shape
        assert lost(others[: 1000 * len(part)] + self.part(1) + self.part(2)) == [0, 3, 4, 5]

    @pytest.mark.parametrize("gone", [[0], [5], [1, 2], [0, 1, 2, 3, 4]])
    @pytest.mark.parametrize("way", ["left out", "damaged"])
    def test_the_long_form(self, gone: list[int], way: str) -> None:
        """Pictures with metadata or transparency: packets may be lost, nothing else."""
        header = replace(SPREAD, meta={"icc": bytes(range(256)) * 2})
        chunks = [*PACKETS, Chunk("Alph", b"plane")]
        data = pack(header, chunks, compact=True)
        assert salvage(data) == unpack(data)
        for n in sorted(gone, reverse=True):
            at = data.index(PACKETS[n].payload)
            if way == "left out":
                data = data[: at - 8] + data[at + 44 :]
            else:
                data = data[: at + 3] + b"damage" + data[at + 9 :]
        read, rest = salvage(data)
        assert read == header and rest[6] == chunks[6]
        assert [n for n in range(6) if rest[n] != PACKETS[n]] == gone
        with pytest.raises(ContainerError):
            salvage(data[:-1])


class TestPacketsOfTheLongForm:
    HEADER = replace(SPREAD, meta={"icc": bytes(range(256)) * 2})
    CHUNKS = (*PACKETS, Chunk("Alph", b"plane"))
    DATA = pack(HEADER, CHUNKS)

    def damaged(self, n: int, at: int = 0) -> bytes:
        """The file with a bit of a packet changed, so many bytes behind the begin of its payload."""
        data = bytearray(self.DATA)
        data[self.DATA.index(PACKETS[n].payload) + at] ^= 1
        return bytes(data)

    @pytest.mark.parametrize("at", [-8, -7, -4, -2, -1, 0, 39, 40, 43])
    def test_what_can_be_done_is_said(self, at: int) -> None:
        for read in (unpack, lambda data: describe(io.BytesIO(data))):
            with pytest.raises(
                ContainerError, match=r"[^;:] ?[;:] 5 of 6 packets are whole; codec decode --conceal"
            ) as e:
                read(self.damaged(2, at))
            assert str(e.value).count("again") == 1
        assert salvage(self.damaged(2, at)) == (self.HEADER, (*PACKETS[:2], Chunk(PACKET, b""), *self.CHUNKS[3:]))

    def test_it_is_looked_for_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hostile file could have a million damaged chunks, and a reader that goes on behind each."""
        calls: list[int] = []
        monkeypatch.setattr(container, "_what_is_left", lambda view: calls.append(len(view)) or "")
        reader = ChunkReader(io.BytesIO(self.damaged(2)))
        for _ in range(3):
            with pytest.raises(ContainerError, match="chunk 3"):
                reader.read(2, reader.places()[2].position)
        assert calls == [len(self.DATA)]

    def test_nothing_is_said_of_other_files(self) -> None:
        plain = pack(replace(PHOTO, meta=self.HEADER.meta), [INDEX, *self.CHUNKS])
        bad = bytearray(self.DATA)
        bad[-5] ^= 1  # the plane
        for data in (plain[:-1], plain + b"\0", bytes(bad), self.DATA[:20]):
            for read in (unpack, salvage, lambda data: describe(io.BytesIO(data))):
                with pytest.raises(ContainerError) as error:
                    read(data)
                assert "conceal" not in str(error.value)

    def test_empty_packets(self) -> None:
        n_header = len(pack(SPREAD, [])) + 0
        start = pack(SPREAD, PACKETS)[:n_header]
        crc = zlib.crc32(start[:-4])
        frame = b"Pack\0\0\0\0"
        empty = frame + zlib.crc32(frame, zlib.crc32(struct.pack(">II", crc, 0))).to_bytes(4, "big")
        data = start + empty + pack(SPREAD, PACKETS)[n_header + 52 :]
        for read in (unpack, lambda data: describe(io.BytesIO(data))):
            with pytest.raises(ContainerError, match="an empty packet: the file is damaged: 5 of 6 packets are whole"):
                read(data)
        assert salvage(data) == (SPREAD, (Chunk(PACKET, b""), *PACKETS[1:]))

    def test_any_of_a_thousand_is_enough(self) -> None:
        packets = [Chunk(PACKET, struct.pack(">I", n) * 5) for n in range(1024)]
        data = pack(replace(SPREAD, params={"bits": 8, "packets": 1024}), packets)
        start = data.index(b"Pack")
        for n in (0, 1, 2, 511, 512, 700, 1023):
            chunks = salvage(data[:start] + data[start + 32 * n : start + 32 * (n + 1)])[1]
            assert [m for m, chunk in enumerate(chunks) if chunk.payload] == [n] and chunks[n] == packets[n]

    def test_a_hostile_search_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Tags everywhere, that announce too much or little; a packet behind a thousand of them is still reached."""
        end = len(pack(SPREAD, []))
        start, rest = pack(SPREAD, PACKETS)[:end], pack(SPREAD, PACKETS)[end:][:52]
        for wrong in (b"A" * 12, b"Abcd\0\0\0\0...."):
            assert salvage(start + wrong * 1024 + rest)[1][0] == PACKETS[0]
            with pytest.raises(ContainerError):
                salvage(start + wrong * 400_000 + rest)
        monkeypatch.setattr(container, "MAX_SEARCHED", 1 << 16)
        with pytest.raises(ContainerError):
            salvage(start + b"A" * 5000 + rest)
