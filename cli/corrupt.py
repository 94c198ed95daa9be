"""`codec corrupt`: damage files on purpose, to see what is left of them."""

from __future__ import annotations

import argparse
import io
import random
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .. import registry
from ..container import PACKET, ChunkPlace, ChunkReader
from ..errors import UsageError
from ..files import whole
from .coding import Probes, accepts_ours, check_ours
from .inputs import Input
from .jobs import Job, Report, carry_out
from .options import seed, share
from .parser import add_inputs, add_jobs, add_outputs
from .plan import Naming, Output, plan

EXAMPLES = """\
examples:
  codec corrupt photo.vqgan --loss 0.2 --seed 1 -o damaged.vqgan
  codec corrupt coded -o damaged --how drop   every file of a folder loses a fifth of its packets
  codec decode damaged.vqgan --conceal        fills in what is missing
"""

_DROP, _DAMAGE, _BOTH = "drop", "damage", "both"
_BLOCK = 1 << 16


def add_options(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser)
    add_outputs(parser)
    words = "the share of a file's packets that is lost; of a file without packets, of its bytes (default 0.2)"
    parser.add_argument("--loss", type=share, default=0.2, metavar="L", help=words)
    parser.add_argument("--seed", type=seed, default=1, metavar="N", help="another one loses others (default 1)")
    words = "lost packets are left out, or a few of their bytes are changed, or half of each (default)"
    parser.add_argument("--how", choices=(_DROP, _DAMAGE, _BOTH), help=words)
    add_jobs(parser)


class Options(NamedTuple):
    """The options of all jobs, as they go to worker processes."""

    loss: float
    seed: int
    how: str | None


def run(args: argparse.Namespace) -> int:
    ours = frozenset(registry.entry(name).suffix for name in registry.names())
    naming = Naming(_output, args.output, args.force, args.skip_existing, formats=ours, remedy="corrupt them apart")
    planned = plan(args.inputs, naming, accepts_ours)
    return carry_out(args, partial(_corrupt, Options(args.loss, args.seed, args.how)), planned)


def _output(item: Input) -> Output:
    path = Path(item.name)
    return Output(path.with_name(f"{path.stem}.corrupt{path.suffix}").name)


def _corrupt(options: Options, job: Job) -> Report:
    started = time.perf_counter()
    assert job.target is not None
    data = Probes(reads_streams=True)[job.source].read()
    check_ours(data, job.source)
    out, facts = corrupted(data, *options)
    with whole(job.target, replace=job.replace) as file:
        file.write(out)
    words = [f"{facts['lost']} of {facts['of']} {facts['unit']} {facts['done']}"]
    return {**facts, "bytes_in": len(data), "bytes_out": len(out), "seconds": time.perf_counter() - started} | {
        "words": words
    }


def corrupted(data: bytes, loss: float, seed: int, how: str | None = None) -> tuple[bytes, dict[str, Any]]:
    """A file with a share of its packets lost, and what was done to it; the same for the same arguments.

    Of a file without packets that share of its bytes is changed. One packet is always left, and if loss isn't 0 one is
    always lost where there are two. how: "drop", "damage" or "both" (None). ContainerError for what isn't a file of
    ours, or isn't whole; UsageError for a file without packets and `how`.
    """
    rng = random.Random(seed)
    reader = ChunkReader(io.BytesIO(data))
    places = [place for place in reader.places() if place.tag == PACKET]
    if "packets" not in reader.header.params or not places:
        if how is not None:
            raise UsageError("--how is about packets, of which this file has none: leave it out, and bytes are changed")
        out, n_lost = _bytes_changed(rng, data, loss)
        return out, {"unit": "bytes", "of": len(data), "lost": n_lost, "done": "changed (it has no packets)"}
    how = how or _BOTH
    n_lost = min(max(1, round(loss * len(places))) if loss else 0, len(places) - 1)
    lost = rng.sample(range(len(places)), n_lost)
    dropped = {_DROP: n_lost, _DAMAGE: 0, _BOTH: n_lost // 2}[how]
    out = bytearray(data)
    for number in lost[dropped:]:
        _damage(rng, out, places[number])
    for number in sorted(lost[:dropped], reverse=True):
        del out[places[number].position : places[number].end]
    words = f"lost: {dropped} left out, {n_lost - dropped} damaged"
    return bytes(out), {"unit": "packets", "of": len(places), "lost": n_lost, "done": words}


def _bytes_changed(rng: random.Random, data: bytes, loss: float) -> tuple[bytes, int]:
    """Changes a share of all bytes, at least one if it isn't 0: as many in each block of a size, for memory."""
    n_lost = max(1, round(loss * len(data))) if loss else 0
    out, done = bytearray(data), 0
    for start in range(0, len(data), _BLOCK):
        stop = min(start + _BLOCK, len(data))
        until = n_lost * stop // len(data)
        for at in rng.sample(range(start, stop), until - done):
            out[at] ^= rng.randrange(1, 256)
        done = until
    return bytes(out), n_lost


def _damage(rng: random.Random, out: bytearray, place: ChunkPlace) -> None:
    """Changes one to four bytes of a packet."""
    for at in rng.sample(range(place.position, place.end), min(rng.randint(1, 4), place.end - place.position)):
        out[at] ^= rng.randrange(1, 256)
