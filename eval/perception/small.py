"""A small convolutional network for labelled pictures of 28 x 28, trained here in half a minute.

Labelled pictures that can be had without a network are small (MNIST, Fashion-MNIST), and no package brings a classifier
of them. This one is trained on their training files, with one seed, and kept in a cache. Two machines may end with
weights that differ in the last bits, so rows name a hash of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ...files import whole

__all__ = ["SmallClassifier"]

Array = NDArray[np.uint8]
SIDE = 28
_BATCH, _EPOCHS, _RATE = 128, 2, 2e-3
_SHIFT = 2  # pixels by which a training picture is moved at most


class SmallClassifier:
    """A classifier of (N, 28, 28) uint8. name: with a hash of the weights."""

    def __init__(self, kind: str, train: Callable[[], tuple[Array, Array]]) -> None:
        """kind: a name for the data. train: gives (N, 28, 28) pictures and (N,) labels below 10, if they're needed."""
        import torch

        self._net = _net()
        path = _cache() / f"{kind}-{_recipe()}.safetensors"
        if not self._read(path):
            pictures, labels = train()
            _fit(self._net, pictures, labels)
            self._write(path)
        state = self._net.state_dict()
        weights = b"".join(state[key].numpy().tobytes() for key in sorted(state))
        self.name = f"{kind}-cnn {hashlib.sha256(weights).hexdigest()[:8]}"
        self._torch = torch

    def __call__(self, pictures: Array) -> NDArray[np.int64]:
        """Classes (N,) of pictures (N, 28, 28)."""
        torch = self._torch
        x = torch.from_numpy(np.array(pictures))[:, None].float() / 255
        with torch.inference_mode():
            return self._net(x).argmax(1).numpy()

    def _read(self, path: Path) -> bool:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            self._net.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError, ValueError):  # not there, or of another version: made again
            return False
        return True

    def _write(self, path: Path) -> None:
        from safetensors.torch import save

        try:
            with whole(path, replace=True) as file:
                file.write(save(self._net.state_dict()))
        except (OSError, UsageError):
            return  # a cache that can't be written: trained again next time


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "codec" / "perception"


def _recipe() -> str:
    """A hash of this file: weights of another recipe aren't taken for these."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]


def _net():
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10)),
    ).eval()


def _fit(net, pictures: Array, labels: Array) -> None:
    """Trains with a seed of its own, which leaves torch's generator as it was."""
    import torch
    import torch.nn.functional as F

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in net:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        x, y = torch.from_numpy(pictures.copy())[:, None], torch.from_numpy(labels.astype(np.int64))
        steps = _EPOCHS * (len(x) // _BATCH)
        optimizer = torch.optim.Adam(net.parameters(), _RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
        net.train()
        for _ in range(_EPOCHS):
            for part in torch.randperm(len(x))[: len(x) // _BATCH * _BATCH].split(_BATCH):
                shift = torch.randint(-_SHIFT, _SHIFT + 1, (2,)).tolist()
                batch = torch.roll(x[part].float() / 255, shift, (2, 3))
                optimizer.zero_grad()
                F.cross_entropy(net(batch), y[part]).backward()
                optimizer.step()
                schedule.step()
        net.eval()
