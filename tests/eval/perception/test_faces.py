"""Boxes around faces: pairs, the real detector on photographs with a face, noise, a user's boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.errors import UsageError
from codec.eval.perception.tasks.faces import HAAR, Faces, iou, matches

from . import at_hand


def test_overlaps() -> None:
    a = (0.0, 0.0, 10.0, 10.0)
    assert iou(a, a) == 1.0
    assert iou(a, (5.0, 0.0, 10.0, 10.0)) == pytest.approx(50 / 150)
    assert iou(a, (10.0, 0.0, 10.0, 10.0)) == 0.0


def test_a_box_is_in_one_pair() -> None:
    a, near, far = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 10.0, 10.0), (50.0, 50.0, 10.0, 10.0)
    assert matches([a], [near, a]) == 1 and matches([a, near], [a]) == 1
    assert matches([a, far], [near, far]) == 2 and matches([a], [far]) == 0 and matches([], [a]) == 0


def test_counts_add_up() -> None:
    a, far = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 10.0, 10.0)
    task = Faces()
    parts = [task.compare((a,), (a,), None), task.compare((), (far,), None), task.compare((), (), None)]
    sums = {name: sum(part[name] for part in parts) for name in parts[0]}
    assert task.scores[1].value(sums) == pytest.approx(2 / 3) and np.isnan(task.scores[0].value(sums))


def test_a_face_is_found_where_it_is_and_none_in_noise() -> None:
    task = Faces()
    predict = at_hand.model(task, HAAR)
    photo = np.asarray(Image.open(at_hand.data("images/test-kodak") / "kodim04.png").convert("RGB"))
    boxes = predict(photo)
    assert any(iou(box, (130.0, 230.0, 290.0, 330.0)) > 0.5 for box in boxes), boxes
    counts = task.compare(boxes, boxes, None)
    assert task.scores[1].value(counts) == 1.0
    noise = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8)
    assert task.scores[1].value(task.compare(predict(noise), boxes, None)) < 0.1


def test_true_boxes_of_a_user(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{name}.png")
    assert [sample.label for sample in at_hand.samples(Faces(), tmp_path)] == [None, None]
    (tmp_path / "boxes.csv").write_text("name,left,top,width,height\na.png,1,2,3,4\n")
    assert [sample.label for sample in at_hand.samples(Faces(), tmp_path)] == [((1.0, 2.0, 3.0, 4.0),), ()]
    (tmp_path / "boxes.csv").write_text("name,left,top,width,height\na.png,1,2,3,4\n", encoding="utf-8-sig")
    assert at_hand.samples(Faces(), tmp_path)[0].label == ((1.0, 2.0, 3.0, 4.0),), "as spreadsheets write it"
    for line in ("a.png,1,2,-3,4", "a.png,nan,2,3,4", "a.png,1,2,inf,4", "a.png,1,2"):
        (tmp_path / "boxes.csv").write_text(f"name,left,top,width,height\n{line}\n")
        with pytest.raises(UsageError, match=r"boxes.csv: expected"):
            list(Faces().samples(tmp_path))
    (tmp_path / "boxes.csv").write_text("a.png,1,2,3,4\n")
    with pytest.raises(UsageError, match=r"boxes.csv: expected"):
        list(Faces().samples(tmp_path))
    (tmp_path / "boxes.csv").write_text("name,left,top,width,height\nA.png,1,2,3,4\n")
    with pytest.raises(UsageError, match=r"'A.png', and there is no picture"):
        list(Faces().samples(tmp_path))
