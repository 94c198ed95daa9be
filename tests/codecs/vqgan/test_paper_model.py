"""The paper's network in the codec: pictures to files and back in floats, and what is refused of its weights."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from codec.codecs.base.codec import _Origin
from codec.codecs.base.weights import load_tensors
from codec.codecs.vqgan import paper_model
from codec.codecs.vqgan.codec import VqganCodec
from codec.codecs.vqgan.paper import VqganPaperConfig, VqganPaperNet, exported, metadata
from codec.codecs.vqgan.weights import read_model
from codec.container import Chunk, describe, pack, salvage, unpack
from codec.entropy.tables import Tables
from codec.errors import CodecError, MediaError, StreamError, UsageError, WeightsError

TINY = VqganPaperConfig(width=8, blocks=1, latent=8, code=4, groups=4, words=(32, 8))
SKEWED = np.array([0.9, *([0.1 / 7] * 7)]) * (1 - 2.0**-14)


def tiny_net(config: VqganPaperConfig = TINY) -> VqganPaperNet:
    """A network whose codewords are near what it makes of noise."""
    torch.manual_seed(0)
    net = VqganPaperNet(config).eval()
    with torch.no_grad():
        for words in config.words:
            vectors = net.vectors(torch.rand(4, 3, 96, 96), words)
            cells = vectors.permute(0, 2, 3, 1).reshape(-1, config.code)
            net.book(words).vectors.codebook.copy_(cells[torch.randperm(len(cells))[:words]])
    return net


def written(net: VqganPaperNet, path: Path, more: dict[str, Tensor] | None = None) -> Path:
    path.write_bytes(save({**exported(net), **(more or {})}, metadata(net.config, "tiny")))
    return path


@pytest.fixture(scope="module")
def net() -> VqganPaperNet:
    return tiny_net()


@pytest.fixture(scope="module")
def path(net: VqganPaperNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(net, tmp_path_factory.mktemp("weights") / "paper.safetensors")


@pytest.fixture(scope="module")
def codec(path: Path) -> VqganCodec:
    return VqganCodec.from_weights(None, None, path, "cpu")


def noise(height: int, width: int, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    draw = np.random.default_rng(height)
    return draw.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


@pytest.mark.parametrize(
    ("height", "width", "channels", "dtype"),
    [(1, 1, 3, np.uint8), (17, 40, 1, np.uint8), (33, 18, 4, np.uint16), (100, 3, 3, np.uint16)],
)
def test_any_size_and_kind(height: int, width: int, channels: int, dtype: Any, codec: VqganCodec) -> None:
    pixels = noise(height, width, channels, dtype)
    data = codec.compress(pixels)
    back = codec.decompress(data)
    assert (back.shape, back.dtype) == (pixels.shape, pixels.dtype)
    assert np.array_equal(back, codec.decompress(data)) and codec.compress(pixels) == data


def test_a_file_holds_the_indices_of_the_network(codec: VqganCodec, net: VqganPaperNet) -> None:
    """The file says, too, that its pixels are floats."""
    pixels = noise(50, 70)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    for quality, words in ((1, 8), (100, 32)):
        data = codec.compress(pixels, quality)
        header, chunks = unpack(data)
        assert header.arithmetic == "float32" == describe(data)["arithmetic"] and header.coder == "fixed"
        index_map, bits = codec.read_indices(header, chunks)
        expected = net.encode(x, words)
        assert 1 << bits == words and len(expected.unique()) > 2
        assert np.array_equal(index_map, expected[0].numpy())
        picture = net.decode(expected, (50, 70), words)[0].permute(1, 2, 0).numpy() * 255
        decoded = codec.decompress(data)
        assert np.abs(decoded - picture).max() <= 0.51 and decoded.std() > 1


def test_packets_and_what_is_lost_of_them(codec: VqganCodec) -> None:
    pixels = noise(90, 70)
    cut = codec.with_settings(packets=4).compress(pixels)
    assert np.array_equal(codec.decompress(cut), codec.decompress(codec.compress(pixels)))
    at = cut.index(unpack(cut)[1][2].payload)
    damaged = cut[:at] + bytes([cut[at] ^ 1]) + cut[at + 1 :]
    assert [bool(chunk.payload) for chunk in salvage(damaged)[1]] == [True, True, False, True]
    assert codec.decode_picture(damaged, conceal=True).shape == (90, 70, 3)
    with pytest.raises(CodecError, match="damaged"):
        codec.decompress(damaged)


def test_a_histogram_where_there_is_one(net: VqganPaperNet, tmp_path: Path) -> None:
    state = Tables.from_pmf([SKEWED], [0]).to_state()
    more = {f"index.8.histogram.{key}": torch.from_numpy(np.array(value)) for key, value in state.items()}
    codec = VqganCodec.from_weights(None, None, written(net, tmp_path / "x.safetensors", more), "cpu")
    pixels = noise(64, 64)
    header, chunks = unpack(codec.compress(pixels, 1))
    assert header.coder == "histogram"
    fixed = codec.with_settings(coder="fixed").compress(pixels, 1)
    assert np.array_equal(codec.read_indices(header, chunks)[0], codec.read_indices(*unpack(fixed))[0])
    assert unpack(codec.compress(pixels, 100))[0].coder == "fixed"


def test_pictures_beyond_memory(codec: VqganCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(20, 30)
    data = codec.compress(pixels)
    monkeypatch.setattr(paper_model, "MOST_PIXELS", 599)
    with pytest.raises(MediaError, match="30x20.*599"):
        codec.compress(pixels)
    with pytest.raises(StreamError, match="30x20.*599"):
        codec.decompress(data)


def test_hostile_numbers_give_pixels(net: VqganPaperNet, tmp_path: Path) -> None:
    """Weights whose sums overflow: whatever comes of them is a picture."""
    huge = {name: tensor * 1e30 for name, tensor in exported(net).items() if "decoder" in name}
    codec = VqganCodec.from_weights(None, None, written(net, tmp_path / "x.safetensors", huge), "cpu")
    with np.errstate(all="raise"):
        assert codec.decompress(codec.compress(noise(20, 20))).shape == (20, 20, 3)


@pytest.mark.parametrize(
    ("params", "payload", "words"),
    [({"bits": 4}, None, "bits"), ({}, None, "bits"), ({"bits": 5}, b"x", "bytes"), ({"bits": 3}, bytes(9), "bytes")],
)
def test_damaged_files(params: dict[str, int], payload: bytes | None, words: str, codec: VqganCodec) -> None:
    header, (chunk,) = unpack(codec.compress(noise(40, 40)))
    payload = chunk.payload if payload is None else payload
    with pytest.raises(StreamError, match=words):
        codec.decompress(pack(replace(header, params=params), [Chunk(chunk.tag, payload)]))


# ---- weights


@pytest.mark.parametrize("words", [(8, 12), (1, 8)])
def test_codebooks_that_files_cant_name(words: tuple[int, ...], tmp_path: Path) -> None:
    path = written(VqganPaperNet(replace(TINY, words=words)), tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="powers of two"):
        VqganCodec.from_weights(None, None, path, "cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": {"width": -1}}, "width"),
        ({"config": {**asdict(TINY), "width": 1024}}, "configuration"),
        ({"config": 3}, "paper"),
        ({"tag": 7}, "tag"),
        ({"network": "other"}, "network"),
    ],
)
def test_descriptions_that_cant_be(change: dict[str, Any], words: str, net: VqganPaperNet, tmp_path: Path) -> None:
    about = json.loads(metadata(TINY, "x")["vqgan"])
    (tmp_path / "x.safetensors").write_bytes(save(exported(net), {"vqgan": json.dumps({**about, **change})}))
    with pytest.raises(WeightsError, match=words):
        VqganCodec.from_weights(None, None, tmp_path / "x.safetensors", "cpu")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("encoder.conv_in.bias", torch.full((8,), float("nan")), "encoder.conv_in.bias.*finite"),
        ("encoder.conv_in.bias", torch.zeros(8, dtype=torch.int32), "encoder.conv_in.bias.*floats"),
        ("encoder.conv_in.bias", torch.zeros(9), "configuration"),
        ("more", torch.zeros(9), "configuration"),
    ],
)
def test_tensors_that_cant_be(name: str, value: Tensor, words: str, net: VqganPaperNet, tmp_path: Path) -> None:
    path = written(net, tmp_path / "x.safetensors", {name: value})
    with pytest.raises(WeightsError, match=words):
        VqganCodec.from_weights(None, None, path, "cpu")


def test_training_of_the_other_network_refuses_it(path: Path) -> None:
    with pytest.raises(WeightsError, match="'paper'; expected 'small'"):
        read_model(load_tensors(path))


def test_loading_draws_no_random_number(path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch.inference_mode():
        loaded = VqganCodec.from_weights(None, None, path, "cpu")
    assert torch.equal(torch.rand(3), expected)
    assert not any(parameter.is_inference() or parameter.requires_grad for parameter in loaded.model.net.parameters())


def test_without_torch_the_error_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("codec.codecs.vqgan.paper")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match="needs PyTorch"):
        VqganCodec._made(_Origin("vqgan", None, path, "cpu"), None)
