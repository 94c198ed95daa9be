"""Tags and covers that are read: ID3 in all its versions, Vorbis comments, INFO, MP4; sizes are capped."""

from __future__ import annotations

import base64
import io
import struct

import av
import pytest

from codec.media.audio.reader import probe_audio
from codec.media.audio.tags import Tags, from_comments, from_id3, from_info, picture_of, size_of_id3, text_of
from codec.media.audio.values import MAX_COVER, MAX_TAGS, Cover

from .making import chunk, coded, integers, music, wav

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(200))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))


def synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3(version: int, *frames: tuple[str, bytes], flags: int = 0, frame_flags: int = 0) -> bytes:
    body = b""
    for name, data in frames:
        if version == 2:
            body += name.encode() + len(data).to_bytes(3, "big") + data
        else:
            size = synchsafe(len(data)) if version == 4 else len(data).to_bytes(4, "big")
            body += name.encode() + size + bytes([0, frame_flags]) + data
    return b"ID3" + bytes([version, 0, flags]) + synchsafe(len(body) + 20) + body + bytes(20)


def read_id3(data: bytes) -> Tags:
    tags = Tags()
    from_id3(data, tags)
    return tags


class TestId3:
    @pytest.mark.parametrize(
        ("encoding", "text"),
        [
            (0, "Tïtle".encode("latin-1")),
            (1, "Tïtle".encode("utf-16")),
            (1, b"\xfe\xff" + "Tïtle".encode("utf-16-be")),
            (2, "Tïtle".encode("utf-16-be")),
            (3, "Tïtle".encode()),
        ],
    )
    @pytest.mark.parametrize("end", [b"", b"\0\0"])
    def test_encodings(self, encoding: int, text: bytes, end: bytes) -> None:
        for version, name in ((2, "TT2"), (3, "TIT2"), (4, "TIT2")):
            assert read_id3(id3(version, (name, bytes([encoding]) + text + end))).values == {"TITLE": ("Tïtle",)}

    def test_names(self) -> None:
        tags = read_id3(
            id3(
                3,
                ("TIT2", b"\0A"),
                ("TPE1", b"\0B"),
                ("TRCK", b"\0" + b"3/12"),
                ("TYER", b"\0" + b"1999"),
                ("TCON", b"\0Jazz"),
                ("COMM", b"\0eng\0a comment"),
                ("COMM", b"\0engiTunNORM\0 000"),
                ("TXXX", b"\0replaygain_track_gain\0-6.5 dB"),
                ("TSSE", b"\0Lavf"),
                ("TXYZ", b"\0other"),
                ("PRIV", b"abc"),
                ("UFID", b"abc"),
            )
        )
        assert tags.values == {
            "TITLE": ("A",),
            "ARTIST": ("B",),
            "TRACKTOTAL": ("12",),
            "TRACKNUMBER": ("3",),
            "DATE": ("1999",),
            "GENRE": ("Jazz",),
            "COMMENT": ("a comment",),
            "REPLAYGAIN_TRACK_GAIN": ("-6.5 dB",),
            "TXYZ": ("other",),
        }
        assert [str(note) for note in tags.notes] == ["metadata: frames of ID3 left out: PRIV, UFID"]

    def test_several_values(self) -> None:
        assert read_id3(id3(4, ("TPE1", b"\3A\0B"))).values == {"ARTIST": ("A", "B")}
        values = b"\1" + "A".encode("utf-16") + b"\0\0" + "B".encode("utf-16")
        assert read_id3(id3(4, ("TPE1", values))).values == {"ARTIST": ("A", "B")}

    @pytest.mark.parametrize("encoding", [0, 1, 3])
    def test_cover(self, encoding: int) -> None:
        words = "front".encode("utf-16") + b"\0\0" if encoding == 1 else b"front\0"
        tags = read_id3(id3(4, ("APIC", bytes([encoding]) + b"image/jpeg\0\x03" + words + JPEG)))
        assert tags.cover == Cover(JPEG, "image/jpeg", "front")
        tags = read_id3(id3(2, ("PIC", bytes([encoding]) + b"PNG\x00" + words + PNG)))
        assert tags.cover == Cover(PNG, "image/png", "other")

    def test_the_front_is_kept_of_several(self) -> None:
        for order in ([0, 3], [3, 0], [4, 3]):
            frames = [("APIC", b"\0image/png\0" + bytes([kind]) + b"\0" + PNG + bytes([kind])) for kind in order]
            tags = read_id3(id3(3, *frames))
            assert tags.cover is not None and tags.cover.kind == "front" and tags.cover.data[-1] == 3
            assert [note.kind for note in tags.notes] == ["picture"]

    def test_unsynchronisation(self) -> None:
        frame = b"\0image/jpeg\0\x03\0" + JPEG
        hidden = frame.replace(b"\xff", b"\xff\0")
        data = id3(3, ("APIC", frame))
        body = data[10:].replace(b"\xff", b"\xff\0")
        whole = b"ID3\3\0\x80" + synchsafe(len(body)) + body
        assert read_id3(whole).cover == Cover(JPEG)
        assert read_id3(id3(4, ("APIC", hidden), frame_flags=2)).cover == Cover(JPEG)

    def test_packed_frames_are_left_out(self) -> None:
        tags = read_id3(id3(4, ("TIT2", b"\3A"), frame_flags=8))
        assert not tags.values and tags.notes[0].words == "frames of ID3 left out: TIT2"

    def test_what_is_none(self) -> None:
        for data in (b"", b"ID3", b"ID3\x04\0\0\xff\xff\xff\xff", b"abc" * 10):
            assert size_of_id3(data[:10]) == 0
            assert not read_id3(data).values
        for n_bytes in range(10, 60):
            read_id3(id3(4, ("TIT2", b"\1A"), ("APIC", b"\1image/jpeg\0\3"))[:n_bytes])


