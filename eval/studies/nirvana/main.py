"""The study of what each part of nirvana is worth, each measured in one run: the paper's claims at a small scale.

    python -P -m codec.eval.studies.nirvana.main rates data/nirvana --out eval/results/nirvana_study.json
    python -P -m codec.eval.studies.nirvana.main start joint data/nirvana/carphone-176x144.mkv --out FILE.json

Parts, in any number (clips are made by `codec.datasets.clips`):

- rates: whole files of the preset grid at --effort and --qualities, beside the rows of `codec bench` (--bench);
- motion: bits of a group against how much moves in it, from the files of `rates`; also as a figure beside --out;
- paper: the presets paper and grid and x265 on the same frames: bits at equal PSNR;
- start: groups of the preset paper that start from the group before, against groups that start from nothing;
- joint: rounding and rate in the loss from the first step, against rounding a network that was trained without;
- frames: a network from the number of a frame to the frame (as NeRV), trained for the same processor seconds;
- speed: learning rates, early ends, bfloat16 and the effort of the preset grid, at equal quality;
- keys: what it costs that every group can be decoded alone (more key groups are work for more --jobs);
- networks: other networks to start from (--networks; `codec train nirvana --recipe grid-start`) against what ships.

One thread; seconds are processor seconds. A part that is there already is measured again, the others are kept.
`rates` goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ....codecs.base.codec import threads
from ....codecs.base.video.groups import Group
from ....errors import UsageError
from ....media.video.reader import open_video
from ...bench.run import machine_name
from ...output import jsonable, write_file, write_json
from . import fits, frames, grid, rates

__all__ = ["PARTS", "groups_of", "main", "run"]

QUALITIES = (20.0, 40.0, 60.0, 80.0)
MOTION_QUALITY = 40.0

Results = Mapping[str, Any]  # of one part
Part = Callable[[argparse.Namespace, Mapping[str, Results]], Iterator[Results]]  # the second: of all parts so far


def groups_of(clip: Path, length: int, count: int) -> list[Group]:
    """The first `count` groups of a clip, of `length` frames each. UsageError if it is too short."""
    with open_video(clip) as reader:
        info, planes = reader.info, []
        for frame in reader:
            if len(planes) == length * count:
                break
            planes.append(frame.planes)
    if len(planes) < length * count:
        raise UsageError(f"{clip}: {len(planes)} frames; expected {length * count}, {count} groups of {length}")
    return [
        Group(planes[at : at + length], info.pixels, info.width, info.height) for at in range(0, length * count, length)
    ]


def _clip(data: Path) -> Path:
    if data.is_dir():
        raise UsageError(f"{data} is a folder; this part takes one clip, such as {data}/carphone-176x144.mkv")
    return data


def _clips(data: Path) -> list[Path]:
    clips = sorted(data.glob("*.mkv")) if data.is_dir() else [data]
    if not clips:
        raise UsageError(f"{data}: no .mkv here: python -P -m codec.datasets.clips --out {data}")
    return clips


# ---- parts: each yields its results, more than once if it takes long


def _rates(arguments: argparse.Namespace, parts: Mapping[str, Results]) -> Iterator[Results]:
    earlier = parts.get("rates", {})
    return rates.rates(_clips(arguments.data), arguments.qualities, arguments.effort, arguments.bench, earlier)


def _motion(arguments: argparse.Namespace, parts: Mapping[str, Results]) -> Iterator[Results]:
    results = rates.motion(parts.get("rates", {}), MOTION_QUALITY)
    write_file(arguments.out.with_name(arguments.out.stem + "_motion.svg"), rates.motion_svg(results))
    yield results


def _paper(arguments: argparse.Namespace, parts: Mapping[str, Results]) -> Iterator[Results]:
    del parts
    yield rates.presets(_clip(arguments.data), arguments.frames, arguments.effort)


def _start(arguments: argparse.Namespace, parts: Mapping[str, Results]) -> Iterator[Results]:
    del parts
    yield fits.start(groups_of(_clip(arguments.data), fits.LENGTH, 3), arguments.steps)


def _joint(arguments: argparse.Namespace, parts: Mapping[str, Results]) -> Iterator[Results]:
    del parts
    yield fits.joint(groups_of(_clip(arguments.data), fits.LENGTH, 1)[0], arguments.steps)


def _frames(arguments: argparse.Namespace, parts: Mapping[str, Results]) -> Iterator[Results]:
    del parts
    yield frames.compare(groups_of(_clip(arguments.data), fits.LENGTH, 2), arguments.steps)


def _speed(arguments: argparse.Namespace, parts: Mapping[str, Results]) -> Iterator[Results]:
    del parts
    group = groups_of(_clip(arguments.data), fits.LENGTH, 1)[0]
    yield {**fits.speed(group, arguments.steps), "grid": fits.efforts(groups_of(arguments.data, 16, 1)[0])}


def _keys(arguments: argparse.Namespace, parts: Mapping[str, Results]) -> Iterator[Results]:
    del parts
    yield grid.keys(_clip(arguments.data), arguments.qualities, arguments.effort)


def _networks(arguments: argparse.Namespace, parts: Mapping[str, Results]) -> Iterator[Results]:
    del parts
    if arguments.networks is None:
        raise UsageError("networks of which file? --networks runs/nirvana-grid-start/nirvana-grid.safetensors")
    yield grid.networks(_clips(arguments.data), arguments.networks, arguments.qualities)


PARTS: Mapping[str, Part] = {
    "rates": _rates,
    "motion": _motion,
    "paper": _paper,
    "start": _start,
    "joint": _joint,
    "frames": _frames,
    "speed": _speed,
    "keys": _keys,
    "networks": _networks,
}


def run(arguments: argparse.Namespace, say: Callable[[str], None] = lambda words: None) -> dict[str, Any]:
    """Measures the parts asked for, into --out beside what is there. Returns all of it."""
    out: Path = arguments.out
    study: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    study |= {"machine": {"cpu": machine_name(), "threads": 1}, "seconds": "processor seconds, machine busy"}
    out.parent.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts:
        with threads(1):
            for results in PARTS[part](arguments, study):
                study[part] = {"command": command_of(part, arguments), **results}
                write_json(out, study)
        say(f"{part}: {json.dumps(jsonable(summary_of(study[part])))}")
    return study


def summary_of(part: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a part, without its lists."""
    return {name: value for name, value in part.items() if isinstance(value, (int, float)) or name == "ratios"}


