"""`codec view`: a page on this machine that plays a file in the browser."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .options import count
from .terminal import json_line, say

if TYPE_CHECKING:
    from ..viewer import Viewer

EXAMPLES = """\
examples:
  codec view clip.dualgs --open                frames play in the browser; Ctrl-C ends it
  codec view scene.ply --background black      .ply, .splat, .spz, .sog, or a folder of frames
  codec view --setup                           once: fetch the renderer of the page, with npm
"""
BACKGROUNDS = ("white", "black")
UPS = ("y-down", "y", "z")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", nargs="?", metavar="IN", help="a file to play, or a folder of frames")
    add("--port", type=count, default=0, metavar="N", help="port of the page (default: one that is free)")
    add("--open", action="store_true", help="open the page in the browser")
    add("--background", choices=BACKGROUNDS, default="white", help="colour behind it (default white)")
    add("--up", choices=UPS, help="axis that is up (default: what the file says, else y-down)")
    add("--setup", action="store_true", help="fetch Spark and three.js, which the page needs, in pinned versions")


def run(args: argparse.Namespace) -> int:
    from ..viewer import bundle

    if args.setup:
        folder = bundle.fetch()
        if not args.quiet:
            say(sys.stderr, f"{folder}: Spark and three.js are here")
    if args.input is None:
        if args.setup:
            return 0
        raise UsageError("name a file to play, or --setup")
    bundle.find()  # before a large file is opened
    from ..viewer import Viewer, opened

    with opened(args.input) as source:
        viewer = Viewer(
            source,
            name=Path(os.path.abspath(args.input)).name,
            n_bytes=_size(args.input),
            port=args.port,
            background=args.background,
            up=args.up,
        )
        with viewer:
            return _serve(viewer, args)


def _serve(viewer: Viewer, args: argparse.Namespace) -> int:
    print(json_line({"input": args.input, "address": viewer.address}) if args.json else viewer.address, flush=True)
    if not (args.quiet or args.json):
        say(sys.stderr, "Ctrl-C ends it")
    if args.open:
        import webbrowser

        webbrowser.open(viewer.address)
    try:
        viewer.serve()
    except KeyboardInterrupt as end:
        if hasattr(end, "number"):  # another signal than Ctrl-C, which is how a viewer ends
            raise
    return 0


def _size(path: str) -> int:
    """Bytes of a file, or of the files of a folder and the folders in it."""
    if os.path.isdir(path):
        return sum(item.stat().st_size for item in Path(path).rglob("*") if item.is_file())
    return os.path.getsize(path)
