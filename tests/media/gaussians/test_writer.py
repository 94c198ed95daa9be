"""Writing: what each format keeps, and words about what it doesn't."""

from __future__ import annotations

import numpy as np
import pytest

from codec.errors import MediaError
from codec.media import GAUSSIAN_WRITES
from codec.media.gaussians.forms import FORMS, read
from codec.media.gaussians.writer import losses, suffix_of, write, write_table

from .making import assert_same, assert_same_table, scene
from .test_forms import files


@pytest.mark.parametrize("suffix", [*GAUSSIAN_WRITES, ".PLY"])
def test_every_suffix_is_read_again(suffix: str) -> None:
    g = scene(50, 2)
    data = write(g, suffix)
    assert write(g, suffix) == data, "the same bytes"
    held = read(data, f"a{suffix}")
    assert held.form == GAUSSIAN_WRITES[suffix.lower()]
    assert np.abs(held.gaussians.positions - g.positions).max() < 2e-4
    if held.form == "ply":
        assert_same(held.gaussians, g)
    assert held.gaussians.degree == (0 if held.form == "splat" else 2)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "sog"])
def test_tables_come_back(form: str) -> None:
    data = files()[form]
    table = read(data).table
    assert table is not None
    written = write_table(table)
    again = read(written, f"a{suffix_of(form)}").table
    assert again is not None
    assert_same_table(again, table)
    assert write_table(again) == written == data


def test_what_is_not_written() -> None:
    table = read(files()["sog"]).table
    assert table is not None
    with pytest.raises(MediaError, match=r"sog aren't written: write .ply"):
        write_table(table)
    with pytest.raises(MediaError, match=r"'.sog'; expected one of .ply, .spz, .splat"):
        write(scene(3, 0), ".sog")


def test_losses() -> None:
    g = scene(5, 2)
    assert losses(g, ".ply") == ()
    assert [note.kind for note in losses(g, ".splat")] == ["depth", "colour"]
    assert [note.kind for note in losses(g, ".spz")] == ["depth"]
    assert [note.kind for note in losses(scene(5, 0), ".splat")] == ["depth"]
    g.opacities[0] = np.inf
    assert [note.kind for note in losses(g, ".spz")] == ["depth", "values"]
    assert [note.kind for note in losses(scene(5, 4), ".ply")] == ["layout"]
