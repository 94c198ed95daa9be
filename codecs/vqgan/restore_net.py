"""The transformer that restores lost indices, in torch: it is trained here, and is the oracle of restore.py.

Mao et al., arXiv 2307.08265; what is ours: restore.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .restore import NORM_EPSILON, REACH, RestoreConfig, offsets, tensor_shapes

__all__ = ["RestoreNet", "exported"]


class Layer(nn.Module):
    """Attention and a perceptron, each behind a norm and beside a skip."""

    def __init__(self, config: RestoreConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.first, self.second = (nn.LayerNorm(width, eps=NORM_EPSILON) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        # heads begin by looking at what is near, each less far than the next
        steps = torch.arange(1 - config.window, config.window)
        distance = (steps[:, None] ** 2 + steps**2).float().sqrt().flatten()
        self.near = nn.Parameter(-distance * 2.0 ** -torch.arange(self.heads)[:, None])

    def forward(self, x: Tensor, offsets: Tensor, allowed: Tensor | None) -> Tensor:
        """x: (B, cells, width). offsets: see restore.py. allowed: (B, 1, 1, cells), where to look; None: everywhere."""
        batch, cells, width = x.shape
        qkv = self.qkv(self.first(x)).view(batch, cells, 3, self.heads, width // self.heads)
        q, key, value = qkv.permute(2, 0, 3, 1, 4)
        # by hand: the fused kernel's backward pass takes three times as long on a CPU
        scores = (q * (width // self.heads) ** -0.5) @ key.transpose(2, 3)
        scores = scores + self.near[:, offsets].to(scores.dtype)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        mixed = scores.softmax(-1).to(value.dtype) @ value
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, cells, width))
        return x + self.down(F.gelu(self.up(self.second(x)), approximate="tanh"))


class RestoreNet(nn.Module):
    """The transformer of restore.py.

    codebooks: by their sizes, vectors (size, d). The table starts from them, so that words which are alike start alike.
    """

    def __init__(self, config: RestoreConfig, codebooks: Mapping[int, NDArray[Any]] | None = None) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.table = nn.Parameter(torch.randn(config.rows, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(config.rows))
        self.places = nn.Parameter(0.02 * torch.randn(config.window**2, width))
        steps = torch.arange(-REACH, REACH + 1)
        squares = (steps[:, None] ** 2 + steps**2).flatten().clamp_min(1)
        self.copy = nn.Parameter(torch.zeros(len(squares), width))
        self.bonus = nn.Parameter((2 / squares).repeat(len(config.codebooks), 1))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.register_buffer("offsets", torch.from_numpy(offsets(config.window)), persistent=False)
        with torch.no_grad():
            for layer in self.layers:
                assert isinstance(layer, Layer)
                for linear in (layer.out, layer.down):
                    linear.weight.mul_((2 * config.layers) ** -0.5)  # the sum of all layers starts small
            self._start(codebooks or {})

    def _start(self, codebooks: Mapping[int, NDArray[Any]]) -> None:
        for size, vectors in codebooks.items():
            words = torch.from_numpy(np.asarray(vectors, np.float32))
            words = (words - words.mean(0)) / words.std(0).clamp_min(1e-6)
            spread = torch.randn(words.shape[1], self.config.width) * (words.shape[1] * self.config.width) ** -0.5
            first = self.config.first_row(size)
            self.table[first : first + size] = 0.9 * words @ spread + 0.4 * self.table[first : first + size]

    def forward(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        """The states (B, cells, width) of rows of the table (B, cells). inside: cells but padding; None: all."""
        x = self.table[tokens] * math.sqrt(self.config.width) + self.places
        allowed = None if inside is None else inside[:, None, None, :]
        for layer in self.layers:
            x = layer(x, self.offsets, allowed)
        return self.norm(x)

    def logits(self, states: Tensor, words: Tensor, lost: Tensor, size: int) -> Tensor:
        """The logits (n, size) of the n lost cells of windows.

        states: (B, cells, width). words: (B, cells), of the codebook of `size`, or `size` where none is known. lost: of
        the same shape.
        """
        first, side = self.config.first_row(size), self.config.window
        at = states[lost]
        logits = F.linear(at, self.table[first : first + size], self.bias[first : first + size]).float()
        weights = F.linear(at, self.copy).float() + self.bonus[self.config.codebooks.index(size)]
        around = F.pad(words.view(-1, side, side), (REACH,) * 4, value=size)
        b, y, x = lost.view(-1, side, side).nonzero(as_tuple=True)
        steps = torch.arange(2 * REACH + 1, device=words.device)
        near = around[b[:, None, None], y[:, None, None] + steps[:, None], x[:, None, None] + steps].flatten(1)
        more = logits.new_zeros(len(logits), size + 1).scatter_add(1, near, weights)
        return logits + more[:, :size]


def exported(net: RestoreNet) -> dict[str, NDArray[np.float16]]:
    """The tensors of a weights file."""
    state = net.state_dict()
    return {name: state[name].float().numpy(force=True).astype(np.float16) for name in tensor_shapes(net.config)}
