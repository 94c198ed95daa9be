"""Array files: byte for byte back, and what is refused."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.errors import CodecError, MediaError, UsageError
from codec.media import array as arrays
from codec.media.array import ArrayFile
from codec.media.png import Palette, write_palette


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


NUMBERS = np.random.default_rng(0).integers(0, 100, (5, 3, 4))
FILES = {
    "idx": idx(NUMBERS.astype(np.uint8)),
    "idx of int8": idx(NUMBERS.astype(np.int8), 9),
    "idx of int16": idx(NUMBERS.astype(">i2"), 11),
    "idx of int32": idx(NUMBERS.astype(">i4"), 12),
    "npy": npy(NUMBERS.astype(np.uint8)),
    "npy of bool": npy(NUMBERS > 50),
    "npy of int64": npy(NUMBERS),
    "npy, big-endian": npy(NUMBERS.astype(">u2")),
    "npy, Fortran order": npy(np.asfortranarray(NUMBERS.astype(np.int32))),
    "npy, one axis": npy(np.arange(7, dtype=np.uint32)),
    "npy, version 2": npy(NUMBERS.astype(np.uint8), (2, 0)),
    "csv": b"a,b\n1,2\n3,4\n",
    "csv, no end": b'a;b\r\n1;2\r\n3;"x"',
    "csv, one column": b"x\ny\n\nz\n",
    "csv, empty cells": b"\t\t\n1\t\t2\n",
    "csv, ends of lines mixed": b"1,2\r\n3,4\n5,6\r\n",
    "csv, CR alone": b"1,2\r3,4\r",
    "csv, not ASCII": "naïve|ü\n1|2\n".encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_every_byte_comes_back(name: str) -> None:
    data = FILES[name]
    value = arrays.read(data)
    assert value.form == name[:3]
    assert arrays.write(value) == data
    if "csv" not in name:
        assert value.array.dtype.isnative
    if name.startswith("npy") and "axis" not in name:
        np.testing.assert_array_equal(value.array, NUMBERS > 50 if "bool" in name else NUMBERS)


def test_gzip_is_looked_into() -> None:
    value = arrays.read(gzip.compress(FILES["idx"]))
    np.testing.assert_array_equal(value.array, NUMBERS)
    assert arrays.write(value) == FILES["idx"]
    packed = arrays.write(value, ".gz")
    assert isinstance(packed, bytes)
    assert gzip.decompress(packed) == FILES["idx"]
    assert arrays.write(value, ".gz") == packed


def test_one_form_as_another() -> None:
    value = arrays.read(FILES["idx"])
    assert arrays.write(value, ".npy") == FILES["npy"]
    assert arrays.write(arrays.read(FILES["npy"]), ".idx") == FILES["idx"]
    assert arrays.write(ArrayFile(NUMBERS.astype(np.uint8))) == FILES["npy"]
    for suffix, source in ((".csv", "idx"), (".npy", "csv"), (".idx", "npy of int64"), (".png", "idx"), (".x", "idx")):
        with pytest.raises(UsageError):
            arrays.write(arrays.read(FILES[source]), suffix)


@pytest.mark.parametrize(("mode", "shape"), [("L", (6, 4)), ("RGB", (6, 4, 3)), ("I;16", (6, 4))])
def test_pictures(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        samples = rng.integers(0, 256, shape).astype(np.uint16 if mode == "I;16" else np.uint8)
        Image.fromarray(samples * (200 if mode == "I;16" else 1)).save(tmp_path / f"{2 - i}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    value = arrays.read(tmp_path)
    assert value.array.shape == (3, *shape)
    assert value.form == "pictures"
    files = arrays.write(value)
    assert isinstance(files, dict)
    assert list(files) == ["0.png", "1.png", "2.png"]
    for i, (name, data) in enumerate(files.items()):
        one = arrays.read(data)
        assert one.form == "picture"
        np.testing.assert_array_equal(one.array[0], value.array[i])
        np.testing.assert_array_equal(arrays.read(tmp_path / name).array[0], value.array[i])


def test_pictures_that_differ(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no PNG"):
        arrays.read(tmp_path)
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((4, 3), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(MediaError, match="one size"):
        arrays.read(tmp_path)
    Image.fromarray(np.zeros((3, 4, 4), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(MediaError, match="transparency"):
        arrays.read(tmp_path)


def label_map(seed: int, n_colours: int = 5, depth: int = 8) -> bytes:
    """A PNG of indices; two of its colours are equal, as in many palettes of label maps."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (n_colours, 3), np.uint8)
    colours[1] = colours[0]
    return write_palette(Palette(rng.integers(0, n_colours, (6, 9), np.uint8), colours.tobytes(), b"\0\x80", depth))


@pytest.mark.parametrize("depth", [4, 8])
def test_the_index_is_what_counts(depth: int) -> None:
    data = label_map(0, depth=depth)
    value = arrays.read(data)
    np.testing.assert_array_equal(value.array[0], np.asarray(Image.open(io.BytesIO(data))))
    assert arrays.write(value) == data
    assert value.notes == ()
    npy = arrays.write(value, ".npy")
    assert isinstance(npy, bytes)
    np.testing.assert_array_equal(arrays.read(npy).array, value.array)


