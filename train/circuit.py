"""Fitting the `circuit` codec: EM on the user's data, resumable, with a log; and the recipes of the shipped weights.

`codec fit circuit DATA -o FILE` and `codec train circuit --recipe NAME` end here. Schedule: `entropy.circuits.fit`. A
part of the items is held out; what ships is the state with the fewest bits on them. Needs torch only, no Lightning.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ..codecs.base.weights import load_tensors
from ..codecs.circuit.codec import CircuitCodec, Domain
from ..codecs.circuit.mixing import MixedItems
from ..entropy.circuits.coding import MAX_STATES, FrozenCircuit
from ..entropy.circuits.fit import (
    FitConfig,
    as_float_arrays,
    bits_of_mixture,
    from_float_arrays,
    partition,
    run_epoch,
    start,
)
from ..entropy.circuits.mixture import FrozenMixture, frozen
from ..entropy.circuits.model import HiddenTree, LeafKind
from ..errors import UsageError
from ..files import whole
from ..media.array import read
from .circuit_mix import apart, sorted_header, states_of, train_states
from .devices import device_name, training_device
from .export import write_weights
from .settings import fill

__all__ = ["CircuitRecipe", "Fitted", "fit_array", "fit_file", "train", "weights_bytes"]


@dataclass(frozen=True)
class CircuitRecipe(FitConfig):
    """Everything a fit needs besides the data, on top of the schedule of `FitConfig`.

    held_out: share of the items that only choose the best epoch. check: epochs between two looks at them. patience:
    looks without a gain before it ends, once the epochs of mini-batches are over. bits: of a stored leaf parameter, 8
    or 16. components: circuits, each for a part of the items (k-means) with a tree of its own.
    """

    held_out: float = 0.05
    check: int = 1
    patience: int = 3
    bits: int = 8
    components: int = 1

    def __post_init__(self) -> None:
        """Raises UsageError for what no fit can have, with the name that the setting has in a recipe."""
        whole_numbers = {
            "states": (1, MAX_STATES + 1),
            **dict.fromkeys(("epochs", "full", "seed"), (0, 1 << 32)),
            **dict.fromkeys(("batch", "check", "patience", "components"), (1, 1 << 32)),
            **dict.fromkeys(("tree_samples", "tree_levels"), (2, 1 << 32)),
        }
        for name, (least, most) in whole_numbers.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value < most:
                raise _refused(name, value, f"a whole number from {least} to {most - 1}")
        if self.epochs + self.full < 1:
            raise _refused("epochs", self.epochs, "at least 1 with the full passes together")
        if not _is_number(self.pseudocount) or self.pseudocount <= 0:
            raise _refused("pseudocount", self.pseudocount, "a finite number above 0")
        if not _is_number(self.held_out) or not 0 <= self.held_out < 1:
            raise _refused("held_out", self.held_out, "a share from 0 to below 1, as 0.05")
        if self.bits not in (8, 16):
            raise _refused("bits", self.bits, "8 or 16")
        if self.leaves not in get_args(LeafKind):
            raise _refused("leaves", self.leaves, " or ".join(get_args(LeafKind)))
        if not self.keep or not all(_is_number(share) and 0 <= share < 1 for share in self.keep):
            raise _refused("keep", self.keep, "shares from 0 to below 1")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _refused(name: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"{name.replace('_', '-')} {value!r:.80}: expected {expected}")


class Fitted(NamedTuple):
    circuit: FrozenCircuit | FrozenMixture
    domain: Domain
    log: list[dict[str, float]]


def fit_array(
    array: NDArray[Any],
    recipe: CircuitRecipe,
    work: Path,
    resume: bool = False,
    say: Callable[[str], None] | None = None,
    device: str = "cpu",
) -> Fitted:
    """Fits a circuit to the items of an array. work: a folder for checkpoints and the log; resume: go on from there."""
    domain = Domain.of(array)
    symbols, _ = domain.symbols(array)
    used, held = apart(symbols, recipe.held_out, recipe.seed)
    n_held = len(held)
    mark = hashlib.sha256(symbols.tobytes() + repr(dataclasses.astuple(recipe)).encode()).hexdigest()
    state = _resume(work, mark, recipe, device) if resume else None
    if state is None:
        work.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        parts = _parts(used, domain, recipe)
        models, log = [start(part, domain.sizes, recipe, device) for part in parts], []
        tree_seconds = time.perf_counter() - began
        if say:
            depth = max(int(model.tree.depth.max()) for model in models)
            size = f"{domain.n_values} variables, depth {depth}, {sum(m.n_parameters for m in models)} parameters"
            few = f"; {len(parts)} parts of {', '.join(str(len(part)) for part in parts)} items" if parts[1:] else ""
            say(f"tree: {size}, {tree_seconds:.1f} s{few}")
    else:
        models, log = state
        parts = _parts(used, domain, recipe)
    n_epochs = recipe.epochs + recipe.full
    for epoch in range(len(log), n_epochs):
        began = time.perf_counter()
        each = [run_epoch(model, part, recipe, epoch) for model, part in zip(models, parts, strict=True)]
        train_nats = sum(nats * len(part) for nats, part in zip(each, parts, strict=True)) / len(used)
        train_nats -= np.log(len(parts))  # to say which
        if not math.isfinite(train_nats):
            raise UsageError(f"epoch {epoch + 1} ends at no number of bits: a larger pseudocount may help")
        seconds = time.perf_counter() - began
        row = {"epoch": epoch + 1, "seconds": seconds, "train": -train_nats / np.log(2) / domain.n_values}
        if n_held and ((epoch + 1) % recipe.check == 0 or epoch + 1 >= recipe.epochs):
            row["held_out"] = bits_of_mixture(models, held)
        log.append(row)
        best = min((earlier["held_out"] for earlier in log if "held_out" in earlier), default=None)
        if best is None or row.get("held_out") == best:
            _write_checkpoint(work / "best.safetensors", models, mark, log)
        _write_checkpoint(work / "last.safetensors", models, mark, log)
        lines = [json.dumps({"recipe": dataclasses.asdict(recipe)}), *map(json.dumps, log)]
        (work / "log.jsonl").write_text("\n".join(lines) + "\n")
        if say:
            shown = f", held out {row['held_out']:.4f}" if "held_out" in row else ""
            say(f"epoch {epoch + 1}/{n_epochs}: {row['train']:.4f} bits a value{shown}, {seconds:.1f} s")
        if epoch + 1 > recipe.epochs and _waited(log, recipe.patience):
            break
    best = from_float_arrays(load_tensors(work / "best.safetensors").tensors, recipe.leaves)
    return Fitted(frozen([_frozen(model, recipe.bits) for model in best]), domain, log)


def _parts(used: NDArray[Any], domain: Domain, recipe: CircuitRecipe) -> list[NDArray[Any]]:
    if recipe.components == 1:
        return [used]
    labels = partition(used, domain.sizes, recipe.components, recipe)
    return [used[labels == label] for label in range(labels.max() + 1)]


def _frozen(model: HiddenTree, bits: int) -> FrozenCircuit:
    arrays = model.to_arrays()
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise UsageError("the fit came to parameters that are no numbers: a larger pseudocount may help")
    return FrozenCircuit.from_probabilities(
        model.tree, model.sizes, arrays["theta"], arrays["weights"], arrays["root"], bits
    )


def _waited(log: list[dict[str, float]], patience: int) -> bool:
    held = [row["held_out"] for row in log if "held_out" in row]
    return len(held) > patience and min(held[-patience:]) > min(held[:-patience])


def _write_checkpoint(path: Path, models: list[HiddenTree], mark: str, log: list[dict[str, float]]) -> None:
    arrays = {name: tensor.numpy() for name, tensor in as_float_arrays(models).items()}
    with whole(path, replace=True, path_only=True) as partial:
        partial.write_bytes(save(arrays, {"mark": mark, "log": json.dumps(log)}))


def _resume(
    work: Path, mark: str, recipe: CircuitRecipe, device: str
) -> tuple[list[HiddenTree], list[dict[str, float]]] | None:
    path = work / "last.safetensors"
    if not path.exists():
        return None
    checkpoint = load_tensors(path)
    if checkpoint.metadata.get("mark") != mark:
        raise UsageError(f"{work} is a run with other data or settings: it can't be gone on with; name another place")
    return from_float_arrays(checkpoint.tensors, recipe.leaves, device), json.loads(checkpoint.metadata["log"])


def weights_bytes(
    circuit: FrozenCircuit | FrozenMixture,
    domain: Domain,
    about: Mapping[str, str],
    learned: Mapping[str, NDArray[Any]] | None = None,
) -> bytes:
    """Returns the safetensors file of a circuit: the same bytes for the same content. learned: by mixing."""
    tensors, metadata = CircuitCodec(circuit, domain, b"", learned=learned or {}).to_tensors()
    return sorted_header(
        save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}, {**about, **metadata})
    )


def fit_file(
    data: str | Path,
    target: Path,
    recipe: CircuitRecipe,
    resume: bool = False,
    say: Callable[[str], None] | None = None,
    device: str = "cpu",
    mix: bool = False,
) -> tuple[bytes, Fitted]:
    """Makes weights for a data file or a folder of pictures. Checkpoints lie beside `target` until it is done.

    mix: whether what `--mix` knows beforehand is learned, too, in one more pass.
    """
    value = read(data)
    work = target.with_name(target.name + ".fit")
    if work.exists() and not resume:
        raise UsageError(f"{work} is an unfinished run: go on with --resume, or remove it")
    fitted = fit_array(value.array, recipe, work, resume, say, device)
    about = {"training_data": Path(data).name, "recipe": json.dumps(dataclasses.asdict(recipe))}
    learned: Mapping[str, NDArray[Any]] = {}
    if mix:
        items = MixedItems(fitted.circuit, fitted.domain.shape, {})
        symbols, _ = fitted.domain.symbols(value.array)
        learned = states_of(items, symbols, recipe.held_out, recipe.seed, say)
    return weights_bytes(fitted.circuit, fitted.domain, about, learned), fitted


def remove_work(target: Path) -> None:
    """Removes the checkpoints, which are not needed any more after the weights are written."""
    shutil.rmtree(target.with_name(target.name + ".fit"), ignore_errors=True)


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe (see train/recipes/circuit) to its end, from where it stopped if `resume`, and exports the weights.

    settings: `file` below data, `model` (states, bits), `recipe` (all other fields of `CircuitRecipe`; `steps` are
    epochs). Of a model that names a circuit that ships, what mixing knows beforehand is learned: `train_states`.
    """

    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)  # noqa: T201

    if isinstance(settings["model"], Mapping) and "circuit" in settings["model"]:
        train_states(settings, data, folder, about, say)
        return
    values = {**settings["model"], **settings["recipe"]}
    if "steps" in values:
        values["epochs"] = values.pop("steps")
    recipe = fill(CircuitRecipe, values, "recipe")
    path = data / settings["file"] if data.is_dir() and "file" in settings else data
    value = read(path)
    where = training_device("cpu" if device == "auto" else device)
    began = time.perf_counter()
    fitted = fit_array(value.array, recipe, folder, resume, say, str(where))
    held = [row["held_out"] for row in fitted.log if "held_out" in row]
    facts = {
        **about,
        "training_data": f"{path.name} of {about.get('training_data', '')}: {len(value.array)} items",
        "licence": settings.get("licence", about.get("licence", "")),
        "steps": len(fitted.log),
        "seconds": round(sum(row["seconds"] for row in fitted.log), 1),
        "device": device_name(where),
        "metrics": {
            "held_out_bits_per_value": round(min(held), 4) if held else None,
            "train_bits_per_value": round(fitted.log[-1]["train"], 4),
            "seconds_here": round(time.perf_counter() - began, 1),
        },
    }
    contents = weights_bytes(fitted.circuit, fitted.domain, {"tag": settings["tag"]})
    write_weights(
        folder,
        "circuit",
        "Probabilistic circuit",
        settings["tag"],
        contents,
        fitted.circuit.n_parameters,
        bool(settings.get("default", False)),
        facts,
    )
