"""Training of the networks that preset grid starts from: it learns, goes on where it stopped, and what ships stays."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from codec.codecs.nirvana.grid.networks import load_nets, random_nets, start_nets
from codec.errors import UsageError, WeightsError
from codec.media.video.reader import open_video
from codec.media.video.values import Frame, VideoInfo
from codec.media.video.writer import VideoWriter
from codec.train import run as training
from codec.train.nirvana import grid_start
from codec.train.nirvana.grid_start import Place, StartRecipe
from codec.train.settings import fill

SMALL: dict[str, Any] = {"rounds": 2, "steps": 40, "groups": 2, "held_out": 1, "frames": 3, "width": 48, "height": 32}


def picture(at: int, height: int, width: int) -> tuple[np.ndarray, ...]:
    """A texture that moves to the right by two columns a frame."""
    row, column = np.mgrid[:height, :width]
    column = column - 2 * at
    luma = 128 + 50 * np.sin(column / 5 + row / 9) + 30 * np.cos(row / 4) + 20 * np.sin(column * row / 50)
    chroma = np.full((height // 2, width // 2), 120) + row[::2, ::2] % 16
    return luma.astype(np.uint8), chroma.astype(np.uint8), (chroma + 9).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, (height, width) in {"a": (48, 64), "b": (34, 50)}.items():
        info = VideoInfo(width, height, "yuv420p", Fraction(1, 25), Fraction(25))
        with VideoWriter(folder / f"{name}.mkv", info) as writer:
            for index in range(5):
                writer.write(Frame(picture(index, height, width), index, 1))
    return folder


def recipe_in(folder: Path, **changes: Any) -> str:
    settings = yaml.safe_load(training.recipe_path("nirvana", "grid-start").read_text())
    settings["recipe"] |= SMALL | changes
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def test_the_shipped_recipe_is_one() -> None:
    settings = yaml.safe_load(training.recipe_path("nirvana", "grid-start").read_text())
    assert settings["model"] == {"preset": "grid"}
    fill(StartRecipe, settings["recipe"], "recipe").check()


def test_crops_are_the_videos_samples(data: Path) -> None:
    recipe = StartRecipe(**{**SMALL, "groups": 5})
    videos = grid_start.videos_in(data)
    places = grid_start.places_in(videos, recipe)
    assert [place.video for place in places] == ["a.mkv", "b.mkv"] * 3
    assert len(set(places)) > 4 and all(place.left % 2 == place.top % 2 == 0 for place in places)
    for crop in grid_start.crops(videos, places, recipe):
        with open_video(data / crop.place.video) as reader:
            frames = [frame.planes for frame in reader][crop.place.start :][:3]
        for found, planes in zip(crop.frames, frames, strict=True):
            for plane, whole, half in zip(found, planes, (1, 2, 2), strict=True):
                top, left = crop.place.top // half, crop.place.left // half
                assert np.array_equal(plane, whole[top : top + 32 // half, left : left + 48 // half])


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in one piece."""
    folder = tmp_path_factory.mktemp("whole")
    return training.main("nirvana", recipe_in(folder), data=data, out=folder / "runs", device="cpu")


def test_it_learns_and_says_so(whole: Path) -> None:
    folder = whole
    log = json.loads((folder / "log.json").read_text())
    costs = [row["cost"] for row in log["rounds"]]
    assert len(costs) == 2 and min(costs) < 0.9 * log["untrained"]
    manifest = json.loads((folder / "nirvana-grid.json").read_text())
    assert (manifest["codec"], manifest["tag"], manifest["recipe"]) == ("nirvana", "grid", "nirvana/small")
    assert manifest["metrics"]["cost"] == min(costs) and manifest["steps"] == 80
    assert manifest["parameters"] == sum(value.size for value in random_nets().flat().values())
    found = load_nets(folder / "nirvana-grid.safetensors")
    best = manifest["metrics"]["round"] - 1
    same = load_nets(folder / f"round-{best}.safetensors").flat()
    assert all(np.array_equal(value, same[name]) for name, value in found.flat().items())
    shipped = start_nets().flat()
    assert any(not np.array_equal(value, shipped[name]) for name, value in found.flat().items())


def test_interrupted_runs_end_alike(whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_in(tmp_path)
    gathered: list[Place] = []
    gather, one_round = grid_start.gather, grid_start.one_round

    def counted(crop: grid_start.Crop, nets: Any) -> Any:
        gathered.append(crop.place)
        if len(gathered) in (2, 5):
            raise KeyboardInterrupt
        return gather(crop, nets)

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(grid_start, "one_round", one_round)
        raise KeyboardInterrupt

    monkeypatch.setattr(grid_start, "gather", counted)
    monkeypatch.setattr(grid_start, "one_round", interrupted)
    for attempt in range(3):  # in the first round's second crop, in its training, and in the second round
        with pytest.raises(KeyboardInterrupt):
            training.main("nirvana", recipe, data=data, out=tmp_path / "parts", device="cpu", resume=attempt > 0)
    parts = training.main("nirvana", recipe, data=data, out=tmp_path / "parts", device="cpu", resume=True)
    assert len(gathered) == 6  # each crop in each round, and twice where it was interrupted
    for name in ("round-0.safetensors", "round-1.safetensors", "nirvana-grid.safetensors"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    with pytest.raises(UsageError, match="other crops"):
        training.main("nirvana", recipe_in(tmp_path, width=32), data=data, out=tmp_path / "parts", resume=True)


def test_samples_come_back(data: Path, tmp_path: Path) -> None:
    recipe = StartRecipe(**SMALL)
    videos = grid_start.videos_in(data)
    crop = grid_start.crops(videos, grid_start.places_in(videos, recipe)[:1], recipe)[0]
    made = grid_start.gather(crop, start_nets())
    grid_start.save_samples(made, tmp_path / "a.safetensors")
    back = grid_start.load_samples(tmp_path / "a.safetensors")
    for name in (
        "features",
        "bands",
        "symbols",
        "level_features",
        "level_choices",
        "level_symbols",
        "average_features",
    ):
        one, other = (np.concatenate(getattr(samples, name)) for samples in (made, back))
        assert one.dtype == other.dtype and np.array_equal(one, other)
    assert set(made.filters) == set(back.filters)
    for name, found in made.filters.items():
        assert all(
            (one.inputs == other.inputs).all() and (one.target == other.target).all() and (one.mask == other.mask).all()
            for one, other in zip(found, back.filters[name], strict=True)
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"width": 47}, "even"), ({"qualities": [0]}, "qualities"), ({"rounds": 0}, "rounds"), ({"frames": 9}, "frames")],
)
def test_recipes_that_can_not_be(data: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        training.main("nirvana", recipe_in(tmp_path, **changes), data=data, out=tmp_path / "runs", device="cpu")


def test_files_that_are_no_networks(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="grid"):
        load_nets(tmp_path / "none.safetensors")
