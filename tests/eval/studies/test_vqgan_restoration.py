"""The study of lost packets: which are lost, that each way is asked, means, the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save

from codec.codecs.vqgan.codec import VqganCodec
from codec.codecs.vqgan.restore import RestoreConfig, Restorer, metadata
from codec.codecs.vqgan.restore_baselines import CircuitRestorer
from codec.codecs.vqgan.restore_net import RestoreNet, exported
from codec.container import salvage
from codec.errors import UsageError
from codec.eval.studies import vqgan_restoration as study

from ...codecs.vqgan.nets import random_net, weights_file

CONFIG = RestoreConfig((16, 64), width=8, layers=1, heads=1, window=4)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> VqganCodec:
    path = weights_file(random_net(), tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    made = VqganCodec.from_weights(None, None, path, "cpu")
    made.packets = 5
    return made


def test_rows_and_tables(codec: VqganCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "lpips_alex", lambda a, b: float(np.abs(a.astype(int) - b).mean()))
    pixels = np.random.default_rng(1).integers(0, 256, (90, 75, 3), np.uint8)
    maps = [codec.indices(pixels, 4)]
    ways = study.fillers(
        Restorer(CONFIG, exported(RestoreNet(CONFIG))),
        {16: CircuitRestorer.fit(maps, 16, block=3, states=2, epochs=1)},
    )
    assert tuple(ways) == study.METHODS
    rows = list(study.measure(codec, ways, [("a", pixels)], [16], [0.2, 0.4], [1, 2]))
    assert len(rows) == 1 + 2 * 2 * len(study.METHODS)
    whole, *rest = rows
    assert (whole["way"], whole["right"], whole["words"]) == ("whole", 1.0, 16)
    assert all(0 <= row["right"] < 1 for row in rest)
    assert len({row["psnr"] for row in rest}) > len(rest) / 2  # each way, loss and seed by itself
    mean = study.means(rows)[16, 0.2, "nearest"]
    of_hand = [whole["psnr"] - row["psnr"] for row in rest if (row["loss"], row["way"]) == (0.2, "nearest")]
    assert mean["psnr"] == pytest.approx(np.mean(of_hand))
    text = study.markdown(rows)
    assert "| 20 % |" in text
    assert "the goal is a third" in text
    assert study.table(rows).count("\n") == len(rows) + 1
    more = list(study.measure(codec, ways, [("a", pixels)], [64], [0.2]))
    assert [row["way"] for row in more] == ["whole", *(way for way in study.METHODS if way != "circuit")]
    assert study.markdown([*rows, *more]).count("| circuit") == 1, "there is a circuit of 16 words alone"
    with pytest.raises(UsageError, match="8, 16, 64"):
        list(study.measure(codec, ways, [("a", pixels)], [32]))


def test_a_stopped_run_goes_on(codec: VqganCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the pictures that it has rows of; rows of other settings are an error, and so is no restorer."""
    asked: list[int] = []

    def distance(a: NDArray[Any], b: NDArray[Any]) -> float:
        asked.append(1)
        if len(asked) == 12:
            raise KeyboardInterrupt
        return float(np.abs(a.astype(int) - b).mean())

    monkeypatch.setattr(study, "lpips_alex", distance)
    rng = np.random.default_rng(1)
    for name, bands in (("a", 4), ("b", 3)):
        Image.fromarray(rng.integers(0, 256, (70, 75, bands), np.uint8)).save(tmp_path / f"{name}.png")
    net = weights_file(random_net(), tmp_path / "tiny.safetensors")
    of = VqganCodec.from_weights(None, None, net, "cpu").model.id
    (tmp_path / "r.safetensors").write_bytes(save(exported(RestoreNet(CONFIG)), metadata(CONFIG, "tiny", of)))
    settings = ["--words", "16", "--losses", "0.4", "--out", str(tmp_path / "out"), "--weights", str(net)]
    settings = [str(tmp_path), "--restorer", str(tmp_path / "r.safetensors"), *settings]
    with pytest.raises(KeyboardInterrupt):
        study.main([*settings, "--seeds", "1", "2"])
    first = json.loads((tmp_path / "out.json").read_text())
    assert {row["picture"] for row in first["rows"]} == {"a"}
    assert "--losses 0.4" in first["command"] and str(tmp_path) not in first["command"]
    before = len(asked)
    assert study.main([*settings, "--seeds", "1", "2"]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {row["picture"] for row in rows} == {"a", "b"} and len(asked) - before == len(rows) / 2
    with pytest.raises(UsageError, match="other settings"):
        study.main([*settings, "--seeds", "1"])


def test_packets_are_left_out(codec: VqganCodec) -> None:
    data = codec.compress(np.zeros((80, 80, 3), np.uint8))
    assert study.damaged(data, 0.4, "1 a") == study.damaged(data, 0.4, "1 a")
    for loss, lost in ((0.0, 0), (0.4, 2), (1.0, 4)):
        chunks = salvage(study.damaged(data, loss, "1 a"))[1]
        assert [bool(chunk.payload) for chunk in chunks].count(False) == lost
    assert len({study.damaged(data, 0.2, str(n)) for n in range(12)}) > 2
