"""The codec where PyTorch isn't installed: both ways, with the compiled module and without, the same bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import codec
from codec import native
from codec.codecs.base.codec import Codec

ROOT = Path(codec.__file__).parent  # not resolved: its name must stay `codec`

SCRIPT = """
import sys
sys.path[:0] = sys.argv[1:2]
sys.modules["torch"] = None  # an import of it fails
import hashlib, numpy
from codec import Codec, cli
from codec.files import PACKAGE
for tag in sys.argv[3:]:
    source, target = f"{sys.argv[2]}/{tag}.npy", f"{sys.argv[2]}/{tag}.circuit"
    for verb in (["encode", "-c", f"circuit@{tag}", source, "-o", target], ["verify", target]):
        assert cli.main([*verb, "--quiet"]) == 0, verb
    model, x = Codec.load(f"circuit@{tag}"), numpy.load(source)
    assert (model.decompress(open(target, "rb").read()) == x).all()
    parts = [model.with_settings(coder=coder).compress(x) for coder in ("rans", "rans-items")]
    assert all((model.decompress(part) == x).all() for part in parts)
    print(hashlib.sha256(b"".join(parts)).hexdigest())
assert sys.modules["torch"] is None
"""


def items(n: int) -> np.ndarray:
    """Something like digits: strokes of soft edges."""
    y, x = np.mgrid[0:28, 0:28]
    draw = np.random.default_rng(0)
    a, b, c = draw.uniform(-1, 1, (3, n, 1, 1))
    return np.clip(255 - 90 * np.abs(a * (y - 14) + b * (x - 14) + 6 * c), 0, 255).astype(np.uint8)


def encoded(tag: str, x: np.ndarray) -> str:
    model = Codec.load(f"circuit@{tag}")
    parts = [model.with_settings(coder=coder).compress(x) for coder in ("rans", "rans-items")]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize(("engine", "tags"), [("native", ("mnist", "fashion")), ("numpy", ("mnist",))])
def test_both_ways(engine: str, tags: tuple[str, ...], tmp_path: Path) -> None:
    if engine == "native" and not native.instruction_sets():
        pytest.skip("this install has no compiled module")
    x = items(6)
    for tag in tags:
        np.save(tmp_path / f"{tag}.npy", x)
    environment = {**os.environ, "CODEC_ENGINE": engine, "CODEC_NATIVE": "" if engine == "native" else "0"}
    run = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", SCRIPT, str(ROOT.parent), str(tmp_path), *tags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [encoded(tag, x) for tag in tags]
