"""The transformer that restores lost indices learns on index maps of photographs, of which it doesn't see some cells.

codec train vqgan --recipe restore --data PHOTOS      # writes a companion of the codec's weights, which it names

Mao et al., arXiv 2307.08265, don't publish how theirs was trained. Here: random windows of 16x16 cells; 2 to 50 % of
them are lost, one by one, as packets are, or in runs and blocks; the cross-entropy of what was lost, smoothed. Each
batch is of one codebook, of those up to 2048 words: larger ones are restored from the cells around, not by it. Windows
aren't mirrored or turned: the words of a mirrored picture are others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from ...codecs.base.weights import ID_BYTES
from ...codecs.vqgan.packets import spread
from ...codecs.vqgan.restore import COMPANION, MOST_WORDS, RestoreConfig, Restorer, metadata
from ...codecs.vqgan.restore_net import RestoreNet, exported
from ...codecs.vqgan.weights import read_model
from ...errors import UsageError
from ..circuit_mix import sorted_header
from ..export import write_weights
from ..fit import fit
from ..photos import photos_in
from ..settings import fill
from ..task import CompressionTask, Loss, Schedule
from .indices import maps_of, say, weights_of

__all__ = ["MapWindows", "RestoreRecipe", "RestoreTask", "Windows", "lost_cells", "train"]

Maps = Mapping[int, Sequence[NDArray[np.integer[Any]]]]  # by the words of the codebook

_SMALLEST = 256  # pixels to a side of a photograph: a window
_OFTEN = {256: 3.0, 512: 3.0, 1024: 2.0, 2048: 2.0}  # how often a codebook is drawn; the others: 1
_LATTICE = 48  # cells to a side of the map whose packets are lost
_MOST_PACKETS = 64
_HELD_LOSS = 0.2


@dataclass(frozen=True)
class RestoreRecipe:
    """The settings of a run."""

    steps: int
    decay_from: int = 100
    warmup: int = 100
    seconds: float = 0.0  # if not 0, the run goes by the clock
    batch: int = 64
    lr: float = 3e-4
    decay: float = 0.05  # of weights, AdamW's
    smoothing: float = 0.1
    least: float = 0.02  # share of lost cells, drawn between these
    most: float = 0.5
    small: float = 0.1  # share of windows that stand for maps smaller than them
    rounds: int = 4  # times that each photograph is taken: other sizes, offsets and sides
    ema: float = 0.995
    clip: float = 1.0
    bf16: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting."""
        if not 0 < self.least <= self.most < 1 or not 0 <= self.small <= 1 or not 0 <= self.smoothing < 1:
            raise ValueError("least, most, small and smoothing are shares, least at most `most`")
        for name in ("steps", "batch", "rounds"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r:.80}; expected a whole number from 1")


class Windows(NamedTuple):
    """A batch of windows of one codebook: words (B, cells), where they are lost, where the map is."""

    size: int
    words: Tensor
    lost: Tensor
    inside: Tensor | None


def lost_cells(rng: np.random.Generator, side: int, share: float) -> NDArray[np.bool_]:
    """The cells (side, side) of a window that are lost, about a share: alone, as packets are, or in runs, in blocks."""
    kind = rng.integers(4)
    lost = np.zeros((side, side), bool)
    if kind == 0:
        lost = rng.random((side, side)) < share
    elif kind == 1:
        fewest = max(2, math.ceil(1 / share))
        n_packets = int(rng.integers(fewest, max(fewest, _MOST_PACKETS) + 1))
        n_lost = min(n_packets - 1, max(1, round(share * n_packets)))
        whole = np.zeros(_LATTICE * _LATTICE, bool)
        packets = spread((_LATTICE, _LATTICE), n_packets)
        for k in rng.choice(n_packets, n_lost, replace=False):
            whole[packets[k]] = True
        top, left = rng.integers(_LATTICE - side + 1, size=2)
        lost = whole.reshape(_LATTICE, _LATTICE)[top : top + side, left : left + side].copy()
    else:
        while lost.mean() < share:
            h, w = (1, int(rng.integers(2, side + 1))) if kind == 2 else (int(n) for n in rng.integers(1, 5, 2))
            y, x = (int(rng.integers(1 - n, side)) for n in (h, w))
            lost[max(0, y) : y + h, max(0, x) : x + w] = True
    if lost.all():
        lost[tuple(rng.integers(side, size=2))] = False
    if not lost.any():
        lost[tuple(rng.integers(side, size=2))] = True
    return lost


