"""The built wheel, used as a stranger would: `python tests/check_wheel.py WHEEL PYTHON EMPTY_FOLDER`.

PYTHON belongs to an environment that holds the wheel, its base requirements and another torch than this one's; this
script runs in the developers' environment. It shows what an editable install hides: modules, data files and
requirements that are missing from the wheel. Another torch is another machine, so both environments must decode every
file to the same pixels (promise 1). Run by .ci/run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codec.container import is_container, read_header
from codec.eval.bench.readers import read_array

ROOT = Path(__file__).resolve().parents[1]
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
    folders = ("cli", "codecs", "datasets", "entropy", "eval", "media", "train", "weights", "samples")
    kinds = (".py", ".yaml", ".json", ".safetensors", ".png", ".md", ".typed")
    wanted = {
        f"codec/{name}"
        for name in tracked
        if name.endswith(kinds)
        and (name.split("/")[0] in folders or ("/" not in name and name.endswith((".py", ".typed"))))
        and not name.startswith("eval/results/")
    }
    check(wanted <= inside, f"missing from the wheel: {sorted(wanted - inside)}")
    check(not any(name.startswith(("codec/tests", "tests")) for name in inside), "the wheel holds tests")


def decoded(command: list[str], file: Path, out: Path) -> NDArray[np.generic]:
    """Its pixels, or its array, or the bytes of its frames. out: without suffix."""
    medium = read_header(file.read_bytes()).medium
    array = medium == "field"
    out = out.with_suffix({"field": ".npy", "video": ".mkv"}.get(medium, ".png"))
    subprocess.run([*command, "decode", file, "-o", out, "--quiet"], check=True, cwd=out.parent)
    if array:
        return read_array(out)
    if medium == "video":
        from codec.media.video.reader import open_video
        from codec.media.video.values import stack

        with open_video(out) as reader:
            return stack(reader.info, reader)
    with Image.open(out) as image:
        return np.asarray(image)


def main(wheel: Path, python: Path, folder: Path) -> None:
    contents(wheel)
    small, here = [str(python.with_name("codec"))], [str(Path(sys.executable).with_name("codec"))]
    probe = f"import codec, importlib.util as u; print(codec.__file__, [m for m in {EXTRAS} if u.find_spec(m)])"
    where, _, extras = subprocess.run(
        [python, "-c", probe], capture_output=True, text=True, check=True, cwd=folder
    ).stdout.strip().partition(" ")  # fmt: skip
    check("site-packages" in where, f"the package is {where}, not the installed wheel")
    check(extras == "[]", f"the small environment is not small: {extras}")

    photo = shutil.copy(ROOT / "samples" / "dog.png", folder / "dog.png")
    names = subprocess.run([*small, "list", "--json"], capture_output=True, text=True, check=True, cwd=folder).stdout
    for line in names.splitlines():
        entry = json.loads(line)
        if entry["medium"] != "image":
            continue
        file = folder / f"dog{entry['suffix']}"
        subprocess.run([*small, "encode", photo, "-o", file, "-c", entry["name"]], check=True, cwd=folder)
        subprocess.run([*small, "verify", file], check=True, cwd=folder)
        back = decoded(small, file, folder / f"dog-{entry['name']}")
        with Image.open(photo) as image:
            error = np.mean((np.asarray(image).astype(float) - back.astype(float)) ** 2)
        quality = 10 * np.log10(255**2 / max(float(error), 1e-9))
        check(quality > MIN_PSNR, f"{entry['name']}: {quality:.1f} dB after a round trip")
        again = decoded(here, file, folder / f"dog-{entry['name']}-here")
        check(np.array_equal(back, again), f"{entry['name']}: the two environments decode to different pixels")
        print(f"{entry['name']}: {file.stat().st_size} bytes, {quality:.2f} dB, same pixels in both environments")

    golden = [p for p in sorted((ROOT / "tests" / "golden").rglob("*")) if p.is_file() and is_container(p.read_bytes())]
    golden = [p for p in golden if read_header(p.read_bytes()).coder not in EXTRAS]  # torchac
    for index, path in enumerate(golden):
        file = Path(shutil.copy(path, folder / f"{index}-{path.name}"))
        one = decoded(small, file, folder / f"{index}-small")
        two = decoded(here, file, folder / f"{index}-here")
        same = one.shape == two.shape and one.tobytes() == two.tobytes()  # there may be NaN
        check(same, f"{path.name}: the two environments decode to different values")
    print(f"{len(golden)} golden files decoded, same values in both environments")


if __name__ == "__main__":
    main(*(Path(argument).absolute() for argument in sys.argv[1:4]))
