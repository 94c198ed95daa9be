"""What a file is: by its signature, else by its suffix; looked at once, also where it comes through a pipe."""

from __future__ import annotations

import gzip
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codec import files, media
from codec.container import SIGNATURE, Chunk, Header, pack
from codec.errors import ContainerError, MediaError
from codec.media import MEDIA, medium_of, medium_of_suffix, probe, probe_bytes

SIGNATURES = [
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "image"),
    (b"GIF89a\x01\0\x01\0", "image"),
    (b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0", "image"),
    (b"II*\0\x08\0\0\0", "image"),
    (b"MM\0*\0\0\0\x08", "image"),
    (b"RIFF\x24\0\0\0WEBPVP8L", "image"),
    (b"\xff\x0a\xfa\x7f", "image"),  # JPEG XL, bare
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image"),
    (b"P6\n4 4\n255\n", "image"),
    (b"P4 8 8\n\0", "image"),
    (b"P7\nWIDTH 4\n", "image"),  # PAM
    (b"\0\0\0\x1cftypavif\0\0\0\0", "image"),
    (b"\0\0\0\x18ftypheic\0\0\0\0", "image"),
    (b"\0\0\0\x20ftypisom\0\0\x02\0", "video"),
    (b"\0\0\0\x14ftypqt  \0\0\0\0", "video"),
    (b"\0\0\0\x08wide\0\0\x10\0mdat", "video"),  # QuickTime files from before there was ftyp
    (b"\0\0\x10\0moov\0\0\0\x6cmvhd", "video"),
    (b"\0\x01\x10\0mdat\0\0\0\0", "video"),
    (b"\x1a\x45\xdf\xa3\x01\0\0\0", "video"),
    (b"RIFF\x24\0\0\0AVI LIST", "video"),
    (b"YUV4MPEG2 W4 H4 F25:1\n", "video"),
    (b"RIFF\x24\0\0\0WAVEfmt ", "audio"),
    (b"fLaC\0\0\0\x22", "audio"),
    (b"OggS\0\x02", "audio"),
    (b"ID3\x04\0\0", "audio"),
    (b"FORM\0\0\0\x10AIFFCOMM", "audio"),
    (b"FORM\0\0\0\x10AIFCFVER", "audio"),
    (b"wvpk\0\0\0\0", "audio"),
    (b"\0\0\0\x1cftypM4A \0\0\0\0", "audio"),
    (b"\x89HDF\r\n\x1a\n\0", "field"),
    (bytes(512) + b"\x89HDF\r\n\x1a\n", "field"),  # behind a user block
    (bytes(2048) + b"\x89HDF\r\n\x1a\n", "field"),
    (b"CDF\x01\0\0\0\0", "field"),
    (b"CDF\x02\0\0\0\0", "field"),
    (b"CDF\x05\0\0\0\0", "field"),
    (b"\x93NUMPY\x01\0", "array"),
    (b"\x1f\x8b\x08\0", "array"),
    (b"\0\0\x08\x03\0\0\0\x01", "array"),
    (b"\0\0\x0c\x01\0\0\0\x01", "array"),
    (b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float f_dc_0\nend_header\n", "gaussians"),
    (b"ply\r\nformat ascii 1.0\r\nelement chunk 1\r\n", "gaussians"),  # a long header: who reads it says what it is
    (b"NGSP\4\0\0\0", "gaussians"),
    (gzip.compress(b"NGSP\3\0\0\0" + bytes(99), mtime=0), "gaussians"),
    (b"PK\3\4" + bytes(22) + b"\x0c\0\0\0means_l.webp", "gaussians"),
]
UNKNOWN = [
    b"",
    b"\0",
    b"P",
    b"hello, world",
    b"name,WEBP\n1,2\n",  # a word at a place where a RIFF file has one
    b"a,b,c,d\nAVI ",
    b"FORMAT,SIZE,NAME\n",  # a table, not AIFF
    b"RIFF\x24\0\0\0ACON",
    b"\0\0\x02\0\0\0\0\0\0\0\0\0\x04\0\x04\0\x18\x20",  # TGA has no signature
    b"\0\0\x0b\0\0\0\0\0\0\0\0\0\x04\0\x04\0\x08\x20",  # TGA, grey and run-length coded, isn't IDX
    b"the moovies\n",
]


def header(**changes: Any) -> Header:
    return Header(**{"codec": "other", "stream": 1, "shape": (2, 3, 3), **changes})


class TestSignatures:
    @pytest.mark.parametrize(("start", "medium"), SIGNATURES, ids=lambda value: repr(value)[:24])
    def test_known(self, start: bytes, medium: str, tmp_path: Path) -> None:
        path = tmp_path / "file.txt"
        path.write_bytes(start + bytes(64))
        assert probe(path) == media.Probe(str(path), medium=medium)
        assert probe_bytes(start + bytes(64)).medium == medium
        path = path.rename(tmp_path / ("file.mp3" if medium != "audio" else "file.png"))
        assert probe(path).medium == medium, "the content decides, not the suffix"

    @pytest.mark.parametrize("start", UNKNOWN, ids=lambda value: repr(value)[:24])
    def test_unknown(self, start: bytes, tmp_path: Path) -> None:
        assert medium_of(start) is None
        path = tmp_path / "file.tga"
        path.write_bytes(start)
        assert probe(path).medium == "image", "then the suffix counts"
        assert probe_bytes(start).medium is None

    @pytest.mark.parametrize("start", [start for start, _ in SIGNATURES], ids=lambda value: repr(value)[:24])
    def test_any_cut_of_a_signature_is_no_mistake(self, start: bytes) -> None:
        for n in range(len(start)):
            medium_of(start[:n])


class TestSuffixes:
    @pytest.mark.parametrize("medium", MEDIA)
    def test_every_suffix_that_is_read(self, medium: str, tmp_path: Path) -> None:
        for suffix in MEDIA[medium].reads:
            path = tmp_path / f"a{suffix.upper()}"
            path.write_bytes(b"")
            # pictures are arrays, frames or what features are made of only where that is asked
            expected = "image" if suffix == ".png" or medium == "features" else medium
            assert probe(path).medium == medium_of_suffix(path) == expected

    def test_no_suffix_and_unknown_ones(self, tmp_path: Path) -> None:
        for name in ("a", "a.", "a.xyz", ".png", "a.s2lic"):
            (tmp_path / name).write_bytes(b"?")
            assert probe(tmp_path / name).medium is None

    def test_splat_files_have_no_signature(self, tmp_path: Path) -> None:
        """Their first number may look like the few bytes of another signature, but not like a long one."""
        for start, medium in (
            (b"\x1f\x8b", "gaussians"),
            (b"\0\0\x08\1", "gaussians"),
            (b"\x89PNG\r\n\x1a\n", "image"),
        ):
            path = tmp_path / "a.splat"
            path.write_bytes(start + bytes(32 - len(start)))
            assert probe(path).medium == medium, start

    def test_a_mesh_is_of_no_medium(self, tmp_path: Path) -> None:
        mesh = b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n"
        assert probe_bytes(mesh).medium is None
        (tmp_path / "a.ply").write_bytes(mesh)
        assert probe(tmp_path / "a.ply").medium == "gaussians", "by its name; who reads it says what is wrong"

    def test_what_can_not_be_read_says_only_its_name(self, tmp_path: Path) -> None:
        assert probe(tmp_path / "none.h5") == media.Probe(str(tmp_path / "none.h5"), medium="field")
        assert probe("a\0b") == media.Probe("a\0b")
        (tmp_path / "clips.mp4").mkdir()
        assert probe(tmp_path / "clips.mp4").medium is None, "a folder"


class TestOurs:
    def test_header(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(pack(header(), [Chunk("Body", bytes(9))]))
        found = probe(path)
        assert (found.ours, found.medium, found.header) == (True, None, header())
        assert found.require_header() == header()
        assert probe_bytes(path.read_bytes()).header == header()

    def test_metadata_of_their_own_chunk(self, tmp_path: Path) -> None:
        about = header(meta={"icc": os.urandom(200_000)})
        path = tmp_path / "a"
        path.write_bytes(pack(about, [Chunk("Body", bytes(9))]))
        assert probe(path).header == about

    def test_cut_anywhere_in_the_header(self, tmp_path: Path) -> None:
        data = pack(header(meta={"icc": bytes(300)}), [])
        path = tmp_path / "a.s2lic"
        for n in range(len(data)):
            path.write_bytes(data[:n])
            found = probe(path)
            assert found.header is None
            assert found.ours == (n >= len(SIGNATURE))
            with pytest.raises(ContainerError):
                found.require_header()

    def test_files_that_are_not_ours(self, tmp_path: Path) -> None:
        (tmp_path / "a.s2lic").write_bytes(b"")
        with pytest.raises(ContainerError, match="not a codec file"):
            probe(tmp_path / "a.s2lic").require_header()
        for path in (tmp_path / "none", tmp_path):
            with pytest.raises(MediaError, match=str(path)):
                probe(path).require_header()


class TestStreams:
    @pytest.fixture
    def stdin(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        def put(data: bytes, peeks: bool = True) -> None:
            raw = io.BytesIO(data)
            buffer = io.BufferedReader(raw) if peeks else raw  # type: ignore[arg-type]
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer))

        return put

    @pytest.mark.parametrize(("start", "medium"), SIGNATURES[:20], ids=lambda value: repr(value)[:24])
    def test_nothing_is_taken_from_stdin(self, start: bytes, medium: str, stdin: Any) -> None:
        stdin(start + bytes(9999))
        assert probe("-") == media.Probe("-", medium=medium)
        assert probe("-").read() == start + bytes(9999)

    def test_ours_through_stdin(self, stdin: Any) -> None:
        data = pack(header(), [])
        stdin(data)
        assert probe("-") == media.Probe("-", ours=True)
        assert probe("-").require_header() == header()

    def test_a_stdin_that_can_not_be_looked_at(self, stdin: Any) -> None:
        stdin(b"\x89PNG\r\n\x1a\n", peeks=False)
        assert probe("-") == media.Probe("-")

    def test_an_empty_stdin(self, stdin: Any) -> None:
        stdin(b"")
        assert probe("-") == media.Probe("-")
        assert probe("-").read() == b""

    def test_a_file_that_is_called_like_stdin(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("-").write_bytes(b"fLaC")
        assert probe(Path("-")).medium == "audio"
        assert probe(Path("-")).read() == b"fLaC"

    def test_nothing_is_taken_from_a_pipe(self) -> None:
        read, write = os.pipe()
        try:
            os.write(write, b"\x89PNG\r\n\x1a\n")
            os.close(write)
            found = probe(f"/dev/fd/{read}")
            assert found == media.Probe(f"/dev/fd/{read}")
            assert found.read() == b"\x89PNG\r\n\x1a\n"
        finally:
            os.close(read)

    def test_a_pipe_in_a_folder_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        assert not media.is_ours(tmp_path / "pipe.png")
        assert probe(tmp_path / "pipe.png").medium == "image"
        assert files.is_stream(tmp_path / "pipe.png")


def test_folders_that_are_one_input(tmp_path: Path) -> None:
    assert not MEDIA["video"].is_one_input(tmp_path)
    (tmp_path / "1.PNG").write_bytes(b"")
    assert [name for name, medium in MEDIA.items() if medium.is_one_input(tmp_path)] == ["video", "array"]
    (tmp_path / "1.PNG").rename(tmp_path / "1.jpeg")
    assert [name for name, medium in MEDIA.items() if medium.is_one_input(tmp_path)] == ["video"]
    (tmp_path / "1.jpeg").rename(tmp_path / "1.PNG")
    (tmp_path / "0001.spz").write_bytes(b"")
    assert [name for name, medium in MEDIA.items() if medium.is_one_input(tmp_path)] == ["video", "array", "gaussians"]
    for mark in MEDIA["gaussians"].marks:
        folder = tmp_path / f"with {mark}"
        folder.mkdir()
        assert not MEDIA["gaussians"].is_one_input(folder)
        (folder / mark).write_text("{}")
        assert [name for name, medium in MEDIA.items() if medium.is_one_input(folder)] == ["gaussians"]


class TestCompactFiles:
    """Files of the compact form; of one in packets the first may be damaged."""

    HEADER = Header("vqgan", 1, bytes(16), "fixed", "int", shape=(160, 160, 3), params={"bits": 8, "packets": 4})
    DATA = pack(HEADER, [Chunk("Pack", bytes([n]) * 25) for n in range(4)], compact=True)

    @pytest.mark.parametrize("start", [0, 1, 30, len(DATA) // 4 + 2])
    def test_ours(self, tmp_path: Path, start: int) -> None:
        data = self.DATA[start:]
        (tmp_path / "a").write_bytes(data)
        for seen in (media.probe(tmp_path / "a"), media.probe_bytes(data)):
            assert seen.ours
            assert seen.header is not None and seen.header.shape == (160, 160, 3)
            assert seen.read() == data

    @pytest.mark.parametrize("at", [0, 3, 6])  # signature, version, the name of the weights
    @pytest.mark.parametrize("n_bytes", [5400, 80_000])
    def test_a_long_first_packet_is_damaged(self, tmp_path: Path, n_bytes: int, at: int) -> None:
        data = bytearray(pack(self.HEADER, [Chunk("Pack", bytes(n_bytes))] * 4, compact=True))
        data[at] ^= 64
        (tmp_path / "a.vqgan").write_bytes(data)
        for seen in (media.probe(tmp_path / "a.vqgan"), media.probe_bytes(bytes(data))):
            assert seen.ours and seen.header is not None
            assert (seen.header.weights, seen.header.shape) == (bytes(4), (160, 160, 3))

    def test_in_a_folder(self, tmp_path: Path) -> None:
        """A file without a suffix, whose first packet is damaged, isn't left out."""
        (tmp_path / "a").write_bytes(b"?" + self.DATA[1:])
        (tmp_path / "b").write_bytes(b"?" + self.DATA[: len(self.DATA) // 4 - 1])
        assert media.is_ours(tmp_path / "a") and not media.is_ours(tmp_path / "b")

    def test_what_begins_as_something_else(self) -> None:
        assert not media.probe_bytes(b"\x89PNG\r\n\x1a\n" + self.DATA).ours
        assert not media.probe_bytes(b"?" + self.DATA[: len(self.DATA) // 4 - 1]).ours
