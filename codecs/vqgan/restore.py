"""Lost indices of a map, restored: a transformer looks at windows of 16x16 cells and says which words are likely.

Mao et al., "Extreme Image Compression using Fine-tuned VQGANs", arXiv 2307.08265, restore lost indices window by window
with a transformer whose sizes and training aren't published. Here it is one bidirectional encoder for all codebooks:
a table of words for each, one row more for what is lost; places of a window are learned, and how much each head looks
at which offset; the output is tied to the table. A word that a cell near by has gets a bonus, which the state says for
each offset: that maps repeat themselves needn't be learned word by word. Windows overlap by half, and their logits are
averaged. All that is lost is filled at once, or, for experiments, in rounds by MaskGIT's cosine schedule (Chang et al.,
"MaskGIT: Masked Generative Image Transformer", arXiv 2202.04200).

The table has rows for codebooks of at most 2048 words: larger ones would make it larger than the rest of the weights,
and their words are seldom seen; the codec fills those from the cells around (restore_baselines.py).

What is restored is an estimate: float32, and nothing in a file depends on it. The network in torch, as it is trained:
restore_net.py. Its weights are a companion of the codec's, which they name. May import base and layers; no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import WeightsError
from ..base.progress import each
from ..base.weights import LoadedWeights, about_of, config_of, load_tensors, manifests, reading
from ..layers.frozen import check_numbers, check_shapes
from .config import CODEBOOKS

__all__ = [
    "COMPANION",
    "MOST_WORDS",
    "NORM_EPSILON",
    "REACH",
    "RestoreConfig",
    "Restorer",
    "metadata",
    "offsets",
    "read_restorer",
    "restorer_of",
    "tensor_shapes",
]

Floats = NDArray[np.float32]

COMPANION = "vqgan-restore"  # what manifests of these weights call their codec
NORM_EPSILON = 1e-5
MOST_WORDS = 2048  # of a codebook that has rows in the table
REACH = 3  # cells to each side whose words get a bonus
SHARPNESS = np.float32(2)  # power of probabilities in the mean of words: 1 has the least squared error
_OF = "vqgan"  # metadata and metrics: the id of the codec's weights, in hexadecimal
_WINDOWS = 8  # that pass through the network together
_WIDE = 1024  # columns of a map beyond which it is restored by stripes; a multiple of 16
_REMEDY = "reinstall codec-suite, or train some with `codec train vqgan --recipe restore`"


@dataclass(frozen=True)
class RestoreConfig:
    """The sizes of the transformer."""

    codebooks: tuple[int, ...] = tuple(size for size in CODEBOOKS if size <= MOST_WORDS)
    width: int = 192
    layers: int = 5
    heads: int = 4
    window: int = 16  # cells to a side

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        for name, most in (("width", 1024), ("layers", 64), ("heads", 64), ("window", 32)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{name} is {value!r:.80}; expected 1 to {most}")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; expected a multiple of the {self.heads} heads")
        words = self.codebooks if isinstance(self.codebooks, (tuple, list)) else ()
        allowed = all(type(k) is int and 2 <= k <= MOST_WORDS for k in words)
        if not words or not allowed or sorted({*words}) != [*words]:
            raise ValueError(
                f"codebooks is {self.codebooks!r:.80}; expected numbers of words up to {MOST_WORDS}, rising"
            )

    def first_row(self, size: int) -> int:
        """The row of the table where the words of a codebook begin; the row behind them means that it is lost."""
        return sum(words + 1 for words in self.codebooks[: self.codebooks.index(size)])

    @property
    def rows(self) -> int:
        return sum(words + 1 for words in self.codebooks)


def tensor_shapes(config: RestoreConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of a weights file, float16."""
    width = config.width
    shapes: dict[str, tuple[int, ...]] = {
        "table": (config.rows, width),
        "bias": (config.rows,),
        "places": (config.window**2, width),
        "copy": ((2 * REACH + 1) ** 2, width),
        "bonus": (len(config.codebooks), (2 * REACH + 1) ** 2),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for k in range(config.layers):
        for name, out, inner in (("qkv", 3, 1), ("out", 1, 1), ("up", 4, 1), ("down", 1, 4)):
            shapes[f"layers.{k}.{name}.weight"] = (out * width, inner * width)
            shapes[f"layers.{k}.{name}.bias"] = (out * width,)
        shapes[f"layers.{k}.near"] = (config.heads, (2 * config.window - 1) ** 2)
        for name in ("first", "second"):
            shapes[f"layers.{k}.{name}.weight"] = shapes[f"layers.{k}.{name}.bias"] = (width,)
    return shapes


def offsets(window: int) -> NDArray[np.int64]:
    """The number of the offset between each two cells of a window: (cells, cells), below (2 window - 1)**2."""
    y, x = np.divmod(np.arange(window**2), window)
    return (y[None] - y[:, None] + window - 1) * (2 * window - 1) + x[None] - x[:, None] + window - 1


class Restorer:
    """The transformer in NumPy, and the restoring of maps with it.

    arrays: as `tensor_shapes` says, of any floats.
    """

    def __init__(self, config: RestoreConfig, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.config = config
        self._arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        between = offsets(config.window)
        self._near = [self._arrays[f"layers.{k}.near"][:, between] for k in range(config.layers)]

    def knows(self, size: int) -> bool:
        """Whether it restores indices of a codebook of so many words."""
        return size in self.config.codebooks

    def restore(
        self,
        indices: NDArray[np.integer[Any]],
        lost: NDArray[np.bool_],
        size: int,
        codebook: NDArray[Any] | None = None,
        rounds: int = 1,
    ) -> NDArray[np.int32]:
        """The index map (h, w) with words of the codebook of `size` where it was lost (h, w).

        codebook: (size, d), its vectors. With them a cell gets the word nearest to the mean of all words, weighed by
        powers of their probabilities; without them, the likeliest word. Pictures of the mean are nearer in pixels,
        those of the likeliest word in LPIPS, and the power lies between. rounds: in which all is filled, the surest
        cells first. More than one were worse in all measures up to 40 % of loss.
        """
        if not self.knows(size):
            raise WeightsError(f"these weights don't restore indices of {size} words: {_REMEDY}")
        if lost.shape[1] > _WIDE:
            return self._by_stripes(indices, lost, size, codebook, rounds)
        out = np.where(lost, 0, indices).astype(np.int32)
        missing = np.array(lost, bool)
        total = left = int(missing.sum())
        vectors = None if codebook is None else np.asarray(codebook, np.float32)
        for step in range(1, rounds + 1):
            if not left:
                break
            parts = list(self._chosen(out, missing, size, vectors))
            words, sure = (np.concatenate([part[i] for part in parts]) for i in range(2))
            stay = math.floor(total * math.cos(math.pi / 2 * step / rounds)) if step < rounds else 0
            now = np.argsort(-sure, kind="stable")[: max(1, left - stay) if stay else left]
            cells = np.flatnonzero(missing)[now]
            out.reshape(-1)[cells] = words[now]
            missing.reshape(-1)[cells] = False
            left -= len(cells)
        return out

    def _by_stripes(
        self,
        indices: NDArray[np.integer[Any]],
        lost: NDArray[np.bool_],
        size: int,
        codebook: NDArray[Any] | None,
        rounds: int,
    ) -> NDArray[np.int32]:
        """Restores a map stripe by stripe, columns with a window's width around them, so that memory is bounded.

        In one round the words are those that the whole map would get.
        """
        width, side = lost.shape[1], self.config.window
        out = np.empty(lost.shape, np.int32)
        for start in range(0, width, _WIDE // 2):
            stop = min(width, start + _WIDE // 2)
            left = max(0, start - side)
            seen = np.s_[:, left : stop + side]
            part = self.restore(indices[seen], lost[seen], size, codebook, rounds)
            out[:, start:stop] = part[:, start - left : stop - left]
        return out

    def probabilities(
        self, indices: NDArray[np.integer[Any]], missing: NDArray[np.bool_], size: int
    ) -> Iterator[Floats]:
        """The probabilities of words (n, size) of all missing cells, from the top of the map to its end, in parts.

        Memory is bounded by the width of the map, not by its height.
        """
        (h, w), side = indices.shape, self.config.window
        tops, lefts = _starts(h, side), _starts(w, side)
        seen = np.outer(_covers(tops, h, side), _covers(lefts, w, side))[missing].astype(np.float32)
        cells = np.flatnonzero(missing)
        number = np.cumsum(missing).reshape(h, w) - 1
        first, sums = 0, np.zeros((0, size), np.float32)
        for top, following in each(list(zip(tops, [*tops[1:], h], strict=True)), "band of lost indices", 0.0, 0.1):
            end = int(np.searchsorted(cells, min(top + side, h) * w))
            sums = np.concatenate([sums, np.zeros((end - first - len(sums), size), np.float32)])
            used = [left for left in lefts if missing[top : top + side, left : left + side].any()]
            for k in range(0, len(used), _WINDOWS):
                corners = [(top, left) for left in used[k : k + _WINDOWS]]
                for (_, left), logits in zip(corners, self._windows(indices, missing, corners, size), strict=True):
                    window = (slice(top, top + side), slice(left, left + side))
                    sums[number[window][missing[window]] - first] += logits
            done = int(np.searchsorted(cells, following * w))
            yield _softmax(sums[: done - first] / seen[first:done, None])
            sums, first = sums[done - first :], done

    def _chosen(
        self, indices: NDArray[np.int32], missing: NDArray[np.bool_], size: int, vectors: Floats | None
    ) -> Iterator[tuple[NDArray[np.intp], Floats]]:
        """The words of missing cells, and how probable the likeliest of each is."""
        for chances in self.probabilities(indices, missing, size):
            scores = chances
            if vectors is not None:
                weights = chances**SHARPNESS
                weights /= weights.sum(1, keepdims=True)
                scores = (weights @ vectors) @ vectors.T - np.float32(0.5) * np.square(vectors).sum(1)
            yield scores.argmax(1), chances.max(1, initial=0)

    def _windows(
        self, indices: NDArray[np.integer[Any]], missing: NDArray[np.bool_], corners: list[tuple[int, int]], size: int
    ) -> Iterator[Floats]:
        """The logits (n, size) of the n missing cells of each window, whose corners are (top, left)."""
        side, first = self.config.window, self.config.first_row(size)
        tokens = np.full((len(corners), side, side), first + size)
        inside, asked = np.zeros(tokens.shape, bool), np.zeros(tokens.shape, bool)
        for k, (top, left) in enumerate(corners):
            part = (slice(top, top + side), slice(left, left + side))
            lost = missing[part]
            place = (k, *(slice(0, n) for n in lost.shape))
            tokens[place] = first + np.where(lost, size, indices[part])
            inside[place], asked[place] = True, lost
        flat = (len(corners), side * side)
        hidden = self.hidden(tokens.reshape(flat), inside.reshape(flat))
        table, bias = (self._arrays[name][first : first + size] for name in ("table", "bias"))
        bonus = self._arrays["bonus"][self.config.codebooks.index(size)]
        for states, cells, words in zip(hidden, asked, tokens - first, strict=True):
            at = states[cells.ravel()]
            logits = at @ table.T + bias
            weights = at @ self._arrays["copy"].T + bonus
            around = np.pad(words, REACH, constant_values=size)
            y, x = np.nonzero(cells)
            for k, (dy, dx) in enumerate(np.ndindex(2 * REACH + 1, 2 * REACH + 1)):
                near = around[y + dy, x + dx]
                known = np.flatnonzero(near < size)
                logits[known, near[known]] += weights[known, k]
            yield logits

    def hidden(self, tokens: NDArray[np.integer[Any]], inside: NDArray[np.bool_]) -> Floats:
        """The network: rows of the table (B, cells) to states (B, cells, width). inside: cells that aren't padding."""
        a, heads, width = self._arrays, self.config.heads, self.config.width
        x = a["table"][tokens] * np.float32(math.sqrt(width)) + a["places"]
        shut = None if inside.all() else np.where(inside, 0, -np.inf).astype(np.float32)[:, None, None, :]
        batch, cells = tokens.shape
        for k in range(self.config.layers):
            layer = f"layers.{k}."
            qkv = self._linear(self._normal(x, layer + "first"), layer + "qkv")
            q, key, value = qkv.reshape(batch, cells, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
            scores = (q * np.float32((width // heads) ** -0.5)) @ key.transpose(0, 1, 3, 2)
            scores += self._near[k]
            if shut is not None:
                scores += shut
            mixed = _softmax(scores) @ value
            x += self._linear(mixed.transpose(0, 2, 1, 3).reshape(x.shape), layer + "out")
            up = self._linear(self._normal(x, layer + "second"), layer + "up")
            x += self._linear(_gelu(up), layer + "down")
        return self._normal(x, "norm")

    def _linear(self, x: Floats, name: str) -> Floats:
        y = x.reshape(-1, x.shape[-1]) @ self._arrays[f"{name}.weight"].T
        y += self._arrays[f"{name}.bias"]
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def _normal(self, x: Floats, name: str) -> Floats:
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(NORM_EPSILON))
        return x * self._arrays[f"{name}.weight"] + self._arrays[f"{name}.bias"]


def _softmax(x: Floats) -> Floats:
    """The softmax of the last axis."""
    x = x - x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)
    return x


def _gelu(x: Floats) -> Floats:
    """The tanh form of GELU."""
    y = x * x
    y *= np.float32(0.044715)
    y += np.float32(1)
    y *= x
    y *= np.float32(math.sqrt(2 / math.pi))
    np.tanh(y, out=y)
    y += np.float32(1)
    y *= x
    y *= np.float32(0.5)
    return y


def _starts(length: int, side: int) -> list[int]:
    """The first cells of the windows along an axis: they overlap by half, and the last ends where the map does."""
    if length <= side:
        return [0]
    return [*range(0, length - side, max(1, side // 2)), length - side]


def _covers(starts: list[int], length: int, side: int) -> NDArray[np.int64]:
    """The number of windows that hold each cell of an axis."""
    counts = np.zeros(length, np.int64)
    for start in starts:
        counts[start : start + side] += 1
    return counts


# ---- weights


def metadata(config: RestoreConfig, tag: str, codec_id: bytes) -> dict[str, str]:
    """The text map of a weights file. codec_id: of the codec's weights whose indices these restore."""
    about = {"config": asdict(config), "tag": tag}
    return {"codec": COMPANION, COMPANION: json.dumps(about, sort_keys=True), _OF: codec_id.hex()}


def restorer_of(codec_id: bytes, folder: Path | None = None) -> Restorer | None:
    """The restorer that ships for weights of the codec; None where there is none. folder: where manifests lie."""
    for manifest in manifests(COMPANION, folder):
        if not manifest.retired and manifest.metrics.get(_OF) == codec_id.hex():
            return read_restorer(load_tensors(manifest.path, manifest.sha256), codec_id)
    return None


def read_restorer(weights: LoadedWeights, codec_id: bytes) -> Restorer:
    """The restorer of a weights file. WeightsError if it holds anything else, or is for other weights of the codec."""
    with reading(COMPANION, _REMEDY):
        about = about_of(weights, COMPANION)
        if weights.metadata.get(_OF) != codec_id.hex():
            raise WeightsError(
                f"these weights restore indices of {weights.metadata.get(_OF)!r:.80}, not of {codec_id.hex()}"
            )
        config = config_of(RestoreConfig, about.get("config"), {})
        check_shapes(tensor_shapes(config), weights.arrays)
        check_numbers(weights.arrays)
        return Restorer(config, weights.arrays)
