"""The wheel beside the newest of everything: `python tests/check_newest.py WHEEL PYTHON EMPTY_FOLDER`.

PYTHON belongs to an environment that holds the wheel and the newest releases of what it needs, on the newest Python
that has them; this script runs in the developers' environment, whose versions are pinned. A release that drops or
renames something shows here first. A file of every medium is encoded, verified and decoded there by the command with
each medium's codec, and must decode to the same values here, as must the golden files. A deprecation warning that
names a line of ours is an error, too: it is the next release's failure. Run by .ci/run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import h5py
import numpy as np
from check_wheel import ROOT, Values, check, equal, run_all, same_golden_files, values_of
from PIL import Image

CUT = (200, 240, 64, 96)  # top, left, height and width of the part of the sample photo
PACKAGES = "numpy torch pillow av h5py constriction safetensors rich"


class Case(NamedTuple):
    """A file, what encodes it, and how far its values may be off (None: not at all; a mean square for pictures)."""

    medium: str
    file: str
    options: tuple[str, ...]
    out: str  # where it is decoded to
    close: Callable[[Values, Values], bool]


def alike(first: Values, second: Values) -> bool:
    """Above 20 dB: far from a wrong picture, and within reach of every codec's default."""
    return all(
        first[name].shape == second[name].shape
        and float(np.mean((first[name].astype(float) - second[name].astype(float)) ** 2)) < 255**2 / 100
        for name in first
    )


def featured(first: Values, second: Values) -> bool:
    """What a classifier's first layers give of any picture: of one shape, and not flat."""
    del first
    return all(value.shape == (24, 56, 56) and float(value.std()) > 1 for value in second.values())


def heard(first: Values, second: Values) -> bool:
    """As many samples, and noise that is quieter than the sound."""
    sounds = [values["samples"] for values in (first, second)]  # AAC is read as floats, and comes back as integers
    x, y = (s / (1.0 if s.dtype.kind == "f" else 1 << 8 * s.dtype.itemsize - 1) for s in sounds)
    return x.shape == y.shape and float(((x - y) ** 2).sum()) < 0.3 * float((x**2).sum())


def placed(first: Values, second: Values) -> bool:
    """As many Gaussians, whose positions are within a hundredth of the scene: their order is another."""
    places = [np.sort(values["positions"].astype(float), axis=0) for values in (first, second)]
    return places[0].shape == places[1].shape and bool(np.abs(places[0] - places[1]).max() < 0.01)


def the_same_rows(first: Values, second: Values) -> bool:
    """Every Gaussian, bit by bit, in any order."""
    rows = [np.concatenate([a.reshape(len(a), -1) for a in values.values()], 1) for values in (first, second)]
    return equal(*({"rows": np.sort(np.ascontiguousarray(a).view(f"V{a.shape[1] * 4}"), axis=0)} for a in rows))


def bounded(first: Values, second: Values) -> bool:
    """Within a hundredth of each dataset's range, and everything of one axis as it was."""
    return first.keys() == second.keys() and all(
        equal({name: a}, {name: second[name]})
        if a.ndim < 2
        else bool(np.abs(a.astype(float) - second[name].astype(float)).max() <= 0.01 * float(np.ptp(a)))
        for name, a in first.items()
    )


CASES = (
    Case("picture, PNG", "photo.png", (), "png", alike),
    Case("picture, JPEG", "photo.jpg", (), "png", alike),
    Case("picture, walloc", "photo.png", ("-c", "walloc"), "png", alike),
    Case("features of a picture", "photo.png", ("-c", "entropic-student"), "npy", featured),
    Case("video, MP4 with sound", "clip.mp4", ("-c", "nirvana", "--effort", "0"), "mkv", alike),
    Case("sound, WAV", "talk.wav", (), "wav", heard),
    Case("sound, M4A", "talk.m4a", ("--kbps", "24"), "wav", heard),
    Case("field, HDF5", "run.h5", (), "h5", bounded),
    Case("field, NetCDF-4", "run.nc", (), "nc", bounded),
    Case("field, HDF5, zipgan", "run.h5", ("-c", "zipgan", "--rel-error", "0.01"), "h5", bounded),
    Case("Gaussians, PLY", "scene.ply", (), "ply", placed),
    Case("Gaussians, .splat", "scene.splat", (), "splat", the_same_rows),
    Case("array, IDX", "items.idx", ("-c", "circuit@mnist"), "idx", equal),
    Case("label map, PNG", "labels.png", ("-c", "circuit@mnist"), "png", equal),
)


# ---- the inputs, made here without a line of the package


