"""What every lossless codec of arrays promises, with the weights that ship. New codecs and weights are found by
themselves. Golden files and files of other codecs: test_contract."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import codec as package
from codec.container import unpack
from codec.errors import CodecError

from ... import probes
from ...damage import Damage
from ..test_contract import OLD_MACHINE, foreign_file, threads

CASES = probes.array_cases()
every_codec = pytest.mark.parametrize("name", CASES)


@functools.lru_cache(maxsize=4)
def load(name: str) -> Any:
    return probes.load(name)


def test_there_are_some() -> None:
    assert CASES


@every_codec
def test_anything_of_the_right_shape(name: str) -> None:
    codec = load(name)
    usual = probes.items(codec, 5)
    noise = np.random.default_rng(0).integers(0, 256, usual.shape).astype(np.uint8)
    flat = np.stack([np.full(usual.shape[1:], value, np.uint8) for value in (0, 1, 255)])
    for x in (usual, 255 - usual, noise, flat, usual[:1], usual[0], usual.astype(np.int32) * 1000 - 5):
        out = codec.decompress(codec.compress(x))
        assert out.dtype == x.dtype
        assert np.array_equal(out, x)


@every_codec
def test_every_coder(name: str) -> None:
    codec = load(name)
    x = probes.items(codec, 5)
    for coder in probes.coders(codec):
        data = (codec.with_settings(coder=coder) if coder else codec).compress(x)
        assert np.array_equal(codec.decompress(data), x), coder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The answers of another process, and of a machine with old instructions, about all codecs; see `probes`."""
    folder = tmp_path_factory.mktemp("elsewhere")
    job: dict[str, Any] = {"encode": [], "decode": []}
    for name in CASES:
        x = probes.items(load(name), 6)
        (folder / f"{name}-items").write_bytes(x.tobytes())
        (folder / f"{name}-file").write_bytes(load(name).compress(x))
        job["encode"].append([name, str(folder / f"{name}-items"), *x.shape])
        job["decode"].append(str(folder / f"{name}-file"))
    answers = []
    for environment in ({"OMP_NUM_THREADS": "2"}, OLD_MACHINE):
        run = subprocess.run(
            [sys.executable, "-P", probes.__file__],
            input=json.dumps(job),
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        answer = json.loads(run.stdout)
        answers.append(
            {name: (answer["encode"][name], answer["decode"][job["decode"][i]]) for i, name in enumerate(CASES)}
        )
    return answers


@every_codec
def test_same_bytes_everywhere(name: str, elsewhere: list[dict[str, Any]]) -> None:
    """Threads, batches, another process, a machine with old instructions: the same file, the same values."""
    codec = load(name)
    x = probes.items(codec, 6)
    data = codec.compress(x)
    for n in (1, 2):
        with threads(n):
            assert codec.compress(x) == data
            assert np.array_equal(codec.decompress(data), x)
    assert codec.compress([x[:3], x])[1] == data
    assert np.array_equal(codec.decompress([codec.compress(x[:2]), data])[1], x)
    for answer in elsewhere:
        assert answer[name] == (probes.sha256(data), [probes.digest_of_pixels(data)])


@every_codec
def test_header_is_small(name: str) -> None:
    data = load(name).compress(probes.items(load(name), 3))
    assert len(data) - sum(len(chunk.payload) for chunk in unpack(data)[1]) <= 80


@every_codec
def test_damage(name: str) -> None:
    codec = load(name)
    x = probes.items(codec, 2)
    harm = Damage(codec.compress(x), codec.decompress, lambda result: np.array_equal(result, x))
    harm.flips_and_splices(100)
    harm.foreign(foreign_file())
    harm.headers()
    harm.payloads(examples=40)


@every_codec
def test_other_weights_are_refused(name: str) -> None:
    data = load(name).compress(probes.items(load(name), 1))
    for other in CASES:
        if other != name:
            with pytest.raises(CodecError):
                load(other).decompress(data)
    assert np.array_equal(package.decode(data), load(name).decompress(data))
