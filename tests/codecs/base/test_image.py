"""What every image codec shares, held with a small lossless codec that exists only here."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import codec
from codec import Codec, ImageCodec, Picture, native, registry
from codec.codecs.base import alpha as module
from codec.codecs.base import codec as contract
from codec.codecs.base import image as base
from codec.codecs.base.alpha import decode_alpha, encode_alpha
from codec.codecs.base.codec import EncodedPixels
from codec.codecs.base.limits import Limits
from codec.codecs.base.settings import Card
from codec.container import Chunk, Header, pack, read_header, unpack
from codec.errors import CodecError, ContainerError, MediaError, StreamError, UsageError, WeightsError
from codec.media.image import to_pil, write_picture

from ...damage import MIB, Damage, Memory, edits


class PlainCodec(ImageCodec):
    """zlib, planes one after the other. Weights: whatever is in the file that it is given, or none."""

    name: ClassVar[str] = "plain"
    lossless: ClassVar[bool] = True
    stream: ClassVar[int] = 3
    reads: ClassVar[tuple[int, ...]] = (2,)
    critical_chunks: ClassVar[frozenset[str]] = frozenset({"Body"})

    def __init__(self, weights: Path | None = None, quality: float | None = None, device: str = "cpu") -> None:
        self._id = b"" if weights is None else hashlib.sha256(weights.read_bytes()).digest()[:16]
        self.quality, self.device = quality, device

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> PlainCodec:
        return cls(weights, quality, device)

    @property
    def weights_id(self) -> bytes:
        return self._id

    def encode_pixels(self, pixels: np.ndarray, quality: float | None) -> EncodedPixels:
        assert pixels.flags.c_contiguous and pixels.shape[2] == 3
        body = zlib.compress(pixels.transpose(2, 0, 1).tobytes(), 6)
        return EncodedPixels([Chunk("Body", body)], {"q": 5 if quality is None else quality}, coder="zlib")

    def decode_pixels(self, header: Header, chunks: Any) -> np.ndarray:
        height, width, _ = header.shape
        n_bytes = height * width * 3 * np.dtype(header.dtype).itemsize
        unzip = zlib.decompressobj()
        try:
            data = b"".join(unzip.decompress(chunk.payload, n_bytes + 1) for chunk in chunks if chunk.tag == "Body")
        except zlib.error as error:
            raise StreamError(f"damaged: {error}") from None
        if len(data) != n_bytes or not unzip.eof:
            raise StreamError("the payload has another length than the picture")
        return np.frombuffer(data, header.dtype).reshape(3, height, width).transpose(1, 2, 0).copy()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    card = Card("plain", "image", ".plain", "for tests", f"{__name__}:PlainCodec")
    ours = {**registry._ours(), "plain": card}
    monkeypatch.setattr(registry, "_ours", lambda: ours)
    monkeypatch.setattr(registry, "load_class", lambda name: PlainCodec)
    monkeypatch.setattr(contract, "load_class", lambda name: PlainCodec)


@pytest.fixture
def plain():
    return Codec.load("plain")


def noise(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def shade(height: int, width: int, dtype: Any = np.uint8) -> np.ndarray:
    """A soft-edged disc: what transparency usually looks like."""
    y, x = np.mgrid[0:height, 0:width]
    distance = np.hypot(y - height / 2, x - width / 2) - min(height, width) / 3
    return (np.clip(1 - distance / 3, 0, 1) * np.iinfo(dtype).max).astype(dtype)


# ---- kinds


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 1, 1), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (63, 65, 3), (400, 2, 3)]
)
def test_arrays_come_back(plain, shape, dtype):
    array = noise(*shape, dtype=dtype)
    before = array.copy()
    out = plain.decompress(plain.compress(array))
    assert out.dtype == dtype
    assert out.shape == shape
    assert np.array_equal(out, array)
    assert np.array_equal(array, before)


def test_arrays_of_any_layout(plain):
    array = noise(9, 8, 3)
    for view in (array[::-1, ::2], array.transpose(1, 0, 2), np.asfortranarray(array), array.astype(">u2")):
        out = plain.decompress(plain.compress(view))
        assert np.array_equal(out, view)
        assert out.dtype.isnative
        assert out.flags.c_contiguous


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_tensors_come_back(plain, channels, dtype):
    levels = torch.from_numpy(noise(channels, 6, 9))
    x = (levels.float() / 255).to(dtype).requires_grad_()
    out = plain.decompress(plain.compress(x))
    assert out.shape == x.shape
    assert out.dtype == torch.float32
    assert not out.requires_grad
    assert torch.equal((out * 255).round().to(torch.uint8), levels)
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pil_comes_back(plain, mode):
    if mode == "I;16":
        image = Image.fromarray(noise(6, 9, dtype=np.uint16))
    else:
        channels = len(mode)
        array = noise(6, 9, channels)
        image = Image.fromarray(array[:, :, 0] if channels == 1 else array)
    image.info["icc_profile"] = bytes(16) + (b"RGB " if "RGB" in mode else b"GRAY") + bytes(16) + b"acsp" + bytes(200)
    data = plain.compress(image)
    out = plain.decompress(data)
    assert out.mode == mode
    assert out.tobytes() == image.tobytes()
    assert out.info["icc_profile"] == image.info["icc_profile"]
    assert "k" not in read_header(data).params
    assert np.array_equal(np.asarray(codec.decode(data)), np.asarray(image))


def test_paths_come_back_as_pil(plain, tmp_path):
    picture = Picture.from_stacked(noise(12, 9, 4, dtype=np.uint16))
    path = tmp_path / "x.png"
    write_picture(picture, path)
    for source in (path, str(path)):
        data = plain.compress(source)
        out = plain.decompress(data)
        assert isinstance(out, Image.Image)
        assert np.array_equal(np.asarray(out), np.asarray(to_pil(picture)))
        assert np.array_equal(plain.decode_picture(data).stacked(), picture.stacked())  # all 16 bits
    (tmp_path / "x.plain").write_bytes(data)
    assert codec.open(tmp_path / "x.plain").tobytes() == out.tobytes()
    with pytest.raises(MediaError, match=r"none\.plain"):
        codec.open(tmp_path / "none.plain")


def test_pictures_come_back(plain):
    picture = Picture(noise(5, 6, 3), shade(5, 6), bytes(16) + b"RGB " + bytes(3000), b"II*\0" + bytes(40))
    for data in (plain.compress(picture), plain.encode_picture(picture)):
        out = plain.decode_picture(data)
        assert np.array_equal(out.stacked(), picture.stacked())
        assert (out.icc, out.exif) == (picture.icc, picture.exif)
    assert isinstance(plain.decompress(plain.compress(picture)), Picture)
    assert isinstance(plain.decompress(plain.encode_picture(picture)), Image.Image)


def test_lists_and_progress(plain):
    items = [noise(5, 6, 3), torch.rand(3, 4, 5), Image.new("L", (3, 2))]
    seen = []
    files = plain.compress(items, progress=seen.append)
    assert seen == pytest.approx([1 / 3, 2 / 3, 1])
    assert files == [plain.compress(item) for item in items]
    out = plain.decompress(files)
    assert [type(item) for item in out] == [np.ndarray, torch.Tensor, Image.Image]
    assert plain.compress([]) == []
    assert plain.decompress([]) == []


def test_quality_reaches_the_family(plain):
    assert read_header(plain.compress(noise(2, 2, 3), quality=7)).params["q"] == 7
    assert read_header(plain.compress(noise(2, 2, 3))).params["q"] == 5


@pytest.mark.parametrize(
    "x",
    [
        None,
        5,
        (1, 2),
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 3), np.int16),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.zeros(2, 3, 4, 4),
        torch.zeros(4, 4),
        torch.full((3, 4, 4), 255.0),
        torch.full((3, 4, 4), -0.5),
        torch.full((3, 4, 4), float("nan")),
    ],
)
def test_what_it_cannot_take(plain, x):
    with pytest.raises(UsageError, match="expected"):
        plain.compress(x)


def test_arrays_with_too_many_channels(plain):
    with pytest.raises(MediaError, match="1 to 4"):
        plain.compress(np.zeros((4, 4, 5), np.uint8))


def test_depths_a_codec_does_not_have(plain, monkeypatch):
    data = plain.compress(noise(3, 3, 3, dtype=np.uint16))
    monkeypatch.setattr(PlainCodec, "dtypes", ("uint8",))
    with pytest.raises(MediaError, match="takes uint8 pictures, not uint16"):
        plain.compress(noise(3, 3, 3, dtype=np.uint16))
    with pytest.raises(ContainerError, match="uint16"):
        plain.decompress(data)


def test_grey_is_the_rounded_mean(plain, monkeypatch):
    data = plain.compress(np.zeros((1, 2), np.uint8))
    pixels = np.array([[[1, 1, 0], [255, 255, 254]]], np.uint8)
    monkeypatch.setattr(PlainCodec, "decode_pixels", lambda self, header, chunks: pixels)
    assert plain.decompress(data).tolist() == [[1, 255]]


# ---- which codec, which weights


def test_load(tmp_path, plain):
    assert isinstance(Codec.load("plain@tag", quality=3), PlainCodec)
    assert isinstance(ImageCodec.load("plain"), PlainCodec)
    with pytest.raises(UsageError, match="did you mean 'plain'"):
        registry.entry("plane")

    class Other(ImageCodec):
        pass

    with pytest.raises(UsageError, match="isn't a Other"):
        Other.load("plain")


def test_a_file_names_its_weights(tmp_path, plain, monkeypatch):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    array = noise(4, 4, 3)
    data = Codec.load("plain", weights=weights).compress(array)
    assert read_header(data).weights == hashlib.sha256(b"one").digest()[:16]
    assert np.array_equal(codec.decode(data, weights=weights), array)
    with pytest.raises(WeightsError, match="other weights"):
        plain.decompress(data)
    with pytest.raises(WeightsError, match="aren't installed"):
        codec.decode(data)
    weights.write_bytes(b"two")
    with pytest.raises(WeightsError, match="other weights"):
        codec.decode(data, weights=weights)
    weights.write_bytes(b"one")

    class Found:
        tag, path = "16x", weights

    monkeypatch.setattr(contract, "find_by_hash", lambda name, first16: Found)
    assert np.array_equal(codec.decode(data), array)


def relabelled(data, **fields):
    header, chunks = unpack(data)
    return pack(Header(**{**vars(header), **fields}), chunks)


def test_other_codecs_and_versions(plain):
    data = plain.compress(noise(4, 4, 3))
    assert plain.decompress(relabelled(data, stream=2)).shape == (4, 4, 3)
    for stream in (1, 4):
        with pytest.raises(StreamError, match="reads up to 3: pip install -U"):
            plain.decompress(relabelled(data, stream=stream))
    with pytest.raises(ContainerError, match="made by 'walloc'"):
        plain.decompress(relabelled(data, codec="walloc"))
    with pytest.raises(ContainerError, match="'later'.*pip install -U"):
        codec.decode(relabelled(data, codec="later"))
    with pytest.raises(UsageError, match="walloc"):
        PlainCodec.for_header(read_header(relabelled(data, codec="walloc")))


def test_unknown_chunks(plain):
    array = noise(4, 4, 3)
    header, chunks = unpack(plain.compress(array))
    assert np.array_equal(plain.decompress(pack(header, [Chunk("note", b"hello"), *chunks])), array)
    with pytest.raises(ContainerError, match="'Note'"):
        plain.decompress(pack(header, [Chunk("Note", b"hello"), *chunks]))


# ---- transparency


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (64, 64), (40, 3000), (17000, 70), (1500, 1100)])
@pytest.mark.parametrize("make", [noise, shade, lambda *shape, dtype: np.full(shape, 77, dtype)])
def test_alpha_is_lossless(make, shape, dtype):
    alpha = make(*shape, dtype=dtype)
    payload = encode_alpha(alpha)
    out = decode_alpha(payload, shape, np.dtype(dtype))
    assert out.dtype == dtype
    assert out.flags.c_contiguous
    assert np.array_equal(out, alpha)
    if make is not noise:
        assert len(payload) < alpha.nbytes / 20 + 2000


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_rows_look_above_across_bands(dtype):
    """Equal rows of noise: every row but the first is best seen from the one above, that of the band before too."""
    plane = noise(1, 3000, dtype=dtype).repeat(800, 0)
    payload = b"\1" + module._zip(plane)
    assert len(payload) < 4 * plane[0].nbytes
    assert np.array_equal(decode_alpha(payload, (800, 3000), np.dtype(dtype)), plane)


def test_unknown_row_filters():
    rows = bytes([3, 1, 1, 1]), bytes([4, 1, 1, 1])
    assert decode_alpha(b"\1" + zlib.compress(rows[0]), (1, 3), np.dtype(np.uint8)).tolist() == [[1, 2, 3]]
    with pytest.raises(StreamError, match="row filter 4"):
        decode_alpha(b"\1" + zlib.compress(rows[1]), (1, 3), np.dtype(np.uint8))


def test_constant_alpha_costs_two_bytes():
    assert encode_alpha(np.full((500, 500), 255, np.uint8)) == b"\x00\xff"
    assert encode_alpha(np.full((500, 500), 0x1234, np.uint16)) == b"\x00\x12\x34"


def test_alpha_is_no_larger_than_a_png():
    alpha = shade(300, 400)
    stream = io.BytesIO()
    Image.fromarray(alpha).save(stream, "PNG", optimize=True)
    assert len(encode_alpha(alpha)) < stream.tell()


@pytest.mark.skipif(not native.instruction_sets(), reason="an encoder without the compiled module doesn't mix")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_soft_edges_are_mixed(dtype):
    y, x = np.mgrid[0:60, 0:70]
    top = np.iinfo(dtype).max
    plane = (np.clip((22 - np.hypot(y - 30, x - 33)) / 5, 0, 1) * top).astype(dtype)
    payload = encode_alpha(plane)
    assert payload[0] == 3
    with native.using(None):
        other = encode_alpha(plane)  # as if there were no compiled module
        assert other[0] in (1, 2) and len(other) > len(payload)
        assert np.array_equal(decode_alpha(payload[:], plane.shape, plane.dtype), plane)
    assert np.array_equal(decode_alpha(payload, plane.shape, plane.dtype), plane)
    for damaged in (payload[:1], b"\3\7" + payload[2:], payload + payload, b"\4" + payload[1:]):
        with pytest.raises(StreamError):
            decode_alpha(damaged, plane.shape, plane.dtype)


def test_mixing_is_left_out_where_it_would_be_slow(monkeypatch):
    def never(plane, room):
        raise AssertionError

    monkeypatch.setattr(module, "_mixed", never)
    assert encode_alpha(noise(2000, 1200))[0] in (1, 2)


ALPHAS = {
    "zlib 8": (shade(18, 25), 1),
    "webp": (shade(18, 25), 2),
    "zlib 16": (shade(18, 25, np.uint16), 1),
    "constant": (np.full((18, 25), 7, np.uint8), 0),
    "mixed 8": (shade(18, 25), 3),
    "mixed 16": (shade(18, 25, np.uint16), 3),
}


@pytest.mark.parametrize("kind", ALPHAS)
@settings(max_examples=150)
@given(data=st.data())
def test_hostile_alpha(kind, data):
    plane, method = ALPHAS[kind]
    shape = (18, 25)
    methods = (
        encode_alpha,
        lambda a: b"\1" + module._zip(a),
        lambda a: b"\2" + module._webp(a),
        lambda a: module._mixed(a, 1 << 20),
    )
    payload = methods[method](plane)
    assert np.array_equal(decode_alpha(payload, shape, plane.dtype), plane)
    damaged = data.draw(edits(len(payload)))(payload)
    try:
        out = decode_alpha(damaged, shape, plane.dtype)
    except StreamError:
        return
    assert out.shape == shape
    assert out.dtype == plane.dtype


def test_alpha_bombs():
    bomb = b"\1" + zlib.compress(bytes(1 << 28))
    memory = Memory()
    with pytest.raises(StreamError, match="longer"):
        decode_alpha(bomb, (300, 400), np.dtype(np.uint8))
    with pytest.raises(StreamError, match="early"):
        decode_alpha(b"\1" + zlib.compress(bytes(9)), (300, 400), np.dtype(np.uint8))
    assert memory.grown() < 20 * MIB


def test_alpha_of_a_large_picture_in_bounded_memory():
    alpha = shade(3000, 4000, np.uint8)
    encode_alpha(alpha[:600])
    memory = Memory()
    payload = encode_alpha(alpha)
    assert memory.grown() < 100 * MIB
    memory = Memory()
    decode_alpha(payload, (3000, 4000), alpha.dtype)
    assert memory.grown() < 64 * MIB + 3 * alpha.nbytes  # what mixing learns, and the plane in 16 bits


def test_alpha_chunks_must_fit_the_channels(plain):
    clear, solid = plain.compress(noise(4, 4, 4)), plain.compress(noise(4, 4, 3))
    header, chunks = unpack(clear)
    for wrong in (chunks[:1], [*chunks, chunks[-1]]):
        with pytest.raises(StreamError, match="transparency"):
            plain.decompress(pack(header, wrong))
    with pytest.raises(StreamError, match="transparency"):
        plain.decompress(pack(read_header(solid), chunks))


# ---- size against payload


def test_flat_pictures_are_filled_up(plain):
    """A flat picture takes less than its minimum: the file is filled up, so that it passes its own reader."""
    monkey = noise(1, 1, 3).repeat(2000, 0).repeat(3000, 1)
    data = plain.compress(monkey)
    assert len(data) >= monkey.shape[0] * monkey.shape[1] / plain.pixels_per_byte
    assert np.array_equal(plain.decompress(data), monkey)
    header, chunks = unpack(data)
    bare = [chunk for chunk in chunks if chunk.tag != "fill"]
    if len(bare) < len(chunks):
        with pytest.raises(StreamError, match="pixels"):
            plain.decompress(pack(header, bare))


def test_a_codec_may_need_more_bytes(plain, monkeypatch):
    monkeypatch.setattr(PlainCodec, "pixels_per_byte", 1)
    flat = np.zeros((60, 70, 3), np.uint8)
    data = plain.compress(flat)
    assert sum(len(chunk.payload) for chunk in unpack(data)[1]) == 60 * 70
    assert [chunk.tag for chunk in unpack(data)[1]] == ["Body", "fill"]
    assert np.array_equal(plain.decompress(data), flat)


def test_sizes_are_checked_before_the_payload_is_looked_at(plain, monkeypatch):
    header, chunks = unpack(plain.compress(noise(4, 4, 4)))

    def never(*arguments: Any) -> None:
        raise AssertionError("looked at the payload")

    monkeypatch.setattr(base, "decode_alpha", never)
    monkeypatch.setattr(PlainCodec, "decode_pixels", never)
    with pytest.raises(StreamError, match="can't hold a picture of 16384x16384"):
        plain.with_limits(Limits.none()).decompress(
            pack(Header(**{**vars(header), "shape": (16384, 16384, 4)}), chunks)
        )


def test_more_pixels_than_any_picture_has_are_refused_first(plain, monkeypatch):
    """However large the payload: the container allows 2**30 samples, a picture has at most 2**28 pixels."""
    header, chunks = unpack(plain.compress(noise(4, 4, 3)))
    monkeypatch.setattr(PlainCodec, "pixels_per_byte", 1 << 40)
    monkeypatch.setattr(PlainCodec, "decode_pixels", lambda *_: pytest.fail("looked at the payload"))
    for height, width in ((16385, 16384), ((1 << 20) - 1, 257)):
        hostile = pack(Header(**{**vars(header), "shape": (height, width, 3)}), [*chunks, Chunk("Newy", b"")])
        with pytest.raises(ContainerError, match=f"{width}x{height}; expected at most {1 << 28} pixels"):
            plain.with_limits(Limits.none()).decompress(hostile)


# ---- settings


@pytest.mark.parametrize("device", ["foo", "meta", "cuda:99", ""])
def test_devices_that_cannot_be_used(plain, device):
    data = plain.compress(noise(4, 4, 3))
    with pytest.raises(UsageError, match="--device cpu"):
        Codec.load("plain", device=device)
    with pytest.raises(UsageError, match="--device cpu"):
        codec.decode(data, device=device)


def test_load_checks_the_settings(monkeypatch):
    def refuse(self: PlainCodec) -> None:
        raise UsageError(f"quality {self.quality}")

    monkeypatch.setattr(PlainCodec, "check_settings", refuse)
    with pytest.raises(UsageError, match="quality 500"):
        Codec.load("plain", quality=500)


# ---- damage


@pytest.mark.parametrize("kind", ["rgb", "grey with alpha", "16 bits with metadata"])
def test_damage(plain, kind):
    picture = {
        "rgb": Picture(noise(12, 10, 3)),
        "grey with alpha": Picture(noise(12, 10, 1), shade(12, 10)),
        "16 bits with metadata": Picture(noise(6, 5, 3, dtype=np.uint16), None, bytes(16) + b"RGB " + bytes(400)),
    }[kind]
    other = relabelled(plain.compress(picture), codec="walloc")
    damage = Damage(plain.compress(picture), codec.decode, lambda out: np.array_equal(out.stacked(), picture.stacked()))
    damage.everything(other, examples=2000 if kind == "rgb" else 300)


@pytest.mark.parametrize("kind", [5, -1, 255, True, "1", b"", 2.0])
def test_unknown_kinds(plain, kind):
    header, chunks = unpack(plain.compress(noise(4, 4, 3)))
    with pytest.raises(ContainerError, match="'k'"):
        plain.decompress(pack(Header(**{**vars(header), "params": {"k": kind}}), chunks))


@pytest.mark.parametrize("meta", [{"icc": 5}, {"exif": "text"}, {"icc": (b"a",)}])
def test_metadata_of_the_wrong_type(plain, meta):
    with pytest.raises(ContainerError, match="aren't bytes"):
        plain.decompress(relabelled(plain.compress(noise(4, 4, 3)), meta=meta))


def test_the_damage_tests_can_fail(plain):
    """A decoder that crashes, answers wrongly, takes long or takes much is noticed."""
    data = plain.compress(noise(8, 8, 3))

    def run(bad: Any) -> None:
        Damage(
            data, lambda part: codec.decode(part) if part == data else bad(part), lambda out: out is not None
        ).foreign()

    def raises(part: bytes) -> None:
        raise CodecError("as it should")

    def crashes(part: bytes) -> None:
        raise KeyError("unexpected")

    def takes_much(part: bytes) -> None:
        np.ones(150 * MIB, np.uint8)
        raise CodecError("late")

    def takes_long(part: bytes) -> None:
        zlib.compress(noise(60 * MIB).tobytes())
        raise CodecError("late")

    def reserves_much(part: bytes) -> None:
        np.empty(1 << 40, np.uint8)
        raise CodecError("late")

    run(raises)
    for bad, error in (
        (crashes, KeyError),
        (lambda part: 1, AssertionError),
        (takes_much, AssertionError),
        (takes_long, AssertionError),
        (reserves_much, MemoryError),
    ):
        with pytest.raises(error):
            run(bad)


# ---- what no one sees


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (16, 16), (33, 70)])
def test_hidden_colours_are_filled_and_seen_ones_kept(shape, dtype):
    pixels, alpha = noise(*shape, 3, dtype=dtype), noise(*shape, dtype=dtype) & 1
    before = pixels.copy()
    filled = module.without_hidden(pixels, alpha)
    assert np.array_equal(pixels, before)
    assert filled.dtype == dtype
    assert np.array_equal(filled[alpha > 0], pixels[alpha > 0])
    other = np.where(alpha[:, :, None] > 0, pixels, noise(*shape, 3, dtype=dtype, seed=7))
    assert np.array_equal(module.without_hidden(other, alpha), filled)  # nothing hidden has a say
    if (alpha > 0).any():
        assert filled.max() <= pixels[alpha > 0].max()
        assert filled.min() >= pixels[alpha > 0].min()


def test_hidden_colours_are_smooth():
    alpha = np.zeros((64, 64), np.uint8)
    alpha[20:40, 20:40] = 255
    pixels = noise(64, 64, 3)
    pixels[20:40, 20:40] = np.linspace(0, 250, 20, dtype=np.uint8)[:, None, None]
    filled = module.without_hidden(pixels, alpha).astype(int)
    outside = np.concatenate((filled[:18], filled[42:]))
    assert np.abs(np.diff(outside, axis=1)).max() < 30
    assert not module.without_hidden(pixels, np.zeros_like(alpha)).any()


def test_a_codec_with_loss_never_sees_hidden_colours(plain, monkeypatch):
    monkeypatch.setattr(PlainCodec, "lossless", False)
    array = np.dstack((noise(64, 64, 3), np.zeros((64, 64), np.uint8)))
    assert len(plain.compress(array)) < 300
    assert plain.decompress(plain.compress(array)).shape == array.shape


def test_metadata_come_back(plain, tmp_path):
    picture = Picture(
        noise(6, 9, 3), None, None, None, (), b"<x/>", (300.0, 72.5), bytes([9, 16, 0, 1]), (("a", "b"), ("c", "€"))
    )
    data = plain.encode_picture(picture)
    back = plain.decode_picture(data)
    for name in ("xmp", "dpi", "code_points", "text"):
        assert getattr(back, name) == getattr(picture, name)
    (tmp_path / "x.plain").write_bytes(data)
    summary = plain.decode_file(tmp_path / "x.plain", tmp_path / "x.ppm")
    assert sorted(note.kind for note in summary.notes) == ["colour", "metadata", "metadata", "metadata"]
    assert plain.decode_file(tmp_path / "x.plain", tmp_path / "x.png").notes == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [("xmp", 1), ("cicp", b"123"), ("dpi", (1.0,)), ("dpi", (0.0, 1.0)), ("dpi", "x"), ("text", b"a"), ("text", "a")],
)
def test_hostile_metadata(plain, key, value):
    header, chunks = unpack(plain.compress(noise(4, 4, 3)))
    with pytest.raises(ContainerError, match=key):
        plain.decode_picture(pack(dataclasses.replace(header, meta={key: value}), chunks))


def test_a_size_below_the_metadata_says_so(plain):
    from codec.codecs.base import rate_control

    picture = Picture(noise(6, 9, 3), shade(6, 9), xmp=noise(5000).tobytes())
    words = r"of which \d+ are metadata \(XMP of 5000\) and \d+ are transparency"
    with pytest.raises(UsageError, match=words):
        rate_control.at_size(plain, picture, 1000)
