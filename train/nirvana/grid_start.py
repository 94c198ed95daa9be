"""Training of the networks that key groups of nirvana's preset `grid` start from.

    codec train nirvana --recipe grid-start --data DIR

Crops of the videos in DIR are coded, the networks are trained on the features and symbols of that (with the functions
that `--effort` fits a group's networks with, but parameters for nothing), and so on for some rounds, since better
networks make other symbols. Filters begin anew in each round: what they are to mend has changed. Crops that are kept
apart say which round was the best.

A start is a part of the format: files hold differences to it. What comes out here is therefore a candidate for another
version of the format, not something to encode with; `eval.studies.nirvana.main networks` compares it with what ships.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file, save, save_file

from ...codecs.base.codec import threads
from ...codecs.base.video.groups import Planes
from ...codecs.nirvana.grid.fit import GROUP_LAMBDA, Fitter, Pass, base_index
from ...codecs.nirvana.grid.frame import PlaneLayout, to_planes
from ...codecs.nirvana.grid.learn import learn_densities, learn_filters
from ...codecs.nirvana.grid.networks import Nets, load_nets, random_nets, start_nets
from ...codecs.nirvana.grid.samples import FilterSample, Samples
from ...codecs.nirvana.grid.transform import FINE, steps
from ...errors import UsageError
from ...files import whole
from ...media import VIDEO_READS
from ...media.video.reader import open_video
from ..export import write_weights
from ..settings import fill

__all__ = ["Place", "StartRecipe", "cost_of", "crops", "gather", "places_in", "train"]

_FILTERS = ("luma", "chroma")


@dataclass(frozen=True)
class StartRecipe:
    """Everything a run needs besides the videos.

    steps: of each network in each round. groups, held_out: crops that are trained on, and that aren't. frames, width,
    height: of each. qualities: dealt out in turn, `each` for a crop. rates: learning rates of densities and of filters.
    """

    steps: int = 900
    rounds: int = 3
    groups: int = 16
    held_out: int = 4
    frames: int = 9
    width: int = 192
    height: int = 144
    qualities: tuple[float, ...] = (70, 35, 55, 25, 62, 45)
    each: int = 2
    rates: tuple[float, float] = (0.02, 0.006)
    seed: int = 1

    def check(self) -> None:
        """Raises UsageError for what can't be."""
        for name in ("steps", "rounds", "groups", "held_out", "frames", "width", "height", "each"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}; expected 1 or more")
        if self.width % 2 or self.height % 2:
            raise UsageError(f"crops of {self.width}x{self.height}; expected even sides")
        if not self.qualities or not all(1 <= quality <= 100 for quality in self.qualities):
            raise UsageError(f"qualities {self.qualities}; expected some of 1 to 100")


class Place(NamedTuple):
    """The place of a crop: a video, its first frame, and the left and upper edge in pixels."""

    video: str
    start: int
    left: int
    top: int


class Crop(NamedTuple):
    place: Place
    frames: list[Planes]
    qualities: tuple[float, ...]


# ---- crops


def videos_in(data: Path) -> dict[str, Path]:
    """Lists the videos of a folder, by their names below it."""
    if data.is_file():
        return {data.name: data}
    paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in VIDEO_READS)
    if not paths:
        raise UsageError(f"{data}: no video here; expected {', '.join(VIDEO_READS)}")
    return {path.relative_to(data).as_posix(): path for path in paths}


