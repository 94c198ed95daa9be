"""What every codec of features in the registry promises. New codecs are found by themselves.

The same features with any number of threads, in another process, by every instruction set of the kernels, by their
twins and by torch; a rate that is that of the whole file.
"""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import codec as package
from codec import native, registry
from codec.codecs.base import weights
from codec.codecs.base.codec import threads
from codec.container import read_header
from codec.errors import CodecError, UsageError

from .. import probes
from ..damage import alarm
from .test_contract import WAYS, Way

CASES = probes.features_cases()
every_codec = pytest.mark.parametrize("name", CASES)


@functools.lru_cache(maxsize=4)
def load(name: str) -> Any:
    return probes.load(name)


def photo() -> np.ndarray:
    """(60, 84, 3) uint8: a slope with blocks, by integer arithmetic."""
    y, x = np.mgrid[0:60, 0:84]
    block = (y // 9 + x // 7) % 3
    return np.stack([3 * x, 4 * y, 255 - 2 * x], -1).astype(np.uint8) // (1 + block[..., None]).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def file(name: str) -> bytes:
    return load(name).compress(photo())


def digest(name: str, data: bytes) -> str:
    return probes.sha256(load(name).decompress(data).tobytes())


@pytest.mark.parametrize("name", registry.names("features"))
def test_weights_ship(name: str) -> None:
    codec = package.Codec.load(name)
    assert (codec.name, codec.medium) == (name, "features")
    assert codec.weights_id in [manifest.id for manifest in weights.manifests(name)]


@every_codec
@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (900, 2), (224, 224), (256, 300)])
def test_any_size_has_the_same_features(name: str, shape: tuple[int, int]) -> None:
    pixels = np.resize(photo(), (*shape, 3))
    features = load(name).decompress(load(name).compress(pixels))
    assert features.shape == load(name).feature_shape()
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


@every_codec
def test_kinds_of_picture(name: str, tmp_path: Path) -> None:
    """A path, bytes, PIL, 16 bits, grey, transparent: what is seen is the same; a tensor comes back as one."""
    import torch

    codec, pixels = load(name), photo()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    given = (tmp_path / "a.png").read_bytes()
    files = {codec.compress(x) for x in (tmp_path / "a.png", given, io.BytesIO(given), Image.fromarray(pixels))}
    files |= {codec.compress(pixels.astype(np.uint16) * 257)}
    files |= {codec.compress(np.concatenate([pixels, np.full_like(pixels[..., :1], 9)], 2))}
    assert files == {file(name)}
    grey = np.repeat(pixels[..., :1], 3, 2)
    assert codec.compress(pixels[..., 0]) == codec.compress(grey)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    features = codec.decompress(codec.compress(tensor))
    assert isinstance(features, torch.Tensor)
    assert probes.sha256(features.numpy().tobytes()) == digest(name, file(name))


@every_codec
def test_the_rate_is_that_of_the_whole_file(name: str, tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.png")
    summary = load(name).encode_file(tmp_path / "a.png", tmp_path / "a")
    size = (tmp_path / "a").stat().st_size
    assert (tmp_path / "a").read_bytes() == file(name)
    assert summary.bytes_out == size
    assert summary.about["bpp"] == 8 * size / (60 * 84)
    assert [note.kind for note in summary.notes] == ["view"]


@every_codec
def test_more_quality_takes_more_bytes(name: str) -> None:
    with Image.open(Path(package.__file__).parent / "samples" / "dog.png") as image:
        picture = image.convert("RGB")
    sizes = [len(load(name).compress(picture, quality)) for quality in (1, 34, 67, 100)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]
    for quality in (0, 101, -3):
        with pytest.raises(UsageError, match="1 to 100"):
            load(name).compress(picture, quality)
        with pytest.raises(UsageError, match="1 to 100"):
            load(name).with_settings(quality=quality)


@every_codec
class TestSameFeatures:
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_threads(self, name: str, n: int) -> None:
        expected = digest(name, file(name))
        with threads(n):
            assert load(name).compress(photo()) == file(name)
            assert digest(name, file(name)) == expected

    @pytest.mark.parametrize("way", WAYS, ids=str)
    def test_every_engine(self, name: str, way: Way) -> None:
        expected = digest(name, file(name))
        with way.taken():
            fresh = probes.load(name)
            assert probes.sha256(fresh.decompress(file(name)).tobytes()) == expected
            mine = fresh.compress(photo())  # an encoder in floats may round a latent otherwise, and not many
        assert abs(len(mine) - len(file(name))) <= 0.02 * len(file(name)) + 2

    def test_another_process(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(file(name))
        old = {"CODEC_NATIVE": "portable" if native.instruction_sets() else "0", "OMP_NUM_THREADS": "2"}
        done = subprocess.run(
            [sys.executable, "-P", probes.__file__],
            input=json.dumps({"decode": [str(tmp_path / "a")]}),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **old},
        )
        assert json.loads(done.stdout)["decode"][str(tmp_path / "a")] == [probes.digest_of_pixels(file(name))]


@every_codec
def test_coders_decode_to_the_same(name: str) -> None:
    for coder in probes.coders(load(name)):
        data = load(name).with_settings(coder=coder).compress(photo())
        assert read_header(data).coder == coder
        assert digest(name, data) == digest(name, file(name))


@every_codec
def test_damage(name: str) -> None:
    data = file(name)
    flipped = [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(0, len(data), 3)]
    cut = [data[:n] for n in range(0, len(data), 41)]
    for bad in (*flipped, *cut, data + b"\0"):
        with alarm("decoding doesn't end"), pytest.raises(CodecError):
            load(name).decompress(bad)


def test_files_of_every_other_codec() -> None:
    golden = Path(__file__).resolve().parents[1] / "golden"
    for name in CASES:
        for other in ("mix-s1-rgb.mix", "interp-s3-field.interp"):
            with pytest.raises(CodecError):
                load(name).decompress((golden / other).read_bytes())
        with pytest.raises(CodecError):
            package.Codec.load("walloc").decompress(file(name))
        with pytest.raises(CodecError, match="not an image"):
            package.open(file(name))
