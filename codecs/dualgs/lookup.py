"""Look-up tables as pictures: a row for each Gaussian, a column for each frame of a segment.

Jiang et al. 2024, section 4: opacities and scales of a segment are tables, whose rows are sorted so that neighbours are
alike, and an image codec codes them. The tables here hold what has changed since the frame before, and rows are sorted
by the base frame, so that no order is stored. The image codec is lossless WebP.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, StreamError
from ...media.webp import decode_webp, encode_webp

__all__ = ["decode_lookup", "encode_lookup"]

_ROWS = 4096  # of a picture; further ones stand beside them


def _shape(n: int, width: int) -> tuple[int, int]:
    blocks = -(-n // _ROWS)
    return min(n, _ROWS), blocks * width


def encode_lookup(tracks: NDArray[np.int32], rows: NDArray[np.int64]) -> bytes:
    """The picture of tracks (T, N, c). rows: the order of the Gaussians. b"" where changes don't fit 8 bits, or sides
    those of a WebP.
    """
    n_frames, n, width = tracks.shape
    change = np.diff(tracks, axis=0, prepend=np.zeros((1, n, width), np.int32))
    height, across = _shape(n, n_frames * width)
    if int(np.abs(change).max(initial=0)) > 127 or across > 16383:
        return b""
    table = (change + 128).astype(np.uint8)[:, rows].transpose(1, 2, 0).reshape(n, -1)  # (N, c * T)
    padded = np.full((-(-n // height) * height, table.shape[1]), 128, np.uint8)
    padded[:n] = table
    picture = padded.reshape(-1, height, table.shape[1]).transpose(1, 0, 2).reshape(height, across)
    return encode_webp(np.ascontiguousarray(picture), method=6, effort=100)


def decode_lookup(data: bytes, n_frames: int, rows: NDArray[np.int64], width: int) -> NDArray[np.int32]:
    """The tracks (T, N, width) of a picture. StreamError for a damaged one."""
    n = len(rows)
    height, across = _shape(n, n_frames * width)
    try:
        picture = decode_webp(data, height, across)[:, :, 1]
    except MediaError as error:
        raise StreamError(f"the picture of a look-up table is damaged: {error}") from None
    table = picture.reshape(height, -1, n_frames * width).transpose(1, 0, 2).reshape(-1, width, n_frames)[:n]
    change = np.empty((n_frames, n, width), np.int32)
    change[:, rows] = table.transpose(2, 0, 1).astype(np.int32) - 128
    return np.cumsum(change, axis=0, dtype=np.int32)
