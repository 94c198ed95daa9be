"""Fitting circuits: resumed runs are the same runs, the log, early ends, recipes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from codec.codecs.base.weights import find, load_tensors
from codec.entropy.circuits.fit import keep_at
from codec.errors import UsageError
from codec.train import circuit
from codec.train.circuit import CircuitRecipe, fit_array, weights_bytes
from codec.train.run import RECIPES, read_recipe
from codec.train.settings import fill

RECIPE = CircuitRecipe(states=3, epochs=4, full=2, batch=50, held_out=0.2, patience=9)


def data(n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.integers(0, 4, (n, 1, 1)) * 20 + rng.integers(0, 3, (n, 4, 4))).astype(np.uint8)


def test_resumed_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_array(data(), RECIPE, tmp_path / "whole")
    calls = []

    def interrupted(*args: Any) -> float:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args)

    real = circuit.run_epoch
    monkeypatch.setattr(circuit, "run_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_array(data(), RECIPE, tmp_path / "parts")
    again = fit_array(data(), RECIPE, tmp_path / "parts", resume=True)
    assert weights_bytes(again.circuit, again.domain, {}) == weights_bytes(whole.circuit, whole.domain, {})
    assert [row["held_out"] for row in again.log] == [row["held_out"] for row in whole.log]
    assert len(calls) == 3 + 1 + 3


def test_other_data_or_settings_are_refused(tmp_path: Path) -> None:
    fit_array(data(), RECIPE, tmp_path)
    with pytest.raises(UsageError, match="other data"):
        fit_array(data(199), RECIPE, tmp_path, resume=True)
    with pytest.raises(UsageError, match="other data"):
        fit_array(data(), dataclasses.replace(RECIPE, states=4), tmp_path, resume=True)


def test_log(tmp_path: Path) -> None:
    lines: list[str] = []
    fitted = fit_array(data(), RECIPE, tmp_path, say=lines.append)
    first, *log = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert first["recipe"]["states"] == 3
    assert [row["epoch"] for row in log] == [1, 2, 3, 4, 5, 6]
    assert all(row["seconds"] > 0 and row["held_out"] > 0 for row in log)
    assert len(lines) == 7
    assert fitted.log == log
    assert fitted.log[-1]["train"] < fitted.log[0]["train"]


def test_ends_when_nothing_is_gained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is kept is the best."""
    values = iter([5.0, 4.0, 3.0, 4.0, 3.5, 3.4, 3.3, 3.2])
    monkeypatch.setattr(circuit, "bits_of_mixture", lambda models, x: next(values))
    recipe = dataclasses.replace(RECIPE, epochs=2, full=20, patience=2)
    fitted = fit_array(data(), recipe, tmp_path)
    assert [row["held_out"] for row in fitted.log] == [5.0, 4.0, 3.0, 4.0, 3.5]
    assert len(json.loads(load_tensors(tmp_path / "best.safetensors").metadata["log"])) == 3


def test_keep() -> None:
    assert [keep_at(p, (0.0, 0.9, 0.99)) for p in (0, 0.25, 0.5, 1.0, 2.0)] == pytest.approx([0, 0.45, 0.9, 0.99, 0.99])
    assert keep_at(0.3, (0.5,)) == 0.5


RECIPE_NAMES = sorted(path.stem for path in (RECIPES / "circuit").glob("*.yaml"))


@pytest.mark.parametrize("name", [name for name in RECIPE_NAMES if not name.endswith("-mix")])
def test_recipes(name: str) -> None:
    settings = yaml.safe_load((RECIPES / "circuit" / f"{name}.yaml").read_text())
    recipe = fill(CircuitRecipe, {**settings["model"], **settings["recipe"]}, name)
    assert settings["tag"] == name
    # what ships may have 25 MiB: a byte for each of 784 x 256 leaf parameters, and 520 matrices
    assert (784 * 256 * recipe.states + 520 * recipe.states**2) * recipe.bits / 8 < 25 << 20


def test_export(tmp_path: Path) -> None:
    from codec.media.array import ArrayFile, write

    idx = write(ArrayFile(data(), "idx"))
    assert isinstance(idx, bytes)
    (tmp_path / "data.idx").write_bytes(idx)
    settings = {"tag": "tiny", "file": "data.idx", "model": {"states": 2}, "recipe": {"steps": 2, "full": 0}}
    about = {"recipe": "x", "commit": "", "training_data": "here", "licence": "MIT"}
    out = tmp_path / "run"
    circuit.train(settings, tmp_path, out, False, "auto", about)
    manifest = find("circuit", "tiny", out)
    assert manifest.steps == 2
    assert manifest.parameters == 458
    assert load_tensors(manifest.path, manifest.sha256).metadata["tag"] == "tiny"
    assert manifest.metrics["held_out_bits_per_value"] > 0


