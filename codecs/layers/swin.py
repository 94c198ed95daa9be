"""SwinV2 blocks in the residual form of TIC and S2LIC: Liu et al., "Swin Transformer V2", arXiv 2111.09883.

Window attention on (B, C, H, W) with cosine similarity, a continuous position bias and residual post-norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is cached may be used in training, too
def _offsets(window: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The log-spaced offsets in a window, ((2w-1)**2, 2), and the index of each pair of tokens', (w**2, w**2)."""
    line = torch.arange(window)
    places = torch.stack(torch.meshgrid(line, line, indexing="ij")).flatten(1)  # (2, w w)
    relative = places[:, :, None] - places[:, None, :] + window - 1
    index = relative[0] * (2 * window - 1) + relative[1]
    steps = torch.arange(1 - window, window).float() * 8 / (window - 1)
    steps = torch.sign(steps) * torch.log2(1 + steps.abs()) / 3
    table = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).flatten(0, 1)
    return table.to(device), index.to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _seams(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """The mask of a shifted attention, (windows, 1, w**2, w**2): -1000 between tokens that only the roll put together.

    SwinV2's -100 leaves denormal weights in float32, which are slow and not quite zero.
    """
    region = torch.zeros(height, width)
    edges = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for i, rows in enumerate(edges):
        for j, columns in enumerate(edges):
            region[rows, columns] = 3 * i + j
    cells = region.reshape(height // window, window, width // window, window).transpose(1, 2).flatten(0, 1).flatten(1)
    return torch.where(cells[:, :, None] == cells[:, None, :], 0.0, -1000.0)[:, None].to(device)


def wide(x: Tensor) -> Tensor:
    """The tensor x, in float32 where it is in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class SwinBlock(nn.Module):
    """A SwinV2 block on tokens (B, H, W, C): x + LN(attention(x)), then x + LN(MLP(x)).

    H and W are multiples of the window.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        shift: int,
        window: int = 8,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ) -> None:
        """drop_path: the probability, in training, that a sample passes a branch by."""
        super().__init__()
        self.heads, self.window, self.shift, self.drop_path = heads, window, shift, drop_path
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.temperature = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.position = nn.Sequential(nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, heads, bias=False))
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def bias(self) -> Tensor:
        """The position bias of the attention, (1, heads, w**2, w**2)."""
        weight = cast(nn.Linear, self.position[0]).weight
        table, index = _offsets(self.window, weight.device)
        values = wide(self.position(table.to(weight.dtype)))
        chosen = values[index.flatten()].reshape(*index.shape, -1).permute(2, 0, 1)
        return 16 * torch.sigmoid(chosen)[None]

    def attention(self, x: Tensor) -> Tensor:
        """Window attention on tokens (B, H, W, C), shifted by `shift`."""
        b, h, w, c = x.shape
        n = self.window
        # a picture of one window has no neighbours to shift to
        shift = self.shift if min(h, w) > n else 0
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        x = x.reshape(b, h // n, n, w // n, n, c).transpose(2, 3).reshape(-1, n * n, c)
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).reshape(len(x), n * n, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q = F.normalize(wide(q), dim=-1) * torch.exp(self.temperature.clamp(max=math.log(100.0)))
        scores = q.to(v.dtype) @ F.normalize(wide(k), dim=-1).to(v.dtype).transpose(-2, -1)
        scores = wide(scores) + self.bias()
        if shift:
            seams = _seams(h, w, n, shift, x.device).to(scores.dtype)
            scores = (scores.unflatten(0, (b, -1)) + seams).flatten(0, 1)
        x = (torch.softmax(scores, -1).to(v.dtype) @ v).transpose(1, 2).reshape(-1, n * n, c)
        x = self.out(x).reshape(b, h // n, w // n, n, n, c).transpose(2, 3).reshape(b, h, w, c)
        return torch.roll(x, (shift, shift), (1, 2)) if shift else x

    def _kept(self, branch: Tensor) -> Tensor:
        """The branch with stochastic depth: in training some samples of it are 0, the others scaled up."""
        if not self.training or not self.drop_path:
            return branch
        keep = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= self.drop_path
        return branch * keep / (1 - self.drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._kept(self.norm1(self.attention(x))).to(x.dtype)
        return x + self._kept(self.norm2(self.mlp(x))).to(x.dtype)


class ResidualSwin(nn.Module):
    """A residual stage (RS2TB) on (B, C, H, W): `depth` SwinV2 blocks, every second one shifted, plus a shortcut."""

    def __init__(
        self, width: int, heads: int, depth: int, mlp_ratio: float = 4.0, drop_path: Sequence[float] = ()
    ) -> None:
        super().__init__()
        rates = drop_path or [0.0] * depth
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, 4 * (k % 2), mlp_ratio=mlp_ratio, drop_path=rates[k]) for k in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        for block in self.blocks:
            tokens = block(tokens)
        return x + tokens.permute(0, 3, 1, 2)
