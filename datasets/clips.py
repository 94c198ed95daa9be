"""Excerpts of the videos at hand, without loss, for measuring: a part of the frames, and of each frame.

    python -P -m codec.datasets.clips --out data/nirvana             # those of `make nirvana`
    python -P -m codec.datasets.clips --data DIR --out data/speed-video --only bottle-352x288

Planes are copied as they are decoded (no conversion, no resampling) into FFV1 in Matroska, so that every codec is given
the same samples. Places are even: chroma of 4:2:0 is cut where luma is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import MediaError, UsageError
from ..media.video.reader import open_video
from ..media.video.values import Frame
from ..media.video.writer import VideoWriter
from .places import find_data

__all__ = ["CLIPS", "Clip", "excerpt", "write"]


@dataclass(frozen=True)
class Clip:
    """An excerpt of a video. source: its path below the folder of videos. start, stop: frames.

    box: left, top, width, height in pixels; None: all of the frame. about: what it is, and whether the networks that
    nirvana's groups start from have seen any of it.
    """

    source: str
    start: int
    stop: int
    box: tuple[int, int, int, int] | None
    about: str

    @property
    def held_out(self) -> bool:
        return self.source.startswith("test/")


_SEEN = "of which the start networks have seen crops of"  # so the scripts that made what ships; no other record is left
CLIPS = {
    "bikes-384x272": Clip(
        "train/bikes.mp4",
        150,
        198,
        (128, 0, 384, 272),
        f"bicycles, moving camera; H.264; {_SEEN} frames 30:39 and 120:129",
    ),
    "bottle-352x288": Clip(
        "train/bottle-detection.mp4", 700, 748, (144, 36, 352, 288), f"fixed camera; H.264; {_SEEN} frames 100:109"
    ),
    "bunny-352x288": Clip(
        "train/bbb_640x360_lossless_48f.mp4",
        0,
        48,
        (144, 36, 352, 288),
        f"Big Buck Bunny, halved, lossless; {_SEEN} frames 0:9 and 20:29",
    ),
    "carphone-176x144": Clip("test/carphone_pristine.mp4", 0, 48, None, "nearly lossless H.264; held out"),
    "carphone-9f": Clip("test/carphone_pristine.mp4", 0, 9, None, "the first frames of that; held out"),
    "park_joy-480x270": Clip("test/park_joy_480x270_10f.mkv", 0, 10, None, "lossless, all there is of it; held out"),
    "bunny-1280x720": Clip(
        "train/bigbuckbunny_1280x720.mp4", 112, 120, None, f"Big Buck Bunny; H.264; {_SEEN} frames 40:49"
    ),
}


def excerpt(clip: Clip, folder: Path) -> tuple[list[Frame], str]:
    """Reads the frames of an excerpt, cropped, the first at time 0. Returns them, and in words how many, how large."""
    frames: list[Frame] = []
    with open_video(folder / clip.source) as reader:
        left, top, width, height = clip.box or (0, 0, reader.info.width, reader.info.height)
        if left % 2 or top % 2 or left + width > reader.info.width or top + height > reader.info.height:
            raise MediaError(f"{clip.source}: {clip.box} isn't at an even place inside of {reader.info.width} columns")
        for index, frame in enumerate(reader):
            if index >= clip.stop:
                break
            if index >= clip.start:
                frames.append(_cut(frame, left, top, width, height))
    if len(frames) != clip.stop - clip.start:
        raise MediaError(f"{clip.source}: frames {clip.start}:{clip.stop}, of a video that ends before")
    first = frames[0].pts
    return [replace(frame, pts=frame.pts - first) for frame in frames], f"{len(frames)} frames of {width}x{height}"


def write(clip: Clip, folder: Path, target: Path, force: bool = False) -> str:
    """Writes an excerpt to a video file. Returns the number and the size of its frames in words."""
    frames, words = excerpt(clip, folder)
    with open_video(folder / clip.source) as reader:
        height, width = frames[0].planes[0].shape[:2]
        color = {key: value for key, value in reader.info.color.items() if key != "chroma"}
        # The frames alone are measured: texts about the whole clip would only make other bytes.
        info = replace(reader.info, width=width, height=height, color=color, tags={}, track={}, chapters=())
    target.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(target, info, force=force) as writer:
        for frame in frames:
            writer.write(frame)
    return words


def _cut(frame: Frame, left: int, top: int, width: int, height: int) -> Frame:
    """A rectangle of a frame, in luma pixels; of chroma planes of half the size, what covers it."""
    planes = []
    for plane in frame.planes:
        half = 1 if plane.shape[:2] == frame.planes[0].shape[:2] else 2
        rows = slice(top // half, -(-(top + height) // half))
        planes.append(plane[rows, left // half : -(-(left + width) // half)])
    return replace(frame, planes=tuple(planes))


def _chosen(names: Sequence[str] | None) -> Iterator[tuple[str, Clip]]:
    for name in names or CLIPS:
        if name not in CLIPS:
            raise UsageError(f"no clip {name!r}: there are {', '.join(CLIPS)}")
        yield name, CLIPS[name]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of videos with train/ and test/ (default: where data lie)")
    parser.add_argument("--only", nargs="+", metavar="CLIP", help=f"some of {', '.join(CLIPS)}")
    parser.add_argument("--out", type=Path, required=True, help="folder; files that are there are left as they are")
    arguments = parser.parse_args(argv)
    folder = arguments.data or find_data("video", "videos")
    for name, clip in _chosen(arguments.only):
        target = arguments.out / f"{name}.mkv"
        if not target.exists():
            sys.stderr.write(f"{target}: {write(clip, folder, target)}; {clip.about}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