def write_inputs(folder: Path) -> None:
    top, left, height, width = CUT
    with Image.open(ROOT / "samples" / "dog.png") as image:
        photo = image.convert("RGB").crop((left, top, left + width, top + height))
    photo.save(folder / "photo.png")
    photo.save(folder / "photo.jpg", quality=90)
    labels = np.add.outer(np.arange(28) // 10, np.arange(28) // 7).astype(np.uint8)
    Image.fromarray(labels).save(folder / "labels.png")
    items = np.stack([np.roll(labels * 40, shift, 1) for shift in range(5)])
    (folder / "items.idx").write_bytes(bytes((0, 0, 8, 3)) + np.array(items.shape, ">i4").tobytes() + items.tobytes())
    _write_clip(folder / "clip.mp4")
    _write_sound(folder / "talk.wav", "pcm_s16le", "s16")
    _write_sound(folder / "talk.m4a", "aac", "fltp")
    _write_splats(folder)
    x = np.linspace(0, 6, 32, dtype=np.float32)
    velocity = np.stack([np.sin(x[:, None, None] + k) * np.cos(x[:, None] - k) + 0.1 * x for k in range(3)])
    for name in ("run.h5", "run.nc"):
        with h5py.File(folder / name, "w") as file:
            scale = file.create_dataset("x", data=x)
            scale.make_scale("x")
            field = file.create_dataset("velocity", data=velocity, chunks=(1, 32, 32, 32), compression="gzip")
            field.attrs["units"] = "m s-1"
            field.dims[3].attach_scale(scale)
            if name.endswith(".nc"):
                file.attrs["_NCProperties"] = np.bytes_(b"version=2,netcdf=4.9.2")


def _write_clip(path: Path) -> None:
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        sound: Any = output.add_stream("aac", rate=16000, layout="mono")
        y, x = np.mgrid[:32, :48]
        for index in range(5):
            rgb = np.stack([x * 4 + 9 * index, y * 7, x + y], axis=2).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(video.encode(frame))
        wave = np.sin(np.arange(3200) / 6).astype(np.float32)[None]
        samples = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
        samples.sample_rate, samples.pts, samples.time_base = 16000, 0, Fraction(1, 16000)
        output.mux(sound.encode(samples))
        for stream in (video, sound):
            output.mux(stream.encode(None))


def _write_sound(path: Path, codec: str, form: str) -> None:
    """A second of two tones, mono, 16 kHz."""
    t = np.arange(16_000) / 16_000
    wave = (0.3 * np.sin(2 * np.pi * 330 * t) + 0.2 * np.sin(2 * np.pi * 1250 * t)).astype(np.float32)[None]
    with av.open(str(path), "w") as output:
        sound: Any = output.add_stream(codec, rate=16_000, layout="mono")
        samples = wave if form == "fltp" else (wave * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, form, "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
        for packet in (*sound.encode(frame), *sound.encode(None)):
            output.mux(packet)


def _write_splats(folder: Path) -> None:
    """A bent sheet of 500 Gaussians of constant colour, as PLY and as .splat."""
    u, v = np.meshgrid(np.linspace(-1, 1, 25), np.linspace(-1, 1, 20))
    names = [*"xyz", "nx", "ny", "nz", *(f"f_dc_{k}" for k in range(3)), "opacity"]
    names += [*(f"scale_{k}" for k in range(3)), *(f"rot_{k}" for k in range(4))]
    rows = np.zeros((500, len(names)), "<f4")
    rows[:, :3] = np.stack([u, v, np.sin(3 * u) * v], axis=-1).reshape(-1, 3)
    rows[:, 6:9], rows[:, 9], rows[:, 10:13] = rows[:, :3], 2, -4
    rows[:, 13:] = [1, 0.5, 0, 0]
    head = ["ply", "format binary_little_endian 1.0", "element vertex 500", *(f"property float {n}" for n in names)]
    (folder / "scene.ply").write_bytes("\n".join([*head, "end_header", ""]).encode() + rows.tobytes())
    sizes = np.full((500, 3), 0.02, "<f4").view(np.uint8)
    colours = np.concatenate([(rows[:, :3] * 60 + 128).astype(np.uint8), np.full((500, 1), 200, np.uint8)], axis=1)
    turns = np.tile(np.array([255, 128, 150, 128], np.uint8), (500, 1))
    places = np.ascontiguousarray(rows[:, :3]).view(np.uint8)
    (folder / "scene.splat").write_bytes(np.concatenate([places, sizes, colours, turns], axis=1).tobytes())


# ---- the two environments


def no_warnings(words: str) -> None:
    """Nothing on stderr warns of a line of ours."""
    ours = [line for line in words.splitlines() if "Warning: " in line and "/site-packages/codec/" in line]
    check(not ours, "the newest packages warn of lines of ours:\n" + "\n".join(ours))


def versions(python: Path) -> dict[str, str]:
    probe = (
        "import importlib.metadata as m, json, platform, sys; print(json.dumps({'python': platform.python_version(), "
        "**{name: m.version(name) for name in sys.argv[1:]}}))"
    )
    done = subprocess.run([python, "-c", probe, *PACKAGES.split()], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main(wheel: Path, python: Path, folder: Path) -> None:
    del wheel  # it is installed already; named for the same order of arguments as check_wheel has
    mine = versions(Path(sys.executable))
    print("\n".join(f"{name + ':':<14} {new:<12} (tests: {mine[name]})" for name, new in versions(python).items()))
    write_inputs(folder)
    failures = 0
    for number, case in enumerate(CASES):
        try:
            words = outcome(case, python, folder / str(number))
        except SystemExit as end:  # the others are tried all the same
            failures += 1
            words = f"FAILED: {end}"
        print(f"{case.medium + ':':<24} {words}", flush=True)
    count = same_golden_files(python, folder)
    print(f"{'golden files:':<24} ok, {count} decode to the same values")
    check(not failures, f"{failures} of {len(CASES)} cases failed beside the newest packages")


def outcome(case: Case, python: Path, stem: Path) -> str:
    """The words for a case that went well; SystemExit for one that didn't. stem: of the files that it makes."""
    source, coded = stem.with_name(case.file), stem.with_suffix(".coded")
    there, back = (stem.with_name(f"{stem.name}-{who}.{case.out}") for who in ("there", "here"))
    verbs = [["encode", source, *case.options, "-o", coded], ["verify", coded], ["decode", coded, "-o", there]]
    no_warnings(run_all(python, verbs, stem.parent))
    run_all(Path(sys.executable), [["decode", coded, "-o", back]], stem.parent)
    check(equal(values_of(there), values_of(back)), "decodes to other values here than there")
    check(case.close(values_of(source), values_of(there)), "not what was encoded")
    return f"ok, {source.stat().st_size} bytes, coded {coded.stat().st_size}"


if __name__ == "__main__":
    main(*(Path(argument).absolute() for argument in sys.argv[1:4]))
