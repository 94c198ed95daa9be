"""The study of `zipgan`, a learned codec of turbulence, beside other coders at equal bytes, on our own simulations.

    codec data turbulence --n 64 --re 34 --seed 9 --spacing 1 --spin-up 18 --snapshots 40 -o s9.h5
    python -P -m codec.eval.studies.zipgan.main table s9.h5 --out eval/results/zipgan

Parts, one to a call; each writes PART.json (`plots`: figures) into --out and prints a table:

- table: every metric of `eval/metrics/turbulence.py` at true ratios of bytes (--ratios), with and without the
  projection that costs no bits; beside them the rate-distortion bound of a Gaussian field of the same spectrum;
- bound: values beyond an error bound, and the bytes, against SZ3 and SPERR at the same bound;
- plots: spectra, distributions of gradients, slices;
- time: a snapshot out of its neighbours, against how far apart they are (a file with closely spaced snapshots);
- score: does the discriminator's score follow the error of the gradients? Rank correlations, without the original;
- speed: MB per processor second, and how many snapshots pay for the bytes of the weights;
- fields: snapshots as .npy files into --out, which `codec reproduce zipgan` and `codec bench` read.

--label marks a file (another Reynolds number): results of other labels are kept. --coders measures only these, and
keeps what is there of others. Coders of ours without weights are left out; --weights zipgan@64x=FILE names them.
One thread; the machine may be busy, so speeds are of processor seconds.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....codecs.base.codec import threads
from ....errors import CodecError, UsageError
from ...bench.run import machine_name
from ...output import write_file, write_json
from . import bound, plots, score, speed, table, time
from .coders import FieldCoder, coders
from .simulations import Snapshots, merged, read_snapshots

__all__ = ["MEASURED", "WRITTEN", "main", "measure_part", "write_files"]

Results = Mapping[str, Any]  # of one part and label, as they stand in PART.json
Measure = Callable[[argparse.Namespace, Results], Iterator[Results]]


# ---- parts that are measured: each yields the earlier results with what is new in them, as it comes


def _table(arguments: argparse.Namespace, earlier: Results) -> Iterator[Results]:
    data = _snapshots(arguments)
    rows = earlier.get("rows", [])
    about = table.describe(data, arguments.ratios)
    yield {**earlier, **about, "rows": rows}
    for new in table.measure(data, _coders(arguments), arguments.ratios):
        rows = merged(rows, new, table.KEY)
        arguments.say(f"{new[0]['coder']} at {new[0]['ratio']:.1f}: gradient {new[0]['gradient']:.4f}")
        yield {**earlier, **about, "rows": rows}


def _bound(arguments: argparse.Namespace, earlier: Results) -> Iterator[Results]:
    fields = [field for path in arguments.data for field in read_snapshots(path, arguments.every).fields]
    fields = fields[: arguments.count]
    rows = earlier.get("rows", [])
    for row in bound.measure(fields, arguments.coders, arguments.weights):
        rows = merged(rows, [row], bound.KEY)
        arguments.say(
            f"{row['coder']} at {row['bound']:g}: ratio {row['ratio']:.1f}, {row['values_beyond']} values beyond"
        )
        yield {**earlier, "rows": rows, "fields": len(fields)}


def _time(arguments: argparse.Namespace, earlier: Results) -> Iterator[Results]:
    data = read_snapshots(arguments.data[0], 1, arguments.count)
    ways = time.interpolations(data, _coders(arguments), arguments.ratios)
    about = {**data.about, "spacing": data.spacing, "turnover": data.turnover}
    rows = earlier.get("rows", [])
    for new in time.measure(data, ways):
        rows = merged(rows, new, time.KEY)
        yield {**earlier, "about": about, "rows": rows, "stored": ways.stored}


def _score(arguments: argparse.Namespace, earlier: Results) -> Iterator[Results]:
    fields = _snapshots(arguments).fields
    judges = score.judges_of(arguments.weights)
    new = score.measure(fields, _coders(arguments), arguments.ratios, judges, arguments.checkpoints)
    yield {**earlier, **new}


def _speed(arguments: argparse.Namespace, earlier: Results) -> Iterator[Results]:
    fields = _snapshots(arguments).fields
    measured = _coders(arguments)
    rows = earlier.get("rows", [])
    for row in speed.measure_speed(fields[0], measured, arguments.ratios):
        rows = merged(rows, [row], speed.KEY)
        yield {**earlier, "rows": rows, "weights": earlier.get("weights", [])}
    break_even = []
    for row in speed.measure_break_even(fields, measured, arguments.ratios, arguments.weights):
        break_even.append(row)
        yield {**earlier, "rows": rows, "weights": break_even}
    yield {**earlier, "rows": rows, "weights": break_even}


# ---- parts that are files: each yields (name, content)


def _plots(arguments: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    return plots.figures(_snapshots(arguments), _coders(arguments), arguments.ratios)


def _fields(arguments: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    data = _snapshots(arguments)
    for index, field in zip(data.indices, data.fields, strict=True):
        buffer = io.BytesIO()
        np.save(buffer, field)
        yield f"{arguments.data[0].stem}-{index:03d}.npy", buffer.getvalue()


MEASURED: Mapping[str, tuple[Measure, Callable[[Results], str]]] = {  # and how results are printed
    "table": (_table, table.markdown),
    "bound": (_bound, bound.markdown),
    "time": (_time, time.markdown),
    "score": (_score, score.markdown),
    "speed": (_speed, speed.markdown),
}
WRITTEN: Mapping[str, Callable[[argparse.Namespace], Iterator[tuple[str, bytes]]]] = {
    "plots": _plots,
    "fields": _fields,
}


def _snapshots(arguments: argparse.Namespace) -> Snapshots:
    return read_snapshots(arguments.data[0], arguments.every, arguments.count)


def _coders(arguments: argparse.Namespace) -> list[FieldCoder]:
    return coders(arguments.coders, arguments.weights)


# ---- the command


def measure_part(arguments: argparse.Namespace) -> str:
    """Measures one part and keeps what there is in PART.json after each step; results of other labels stay. Returns
    the results as a table to print."""
    path: Path = arguments.out / f"{arguments.part}.json"
    labels: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    labels |= {"machine": {"cpu": machine_name(), "threads": 1}, "seconds": "of one processor, machine busy"}
    earlier: Results = labels.get(arguments.label, {})
    commands = list(dict.fromkeys([*earlier.get("commands", ()), command_of(arguments)]))
    measure, markdown = MEASURED[arguments.part]
    results = earlier
    for results in measure(arguments, earlier):
        write_json(path, {**labels, arguments.label: {**results, "commands": commands}})
    return markdown(results)


def write_files(arguments: argparse.Namespace) -> str:
    """Writes the files of one part into --out. Returns a line for each to print."""
    lines = []
    for name, content in WRITTEN[arguments.part](arguments):
        write_file(arguments.out / name, content)
        lines.append(f"{name}: {len(content)} bytes")
    return "\n".join(lines)


def command_of(arguments: argparse.Namespace) -> str:
    """The command that measures this again, without the names of this machine's folders."""
    data = " ".join(path.name for path in arguments.data)
    options = f" --every {arguments.every}" + (f" --count {arguments.count}" if arguments.count else "")
    options += f" --label {arguments.label}" + (f" --coders {','.join(arguments.coders)}" if arguments.coders else "")
    if arguments.ratios:
        options += f" --ratios {','.join(f'{ratio:g}' for ratio in arguments.ratios)}"
    options += "".join(f" --weights {name}={path.name}" for name, path in arguments.weights.items())
    if arguments.checkpoints:
        options += " --checkpoints " + " ".join(path.name for path in arguments.checkpoints)
    return f"python -P -m codec.eval.studies.zipgan.main {arguments.part} {data}{options} --out eval/results/zipgan"


