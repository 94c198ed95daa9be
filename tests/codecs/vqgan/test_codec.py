"""VQGAN as a codec, on tiny random weights: sizes, kinds of picture, qualities, packets, damage, weights files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from codec.codecs.base.codec import Codec
from codec.codecs.base.weights import load_tensors
from codec.codecs.vqgan.codec import DEFAULT_QUALITY, VqganCodec
from codec.codecs.vqgan.config import CODEBOOKS, VqganConfig, codebook_of
from codec.codecs.vqgan.engine import Engine
from codec.codecs.vqgan.indices import Models
from codec.codecs.vqgan.network import VqganNet
from codec.codecs.vqgan.oracle import Oracle
from codec.codecs.vqgan.shapes import exact_layers, tensor_shapes
from codec.codecs.vqgan.torch_model import exported, load_network
from codec.container import Chunk, Header, pack, read_header, salvage, unpack
from codec.errors import CodecError, StreamError, UsageError, WeightsError
from codec.media.distortion import psnr
from codec.media.values import Picture

from ...damage import Damage, hostile_starts
from .nets import TINY, random_net, weights_file


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_file(random_net(), tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def codec(path: Path) -> VqganCodec:
    return VqganCodec.from_weights(None, None, path, "cpu")


def noise(height: int, width: int, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    draw = np.random.default_rng(height)
    return draw.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def changed(codec: VqganCodec, **settings: Any) -> VqganCodec:
    made = VqganCodec(codec.model, **settings)
    made.check_settings()
    return made


@pytest.mark.parametrize(
    ("height", "width", "channels", "dtype"),
    [(1, 1, 3, np.uint8), (16, 16, 1, np.uint8), (33, 18, 4, np.uint8), (5, 47, 3, np.uint16), (200, 3, 2, np.uint16)],
)
def test_any_size_and_kind(height: int, width: int, channels: int, dtype: Any, codec: VqganCodec) -> None:
    pixels = noise(height, width, channels, dtype)
    data = codec.compress(pixels)
    back = codec.decompress(data)
    assert (back.shape, back.dtype) == (pixels.shape, pixels.dtype)
    assert np.array_equal(back, codec.decompress(data)) and codec.compress(pixels) == data
    if channels in (2, 4):
        assert np.array_equal(back[..., -1], pixels[..., -1])


def test_files_are_as_small_as_promised(codec: VqganCodec) -> None:
    """At most 24 bytes over the payload: 96 bytes for 256x256 pixels at 8 words."""
    data = changed(codec, coder="fixed").compress(noise(256, 256), 1)
    (chunk,) = unpack(data)[1]
    assert len(chunk.payload) == 96 and len(data) <= 96 + 24
    assert read_header(data).params["bits"] == 3


def test_pixels_are_those_of_both_engines(codec: VqganCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(70, 90)
    data = codec.compress(pixels)
    assert isinstance(codec.model.networks, Engine)
    expected = codec.decompress(data)
    monkeypatch.setenv("CODEC_ENGINE", "torch")
    assert isinstance(codec.model.networks, Oracle)
    assert np.array_equal(codec.decompress(data), expected)
    assert codec.decompress(codec.compress(pixels)).shape == pixels.shape


def test_a_quality_is_a_codebook(codec: VqganCodec) -> None:
    assert [codebook_of(CODEBOOKS, q) for q in VqganCodec.sweep] == list(CODEBOOKS)
    assert (codebook_of(CODEBOOKS, 1), codebook_of(CODEBOOKS, 100), codebook_of(CODEBOOKS, 60)) == (8, 16384, 1024)
    assert codebook_of(CODEBOOKS, DEFAULT_QUALITY) == 2048
    picked = [codebook_of(CODEBOOKS, q) for q in np.linspace(1, 100, 1000)]
    assert picked == sorted(picked) and min(picked.count(k) for k in CODEBOOKS) >= 83
    assert [codec.bits_of(q) for q in (1, 50, 100)] == [3, 4, 6]
    pixels = noise(64, 64)
    sizes = [len(codec.compress(pixels, q)) for q in (1, 50, 100)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]
    with pytest.raises(UsageError, match="quality"):
        codec.bits_of(0.5)


def test_goals(codec: VqganCodec) -> None:
    """Sizes come in steps: the largest codebook that fits is taken, and a goal below them all is refused."""
    pixels = noise(128, 128)
    sizes = [len(codec.compress(pixels, q)) for q in (1, 50, 100)]
    for size, allowed in zip(sizes, (sizes[0] + 1, sizes[1] + 1, sizes[2] + 50), strict=True):
        assert len(codec.with_settings(size=allowed).compress(pixels)) == size
    with pytest.raises(UsageError, match=f"20 bytes are too few: vqgan at quality 17.5 makes {sizes[0]}"):
        codec.with_settings(size=20).compress(pixels)
    with pytest.raises(UsageError, match="99 dB is out of reach: vqgan at quality"):
        codec.with_settings(psnr=99).compress(pixels)


def test_goals_of_twelve_codebooks(codec: VqganCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the twelve is reached by a size, by bits per pixel and by a PSNR, in four encodings."""
    model = SimpleNamespace(codebooks=CODEBOOKS)
    twelve = VqganCodec(cast(Any, model))
    assert len(twelve.steps) == 12
    assert [twelve.bits_of(q) for q in twelve.steps] == list(range(3, 15))
    asked: list[int] = []

    def encode(picture: Any, quality: float | None, kind: int) -> bytes:
        asked.append(twelve.bits_of(quality))
        return bytes(100 * asked[-1])

    def decode(data: bytes) -> Picture:  # the error falls with the size
        return Picture(np.full((40, 50, 3), 100 - 1500 // len(data), np.uint8))

    monkeypatch.setattr(twelve, "_encode", encode)
    monkeypatch.setattr(VqganCodec, "decode_picture", lambda self, data: decode(data))
    pixels = np.full((40, 50, 3), 100, np.uint8)
    for bits in range(3, 15):
        error = psnr(decode(bytes(100 * bits)).pixels, pixels)
        goals = {"size": 100 * bits + 99, "bpp": 8 * (100 * bits + 1) / 2000, "psnr": error - 1e-6}
        for name, value in goals.items():
            asked.clear()
            data = twelve.with_settings(**{name: value}).compress(pixels)
            if name == "psnr":  # sizes of equal error exist
                assert psnr(decode(data).pixels, pixels) == error
            else:
                assert len(data) == 100 * bits
            assert len(asked) <= 4


@pytest.mark.parametrize(
    "settings",
    [{"coder": "torchac"}, {"packets": 0}, {"quality": 101.0}, {"packets": 3, "coder": "histogram"}],
)
def test_settings_that_cant_be(settings: dict[str, Any], codec: VqganCodec) -> None:
    with pytest.raises(UsageError):
        changed(codec, **settings)


def test_coders_without_a_model(codec: VqganCodec) -> None:
    with pytest.raises(UsageError, match="no model of coder 'histogram' for 64 words: name another coder$"):
        changed(codec, coder="histogram").compress(noise(20, 20))


def test_goals_of_a_coder_for_some_codebooks(codec: VqganCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """They choose among the codebooks that the coder has a model for, and an error names their qualities."""
    monkeypatch.setattr(Models, "methods", lambda self, bits: ("fixed", "circuit") if bits == 3 else ("fixed",))
    made = changed(codec, coder="circuit")
    assert made.steps == (17.5,) and made.bits_of(None) == 3
    assert changed(codec).steps == (17.5, 50.5, 83.5)
    with pytest.raises(UsageError, match=r"for 64 words: name another coder, or a quality among 17\.5$"):
        changed(codec, coder="circuit", quality=99.0)


@pytest.mark.parametrize("bits", [2, 5, 3.0, True])
def test_index_maps_of_codebooks_that_there_arent(bits: Any, codec: VqganCodec) -> None:
    with pytest.raises(UsageError, match="expected one of"):
        codec.indices(noise(20, 20), bits)


@pytest.mark.parametrize("pixels", [noise(20, 20, 4), noise(20, 20)[..., 0], noise(20, 20) / 255, noise(20, 20)[:0]])
def test_index_maps_of_what_isnt_rgb(pixels: np.ndarray, codec: VqganCodec) -> None:
    with pytest.raises(UsageError, match="expected uint8 or uint16"):
        codec.indices(pixels, 3)


# ---- packets and damage


def test_packets(codec: VqganCodec) -> None:
    pixels = noise(90, 70)
    whole, cut = codec.compress(pixels), changed(codec, packets=4).compress(pixels)
    header, chunks = unpack(cut)
    assert len(chunks) == 4 == header.params["packets"]
    assert np.array_equal(codec.decompress(cut), codec.decompress(whole))
    damaged = bytearray(cut)
    damaged[-6] ^= 1  # in the last packet
    with pytest.raises(CodecError):
        codec.decompress(bytes(damaged))
    kept = salvage(bytes(damaged))[1]
    assert [bool(chunk.payload) for chunk in kept] == [True, True, True, False]
    more = pack(replace(header, weights=codec.weights_id), [*chunks, Chunk("note", b"of another version")])
    assert np.array_equal(codec.decompress(more), codec.decompress(whole)), "what may be left out changes nothing"


@pytest.mark.parametrize("packets", [None, 3])
def test_damage(packets: int | None, codec: VqganCodec) -> None:
    """Compact files: accidents, and lies behind right checksums, in both layouts."""
    coding = changed(codec, packets=packets)
    good = coding.compress(noise(40, 60), 1)
    expected = coding.decompress(good)
    other = pack(Header("other", 1, bytes(16), shape=(40, 60, 3)), [Chunk("Body", bytes(40))])
    harm = Damage(good, coding.decompress, lambda out: np.array_equal(out, expected), coding.weights_id)
    assert harm.compact and len(dict(hostile_starts(good))) > 25
    harm.truncations()
    harm.foreign(other)
    harm.flips_and_splices(examples=60)
    harm.headers()
    harm.params()
    harm.payloads(examples=20)


def taken_apart(codec: VqganCodec, data: bytes) -> tuple[Header, list[Chunk]]:
    """The header and chunks of a file, in a form that can be put together again in any way."""
    header, chunks = unpack(data)
    return replace(header, weights=codec.weights_id), list(chunks)


@pytest.mark.parametrize(
    ("params", "words"),
    [({"bits": 5}, "bits"), ({"bits": "x"}, "bits"), ({}, "bits"), ({"bits": 3, "packets": 2}, "packets")],
)
def test_params_that_cant_be(params: Mapping[str, Any], words: str, codec: VqganCodec) -> None:
    header, chunks = taken_apart(codec, codec.compress(noise(40, 40), 1))
    with pytest.raises(StreamError, match=words):
        codec.decompress(pack(replace(header, params=params), chunks))


@pytest.mark.parametrize("payload", [b"", b"1", bytes(50)])
def test_payloads_that_cant_be(payload: bytes, codec: VqganCodec) -> None:
    header, chunks = taken_apart(codec, codec.compress(noise(40, 40), 1))
    with pytest.raises(StreamError):
        codec.decompress(pack(header, [Chunk(chunks[0].tag, payload)]))
    with pytest.raises(StreamError, match="chunks of indices"):
        codec.decompress(pack(header, [chunks[0], chunks[0]]))
    with pytest.raises(StreamError, match="can't hold"):
        codec.decompress(pack(replace(header, shape=(2_000, 9_000, 3)), chunks))


# ---- weights


@pytest.mark.parametrize("config", [TINY, VqganConfig(), replace(TINY, blocks=0, head_blocks=0, codebooks=(2, 32))])
def test_shapes_are_those_of_the_network(config: VqganConfig) -> None:
    with torch.device("meta"):
        net = VqganNet(config)
    expected = tensor_shapes(config)
    state: dict[str, tuple[int, ...]] = {name: tuple(t.shape) for name, t in net.state_dict().items()}
    for layer in exact_layers(config):
        state[f"{layer.name}.layer.weight"] = state.pop(f"{layer.name}.layer.conv.weight")
        state[f"{layer.name}.layer.bias"] = state.pop(f"{layer.name}.layer.conv.bias")
        exact: Any = net.get_submodule(f"{layer.name}.layer")
        assert (exact._largest_input, exact.weight_bits) == (layer.largest, layer.weight_bits)
    assert expected == state


def test_a_file_is_the_network_it_was_made_of(path: Path) -> None:
    net = VqganNet(TINY)
    load_network(net, load_tensors(path).arrays)
    again = exported(net)
    for name, tensor in load_tensors(path).tensors.items():
        assert torch.equal(again[name], tensor), name


CANT_BE = [
    ({"codebooks": [8, 12]}, "codebooks.*powers of two"),
    ({"codebooks": [16, 8]}, "codebooks.*rising"),
    ({"codebooks": []}, "codebooks"),
    ({"codebooks": [8.0]}, "codebooks"),
    ({"dim": 0}, "dim"),
    ({"width": 10**9}, "width"),
    ({"blocks": -1}, "blocks"),
    ({"blocks": 65}, "blocks"),
    ({"latent": 769}, "latent.*768"),
    ({"step": 321}, "step.*320"),
    ({"knots": 1}, "knots"),
    ({"synthesis_width": [1, 2]}, "synthesis_width.*3"),
    ({"words": 3}, "unknown settings"),
]


@pytest.mark.parametrize(("changes", "words"), CANT_BE, ids=str)
def test_configurations_that_cant_be(changes: dict[str, Any], words: str, path: Path, tmp_path: Path) -> None:
    weights = load_tensors(path)
    config = {**asdict(VqganConfig()), **changes}
    about = json.dumps({"network": "small", "config": config, "tag": "x"})
    (tmp_path / "x.safetensors").write_bytes(save(dict(weights.tensors), {"vqgan": about}))
    with pytest.raises(WeightsError, match=words):
        VqganCodec.from_weights(None, None, tmp_path / "x.safetensors", "cpu")


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{}", "[" * 100_000, '{"network": "small", "tag": "x", "config": []}', '{"network": []}']
)
def test_words_that_arent_ours(text: str, path: Path, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(save(dict(load_tensors(path).tensors), {"vqgan": text}))
    with pytest.raises(WeightsError, match="--weights"):
        VqganCodec.from_weights(None, None, tmp_path / "x.safetensors", "cpu")


Change = Callable[[dict[str, Tensor]], Any]


def put(name: str, change: Callable[[Tensor], Tensor]) -> Change:
    return lambda tensors: tensors.update({name: change(tensors[name]).contiguous()})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("levels.8.codebook"), "levels.8.codebook is missing"),
        (lambda tensors: tensors.update(more=torch.zeros(2)), "don't fit.*more"),
        (put("levels.8.codebook", lambda t: t[:7]), "levels.8.codebook"),
        (put("levels.8.codebook", lambda t: t.float()), "codebook 8.*16 bits"),
        (put("levels.8.codebook", lambda t: t * 0 - 2**15), "codebook 8.*16 bits"),
        (put("levels.8.codebook", lambda t: t.int()), "codebook 8.*16 bits"),
        (put("enter.weight", lambda t: t * float("nan")), "enter.weight.*finite"),
        (put("leave.layer.bias", lambda t: t * 0 + 2**60), "can reach"),
        (put("stage.0.first.layer.bias", lambda t: t * 0 + 2**24), "stage.0.first can reach"),
        (put("stream.exponent", lambda t: t.long() + 10**6), "exponent.*-128 to 127"),
    ],
)
def test_damaged_tensors(change: Change, words: str, path: Path, tmp_path: Path) -> None:
    weights = load_tensors(path)
    tensors = dict(weights.tensors)
    change(tensors)
    (tmp_path / "x.safetensors").write_bytes(save(tensors, dict(weights.metadata)))
    with pytest.raises(WeightsError, match=words):
        VqganCodec.from_weights(None, None, tmp_path / "x.safetensors", "cpu")


def test_it_is_a_codec(codec: VqganCodec, path: Path) -> None:
    assert isinstance(codec, Codec) and codec.weights_id == hashlib.sha256(path.read_bytes()).digest()[:16]
