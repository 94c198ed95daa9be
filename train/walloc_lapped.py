"""`codec train walloc-lapped`: what the mixer of the lapped model of sound knows when a piece begins.

Recordings are coded one after the other, at qualities and loudnesses at random, mono now and then; what the mixing
coder has learned by then is packed. Counts and ages are held low, so that it still learns the sound at hand quickly.
One pass of some minutes, on one core; `--resume` goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from ..codecs.walloc.audio.bands import frame_size
from ..codecs.walloc.audio.blocks import FULL_SCALE
from ..codecs.walloc.audio.codec import base_of_quality
from ..codecs.walloc.audio.lapped import Format
from ..codecs.walloc.audio.pieces import PieceCoder, PieceSplitter
from ..codecs.walloc.audio.weights import STATE, metadata
from ..datasets.sounds import find_sounds
from ..entropy.mixing import shipping, sound
from ..entropy.mixing.mixer import Mixer
from ..files import whole
from ..media.audio.reader import read_audio
from .circuit_mix import sorted_header
from .export import write_weights
from .settings import fill

__all__ = ["LappedRecipe", "learned", "train"]

_ARRAYS = ("lines", "weights", "ages", "finals", "final_ages", "refined")
_COUNT, _AGE = 24, 80  # the most that a packed state remembers of how much it has seen
_MOST_BYTES = 1 << 20
_SAVED = 30.0  # seconds between two checkpoints


@dataclass(frozen=True)
class LappedRecipe:
    """Everything a run needs besides the data. seconds: of sound that is coded; part: of a recording at a time."""

    seconds: float
    part: float = 12.0
    quality: tuple[float, float] = (25.0, 90.0)
    gains: tuple[float, float] = (0.0, -12.0)
    without: tuple[str, ...] = ()
    seed: int = 1


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe: writes walloc-audio-TAG.safetensors and its manifest into a folder."""
    del device
    recipe = fill(LappedRecipe, settings["recipe"], "recipe")
    checkpoint = folder / "checkpoint.safetensors"
    mixer, done, before = _new_mixer(), 0, 0.0
    if resume and checkpoint.is_file():
        arrays = load_file(checkpoint)
        for name in _ARRAYS:
            getattr(mixer, name)[...] = arrays[name]
        done, before = int(arrays["done"]), float(arrays["seconds"])
    began, saved = time.perf_counter(), time.perf_counter()
    coded = 0.0
    for number, (x, form, base) in enumerate(_jobs(find_sounds(data, recipe.without), recipe)):
        coded += x.shape[1] / form.rate
        if number < done:
            continue
        _learn(mixer, x, PieceCoder.at(form, base, mixer))
        if time.perf_counter() - saved > _SAVED:
            saved = time.perf_counter()
            numbers = {"done": np.array(number + 1), "seconds": np.array(before + saved - began)}
            with whole(checkpoint, replace=True, path_only=True) as partial:
                partial.write_bytes(save({name: getattr(mixer, name) for name in _ARRAYS} | numbers))
            print(f"{coded:.0f} s of sound, {before + saved - began:.0f} s", flush=True)  # noqa: T201
    state = learned(mixer)
    contents = sorted_header(save({STATE: state}, metadata(settings["tag"])))
    seconds = round(before + time.perf_counter() - began, 1)
    facts = {"steps": 1, "seconds": seconds, "device": "CPU", "metrics": {"seconds_of_sound": round(coded)}}
    licence = settings.get("licence", about.get("licence", ""))
    written = {**about, "licence": licence, **facts}
    write_weights(folder, "walloc-audio", "WaLLoC audio", settings["tag"], contents, len(state), True, written)


def _new_mixer() -> Mixer:
    return Mixer.new(sound.plan(), 0.25)


def learned(mixer: Mixer) -> NDArray[np.uint8]:
    """The packed state of a mixer, (n,) bytes, with counts and ages held low."""
    held = mixer.copy()
    cells = held.lines[:, 1:]
    cells[...] = (cells & ~np.uint32(1023)) | np.minimum(cells & 1023, _COUNT)
    np.minimum(held.ages, _AGE, out=held.ages)
    np.minimum(held.final_ages, _AGE, out=held.final_ages)
    return np.frombuffer(shipping.pack(held, shipping.seen_for(held, _MOST_BYTES), 2), np.uint8)


def _learn(mixer: Mixer, x: NDArray[np.float64], coder: PieceCoder) -> None:
    splitter = PieceSplitter(coder.form)
    for piece in [*splitter.push(x), *splitter.finish()]:
        sound.price(coder.quantised(*piece), mixer, coder.level)


def _jobs(files: list[Path], recipe: LappedRecipe) -> Iterator[tuple[NDArray[np.float64], Format, float]]:
    """Parts of recordings in a random order: samples (channels, n) in units of 2^-23, their format, a base of steps."""
    draw = np.random.default_rng(recipe.seed)
    left = recipe.seconds
    while left > 0:
        for index in draw.permutation(len(files)):
            audio = read_audio(files[index])
            x, length = audio.to_float().T.astype(np.float64), int(recipe.part * audio.info.rate)
            start = int(draw.integers(max(1, x.shape[1] - length + 1)))
            x = x[:2, start : start + length]
            if draw.random() < 0.2:
                x = x.mean(0, keepdims=True)
            gain = 10 ** (draw.uniform(min(recipe.gains), max(recipe.gains)) / 20)
            base = base_of_quality(float(draw.uniform(*recipe.quality)))
            yield x * gain * FULL_SCALE, Format(audio.info.rate, len(x), frame_size(audio.info.rate)), base
            left -= x.shape[1] / audio.info.rate
            if left <= 0:
                return
