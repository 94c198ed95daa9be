"""Manifests and safetensors: found by tag and by hash, and refused when anything is off."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors.torch import save

from codec.codecs.base import weights
from codec.errors import WeightsError


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def ship(folder, tag="16x", codec="toy", seed=0, **fields):
    """Write a weights file and its manifest; returns (path of the weights, sha256)."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {"a": torch.randn(3, 4, generator=generator), "b": torch.arange(5, dtype=torch.int32)}
    data = save(tensors, {"config": "{}"})
    path = folder / f"{codec}-{tag}-{seed}.safetensors"
    path.write_bytes(data)
    manifest = {
        "name": f"{codec} {tag}",
        "codec": codec,
        "tag": tag,
        "file": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "parameters": 17,
        "licence": "MIT",
        "training_data": "noise",
        "recipe": "none",
        "steps": 0,
        "seconds": 0.5,
        "device": "CPU",
        "commit": "0" * 40,
        "metrics": {"psnr": 30.0},
        **fields,
    }
    path.with_suffix(".json").write_text(json.dumps(manifest))
    return path, hashlib.sha256(data).hexdigest()


def test_find_by_tag(folder):
    ship(folder, "4x", seed=1)
    path, sha256 = ship(folder, "16x", seed=2, default=True)
    ship(folder, "16x", codec="other")
    found = weights.find("toy", "16x", folder)
    assert (found.path, found.sha256, found.id) == (path, sha256, bytes.fromhex(sha256)[:16])
    assert found.metrics == {"psnr": 30.0}
    assert weights.find("toy", None, folder) == found
    assert [item.tag for item in weights.manifests("toy", folder)] == ["16x", "4x"]
    assert len(weights.manifests(folder=folder)) == 3


def test_only_weights_need_no_tag(folder):
    ship(folder, "4x")
    assert weights.find("toy", None, folder).tag == "4x"


def test_find_by_hash_also_finds_retired_ones(folder):
    ship(folder, seed=1)
    path, sha256 = ship(folder, seed=2, retired=True)
    assert weights.find("toy", "16x", folder).path != path
    assert weights.find_by_hash("toy", bytes.fromhex(sha256)[:16], folder).path == path
    with pytest.raises(WeightsError, match="pip install -U"):
        weights.find_by_hash("other", bytes.fromhex(sha256)[:16], folder)
    with pytest.raises(WeightsError, match="0707"):
        weights.find_by_hash("toy", b"\x07" * 16, folder)


def test_find_by_the_beginning_of_a_hash(folder):
    """Files of the compact form name 4 bytes, which have to fit one file."""
    path, sha256 = ship(folder, seed=1)
    ship(folder, seed=2)
    for n in (4, 6, 16):
        assert weights.find_by_hash("toy", bytes.fromhex(sha256)[:n], folder).path == path
    for first in (b"", bytes.fromhex(sha256)[:3]):
        with pytest.raises(WeightsError, match="aren't installed"):
            weights.find_by_hash("toy", first, folder)
    ship(folder, "twin", seed=3, sha256=sha256[:8] + "0" * 56)
    with pytest.raises(WeightsError, match="more than once"):
        weights.find_by_hash("toy", bytes.fromhex(sha256)[:4], folder)
    assert weights.find_by_hash("toy", bytes.fromhex(sha256)[:16], folder).path == path


def test_messages_of_find(folder):
    with pytest.raises(WeightsError, match="codec train toy"):
        weights.find("toy", None, folder)
    ship(folder, "4x", seed=1)
    ship(folder, "16x", seed=2)
    with pytest.raises(WeightsError, match="there are 16x, 4x"):
        weights.find("toy", "8x", folder)
    with pytest.raises(WeightsError, match="name one of 16x, 4x"):
        weights.find("toy", None, folder)
    ship(folder, "16x", seed=3)
    with pytest.raises(WeightsError, match="retired"):
        weights.find("toy", "16x", folder)


def test_load_tensors(folder):
    path, sha256 = ship(folder)
    loaded = weights.load_tensors(path, sha256.upper())
    assert (loaded.sha256, loaded.id) == (sha256, bytes.fromhex(sha256)[:16])
    assert loaded.metadata == {"config": "{}"}
    assert loaded.tensors["b"].tolist() == [0, 1, 2, 3, 4]
    assert loaded.tensors["a"].shape == (3, 4)


def test_other_content_is_refused(folder):
    path, sha256 = ship(folder)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError, match="reinstall"):
        weights.load_tensors(path, sha256)


@pytest.mark.parametrize(
    "data",
    [b"", b"1234567", b"\xff" * 8, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{]", b"\x80\x04pickle" * 40],
)
def test_damaged_files(folder, data):
    path = folder / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="safetensors"):
        weights.load_tensors(path)


@pytest.mark.parametrize("n_bytes", [9, 40, 100, 180])
def test_cut_files(folder, n_bytes):
    path, _ = ship(folder)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(WeightsError, match="safetensors"):
        weights.load_tensors(path)


def test_missing_file(folder):
    with pytest.raises(WeightsError, match="reinstall"):
        weights.load_tensors(folder / "none.safetensors")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "abc"),
        ("sha256", "g" * 64),
        ("sha256", None),
        ("file", "../x.safetensors"),
        ("file", "/etc/passwd"),
        ("file", "x.pkl"),
        ("steps", True),
        ("steps", "many"),
        ("metrics", []),
        ("default", 1),
    ],
)
def test_manifests_are_checked(folder, field, value):
    ship(folder, **{field: value})
    with pytest.raises(WeightsError, match=field):
        weights.manifests(folder=folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_manifests_that_are_not_json_objects(folder, text):
    (folder / "bad.json").write_text(text)
    with pytest.raises(WeightsError, match=r"bad\.json"):
        weights.manifests(folder=folder)


def test_shipped_weights_match_their_manifests():
    """Every manifest names a file that is there, whole, and not larger than we allow ourselves."""
    total = 0
    for item in weights.manifests():
        data = item.path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == item.sha256, item.file
        assert len(data) <= 25 << 20, item.file
        total += len(data)
    assert total <= 150 << 20
    for path in weights.SHIPPED.glob("*.safetensors"):
        assert path in {item.path for item in weights.manifests()}, f"{path.name} has no manifest"
