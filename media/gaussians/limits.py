"""The most that a file of Gaussians may ask for, checked before memory is taken.

Attributes are never compressed more than some tens of times, so that a small file which claims millions of Gaussians is
damaged or hostile. May import errors.
"""

from __future__ import annotations

from ...errors import MediaError

__all__ = ["MAX_GAUSSIANS", "check_count"]

MAX_GAUSSIANS = 1 << 24  # of a frame
_FREE = 1 << 22  # bytes that any file may be unpacked to
_RATIO = 100  # times that it may be larger otherwise


def check_count(n: int, bytes_each: int, n_bytes: int, packed: bool) -> None:
    """MediaError if a file of `n_bytes` can't hold n Gaussians of so many bytes each.

    packed: whether they are compressed in it, so that they may take less.
    """
    if n < 1:
        raise MediaError("no Gaussians are in it; expected at least 1")
    if n > MAX_GAUSSIANS:
        raise MediaError(f"{n} Gaussians; expected at most {MAX_GAUSSIANS}: split the scene")
    most = max(_FREE, _RATIO * n_bytes) if packed else n_bytes
    if n * bytes_each > most:
        raise MediaError(f"damaged: {n} Gaussians of {bytes_each} bytes can't be in a file of {n_bytes} bytes")
