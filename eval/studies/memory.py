"""Peak memory and seconds of encoding and decoding one large picture, above an interpreter with torch loaded.

    python -P -m codec.eval.studies.memory DATA --out eval/results/walloc_memory_8k.json walloc@16x walloc@4x

The picture is a mosaic of the photographs in DATA, repeated to the asked size. Encoding and decoding run in processes
of their own; the figure is the highest resident size of the process less what it was right after `import torch`. The
picture itself, which both hold, counts.
"""

from __future__ import annotations

import argparse
import json
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

from ...datasets.images import find_pictures
from ...errors import CodecError, UsageError
from .. import peers
from ..bench.contract import Peer
from ..bench.items import read_rgb
from ..bench.measure import resident_kib
from ..bench.specs import parse
from ..output import write_file

__all__ = ["main", "measure", "mosaic", "peer_of"]


def mosaic(files: Sequence[Path], width: int, height: int) -> NDArray[np.uint8]:
    """A picture, (height, width, 3), filled with the pictures row by row, each cut where the next begins."""
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


def peer_of(codec: str, n_threads: int) -> Peer:
    """The codec of a codec string, such as walloc@16x or s2lic:q=30:effort=1, at its default quality if the string
    names none. UsageError for several codecs or settings."""
    curves = parse(codec, peers.families())
    family = curves[0].family
    named = [point.settings for curve in curves for point in curve.points]
    axis = family.axis
    if len(curves) == 1 and axis is not None and [s[axis] for s in named] == sorted(family.sweep):  # none was named
        named = [{**named[0], axis: family.options[axis].default}]
    if len(named) != 1:
        raise UsageError(f"{codec!r} names {len(named)} settings; expected one codec with one setting")
    return family.make(named[0], n_threads)


def child(action: str, codec: str, source: str, target: str) -> None:
    """Encodes or decodes one file in this process, and prints the memory in MiB above that of `import torch`, and
    seconds, as a JSON object."""
    import torch

    before, start = resident_kib("VmRSS"), time.perf_counter()
    peer = peer_of(codec, torch.get_num_threads())
    if action == "encode":
        Path(target).write_bytes(peer.encode(read_rgb(source)))
    else:
        Image.fromarray(peer.decode(Path(source).read_bytes())).save(target)
    seconds, peak = time.perf_counter() - start, resident_kib("VmHWM")
    mebibytes = None if before is None or peak is None else round((peak - before) / 1024, 1)
    print(json.dumps({"mebibytes": mebibytes, "seconds": round(seconds, 2), "threads": torch.get_num_threads()}))


def measure(codec: str, picture: Path, folder: Path) -> dict[str, object]:
    """Encodes and decodes a picture file, each in a process of its own; memory in MiB, seconds, and the file's bytes.

    CodecError with the process's last line if it fails.
    """
    coded, decoded = folder / "large.codec", folder / "decoded.ppm"
    report: dict[str, object] = {"codec": codec}
    for action, source, target in (("encode", picture, coded), ("decode", coded, decoded)):
        command = [
            sys.executable,
            "-P",
            "-m",
            "codec.eval.studies.memory",
            "--child",
            action,
            codec,
            str(source),
            str(target),
        ]
        out = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if out.returncode:
            raise CodecError(f"{codec} can't {action} this picture: {out.stderr.strip().splitlines()[-1]}")
        report[action] = json.loads(out.stdout)
    return report | {"bytes": coded.stat().st_size}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="codec.eval.studies.memory", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of pictures")
    parser.add_argument("codecs", nargs="+", help="codec strings, such as walloc@16x or s2lic:q=30:effort=1")
    parser.add_argument("--size", default="7680x4320", help="width x height (default 7680x4320)")
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    args = parser.parse_args(argv)
    width, height = (int(side) for side in args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "large.ppm"
        Image.fromarray(mosaic(find_pictures(args.data), width, height)).save(picture)
        results = [measure(codec, picture, Path(folder)) for codec in args.codecs]
    report = {
        "command": f"python -P -m codec.eval.studies.memory DATA {shlex.join(args.codecs)} --size {args.size}",
        "results": results,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_file(args.out, json.dumps(report, indent=2) + "\n")
    print(json.dumps(results))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main(sys.argv[1:])
