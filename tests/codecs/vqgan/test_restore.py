"""Lost indices restored: NumPy against torch, windows, rounds, what is kept, weights files, simple ways."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import save

from codec.codecs.base.weights import load_tensors
from codec.codecs.vqgan import packets, restore
from codec.codecs.vqgan.codec import VqganCodec
from codec.codecs.vqgan.restore import RestoreConfig, Restorer, metadata, read_restorer, restorer_of
from codec.codecs.vqgan.restore_baselines import CircuitRestorer, most_frequent, nearest
from codec.codecs.vqgan.restore_net import RestoreNet, exported
from codec.container import salvage
from codec.errors import WeightsError

from .nets import random_net, weights_file

TINY = RestoreConfig(codebooks=(8, 16), width=16, layers=2, heads=2, window=6)
ID = bytes(range(16))


def tiny_net(config: RestoreConfig = TINY, seed: int = 0) -> RestoreNet:
    torch.manual_seed(seed)
    net = RestoreNet(config, {size: np.random.default_rng(size).normal(size=(size, 4)) for size in config.codebooks})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_((parameter + 0.1 * torch.randn_like(parameter)).half())
    return net


def some_map(h: int, w: int, size: int, share: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, size, (h, w)).astype(np.int32), rng.random((h, w)) < share


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer(TINY, exported(tiny_net()))


def expected(net: RestoreNet, indices: np.ndarray, lost: np.ndarray, size: int) -> torch.Tensor:
    """The probabilities, by the network of torch, window after window, logits in one map."""
    side, first = net.config.window, net.config.first_row(size)
    h, w = indices.shape
    sums, seen = torch.zeros(h, w, size), torch.zeros(h, w, 1)
    tops = range(1) if h <= side else sorted({*range(0, h - side, side // 2), h - side})
    lefts = range(1) if w <= side else sorted({*range(0, w - side, side // 2), w - side})
    for top in tops:
        for left in lefts:
            gone = torch.from_numpy(lost[top : top + side, left : left + side])
            part = torch.from_numpy(np.where(lost, size, indices)[top : top + side, left : left + side])
            room = (0, side - part.shape[1], 0, side - part.shape[0])
            words, asked = F.pad(part, room, value=size).view(1, -1), F.pad(gone, room).view(1, -1)
            inside = F.pad(torch.ones_like(gone), room).view(1, -1)
            with torch.no_grad():
                logits = net.logits(net(first + words, inside), words, asked, size)
            sums[top : top + side, left : left + side][gone] += logits
            seen[top : top + side, left : left + side] += 1
    return (sums / seen).softmax(-1)[torch.from_numpy(lost)]


@pytest.mark.parametrize(("h", "w", "size"), [(6, 6, 8), (17, 10, 16), (4, 21, 8), (1, 1, 16), (13, 3, 8)])
def test_numpy_is_the_network_of_torch(h: int, w: int, size: int, restorer: Restorer) -> None:
    indices, lost = some_map(h, w, size, 0.3)
    lost[0, 0] = True
    parts = list(restorer.probabilities(indices, lost, size))
    chances = np.concatenate(parts)
    assert len(parts) == len(restore._starts(h, TINY.window))
    np.testing.assert_allclose(chances, expected(tiny_net(), indices, lost, size).numpy(), atol=2e-5)


def test_batches_of_windows_change_nothing(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    indices, lost = some_map(9, 40, 8, 0.3)
    whole = np.concatenate(list(restorer.probabilities(indices, lost, 8)))
    monkeypatch.setattr(restore, "_WINDOWS", 1)
    np.testing.assert_allclose(np.concatenate(list(restorer.probabilities(indices, lost, 8))), whole, atol=1e-5)


def test_stripes_of_wide_maps_change_nothing(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    indices, lost = some_map(9, 83, 16, 0.4)
    codebook = np.random.default_rng(2).normal(size=(16, 3))
    whole = restorer.restore(indices, lost, 16, codebook)
    seen: list[int] = []
    probabilities = Restorer.probabilities

    def watched(self: Restorer, part: np.ndarray, *rest: Any) -> Any:
        seen.append(part.shape[1])
        return probabilities(self, part, *rest)

    monkeypatch.setattr(Restorer, "probabilities", watched)
    monkeypatch.setattr(restore, "_WIDE", 30)
    assert np.array_equal(restorer.restore(indices, lost, 16, codebook), whole)
    assert len(seen) == 6 and max(seen) <= 30


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_only_lost_cells_change(share: float, restorer: Restorer) -> None:
    indices, lost = some_map(14, 9, 8, share)
    damaged = np.where(lost, 7 * 10**6, indices)  # what stands in lost cells doesn't matter
    back = restorer.restore(damaged, lost, 8)
    assert back.dtype == np.int32
    assert np.array_equal(back[~lost], indices[~lost])
    assert back.min() >= 0
    assert back.max() < 8
    assert np.array_equal(back, restorer.restore(damaged, lost, 8))


def test_the_likeliest_word_or_the_one_of_least_error(restorer: Restorer) -> None:
    indices, lost = some_map(6, 6, 8, 0.4)
    chances = np.concatenate(list(restorer.probabilities(indices, lost, 8)))
    assert np.array_equal(restorer.restore(indices, lost, 8)[lost], chances.argmax(1))
    vectors = np.random.default_rng(5).normal(size=(8, 3))
    weights = chances**2 / (chances**2).sum(1, keepdims=True)
    errors = np.square(vectors[:, None] - vectors[None]).sum(2) @ weights.T  # of each word, expected
    assert np.array_equal(restorer.restore(indices, lost, 8, vectors)[lost], errors.argmin(0))


def test_rounds_fill_the_surest_first(restorer: Restorer) -> None:
    indices, lost = some_map(12, 12, 8, 0.5)
    left: list[int] = []
    chosen = restorer._chosen

    def watched(out: np.ndarray, missing: np.ndarray, *more: object) -> object:
        left.append(int(missing.sum()))
        return chosen(out, missing.copy(), *more)  # type: ignore[arg-type]

    restorer._chosen = watched  # type: ignore[method-assign,assignment]
    try:
        restorer.restore(indices, lost, 8, rounds=6)
        n_lost = int(lost.sum())
        assert left == [n_lost, *(int(n_lost * np.cos(np.pi / 12 * k)) for k in range(1, 6))]
        left.clear()
        restorer.restore(indices, lost, 8)
        assert left == [n_lost]
    finally:
        del restorer._chosen
    first = np.concatenate(list(restorer.probabilities(indices, lost, 8)))
    surest = np.flatnonzero(lost)[first.max(1).argmax()]
    assert restorer.restore(indices, lost, 8, rounds=6).ravel()[surest] == first[first.max(1).argmax()].argmax()


# ---- weights


def file_of(net: RestoreNet, folder: Path, codec_id: bytes = ID) -> Path:
    path = folder / "vqgan-tiny-restore.safetensors"
    path.write_bytes(save(exported(net), metadata(net.config, "tiny", codec_id)))
    manifest = {
        "name": "tiny",
        "codec": restore.COMPANION,
        "tag": "tiny",
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": 1,
        "licence": "",
        "training_data": "",
        "recipe": "",
        "steps": 1,
        "seconds": 1,
        "device": "",
        "commit": "",
        "metrics": {"vqgan": codec_id.hex()},
    }
    path.with_suffix(".json").write_text(json.dumps(manifest))
    return path


def test_weights_are_those_of_the_codec(tmp_path: Path, restorer: Restorer) -> None:
    path = file_of(tiny_net(), tmp_path)
    indices, lost = some_map(8, 8, 16, 0.2)
    read = restorer_of(ID, tmp_path)
    assert read is not None
    assert np.array_equal(read.restore(indices, lost, 16), restorer.restore(indices, lost, 16))
    assert restorer_of(bytes(16), tmp_path) is None
    with pytest.raises(WeightsError, match="restore indices of '000102"):
        read_restorer(load_tensors(path), bytes(16))
    with pytest.raises(WeightsError, match="64 words.*codec train vqgan"):
        restorer.restore(indices, lost, 64)


def test_large_codebooks_have_no_rows() -> None:
    assert RestoreConfig().codebooks == tuple(2**bits for bits in range(3, 12))
    with pytest.raises(ValueError, match="codebooks.*2048"):
        RestoreConfig(codebooks=(2048, 4096))


def test_weights_that_cannot_be_are_refused(tmp_path: Path) -> None:
    arrays, about = exported(tiny_net()), metadata(TINY, "tiny", ID)
    path = tmp_path / "w.safetensors"
    for changed, words in (
        ({"bias": arrays["bias"][:-1]}, "bias"),
        ({"places": np.full_like(arrays["places"], np.nan)}, "places|number"),
        ({"more": arrays["bias"]}, "more"),
    ):
        path.write_bytes(save({**arrays, **changed}, about))
        with pytest.raises(WeightsError, match=words):
            read_restorer(load_tensors(path), ID)
    for config in (
        {"width": 10**9},
        {"heads": 3},
        {"layers": 0},
        {"codebooks": [16, 8]},
        {"codebooks": [8, 4096]},
        {"window": "6"},
        {"x": 1},
    ):
        values = json.loads(about[restore.COMPANION])
        values["config"] |= config
        path.write_bytes(save(arrays, {**about, restore.COMPANION: json.dumps(values)}))
        with pytest.raises(WeightsError, match=next(iter(config)).replace("heads", "width")):
            read_restorer(load_tensors(path), ID)


# ---- files


def test_files_whose_packets_are_lost(tmp_path: Path) -> None:
    codec = VqganCodec.from_weights(None, None, weights_file(random_net(), tmp_path / "w.safetensors"), "cpu")
    pixels = np.random.default_rng(3).integers(0, 256, (150, 210, 3), np.uint8)
    cut = bytearray(VqganCodec(codec.model, 100, packets=5).compress(pixels))
    cut[-6] ^= 1  # in the last packet
    header, chunks = salvage(bytes(cut))
    index_map, lost = packets.read(chunks, 6, (10, 14))
    assert 0 < lost.sum() < 40
    assert codec.model.restorer is None
    around = nearest(index_map, lost)
    for name, known in (("none", ()), ("of others", (8, 16)), ("its own", (64,))):
        expected = around
        if known:
            config = replace(TINY, codebooks=known)
            vars(codec.model)["restorer"] = restorer = Restorer(config, exported(tiny_net(config)))
            if 64 in known:
                expected = restorer.restore(index_map, lost, 64, codec.model.codewords(64))
        assert np.array_equal(codec.read_indices(header, chunks)[0], expected), name
        back = codec.decode_picture(bytes(cut), conceal=True).pixels
        assert np.array_equal(back, codec.model.networks.pixels(expected, 64, 150, 210, np.dtype(np.uint8))), name


# ---- simple ways


def test_the_most_frequent_word() -> None:
    indices, lost = np.array([[1, 2, 2], [3, 3, 3]]), np.array([[0, 0, 0], [0, 1, 1]], bool)
    assert most_frequent(indices, lost).tolist() == [[1, 2, 2], [3, 2, 2]]
    assert most_frequent(indices, np.ones((2, 3), bool)).tolist() == [[0] * 3] * 2


def test_the_words_around() -> None:
    indices = np.array([[1, 2, 5], [4, 9, 5], [6, 7, 8]])
    lost = np.zeros((3, 3), bool)
    lost[1, 1] = True
    assert nearest(indices, lost)[1, 1] == 5  # two of the eight
    indices[0, 2] = 3
    assert nearest(indices, lost)[1, 1] == 4  # the first of those beside it
    far = np.zeros((4, 30), bool)
    far[:, 1:] = True
    assert (nearest(np.full((4, 30), 6), far) == 6).all()
    assert (nearest(indices, np.ones((3, 3), bool)) == 0).all()


def test_a_circuit_knows_what_maps_are_like() -> None:
    rng = np.random.default_rng(0)
    maps = [(rng.integers(0, 4) + np.add.outer(np.arange(12), np.arange(12))) % 4 for _ in range(12)]  # diagonals
    model = CircuitRestorer.fit(maps, 4, block=3, states=8, epochs=4, windows=1500)
    lost = rng.random((12, 12)) < 0.2
    back = model.restore(maps[0], lost)
    assert np.array_equal(back[~lost], maps[0][~lost])
    assert (back == maps[0])[lost].mean() > 0.9
    assert np.array_equal(model.restore(maps[0], np.zeros((12, 12), bool)), maps[0])