@pytest.mark.parametrize("name", [name for name in RECIPE_NAMES if name.endswith("-mix")])
def test_recipes_of_states(name: str) -> None:
    """They are for a circuit that ships, and hold the same items out."""
    settings = read_recipe(RECIPES / "circuit" / f"{name}.yaml")
    circuits = read_recipe(RECIPES / "circuit" / f"{settings['model']['circuit']}.yaml")
    assert settings["tag"] == name
    assert settings["recipe"] == {"held_out": circuits["recipe"]["held_out"]}
    assert all(settings[key] == circuits[key] for key in ("data", "file", "licence"))
    assert find("circuit", settings["model"]["circuit"])


def test_states_of_a_circuit_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A companion file, which the codec finds by the circuit's id, and which makes files smaller."""
    from codec import Codec
    from codec.codecs.base import weights
    from codec.errors import WeightsError
    from codec.media.array import ArrayFile, write

    fitted = fit_array(data(), RECIPE, tmp_path / "fit")
    contents = weights_bytes(fitted.circuit, fitted.domain, {})
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    about = {"training_data": "", "licence": "", "steps": 1, "seconds": 1, "device": "", "commit": "", "recipe": ""}
    circuit.write_weights(shipped, "circuit", "Circuit", "toy", contents, 1, True, {**about, "metrics": {}})
    monkeypatch.setattr(weights, "SHIPPED", shipped)
    cold = Codec.load("circuit@toy").with_settings(mix=True).compress(data(50))
    (tmp_path / "data.idx").write_bytes(write(ArrayFile(data(), "idx")))  # pyright: ignore[reportArgumentType]
    settings = {"tag": "toy-mix", "file": "data.idx", "model": {"circuit": "toy"}, "recipe": {"held_out": 0.2}}
    (tmp_path / "run").mkdir()
    circuit.train(settings, tmp_path, tmp_path / "run", False, "auto", {**about, "training_data": "here"})
    for path in (tmp_path / "run").glob("circuit-toy-mix.*"):
        (shipped / path.name).write_bytes(path.read_bytes())
    codec = Codec.load("circuit@toy").with_settings(mix=True)
    warm = codec.compress(data(50))
    assert len(warm) < len(cold)
    for file in (warm, cold):
        np.testing.assert_array_equal(Codec.load("circuit").decompress(file), data(50))
    with pytest.raises(UsageError, match="held_out"):
        circuit.train({**settings, "recipe": {"held_out": 2.0}}, tmp_path, tmp_path / "run", False, "auto", about)
    for path in shipped.glob("circuit-toy-mix.*"):
        path.unlink()
    with pytest.raises(WeightsError, match="circuit-mix.*pip install"):
        Codec.load("circuit").decompress(warm)
    np.testing.assert_array_equal(Codec.load("circuit").decompress(cold), data(50))


@pytest.mark.parametrize(
    "settings",
    [
        *({"states": value} for value in (0, -1, 10**6, 2.0, True, "8")),
        *({"batch": value} for value in (0, -5)),
        *({"seed": value} for value in (-4, 1.5)),
        *({"pseudocount": value} for value in (0, -1.0, float("nan"), float("inf"), "1")),
        *({"held_out": value} for value in (1.0, -1.0, float("nan"), 2)),
        *({name: 0} for name in ("check", "patience", "components", "tree_samples", "tree_levels")),
        *({name: -1} for name in ("epochs", "full")),
        {"epochs": 0, "full": 0},
        {"bits": 9},
        {"leaves": "gaussian"},
        {"keep": ()},
        {"keep": (1.5,)},
    ],
    ids=str,
)
def test_settings_that_no_fit_can_have(settings: dict[str, Any]) -> None:
    name = next(iter(settings)).replace("_", "-")
    with pytest.raises(UsageError, match=f"^{name} .*: expected "):
        CircuitRecipe(**settings)


def test_a_fit_that_ends_at_no_number_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "run_epoch", lambda *arguments: float("nan"))
    with pytest.raises(UsageError, match="pseudocount"):
        circuit.fit_array(np.eye(40, 6, dtype=np.uint8), RECIPE, tmp_path / "work")
    assert not list((tmp_path / "work").glob("*.safetensors"))


@pytest.mark.parametrize("tag", ["../../../escaped", "a/b", "", "A", ".x", 5, None, "x" * 65, "x\n"])
def test_tags_that_are_no_names(tag: Any, tmp_path: Path) -> None:
    """A tag becomes part of a path."""
    path = tmp_path / "evil.yaml"
    path.write_text(yaml.safe_dump({"tag": tag, "model": {}, "recipe": {}}))
    with pytest.raises(UsageError, match="tag"):
        read_recipe(path)
