"""Weights files of S2LIC that are damaged, foreign or absurd: always a WeightsError that says what to do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from codec.codecs.base.weights import find, load_tensors
from codec.codecs.s2lic import torch_model
from codec.codecs.s2lic import weights as s2lic_weights
from codec.codecs.s2lic.codec import S2licCodec
from codec.codecs.s2lic.config import S2licConfig, S2licPaperConfig
from codec.codecs.s2lic.network import S2licNet
from codec.codecs.s2lic.paper import S2licPaperNet
from codec.errors import CodecError, UsageError, WeightsError
from codec.train.settings import fill

from .test_codec import ABOUT, CONFIG
from .test_paper import TINY

KINDS: dict[str, Any] = {"small": S2licConfig, "paper": S2licPaperConfig}


def made(config: s2lic_weights.Config, folder: Path) -> Path:
    from codec.train.s2lic.task import S2licRecipe, S2licTask  # imports Lightning: seconds

    torch.manual_seed(0)
    return S2licTask(config, S2licRecipe(steps=1, decay_from=1, hard_from=1), "tiny").export(folder, ABOUT)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(CONFIG, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(TINY, tmp_path_factory.mktemp("paper"))


def refused(path: Path, data: bytes, words: str | None = None) -> str:
    """What loading the file says, which must be a WeightsError."""
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=words) as caught:
        S2licCodec.from_weights(None, None, path, "cpu")
    return str(caught.value)


# ---- settings

CANT_BE = [
    ("small", {"anchor_context": "masked-conv"}, "anchor_context.*none, masked_conv"),
    ("small", {"anchor_context": 3}, "anchor_context.*none, masked_conv"),
    ("small", {"passes": 3}, "passes.*1, 2"),
    ("small", {"passes": True}, "passes.*1, 2"),
    ("small", {"slices": [16, 16]}, "slices.*sum to latent, 320"),
    ("small", {"slices": [330, -10]}, "slices.*1 or more"),
    ("small", {"slices": []}, "slices.*sum to latent"),
    ("small", {"slices": 320}, "slices.*sum to latent"),
    ("small", {"slices": [1] * 320}, "slices.*at most 64"),
    ("small", {"latent": 10**9}, "latent.*from 1 to 768"),
    ("small", {"hyper": -3}, "hyper.*from 1 to 4096"),
    ("small", {"hyper": "96"}, "hyper.*whole number"),
    ("small", {"features": 0}, "features.*from 1 to 4096"),
    ("small", {"context": 1.5}, "context.*whole number"),
    ("small", {"hidden": 10**9}, "hidden.*from 1 to 4096"),
    ("small", {"refine": -1}, "refine.*from 0 to 4096"),
    ("small", {"knots": 1}, "knots.*from 2 to 64"),
    ("small", {"attention": 10**9}, "attention.*from 0 to 64"),
    ("small", {"heads": 7}, "heads.*divisor.*256"),
    ("small", {"analysis_width": [96, 160]}, "analysis_width.*3 whole numbers"),
    ("small", {"synthesis_width": [96, -160, 256]}, "synthesis_width.*3 whole numbers"),
    ("small", {"analysis_blocks": [1, 1, 10**9]}, "analysis_blocks.*from 0 to 64"),
    ("small", {"synthesis_blocks": 3}, "synthesis_blocks.*3 whole numbers"),
    ("paper", {"norm": "layer"}, "norm.*none, group, batch"),
    ("paper", {"anchor_context": "masked-conv"}, "anchor_context.*none, masked_conv"),
    ("paper", {"slices": 7}, "slices.*divisor of latent, 320"),
    ("paper", {"slices": 0}, "slices.*from 1 to 64"),
    ("paper", {"latent": 10**9}, "latent.*from 1 to 4096"),
    ("paper", {"width": 0}, "width.*from 1 to 4096"),
    ("paper", {"heads": [4, 8, 9]}, "heads.*divisors of width, 192"),
    ("paper", {"depths": [1, 2]}, "depths.*3 whole numbers"),
    ("paper", {"enhance": -1}, "enhance.*from 0 to 4096"),
    ("paper", {"offset_kernel": 4}, "offset_kernel.*odd"),
    ("paper", {"max_keys": 0}, "max_keys.*from 1"),
    ("paper", {"knots": 1}, "knots.*from 2 to 64"),
    ("paper", {"mlp_ratio": -4.0}, "mlp_ratio.*number"),
    ("paper", {"drop_path": float("nan")}, "drop_path.*number"),
    ("paper", {"drop_path": "0.1"}, "drop_path.*number"),
]


@pytest.mark.parametrize(("network", "changes", "words"), CANT_BE, ids=lambda v: "" if isinstance(v, dict) else str(v))
def test_settings_that_cant_be(
    network: str, changes: dict[str, Any], words: str, small: Path, paper: Path, tmp_path: Path
) -> None:
    """ValueError in code, UsageError from a recipe, WeightsError from a file, and always the setting's name."""
    with pytest.raises(ValueError, match=words):
        KINDS[network](**changes)
    with pytest.raises(UsageError, match=f"model.*{words}"):
        fill(KINDS[network], changes, "model")
    weights = load_tensors(small if network == "small" else paper)
    about = json.loads(weights.metadata["s2lic"])
    about["config"] = changes  # the rest as by default
    said = refused(tmp_path / "x.safetensors", save(dict(weights.tensors), {"s2lic": json.dumps(about)}), words)
    assert "codec train s2lic" in said


