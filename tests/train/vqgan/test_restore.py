"""Training of the transformer that restores lost indices: which cells are lost, steps, resuming, what it writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from codec.codecs.base.weights import load_tensors
from codec.codecs.vqgan.restore import RestoreConfig, restorer_of
from codec.errors import UsageError
from codec.train.run import RECIPES, main, read_recipe
from codec.train.vqgan.restore import MapWindows, RestoreRecipe, RestoreTask, begun, check_settings, lost_cells

from ...codecs.vqgan.nets import random_net, weights_file

RECIPE = RestoreRecipe(steps=60, decay_from=20, warmup=4, batch=8, lr=3e-3, small=0.2, bf16=False)
TINY = RestoreConfig(codebooks=(8, 16), width=16, layers=1, heads=2, window=6)


def stripes(size: int) -> list[np.ndarray]:
    """Maps whose rows are alike."""
    rng = np.random.default_rng(size)
    return [np.repeat(rng.integers(0, size, (1, 20)), 15, 0).astype(np.uint16) for _ in range(6)]


MAPS = {8: stripes(8), 16: stripes(16)}


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_lost_cells(share: float) -> None:
    rng = np.random.default_rng(1)
    drawn = np.array([lost_cells(rng, 16, share) for _ in range(400)])
    assert drawn.any((1, 2)).all()
    assert not drawn.all((1, 2)).any()
    assert abs(drawn.mean() - share) < 0.25 * share + 0.02
    beside = (drawn[:, :, 1:] & drawn[:, :, :-1]).sum((1, 2)) / drawn.sum((1, 2))
    assert beside.min() == 0 or share == 0.5  # packets don't hang together,
    assert beside.max() > 0.4  # runs and blocks do


def test_batches() -> None:
    source = MapWindows(MAPS, 6, RECIPE, 3)
    first, second = iter(source), iter(MapWindows(MAPS, 6, RECIPE, 3, start=1))
    next(first)
    seen = set()
    for _, (a, b) in zip(range(12), zip(first, second, strict=False), strict=False):
        assert a.size == b.size
        assert torch.equal(a.words, b.words)
        assert torch.equal(a.lost, b.lost)
        assert int(a.words.max()) < a.size
        if a.inside is not None:
            assert not (a.lost & ~a.inside).any()
        seen.add((a.size, a.inside is None))
    assert {size for size, _ in seen} == {8, 16}
    with pytest.raises(UsageError, match="at least 6 cells"):
        MapWindows({8: [np.zeros((5, 9), np.uint16)]}, 6, RECIPE, 3)


def test_it_learns() -> None:
    task = begun(TINY, RECIPE, "tiny", bytes(16), MAPS, {16: np.random.default_rng(0).normal(size=(16, 3))})
    counts = np.bincount(np.concatenate(MAPS[8]).ravel(), minlength=8) + 0.5
    assert np.allclose(task.net.bias[:8].detach(), np.log(counts / counts.mean()), atol=1e-5)
    source, rng = MapWindows(MAPS, 6, RECIPE, 3), np.random.default_rng(0)
    optimizer = task.configure_optimizers()
    losses = []
    for step in range(RECIPE.steps):
        task.set_rates(optimizer)
        losses.append(float(task.optimise(source.windows(rng, 8, 0.3), {"optimizer": optimizer})["bits_share"]))
        task.after_steps(step + 1)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    task.held_maps = {8: stripes(8)}
    assert task.estimate()["accuracy_8"] > 0.3
    unmasked = source.windows(rng, 8, 0.3)
    other = unmasked._replace(words=torch.where(unmasked.lost, (unmasked.words + 1) % 8, unmasked.words))
    shown: list[torch.Tensor] = []
    hook = task.net.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    totals = [task.loss(windows).total for windows in (unmasked, other)]
    hook.remove()
    assert torch.equal(*shown)  # what is lost isn't shown to the network
    assert not torch.equal(*totals)  # but asked for


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for n in range(2):
        small = Image.fromarray(rng.integers(0, 256, (9, 10, 3), np.uint8))
        small.resize((288, 272), Image.Resampling.BICUBIC).save(folder / f"{n}.png")
    return folder


def recipe(path: Path, weights: Path, **changes: Any) -> str:
    settings = {
        "tag": "tiny",
        "network": "restore",
        "model": {"weights": str(weights), "width": 16, "layers": 1, "heads": 2},
        "recipe": {"steps": 3, "decay_from": 1, "warmup": 1, "batch": 2, "rounds": 1, **changes},
    }
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def test_from_photographs_to_weights(tmp_path: Path, photos: Path) -> None:
    given = weights_file(random_net(), tmp_path / "given.safetensors")
    codec_id = load_tensors(given).id
    folder = main("vqgan", recipe(tmp_path / "a.yaml", given), photos, tmp_path / "whole", device="cpu")
    manifest = json.loads((folder / "vqgan-tiny-restore.json").read_text())
    assert (manifest["codec"], manifest["steps"]) == ("vqgan-restore", 3)
    restorer = restorer_of(codec_id, folder)
    assert restorer is not None
    assert restorer.config == RestoreConfig((8, 16, 64), 16, 1, 2)
    with pytest.raises(UsageError, match="--resume"):
        main("vqgan", recipe(tmp_path / "a.yaml", given), photos, tmp_path / "whole", device="cpu")
    part = recipe(tmp_path / "a.yaml", given)
    main("vqgan", part, photos, tmp_path / "parts", steps=2, device="cpu")
    resumed = main("vqgan", part, photos, tmp_path / "parts", resume=True, device="cpu")
    name = "vqgan-tiny-restore.safetensors"
    assert load_tensors(resumed / name).arrays.keys() == load_tensors(folder / name).arrays.keys()
    assert json.loads((resumed / "vqgan-tiny-restore.json").read_text())["steps"] == 3


def test_the_shipped_recipe_and_ones_that_cant_be() -> None:
    settings = read_recipe(RECIPES / "vqgan" / "restore.yaml")
    check_settings(settings)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"model": {}}, "weights"),
        ({"model": {"weights": "small", "width": 7}}, "width"),
        ({"model": {"weights": "small", "depth": 7}}, "depth"),
        ({"recipe": {"steps": 0}}, "steps"),
        ({"recipe": {"steps": 9, "least": 0.6}}, "least"),
        ({"recipe": {"steps": 9, "most": 1.0}}, "shares"),
    ]
    for change, words in changes:
        with pytest.raises(UsageError, match=words):
            check_settings({**settings, **change})


def test_matrices_of_layers_decay_only() -> None:
    task = begun(TINY, replace(RECIPE, decay=0.5), "tiny", bytes(16), MAPS, {})
    decaying, rest = task.parameter_groups()
    assert isinstance(task, RestoreTask)
    assert (decaying["weight_decay"], rest["weight_decay"]) == (0.5, 0.0)
    assert len(decaying["params"]) == 4 * TINY.layers
    assert sum(p.numel() for group in (decaying, rest) for p in group["params"]) == task.n_parameters()
