"""What every codec of Gaussian splats in the registry promises. New codecs are found by themselves.

The same bytes with any number of threads and in another process, decoding to the same values by every instruction set
of the kernels and by their twins, and a rate that is that of the whole file.
"""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import codec as package
from codec import native, registry
from codec.codecs.base import weights
from codec.codecs.base.codec import threads
from codec.container import ChunkReader
from codec.errors import CodecError, LimitError
from codec.media.gaussians.values import Gaussians
from codec.media.gaussians.writer import write

from .. import probes
from ..damage import alarm

CASES = probes.gaussians_cases()
every_codec = pytest.mark.parametrize("name", CASES)
MACHINES = {
    "two threads": {"OMP_NUM_THREADS": "2"},
    "old": {"CODEC_NATIVE": "portable" if native.instruction_sets() else "0"},
    "no kernels": {"CODEC_NATIVE": "0"},
}
FEW = 4  # Gaussians of files that twins code


@functools.lru_cache(maxsize=4)
def load(name: str) -> Any:
    return probes.load(name)


@functools.lru_cache(maxsize=8)
def files(name: str, n: int = 40) -> tuple[bytes, bytes]:
    """A file of a scene and one of a sequence."""
    return load(name).compress(probes.splats(n)), load(name).compress(probes.moving_splats(n, n_frames=3))


def values(made: Gaussians | tuple[Gaussians, ...]) -> bytes:
    return b"".join(map(probes.values_of, (made,) if isinstance(made, Gaussians) else made))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The answers of a process on a machine, by codec: one process for all codecs."""
    folder = tmp_path_factory.mktemp("elsewhere")
    lying = {(name, i): folder / f"{name}-{i}" for name in CASES for i in range(2)}
    for (name, i), file in lying.items():
        file.write_bytes(files(name, FEW)[i])

    @functools.cache
    def ask(machine: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-P", probes.__file__],
            input=json.dumps({"decode": [str(file) for file in lying.values()], "splats": CASES, "n": FEW}),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **MACHINES[machine]},
        )
        answer = json.loads(done.stdout)
        decoded = {name: [answer["decode"][str(lying[name, i])][0] for i in range(2)] for name in CASES}
        return {**answer, "decode": decoded}

    return ask


@pytest.mark.parametrize("name", registry.names("gaussians"))
def test_weights_ship(name: str) -> None:
    codec = package.Codec.load(name)
    assert (codec.name, codec.medium) == (name, "gaussians")
    assert not codec.weights_id or codec.weights_id in [manifest.id for manifest in weights.manifests(name)]


@every_codec
@pytest.mark.parametrize("degree", [0, 1, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 97])
def test_any_size(name: str, n: int, degree: int) -> None:
    for given in (probes.splats(n, degree), probes.moving_splats(n, degree, 3)):
        made: Any = load(name).decompress(load(name).compress(given))
        assert type(made) is type(given)
        frames: Any = ((made,), (given,)) if isinstance(given, Gaussians) else (made, given)
        pairs = zip(*frames, strict=True)
        assert all((len(a), a.degree) == (len(b), b.degree) for a, b in pairs)


@every_codec
def test_far_away_and_all_in_one_place(name: str) -> None:
    """A scene whose Gaussians don't differ in what a bound is derived of."""
    for n in (1, 50):
        given = probes.splats(n)
        given.positions[:] = [3e4, -2e3, 1.0]
        made = load(name).decompress(load(name).compress(given))
        assert abs(made.positions - given.positions).max() < 1.0


@every_codec
def test_the_container_is_small(name: str) -> None:
    data = load(name).compress(probes.splats(60))
    assert ChunkReader(io.BytesIO(data)).start <= 400


@every_codec
def test_the_rate_is_that_of_the_whole_file(name: str, tmp_path: Path) -> None:
    for i, given in enumerate((probes.splats(40), probes.moving_splats(40, n_frames=3))):
        target = tmp_path / f"{i}{registry.entry(name).suffix}"
        summary = load(name).encode_file(given, target)
        data, frames = target.read_bytes(), 1 if isinstance(given, Gaussians) else len(given)
        assert data == files(name)[i]
        about = load(name).describe(target)
        for facts in (summary.about, about):
            assert facts["bytes_per_frame"] == round(len(data) / frames, 1)
            assert facts["bits_per_gaussian"] == round(8 * len(data) / frames / 40, 3)
        assert summary.bytes_out == len(data)
        assert sum(about["storage"].values()) <= len(data) <= sum(about["storage"].values()) + 700


