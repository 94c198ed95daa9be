"""Speed and size of the arithmetic coders behind `Tables`, next to CompressAI's rANS, in one run.

    python -P -m codec.eval.studies.entropy_coders --out bench.json        (or .csv)

Two jobs, drawn from the 64 Gaussians of `GaussianConditional`:
- one shot: a million symbols in one call, rows in random order, as from a hyperprior;
- steps: 12 dependent steps of 3 to 6 thousand symbols with 256 rows of 256 columns, as from an autoregressive codec.

Each coder starts from NumPy arrays and ends with bytes, and the other way round, so CompressAI's times include its
conversions to lists and back; its bare times are given as well. Times are the best of several rounds, in which all
coders take turns; speeds on different machines differ, their ratios much less. One thread. Everything that is decoded
is compared with what was encoded.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...entropy.coders import DEFAULT, NumpyCoder, names
from ...entropy.tables import Tables
from ...errors import UsageError
from ..bench.run import machine_name
from ..output import write_file

Step = tuple[NDArray[np.int32], NDArray[np.integer[Any]]]
Encode = Callable[[], Any]
Decode = Callable[[Any], Any]


@dataclass(frozen=True)
class CoderSpeed:
    job: str
    coder: str
    symbols: int
    encode_msym_s: float
    decode_msym_s: float
    encode_vs_compressai: float | None  # speed ratio, above 1: faster than CompressAI's rANS end to end
    decode_vs_compressai: float | None
    n_bytes: int
    overhead_percent: float  # against the ideal code length of the tables


@dataclass
class Contender:
    name: str
    encode: Encode
    decode: Decode
    check: Callable[[Any], bool]
    steps: Sequence[Step]
    encode_seconds: float = float("inf")
    decode_seconds: float = float("inf")
    data: Any = None

    def turn(self) -> None:
        start = time.perf_counter()
        self.data = self.encode()
        self.encode_seconds = min(self.encode_seconds, time.perf_counter() - start)
        start = time.perf_counter()
        decoded = self.decode(self.data)
        self.decode_seconds = min(self.decode_seconds, time.perf_counter() - start)
        if not self.check(decoded):
            raise SystemExit(f"{self.name}: decoded symbols differ from the encoded ones")


def _ours(tables: Tables, steps: Sequence[Step], coder: str | type[NumpyCoder], name: str) -> Contender:
    def decode(data: bytes) -> list[NDArray[np.int32]]:
        decoder = tables.decoder(data, coder)
        symbols = [decoder.take(row) for _, row in steps]
        decoder.finish()
        return symbols

    def check(decoded: list[NDArray[np.int32]]) -> bool:
        return all((a == b).all() for a, (b, _) in zip(decoded, steps, strict=True))

    return Contender(name, lambda: tables.encode_steps(steps, coder), decode, check, steps)


def _compressai(tables: Tables, steps: Sequence[Step], bare: bool) -> Contender:
    """CompressAI's rANS with the same tables, called as its entropy models call it, lists and all."""
    from compressai import ans  # type: ignore[import-not-found]

    # Tables stay lists between calls, though CompressAI's own models convert them in each.
    cdfs = [cdf.tolist() for cdf in tables.rows]
    lengths, offsets = (tables.lengths + 1).tolist(), tables.offset.tolist()
    lists = [(symbols.ravel().tolist(), row.ravel().tolist()) for symbols, row in steps]

    def encode() -> bytes:
        encoder = ans.BufferedRansEncoder()
        for step, (symbols, row) in enumerate(steps):
            pair = lists[step] if bare else (symbols.ravel().tolist(), row.ravel().tolist())
            encoder.encode_with_indexes(*pair, cdfs, lengths, offsets)
        return encoder.flush()

    def decode(data: bytes) -> list[Any]:
        decoder = ans.RansDecoder()
        decoder.set_stream(data)
        decoded = []
        for step, (_, row) in enumerate(steps):
            index = lists[step][1] if bare else row.ravel().tolist()
            symbols = decoder.decode_stream(index, cdfs, lengths, offsets)
            decoded.append(symbols if bare else np.array(symbols, dtype=np.int32).reshape(row.shape))
        return decoded

    def check(decoded: list[Any]) -> bool:
        return all((np.asarray(a).ravel() == b.ravel()).all() for a, (b, _) in zip(decoded, steps, strict=True))

    return Contender("compressai rANS, bare" if bare else "compressai rANS", encode, decode, check, steps)


def _gaussians(rows: int, high: float) -> Tables:
    from ...entropy.models import GaussianConditional

    return GaussianConditional(rows, high=high).to_tables()


def _draw(tables: Tables, sizes: Sequence[int], seed: int) -> list[Step]:
    """Symbols that follow their rows, without escapes: those are coded in different ways by different coders."""
    rng = np.random.default_rng(seed)
    steps = []
    for n in sizes:
        row = rng.integers(0, len(tables.lengths), n).astype(np.int32)
        symbols = np.empty(n, dtype=np.int32)
        for k, cdf in enumerate(tables.rows):
            here = row == k
            column = np.searchsorted(cdf, rng.integers(0, cdf[-2], int(here.sum())), side="right") - 1
            symbols[here] = column + tables.offset[k]
        steps.append((symbols, row))
    return steps