def comments(*pairs: tuple[bytes, bytes]) -> bytes:
    lines = [name + b"=" + text for name, text in pairs]
    body = b"".join(struct.pack("<I", len(line)) + line for line in lines)
    return struct.pack("<I", 4) + b"Lavf" + struct.pack("<I", len(lines)) + body


def block(data: bytes, mime: bytes = b"image/png", kind: int = 3) -> bytes:
    return struct.pack(">II", kind, len(mime)) + mime + bytes(20) + struct.pack(">I", len(data)) + data


class TestComments:
    def test_values(self) -> None:
        tags = Tags()
        from_comments(
            comments((b"title", "Ü".encode()), (b"Artist", b"A"), (b"ARTIST", b"B"), (b"ENCODER", b"x"), (b"Z", b"")),
            tags,
        )
        assert tags.values == {"TITLE": ("Ü",), "ARTIST": ("A", "B")} and not tags.notes

    def test_pictures(self) -> None:
        tags = Tags()
        from_comments(comments((b"metadata_block_picture", base64.b64encode(block(PNG)))), tags)
        assert tags.cover == Cover(PNG, "image/png", "front")
        tags = Tags()
        picture_of(block(PNG)[:-1], tags)
        picture_of(b"\0" * 9, tags)
        assert tags.cover is None and [note.kind for note in tags.notes] == ["picture"]
        picture_of(block(b"http://a", b"-->"), tags)
        assert tags.cover is None

    def test_damage(self) -> None:
        whole = comments((b"TITLE", b"T"), (b"ARTIST", b"A"))
        for n_bytes in range(len(whole)):
            tags = Tags()
            from_comments(whole[:n_bytes], tags)
            assert "ALBUM" not in tags.values
        tags = Tags()
        from_comments(comments((b"TITLE", b"T"))[:-11] + b"\xff\xff\xff\xffTITLE=T", tags)
        assert [note.kind for note in tags.notes] == ["metadata"]


