"""The cost of the engines: processor seconds and memory of the same work by compiled kernels, and by what they replace.

    python -P -m codec.eval.studies.engine process warm walloc circuit interp nirvana --data ../shared/data --out DIR
    python -P -m codec.eval.studies.engine vqgan --data ../shared/data --out DIR
    python -P -m codec.eval.studies.engine large --data ../shared/data --out DIR      # 33 megapixels: ten minutes

Each part measures its sides in turn, so that what else the machine does falls on all of them, and writes
DIR/<part>.json: medians, least values and the ratio of medians. Seconds are processor time of one thread; of `process`,
`nirvana` and `large`, of the whole process of `codec encode` or `codec decode`. The networks that are replaced run in
torch (CODEC_ENGINE=torch), loops in NumPy. --against FOLDER also measures another `codec` package, such as an earlier
one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ... import native
from ...codecs.base.codec import Codec, threads
from ...codecs.base.field_bounds import Bound
from ...datasets.clips import CLIPS, write
from ...errors import UsageError
from ..bench.run import machine_name
from ..output import write_json
from .memory import mosaic, peer_of

__all__ = ["PARTS", "interleaved", "main", "process"]

Sides = Mapping[str, Callable[[], Any]]
# The largest resident size of a process as it ends; that of wait4 counts what the parent was when it started it.
PROGRAM = """
import sys
from codec.cli import main
code = main(sys.argv[2:])
with open("/proc/self/status") as status, open(sys.argv[1], "w") as report:
    report.write(next((line.split()[1] for line in status if line.startswith("VmHWM")), "0"))
sys.exit(code)
"""
RANDOM = "weights=random"  # of CompressAI's networks, whose weights need the web: for their times


def interleaved(sides: Sides, repeat: int) -> dict[str, Any]:
    """The processor seconds of calls that are made in turn: medians, least values, ratios of the first to others."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeat + 1):
        for name, call in sides.items():
            start = time.process_time()
            call()
            if turn:  # the first fills caches
                seconds[name].append(time.process_time() - start)
    return summary(seconds)


