"""Random crops of recordings, held in memory as int16: no decoding while training.

A folder is searched recursively for all files of sound that the suite reads. Crops are of one rate and number of
channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from ..errors import MediaError
from ..media import AUDIO_READS
from ..media.audio.reader import read_audio

__all__ = ["RandomSounds", "find_sounds", "load_sound"]


def find_sounds(folder: str | Path, without: Sequence[str] = ()) -> list[Path]:
    """Sorted sound files below `folder`, but for those below a folder of a name in `without`. MediaError if none is."""
    root = Path(folder)
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in AUDIO_READS and p.is_file())
    files = [p for p in files if not set(p.relative_to(root).parts) & set(without)]
    if not files:
        raise MediaError(f"{folder}: no recordings ({', '.join(AUDIO_READS)}) in this folder; name one with --data")
    return files


def load_sound(file: Path, rate: int, channels: int) -> NDArray[np.float32]:
    """A recording as (n, channels) float32 in [-1, 1] at a rate: of mono all channels are the same.

    Of more channels than asked for the first ones are taken; to one channel they are averaged. MediaError if the file
    can't be read.
    """
    try:
        samples = read_audio(file, rate).to_float().astype(np.float32)
    except MediaError as error:
        raise MediaError(f"{error}; take this recording out of the folder") from None
    samples = samples.mean(1, keepdims=True) if channels == 1 else samples[:, :channels]
    if samples.shape[1] < channels:
        samples = np.repeat(samples[:, :1], channels, 1)
    return np.ascontiguousarray(samples, np.float32)


class RandomSounds(IterableDataset[Tensor]):
    """Endless batches of crops at random places; batch n depends on seed and n only.

    Yields (batch, channels, size) float32, from batch `start` on, so that a resumed run goes on where it stopped.
    sounds: (n, channels) float32 in [-1, 1]; they are kept as int16. Recordings are drawn in proportion to their
    length; one that is shorter than a crop lies somewhere in silence. gains: the range of a random factor of each crop,
    in dB. flips: whether channels trade places and change their sign, half of the time each. mixed: the share of crops
    that are two, the second one up to 20 dB below the first. speeds: the range of a random factor of tempo and pitch.
    """

    def __init__(
        self,
        sounds: Sequence[NDArray[np.float32]],
        size: int,
        batch: int,
        seed: int,
        gains: tuple[float, float] = (0.0, 0.0),
        flips: bool = True,
        mixed: float = 0.0,
        speeds: tuple[float, float] = (1.0, 1.0),
        start: int = 0,
    ) -> None:
        self.sounds = [np.clip(np.rint(s * 32767), -32768, 32767).astype(np.int16) for s in sounds]
        self.size, self.batch, self.seed, self.start = size, batch, seed, start
        self.gains, self.flips, self.mixed, self.speeds = gains, flips, mixed, speeds
        lengths = np.array([len(s) for s in sounds], dtype=np.float64)
        self.weights = lengths / lengths.sum()

    def crop(self, generator: np.random.Generator) -> Tensor:
        """A random crop, or the sum of two, (channels, size)."""
        crop = self._part(generator)
        if generator.random() < self.mixed:
            crop = crop + self._part(generator) * 10 ** float(generator.uniform(-1, 0))
        return crop * 10 ** float(generator.uniform(*self.gains) / 20)

    def _part(self, generator: np.random.Generator) -> Tensor:
        sound = self.sounds[generator.choice(len(self.sounds), p=self.weights)]
        slow, fast = self.speeds
        if slow < fast:  # a stretch of it, played so much faster or slower
            import soxr

            speed = float(generator.uniform(slow, fast))
            start = int(generator.integers(max(1, len(sound) - round(self.size * speed))))
            stretch = sound[start : start + round(self.size * speed) + 1].astype(np.float32)
            sound = soxr.resample(stretch, speed, 1.0, "MQ")
        crop = np.zeros((self.size, sound.shape[1]), np.float32)
        spare = len(sound) - self.size
        place = int(generator.integers(abs(spare) + 1))
        if spare >= 0:
            crop[:] = sound[place : place + self.size]
        else:
            crop[place : place + len(sound)] = sound
        crop /= 32767
        if self.flips and generator.integers(2):
            crop = crop[:, ::-1]
        if self.flips and generator.integers(2):
            crop = -crop
        return torch.from_numpy(np.ascontiguousarray(crop.T))

    def __iter__(self) -> Iterator[Tensor]:
        for index in itertools.count(self.start):
            generator = np.random.default_rng([self.seed, index])
            yield torch.stack([self.crop(generator) for _ in range(self.batch)])
