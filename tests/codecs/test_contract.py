"""What every image codec in the registry promises, with the weights that ship. New codecs are found by themselves.

Promise 1 in these tests: a codec decodes anywhere because no float that could differ takes part; networks that decide a
row or a pixel are exact (`entropy.exact`). Noise of 1e-6 on the sums inside an exact layer is therefore nothing that
another machine adds, and rounding to the next grid would not absorb it: a sum lies on a rounding boundary once in some
thousand times. So the tests inject the noise into every layer that is not exact, where it must make no difference to
decoding, and show of every exact layer, on the very values of a decoding, that its sums are the same bits in any order
of summation and in float64. Those are tests of torch's networks; the other engines must give what they give.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import codec as package
from codec import native, registry
from codec.codecs.base import weights
from codec.codecs.base.codec import threads
from codec.container import unpack
from codec.entropy.exact import ExactConv2d, ExactLinear

from .. import probes
from ..damage import Damage, shares

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = probes.cases()
every_codec = pytest.mark.parametrize("name", CASES)
OLD_MACHINE = {
    "CODEC_ENGINE": "torch",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
}
MACHINES = {
    "this": {"OMP_NUM_THREADS": "2"},
    "old torch": OLD_MACHINE,
    "old": {"CODEC_NATIVE": "portable" if native.instruction_sets() else "0", "OMP_NUM_THREADS": "2"},
}


class Way(NamedTuple):
    """An engine, and the instruction set of its kernels (None: no kernels)."""

    engine: str
    instruction_set: str | None

    def __str__(self) -> str:
        return self.instruction_set or self.engine

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Has codecs of this process take it."""
        with pytest.MonkeyPatch.context() as patch, native.using(self.instruction_set):
            patch.setenv("CODEC_ENGINE", self.engine)
            yield


WAYS = [*(Way("native", name) for name in native.instruction_sets()), Way("numpy", None), Way("torch", None)]


@functools.lru_cache(maxsize=8)
def load(name: str) -> Any:
    return probes.load(name)


@pytest.mark.parametrize("name", registry.names())
def test_weights_ship(name: str) -> None:
    codec = package.Codec.load(name)
    assert codec.name == name
    assert codec.stream >= 1
    if codec.weights_id:
        shipped = weights.manifests(name)
        assert codec.weights_id in [manifest.id for manifest in shipped]
        for manifest in shipped:
            assert manifest.path.stat().st_size <= 25 << 20
            assert weights.load_tensors(manifest.path, manifest.sha256)
    if codec.medium == "image":
        probes.probe(name)


# ---- any size


# Every kind of picture in a small size, long ones of the most and the fewest channels: which kind it is is settled
# before the pixels are cut into tiles.
SIZES = [((1, 1), 1), ((1, 1), 2), ((1, 1), 3), ((1, 1), 4), ((63, 65), 1), ((63, 65), 2), ((63, 65), 3), ((63, 65), 4)]
LONG = [((4000, 16), 4), ((16, 4000), 1)]


@every_codec
@pytest.mark.parametrize(("shape", "channels"), [*SIZES, *LONG])
def test_any_size(name: str, shape: tuple[int, int], channels: int, photo: np.ndarray) -> None:
    row, column = (np.arange(n) % m for n, m in zip(shape, photo.shape[:2], strict=True))
    rgb = photo[row][:, column]
    alpha = np.broadcast_to((np.arange(shape[1]) % 255 + 1).astype(np.uint8), shape)[:, :, None]  # nothing is hidden
    x = np.concatenate([rgb[:, :, : 1 if channels < 3 else 3], alpha], 2)[:, :, : None if channels in (2, 4) else -1]
    assert x.shape == (*shape, channels)
    codec = load(name)
    out = codec.decompress(codec.compress(x))
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    colours = 1 if channels < 3 else 3
    assert np.array_equal(out[:, :, colours:], x[:, :, colours:])  # transparency without loss
    error = float(np.mean((out[:, :, :colours].astype(float) - x[:, :, :colours]) ** 2))
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 18, "that isn't the picture"