class MapWindows(IterableDataset[Windows]):
    """Endless batches of windows of index maps; batch n depends on seed and n only, and begins at `start`."""

    def __init__(self, maps: Maps, side: int, recipe: RestoreRecipe, seed: int, start: int = 0) -> None:
        self.side, self.recipe, self.seed, self.start = side, recipe, seed, start
        self.maps = {k: [part for part in given if min(part.shape) >= side] for k, given in maps.items()}
        if not all(self.maps.values()):
            raise UsageError(f"no index map is at least {side} cells wide and high: take larger photographs")
        self.sizes = list(self.maps)
        often = np.array([_OFTEN.get(size, 1.0) for size in self.sizes])
        self.often = often / often.sum()
        areas = {size: np.array([part.size for part in given], float) for size, given in self.maps.items()}
        self.areas = {size: area / area.sum() for size, area in areas.items()}

    def __iter__(self) -> Iterator[Windows]:
        for index in itertools.count(self.start):
            yield self.windows(np.random.default_rng([self.seed, index]))

    def windows(self, rng: np.random.Generator, size: int | None = None, share: float | None = None) -> Windows:
        """A batch. size, share: the codebook and the share of lost cells, if they aren't to be drawn."""
        recipe, side = self.recipe, self.side
        size = int(rng.choice(self.sizes, p=self.often)) if size is None else size
        words = np.empty((recipe.batch, side, side), np.int64)
        lost, inside = np.zeros(words.shape, bool), np.zeros(words.shape, bool)
        for k in range(recipe.batch):
            part = self.maps[size][rng.choice(len(self.maps[size]), p=self.areas[size])]
            top, left = (int(rng.integers(n - side + 1)) for n in part.shape)
            words[k] = part[top : top + side, left : left + side]
            gone = lost_cells(rng, side, rng.uniform(recipe.least, recipe.most) if share is None else share)
            h, w = rng.integers(1, side + 1, 2) if share is None and rng.random() < recipe.small else (side, side)
            lost[k, :h, :w], inside[k, :h, :w] = gone[:h, :w], True
        lost[0, 0, 0] |= not lost.any()  # of small maps there may be nothing else
        flat = (recipe.batch, side * side)
        given = None if inside.all() else torch.from_numpy(inside.reshape(flat))
        return Windows(size, torch.from_numpy(words.reshape(flat)), torch.from_numpy(lost.reshape(flat)), given)


