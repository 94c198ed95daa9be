"""The index coders learn on index maps of photographs: one pass for each codebook, in exact integers.

codec train vqgan --recipe indices --data PHOTOS      # adds it to the weights of the codec, which get a new hash

The maps come from the network whose weights are named, `rounds` of each photograph: of other sizes, at other offsets,
mirrored or not. Streams must not depend on how a machine rounds: what is learned is stored, never computed again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor

from ...codecs.base.weights import LoadedWeights, find, load_tensors
from ...codecs.vqgan.causal import CausalModel
from ...codecs.vqgan.indices import PREFIX
from ...codecs.vqgan.weights import VqganModel, read_model
from ...entropy.circuits.index_model import IndexModel
from ...entropy.tables import Tables
from ...errors import UsageError
from ..circuit_mix import sorted_header
from ..export import write_weights
from ..photos import photos_in

__all__ = ["check_settings", "index_arrays", "maps_of", "say", "train", "weights_of"]

# The most bytes of all arrays, of which a weights file has no more room, and of the states of mixing, by the bits of an
# index. The rest are histograms, codes and vectors of words, and the circuit of 256 words: 0.6 MB.
MOST_IN_ALL = 2_800_000  # bytes: the network takes 23.4 MB of 25 MiB
_KILOBYTES = (15, 25, 45, 80, 120, 190, 230, 270, 330, 240, 260, 290)  # for 3 to 14 bits; 2048 words are the default
MOST_BYTES = {bits: 1000 * part for bits, part in enumerate(_KILOBYTES, 3)}
LARGEST_CIRCUIT = 256  # words: beyond, its tables outgrow what photographs can teach
_SMALLEST = 64  # pixels to a side of a photograph
_SCALES = (1.0, 1.0, 0.85, 0.7)

Maps = Mapping[int, Sequence[NDArray[np.integer[Any]]]]  # by the words of the codebook


def check_settings(settings: Mapping[str, Any], devices: int = 1, nodes: int = 1) -> None:
    """Raises UsageError if a recipe can't be run, before anything is made."""
    del devices, nodes
    model, recipe = settings.get("model"), settings.get("recipe")
    if not isinstance(model, dict) or not isinstance(model.get("weights"), str):
        raise UsageError("model: expected `weights`, a tag or a path of weights of vqgan")
    if not isinstance(recipe, dict) or set(recipe) - {"rounds", "lines", "circuits", "seed", "steps"}:
        raise UsageError("recipe: expected rounds, lines, circuits and seed")
    for name, least, most in (("rounds", 1, 64), ("lines", 8, 22), ("seed", 0, 1 << 31)):
        value = recipe.get(name, least)
        if type(value) is not int or not least <= value <= most:
            raise UsageError(f"recipe: {name} is {value!r:.80}; expected a whole number from {least} to {most}")
    circuits = recipe.get("circuits", [])
    if not isinstance(circuits, list) or any(type(size) is not int or size > LARGEST_CIRCUIT for size in circuits):
        raise UsageError(
            f"recipe: circuits {circuits!r:.80}: expected a list of codebooks of up to {LARGEST_CIRCUIT} words"
        )


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Learns, and writes the weights with all that was learned, and their manifest. It takes minutes."""
    del resume
    check_settings(settings)
    began, recipe = time.perf_counter(), settings["recipe"]
    source, given = weights_of(settings["model"]["weights"])
    model = read_model(given, "cpu" if device == "auto" else device)
    photos, _ = photos_in(data, _SMALLEST)
    maps = maps_of(model, photos, recipe.get("rounds", 4), recipe.get("seed", 1))
    say(f"{len(photos)} photographs, {time.perf_counter() - began:.0f} s")
    codebooks = {size: np.asarray(model.arrays[f"levels.{size}.codebook"]) for size in maps}
    learned = index_arrays(maps, codebooks, recipe.get("lines", 18), recipe.get("circuits", []), recipe.get("seed", 1))
    kept = {name: np.array(a) for name, a in given.arrays.items() if not name.startswith(PREFIX)}
    packed = sorted_header(save({**kept, **learned}, dict(given.metadata)))
    facts = {
        **about,
        "steps": sum(len(part) for part in maps.values()),
        "seconds": round(time.perf_counter() - began, 1),
        "device": str(device),
        "metrics": {"index_bytes": sum(a.nbytes for a in learned.values()), "network": source},
    }
    n_numbers = sum(a.size for a in kept.values())
    write_weights(
        folder, "vqgan", "VQGAN", settings["tag"], packed, n_numbers, bool(settings.get("default", True)), facts
    )


def say(words: str) -> None:
    """A line about what is done, on stderr."""
    print(words, file=sys.stderr, flush=True)  # noqa: T201


def weights_of(named: str) -> tuple[str, LoadedWeights]:
    """The weights of a tag or a path, and what the manifest calls them."""
    if named.endswith(".safetensors"):
        return Path(named).name, load_tensors(named)
    manifest = find("vqgan", named)
    return manifest.file, load_tensors(manifest.path, manifest.sha256)


@torch.no_grad()
def maps_of(
    model: VqganModel, photos: Sequence[Tensor], rounds: int, seed: int, sizes: Sequence[int] | None = None
) -> dict[int, list[NDArray[np.uint16]]]:
    """The index maps of photographs (3, H, W) uint8 by the words of codebooks; in each round cut and scaled otherwise.

    sizes: of the codebooks; None: of all.
    """
    rng, net = np.random.default_rng(seed), model.net
    maps: dict[int, list[NDArray[np.uint16]]] = {size: [] for size in sizes or model.config.codebooks}
    for _ in range(rounds):
        for photo in photos:
            x = _drawn(photo, rng)
            features = net.features(net.coefficients(x))
            for size, part in maps.items():
                level = net.level(size)
                part.append(level.nearest(level.quant(features))[0].numpy(force=True).astype(np.uint16))
    return maps


def _drawn(photo: Tensor, rng: np.random.Generator) -> Tensor:
    """A photograph (1, 3, H, W) in [0, 1] at another size and offset, sides multiples of 16."""
    x = photo[None].float() / 255
    scale = max(float(rng.choice(_SCALES)), _SMALLEST / min(x.shape[2:]))
    if scale < 1:
        x = torch.nn.functional.interpolate(x, scale_factor=scale, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (int(rng.integers(min(16, side - 15))) for side in x.shape[2:])
    x = x[:, :, top:, left:]
    x = x[:, :, : x.shape[2] // 16 * 16, : x.shape[3] // 16 * 16]
    return x.flip(3) if rng.random() < 0.5 else x


def index_arrays(
    maps: Maps, codebooks: Mapping[int, NDArray[Any]], lines: int, circuits: Sequence[int], seed: int
) -> dict[str, NDArray[Any]]:
    """The arrays of all index models, as the weights hold them, learned on the maps of each codebook."""
    arrays: dict[str, NDArray[Any]] = {}
    for size, given in maps.items():
        order = np.random.default_rng(seed).permutation(len(given)).tolist()
        part = [given[i].astype(np.int64) for i in order]
        began, n_cells = time.perf_counter(), sum(part_map.size for part_map in part)
        states: dict[str, Mapping[str, NDArray[Any]]] = {"histogram": _histogram(part, size).to_state()}
        model = CausalModel.new(codebooks[size], part[:64], lines)
        bits = model.learn(part) / n_cells
        states["mix"] = model.to_state(MOST_BYTES.get(model.bits, MOST_BYTES[14]))
        if size in circuits:
            states["circuit"] = IndexModel.fit(part, size, block=4, states=32, max_windows=40_000, seed=seed).to_state()
        arrays |= {f"{PREFIX}{size}.{name}.{key}": np.asarray(a) for name, s in states.items() for key, a in s.items()}
        say(f"{size} words: {bits:.3f} bits an index as it learned, {time.perf_counter() - began:.0f} s")
    if (n_bytes := sum(a.nbytes for a in arrays.values())) > MOST_IN_ALL:
        raise UsageError(f"the index models take {n_bytes} bytes, more than {MOST_IN_ALL:.0f}: ask for fewer circuits")
    return arrays


def _histogram(maps: Sequence[NDArray[np.integer[Any]]], size: int) -> Tables:
    counts = sum((np.bincount(part.ravel(), minlength=size) for part in maps), np.ones(size, np.int64))
    shares = cast(NDArray[np.int64], counts) / counts.sum()
    return Tables.from_pmf([shares * (1 - 2.0**-14)], [0])
