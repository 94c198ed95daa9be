"""Latents as a lossless WebP picture (the paper; section 6 of the authors' package)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, StreamError, UsageError
from ...media.webp import decode_webp, encode_webp
from .config import WallocConfig

__all__ = ["WEBP_SIDE", "latents_from_webp", "webp_from_latents", "webp_tiling"]

WEBP_SIDE = 16383


def webp_tiling(config: WallocConfig) -> tuple[int, int]:
    """The tiling (planes, n): latent = planes * n**2, with 3 planes (RGB) or 1 (grey)."""
    for planes in (3, 1):
        n = round((config.latent / planes) ** 0.5)
        if n * n * planes == config.latent:
            return planes, n
    raise UsageError(f"{config.latent} latent channels can't be tiled into a picture: they must be 3 n^2 or n^2")


def webp_from_latents(latents: NDArray[np.int16], config: WallocConfig) -> bytes:
    """The latents (latent, h, w) as a lossless WebP: channel (plane, i, j) is the tile (i, j) of its plane."""
    planes, n = webp_tiling(config)
    _, h, w = latents.shape
    if max(n * h, n * w) > WEBP_SIDE:
        raise MediaError(
            f"the latents of this picture make a WebP of {n * w}x{n * h}, over its limit of {WEBP_SIDE}: "
            "use another coder"
        )
    tiled = (latents + 2 ** (config.latent_bits - 1)).astype(np.uint8).reshape(planes, n, n, h, w)
    tiled = tiled.transpose(1, 3, 2, 4, 0).reshape(n * h, n * w, planes)
    return encode_webp(tiled if planes == 3 else tiled[:, :, 0])


def latents_from_webp(payload: bytes, config: WallocConfig, h: int, w: int) -> NDArray[np.int16]:
    """The inverse of `webp_from_latents`; StreamError unless the picture is what the header says."""
    planes, n = webp_tiling(config)
    try:
        tiled = decode_webp(payload, n * h, n * w)[:, :, :planes]
    except MediaError as error:
        raise StreamError(f"the WebP picture that holds the latents is damaged: {error}") from None
    values = tiled.reshape(n, h, n, w, planes).transpose(4, 0, 2, 1, 3).reshape(config.latent, h, w).astype(np.int16)
    values -= 2 ** (config.latent_bits - 1)
    if np.abs(values).max(initial=0) > 2 ** (config.latent_bits - 1) - 1:
        raise StreamError("a latent is out of range: the stream is damaged")
    return values
