"""Codecs of other packages: the toy codec of CONTRIBUTING.md, installed as its page says, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec import native

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "import sys; from codec.cli import main; sys.exit(main())"


def install(site: Path, package: str, files: dict[str, str], entry_points: str) -> None:
    """What pip would leave of a package in a folder on the path."""
    (site / package).mkdir(parents=True)
    for name, text in files.items():
        (site / package / name).write_text(text)
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[codec.codecs]\n{entry_points}\n")


def page_codec() -> dict[str, str]:
    """The files of the toy codec, as CONTRIBUTING.md shows them, with the imports of another package."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    files = {}
    for block in blocks:
        if place := re.search(r"# codecs/toy/(\w+\.py)", block):
            text = re.sub(r"from \.\.\.(\w)", r"from codec.\1", block)
            files[place.group(1)] = re.sub(r"from \.\.base\.", "from codec.codecs.base.", text)
    assert set(files) == {"__init__.py", "codec.py"}
    return files


def run(site: Path, *words: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *map(str, words)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_codec_of_the_page_works(tmp_path: Path) -> None:
    install(tmp_path / "site", "codec_toy", page_codec(), "toy = codec_toy")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    listed = run(tmp_path / "site", "list", "--json")
    cards = {card["name"]: card for card in map(json.loads, listed.stdout.splitlines())}
    assert cards["toy"] == {
        "name": "toy",
        "medium": "image",
        "suffix": ".toy",
        "summary": "zlib: lossless, for this page",
        "default": False,
        "engine": native.engine(),
        "instruction_set": native.instruction_set(),
    }
    assert cards["s2lic"]["default"] is True
    done = run(tmp_path / "site", "encode", tmp_path / "photo.png", "-c", "toy")
    assert done.returncode == 0, done.stderr
    done = run(tmp_path / "site", "decode", tmp_path / "photo.toy", "-o", tmp_path / "back.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "back.png") as back:
        assert (np.asarray(back) == pixels).all()
    refused = run(tmp_path / "site", "encode", tmp_path / "photo.png", "-c", "toy", "-q", 3, "--force")
    assert (refused.returncode, "toy doesn't take --quality" in refused.stderr) == (2, True)
    # without the plug-in the file says what is missing
    alone = run(tmp_path, "decode", tmp_path / "photo.toy", "-o", tmp_path / "other.png")
    assert (alone.returncode, "made by codec 'toy'" in alone.stderr) == (3, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module\n", "ModuleNotFoundError"),
        ("CARDS = (3,)\n", "isn't a codec.codecs.base.settings.Card"),
        (
            "from codec.codecs.base.settings import Card\nCARDS = (Card('s2lic', 'image', '.x', 'x', ':X'),)\n",
            "there is a codec 's2lic' already",
        ),
    ],
)
def test_a_broken_plugin_is_a_warning_and_a_line(tmp_path: Path, text: str, reason: str) -> None:
    install(tmp_path / "site", "broken_codec", {"__init__.py": text}, "oops = broken_codec")
    listed = run(tmp_path / "site", "list")
    assert listed.returncode == 0, listed.stderr
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("oops")]
    assert "can't be used" in line
    assert reason in line
    assert listed.stderr == ""  # warnings are for Python
    assert "s2lic  " in listed.stdout
    asked = run(tmp_path / "site", "encode", "x.png", "-c", "oops")
    assert asked.returncode == 2
    assert "the codec plug-in 'oops' can't be used" in asked.stderr
    assert reason in asked.stderr