def command_of(part: str, arguments: argparse.Namespace) -> str:
    """The command that measures this part again, without the names of this machine's folders."""
    qualities = f" --qualities {' '.join(f'{q:g}' for q in arguments.qualities)}"
    options = {
        "rates": f" --effort {arguments.effort:g}{qualities}"
        + (f" --bench {arguments.bench}" if arguments.bench else ""),
        "keys": f" --effort {arguments.effort:g}{qualities}",
        "networks": f"{qualities} --networks {arguments.networks}",
        "motion": "",
        "paper": f" --effort {arguments.effort:g} --frames {arguments.frames}",
    }.get(part, f" --steps {arguments.steps}")
    data = f"data/nirvana/{arguments.data.name}" if arguments.data.is_file() else f"data/{arguments.data.name}"
    return (
        f"python -P -m codec.eval.studies.nirvana.main {part} {data}{options} --out eval/results/{arguments.out.name}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=tuple(PARTS), metavar="PART")
    parser.add_argument(
        "data", type=Path, help="a folder of clips for rates, motion and networks, a clip for the others"
    )
    parser.add_argument("--effort", type=float, default=0.0, help="of the preset grid (default: 0, one pass)")
    parser.add_argument("--qualities", type=float, nargs="+", default=QUALITIES)
    parser.add_argument("--bench", type=Path, help="rows.csv of `codec bench` on the same clips")
    parser.add_argument("--networks", type=Path, help="safetensors of the part networks")
    parser.add_argument("--frames", type=int, default=16, help="of the part paper")
    parser.add_argument("--steps", type=int, default=150, help="of each fit of the preset paper")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)

    def say(words: str) -> None:
        sys.stderr.write(words + "\n")

    run(arguments, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