def test_settings_that_can_be() -> None:
    S2licConfig(latent=20, slices=(20,), refine=0, attention=0, heads=7, analysis_blocks=(0, 0, 0), passes=1)
    S2licPaperConfig(enhance=0, mlp_ratio=2, drop_path=0, slices=1)
    assert replace(S2licConfig(), anchor_context="none").passes == 2


def test_a_model_or_recipe_that_is_no_map() -> None:
    for values in (None, [], "small", 3):
        with pytest.raises(UsageError, match="model: expected settings"):
            fill(S2licConfig, values, "model")  # type: ignore[arg-type]


def test_shipped_weights_load_as_they_were() -> None:
    manifest = find("s2lic")
    codec = S2licCodec.from_weights(None, None, None, "cpu")
    assert (codec.weights_id, codec.model.tag) == (manifest.id, manifest.tag)


# ---- files


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "{}", "[" * 100_000, '{"network": "small", "tag": "x", "config": []}', '{"network": [], "tag": 3}'],
)
def test_words_that_arent_ours(text: str, small: Path, tmp_path: Path) -> None:
    said = refused(tmp_path / "x.safetensors", save(dict(load_tensors(small).tensors), {"s2lic": text}))
    assert "isn't an S2LIC weights file" in said and "--weights" in said


Change = Callable[[dict[str, Tensor]], Any]
FIRST = "slices.0.first1"


def put(name: str, change: Callable[[Tensor], Tensor]) -> Change:
    return lambda tensors: tensors.update({name: change(tensors[name]).contiguous()})


def spoiled(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return change


def one_row(tensors: dict[str, Tensor]) -> None:
    columns = int(tensors["y_tables.lengths"][0])
    for name, count in (("counts", columns), ("lengths", 1), ("offset", 1)):
        tensors[f"y_tables.{name}"] = tensors[f"y_tables.{name}"][:count].clone()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("y_tables.counts", lambda t: t.int().bfloat16()), "must be integers"),
        (put("z_tables.offset", lambda t: t.bfloat16()), "must be an integer"),
        (put("z_tables.counts", lambda t: t.int() * 0), "tables"),
        (put("y_tables.lengths", lambda t: t[:0]), "tables"),
        (one_row, "1 rows, not 64"),
        (lambda tensors: tensors.pop("z_tables.offset"), "lack"),
        (lambda tensors: tensors.pop("gain.values"), "don't fit.*gain.values is missing"),
        (lambda tensors: tensors.update(more=torch.zeros(2)), "don't fit.*more"),
        (put("gain.values", lambda t: t[:, :1]), "don't fit.*gain.values"),  # copying would spread it out
        (put(f"{FIRST}.layer.weight", lambda t: t[:1]), "don't fit.*first1.layer.weight"),
        (put("analysis.enter.weight", spoiled(float("nan"))), "analysis.enter.weight.*finite"),
        (put("gain.values", spoiled(float("inf"))), "gain.values.*finite"),
        (put(f"{FIRST}.layer.weight", lambda t: t.float() * float("nan")), "first1.layer.weight.*finite"),
        (put("gain.values", lambda t: t.to(torch.complex64)), "gain.values.*finite"),
        (put("gain.values", lambda t: t.to(torch.float8_e4m3fn)), "a tensor of F8_E4M3"),
        (put(f"{FIRST}.input.exponent", lambda t: t.long() + 10**6), "exponent.*-128 to 127"),
        (put("synthesis.stream16.exponent", lambda t: t.long() + 10**6), "exponent.*-128 to 127"),
        (put(f"{FIRST}.layer.weight_exponent", lambda t: t.long() - 10**6), "exponent.*-128 to 127"),
        (put(f"{FIRST}.layer.bias", lambda t: t * 0 + 2**60), "integers.*can reach"),
    ],
)
def test_damaged_tensors(change: Change, words: str, small: Path, tmp_path: Path) -> None:
    weights = load_tensors(small)
    tensors = dict(weights.tensors)
    change(tensors)
    said = refused(tmp_path / "x.safetensors", save(tensors, dict(weights.metadata)), words)
    assert "export them again" in said