class TestLimits:
    def test_long_tags(self) -> None:
        tags = Tags()
        tags.add("TITLE", "T")
        tags.add("LYRICS", "x" * MAX_TAGS)
        tags.add("ARTIST", "A")
        assert set(tags.values) == {"TITLE"}
        assert [note.kind for note in tags.notes] == ["metadata"]

    def test_many_tags(self) -> None:
        tags = Tags()
        for index in range(10_000):
            tags.add(f"T{index}", "x")
        assert len(tags.values) == 1 << 12 and len(tags.notes) == 1

    def test_large_covers(self) -> None:
        tags = Tags()
        tags.add_cover(bytes(MAX_COVER + 1), "image/png", 3)
        assert tags.cover is None
        assert [str(note) for note in tags.notes] == [
            f"picture: a cover picture of more than {MAX_COVER} bytes: left out"
        ]
        tags.add_cover(PNG, "", 3)
        assert tags.cover is not None

    def test_a_small_file_that_says_much(self) -> None:
        tag = b"ID3\x04\0\0" + synchsafe((1 << 28) - 1) + b"TIT2" + synchsafe((1 << 28) - 30) + b"\0\0\3A"
        tags = read_id3(tag)
        assert not tags.values

    def test_names_are_letters(self) -> None:
        tags = Tags()
        tags.add("a\0b=\nc", "x")
        tags.add("\0", "y")
        assert tags.values == {"ABC": ("x",)}


def test_info_of_riff() -> None:
    tags = Tags()
    from_info(
        b"INFO" + chunk(b"INAM", b"Name\0") + chunk(b"IPRT", b"3\0") + chunk(b"IXYZ", b"odd") + b"IART\xff\xff", tags
    )
    assert tags.values == {"TITLE": ("Name",), "TRACKNUMBER": ("3",), "IXYZ": ("odd",)}
    assert text_of(b"T\xefst\0abc") == "Tïst"


class TestFiles:
    SOUND = music(3000)

    def test_id3_in_wav(self) -> None:
        tag = id3(4, ("TPE1", b"\3A\0B"), ("APIC", b"\3image/jpeg\0\3\0" + JPEG), ("PRIV", b"abc"))
        info = probe_audio(wav(integers(self.SOUND, 16).tobytes(), after=chunk(b"id3 ", tag)))
        assert info.tags == {"ARTIST": ("A", "B")} and info.cover == Cover(JPEG)

    def test_mp3(self) -> None:
        data = coded(self.SOUND, "libmp3lame", "mp3", id3v2_version="0")
        info = probe_audio(id3(4, ("TIT2", b"\3T")) + id3(3, ("APIC", b"\3image/jpeg\0\3\0" + JPEG)) + data)
        assert info.tags == {"TITLE": ("T",)} and info.cover == Cover(JPEG)

    def test_flac(self) -> None:
        data = coded(self.SOUND, "flac", "flac", bits=16)
        more = b"".join(
            bytes([kind]) + len(body).to_bytes(3, "big") + body
            for kind, body in ((4, comments((b"TITLE", b"T"))), (6, block(PNG)), (1, bytes(99)))
        )
        info = probe_audio(data[:42].replace(b"fLaC\x80", b"fLaC\0") + more + data[42:])
        assert info.tags == {"TITLE": ("T",)} and info.cover == Cover(PNG, "image/png")

    @pytest.mark.parametrize("codec", ["libopus", "flac"])
    def test_ogg_with_a_cover_over_many_pages(self, codec: str) -> None:
        picture = JPEG * 2000
        buffer = io.BytesIO()
        with (
            av.open(io.BytesIO(coded(self.SOUND, codec, "ogg"))) as source,
            av.open(buffer, "w", format="ogg") as output,
        ):
            stream = source.streams.audio[0]
            copy = output.add_stream_from_template(stream)
            copy.metadata.update({"title": "T", "METADATA_BLOCK_PICTURE": base64.b64encode(block(picture)).decode()})
            for packet in source.demux(stream):
                if packet.size:
                    packet.stream = copy
                    output.mux(packet)
        info = probe_audio(buffer.getvalue())
        assert info.tags == {"TITLE": ("T",)} and info.cover == Cover(picture) and info.n_samples == 3000

    def test_m4a(self) -> None:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="ipod") as output:
            output.metadata.update({"title": "T", "artist": "A", "album_artist": "AA", "track": "3/12", "comment": "C"})
            with av.open(io.BytesIO(coded(self.SOUND, "aac", "ipod"))) as source:
                stream = source.streams.audio[0]
                copy = output.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.size:
                        packet.stream = copy
                        output.mux(packet)
        assert probe_audio(buffer.getvalue()).tags == {
            "TITLE": ("T",),
            "ARTIST": ("A",),
            "ALBUMARTIST": ("AA",),
            "TRACKNUMBER": ("3",),
            "TRACKTOTAL": ("12",),
            "COMMENT": ("C",),
        }
