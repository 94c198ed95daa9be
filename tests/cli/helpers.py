"""What the tests of the command share: pictures, and three ways to run it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from codec import cli

SCRIPT = Path(__file__).with_name("toy_codec.py")


def picture(path: Path, seed: int = 0, first: tuple[int, int, int] | None = None) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 13, 3), np.uint8)
    if first is not None:
        pixels[0, 0] = first
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def run(*args: object) -> int:
    """The exit code, in this process."""
    try:
        return cli.main([str(word) for word in args])
    except SystemExit as end:  # argparse's way out
        return int(end.code or 0)


def script(*args: object, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """The same in a process of its own, with the toy codec."""
    command = [sys.executable, SCRIPT, *map(str, args)]
    return subprocess.run(command, input=input, capture_output=True, timeout=120, check=False)


def leftovers(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if ".part" in p.name]


def on_a_terminal(*args: object) -> tuple[int, bytes, bytes]:
    """Exit code, what a terminal on stderr sees, what a file on stdout gets."""
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, args)],
        stderr=follower,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    out = child.communicate()[0]
    os.close(leader)
    return child.returncode, seen, out
