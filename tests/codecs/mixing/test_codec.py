"""The codec `mix`: any array or table comes back, each by the model that fits it, and noise doesn't grow."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import codec as package
from codec import Codec, native
from codec.cli.command import main
from codec.codecs.mixing.sheets import Layout, sheet_shape
from codec.container import Chunk, pack, read_header, unpack
from codec.errors import CodecError, StreamError, UsageError
from codec.media.array import read, write

MIX = Codec.load("mix")
STORED, ZLIB, LEVELS, LABELS, TEXTS = range(5)
DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64")


def method_of(data: bytes) -> int:
    return next(chunk.payload[0] for chunk in unpack(data)[1] if chunk.tag == "Mixd")


def _draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _photo(h: int = 40, w: int = 50) -> np.ndarray:
    """Three channels that belong together, with noise."""
    y, x = np.mgrid[0:h, 0:w]
    base = 90 + 60 * np.sin(x / 9) + 40 * np.cos(y / 7) + _draw().normal(0, 3, (h, w))
    return np.stack([base, 0.8 * base + 20, base + x], -1).clip(0, 255).astype(np.uint8)


def check(x: np.ndarray) -> bytes:
    data = MIX.compress(x)
    out = MIX.decompress(data)
    assert out.dtype == x.dtype and np.array_equal(out, x)
    assert np.array_equal(package.decode(data), x)
    return data


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (70,), (9, 8), (5, 7, 3), (3, 4, 6), (2, 3, 4, 2), (1, 2, 3, 1, 5), (1,) * 8])
def test_every_type_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        check(_draw(1).random(shape) < 0.3)
        return
    limits = np.iinfo(kind)
    check(_draw(2).integers(limits.min, limits.max, shape, kind, endpoint=True))
    ends = np.array([limits.min, limits.max], kind)
    check(ends[_draw(3).integers(0, 2, shape)])
    check(np.full(shape, limits.min, kind))
    check((np.arange(np.prod(shape)).reshape(shape) % 100).astype(kind))


def test_the_model_follows_the_array() -> None:
    y, x = np.mgrid[0:64, 0:64]
    labels = np.array([7, 200, 3, 90], np.uint8)[(np.hypot(y - 30, x - 20) // 9).astype(int) % 4]
    assert method_of(check(labels)) == LABELS
    assert method_of(check(np.hypot(y - 30, x - 20) < 17)) == LABELS
    assert method_of(check(_photo()[None])) == LEVELS
    assert method_of(check(_draw().integers(0, 256, (80, 80)).astype(np.uint8))) == STORED
    colours = _draw().integers(0, 256, (5, 3)).astype(np.uint8)[labels % 5]
    data = check(colours)
    assert method_of(data) == LABELS and len(data) < len(check(labels)) + 60


def test_noise_grows_by_a_few_bytes_only() -> None:
    for dtype in ("uint8", "uint16", "int32", "int64"):
        limits = np.iinfo(dtype)
        noise = _draw(4).integers(limits.min, limits.max, (60, 50), dtype, endpoint=True)
        assert len(check(noise)) <= noise.nbytes + 80


def test_simple_arrays_are_tiny() -> None:
    assert len(check(np.zeros((600, 700), np.uint8))) < 150
    assert len(check(np.tile(np.arange(50, dtype=np.int32), (40, 1)))) < 400
    few = np.array([-(1 << 40), 5, 1 << 50])[_draw().integers(0, 3, 4000)]
    assert len(check(few)) < 4000 * 1.7 / 8 + 150


def test_tables_come_back_byte_for_byte() -> None:
    rows = [b"id,colour,value"] + [b"%d,%s,%.2f" % (i, (b"red", b"blue")[i % 3 == 0], i / 7) for i in range(300)]
    for text in (b"\n".join(rows) + b"\n", b"\r\n".join(rows), b"a\n", b";\n;\n", rows[0]):
        data = MIX.encode_array_file(read(text))
        assert write(MIX.decode_array_file(data)) == text
    data = MIX.encode_array_file(read(b"\n".join(rows)))
    assert method_of(data) == TEXTS and len(data) < 1100
    odd = np.array([[b"a\0b", b""], [b"\xff" * 300, b"c"]])
    assert method_of(check(odd)) in (STORED, ZLIB)


def test_palette_pictures_and_folders_of_them(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        picture = Image.fromarray(_photo(30, 24)).quantize(6)
        picture.rotate(180 * number).save(pictures / f"{number}.png")
    value = read(pictures)
    files = write(MIX.decode_array_file(MIX.encode_array_file(value)))
    assert isinstance(files, dict) and sorted(files) == ["0.png", "1.png", "2.png"]
    for name, content in files.items():
        with Image.open(io.BytesIO(content)) as ours, Image.open(pictures / name) as theirs:
            assert ours.mode == "P" and ours.getpalette() == theirs.getpalette()
            assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_it_codes_arrays_where_no_codec_is_named(tmp_path: Path) -> None:
    array = (np.add.outer(np.arange(20), np.arange(30)) // 7).astype(np.uint8)
    np.save(tmp_path / "labels.npy", array)
    assert main(["encode", str(tmp_path / "labels.npy"), "--quiet"]) == 0
    data = (tmp_path / "labels.mix").read_bytes()
    assert read_header(data).codec == "mix"
    assert main(["decode", str(tmp_path / "labels.mix"), "-o", str(tmp_path / "out.npy"), "--quiet"]) == 0
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "labels.npy").read_bytes()


def test_nothing_but_a_name_loads_it() -> None:
    settings: tuple[dict[str, Any], ...] = ({"quality": 3}, {"weights": Path("w.safetensors")})
    for wrong in settings:
        with pytest.raises(CodecError):
            Codec.load("mix", **wrong)
    with pytest.raises(UsageError):
        Codec.load("mix@photos")


def test_without_the_compiled_module_the_bytes_are_the_same() -> None:
    values = (_photo(8, 9)[..., 0] // 3, _photo(6, 7)[None], np.arange(30, dtype=np.int32) ** 3, np.eye(7, dtype=bool))
    for x in (*values, np.array([[b"ab", b"c"], [b"ab", b"d"]])):
        data = MIX.compress(x)
        with native.using(None):
            assert MIX.compress(x) == data
            assert np.array_equal(MIX.decompress(data), x)


# ---- hostile files


def _forged(x: np.ndarray, payload: bytes, shape: tuple[int, ...] | None = None) -> bytes:
    header, chunks = unpack(MIX.compress(x))
    from dataclasses import replace

    return pack(replace(header, shape=shape or header.shape), [Chunk("Mixd", payload), *chunks[1:]])


def test_hostile_payloads_are_refused_at_once() -> None:
    x = (np.add.outer(np.arange(20), np.arange(30)) // 7).astype(np.uint8)
    payload = unpack(MIX.compress(x))[1][0].payload
    layout = struct.Struct("<BQBI")
    for head in (
        b"",
        b"\x09",
        b"\x02\x07",
        b"\x03" + b"\xff" * 4,
        b"\x03" + bytes(4),
        b"\x04\xff\xff",
        b"\x01abc",
        b"\x00",
    ):
        with pytest.raises(CodecError):
            MIX.decompress(_forged(x, head + bytes(20) if head else b""))
    wrong = [(0, 0, 0, 0), (0, 0, 65, 0), (9, 0, 8, 0), (4, 0, 8, 0), (1, 0, 8, 0), (0, 0, 8, 9)]
    for flags, low, bits, n_bytes in (*wrong, (1, 0, 8, 1 << 31), (0, 1 << 63, 8, 0), (0, 255, 8, 0)):
        with pytest.raises(CodecError):
            MIX.decompress(_forged(x, b"\x02\x00" + layout.pack(flags, low, bits, n_bytes) + payload[-20:]))
    for shape in ((1 << 20, 1 << 20), (1 << 27, 1), (1 << 14, 1 << 13)):
        with pytest.raises(CodecError):
            MIX.decompress(_forged(x, payload, shape))


def test_flipped_bits_give_errors() -> None:
    data = MIX.compress(_photo(20, 20)[None])
    header, chunks = unpack(data)
    for at in range(0, len(chunks[0].payload), 29):
        payload = bytearray(chunks[0].payload)
        payload[at] ^= 0x10
        with pytest.raises(StreamError):
            MIX.decompress(pack(header, [Chunk("Mixd", bytes(payload)), *chunks[1:]]))


# ---- layouts


def test_layouts_are_read_as_they_are_written() -> None:
    for array in (
        np.array([3, 900, 70_000] * 200),
        np.array([-5, 5], np.int8),
        _photo(),
        _draw().integers(0, 256, (3, 4)).astype(np.uint8)[_draw().integers(0, 3, (20, 30))],
        np.arange(-(1 << 40), 1 << 40, 1 << 33),
    ):
        layout = Layout.of(array)
        again, end = Layout.read(layout.pack() + b"rest", array.size)
        assert end == len(layout.pack())
        sheets = again.levels(array)
        assert sheets.shape == layout.shape(array.shape) and int(sheets.max()) < 1 << layout.sheet_bits
        assert np.array_equal(again.array(sheets, array.shape, array.dtype), array)


def test_axes_become_sheets() -> None:
    assert sheet_shape((5,)) == (1, 1, 5, 1)
    assert sheet_shape((5, 6)) == (1, 5, 6, 1)
    assert sheet_shape((5, 6, 7)) == (5, 6, 7, 1)
    assert sheet_shape((50, 60, 3)) == (1, 50, 60, 3)
    assert sheet_shape((2, 50, 60, 3)) == (2, 50, 60, 3)
    assert sheet_shape((2, 3, 50, 60)) == (6, 50, 60, 1)
