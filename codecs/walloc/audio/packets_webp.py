"""Latents of sound as a lossless WebP picture (the paper; section 6 of the authors' package).

Frames run down the columns of a picture of 128 (or 256) rows for each latent, zeros behind the last frame; the pictures
are tiled into the planes of one, as those of photographs are (`walloc/webp.py`). Latents of more than eight bits are
two digits to the base 255, from -127 to 127: the low digits above, the high ones, which are mostly zero, below.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....errors import MediaError, StreamError, UsageError
from ..config import WallocConfig, largest_latent
from ..webp import WEBP_SIDE, latents_from_webp, webp_from_latents, webp_tiling
from .packets import PacketConfig

__all__ = ["packets_from_webp", "webp_from_packets"]

BASE = 255
ROWS = (128, 256)


def _digits(config: PacketConfig) -> int:
    """The digits to a latent."""
    return 1 if config.latent_bits <= 8 else 2


def _columns(frames: int, rows: int) -> int:
    """The columns that frames fill. UsageError unless a column has one of the paper's numbers of rows."""
    if rows not in ROWS:
        raise UsageError(f"{rows} rows to a column of latents; expected {' or '.join(map(str, ROWS))}")
    return -(-frames // rows)


def _picture_config(config: PacketConfig) -> WallocConfig:
    return WallocConfig(latent=config.latent, latent_bits=8)


def webp_from_packets(latents: NDArray[np.int16], config: PacketConfig, rows: int = 128) -> bytes:
    """The latents (latent, T), T > 0, as a lossless WebP. `latent` must be 3 n^2 or n^2.

    rows: frames to a column. MediaError if the picture would be too large for WebP: about 20 minutes of sound.
    """
    columns = _columns(latents.shape[1], rows)
    _, n = webp_tiling(_picture_config(config))
    if n * columns > WEBP_SIDE:
        most = WEBP_SIDE // n * rows * config.frame / config.rate
        raise MediaError(
            f"the latents of this sound make a WebP {n * columns} pixels wide, over its limit of {WEBP_SIDE}: use "
            f"another coder, or cut it into parts of {most:.0f} seconds"
        )
    padded = np.pad(latents.astype(np.int16), ((0, 0), (0, columns * rows - latents.shape[1])))
    folded = padded.reshape(config.latent, columns, rows).transpose(0, 2, 1)
    if _digits(config) == 2:
        low = (folded + BASE // 2) % BASE - BASE // 2
        folded = np.concatenate([low, (folded - low) // BASE], 1)
    return webp_from_latents(folded, _picture_config(config))


def packets_from_webp(payload: bytes, config: PacketConfig, frames: int, rows: int = 128) -> NDArray[np.int16]:
    """The inverse of `webp_from_packets`, (latent, frames); StreamError unless the picture is what it would write."""
    columns = _columns(frames, rows)
    folded = latents_from_webp(payload, _picture_config(config), rows * _digits(config), columns)
    if _digits(config) == 2:
        folded = folded[:, :rows] + BASE * folded[:, rows:]
    if np.abs(folded).max(initial=0) > largest_latent(config.latent_bits):
        raise StreamError("a latent is out of range: the stream is damaged")
    latents = folded.transpose(0, 2, 1).reshape(config.latent, columns * rows)
    if latents[:, frames:].any():
        raise StreamError("the WebP picture that holds the latents has some behind the last frame: it is damaged")
    return np.ascontiguousarray(latents[:, :frames])
