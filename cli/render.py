"""`codec render`: look at what a file of three dimensions holds, as pictures and films."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import media
from ..codecs.base import settings
from ..errors import UsageError
from ..files import name_of
from .coding import Model, add_limits, check_weights, decoder, limits_of
from .options import count, positive, typed
from .parser import add_model
from .terminal import json_line, progress, say

if TYPE_CHECKING:
    from ..codecs.layers.splatting.films import FrameSource, Shot

EXAMPLES = """\
examples:
  codec render scene.ply -o view.png
  codec render clip.dualgs --camera orbit -o turntable.mp4
  codec render frames --frame 12 --camera transforms.json -o views
"""
INTERRUPTED = "nothing was written"


def _size(text: str) -> tuple[int, int]:
    """Width and height, as 800x600."""
    match = re.fullmatch(r"(\d{1,5})[x,](\d{1,5})", text.lower())
    if match is None or not int(match[1]) or not int(match[2]):
        raise ValueError(text)
    return int(match[1]), int(match[2])


def _angle(text: str) -> float:
    """Degrees, -90 to 90."""
    value = float(text)
    if not -90 <= value <= 90:
        raise ValueError(text)
    return value


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", metavar="IN", help="a file, a folder with a file for each frame, or - for stdin")
    words = "picture, film, or folder of pictures: its suffix says which"
    add("-o", "--output", required=True, metavar="OUT", help=words)
    add("--force", action="store_true", help="replace OUT, if it is a file")
    words = "front, orbit, or a transforms.json (default: front; of a film orbit)"
    add("--camera", metavar="C", help=words)
    add("--view", type=count, metavar="N", help="only this camera of the transforms.json, counted from 0")
    add("--size", type=typed(_size, "size"), metavar="WxH", help="in pixels (default 800x600, or as the cameras)")
    add("--frame", type=count, metavar="N", help="only this frame of a sequence, counted from 0")
    add("--fps", type=typed(settings.rate_of_frames, "rate"), metavar="N", help="pictures a second (default: IN's, 25)")
    add("--seconds", type=positive, metavar="S", help="length of the film (default: that of the sequence, or 5)")
    add("--background", default="white", metavar="C", help="white (default), black, grey, or #rrggbb")
    words = "axis that points up: y, z, minus-y or minus-z (default: minus-y for a scene, y for a sequence)"
    add("--up", choices=("y", "z", "minus-y", "minus-z"), metavar="A", help=words)
    add("--zoom", type=positive, default=1.0, metavar="X", help="2: twice as large")
    words = "degrees that the camera is above the subject (default 10)"
    add("--elevation", type=typed(_angle, "angle"), default=10.0, metavar="D", help=words)
    add("--encoder", metavar="E", help="of FFmpeg, with its options: libx264:crf=18,preset=slow")
    add_model(parser)
    add_limits(parser)


def run(args: argparse.Namespace) -> int:
    from ..codecs.layers.splatting import films

    started = time.perf_counter()
    shot = _shot(args)
    check_weights(args.weights)
    with (
        _opened(args) as source,
        progress(f"codec render: {name_of(args.input)}", wanted=not (args.quiet or args.json), total=1) as bar,
    ):

        def report(fraction: float, words: str) -> None:
            bar.update(fraction, 1, words)

        facts = films.render_file(source, args.output, shot, report, args.force)
    seconds = time.perf_counter() - started
    if args.json:
        say(sys.stdout, json_line({"input": args.input, "output": args.output, **facts, "seconds": seconds}))
    elif not args.quiet:
        say(sys.stderr, _words(args.output, facts, seconds))
    return 0


def _shot(args: argparse.Namespace) -> Shot:
    from ..codecs.layers.splatting import films

    try:
        background = films.colour_of(args.background)
    except ValueError:
        raise UsageError(f"--background {args.background}: expected white, black, grey or #rrggbb") from None
    return films.Shot(
        camera=args.camera,
        view=args.view,
        frame=args.frame,
        size=args.size,
        background=background,
        fps=args.fps,
        seconds=args.seconds,
        up=films.UPS[args.up] if args.up else None,
        zoom=args.zoom,
        elevation=args.elevation,
        encoder=args.encoder,
    )


@contextlib.contextmanager
def _opened(args: argparse.Namespace) -> Iterator[FrameSource]:
    """The frames of an input: of a file of ours by its codec, of any other by the readers of the medium."""
    from ..codecs.base.codec import opened
    from ..media.gaussians.sources import open_source

    about = media.probe(args.input)
    if not about.ours:
        yield open_source(args.input)
        return
    about = opened(args.input)
    codec: Any = decoder(about.require_header(), Model(args.weights, args.device), limits_of(args))
    if not hasattr(codec, "open_frames"):
        name = name_of(args.input)
        raise UsageError(f"{name} is a file of {codec.name}, of which nothing can be rendered: decode it")
    with codec.open_frames(about.source if about.data is None else about.data) as frames:
        yield frames


def _words(output: str, facts: dict[str, Any], seconds: float) -> str:
    counted = "1 picture" if facts["pictures"] == 1 else f"{facts['pictures']} pictures"
    rate = f" at {facts['fps']:g} a second" if "fps" in facts else ""
    notes = "".join(f"; {note}" for note in facts.get("notes", ()))
    return f"{output}: {counted} of {facts['width']}x{facts['height']}{rate}, {seconds:.1f} s{notes}"
