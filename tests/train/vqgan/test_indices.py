"""The recipe of index models: from photographs and weights to weights whose index coders know something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec import native
from codec.codecs.base.weights import load_tensors, manifests
from codec.codecs.vqgan.config import CODEBOOKS
from codec.codecs.vqgan.indices import METHODS, Models, decode, encode
from codec.codecs.vqgan.weights import read_model
from codec.errors import UsageError
from codec.train.run import RECIPES, read_recipe
from codec.train.vqgan import indices

from ...codecs.vqgan.nets import random_net, weights_file

RECIPE = {"rounds": 2, "lines": 10, "circuits": [8], "seed": 3}


@pytest.mark.skipif(native.library() is None, reason="learning takes the compiled module")
def test_from_photographs_to_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = indices.IndexModel.fit  # without most of its epochs
    monkeypatch.setattr(
        indices.IndexModel, "fit", lambda *given, **more: fit(*given, **(more | {"epochs": 1, "states": 4}))
    )
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(1)
    for n in range(2):
        small = Image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8))
        small.resize((130, 100), Image.Resampling.BICUBIC).save(photos / f"{n}.png")
    given = weights_file(random_net(), tmp_path / "given.safetensors")
    settings = {"tag": "small", "network": "indices", "model": {"weights": str(given)}, "recipe": RECIPE}
    about = {"recipe": "vqgan/indices", "commit": "", "training_data": "noise", "licence": "MIT"}
    (tmp_path / "run").mkdir()
    indices.train(settings, photos, tmp_path / "run", False, "cpu", about)

    (manifest,) = manifests("vqgan", tmp_path / "run")
    loaded = load_tensors(manifest.path, manifest.sha256)
    before = load_tensors(given)
    assert all(np.array_equal(loaded.arrays[name], array) for name, array in before.arrays.items())
    model = read_model(loaded)
    models = Models(model.index)
    assert [len(models.methods(bits)) for bits in (3, 4, 6)] == [4, 3, 3]
    index_map = rng.integers(0, 8, (4, 5))
    for method in METHODS:
        assert np.array_equal(decode(encode(index_map, 3, method, models), method, 3, (4, 5), models), index_map)
    indices.train(settings | {"model": {"weights": str(manifest.path)}}, photos, tmp_path / "run", False, "cpu", about)
    assert load_tensors(manifest.path).sha256 == loaded.sha256  # what was learned before is learned anew


def test_the_weights_file_has_room() -> None:
    """All arrays together, with the circuit of the recipe, are fewer bytes than it has."""
    circuits = read_recipe(RECIPES / "vqgan" / "indices.yaml")["recipe"]["circuits"]
    assert sorted(indices.MOST_BYTES) == [size.bit_length() - 1 for size in CODEBOOKS]
    n_bytes = sum(indices.MOST_BYTES.values())
    for size in CODEBOOKS:
        n_bytes += 2 * (size + 1) + 2 * size + 16 * min(size, 2048) + 100  # histogram, codes, vectors
    n_bytes += sum(2 * (16 * size * 32 + 15 * 32 * 32) for size in circuits)  # 4x4 cells of 32 states
    assert n_bytes < indices.MOST_IN_ALL


def test_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indices, "MOST_IN_ALL", 10)
    monkeypatch.setattr(indices.CausalModel, "learn", lambda self, maps: 1.0)
    with pytest.raises(UsageError, match="more than 10"):
        indices.index_arrays({8: [np.zeros((3, 4), int)]}, {8: np.eye(8)}, 8, [], 1)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {}},
        {"recipe": {"rounds": 0}},
        {"recipe": {"lines": True}},
        {"recipe": {"circuits": [512]}},
        {"recipe": {"other": 1}},
    ],
    ids=str,
)
def test_wrong_recipes(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"model|recipe"):
        indices.check_settings({"model": {"weights": "small"}, "recipe": {}, **change})
