"""`codec reproduce circuit` and the patch experiment, on little data."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec import cli
from codec.eval.reproduce import circuit as circuits
from codec.eval.studies import patch_circuit
from codec.media.array import ArrayFile, write
from codec.train.circuit import CircuitRecipe, fit_array, weights_bytes


def images(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    out = np.zeros((n, 10, 12), np.uint8)
    for one in out:
        one[2:8, rng.integers(1, 10)] = 200
        one[rng.integers(10)] = rng.integers(40)
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with one of the data sets, and weights."""
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "mnist").mkdir()
    idx = write(ArrayFile(images(150), "idx"))
    assert isinstance(idx, bytes)
    (folder / "mnist" / circuits.TEST).write_bytes(gzip.compress(idx))
    fitted = fit_array(images(400), CircuitRecipe(states=4, epochs=3, full=1, batch=100), folder / "run")
    (folder / "w.safetensors").write_bytes(weights_bytes(fitted.circuit, fitted.domain, {}))
    return folder, folder / "w.safetensors"


def test_table(place: tuple[Path, Path], tmp_path: Path) -> None:
    folder, weights = place
    found = circuits.run(folder, tmp_path, repeat=1, weights={"MNIST": str(weights)})
    (one,) = found["datasets"]
    assert json.loads((tmp_path / "circuit.json").read_text())["datasets"][0]["bpp_file"] == one["bpp_file"]
    assert one["bpp_model"] < one["bpp_file"] < one["bpp_one_stream_an_item"] < one["bpp_with_weights"]
    assert one["bpp_with_weights"] == 8 * (one["file_bytes"] + weights.stat().st_size) / images(150).size
    assert one["bpp_mix_file"] == 8 * one["mix_file_bytes"] / images(150).size
    assert one["bpp_mix_from_nothing"] < one["bpp_mix_file"] < one["bpp_mix_from_nothing"] + 0.1, "nothing was learned"
    assert one["mix_states_bytes"] == 0
    assert "bpp_mixing_learned" not in one
    assert len(one["anchors"]) == 8
    assert all(other["bpp"] > 0 for other in one["anchors"])
    words = circuits.text(found)
    assert "NOT the whole test set" in words
    assert "not measured: FashionMNIST" in words
    assert "1.24" in words
    assert "--mix" in words


def test_nothing_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", "circuit", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "nothing to measure" in capfd.readouterr().err
    assert cli.main(["reproduce"]) == 0
    assert "Probabilistic Circuits" in capfd.readouterr().out


def test_mosaic() -> None:
    x = images(130)
    found = circuits.mosaic(x)
    assert found.shape == (20, 1200)
    np.testing.assert_array_equal(found[10:20, 29 * 12 : 30 * 12], x[129])


def test_plot(place: tuple[Path, Path], tmp_path: Path) -> None:
    for suffix in ("svg", "png"):
        circuits.epoch_plot({"tiny": place[0] / "run" / "log.jsonl"}, tmp_path / f"plot.{suffix}")
        assert (tmp_path / f"plot.{suffix}").stat().st_size > 1000


def test_ycocg() -> None:
    """Reversible for every colour of a coarse cube and its corners, and in the range it says."""
    axis = np.unique(np.r_[np.arange(0, 256, 5), 1, 254, 255]).astype(np.uint8)
    rgb = np.stack(np.meshgrid(axis, axis, axis), axis=-1)
    found = patch_circuit.to_ycocg(rgb)
    assert found.min() >= 0
    assert (found.reshape(-1, 3).max(0) < patch_circuit.LEVELS).all()
    np.testing.assert_array_equal(patch_circuit.from_ycocg(found), rgb)


def test_patches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        for i in range(2):
            y, x = np.mgrid[0:21, 0:19]
            base = (y * rng.integers(1, 5) + x * rng.integers(1, 5))[..., None] + rng.integers(0, 9, (21, 19, 3))
            Image.fromarray((base % 256).astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    out = tmp_path / "out.json"
    arguments = ["--block", "2", "--states", "3", "--epochs", "1", "--out", str(out)]
    assert patch_circuit.main([str(tmp_path / "train"), str(tmp_path / "test"), *arguments]) == 0
    found = json.loads(out.read_text())
    assert set(found["bits_per_pixel"]) == {"circuit", "PNG", "WebP lossless", "JPEG XL lossless"}
    assert len(found["pictures"]) == 2
    assert "bits per pixel" in capsys.readouterr().out
