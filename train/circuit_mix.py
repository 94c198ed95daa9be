"""States of mixing coders, learned in one pass over the items that a circuit is for.

`codec fit circuit DATA -o FILE --mix` keeps it in the circuit's own file. A recipe whose model names a circuit that
ships (`codec train circuit --recipe mnist-mix`) writes a companion file for that one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ..codecs.base.codec import Codec
from ..codecs.circuit.codec import CircuitCodec
from ..codecs.circuit.mixing import COMPANION, MixedItems, companion_metadata, learned_state
from ..errors import UsageError
from ..files import whole
from ..media.array import read
from .export import write_manifest

__all__ = ["apart", "sorted_header", "states_of", "train_states"]


def apart(symbols: NDArray[np.int32], held_out: float, seed: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The items that a circuit is fitted to, and those that only choose its epoch, each in the order of the data."""
    order = np.random.default_rng(seed).permutation(len(symbols))
    n_held = min(int(len(symbols) * held_out), len(symbols) - 1)
    return symbols[np.sort(order[n_held:])], symbols[np.sort(order[:n_held])]


def states_of(
    items: MixedItems,
    symbols: NDArray[np.int32],
    held_out: float,
    seed: int,
    say: Callable[[str], None] | None = None,
) -> dict[str, NDArray[Any]]:
    """The arrays of what mixing learns on items (N, D), with the words that it says on the way."""
    used, held = apart(symbols, held_out, seed)
    began, shown = time.perf_counter(), 0.0

    def progress(n: int, bits: float) -> None:
        nonlocal shown
        if say and time.perf_counter() - shown > 10:
            shown = time.perf_counter()
            say(f"mixing: {n} items, {bits / n / symbols.shape[1]:.4f} bits a value, {shown - began:.0f} s")

    return learned_state(items, used, held, progress)


def sorted_header(data: bytes) -> bytes:
    """A safetensors file with its metadata in one order: they come in any."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def train_states(
    settings: Mapping[str, Any], data: Path, folder: Path, about: Mapping[str, Any], say: Callable[[str], None]
) -> None:
    """Runs a recipe whose `model` names a circuit that ships: writes circuit-TAG.safetensors and its manifest.

    settings: `file` below data; `recipe`: held_out and seed, as the circuit was fitted, so that the last items of the
    pass are those that it doesn't know.
    """
    recipe = settings["recipe"] if isinstance(settings["recipe"], dict) else {}
    held_out, seed = recipe.get("held_out", 0.05), recipe.get("seed", 1)
    if type(held_out) is not float or not 0 <= held_out < 1 or type(seed) is not int or seed < 0:
        raise UsageError(f"recipe: held_out {held_out!r:.80}, seed {seed!r:.80}; expected a share and a whole number")
    codec = Codec.load(f"circuit@{settings['model']['circuit']}")
    assert isinstance(codec, CircuitCodec)
    path = data / settings["file"] if data.is_dir() and "file" in settings else data
    symbols, _ = codec.domain.symbols(read(path).array)
    began = time.perf_counter()
    state = states_of(MixedItems(codec.circuit, codec.domain.shape, {}), symbols, held_out, seed, say)
    contents = sorted_header(save(state, companion_metadata(codec.weights_id)))
    target = folder / f"circuit-{settings['tag']}.safetensors"
    with whole(target, replace=True, path_only=True) as partial:
        partial.write_bytes(contents)
    manifest = {
        "name": f"Mixing states {settings['tag']}",
        "codec": COMPANION,
        "tag": settings["tag"],
        "file": target.name,
        "sha256": hashlib.sha256(contents).hexdigest(),
        "parameters": sum(array.size for array in state.values()),
        **about,
        "training_data": f"{path.name} of {about.get('training_data', '')}: {len(symbols)} items",
        "licence": settings.get("licence", about.get("licence", "")),
        "steps": 1,
        "seconds": round(time.perf_counter() - began, 1),
        "device": "CPU",
        "metrics": {"circuit": codec.weights_id.hex()},
    }
    write_manifest(target, manifest)
