"""The tasks of pictures with real models on real data: nothing lost by nothing, chance for noise, known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.errors import MediaError, UsageError
from codec.eval.perception.contract import Sample
from codec.eval.perception.samples import PHOTOGRAPHS, digest_of, photographs, read_idx
from codec.eval.perception.small import SIDE, SmallClassifier
from codec.eval.perception.tasks.classification import LITE, Classification, crops, resized
from codec.eval.perception.tasks.digits import GRID, SCALE, Digits, mnist
from codec.eval.perception.tasks.segmentation import F_SCORE, Segmentation, _mean_iou, edge_counts

from . import at_hand

MACAW = 88


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def kodak(number: int) -> np.ndarray:
    path = at_hand.data("images/test-kodak") / f"kodim{number:02d}.png"
    return np.asarray(Image.open(path).convert("RGB"))


def test_the_classifier_knows_a_macaw_and_noise_is_none() -> None:
    predict = at_hand.model(Classification(), LITE)
    assert predict(kodak(23)) == MACAW
    assert MACAW not in {predict(noise((256, 256, 3), seed)) for seed in range(3)}


def test_agreement_counts_add_up() -> None:
    task = Classification()
    same, other = task.compare(88, 88, None), task.compare(88, 12, None)
    sums = {name: same[name] + other[name] for name in same}
    assert task.scores[1].value(sums) == 0.5 and np.isnan(task.scores[0].value(sums))
    assert task.scores[0].value(task.compare(88, 12, 88)) == 1.0


def test_parts_of_photographs_don_t_overlap_and_small_ones_stay_whole() -> None:
    pixels = noise((300, 600, 3))
    parts = list(crops(Sample("x", pixels, digest_of(pixels))))
    assert [part.name for part in parts] == ["x@44,22", "x@300,22"]
    assert np.array_equal(np.concatenate([np.asarray(part.value) for part in parts], 1), pixels[22:278, 44:556])
    assert len({part.digest for part in parts}) == 2
    assert len(list(crops(Sample("x", pixels[:200], "")))) == 1
    assert resized(pixels).shape == resized(pixels[:, :50]).shape == (224, 224, 3)


def test_photographs_nobody_trains_on() -> None:
    for folder in PHOTOGRAPHS:
        at_hand.data(folder)
    names = [sample.name for sample in photographs(None)]
    assert len(names) == 33 and names[0] == "test-kodak/kodim01.png"


def test_folders_of_classes_are_numbers_of_imagenet(tmp_path: Path) -> None:
    (tmp_path / "88").mkdir()
    Image.fromarray(noise((40, 40, 3))).save(tmp_path / "88" / "a.png")
    assert [sample.label for sample in at_hand.samples(Classification(), tmp_path)] == [88]
    (tmp_path / "88").rename(tmp_path / "macaw")
    with pytest.raises(UsageError, match="macaw"):
        list(Classification().samples(tmp_path))


def test_edges_are_where_a_square_begins() -> None:
    pixels = np.full((96, 96, 3), 30, np.uint8)
    pixels[24:72, 24:72] = 220
    edges = at_hand.model(Segmentation(), "hed")(pixels)
    assert edges[20:28, 40:56].any(0).all() and not edges[44:52, 44:52].any()
    counts = edge_counts(edges, edges)
    assert F_SCORE(counts) == 1.0
    assert F_SCORE(edge_counts(np.roll(edges, 12, 0), edges)) < 0.9
    assert F_SCORE(edge_counts(np.zeros_like(edges), edges)) == 0.0


def test_iou_is_of_one_confusion_matrix() -> None:
    """Two pictures, of which one has hardly any of a class: the mean over pictures would be another number."""
    a = {"sky": np.array([[True, True, True, False]]), "sea": np.array([[False, False, False, True]])}
    b = {"sky": np.array([[True, True, False, False]]), "sea": np.array([[False, False, True, True]])}
    task = Segmentation()
    first, second = task.compare(a, b, None), task.compare(a, a, None)
    sums = {name: first.get(name, 0) + second.get(name, 0) for name in {*first, *second}}
    sky, sea = (2 + 3) / (3 + 3), (1 + 1) / (2 + 1)
    assert _mean_iou(sums) == pytest.approx((sky + sea) / 2)
    assert np.isnan(_mean_iou(edge_counts(np.ones((2, 2), bool), np.ones((2, 2), bool))))


# ---- digits


def test_a_small_network_learns_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = at_hand.data("mnist")
    pictures, labels = mnist(folder, "train")
    first = SmallClassifier("part", lambda: (pictures[:6000], labels[:6000]))
    tests, truth = mnist(folder, "t10k")
    assert (first(tests[:500]) == truth[:500]).mean() > 0.75

    def never() -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError("trained again")

    again = SmallClassifier("part", never)
    assert again.name == first.name and np.array_equal(again(tests[:500]), first(tests[:500]))
    next(tmp_path.rglob("*.safetensors")).write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="trained again"):
        SmallClassifier("part", never)


def test_sheets_hold_their_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut out of the sheet again, a digit is the one of the file, but for what enlarging rounds."""
    seen: list[np.ndarray] = []

    def keep(digits: np.ndarray) -> np.ndarray:
        seen.append(digits)
        return np.zeros(len(digits), np.int64)

    monkeypatch.setattr("codec.eval.perception.tasks.digits._classifier", lambda: keep)
    at_hand.data("mnist")
    task = Digits()
    sheet = next(iter(task.samples(None)))
    assert np.asarray(sheet.value).shape == (GRID * SIDE * SCALE, GRID * SIDE * SCALE, 3)
    answer = task.load("mnist-cnn")(np.asarray(sheet.value))
    pictures, labels = mnist(at_hand.data("mnist"), "t10k")
    assert np.abs(seen[0].astype(int) - pictures[: GRID * GRID]).mean() < 6
    assert sheet.label == tuple(labels[: GRID * GRID].tolist())
    counts = task.compare(answer, answer, sheet.label)
    assert counts["correct"] == (labels[: GRID * GRID] == 0).sum() and counts["agree"] == GRID * GRID


@pytest.mark.slow
def test_digits_are_read_and_noise_is_chance() -> None:
    at_hand.data("mnist")
    task = Digits()
    predict = task.load("mnist-cnn")
    totals = {"sheet": 0.0, "noise": 0.0, "asked": 0.0}
    for index, sheet in enumerate(task.samples(None)):
        shown = {"sheet": np.asarray(sheet.value), "noise": noise(np.asarray(sheet.value).shape, index)}
        for name, pixels in shown.items():
            totals[name] += task.compare(predict(pixels), predict(pixels), sheet.label)["correct"]
        totals["asked"] += GRID * GRID
    assert totals["sheet"] / totals["asked"] > 0.97
    assert totals["noise"] / totals["asked"] == pytest.approx(0.1, abs=0.05)


def test_files_that_are_no_idx(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (
        b"",
        b"\x1f\x8b\x08",
        b"\x00\x00\x08\x03" + (1).to_bytes(4, "big") * 3,
        b"\x00\x00\x08\x01" + b"\xff" * 4,
    ):
        path.write_bytes(data)
        with pytest.raises(MediaError):
            read_idx(path, 3)
    with pytest.raises(UsageError, match="four files"):
        mnist(tmp_path, "t10k")
