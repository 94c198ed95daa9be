"""What a learned codec of turbulence is worth: `zipgan` beside other coders at equal bytes, on simulations of our own.

    codec data turbulence --n 64 --re 34 --seed 9 --spacing 1 --spin-up 18 --snapshots 40 -o s9.h5
    python -P -m codec.eval.zipgan_study table s9.h5 --out eval/results/zipgan

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
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codecs.base import threads
from ..errors import CodecError, MediaError, UsageError
from .bench import machine_name, write_json

__all__ = ["PARTS", "Snapshots", "main", "read", "run"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Snapshots:
    """Of one file. indices: where the fields, (3, n, n, n) float32 each, stand in it. about: its attributes, and means
    over all of its snapshots. spacing: time between snapshots of the file."""

    fields: list[Array]
    indices: list[int]
    about: dict[str, Any]
    spacing: float
    turnover: float


def read(path: Path, every: int = 1, count: int | None = None) -> Snapshots:
    """Every so manieth snapshot of a file of `codec data turbulence`, from the first on."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            velocity: Any = file["velocity"]
            if velocity.ndim != 5 or velocity.shape[1] != 3:
                raise MediaError(f"{path}: /velocity of shape {velocity.shape}; expected snapshots, 3, z, y, x")
            indices = list(range(0, len(velocity), every))[:count]
            fields = [np.ascontiguousarray(velocity[index], np.float32) for index in indices]
            time = np.asarray(file["time"]) if "time" in file else np.arange(float(len(velocity)))
            group: Any = file.get("statistics", {})
            means = {name: float(np.mean(group[name][:])) for name in group}
            attributes: dict[str, Any] = {
                key: file.attrs[key] for key in ("n", "viscosity", "power", "seed") if key in file.attrs
            }
    except (OSError, KeyError) as error:
        raise MediaError(f"{path}: not a file of `codec data turbulence` ({error})") from None
    about = {key: value.item() for key, value in attributes.items()} | {"snapshots_in_file": len(time)} | means
    spacing = float(np.diff(time).mean()) if len(time) > 1 else 0.0
    return Snapshots(fields, indices, about, spacing, means.get("turnover", float("nan")))


def _table(arguments: argparse.Namespace, found: dict[str, Any], keep: Callable[[], None]) -> str:
    from . import zipgan_study_table as table

    data = read(arguments.data[0], arguments.every, arguments.count)
    own = found.setdefault(arguments.label, {})
    table.run(data, _coders(arguments), arguments.ratios, own, keep, arguments.say)
    return table.markdown(own)


def _plots(arguments: argparse.Namespace, found: dict[str, Any], keep: Callable[[], None]) -> str:
    from . import zipgan_study_plots as plots

    del found, keep
    data = read(arguments.data[0], arguments.every, arguments.count)
    written = plots.run(data, _coders(arguments), arguments.ratios, arguments.out)
    return "\n".join(f"{path.name}: {path.stat().st_size} bytes" for path in written)


def _bound(arguments: argparse.Namespace, found: dict[str, Any], keep: Callable[[], None]) -> str:
    from . import zipgan_study_more as more

    fields = [field for path in arguments.data for field in read(path, arguments.every).fields][: arguments.count]
    own = found.setdefault(arguments.label, {})
    more.bound(fields, arguments.coders, arguments.weights, own, keep, arguments.say)
    return more.bound_markdown(own)


def _time(arguments: argparse.Namespace, found: dict[str, Any], keep: Callable[[], None]) -> str:
    from . import zipgan_study_more as more

    data = read(arguments.data[0], 1, arguments.count)
    own = found.setdefault(arguments.label, {})
    more.time(data, _coders(arguments), arguments.ratios, own, keep)
    return more.time_markdown(own)


def _score(arguments: argparse.Namespace, found: dict[str, Any], keep: Callable[[], None]) -> str:
    from . import zipgan_study_more as more

    data = read(arguments.data[0], arguments.every, arguments.count)
    own = found.setdefault(arguments.label, {})
    judges = more.scores(arguments.weights)
    more.score(data.fields, _coders(arguments), arguments.ratios, judges, arguments.checkpoints, own)
    keep()
    return more.score_markdown(own)


def _speed(arguments: argparse.Namespace, found: dict[str, Any], keep: Callable[[], None]) -> str:
    from . import zipgan_study_more as more

    data = read(arguments.data[0], arguments.every, arguments.count)
    own = found.setdefault(arguments.label, {})
    more.speed(data.fields, _coders(arguments), arguments.ratios, arguments.weights, own, keep)
    return more.speed_markdown(own)


def _fields(arguments: argparse.Namespace, found: dict[str, Any], keep: Callable[[], None]) -> str:
    del found, keep
    data = read(arguments.data[0], arguments.every, arguments.count)
    for index, field in zip(data.indices, data.fields, strict=True):
        np.save(arguments.out / f"{arguments.data[0].stem}-{index:03d}.npy", field)
    return f"{len(data.fields)} fields"


def _coders(arguments: argparse.Namespace) -> Any:
    from .zipgan_study_coders import coders

    return coders(arguments.coders, arguments.weights)


PARTS: Mapping[str, Callable[[argparse.Namespace, dict[str, Any], Callable[[], None]], str]] = {
    "table": _table,
    "bound": _bound,
    "plots": _plots,
    "time": _time,
    "score": _score,
    "speed": _speed,
    "fields": _fields,
}


def run(arguments: argparse.Namespace) -> str:
    """One part, into --out beside what is there. Returns what to print."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    path: Path = arguments.out / f"{arguments.part}.json"
    found: dict[str, Any] = {}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    found |= {"machine": {"cpu": machine_name(), "threads": 1}, "seconds": "of one processor, machine busy"}

    def keep() -> None:
        own = found.get(arguments.label)
        if own is not None:
            commands = own.setdefault("commands", [])
            if command_of(arguments) not in commands:
                commands.append(command_of(arguments))
        write_json(path, found)

    with threads(1):
        words = PARTS[arguments.part](arguments, found, keep)
    if arguments.part not in ("plots", "fields"):
        keep()
    return words


def command_of(arguments: argparse.Namespace) -> str:
    """What measures this again."""
    data = " ".join(path.name for path in arguments.data)
    options = f" --every {arguments.every}" + (f" --count {arguments.count}" if arguments.count else "")
    options += f" --label {arguments.label}" + (f" --coders {','.join(arguments.coders)}" if arguments.coders else "")
    if arguments.ratios:
        options += f" --ratios {','.join(f'{ratio:g}' for ratio in arguments.ratios)}"
    options += "".join(f" --weights {name}={path.name}" for name, path in arguments.weights.items())
    if arguments.checkpoints:
        options += " --checkpoints " + " ".join(path.name for path in arguments.checkpoints)
    return f"python -P -m codec.eval.zipgan_study {arguments.part} {data}{options} --out eval/results/zipgan"


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
    parser.add_argument("part", choices=tuple(PARTS), metavar="PART")
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
        sys.stdout.write(run(arguments) + "\n")
    except CodecError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
