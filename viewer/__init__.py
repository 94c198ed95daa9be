"""The viewer: a page on this machine that plays Gaussians, scenes and sequences, in a browser. See docs/viewer.md.

    with opened("clip.dualgs") as source, Viewer(source) as viewer:
        print(viewer.address)
        viewer.serve()                                 # until Ctrl-C

A source is any object with n_frames, count, fps and frame(i) -> Gaussians.

`frames` packs Gaussians for the page, `server` serves them, `bundle` fetches the renderer that the page needs (Spark
and three.js), `sources` opens files, `page/` is the page. May import the codecs' base, media and files, and no family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if "." not in __name__:
    raise ImportError(f"`{__name__}` is here a folder of a codec-suite checkout: use codec.{__name__}, or python -P")

if TYPE_CHECKING:
    from .server import Viewer as Viewer
    from .sources import opened as opened

__all__ = ["Viewer", "opened"]


def __getattr__(name: str) -> Any:
    if name == "Viewer":
        from .server import Viewer

        return Viewer
    if name == "opened":
        from .sources import opened

        return opened
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