def places_in(videos: Mapping[str, Path], recipe: StartRecipe) -> list[Place]:
    """Draws places at random, each video as often as the others; the last ones are those kept apart."""
    sizes = [(name, *_size(path, recipe)) for name, path in videos.items()]
    random = np.random.default_rng(recipe.seed)
    made = []
    for index in range(recipe.groups + recipe.held_out):
        name, n_frames, width, height = sizes[index % len(sizes)]
        first = int(random.integers(n_frames - recipe.frames + 1))
        left, top = (2 * int(random.integers(room // 2 + 1)) for room in (width - recipe.width, height - recipe.height))
        made.append(Place(name, first, left, top))
    return made


def _size(video: Path, recipe: StartRecipe) -> tuple[int, int, int]:
    with open_video(video) as reader:
        info = reader.info
        if info.pixels != "yuv420p":
            raise UsageError(f"{video}: {info.pixels}; these networks are trained on yuv420p")
        n_frames = sum(1 for _ in reader)
    if n_frames < recipe.frames or info.width < recipe.width or info.height < recipe.height:
        raise UsageError(
            f"{video}: {n_frames} frames of {info.width}x{info.height}; a crop has {recipe.frames} of "
            f"{recipe.width}x{recipe.height}"
        )
    return n_frames, info.width, info.height


def crops(videos: Mapping[str, Path], places: Sequence[Place], recipe: StartRecipe) -> list[Crop]:
    """Reads the crops at these places, each with the qualities that it is coded at."""
    frames: dict[int, list[Planes]] = {index: [] for index in range(len(places))}
    for name, video in videos.items():
        mine = [index for index, place in enumerate(places) if place.video == name]
        if not mine:
            continue
        last = max(places[index].start for index in mine) + recipe.frames
        with open_video(video) as reader:
            for at, frame in enumerate(reader):
                if at == last:
                    break
                for index in mine:
                    if places[index].start <= at < places[index].start + recipe.frames:
                        frames[index].append(_cut(frame.planes, places[index], recipe))
    turn = recipe.qualities
    return [
        Crop(place, frames[index], tuple(turn[(index * recipe.each + k) % len(turn)] for k in range(recipe.each)))
        for index, place in enumerate(places)
    ]


def _cut(planes: Planes, place: Place, recipe: StartRecipe) -> Planes:
    made = []
    for plane, half in zip(planes, (1, 2, 2), strict=True):
        rows = slice(place.top // half, (place.top + recipe.height) // half)
        made.append(plane[rows, place.left // half : (place.left + recipe.width) // half].copy())
    return tuple(made)


# ---- what a pass leaves behind


def passes(crop: Crop, nets: Nets) -> Iterator[Pass]:
    """Codes the crop as a key group, once for each of its qualities. Motion is looked for once."""
    height, width = crop.frames[0][0].shape
    layout = PlaneLayout("yuv420p", height, width)
    fitter = Fitter([to_planes(frame, "yuv420p") for frame in crop.frames], layout, None)
    for quality in crop.qualities:
        yield fitter.run(nets, base_index(quality))


def cost_of(made: Pass) -> float:
    """Returns the cost of a pass: its bits, and its squared error as bits by the lambda of a group.

    Parameters count nothing: those of a start are never sent.
    """
    lmbda = GROUP_LAMBDA * (steps()[made.base] / FINE) ** 2
    return made.bits - made.frame_bits["networks"] + made.squared_error / lmbda


def gather(crop: Crop, nets: Nets) -> Samples:
    """Collects the samples of all passes of a crop. Errors of filters count in steps: all qualities weigh the same."""
    samples = join(made.samples for made in passes(crop, nets))
    filters = {name: [replace(sample, step=1.0) for sample in items] for name, items in samples.filters.items()}
    return replace(samples, filters=filters)


def join(many: Iterable[Samples]) -> Samples:
    """Puts the samples of several passes or crops one after the other."""
    joined = Samples()
    for samples in many:
        for field in fields(Samples):
            if field.name != "filters":
                getattr(joined, field.name).extend(getattr(samples, field.name))
        for name, items in samples.filters.items():
            joined.filters.setdefault(name, []).extend(items)
    return joined


def save_samples(samples: Samples, target: Path) -> None:
    """Writes samples to one safetensors file, which appears when it is whole."""
    tensors: dict[str, np.ndarray] = {}
    for field in fields(Samples):
        if field.name != "filters" and (parts := getattr(samples, field.name)):
            tensors[field.name] = np.concatenate(parts)
    for name, items in samples.filters.items():
        for index, sample in enumerate(items):
            for part in ("inputs", "target", "mask"):
                tensors[f"filters.{name}.{index:04}.{part}"] = np.ascontiguousarray(getattr(sample, part))
    with whole(target, replace=True, path_only=True) as partial:
        save_file(tensors, partial)


def load_samples(source: Path) -> Samples:
    samples, tensors = Samples(), load_file(source)
    for field in fields(Samples):
        if field.name in tensors:
            getattr(samples, field.name).append(tensors[field.name])
    for name in _FILTERS:
        for key in sorted(key for key in tensors if key.startswith(f"filters.{name}.") and key.endswith(".inputs")):
            parts = [tensors[key.replace(".inputs", f".{p}")] for p in ("inputs", "target", "mask")]
            samples.filters.setdefault(name, []).append(FilterSample(*parts, step=1.0))
    return samples


# ---- rounds


def as_bytes(nets: Nets) -> bytes:
    return save({name: value.astype(np.int8) for name, value in nets.flat().items()})


def one_round(nets: Nets, samples: Samples, recipe: StartRecipe, seed: int) -> Nets:
    densities, filters = recipe.rates
    learned = learn_densities(nets, samples, recipe.steps, seed, rate=densities, weight=0.0)
    fresh = random_nets(seed).flat()
    learned = learned.changed({name: value for name, value in fresh.items() if name.startswith(_FILTERS)})
    return learn_filters(learned, samples, recipe.steps, seed, lmbda=0.0, rate=filters, crop=24, batch=6)


class _Run:
    """The folder of a run: crops, samples and networks of each round, a log. What is in it isn't made again."""

    def __init__(self, folder: Path, recipe: StartRecipe, videos: Mapping[str, Path], resume: bool) -> None:
        self.folder, self.recipe = folder, recipe
        self.log_path = folder / "log.json"
        self.log: dict[str, Any] = json.loads(self.log_path.read_text()) if resume and self.log_path.exists() else {}
        asked = {name: value for name, value in asdict(recipe).items() if name not in ("steps", "rounds", "rates")}
        asked = json.loads(json.dumps(asked))  # as it is read back
        if self.log.setdefault("crops", asked) != asked:
            raise UsageError(f"{folder} was begun with other crops: --resume can change steps, rounds and rates only")
        self.log.setdefault("places", [list(place) for place in places_in(videos, recipe)])
        self.log.setdefault("rounds", [])
        self.log.setdefault("seconds", 0.0)
        self.clock = time.process_time()
        places = [Place(*place) for place in self.log["places"]]
        everything = crops(videos, places, recipe)
        self.seen, self.apart = everything[: recipe.groups], everything[recipe.groups :]

    def write(self) -> None:
        now = time.process_time()
        self.log["seconds"] += now - self.clock
        self.clock = now
        with whole(self.log_path, replace=True, path_only=True) as partial:
            partial.write_text(json.dumps(self.log, indent=1) + "\n")

    def cost(self, nets: Nets) -> float:
        """Returns the cost of networks on the crops that are kept apart: bits a pixel, errors included."""
        pixels = sum(len(c.qualities) * c.frames[0][0].size * len(c.frames) for c in self.apart)
        return sum(cost_of(made) for crop in self.apart for made in passes(crop, nets)) / pixels

    def samples(self, index: int, nets: Nets) -> Samples:
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{index}-{k:04}.safetensors" for k in range(len(self.seen))]
        for path, crop in zip(paths, self.seen, strict=True):
            if not path.exists():
                save_samples(gather(crop, nets), path)
                self.write()
        return join(load_samples(path) for path in paths)

    def round(self, index: int, nets: Nets) -> Nets:
        path = self.folder / f"round-{index}.safetensors"
        if index < len(self.log["rounds"]):
            return load_nets(path)
        nets = one_round(nets, self.samples(index, nets), self.recipe, self.recipe.seed + index)
        with whole(path, replace=True, path_only=True) as partial:
            partial.write_bytes(as_bytes(nets))
        self.log["rounds"].append({"round": index, "cost": self.cost(nets)})
        self.write()
        for old in (self.folder / "samples").glob(f"{index}-*.safetensors"):
            old.unlink()
        return nets


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe whose model is `preset: grid` to its end, from where it stopped if `resume`, and exports networks.

    One thread of the processor: these networks have 4356 parameters.
    """
    del device
    recipe = fill(StartRecipe, settings["recipe"], "recipe")
    recipe.check()
    with threads(1):
        run = _Run(folder, recipe, videos_in(data), resume)
        if "untrained" not in run.log:
            run.log |= {"untrained": run.cost(random_nets()), "shipped": run.cost(start_nets())}
            run.write()
        _say(f"before: {run.log['untrained']:.4f} bits a pixel, errors included; what ships: {run.log['shipped']:.4f}")
        nets = random_nets(recipe.seed)
        for index in range(recipe.rounds):
            nets = run.round(index, nets)
            _say(f"round {index + 1}/{recipe.rounds}: {run.log['rounds'][index]['cost']:.4f}")
    best = min(run.log["rounds"], key=lambda row: row["cost"])
    metrics = {"cost": best["cost"], "cost_of_what_shipped": run.log["shipped"], "round": best["round"] + 1}
    more = {"steps": recipe.steps * recipe.rounds, "seconds": round(run.log["seconds"]), "device": "CPU, 1 thread"}
    data_of = (folder / f"round-{best['round']}.safetensors").read_bytes()
    n_parameters = sum(value.size for value in random_nets().flat().values())
    write_weights(
        folder, "nirvana", "NIRVANA", "grid", data_of, n_parameters, True, {**about, **more, "metrics": metrics}
    )


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)  # noqa: T201
