"""Inputs: files, bytes, streams, folders of frames, fitted sequences; errors name the file and say what to do."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from codec.errors import MediaError
from codec.media import probe, probe_bytes
from codec.media.gaussians import ply, spz
from codec.media.gaussians.sources import Source, open_source, read_gaussians
from codec.media.gaussians.values import Gaussians

from .making import assert_same, scene, sog_parts


def frames(folder: Path, n: int = 3, suffix: str = ".ply") -> list[Gaussians]:
    folder.mkdir(parents=True, exist_ok=True)
    made = [scene(20, 1, seed) for seed in range(n)]
    for index, g in enumerate(made):
        data = ply.write(g) if suffix == ".ply" else spz.write(spz.quantise(g))
        (folder / f"frame_{index * 9 + 1}{suffix}").write_bytes(data)
    return made


def test_every_kind_of_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    g = scene(20, 1)
    data = ply.write(g)
    path = tmp_path / "a.ply"
    path.write_bytes(data)
    inputs = [
        path,
        str(path),
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        probe(path),
        probe_bytes(data),
    ]
    for given in [*inputs, g, [g]]:
        source = open_source(given)  # type: ignore[arg-type]
        assert (source.form, source.n_frames, source.count, source.degree) == ("ply", 1, 20, 1)
        assert (source.fps, source.dual, source.notes, source.table(0)) == (None, None, (), None)
        assert_same(source.frame(0), g)
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO(data)}))
    assert_same(read_gaussians("-"), g)


def test_a_table_is_kept(tmp_path: Path) -> None:
    table = spz.quantise(scene(20, 1))
    (tmp_path / "a.spz").write_bytes(spz.write(table))
    held = open_source(tmp_path / "a.spz").table(0)
    assert held is not None and held.form == "spz"
    assert np.array_equal(held.column("position").values, table.column("position").values)


class TestSequences:
    @pytest.mark.parametrize("suffix", [".ply", ".spz"])
    def test_frames_in_the_order_of_their_numbers(self, tmp_path: Path, suffix: str) -> None:
        made = frames(tmp_path, 3, suffix)  # frame_1, frame_10, frame_19
        source = open_source(tmp_path)
        assert (source.form, source.n_frames, source.count) == (suffix[1:], 3, 20)
        for index in (2, 0, 1):
            assert np.allclose(source.frame(index).positions, made[index].positions, atol=1e-3)
        with pytest.raises(IndexError):
            source.frame(3)

    def test_frames_are_read_when_they_are_asked_for(self, tmp_path: Path) -> None:
        frames(tmp_path)
        source = open_source(tmp_path)
        (tmp_path / "frame_19.ply").unlink()
        source.frame(1)
        with pytest.raises(MediaError, match=r"frame_19\.ply"):
            source.frame(2)

    def test_other_files_and_gaps_are_noted(self, tmp_path: Path) -> None:
        frames(tmp_path, 3)
        (tmp_path / "frame_10.ply").rename(tmp_path / "frame_2.ply")
        (tmp_path / "cameras.json").write_text("{}")
        (tmp_path / ".hidden.ply").write_text("")
        words = [str(note) for note in open_source(tmp_path).notes]
        assert any("numbers 3 to 18" in text for text in words), words
        assert any("cameras.json" in text for text in words) and not any("hidden" in text for text in words)

    def test_notes_of_frames_come_once(self, tmp_path: Path) -> None:
        made = frames(tmp_path, 2)
        for name, g in zip(("frame_1.ply", "frame_10.ply"), made, strict=True):
            data = ply.write(g).replace(b"float nx", b"float mx")
            (tmp_path / name).write_bytes(data)
        source = open_source(tmp_path)
        source.frame(1)
        assert [note.kind for note in source.notes] == ["structure"]

    @pytest.mark.parametrize("suffix", [".ply", ".spz"])
    def test_another_count_is_said_at_once(self, tmp_path: Path, suffix: str) -> None:
        frames(tmp_path, 3, suffix)
        other = scene(21, 1)
        data = ply.write(other) if suffix == ".ply" else spz.write(spz.quantise(other))
        (tmp_path / f"frame_19{suffix}").write_bytes(data)
        with pytest.raises(MediaError, match=r"frame_19.*: 21 Gaussians, and .*frame_1\..* has 20; .* code each file"):
            open_source(tmp_path)

    def test_another_degree_or_form(self, tmp_path: Path) -> None:
        frames(tmp_path, 2)
        source = open_source(tmp_path)
        (tmp_path / "frame_10.ply").write_bytes(ply.write(scene(20, 2)))
        with pytest.raises(MediaError, match=r"frame_10\.ply: harmonics of degree 2, and .* degree 1"):
            source.frame(1)
        source = open_source(tmp_path)
        (tmp_path / "frame_10.ply").write_bytes(spz.write(spz.quantise(scene(20, 1))))
        with pytest.raises(MediaError, match=r"frame_10\.ply: a file of the form spz; the others are ply"):
            source.frame(1)

    def test_in_memory(self) -> None:
        made = [scene(5, 0, seed) for seed in range(4)]
        source = open_source(made)
        assert source.n_frames == 4
        assert_same(source.frame(3), made[3])
        with pytest.raises(MediaError, match="frame 1: 6 Gaussians"):
            open_source([scene(5, 0), scene(6, 0)]).frame(1)
        with pytest.raises(MediaError, match="no frames"):
            open_source([])

    def test_empty_folders(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("a")
        with pytest.raises(MediaError, match=r"0 frames; expected 1 to .* SPZ"):
            open_source(tmp_path)


def test_a_folder_of_sog(tmp_path: Path) -> None:
    for name, data in sog_parts(30, 1).items():
        (tmp_path / name).write_bytes(data)
    for given in (tmp_path, tmp_path / "meta.json"):
        source = open_source(given)
        assert (source.form, source.n_frames, source.count) == ("sog", 1, 30)


class TestFits:
    def fit(self, folder: Path, **changes: object) -> Source:
        frames(folder / "skins", 3)
        about = {"version": 1, "fps": 25.0, "n_frames": 3, "n_joints": 2, "n_skins": 20} | changes
        (folder / "dual.json").write_text(json.dumps(about))
        return open_source(folder)

    def test_skins_are_the_frames(self, tmp_path: Path) -> None:
        source = self.fit(tmp_path)
        assert (source.n_frames, source.fps, source.dual, source.count) == (3, 25.0, tmp_path, 20)
        assert_same(source.frame(2), scene(20, 1, 2))

    @pytest.mark.parametrize("changes", [{"fps": 0}, {"fps": "x"}, {"n_frames": None}, {"fps": float("nan")}])
    def test_damaged_descriptions(self, tmp_path: Path, changes: dict[str, object]) -> None:
        with pytest.raises(MediaError, match=r"dual\.json: no usable"):
            self.fit(tmp_path, **changes)

    def test_a_fit_that_is_not_complete(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match="3 frames, and dual.json says 4: is the fit complete"):
            self.fit(tmp_path, n_frames=4)
        (tmp_path / "dual.json").write_text("[" * 100_000)
        with pytest.raises(MediaError, match=r"dual\.json: damaged"):
            open_source(tmp_path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(ply.write(scene(5, 0))[:-1])
    with pytest.raises(MediaError, match=r"a\.ply: a PLY file that is cut"):
        open_source(tmp_path / "a.ply")
    with pytest.raises(MediaError, match=r"none\.ply: No such file"):
        open_source(tmp_path / "none.ply")
    with pytest.raises(MediaError, match="the data: empty"):
        open_source(b"")
