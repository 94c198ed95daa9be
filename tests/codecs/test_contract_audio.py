"""What every codec of sound in the registry promises, with the weights that ship. New codecs are found by themselves.

The same bytes with any number of threads and in another process, and decoding to the same samples by every instruction
set of the kernels, and by their twins.
"""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codec as package
from codec import native, registry
from codec.codecs.base import weights
from codec.codecs.base.codec import threads
from codec.container import ChunkReader
from codec.errors import CodecError

from .. import probes
from ..damage import alarm

CASES = probes.audio_cases()
every_codec = pytest.mark.parametrize("name", CASES)
MACHINES = {
    "two threads": {"OMP_NUM_THREADS": "2"},
    "old": {"CODEC_NATIVE": "portable" if native.instruction_sets() else "0"},
    "no kernels": {"CODEC_NATIVE": "0"},
}


@functools.lru_cache(maxsize=4)
def load(name: str) -> Any:
    return probes.load(name)


@functools.lru_cache(maxsize=8)
def short_file(name: str) -> bytes:
    """A file that twins decode in a second: two channels."""
    return load(name).compress(probes.sound(900, 2))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The answers of a process on a machine, by codec: one process for all codecs."""
    folder = tmp_path_factory.mktemp("elsewhere")
    files = {name: folder / name for name in CASES}
    for name, file in files.items():
        file.write_bytes(short_file(name))

    @functools.cache
    def ask(machine: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-P", probes.__file__],
            input=json.dumps({"decode": [str(file) for file in files.values()], "sounds": CASES}),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **MACHINES[machine]},
        )
        answer = json.loads(done.stdout)
        return {**answer, "decode": {name: answer["decode"][str(file)] for name, file in files.items()}}

    return ask


def samples_of(name: str, data: bytes) -> np.ndarray:
    with load(name).open_file(data) as file:
        return file.read().samples


@pytest.mark.parametrize("name", registry.names("audio"))
def test_weights_ship(name: str) -> None:
    codec = package.Codec.load(name)
    assert (codec.name, codec.medium) == (name, "audio")
    shipped = weights.manifests(name)
    assert not codec.weights_id or codec.weights_id in [manifest.id for manifest in shipped]
    assert all(manifest.path.stat().st_size <= 25 << 20 for manifest in shipped)


@every_codec
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("n", [0, 1, 997, 20_011])
def test_any_length(name: str, n: int, channels: int) -> None:
    x = probes.sound(n, channels)
    out = load(name).decompress(load(name).compress(x))
    assert (out.samples.shape, out.samples.dtype) == (x.samples.shape, x.samples.dtype)
    assert out.info.rate == x.info.rate
    if n > 500:
        error = float(np.mean((out.samples.astype(float) - x.samples) ** 2))
        assert error < np.mean(x.samples.astype(float) ** 2), "that isn't the sound"


@every_codec
def test_the_container_is_small(name: str) -> None:
    data = load(name).compress(probes.sound(100, 2, 44_100))
    assert ChunkReader(io.BytesIO(data)).start <= 80


@every_codec
class TestSameBytes:
    def test_twice_and_beside_others(self, name: str) -> None:
        x, other = probes.sound(20_000), probes.sound(3000, 2)
        alone = load(name).compress(x)
        assert load(name).compress([other, x, other])[1] == alone
        assert package.Codec.load(name).compress(x) == alone
        assert np.array_equal(load(name).decompress([alone, load(name).compress(other)])[0].samples,
                              samples_of(name, alone))  # fmt: skip

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_threads(self, name: str, n: int) -> None:
        x = probes.sound(70_000)
        expected = load(name).compress(x)
        samples = samples_of(name, expected)
        with threads(n):
            assert load(name).compress(x) == expected
            assert np.array_equal(samples_of(name, expected), samples)

    @pytest.mark.parametrize("way", [*native.instruction_sets(), None])
    def test_every_instruction_set(self, name: str, way: str | None) -> None:
        data = short_file(name)
        expected = samples_of(name, data)
        with native.using(way):
            assert np.array_equal(samples_of(name, data), expected)
            assert load(name).compress(probes.sound(900, 2)) == data

    @pytest.mark.parametrize("machine", MACHINES)
    def test_another_process(self, name: str, machine: str, elsewhere: Callable[[str], dict[str, Any]]) -> None:
        answer = elsewhere(machine)
        assert answer["decode"][name] == [probes.digest_of_pixels(short_file(name))]
        assert answer["encode"][name] == probes.sha256(short_file(name))


@every_codec
def test_a_stream_is_the_file(name: str) -> None:
    x, codec = probes.sound(40_000), load(name).with_settings(quality=20)
    data = codec.compress(x)
    assert len(data) < len(load(name).compress(x))
    encoder = codec.stream_encoder(x.info)
    assert b"".join([*(encoder.push(part) for part in np.split(x.samples, [1, 9000, 25_000])), encoder.flush()]) == data
    decoder = load(name).stream_decoder()
    parts = [decoder.push(data[:300]), decoder.push(data[300:]), decoder.flush()]
    assert np.array_equal(np.concatenate([part for part in parts if len(part)]), samples_of(name, data))


def _damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    for at in range(len(data)):
        yield f"byte {at} changed", data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
    for n_bytes in range(0, len(data), 7):
        yield f"{n_bytes} bytes", data[:n_bytes]
    rng = np.random.default_rng(0)
    for n_bytes in range(1, 200, 7):
        yield f"{n_bytes} random bytes", rng.bytes(n_bytes)
        yield f"{n_bytes} bytes behind", data + rng.bytes(n_bytes)


@every_codec
def test_damage(name: str) -> None:
    for what, bad in _damaged(short_file(name)):
        with alarm(f"{what}: decoding doesn't end"), pytest.raises(CodecError):
            assert load(name).decompress(bad) is None, what


def test_files_of_every_other_codec() -> None:
    golden = Path(__file__).resolve().parents[1] / "golden"
    for name in registry.names("audio"):
        for file in (
            golden / "mix-s1-rgb.mix",
            golden / "interp-s3-field.interp",
            golden / "nirvana-grid-s1-clip.nirvana",
        ):
            with pytest.raises(CodecError):
                load(name).decompress(file.read_bytes())
    with pytest.raises(CodecError):
        package.Codec.load("walloc").decompress(short_file(CASES[0]))