@pytest.mark.parametrize("seeds", [(1, 1, 1), (1, 2, 1)])
def test_a_folder_of_label_maps(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    """Every picture has its own palette back, and equal ones are stored once."""
    for number, seed in enumerate(seeds):
        (tmp_path / f"{number}.png").write_bytes(label_map(seed, 5 + seed))
    value = arrays.read(tmp_path)
    assert arrays.write(value) == {f"{n}.png": label_map(seed, 5 + seed) for n, seed in enumerate(seeds)}
    assert len(value.detail["palette"]) < 30 * len(set(seeds)) + 20
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(MediaError, match="indices of a palette or samples"):
        arrays.read(tmp_path)


def test_hostile_palettes() -> None:
    value = arrays.read(label_map(0))
    right = value.detail["palette"]
    for wrong in (
        b"",
        right[:-1],
        right + b"\0",
        b"\xff" * 9,
        bytes(4),
        b"\0\0\0\1\x03" + right[5:],
        7,
        right.decode("latin-1"),
    ):
        with pytest.raises(UsageError):
            arrays.write(ArrayFile(value.array, "picture", {"palette": wrong}))
    for array in (value.array.astype(np.uint16), value.array[0], value.array[..., None]):
        with pytest.raises(UsageError):
            arrays.write(ArrayFile(array, "picture", value.detail))


def test_what_an_array_leaves_out_is_noted(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / f"{number}.png", dpi=(300, 300))
    (note,) = arrays.read(tmp_path).notes
    assert str(note) == "metadata: resolution: left out of pictures that are stored as arrays (3 of 3 pictures)"


@pytest.mark.parametrize("names", ["../a.png\nb.png", "a.png\na.png", "a\nb", "a.png", "a.png\n.png", "a.png\nA.PNG"])
def test_hostile_names(names: str) -> None:
    value = ArrayFile(np.zeros((2, 3, 4), np.uint8), "pictures", {"names": names})
    with pytest.raises(CodecError):
        arrays.write(value)


HOSTILE = {
    "nothing": b"",
    "cut idx": FILES["idx"][:-1],
    "longer idx": FILES["idx"] + b"\0",
    "idx of floats": idx(NUMBERS.astype(">f4"), 13),
    "idx without axes": b"\0\0\x08\0",
    "idx of 2**96 values": b"\0\0\x08\3" + b"\xff" * 12,
    "cut npy": FILES["npy"][:-1],
    "npy of floats": npy(NUMBERS.astype(float)),
    "npy of uint64": npy(NUMBERS.astype(np.uint64)),
    "npy of objects": FILES["npy"].replace(b"'|u1'", b"'|O'  "),
    "npy that calls": FILES["npy"].replace(b"'|u1'", b"exit()"),
    "npy of 10**30 values": FILES["npy"].replace(b"(5, 3, 4)", b"(9" + b"9" * 14 + b", 9" + b"9" * 14 + b")"),
    "npy, unknown version": b"\x93NUMPY\x09\0" + FILES["npy"][8:],
    "npy, header cut": FILES["npy"][:40],
    "cut gzip": gzip.compress(FILES["idx"])[:-9],
    "two gzips": gzip.compress(FILES["idx"]) * 2,
    "gzip of noise": b"\x1f\x8b" + bytes(range(200)),
    "ragged csv": b"1,2\n3\n",
    "csv with NUL": b"1,2\n3,\0\n",
    "csv with a long cell": b"1," + b"x" * 256 + b"\n",
    "cut png": b"\x89PNG\r\n\x1a\n" + bytes(40),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused(name: str) -> None:
    with pytest.raises(MediaError):
        arrays.read(HOSTILE[name])


def test_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_BYTES", 1 << 16)
    with pytest.raises(MediaError, match="65536"):
        arrays.read(gzip.compress(bytes(1 << 20)))
    assert len(zlib.compress(bytes(1 << 20))) < 2000


@pytest.mark.parametrize("head", [b"x", 3, FILES["npy of bool"][:128], FILES["npy"][:-1]])
def test_hostile_detail(head: object) -> None:
    """What a file of ours says about the file that it was."""
    with pytest.raises(CodecError):
        arrays.write(ArrayFile(NUMBERS.astype(np.uint8), "npy", {"head": head}))
    for detail in ({}, {"delimiter": b"x", "newline": b"\n", "end": True}):
        with pytest.raises(UsageError):
            arrays.write(ArrayFile(np.array([[b"1"]]), "csv", detail))


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Of another system, say: the file stores names as text, and can't guess what these bytes mean."""
    name = os.fsdecode(b"caf\xe9.png")
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / name)
    with pytest.raises(MediaError, match=r"caf\\udce9.png isn't UTF-8.*convmv"):
        arrays.read(tmp_path)


@pytest.mark.parametrize(("mode", "n_notes"), [("1", 1), ("L", 0)])
def test_masks_of_one_bit_say_that_they_become_bytes(tmp_path: Path, mode: str, n_notes: int) -> None:
    Image.new(mode, (9, 8)).save(tmp_path / "m.png")
    value = arrays.read((tmp_path / "m.png").read_bytes())
    assert [note.kind for note in value.notes] == ["depth"] * n_notes