@every_codec
def test_a_path_bytes_or_an_open_file(name: str, tmp_path: Path) -> None:
    given = write(probes.splats(40), ".ply")
    path, codec = tmp_path / "scene.ply", load(name)
    path.write_bytes(given)
    coded = codec.compress(path)
    assert coded == codec.compress(given) == codec.compress(io.BytesIO(given)) == codec.compress(probes.splats(40))
    path = tmp_path / "coded"
    path.write_bytes(coded)
    expected = values(codec.decompress(coded))
    with path.open("rb") as file:
        assert values(codec.decompress(file)) == expected
    assert values(codec.decompress(path)) == values(codec.decompress(memoryview(coded))) == expected
    with codec.open_frames(path) as frames:
        assert (frames.n_frames, frames.count, values(frames.frame(0))) == (1, 40, expected)


@every_codec
class TestSameBytes:
    def test_twice_and_beside_others(self, name: str) -> None:
        scene, sequence = probes.splats(40), probes.moving_splats(40, n_frames=3)
        assert load(name).compress([sequence, scene, sequence])[1] == files(name)[0]
        assert load(name).compress([scene, sequence])[1] == files(name)[1]
        assert package.Codec.load(name).compress(scene) == files(name)[0]
        made = load(name).decompress(list(files(name)))
        assert [values(item) for item in made] == [values(load(name).decompress(data)) for data in files(name)]

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_threads(self, name: str, n: int) -> None:
        given = (probes.splats(3000), probes.moving_splats(300, 3, 3))
        expected = load(name).compress(list(given))
        digests = [probes.digest_of_pixels(data) for data in expected]
        with threads(n):
            assert load(name).compress(list(given)) == expected
            assert [probes.digest_of_pixels(data) for data in expected] == digests

    @pytest.mark.parametrize("way", [*native.instruction_sets(), None])
    def test_every_instruction_set(self, name: str, way: str | None) -> None:
        expected = [probes.digest_of_pixels(data) for data in files(name, FEW)]
        with native.using(way):
            assert [probes.digest_of_pixels(data) for data in files(name, FEW)] == expected
            assert load(name).compress(probes.splats(FEW)) == files(name, FEW)[0]

    @pytest.mark.parametrize("machine", MACHINES)
    def test_another_process(self, name: str, machine: str, elsewhere: Callable[[str], dict[str, Any]]) -> None:
        answer = elsewhere(machine)
        assert answer["decode"][name] == [probes.digest_of_pixels(data) for data in files(name, FEW)]
        assert answer["encode"][name] == [probes.sha256(data) for data in files(name, FEW)]


@every_codec
def test_any_frame_alone(name: str) -> None:
    data = load(name).with_settings(segment=2).compress(probes.moving_splats(20, n_frames=5))
    with load(name).open_frames(data) as file:
        frames = [probes.values_of(frame) for frame in file.frames()]
        assert [probes.values_of(file.frame(i)) for i in (4, 0, 3, 1, 2)] == [frames[i] for i in (4, 0, 3, 1, 2)]
        assert [probes.values_of(frame) for frame in file.frames(1, 4)] == frames[1:4]


@every_codec
@pytest.mark.parametrize("i", [0, 1])
def test_damage(name: str, i: int) -> None:
    data = files(name, FEW)[i]
    flipped = [(f"byte {at} changed", data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
               for at in range(0, len(data), 1 + 2 * i)]  # fmt: skip
    cut = [(f"{n_bytes} bytes", data[:n_bytes]) for n_bytes in range(0, len(data), 23)]
    behind = [(f"{n_bytes} bytes behind", data + bytes(n_bytes)) for n_bytes in (1, 100)]
    for what, bad in (*flipped, *cut, *behind):
        with alarm(f"{what}: decoding doesn't end"), pytest.raises(CodecError):
            assert load(name).decompress(bad) is None, what


@every_codec
def test_limits_hold_before_memory_is_taken(name: str) -> None:
    codec = load(name).with_limits(package.Limits(values=500))
    for data in files(name):
        with pytest.raises(LimitError):
            codec.decompress(data)


def test_files_of_every_other_codec() -> None:
    golden = Path(__file__).resolve().parents[1] / "golden"
    for name in CASES:
        for file in ("mix-s1-rgb.mix", "interp-s3-field.interp", "nirvana-grid-s1-clip.nirvana"):
            with pytest.raises(CodecError):
                load(name).decompress((golden / file).read_bytes())
        with pytest.raises(CodecError):
            package.Codec.load("walloc").decompress(files(name)[0])
