"""Peak memory and seconds of encoding and decoding one large picture, above an interpreter with torch loaded.

    python -P -m codec.eval.memory DATA --out eval/results/walloc_memory_8k.json walloc@16x walloc@4x

The picture is a mosaic of the photographs in DATA, repeated to the asked size. Encoding and decoding run in processes
of their own; the figure is the highest resident size of the process less what it was right after `import torch`.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..datasets.images import find_pictures


def mosaic(files: Sequence[Path], width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) filled with the pictures, row by row, each cut where the next begins."""
    out = np.empty((height, width, 3), np.uint8)
    index = 0
    for top in range(0, height, 512):
        left = 0
        while left < width:
            with Image.open(files[index % len(files)]) as image:
                tile = np.asarray(image.convert("RGB"))[: min(512, height - top), : width - left]
            out[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
            if tile.shape[0] < min(512, height - top):
                out[top + tile.shape[0] : top + 512, left : left + tile.shape[1]] = 128
            left, index = left + tile.shape[1], index + 1
    return out


def child(action: str, codec: str, source: str, target: str) -> None:
    """Runs in a process of its own; prints one JSON object."""
    import torch

    before = _resident()
    from ..cli import main

    start = time.perf_counter()
    arguments = [action, source, "-o", target, "--force", "--quiet"]
    code = main([*arguments, "-c", *shlex.split(codec)] if action == "encode" else arguments)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    report = {"exit": code, "mebibytes": round((peak - before) / 2**20, 1), "seconds": round(seconds, 2)}
    print(json.dumps(report | {"threads": torch.get_num_threads()}))


def _resident() -> int:
    """Resident bytes of this process now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(codec: str, picture: Path, folder: Path) -> dict[str, object]:
    """Encodes and decodes a picture file through the command line; memory in MiB, seconds, and the file's bytes."""
    coded, back = folder / "large.codec", folder / "back.ppm"
    report: dict[str, object] = {"codec": codec}
    for action, source, target in (("encode", picture, coded), ("decode", coded, back)):
        command = [sys.executable, "-P", "-m", "codec.eval.memory", "--child", action, codec, str(source), str(target)]
        out = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if out.returncode:
            raise RuntimeError(out.stderr)
        report[action] = json.loads(out.stdout)
    return report | {"bytes": coded.stat().st_size}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="codec.eval.memory", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of pictures")
    parser.add_argument("codecs", nargs="+", help="names, such as walloc@16x, or with options of `codec encode`")
    parser.add_argument("--size", default="7680x4320", help="width x height (default 7680x4320)")
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    args = parser.parse_args(argv)
    width, height = (int(side) for side in args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "large.ppm"
        Image.fromarray(mosaic(find_pictures(args.data), width, height)).save(picture)
        results = [measure(codec, picture, Path(folder)) for codec in args.codecs]
    report = {
        "command": f"python -P -m codec.eval.memory DATA {shlex.join(args.codecs)} --size {args.size}",
        "results": results,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(results))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main(sys.argv[1:])
