"""Digits over photographs: the same for everybody, labelled, and not to be guessed from their backgrounds."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.errors import MediaError, UsageError
from codec.eval.perception.cluttered import SIDE, cluttered


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Photographs of two greys, and digits that are squares as large as their label."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "digits").mkdir()
    for index, (side, grey) in enumerate(((200, 60), (90, 200))):
        Image.new("RGB", (side, side), (grey, grey, grey)).save(tmp_path / "photos" / f"{index}.png")
    labels = np.arange(40, dtype=np.uint8) % 10
    shapes = np.zeros((40, 28, 28), np.uint8)
    for shape, label in zip(shapes, labels.tolist(), strict=True):
        shape[: 2 + 2 * label, : 2 + 2 * label] = 255
    for name in ("train", "t10k"):
        for kind, array in (("images-idx3", shapes), ("labels-idx1", labels)):
            head = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
            (tmp_path / "digits" / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return tmp_path / "photos", tmp_path / "digits"


def test_the_same_call_gives_the_same_pictures(folders: tuple[Path, Path]) -> None:
    first, labels = cluttered("train", 50, 3, *folders)
    again, same = cluttered("train", 50, 3, *folders)
    assert (first.shape, first.dtype) == ((50, SIDE, SIDE, 3), np.uint8)
    assert (first == again).all() and (labels == same).all()
    assert (cluttered("train", 50, 4, *folders)[0] != first).any()
    assert (cluttered("test", 50, 3, *folders)[0] != first).any()
    assert (cluttered("train", 10, 3, *folders)[1] == labels[:10]).all()


def test_a_label_is_that_of_the_digit_in_the_picture(folders: tuple[Path, Path]) -> None:
    pictures, labels = cluttered("test", 200, 0, *folders)
    background = np.median(pictures.reshape(200, -1, 3), 1)[:, None, None]
    inked = (np.abs(pictures - background).max(3) > 20).mean((1, 2))
    sizes = [inked[labels == label].mean() for label in (0, 3, 6, 9)]
    assert sizes == sorted(sizes), "larger squares have larger labels"
    assert np.corrcoef(np.sqrt(inked), labels)[0, 1] > 0.75
    assert 0.5 * (48 / SIDE) ** 2 < inked[labels == 9].min() < inked[labels == 9].max() < 1.1 * (96 / SIDE) ** 2
    assert set(np.unique(background)) == {60.0, 200.0}, "photographs of both, the small one enlarged"


def test_what_is_missing_is_said(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="MNIST"):
        cluttered("train", 2, 0, folders[0], tmp_path / "none")
    with pytest.raises(MediaError, match="no pictures"):
        cluttered("train", 2, 0, tmp_path / "none", folders[1])
