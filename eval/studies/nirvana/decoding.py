"""The speed at which the video codec `nirvana` decodes: frames a processor second, one thread.

    OMP_NUM_THREADS=1 python -P -m codec.eval.studies.nirvana.decoding CLIP.nirvana... [--repeat 3] [--out FILE.json]

Processor seconds, because other work on the machine must not count; the best of some rounds after one that warms up,
in which the files take turns. Frames are decoded as by `codec decode`, but not written. The digest tells whether two
versions gave the same frames.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....codecs.base.video.stream import VideoFile
from ....codecs.nirvana.codec import NirvanaCodec
from ...output import write_file

__all__ = ["decode", "main"]


def decode(path: Path, digest: Any = None) -> tuple[VideoFile, float]:
    """The file and the processor seconds of decoding all of it. digest: gets all samples, outside the clock."""
    seconds = 0.0
    with path.open("rb") as file:
        video = VideoFile(file, NirvanaCodec.presets())
        frames = video.frames()
        while True:
            began = time.process_time()
            frame = next(frames, None)
            seconds += time.process_time() - began
            if frame is None:
                return video, seconds
            if digest is not None:
                for plane in frame.planes:
                    digest.update(plane.tobytes())


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description="Frames of nirvana files that are decoded in a processor second.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for path in options.files:
        digest = hashlib.sha256()
        video, _ = decode(path, digest)
        size = f"{video.info.width}x{video.info.height}"
        rows.append(
            {"file": path.name, "n_bytes": path.stat().st_size, "frames": video.n_frames, "size": size}
            | {"sha256": digest.hexdigest(), "cpu_s": float("inf")}
        )
    for _ in range(options.repeat):
        for row, path in zip(rows, options.files, strict=True):
            row["cpu_s"] = min(row["cpu_s"], round(decode(path)[1], 4))
    for row in rows:
        row["frames_per_cpu_s"] = round(row["frames"] / row["cpu_s"], 1)
        print(f"{row['file']}: {row['frames_per_cpu_s']} frames/s of {row['size']}", file=sys.stderr)
    if options.out is not None:
        about = {"python": platform.python_version(), "torch": torch.__version__, "repeat": options.repeat}
        write_file(options.out, json.dumps({**about, "files": rows}, indent=1) + "\n")
    return rows


if __name__ == "__main__":
    main()