def summary(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Medians and least values by side, and the ratio of the first side's median to each other's."""
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    first = next(iter(middle))
    return {
        "median": {name: round(value, 4) for name, value in middle.items()},
        "least": {name: round(min(values), 4) for name, values in seconds.items()},
        "ratio": {name: round(middle[first] / value, 3) for name, value in middle.items() if name != first},
    }


class Engine:
    """A context in which exact networks run on an engine."""

    def __init__(self, name: str) -> None:
        self.name, self.before = name, os.environ.get("CODEC_ENGINE")

    def __enter__(self) -> None:
        os.environ["CODEC_ENGINE"] = self.name

    def __exit__(self, *error: object) -> None:
        if self.before is None:
            del os.environ["CODEC_ENGINE"]
        else:
            os.environ["CODEC_ENGINE"] = self.before


def by_engine(name: str, call: Callable[..., Any], *given: Any) -> Callable[[], Any]:
    """The call, made while an engine is in use."""

    def run() -> Any:
        with Engine(name):
            return call(*given)

    return run


# ---- whole processes


def process(
    words: Sequence[object], environment: Mapping[str, str], package: Path | None = None
) -> tuple[float, float]:
    """The processor seconds and the largest resident size, MiB, of a process that runs a command line of `codec`."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    if package is not None:
        variables["PYTHONPATH"] = str(package)
    with tempfile.NamedTemporaryFile("r") as report:
        arguments = [sys.executable, "-P", "-c", PROGRAM, report.name, *map(str, words), "--quiet"]
        quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        child = os.posix_spawn(sys.executable, arguments, variables, file_actions=quiet)
        _, status, usage = os.wait4(child, 0)
        if status:
            code = os.waitstatus_to_exitcode(status)
            raise UsageError(f"codec {' '.join(map(str, words))} failed: exit status {code}")
        kibibytes = int(report.read())
    return usage.ru_utime + usage.ru_stime, kibibytes / 1024


def sides_of_processes(against: Path | None) -> dict[str, tuple[dict[str, str], Path | None]]:
    sides: dict[str, tuple[dict[str, str], Path | None]] = {
        "native": ({"CODEC_ENGINE": "native"}, None),
        "torch": ({"CODEC_ENGINE": "torch"}, None),
    }
    return sides if against is None else {**sides, "before": ({}, against)}


def measure_process(data: Path, repeat: int, against: Path | None) -> dict[str, Any]:
    """`codec decode` and `codec encode` of a Kodak picture, and `codec decode` of WaLLoC's file."""
    picture = data / "images" / "test-kodak" / "kodim19.png"
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for codec in ("s2lic", "walloc"):
            coded = folder / f"coded.{codec}"
            process(["encode", picture, "-o", coded, "-c", codec], {})
            for verb, words in (
                ("decode", ["decode", coded, "-o", folder / "decoded.png", "--force"]),
                ("encode", ["encode", picture, "-o", folder / f"again.{codec}", "-c", codec, "--force"]),
            ):
                seconds: dict[str, list[float]] = {}
                peaks: dict[str, list[float]] = {}
                for turn in range(repeat + 1):
                    for side, (environment, package) in sides_of_processes(against).items():
                        spent, peak = process(words, environment, package)
                        if turn:
                            seconds.setdefault(side, []).append(spent)
                            peaks.setdefault(side, []).append(peak)
                memory = {side: round(statistics.median(values)) for side, values in peaks.items()}
                report[f"{codec} {verb}"] = summary(seconds) | {"peak_mib": memory}
    return report


def measure_large(data: Path, repeat: int, against: Path | None) -> dict[str, Any]:
    """S2LIC on a picture of 7680x4320: seconds a pixel against a Kodak picture's, and memory of the process."""
    photos = sorted((data / "images" / "test-kodak").glob("*.png"))
    report: dict[str, Any] = {"pixels": 7680 * 4320}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = folder / "large.png"
        Image.fromarray(mosaic(photos, 7680, 4320)).save(large, compress_level=1)
        for codec in ("s2lic", "walloc"):
            coded, small = folder / f"large.{codec}", folder / f"small.{codec}"
            process(["encode", photos[18], "-o", small, "-c", codec], {})
            spent, peak = process(["encode", large, "-o", coded, "-c", codec], {"CODEC_ENGINE": "native"})
            few = ["encode", photos[18], "-o", folder / "again", "-c", codec, "--force"]
            report[f"{codec} encode"] = _per_pixel(spent, peak, few, codec)
            words = ["decode", coded, "-o", folder / "large-decoded.png", "--force"]
            spent, peak = process(words, {"CODEC_ENGINE": "native"})
            few = ["decode", small, "-o", folder / "small-decoded.png", "--force"]
            report[f"{codec} decode"] = _per_pixel(spent, peak, few, codec)
    return report


def _per_pixel(spent: float, peak: float, few: Sequence[object], codec: str) -> dict[str, Any]:
    """Seconds and memory of a large picture, and how its seconds a pixel compare with those of a Kodak picture.

    What a process needs to start (`codec list`, and loading) is measured apart: it counts once, whatever the size.
    """
    kodak = statistics.median(process(few, {"CODEC_ENGINE": "native"})[0] for _ in range(5))
    start = time.process_time()
    Codec.load(codec)
    start = statistics.median(process(["list"], {})[0] for _ in range(5)) + time.process_time() - start
    ratio = (spent - start) / (7680 * 4320) / ((kodak - start) / (768 * 512))
    return {
        "seconds": round(spent, 2),
        "peak_mib": round(peak),
        "kodak_seconds": round(kodak, 3),
        "start_seconds": round(start, 3),
        "seconds_a_pixel_to_kodak": round(ratio, 3),
    }


# ---- codecs that are loaded


def measure_warm(data: Path, repeat: int, against: Path | None) -> dict[str, Any]:
    """S2LIC beside CompressAI's mbt2018-mean (random weights), encoding and decoding a Kodak picture, one thread."""
    pixels = np.asarray(Image.open(data / "images" / "test-kodak" / "kodim19.png").convert("RGB"))
    s2lic = Codec.load("s2lic")
    coded = s2lic.compress(pixels)
    peer = peer_of(f"mbt2018-mean:{RANDOM}:quality=4", 1)
    other = peer.encode(pixels)
    encode: Sides = {
        "native": by_engine("native", s2lic.compress, pixels),
        "mbt2018-mean": lambda: peer.encode(pixels),
        "torch": by_engine("torch", s2lic.compress, pixels),
    }
    decode: Sides = {
        "native": by_engine("native", s2lic.decompress, coded),
        "mbt2018-mean": lambda: peer.decode(other),
        "torch": by_engine("torch", s2lic.decompress, coded),
    }
    return {"encode": interleaved(encode, repeat), "decode": interleaved(decode, repeat)}


def measure_walloc(data: Path, repeat: int, against: Path | None) -> dict[str, Any]:
    """Both weights of WaLLoC on a Kodak picture."""
    pixels = np.asarray(Image.open(data / "images" / "test-kodak" / "kodim19.png").convert("RGB"))
    report: dict[str, Any] = {}
    for tag in ("16x", "4x"):
        walloc = Codec.load(f"walloc@{tag}")
        coded = walloc.compress(pixels)
        for verb, call, given in (("encode", walloc.compress, pixels), ("decode", walloc.decompress, coded)):
            sides = {engine: by_engine(engine, call, given) for engine in ("native", "torch")}
            report[f"{tag} {verb}"] = interleaved(sides, repeat)
    return report


def measure_vqgan(data: Path, repeat: int, against: Path | None) -> dict[str, Any]:
    """VQGAN on a Kodak picture: its smallest codebook, its default and its largest; the default by each index coder."""
    pixels = np.asarray(Image.open(data / "images" / "test-kodak" / "kodim19.png").convert("RGB"))
    report: dict[str, Any] = {}
    for label, quality, coder in (
        ("smallest", 1, None),
        ("default", None, None),
        ("largest", 100, None),
        ("default fixed", None, "fixed"),
        ("default histogram", None, "histogram"),
    ):
        vqgan = Codec.load("vqgan", quality=quality).with_settings(**({"coder": coder} if coder else {}))
        coded = vqgan.compress(pixels)
        engines = ("native", "torch") if coder is None else ("native",)
        report[f"{label} bytes"] = len(coded)
        for verb, call, given in (("encode", vqgan.compress, pixels), ("decode", vqgan.decompress, coded)):
            sides = {engine: by_engine(engine, call, given) for engine in engines}
            report[f"{label} {verb}"] = interleaved(sides, repeat)
    return report


def measure_circuit(data: Path, repeat: int, against: Path | None) -> dict[str, Any]:
    """The 10 000 test images of MNIST, both ways."""
    with gzip.open(data / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    circuit = Codec.load("circuit")
    coded = circuit.compress(images)
    report: dict[str, Any] = {"images": len(images), "bytes": len(coded)}
    for verb, call, given in (("encode", circuit.compress, images), ("decode", circuit.decompress, coded)):
        sides = {engine: by_engine(engine, call, given) for engine in ("native", "numpy")}
        report[verb] = interleaved(sides, min(repeat, 3))
    return report


def measure_interp(data: Path, repeat: int, against: Path | None) -> dict[str, Any]:
    """Megabytes a second of `interp` at a relative bound of 1e-3, on a cube of real turbulence and on weather."""
    import h5py

    report: dict[str, Any] = {}
    for name in ("hit_dns_96", "era_interim_uvz_monthly", "kolmogorov_flow_256"):
        with h5py.File(data / "scientific" / f"{name}.h5") as file:
            fields: list[Any] = []
            file.visititems(lambda _, item, fields=fields: fields.append(item) if hasattr(item, "shape") else None)
            largest = max(fields, key=lambda item: item.size if item.dtype.kind == "f" else 0)
            array = np.ascontiguousarray(largest[()], np.float32)
        interp = Codec.load("interp").with_settings(bound=Bound(1e-3))
        coded = interp.compress(array)
        for verb, call, given in (("encode", interp.compress, array), ("decode", interp.decompress, coded)):
            sides = {engine: by_engine(engine, call, given) for engine in ("native", "numpy")}
            measured = interleaved(sides, repeat)
            speed = {side: round(array.nbytes / 1e6 / value, 1) for side, value in measured["median"].items()}
            report[f"{name} {verb}"] = measured | {"megabytes": round(array.nbytes / 1e6, 1), "mb_a_second": speed}
    return report


def measure_nirvana(data: Path, repeat: int, against: Path | None) -> dict[str, Any]:
    """Seventeen frames of 352x288 at effort 0, encoded and decoded by whole processes of one thread."""
    whole = CLIPS["bottle-352x288"]
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, coded = folder / "clip.mkv", folder / "coded.nirvana"
        write(replace(whole, stop=whole.start + 17), data / "video", clip)
        process(["encode", clip, "-o", coded, "-c", "nirvana"], {})
        sides: dict[str, tuple[dict[str, str], Path | None]] = {
            "native": ({"CODEC_ENGINE": "native"}, None),
            "numpy": ({"CODEC_ENGINE": "numpy"}, None),
        }
        if against is not None:
            sides["before"] = ({}, against)
        for verb, words in (
            ("encode", ["encode", clip, "-o", folder / "again.nirvana", "-c", "nirvana", "--force"]),
            ("decode", ["decode", coded, "-o", folder / "back.mkv", "--force"]),
        ):
            seconds: dict[str, list[float]] = {}
            for _ in range(min(repeat, 3)):
                for side, (environment, package) in sides.items():
                    seconds.setdefault(side, []).append(process(words, environment, package)[0])
            report[verb] = summary(seconds)
    return report


PARTS: Mapping[str, Callable[[Path, int, Path | None], dict[str, Any]]] = {
    "process": measure_process,
    "warm": measure_warm,
    "walloc": measure_walloc,
    "vqgan": measure_vqgan,
    "circuit": measure_circuit,
    "interp": measure_interp,
    "nirvana": measure_nirvana,
    "large": measure_large,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="codec.eval.studies.engine", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--data", type=Path, required=True, help="folder of images, mnist, scientific, video")
    parser.add_argument("--out", type=Path, required=True, help="folder; a JSON file for each part")
    parser.add_argument("--repeat", type=int, default=5, help="turns (default 5)")
    parser.add_argument("--against", type=Path, help="folder that holds another `codec` package")
    args = parser.parse_args(argv)
    if native.library() is None:
        raise UsageError("there are no compiled kernels to measure: see docs/engine.md")
    command = f"python -P -m codec.eval.studies.engine {shlex.join(argv if argv is not None else sys.argv[1:])}"
    about = {"command": command, "machine": machine_name(), "instruction_set": native.instruction_set(), "threads": 1}
    for part in args.parts:
        with threads(1):
            report = PARTS[part](args.data, args.repeat, args.against)
        write_json(args.out / f"{part}.json", {**about, **report})
        print(json.dumps({part: report}))


if __name__ == "__main__":
    main()