DEFAULT_RATIOS: Mapping[str, tuple[float, ...]] = {
    "table": (64, 512),
    "plots": (64, 512),
    "time": (64,),
    "score": (32, 64, 128, 256, 512, 1024, 2048, 4096),
    "speed": (64, 512),
}


def _weights(words: Sequence[str]) -> dict[str, Path]:
    pairs = [word.partition("=") for word in words]
    for name, _, path in pairs:
        if not name or not path:
            raise UsageError("--weights takes NAME=FILE, such as zipgan@64x=net.safetensors")
    return {name: Path(path) for name, _, path in pairs}


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=(*MEASURED, *WRITTEN), metavar="PART")
    parser.add_argument(
        "data", type=Path, nargs="+", help="HDF5 files of `codec data turbulence` (several: bound only)"
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--label", default="re34", help="what these data are called in the results (default: re34)")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth snapshot (default: all)")
    parser.add_argument("--count", type=int, help="at most so many snapshots")
    parser.add_argument("--ratios", type=_numbers, help="of bytes, with commas between them")
    parser.add_argument("--coders", type=lambda text: text.split(","), help="only these, with commas between them")
    parser.add_argument("--weights", nargs="+", default=(), metavar="NAME=FILE", help="of coders of ours")
    parser.add_argument("--checkpoints", type=Path, nargs="+", default=(), metavar="FILE", help="more weights (score)")
    arguments = parser.parse_args(argv)
    arguments.ratios = arguments.ratios or DEFAULT_RATIOS.get(arguments.part, ())
    arguments.say = lambda words: sys.stderr.write(words + "\n")
    try:
        arguments.weights = _weights(arguments.weights)
        arguments.out.mkdir(parents=True, exist_ok=True)
        with threads(1):
            words = (measure_part if arguments.part in MEASURED else write_files)(arguments)
        sys.stdout.write(words + "\n")
    except CodecError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
