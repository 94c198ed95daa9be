"""README.md and docs/usage.md do what they say: their commands and snippets run as written, from top to bottom.

Each page runs in an empty folder that holds what a checkout does: samples/, the sample photo cut to a part of it, so
that this takes seconds, and tests/golden. Commands of `codec` run in this process, everything else in bash.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from codec import cli

ROOT = Path(__file__).resolve().parents[1]
CUT = (260, 220, 420, 380)  # of the sample photo: left, top, right, bottom
# Lines that install something, or take minutes to hours. All others run.
NOT_RUN = {
    "README.md": {
        "git clone <this repository> codec-suite && cd codec-suite",
        "make demo",
        "make test",
        "pip install .",
        "pip install '.[torch]'",
        "pip install -c constraints.txt -e '.[all]'",
    },
    "docs/usage.md": {
        "codec reproduce s2lic --data photos",
        "codec perceive --task digits --codecs jpeg,webp --out seen",
        "codec train s2lic --recipe small --data photos",
        "codec train s2lic --recipe small --resume",
        "codec train s2lic --recipe small-cpu --data photos",
    },
}


class Block(NamedTuple):
    language: str  # sh or python
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.M | re.S)]


def commands(text: str) -> Iterator[str]:
    """The lines of a block of shell, without their comments; `\\` at an end joins two."""
    for line in text.replace("\\\n", " ").splitlines():
        command = re.sub(r"(^|\s+)#.*", "", line).strip()
        if command:
            yield command


def run_command(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "codec" and not re.search(r"[|<>&;]", command):
        assert cli.main(words[1:]) == 0, command
        return
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    bash = ["bash", "-e", "-o", "pipefail", "-c", command]
    done = subprocess.run(bash, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def run_page(name: str, page: str) -> set[str]:
    """Runs a page in this folder; returns the lines that were not run."""
    left_out, variables = set(), {"__name__": name}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, name, "exec"), variables)
            continue
        assert block.language == "sh", "a block of shell or Python says so, for this test"
        for command in commands(block.text):
            if command in NOT_RUN[name]:
                left_out.add(command)
            else:
                run_command(command)
    return left_out


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the samples and golden files, as the working folder."""
    (tmp_path / "samples").mkdir()
    (tmp_path / "tests").mkdir()
    with Image.open(ROOT / "samples" / "dog.png") as photo:
        photo.crop(CUT).save(tmp_path / "samples" / "dog.png")
    (tmp_path / "tests" / "golden").symlink_to(ROOT / "tests" / "golden")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", list(NOT_RUN))
def test_a_page_runs_from_top_to_bottom(name: str, checkout: Path) -> None:
    assert run_page(name, (ROOT / name).read_text(encoding="utf-8")) == NOT_RUN[name]


def test_what_this_test_sees(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails, one whose output is there already, and a name that no line defines."""
    monkeypatch.setitem(NOT_RUN, "page", {"make demo"})
    good = "```sh\nmake demo  # a word\ncp samples/dog.png a.png # and # more\ncodec list \\\n  --quiet\n```\n"
    assert run_page("page", good + "```python\nx = 1\n```\n```python\nx + 1\n```\n") == {"make demo"}
    wrong: dict[str, Callable[[], object]] = {
        "bash": lambda: run_page("page", "```sh\nls nothing\n```\n"),
        "codec": lambda: run_page("page", "```sh\ncodec encode nothing.png\n```\n"),
        "there already": lambda: run_page("page", "```sh\ncodec encode a.png -c walloc -o a.png\n```\n"),
        "python": lambda: run_page("page", "```python\nnothing\n```\n"),
    }
    for run in wrong.values():
        with pytest.raises((AssertionError, NameError)):
            run()