def _pad(tables: Tables, columns: int) -> Tables:
    """Tables of the same rows with `columns` columns each, as a codec has them that doesn't trim its tables."""
    pmf = []
    for cdf, length in zip(tables.rows, tables.lengths.tolist(), strict=True):
        room = columns - length
        p = np.diff(cdf)[:-1] / cdf[-1]
        pmf.append(np.pad(p, (room // 2, room - room // 2)) if room > 0 else p)
    offset = [
        start - max(0, columns - length) // 2 for start, length in zip(tables.offset, tables.lengths, strict=True)
    ]
    return Tables.from_pmf(pmf, np.array(offset))


def run(symbols: int = 1_000_000, rounds: int = 5, slow: bool = True) -> list[CoderSpeed]:
    """Both jobs. slow: torchac as well, and the NumPy oracle on a part."""
    one_shot = _gaussians(64, 256.0)
    stepped = _pad(_gaussians(256, 20.0), 256)
    sizes = np.linspace(3000, 6000, 12).astype(int).tolist()
    jobs = [("one shot", one_shot, _draw(one_shot, [symbols], 0)), ("12 steps", stepped, _draw(stepped, sizes, 1))]
    results: list[CoderSpeed] = []
    for job, tables, steps in jobs:
        contenders = []
        for name in names() if slow else (DEFAULT,):
            title = f"{name} (default)" if name == DEFAULT else name
            try:
                tables.encode_steps([(s[:1], r[:1]) for s, r in steps], name)  # torchac compiles here
                contenders.append(_ours(tables, steps, name, title))
            except UsageError as error:
                print(f"left out: {error}", file=sys.stderr)
        try:
            contenders += [_compressai(tables, steps, bare=False), _compressai(tables, steps, bare=True)]
        except ImportError:
            words = "compressai is not installed (up to Python 3.12: pip install 'codec-suite[zoo]')"
            print(f"left out: {words}", file=sys.stderr)
        for _ in range(rounds):
            for contender in contenders:
                contender.turn()
        if slow:
            part = [(s[:20_000], r[:20_000]) for s, r in steps]
            contenders.append(_ours(tables, part[:3], NumpyCoder, "numpy oracle"))
            contenders[-1].turn()
        results += _results(job, tables, contenders)
    return results


def _results(job: str, tables: Tables, contenders: Sequence[Contender]) -> list[CoderSpeed]:
    peer = next((c for c in contenders if c.name == "compressai rANS"), None)
    results = []
    for c in contenders:
        n = sum(s.size for s, _ in c.steps)
        ideal = sum(tables.bits(s, r) for s, r in c.steps) / 8
        same_job = peer is not None and sum(s.size for s, _ in peer.steps) == n
        results.append(
            CoderSpeed(
                job,
                c.name,
                n,
                n / c.encode_seconds / 1e6,
                n / c.decode_seconds / 1e6,
                peer.encode_seconds / c.encode_seconds if peer is not None and same_job else None,
                peer.decode_seconds / c.decode_seconds if peer is not None and same_job else None,
                len(c.data),
                100 * (len(c.data) / ideal - 1),
            )
        )
    return results


def report(results: Sequence[CoderSpeed]) -> str:
    head = ("job", "coder", "symbols", "enc Msym/s", "dec Msym/s", "enc ratio", "dec ratio", "bytes", "over ideal")
    lines = ["{:9} {:24} {:>9} {:>11} {:>11} {:>10} {:>10} {:>9} {:>11}".format(*head)]
    for r in results:
        ratios = ["-" if x is None else f"{x:.2f}" for x in (r.encode_vs_compressai, r.decode_vs_compressai)]
        lines.append(
            f"{r.job:9} {r.coder:24} {r.symbols:9} {r.encode_msym_s:11.2f} {r.decode_msym_s:11.2f} "
            f"{ratios[0]:>10} {ratios[1]:>10} {r.n_bytes:9} {r.overhead_percent:9.3f} %"
        )
    lines.append("Ratios: speed over CompressAI's rANS end to end, in the same run; above 1 is faster.")
    return "\n".join(lines)


def write(results: Sequence[CoderSpeed], target: Path, command: str) -> None:
    """JSON or CSV, by the suffix; both name the command, the machine's processor and the versions."""
    made_by = {
        "command": command,
        "processor": machine_name(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("numpy", "constriction", "torchac", "compressai")},
    }
    rows = [asdict(r) for r in results]
    if target.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, [*rows[0], *made_by], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **made_by} for row in rows)
        write_file(target, text.getvalue())
    else:
        write_file(target, json.dumps({**made_by, "results": rows}, indent=1) + "\n")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -P -m codec.eval.studies.entropy_coders", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--symbols", type=int, default=1_000_000, help="of the one-shot job (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many is kept (default: %(default)s)")
    parser.add_argument("--fast", action="store_true", help="without torchac and the NumPy oracle")
    parser.add_argument("--out", type=Path, help="also write the numbers to this .json or .csv file")
    args = parser.parse_args(argv)
    if args.out is not None and args.out.suffix not in (".json", ".csv"):
        parser.error(f"--out takes a .json or .csv file, not {args.out}")
    results = run(args.symbols, args.rounds, not args.fast)
    print(report(results))
    if args.out is not None:
        given = sys.argv[1:] if argv is None else argv
        words = [parser.prog, *(args.out.name if word == str(args.out) else word for word in given)]
        write(results, args.out, " ".join(words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
