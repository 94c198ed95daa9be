"""Sources of the viewer: files of ours whose codec plays frames, and files of Gaussians that others made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ..codecs.base.codec import codec_for
from ..codecs.base.codec import opened as probed
from ..errors import UsageError
from ..files import PathLike, is_stream
from .frames import Playable

__all__ = ["opened"]


@contextlib.contextmanager
def opened(path: PathLike) -> Iterator[Playable]:
    """The frames of a file of ours, of a file of Gaussians or of a folder of them. CodecError if it can't be shown."""
    name = os.fspath(path)
    if is_stream(path):
        raise UsageError(f"{name}: the viewer goes back and forth in a file, which a stream can't: name a file")
    if not os.path.isdir(path):
        probe = probed(path)
        if probe.ours:
            header = probe.require_header()
            open_frames = getattr(codec_for(header), "open_frames", None)
            if open_frames is None:
                raise UsageError(f"{name}: made by {header.codec}, which has no Gaussians to show")
            with open_frames(name) as frames:
                yield frames
            return
    from ..media.gaussians.sources import open_source

    yield open_source(path)