# ---- same bytes


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Any:
    """Answers of other processes: (files, answer to the job under the environment)."""
    folder = tmp_path_factory.mktemp("elsewhere")
    pixels = np.ascontiguousarray(photo[150:278, 200:304])
    (folder / "picture").write_bytes(pixels.tobytes())
    files: dict[str, str] = {}
    for name in CASES:
        files[name] = str(folder / name)
        Path(files[name]).write_bytes(load(name).compress(pixels))
    job = {"shape": pixels.shape, "encode": [[n, str(folder / "picture")] for n in CASES], "decode": [*files.values()]}

    @functools.lru_cache(maxsize=4)
    def ask(machine: str) -> dict[str, Any]:
        run = subprocess.run(
            [sys.executable, "-P", probes.__file__],
            input=json.dumps(job),
            env={**os.environ, **MACHINES[machine]},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    return files, pixels, ask


@every_codec
def test_same_bytes(name: str, photo: np.ndarray, elsewhere: Any) -> None:
    codec = load(name)
    files, pixels, ask = elsewhere
    data = Path(files[name]).read_bytes()
    assert codec.compress(pixels) == data
    for n in (1, 2):
        with threads(n):
            assert codec.compress(pixels) == data, f"{n} threads"
    assert codec.compress([photo[:99, :70], pixels, pixels[:8]])[1] == data
    assert probes.load(name).compress(pixels) == data
    assert ask("this")["encode"][name] == probes.sha256(data), "another process"


# ---- rates


@every_codec
def test_rate_is_what_we_claim(name: str, photo: np.ndarray) -> None:
    codec = load(name)
    data = codec.compress(photo)
    header = len(data) - sum(len(chunk.payload) for chunk in unpack(data)[1])
    assert header <= 80
    estimate = probes.probe(name).bits(codec, photo)
    assert abs(8 * len(data) - estimate) < 0.01 * estimate + 8 * header, (
        f"{8 * len(data)} bits, estimated {estimate:.0f}"
    )


# ---- promise 1: decodes anywhere


def decoded(name: str, data: bytes) -> tuple[str, str]:
    """Digests of pixels and latents, by the codec that the tests have put into a special state."""
    codec = load(name)
    pixels = codec.decode_picture(data).stacked()
    return probes.sha256(pixels.tobytes()), probes.sha256(probes.probe(name).latents(codec, data))


@contextlib.contextmanager
def hooks(name: str) -> Iterator[list[Any]]:
    """A list for hooks on the networks of a codec, which are removed in the end."""
    handles: list[Any] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks run in torch, which the tests then put into special states."""
    monkeypatch.setenv("CODEC_ENGINE", "torch")


def layers(name: str) -> list[torch.nn.Module]:
    assert load(name).model.net is not None  # torch's networks are made when they are first asked for
    return [layer for net in probes.networks(load(name)) for layer in net.modules()]


@every_codec
class TestDecodesAnywhere:
    def test_threads_and_batches(self, name: str, elsewhere: Any) -> None:
        files, pixels, _ = elsewhere
        data, codec = Path(files[name]).read_bytes(), load(name)
        expected = decoded(name, data)
        for n in (1, 2):
            with threads(n):
                assert decoded(name, data) == expected, f"{n} threads"
        alone = codec.decompress(data)
        others = [codec.compress(pixels[:9, :50]), data, codec.compress(pixels[::2])]
        assert np.array_equal(codec.decompress(others)[1], alone)
        assert np.array_equal(package.decode(data), alone)

    @pytest.mark.parametrize("way", WAYS, ids=str)
    def test_every_engine(self, name: str, way: Way, elsewhere: Any) -> None:
        data = Path(elsewhere[0][name]).read_bytes()
        expected = decoded(name, data)
        with way.taken():
            assert decoded(name, data) == expected

    @pytest.mark.parametrize("machine", MACHINES)
    def test_another_process(self, name: str, machine: str, elsewhere: Any) -> None:
        files, _, ask = elsewhere
        expected = list(decoded_by_header(Path(files[name]).read_bytes()))
        assert ask("old torch")["capability"] == "DEFAULT"
        assert ask(machine)["decode"][files[name]] == expected

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_on_a_gpu(self, name: str, elsewhere: Any) -> None:
        files, pixels, _ = elsewhere
        data = Path(files[name]).read_bytes()
        gpu = package.Codec.load(name, device="cuda")
        assert np.array_equal(gpu.decompress(data), load(name).decompress(data))
        made = gpu.compress(pixels)
        assert np.array_equal(gpu.decompress(made), load(name).decompress(made))


@every_codec
@pytest.mark.usefixtures("oracle")
class TestTorchDecodesAnywhere:
    def test_without_onednn(self, name: str, elsewhere: Any) -> None:
        data = Path(elsewhere[0][name]).read_bytes()
        expected = decoded(name, data)
        with torch.backends.mkldnn.flags(enabled=False):
            assert decoded(name, data) == expected

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
    def test_memory_formats(self, name: str, layout: torch.memory_format, elsewhere: Any) -> None:
        data = Path(elsewhere[0][name]).read_bytes()
        expected = decoded(name, data)
        exact = [layer for layer in layers(name) if isinstance(layer, ExactConv2d)]
        before = [layer._frozen for layer in exact]

        def convert(layer: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(x.contiguous(memory_format=layout) if getattr(x, "ndim", 0) == 4 else x for x in given)

        try:
            with hooks(name) as handles:
                for layer in exact:
                    assert layer._frozen is not None
                    weight, bias = layer._frozen
                    layer._frozen = (weight.clone(memory_format=layout), bias)
                handles += [layer.register_forward_pre_hook(convert) for layer in layers(name)]
                assert decoded(name, data) == expected
        finally:
            for layer, frozen in zip(exact, before, strict=True):
                layer._frozen = frozen

    def test_noise_in_every_layer_that_is_not_exact(self, name: str, elsewhere: Any) -> None:
        data = Path(elsewhere[0][name]).read_bytes()
        expected = decoded(name, data)
        generator = torch.Generator().manual_seed(0)

        def noise(layer: torch.nn.Module, given: Any, out: Any) -> Any:
            if isinstance(out, torch.Tensor) and out.is_floating_point():
                return out * (1 + 1e-6 * torch.randn(out.shape, generator=generator))
            return out

        ordinary = [
            layer
            for layer in layers(name)
            if not isinstance(layer, ExactConv2d) and any(True for _ in layer.parameters(recurse=False))
            if not any(isinstance(part, ExactConv2d) for part in layer.modules())
        ]
        with hooks(name) as handles:
            handles += [layer.register_forward_hook(noise) for layer in ordinary]
            assert decoded(name, data) == expected
            # An encoder may be of floats: its file says what it found, and decodes to that.
            codec = load(name)
            noisy = codec.compress(elsewhere[1])
            inside = decoded(name, noisy)
        assert decoded(name, noisy) == inside

    def test_exact_layers_sum_in_any_order(self, name: str, elsewhere: Any) -> None:
        codec = load(name)
        data = codec.compress(elsewhere[1][:72, :56])
        seen: set[str] = set()
        assert codec.model.net is not None
        names = {id(layer): path for net in probes.networks(codec) for path, layer in net.named_modules()}

        def check(layer: Any, given: tuple[Any, ...], out: torch.Tensor) -> None:
            weight, bias = layer._frozen
            stride, offset = given[1:] or (1, 0)
            x = given[0].to(weight.dtype)
            if isinstance(layer, ExactLinear):
                x, out = x.reshape(-1, x.shape[-1], 1, 1), out.reshape(-1, out.shape[-1], 1, 1)

            def conv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
                return F.conv2d(x, weight, padding=layer.kernel // 2)[:, :, offset::stride, offset::stride]

            channels = x.shape[1]
            order = torch.randperm(channels, generator=torch.Generator().manual_seed(channels))
            shift = bias[:, None, None]
            assert torch.equal(conv(x[:, order], weight[:, order]) + shift, out)
            parts = [conv(x[:, k::3], weight[:, k::3]) for k in range(min(3, channels))]
            assert torch.equal(sum(reversed(parts), start=shift), out)
            assert torch.equal(conv(x.double(), weight.double()) + shift.double(), out.double())
            seen.add(names[id(layer)])

        exact = [layer for layer in layers(name) if isinstance(layer, ExactConv2d)]
        with hooks(name) as handles:
            handles += [layer.register_forward_hook(check) for layer in exact]
            codec.decompress(data)
        missing = {names[id(layer)] for layer in exact} - seen
        assert not missing, f"not used in decoding: {sorted(missing)}"


def decoded_by_header(data: bytes) -> tuple[str, str]:
    return probes.digest_of_pixels(data), probes.digest_of_latents(data)


# ---- damage


def damage(name: str, coder: str, photo: np.ndarray, share: float = 1.0) -> Damage:
    codec = load(name).with_settings(coder=coder) if coder else load(name)
    good = codec.compress(photo[100:124, 100:132])
    expected = codec.decompress(good)
    return Damage(good, codec.decompress, lambda result: np.array_equal(result, expected), codec.weights_id, share)


def foreign_file() -> bytes:
    """A well-formed file of a codec that doesn't exist."""
    from codec.container import Chunk, Header, pack

    header = Header("other", 1, b"\x11" * 16, "", "", "image", (24, 32, 3), "uint8", {}, {})
    return pack(header, [Chunk("Body", b"\0" * 200)])


@shares
@every_codec
def test_damage(name: str, photo: np.ndarray, share: float) -> None:
    damage(name, "", photo, share).everything(foreign_file(), examples=2000)


@shares
@pytest.mark.parametrize(
    ("name", "coder"), [(name, coder) for name in CASES for coder in probes.coders(load(name))[1:] if coder]
)
def test_damage_of_other_coders(name: str, coder: str, photo: np.ndarray, share: float) -> None:
    harm = damage(name, coder, photo, share)
    harm.payloads(examples=150)
    harm.headers()


@every_codec
def test_a_large_size_claimed_is_an_error(name: str, photo: np.ndarray) -> None:
    """As large as the bytes could just justify: refused by what the entropy coder knows, or decoded within bounds."""
    harm = damage(name, "", photo)
    n_bytes = sum(len(chunk.payload) for chunk in harm.chunks)
    from codec.container import pack

    from ..damage import changed, limits

    with limits():
        for height in (32, 48, 256):
            width = load(name).pixels_per_byte * n_bytes // height
            data = pack(changed(harm.header, shape=(height, width, 3)), harm.chunks)
            harm.check(data, f"{width}x{height}", any_result=True)


@pytest.mark.parametrize("name", registry.names())
def test_files_of_every_other_codec(name: str, photo: np.ndarray) -> None:
    """Each codec refuses the files of all others, and of its own other weights."""
    mine = [case for case in CASES if registry.split_tag(case)[0] == name]
    for case in mine:
        for other in CASES:
            if other != case:
                with pytest.raises(package.CodecError):
                    load(case).decompress(load(other).compress(photo[:16, :16]))
