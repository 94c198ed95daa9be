"""Codebook shrinking: a large codebook becomes small ones, by K-means. Mao et al., arXiv 2307.08265.

The paper clusters the rows of the codebook, all alike. That spends words on rows that no picture uses: here rows may
also count as often as pictures use them, or the encoder's outputs are clustered in their place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from ...codecs.vqgan.paper import VqganPaperNet
from ...codecs.vqgan.quantiser import kmeans, nearest
from ...errors import UsageError

__all__ = ["How", "outputs_of", "shrink_into", "shrunk"]

How = Literal["rows", "usage", "outputs"]


@torch.no_grad()
def outputs_of(net: VqganPaperNet, batches: Iterable[Tensor], words: int = 0) -> Tensor:
    """Collects what is quantised, (n, code) float32, of batches of pictures (B, 3, H, W) in [0, 1]."""
    rows = [net.vectors(x, words).movedim(1, -1).flatten(0, 2).float() for x in batches]
    if not rows:
        raise UsageError("no pictures to shrink a codebook by: raise `initial_crops`")
    return torch.cat(rows)


def shrunk(codebook: Tensor, words: int, how: How = "outputs", outputs: Tensor | None = None, seed: int = 0) -> Tensor:
    """Returns `words` codewords (words, C) in place of a codebook (N, C).

    how: what is clustered: "rows" of the codebook, as the paper; the rows as often as outputs take them ("usage"); the
    "outputs" (n, C) of the encoder. UsageError if those are fewer than words.
    """
    weights: Tensor | None = None
    vectors = codebook
    if how != "rows":
        assert outputs is not None
        if how == "usage":
            weights = torch.bincount(nearest(outputs, codebook), minlength=len(codebook)).float()
        else:
            vectors = outputs
    try:
        return kmeans(vectors, words, weights, seed=seed).centroids
    except ValueError as error:
        raise UsageError(f'{error}: shrink by "rows", to fewer words, or by more pictures (`initial_crops`)') from None


@torch.no_grad()
def shrink_into(net: VqganPaperNet, large: VqganPaperNet, how: How, outputs: Tensor | None, seed: int = 0) -> None:
    """Fills a network with another's encoder, decoder and 1x1 convolutions, and its codebooks with shrunk ones."""
    source = large.book()
    codebook = source.vectors.codebook.detach()
    for part in ("encoder", "decoder"):
        getattr(net, part).load_state_dict(getattr(large, part).state_dict())
    for words in net.config.words:
        book = net.book(words)
        book.quant_conv.load_state_dict(source.quant_conv.state_dict())
        book.post_quant_conv.load_state_dict(source.post_quant_conv.state_dict())
        book.vectors.fill(shrunk(codebook, words, how, outputs, seed))
