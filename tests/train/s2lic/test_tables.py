"""Fitted entropy tables: cheaper for what was counted, safe for what wasn't, and the rest of the weights untouched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save

from codec.codecs.base.weights import find, load_tensors, manifests
from codec.codecs.s2lic.codec import S2licCodec
from codec.codecs.s2lic.config import LEVELS
from codec.codecs.s2lic.torch_model import MOST_PROBABLE, make_tables, table_state
from codec.entropy.models import GaussianConditional
from codec.entropy.tables import TOTAL, Tables
from codec.train.s2lic.tables import REACH, _main, fitted

ROOT = Path(__file__).resolve().parents[3]


def probabilities(tables: Tables, row: int) -> dict[int, float]:
    counts = np.diff(tables.rows[row])
    return {int(tables.offset[row]) + k: count / TOTAL for k, count in enumerate(counts[:-1])}


def test_counts_decide_where_there_are_many() -> None:
    density = make_tables()[0]
    counts = np.zeros((len(density.rows), 2 * REACH + 1), np.int64)
    counts[20, REACH - 1 : REACH + 2] = 100_000, 700_000, 200_000
    counts[20, REACH + 60] = 1_000  # far beyond the density's columns
    found = probabilities(fitted(counts, density), 20)
    assert found[0] == pytest.approx(0.7, abs=0.002)
    assert found[1] == pytest.approx(0.15, abs=0.002)
    assert found[1] == pytest.approx(found[-1], abs=2 / TOTAL)  # symmetric
    assert found[60] == pytest.approx(0.0005, rel=0.1)


def test_the_density_decides_where_nothing_was_counted() -> None:
    density = make_tables()[0]
    none = fitted(np.zeros((len(density.rows), 2 * REACH + 1), np.int64), density)
    for row in (0, 1, 20, 40, 63):
        mine, its = probabilities(none, row), probabilities(density, row)
        for symbol, probability in its.items():
            if probability > 2**-12:
                assert mine[symbol] == pytest.approx(probability, rel=0.02)


def test_a_few_symbols_change_little() -> None:
    density = make_tables()[0]
    counts = np.zeros((len(density.rows), 2 * REACH + 1), np.int64)
    counts[20, REACH + 3] = 5
    mine, its = probabilities(fitted(counts, density), 20), probabilities(density, 20)
    assert 1.0 < mine[3] / its[3] < 3
    assert mine[0] == pytest.approx(its[0], rel=0.1)


def test_narrow_rows_keep_their_bound() -> None:
    density = make_tables()[0]
    counts = np.zeros((len(density.rows), 2 * REACH + 1), np.int64)
    counts[:, REACH] = 10**9
    assert np.diff(fitted(counts, density).cdf[1]).max() <= TOTAL - 16  # `pixels_per_byte` rests on it


def test_command(tmp_path: Path, photo: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    """From the shipped weights with bad tables: good tables, smaller files, every other tensor the same."""
    shipped = find("s2lic")
    weights = load_tensors(shipped.path)
    wide = GaussianConditional(LEVELS, low=0.3).to_tables(MOST_PROBABLE)  # scales too large by up to 2.7
    bad = {**weights.tensors, **table_state(wide, make_tables()[1])}
    (tmp_path / "old.safetensors").write_bytes(save(bad, dict(weights.metadata)))
    about = json.loads(shipped.path.with_suffix(".json").read_text())
    (tmp_path / "old.json").write_text(json.dumps({**about, "file": "old.safetensors"}))
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(photo[:512, :512]).save(photos / "a.png")
    assert _main([str(tmp_path / "old.safetensors"), str(photos), "--out", str(tmp_path / "new"), "--crops", "3"]) == 0
    (new,) = manifests("s2lic", tmp_path / "new")
    assert (new.default, new.licence, new.metrics) == (about["default"], about["licence"], about["metrics"])
    before, after = load_file(tmp_path / "old.safetensors"), load_file(new.path)
    assert set(before) == set(after)
    for name, tensor in before.items():
        if "_tables." not in name:
            assert torch.equal(tensor, after[name]), name
    assert not torch.equal(before["y_tables.counts"], after["y_tables.counts"])
    pixels = np.ascontiguousarray(photo[:256, :256])
    sizes = [
        len(S2licCodec.from_weights(None, 50, path, "cpu").compress(pixels))
        for path in (tmp_path / "old.safetensors", new.path)
    ]
    assert sizes[1] < 0.9 * sizes[0]


def test_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def says(*words: str) -> str:
        assert _main([*words, "--out", str(tmp_path / "new")]) == 1
        assert not (tmp_path / "new").exists()
        return capsys.readouterr().err

    weights = str(find("s2lic").path)
    assert "with a manifest" in says(str(tmp_path / "none.safetensors"), str(tmp_path))
    assert "no pictures" in says(weights, str(tmp_path))
    assert "at least 1" in says(weights, str(tmp_path), "--crops", "0")
    Image.new("RGB", (300, 600)).save(tmp_path / "small.png")
    assert "512 pixels" in says(weights, str(tmp_path))
    (tmp_path / "bad.json").write_text("{")
    assert "manifest" in says(str(tmp_path / "bad.safetensors"), str(tmp_path))