def test_numbers_of_the_paper_network_are_looked_at_too(paper: Path, tmp_path: Path) -> None:
    weights = load_tensors(paper)
    tensors = dict(weights.tensors)
    put("slices.1.first.0.weight", spoiled(float("nan")))(tensors)
    refused(tmp_path / "x.safetensors", save(tensors, dict(weights.metadata)), "slices.1.first.0.weight.*finite")


def test_a_count_of_batches_is_no_weight(tmp_path: Path) -> None:
    """Batch norm counts its batches: after 65504 of them float16 says infinity."""
    weights = load_tensors(made(replace(TINY, norm="batch"), tmp_path))
    counts = {name: torch.tensor(torch.inf).half() for name in weights.tensors if "num_batches" in name}
    assert counts
    (tmp_path / "x.safetensors").write_bytes(save({**weights.tensors, **counts}, dict(weights.metadata)))
    S2licCodec.from_weights(None, None, tmp_path / "x.safetensors", "cpu")


@pytest.mark.parametrize(
    ("network", "changes"),
    [
        ("small", {"features": 4096, "hidden": 4096}),
        ("small", {"synthesis_blocks": [64, 64, 64]}),
        ("small", {"slices": [5] * 64}),
        ("paper", {"width": 4096}),
        ("paper", {"mlp_ratio": 16.0}),
    ],
)
def test_sizes_that_the_file_doesnt_hold_are_never_allocated(
    network: str, changes: dict[str, Any], small: Path, paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spy(config: s2lic_weights.Config) -> S2licNet | S2licPaperNet:
        assert torch.empty(0).device.type == "meta", "takes memory before anything is compared"
        return S2licNet(config) if isinstance(config, S2licConfig) else S2licPaperNet(config)

    weights = load_tensors(small if network == "small" else paper)
    about = {"network": network, "config": changes, "tag": "x"}
    monkeypatch.setattr(torch_model, "network_of", spy)
    refused(
        tmp_path / "x.safetensors",
        save(dict(weights.tensors), {"s2lic": json.dumps(about)}),
        "don't fit the network they name",
    )


def test_sizes_above_the_defaults_can_be_loaded(tmp_path: Path) -> None:
    codec = S2licCodec.from_weights(None, None, made(replace(CONFIG, refine=72, slices=(24, 24)), tmp_path), "cpu")
    pixels = np.zeros((20, 30, 3), np.uint8)
    assert codec.decompress(codec.compress(pixels)).shape == pixels.shape


def test_flipped_bytes(small: Path, tmp_path: Path) -> None:
    """Whatever a damaged file still says, nothing but a CodecError comes out of it."""
    data, rng = small.read_bytes(), np.random.default_rng(5)
    pixels = rng.integers(0, 256, (17, 20, 3), dtype=np.uint8)
    n_header = int.from_bytes(data[:8], "little")
    path, failed = tmp_path / "x.safetensors", 0
    for index in range(60):
        damaged = bytearray(data)
        for place in rng.integers(8, 8 + n_header if index % 3 else len(data), 1 if index % 3 else 40):
            damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            codec = S2licCodec.from_weights(None, None, path, "cpu")
        except WeightsError:
            failed += 1
            continue
        with contextlib.suppress(CodecError):
            codec.decompress(codec.compress(pixels))
    assert failed > 20
