"""Learning on what was compressed: inputs of equal number, networks that learn, verdicts, and what is kept of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import codec as package
from codec import Codec
from codec.eval.reproduce import mpq_learning as module
from codec.eval.reproduce.mpq_learning import Sizes, latents, learn, network, reduced, right, whole

SAMPLE = Path(package.__file__).parent / "samples" / "dog.png"


def pictures(part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Parts of the sample photo, with a bar that lies or stands: the label."""
    with Image.open(SAMPLE) as image:
        photo = np.asarray(image.convert("RGB"))
    draw = np.random.default_rng([count, part == "test"])
    out, labels = np.empty((count, 128, 128, 3), np.uint8), np.arange(count) % 2
    for index in range(count):
        top, left = draw.integers(0, 100, 2)
        out[index] = photo[top : top + 128, left : left + 128]
        if labels[index]:
            out[index, 60:72, 10:118] = (255, 0, 255)
        else:
            out[index, 10:118, 60:72] = (255, 0, 255)
    return out, labels.astype(np.int64)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cluttered", pictures)
    monkeypatch.setattr(module, "CODECS", ("jpeg:444:q=5",))


def test_latents_are_as_many_numbers_as_the_smaller_pictures() -> None:
    given, _ = pictures("train", 2)
    assert latents(given).shape == (2, 12, 16, 16)
    assert reduced(given).shape == (2, 3, 32, 32)
    assert latents(given)[0].size == reduced(given)[0].size == 3072
    assert whole(given).min() >= -1 and whole(given).max() <= 1


def test_latents_are_those_of_the_file() -> None:
    given, _ = pictures("train", 1)
    codec = Codec.load("walloc", quality=module.QUALITY)
    data = codec.compress(given[0])
    from codec.container import unpack

    header, chunks = unpack(data)
    stored = codec._for_quality(module.QUALITY)._read_latents(header, chunks, 128, 128)
    assert (latents(given)[0] == stored).all()


@pytest.mark.parametrize(("channels", "side"), [(12, 16), (3, 32), (3, 128)])
def test_networks_are_the_same_from_16_cells_on(channels: int, side: int) -> None:
    import torch

    net = network(channels, side)
    assert net(torch.zeros(2, channels, side, side)).shape == (2, 10)
    body = [tuple(p.shape) for p in network(channels, side).parameters()][-12:]
    assert body == [tuple(p.shape) for p in network(12, 16).parameters()][-12:]


def test_a_network_learns_and_the_seed_decides() -> None:
    given, labels = pictures("train", 128)
    x = reduced(given)
    net, seconds = learn(x, labels, 14, 0)
    assert right(net, x, labels).mean() > 0.9
    assert seconds > 0
    again, _ = learn(x, labels, 14, 0)
    assert all((a == b).all() for a, b in zip(net.parameters(), again.parameters(), strict=True))
    shuffled = np.random.default_rng(0).permutation(labels)
    assert right(net, x, shuffled).mean() < 0.7


@pytest.mark.usefixtures("small")
def test_a_run_is_kept_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    sizes = Sizes(128, 64, 3, 1)
    report = module.run(tmp_path, sizes, lambda done, total, words: told.append(words))
    learning, trained = report["learning"], report["third_finding"]
    assert [row["numbers"] for row in learning["rows"]] == [3072, 3072, 49152]
    assert all(0 <= row["accuracy"][1] <= row["accuracy"][0] <= row["accuracy"][2] <= 1 for row in learning["rows"])
    mean = learning["rows"][0]["accuracy"][0] - learning["rows"][1]["accuracy"][0]
    assert learning["latents_less_pixels"][0] == pytest.approx(mean)
    assert set(trained["accuracy"]) == {
        f"{a} -> {b}" for a in ("original", "jpeg:444:q=5") for b in ("original", "jpeg:444:q=5")
    }
    [row] = trained["rows"]
    table = {pair: values[0] for pair, values in trained["accuracy"].items()}
    own = table["jpeg:444:q=5 -> jpeg:444:q=5"]
    assert row["lossy_training_gains_by_compression"][0] == pytest.approx(own - table["jpeg:444:q=5 -> original"])
    assert row["training_on_it_helps"][0] == pytest.approx(own - table["original -> jpeg:444:q=5"])
    assert 0.1 < row["bpp"] < 2
    assert "coding with jpeg:444:q=5" in told
    lines = "\n".join(module.text(json.loads(json.dumps(report))))
    assert "finding 3" in lines and "latents less pixels" in lines

    def nothing(*_: Any) -> Any:
        raise AssertionError("it was asked again")

    monkeypatch.setattr(module, "compressed_learning", nothing)
    monkeypatch.setattr(module, "trained_on", nothing)
    assert module.run(tmp_path, sizes) == report
    with pytest.raises(AssertionError, match="again"):
        module.run(tmp_path, Sizes(64, 64, 3, 1))
