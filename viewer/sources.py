"""Sources of the viewer: files of ours whose codec plays frames, and files of Gaussians that others made."""

from __future__ import annotations

import os

from ..codecs.base.codec import codec_for
from ..codecs.base.codec import opened as probed
from ..errors import UsageError
from ..files import PathLike, is_stream
from .frames import Playable

__all__ = ["opened"]


def opened(path: PathLike) -> Playable:
    """The frames of a file of ours, of a file of Gaussians or of a folder of them. CodecError if it can't be shown."""
    if is_stream(path):
        raise UsageError(
            f"{os.fspath(path)}: the viewer goes back and forth in a file, which a stream can't: name a file"
        )
    if not os.path.isdir(path):
        probe = probed(path)
        if probe.ours:
            header = probe.require_header()
            open_frames = getattr(codec_for(header), "open_frames", None)
            if open_frames is None:
                raise UsageError(f"{os.fspath(path)}: made by {header.codec}, which has no Gaussians to show")
            return open_frames(path)
    from ..media.gaussians.sources import open_source

    return open_source(path)
