"""Weights files of audio models: read strictly; the paper's, which need torch; gains and shapes that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from codec.codecs.walloc.audio.packets import PacketConfig
from codec.codecs.walloc.audio.packets_model import PacketModel
from codec.codecs.walloc.audio.packets_network import PacketNet
from codec.codecs.walloc.audio.packets_torch import export_small, export_torch, metadata
from codec.errors import StreamError, UsageError, WeightsError

from .tiny import TINY, seeded_net, sound


def changed(path: Path, arrays: Callable[[dict[str, Any]], Any] | None = None, **about: Any) -> Path:
    """A weights file of the tiny model with other tensors, or other facts."""
    tensors = load(export_small(seeded_net(TINY), "tiny", (-48, 32), 0))
    if arrays is not None:
        arrays(tensors)
    fields = json.loads(metadata(TINY, "tiny", (-48, 32), 0)["walloc-audio"])
    path.write_bytes(save(tensors, {"codec": "walloc-audio", "walloc-audio": json.dumps({**fields, **about})}))
    return path


def test_what_a_file_says(model: PacketModel) -> None:
    assert model.exact
    assert model.tag == "tiny"
    assert len(model.id) == 16
    assert [model.gain_of(q) for q in (1, 100, None)] == [-48, 32, -5]
    assert model.gain_of(50.5) == -8
    with pytest.raises(UsageError, match="expected 1 to 100"):
        model.gain_of(101)


def test_an_unchanged_file_can_be_read(tmp_path: Path) -> None:
    assert PacketModel.read(changed(tmp_path / "same.safetensors")).config == TINY


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"gain16": [3, -3]}, "rising"),
        ({"gain16": [-200, 3]}, "rising"),
        ({"nominal": 33}, "expected -48 to 32"),
        ({"nominal": 0.5}, "whole numbers"),
        ({"config": {"latent": 4000}}, "latent is 4000"),
        ({"config": {"levels": 8, "decoder": "huge"}}, "decoder is"),
    ],
)
def test_facts_that_are_refused(tmp_path: Path, about: dict[str, Any], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        PacketModel.read(changed(tmp_path / "bad.safetensors", **about))


def _missing(tensors: dict[str, Any]) -> None:
    del tensors["decoder.first.bias"]


def _floats(tensors: dict[str, Any]) -> None:
    tensors["decoder.last.weight"] = tensors["decoder.last.weight"].astype(np.float32)


def _infinite(tensors: dict[str, Any]) -> None:
    tensors["encoder.weight"][0, 0] = np.inf


def _exponent(tensors: dict[str, Any]) -> None:
    tensors["decoder.output_exponent"] = tensors["decoder.output_exponent"].astype(np.int32) + 1000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_missing, r"decoder\.first\.bias is missing"),
        (_floats, "isn't a layer of integers"),
        (_infinite, "isn't all finite"),
        (_exponent, "beyond -128"),
    ],
)
def test_tensors_that_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        PacketModel.read(changed(tmp_path / "bad.safetensors", change))


def test_sounds_and_latents_that_are_refused(model: PacketModel) -> None:
    with pytest.raises(UsageError, match="this model takes"):
        model.latents(np.zeros((100, 3), np.float32), 0)
    latents = model.latents(sound(600, model.config.channels), 0)
    with pytest.raises(StreamError, match="601 samples have|600 samples have|900 samples have"):
        model.samples(latents, 0, 900)
    with pytest.raises(StreamError, match="a gain of 97"):
        model.samples(latents, 97, 600)


def test_a_model_of_the_paper_codes_in_torch(tmp_path: Path) -> None:
    torch.manual_seed(2)
    config = PacketConfig(latent=9, width=18)
    net = PacketNet(config).eval()
    path = tmp_path / "paper.safetensors"
    path.write_bytes(export_torch(net, "paper", (0, 0), 0))
    model = PacketModel.read(path)
    assert not model.exact
    x = sound(3000, 2)
    latents = model.latents(x, 0)
    assert latents.shape == (9, 14)
    y = model.samples(latents, 0, 3000)
    assert (y.shape, y.dtype) == (x.shape, np.int32)
    with torch.no_grad():
        u = torch.from_numpy(latents.astype(np.float32))[None]
        expected = net.reconstruct(u, torch.zeros(1))[0, :, :3000].T.clamp(-1, 1).numpy()
    np.testing.assert_allclose(y / 2**23, expected, atol=1e-6)
    assert model.samples(model.latents(x[:0], 0), 0, 0).shape == (0, 2)
    with pytest.raises(UsageError, match="whole recordings"):
        model.frames(latents, 0)