class RestoreTask(CompressionTask):
    """Trains the transformer.

    codec_id: of the weights of the codec, which the exported ones name.
    """

    family: ClassVar[str] = "vqgan"
    title: ClassVar[str] = "Restorer of lost indices of VQGAN"
    net: RestoreNet
    ema: RestoreNet

    def __init__(self, net: RestoreNet, recipe: RestoreRecipe, tag: str, codec_id: bytes) -> None:
        schedule = Schedule(recipe.steps, recipe.decay_from, recipe.warmup, "cosine", 0.01, recipe.seconds)
        super().__init__(net, schedule, recipe.lr, recipe.ema, recipe.clip, recipe.seed, tag)
        self.config, self.recipe, self.codec_id = net.config, recipe, codec_id
        self.held_maps: Maps = {}

    def configure_optimizers(self) -> Any:
        groups = self.parameter_groups()
        self.rates = [group["lr"] for group in groups]
        return torch.optim.AdamW(groups, betas=(0.9, 0.98))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Matrices of layers decay; the table, whose rows are seldom seen, biases and norms don't."""
        matrices = {name for name, p in self.net.named_parameters() if p.ndim == 2 and name.endswith(".weight")}
        layers = [p for name, p in self.net.named_parameters() if name in matrices]
        rest = [p for name, p in self.net.named_parameters() if name not in matrices]
        return [
            {"params": layers, "lr": self.lr, "weight_decay": self.recipe.decay},
            {"params": rest, "lr": self.lr, "weight_decay": 0.0},
        ]

    def loss(self, batch: Windows) -> Loss:
        """The smoothed cross-entropy of lost words; the log has it relative to the bits of a word, and how many hit."""
        size, words, lost, inside = batch
        first = self.config.first_row(size)
        with torch.autocast(words.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            shown = torch.where(lost, size, words)
            if inside is not None:
                shown = torch.where(inside, shown, size)
            logits = self.net.logits(self.net(first + shown, inside), shown, lost, size)
        wanted = words[lost]
        total = F.cross_entropy(logits, wanted, label_smoothing=self.recipe.smoothing)
        with torch.no_grad():
            nats = F.cross_entropy(logits, wanted)
            hit = (logits.argmax(1) == wanted).float().mean()
        return Loss(total, {"bits_share": nats / math.log(size), "accuracy": hit})

    def estimate(self) -> dict[str, float]:
        """Restores the held-out maps with a fifth lost, as files would be: the share of indices that are right."""
        restorer = Restorer(self.config, exported(self.ema))
        rows = {}
        for size, maps in self.held_maps.items():
            rng = np.random.default_rng(0)
            right, n_lost = 0, 0
            for part in maps:
                lost = rng.random(part.shape) < _HELD_LOSS
                right += int((restorer.restore(part, lost, size) == part)[lost].sum())
                n_lost += int(lost.sum())
            rows[f"accuracy_{size}"] = right / max(1, n_lost)
        return rows

    @property
    def codes_files(self) -> bool:
        return False

    def weights_bytes(self, final: bool = False) -> bytes:
        from safetensors.numpy import save

        return sorted_header(save(exported(self.ema), metadata(self.config, self.tag, self.codec_id)))

    def export(self, folder: Path, about: Mapping[str, Any], final: bool = True) -> Path:
        """Writes vqgan-TAG-restore.safetensors and its manifest, which names the codec's weights."""
        metrics = {**about.get("metrics", {}), "vqgan": self.codec_id.hex()}
        data, facts = self.weights_bytes(final), {**about, "codec": COMPANION, "metrics": metrics}
        tag = self.tag if self.tag.endswith("-restore") else f"{self.tag}-restore"
        return write_weights(folder, self.family, self.title, tag, data, self.n_parameters(), False, facts)


def check_settings(settings: Mapping[str, Any], devices: int = 1, nodes: int = 1) -> None:
    """Raises UsageError if a recipe can't be run, before anything is made."""
    del devices, nodes
    model = settings.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("weights"), str):
        raise UsageError("model: expected `weights`, a tag or a path of weights of vqgan, and sizes")
    _config(model, (2,))
    fill(RestoreRecipe, settings.get("recipe", {}), "recipe")


def _config(model: Mapping[str, Any], codebooks: tuple[int, ...]) -> RestoreConfig:
    sizes = {name: value for name, value in model.items() if name != "weights"}
    return fill(RestoreConfig, {**sizes, "codebooks": codebooks}, "model")


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe to its end, from where it stopped if `resume`, and exports the weights.

    about: fields of the manifest that only the caller knows (recipe, commit, data, licence).
    """
    check_settings(settings)
    recipe = fill(RestoreRecipe, settings["recipe"], "recipe")
    _, given = weights_of(settings["model"]["weights"])
    model = read_model(given)
    photos, held_out = photos_in(data, _SMALLEST)
    sizes = [size for size in model.config.codebooks if size <= MOST_WORDS]
    if not sizes:
        raise UsageError(f"these weights have no codebook of at most {MOST_WORDS} words: there is none to restore")
    say(f"{len(photos)} photographs: their index maps are made, {recipe.rounds} of each")
    maps = maps_of(model, photos, recipe.rounds, recipe.seed, sizes)
    codebooks = {size: model.arrays[f"levels.{size}.codebook"] for size in maps}
    task = begun(_config(settings["model"], tuple(sizes)), recipe, settings["tag"], given.id, maps, codebooks)
    task.held_maps = maps_of(model, held_out, 1, recipe.seed, sizes) if held_out else {}
    task.held_out = held_out

    def batches(seed: int) -> MapWindows:
        return MapWindows(maps, task.config.window, recipe, seed)

    fit(task, batches, dict, folder, resume, device, about)


def begun(
    config: RestoreConfig,
    recipe: RestoreRecipe,
    tag: str,
    codec_id: bytes,
    maps: Maps,
    codebooks: Mapping[int, NDArray[Any]],
) -> RestoreTask:
    """The task before its first step: the table starts from codewords, and each word as likely as it is in the maps."""
    assert len(codec_id) == ID_BYTES
    lightning.seed_everything(recipe.seed, verbose=False)
    net = RestoreNet(config, codebooks)
    with torch.no_grad():
        for size, given in maps.items():
            counts = sum((np.bincount(part.ravel(), minlength=size) for part in given), np.zeros(size)) + 0.5
            first = config.first_row(size)
            net.bias[first : first + size] = torch.from_numpy(np.log(counts / counts.mean())).float()
    return RestoreTask(net, recipe, tag, codec_id)
