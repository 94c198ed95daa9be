"""Fields under an equal bound: `interp`, `interp` with `fast`, SZ3 and SPERR, dataset by dataset.

    python -P -m codec.eval.studies.fields --data ../shared/data/scientific --out eval/results/fields

Whole files of one array each. SZ3 is given the best of 2, 3 and 4 axes together; SPERR is imagecodecs'. The bound is a
part of the range. The largest error is measured in exact arithmetic for all of them; a peer's that is beyond the bound
is counted, and its bytes are taken as they are. Speeds are of processor time of one thread in one run, as ratios to
SZ3's. `seen`: whether the start state of `interp` was learned from the dataset, or from a part of it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codecs.base.field_bounds import Bound
from ...codecs.interp.codec import InterpCodec
from ..bench.run import machine_name
from ..output import write_json
from ..peers import arrays

__all__ = ["main", "markdown", "measure"]

BOUNDS = (1e-2, 1e-3, 1e-4)
Array = NDArray[Any]


def datasets(folder: Path) -> Iterator[tuple[str, Array, bool]]:
    """The float fields of the files in a folder: names, values, and whether the start state has seen some of them."""
    import h5py

    for path in sorted(folder.glob("*.h5")):
        names: list[str] = []
        with h5py.File(path) as file:
            file.visititems(lambda name, node, to=names: to.append(name) if isinstance(node, h5py.Dataset) else None)
            for name in names:
                node: Any = file[name]
                if node.dtype.kind == "f" and node.ndim >= 2 and node.size >= 4096:
                    yield f"{path.stem}/{name}", np.ascontiguousarray(node[...]), not name.startswith("test")


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call and its processor seconds."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def largest_error(x: Array, y: Array) -> float:
    return float(np.abs(x.astype(np.longdouble) - y.astype(np.longdouble)).max())


def coders(x: Array, rel: float) -> Mapping[str, tuple[Callable[[], bytes], Callable[[bytes], Array]]]:
    """How each coder encodes and decodes an array."""
    codec = InterpCodec(Bound(rel))
    made: dict[str, Any] = {
        "interp": (lambda: codec.compress(x), codec.decompress),
        "interp fast": (lambda: codec.with_settings(fast=True).compress(x), codec.decompress),
    }
    options = [("sz3", arrays._Sz3(rel, "interp-lorenzo", dims)) for dims in (2, 3, 4) if dims <= x.ndim]
    tried = [arrays._ArrayPeer(coder) for _, coder in options]
    best = min(tried, key=lambda peer: len(peer.encode(x)))
    made["sz3"] = (lambda: best.encode(x), best.decode)
    sperr = arrays._ArrayPeer(arrays._Sperr(rel, 1))
    made["sperr"] = (lambda: sperr.encode(x), sperr.decode)
    return made


def measure(folder: Path, bounds: Sequence[float] = BOUNDS) -> list[dict[str, Any]]:
    """A row for each dataset and bound: bytes, largest error over the bound, seconds to encode and to decode."""
    rows = []
    for name, x, seen in datasets(folder):
        for rel in bounds:
            bound = rel * float(x.max() - x.min())
            row: dict[str, Any] = {"dataset": name, "shape": list(x.shape), "bound": rel, "seen": seen, "raw": x.nbytes}
            for coder, (encode, decode) in coders(x, rel).items():
                data, to_encode = timed(encode)
                back, to_decode = timed(lambda data=data, decode=decode: decode(data))
                error = largest_error(x, back) / bound
                row[coder] = {
                    "bytes": len(data),
                    "error": round(error, 9),
                    "encode": round(x.nbytes / 1e6 / to_encode, 2),
                    "decode": round(x.nbytes / 1e6 / to_decode, 2),
                }
            rows.append(row)
            sys.stderr.write(f"{name} {rel:g}: " + " ".join(f"{k} {row[k]['bytes']}" for k in CODERS) + "\n")
    return rows


CODERS = ("interp", "interp fast", "sz3", "sperr")


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table: `interp` against the better of SZ3 and SPERR, in per cent, and speeds as ratios to SZ3's."""
    lines = ["| dataset | " + " | ".join(f"{bound:g}" for bound in BOUNDS) + " |", "|---|" + "---|" * len(BOUNDS)]

    def change(row: Mapping[str, Any], coder: str) -> float:
        return 100 * (row[coder]["bytes"] / min(row["sz3"]["bytes"], row["sperr"]["bytes"]) - 1)

    def mean(part: Sequence[Mapping[str, Any]], coder: str) -> str:
        logs = [math.log1p(change(row, coder) / 100) for row in part]
        return f"{100 * math.expm1(statistics.fmean(logs)):+.1f} %" if logs else "-"

    for name in dict.fromkeys(row["dataset"] for row in rows):
        own = {row["bound"]: row for row in rows if row["dataset"] == name}
        mark = " (seen)" if next(iter(own.values()))["seen"] else ""
        lines.append(f"| {name}{mark} | " + " | ".join(f"{change(own[b], 'interp'):+.1f} %" for b in BOUNDS) + " |")
    parts = [[row for row in rows if row["bound"] == bound] for bound in BOUNDS]
    unseen = [[row for row in part if not row["seen"]] for part in parts]
    for label, groups, coder in (
        ("all", parts, "interp"),
        ("not seen", unseen, "interp"),
        ("all, fast", parts, "interp fast"),
    ):
        lines.append(f"| **{label}** | " + " | ".join(mean(group, coder) for group in groups) + " |")
    for way in ("encode", "decode"):
        for coder in ("interp", "interp fast"):
            cells = []
            for part in parts:
                speed = {
                    name: sum(r["raw"] for r in part) / sum(r["raw"] / r[name][way] for r in part) for name in CODERS
                }
                cells.append(f"{speed[coder]:.1f} MB/s, {speed[coder] / speed['sz3']:.3f} of SZ3")
            lines.append(f"| {way}, {coder} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and writes mixing.json and mixing.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows = measure(options.data)
    write_json(options.out / "mixing.json", {"machine": machine_name(), "rows": rows})
    (options.out / "mixing.md").write_text(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
