"""The network `paper` as the codec uses it: weights files, read strictly, pictures to index maps and back, in torch.

Mao et al., "Extreme image compression using fine-tuned VQGANs", DCC 2024, arXiv 2307.08265. The network: paper.py.
Indices are coded exactly, but pixels come of float32: another machine or version of torch may give others, by a level.
Attention and group norms see the whole picture, so that it can't be cut into tiles, and its size is bounded.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import MediaError, StreamError, WeightsError
from ..base.weights import LoadedWeights
from ..layers.exact_network import no_random_start
from ..layers.frozen import check_numbers
from ..layers.inference import own_arithmetic
from .indices import PREFIX, Models
from .paper import VqganPaperNet, network_of
from .restore import Restorer, restorer_of

__all__ = ["MOST_PIXELS", "VqganPaperModel", "paper_model"]

MOST_PIXELS = 1 << 22  # of a picture: some 2500 bytes a pixel are in memory together, 10 GiB


@dataclass(frozen=True, eq=False)
class VqganPaperModel:
    """The content of a weights file, with the methods of `VqganModel` that a codec calls (weights.py).

    index: the arrays of the index coders.
    """

    net: VqganPaperNet = field(repr=False)
    tag: str
    id: bytes
    index: Mapping[str, NDArray[Any]] = field(repr=False)
    device: str = "cpu"

    arithmetic = "float32"  # the arithmetic that decides on pixels, as headers name it

    @property
    def codebooks(self) -> tuple[int, ...]:
        """The sizes of the codebooks, rising."""
        return tuple(sorted(self.net.config.words))

    def codewords(self, size: int) -> NDArray[Any]:
        """The words of a codebook, (size, code) float32."""
        return self.net.book(size).codewords().numpy(force=True)

    @functools.cached_property
    def models(self) -> Models:
        """The models of the index coders, each made when it is needed."""
        return Models(self.index)

    @functools.cached_property
    def restorer(self) -> Restorer | None:
        """The transformer that restores lost indices of these weights; None if none ships for them."""
        return restorer_of(self.id)

    @property
    def networks(self) -> VqganPaperModel:
        """The model itself turns pictures to index maps and back."""
        return self

    @own_arithmetic
    def indices(self, pixels: NDArray[Any], size: int) -> NDArray[np.int32]:
        """The index map (h, w) of a picture (H, W, 3) uint8 or uint16, for the codebook of so many words.

        MediaError for a picture that is too large.
        """
        height, width = pixels.shape[:2]
        if height * width > MOST_PIXELS:
            raise MediaError(f"{_too_large(height, width)}: make it smaller, or take weights of the network `small`")
        x = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)).to(self.device)[None]
        index = self.net.encode(x * (1.0 / float(np.iinfo(pixels.dtype).max)), size)
        return index[0].to(torch.int32).cpu().numpy()

    @own_arithmetic
    def pixels(self, indices: NDArray[Any], size: int, height: int, width: int, dtype: Any) -> NDArray[Any]:
        """The picture (height, width, 3) of an index map (h, w). StreamError for one that is too large."""
        if height * width > MOST_PIXELS:
            raise StreamError(_too_large(height, width))
        largest = float(np.iinfo(dtype).max)
        index = torch.from_numpy(indices.astype(np.int64)).to(self.device)[None]
        x = self.net.decode(index, (height, width), size)[0].nan_to_num(0.0)
        x = torch.floor(x * largest + 0.5).permute(1, 2, 0).to(torch.int32)
        return x.cpu().numpy().astype(dtype)


def _too_large(height: int, width: int) -> str:
    return f"a picture of {width}x{height}: the network `paper` takes up to {MOST_PIXELS} pixels, since it has no tiles"


@torch.inference_mode(False)  # what is built may be asked for gradients, wherever it was loaded
def paper_model(weights: LoadedWeights, device: str = "cpu") -> VqganPaperModel:
    """The model of a weights file, ready to decode. WeightsError if it holds anything else, or other sizes of books."""
    check_numbers(weights.arrays)
    tensors = dict(weights.tensors)
    index = {name: np.asarray(weights.arrays[name]) for name in list(tensors) if name.startswith(PREFIX)}
    for name in index:
        del tensors[name]
    if wrong := next((name for name, tensor in tensors.items() if not tensor.is_floating_point()), None):
        raise WeightsError(f"{wrong} in the weights isn't of floats")
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), no_random_start():
        net = network_of(weights.metadata, tensors).float()
    sizes = sorted(net.config.words)
    if any(size < 2 or size & (size - 1) for size in sizes):
        raise WeightsError(f"codebooks of {sizes!r:.80} words; files can name powers of two from 2 to 65536")
    net.requires_grad_(False)
    return VqganPaperModel(net.eval().to(device), _tag_of(weights.metadata), weights.id, index, device)


def _tag_of(metadata: Mapping[str, str]) -> str:
    tag = json.loads(metadata["vqgan"]).get("tag")
    if not isinstance(tag, str):
        raise WeightsError(f"the tag of these weights is {tag!r:.80}; expected a text")
    return tag
