"""The built wheel, used as a stranger would: `python tests/check_wheel.py WHEEL PYTHON EMPTY_FOLDER`.

PYTHON belongs to an environment that holds the wheel, its base requirements and no torch, or another torch than this
one's; this script runs in the developers' environment. It shows what an editable install hides: modules, data files and
requirements that are missing from the wheel. Without torch the compiled kernels decode there, and torch here; with
another torch, which is another machine, it decodes there, and the kernels here. Both environments must decode every
file to the same values (promise 1). Run by .ci/run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codec.container import Header, is_container, read_header
from codec.media import array as arrays
from codec.media.audio.reader import read_audio
from codec.media.gaussians.sources import read_gaussians
from codec.media.video.reader import open_video
from codec.media.video.values import stack

Values = dict[str, NDArray[Any]]

ROOT = Path(__file__).resolve().parents[1]
HERE = sys.executable
DRIVER = """
import json, sys
from codec.cli import main
for words in json.load(sys.stdin):
    if code := main(words):
        sys.exit(f"codec {' '.join(words)}: exit code {code}")
"""
NEEDS_TORCH = ("zipgan", "nirvana-paper")  # golden files, by how their names begin, that the base install can't decode
EXTRAS = ("compressai", "lightning", "torchac", "imagecodecs", "pytest")  # what the base install must do without
MIN_PSNR = 25.0  # dB; far below any codec's default, far above a wrong picture


def check(condition: bool, words: str) -> None:
    if not condition:
        sys.exit(f"check_wheel: {words}")


def contents(wheel: Path) -> None:
    """Everything in the checkout that is code or data of the package is in the wheel, and no tests are."""
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    folders = (
        "cli",
        "codecs",
        "datasets",
        "entropy",
        "eval",
        "media",
        "native",
        "train",
        "viewer",
        "weights",
        "samples",
    )
    kinds = (".py", ".yaml", ".json", ".safetensors", ".png", ".md", ".typed", ".html", ".css", ".js")
    wanted = {
        f"codec/{name}"
        for name in tracked
        if name.endswith(kinds)
        and (name.split("/")[0] in folders or ("/" not in name and name.endswith((".py", ".typed"))))
        and not name.startswith("eval/results/")
    }
    check(wanted <= inside, f"missing from the wheel: {sorted(wanted - inside)}")
    check(not any(name.startswith(("codec/tests", "tests")) for name in inside), "the wheel holds tests")


# ---- two environments


def run_all(python: Path, commands: Sequence[Sequence[str | Path]], folder: Path, engine: str = "") -> str:
    """Commands of `codec` in one process of an environment; what they and Python's warnings say on stderr.

    One process, since importing torch takes seconds. The first that fails ends the check with its words. engine: of the
    exact networks; "": the usual one.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" or str(python) == HERE}
    environment["CODEC_ENGINE"] = engine
    done = subprocess.run(
        [python, "-W", "default", "-c", DRIVER],
        input=json.dumps([[*map(str, words)] for words in commands]),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    check(done.returncode == 0, f"{python}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stderr


def values_of(path: Path) -> Values:
    """The values in a file of any medium, or of a folder of them, read in this environment."""
    if path.is_dir():
        return {f"{file.name}/{key}": v for file in sorted(path.iterdir()) for key, v in values_of(file).items()}
    if path.suffix in (".h5", ".nc"):
        with h5py.File(path) as file:
            names: list[str] = []
            file.visit(names.append)
            items = {name: file[name] for name in names}
            return {name: np.asarray(item[()]) for name, item in items.items() if isinstance(item, h5py.Dataset)}
    if path.suffix in (".wav", ".m4a"):
        return {"samples": np.asarray(read_audio(path).samples)}
    if path.suffix in (".mkv", ".mp4"):
        with open_video(path) as reader:
            return {"frames": stack(reader.info, reader)}
    if path.suffix in (".ply", ".splat"):
        return {key: np.asarray(array) for key, array in vars(read_gaussians(path)).items()}
    if path.suffix == ".npy":
        return {"array": np.load(path, allow_pickle=False)}
    if path.suffix in (".idx", ".csv"):
        return {"array": np.asarray(arrays.read(path).array)}
    with Image.open(path) as image:
        return {"pixels": np.asarray(image)}


def equal(first: Values, second: Values) -> bool:
    """Every value, bit by bit: there may be NaN. Types and shapes, too: other values have the same bytes."""
    return first.keys() == second.keys() and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in ((first[name], second[name]) for name in first)
    )


def _suffix(header: Header) -> str:
    """The suffix of what a golden file is decoded to: a form that holds all its values, "" for a folder of frames."""
    if header.medium == "gaussian":
        return ".ply" if header.shape[0] == 1 else ""
    return {"image": ".png", "video": ".mkv", "audio": ".wav"}.get(
        header.medium, ".csv" if header.dtype == "text" else ".npy"
    )


def same_golden_files(python: Path, folder: Path, engines: tuple[str, str] = ("", ""), torch: bool = True) -> int:
    """Both environments decode the golden files to the same values; returns how many there are.

    engines: there and here. torch: whether it is there; without it, files that need it are left out.
    """
    golden = [p for p in sorted((ROOT / "tests" / "golden").rglob("*")) if p.is_file() and is_container(p.read_bytes())]
    headers = {path: read_header(path.read_bytes()) for path in golden}
    golden = [path for path in golden if torch or not path.name.startswith(NEEDS_TORCH)]
    suffixes = [_suffix(headers[path]) for path in golden]
    outs = {who: [folder / f"golden-{i}-{who}{suffix}" for i, suffix in enumerate(suffixes)] for who in ("a", "b")}
    for who, where, engine in (("a", python, engines[0]), ("b", Path(HERE), engines[1])):
        pairs = zip(golden, outs[who], strict=True)
        run_all(where, [["decode", path, "-o", out, "--quiet"] for path, out in pairs], folder, engine)
    for path, out, again in zip(golden, outs["a"], outs["b"], strict=True):
        check(equal(values_of(out), values_of(again)), f"{path.name}: the two environments decode to different values")
    return len(golden)


def main(wheel: Path, python: Path, folder: Path) -> None:
    contents(wheel)
    small = [str(python.with_name("codec"))]
    names = (*EXTRAS, "torch")
    probe = f"import codec, importlib.util as u; print(codec.__file__, [m for m in {names} if u.find_spec(m)])"
    where, _, extras = subprocess.run(
        [python, "-c", probe], capture_output=True, text=True, check=True, cwd=folder
    ).stdout.strip().partition(" ")  # fmt: skip
    check("site-packages" in where, f"the package is {where}, not the installed wheel")
    check(extras in ("[]", "['torch']"), f"the small environment is not small: {extras}")
    torch = extras != "[]"
    engines = ("torch", "native") if torch else ("native", "torch")

    photo = Path(shutil.copy(ROOT / "samples" / "dog.png", folder / "dog.png"))
    listed = subprocess.run([*small, "list", "--json"], capture_output=True, text=True, check=True, cwd=folder).stdout
    for line in listed.splitlines():
        entry = json.loads(line)
        check(entry["engine"] == "native", f"the wheel's compiled kernels aren't in use: {entry['engine']}")
        if entry["medium"] != "image":
            continue
        file = folder / f"dog{entry['suffix']}"
        back, again = (folder / f"dog-{entry['name']}{end}.png" for end in ("", "-here"))
        encode = ["encode", photo, "-o", file, "-c", entry["name"]]
        run_all(python, [encode, ["verify", file], ["decode", file, "-o", back]], folder, engines[0])
        run_all(Path(HERE), [["decode", file, "-o", again]], folder, engines[1])
        pixels, decoded = (values_of(path)["pixels"].astype(float) for path in (photo, back))
        quality = 10 * np.log10(255**2 / max(float(np.mean((pixels - decoded) ** 2)), 1e-9))
        check(quality > MIN_PSNR, f"{entry['name']}: {quality:.1f} dB after a round trip")
        same = equal(values_of(back), values_of(again))
        check(same, f"{entry['name']}: the two environments decode to different pixels")
        print(f"{entry['name']}: {file.stat().st_size} bytes, {quality:.2f} dB, same pixels by {' and '.join(engines)}")
    scenes = sorted((ROOT / "tests" / "golden").glob("dualgs-*-spz.dualgs"))
    for number, scene in enumerate(scenes):  # coded anew, of what they decode to
        splats, file, back = (folder / f"scene-{number}{end}" for end in (".splat", ".dualgs", "-back.splat"))
        run_all(python, [["decode", scene, "-o", splats], ["encode", splats, "-o", file], ["verify", file]], folder)
        run_all(Path(HERE), [["decode", file, "-o", back]], folder)
        rows = [np.sort(np.frombuffer(path.read_bytes(), "V32")) for path in (splats, back)]
        check(rows[0].tobytes() == rows[1].tobytes(), "Gaussians of a .splat file come back otherwise")
    check(bool(scenes), "no golden files of Gaussians")
    if not torch:
        field = next((ROOT / "tests" / "golden").glob("zipgan-*"))
        words = [*small, "decode", field, "-o", folder / "field.npy"]
        refused = subprocess.run(words, capture_output=True, text=True, cwd=folder)
        cure = "pip install 'codec-suite[torch]'"
        check(cure in refused.stderr, f"zipgan without torch says {refused.stderr!r}, not {cure}")
    count = same_golden_files(python, folder, engines, torch)
    print(f"{count} golden files decoded to the same values by {' there and '.join(engines)} here")


if __name__ == "__main__":
    main(*(Path(argument).absolute() for argument in sys.argv[1:4]))
