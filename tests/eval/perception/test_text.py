"""Reading drawn pages: edit distances, reading order, the real recogniser, noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codec.errors import UsageError
from codec.eval.perception.editing import edit_distance
from codec.eval.perception.samples import PHOTOGRAPHS
from codec.eval.perception.tasks.text import PAGES, RAPID, Text, in_reading_order

from . import at_hand


def slowly(a: str, b: str) -> int:
    """The distance cell by cell, as in a textbook."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        after = [i]
        for j, y in enumerate(b, 1):
            after.append(min(row[j] + 1, after[-1] + 1, row[j - 1] + (x != y)))
        row = after
    return row[-1]


@given(st.text("abc", max_size=12), st.text("abcd", max_size=12))
def test_edit_distances(a: str, b: str) -> None:
    assert edit_distance(a, b) == slowly(a, b) == edit_distance(b, a)


def test_edit_distances_of_words_and_of_long_texts() -> None:
    assert edit_distance(["the", "cat", "sat"], ["a", "cat", "sat", "down"]) == 2
    assert edit_distance("ab" * 1500, "ba" * 1500) == 2


def _box(x: float, y: float, text: str, height: float = 20) -> tuple[list[list[float]], str, float]:
    return [[x, y], [x + 50, y], [x + 50, y + height], [x, y + height]], text, 0.9


def test_lines_from_above_and_each_from_the_left() -> None:
    parts = [_box(100, 42, "d"), _box(200, 1, "b"), _box(10, 0, "a"), _box(10, 40, "c")]
    assert in_reading_order(parts) == "a b\nc d"
    assert in_reading_order(None) == ""


def test_characters_are_counted_without_spaces_and_errors_are_bounded() -> None:
    counts = Text().compare("It isa", "It is a", "It is a\n")
    assert counts == {"read": 5.0, "moved": 0.0, "characters": 5.0, "errors": 0.0}
    wrong = Text().compare("x" * 50, "It", "It is a")
    assert wrong["errors"] == wrong["characters"] == 5.0
    sums = {name: counts[name] + wrong[name] for name in counts}
    assert Text().scores[0].value(sums) == 0.5


def test_pages_are_read_and_noise_is_not() -> None:
    for folder in PHOTOGRAPHS:
        at_hand.data(folder)
    task = Text()
    predict = at_hand.model(task, RAPID)
    samples = at_hand.samples(task)
    assert len(samples) == PAGES and len({sample.digest for sample in samples}) == PAGES
    totals: dict[str, float] = {}
    for sample in samples[:4]:  # the four sizes, three colours, a photograph
        answer = predict(sample.value)
        for name, n in task.compare(answer, answer, sample.label).items():
            totals[name] = totals.get(name, 0.0) + n
    assert task.scores[0].value(totals) > 0.97 and task.scores[1].value(totals) == 1.0
    noise = np.random.default_rng(0).integers(0, 256, np.asarray(samples[0].value).shape, np.uint8)
    counts = task.compare(predict(noise), predict(np.asarray(samples[0].value)), samples[0].label)
    assert task.scores[0].value(counts) < 0.1


def test_a_folder_of_a_user(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("Grüße", encoding="utf-8")
    assert [sample.label for sample in at_hand.samples(Text(), tmp_path)] == ["Grüße", None]
    (tmp_path / "a.txt").write_text("It", encoding="utf-8-sig")
    assert at_hand.samples(Text(), tmp_path)[0].label == "It", "as Windows writes it"
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="can't be read as text"):
        list(Text().samples(tmp_path))
