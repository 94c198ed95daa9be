"""ZipGAN: transform, bounds, kinds of fields, interpolation in time, networks; random weights, and those that ship."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from codec import Codec, cli
from codec.codecs.base import weights as shipped
from codec.codecs.base.field import Bound, layout_of
from codec.codecs.base.weights import load_tensors
from codec.codecs.layers import spectral
from codec.codecs.layers.spectral import Modes, divergence, project
from codec.codecs.zipgan.codec import ZIPGAN, ZipganCodec, _grid_of, metadata, score, table_state
from codec.codecs.zipgan.networks import (
    DenseBlock3d,
    Discriminator,
    FieldEncoder,
    Generator,
    ZipganConfig,
    spectral_resample,
)
from codec.codecs.zipgan.networks import project as project_torch
from codec.container import pack, unpack
from codec.errors import CodecError, StreamError, UsageError

from ...damage import Damage
from ..layers.test_interpolation import smooth


def flow(n: int = 24, seed: int = 0, slope: float = 1.5, top: int | None = None) -> np.ndarray:
    """(3, n, n, n) float32: divergence-free, with energy at many wave numbers; component 0 along the last axis."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfftn(rng.normal(size=(3, n, n, n)), axes=(1, 2, 3))
    k = np.sqrt(
        sum(axis**2 for axis in np.meshgrid(*[np.fft.fftfreq(n, 1 / n)] * 2, np.arange(n // 2 + 1), indexing="ij"))
    )
    spectrum /= np.maximum(k, 1) ** (slope + 1)
    spectrum[:, k < 0.5] = 0
    field = np.fft.irfftn(spectrum, (n, n, n), axes=(1, 2, 3))
    top = n // 3 if top is None else top
    return (project(field, "x-last", (top, top, top)) / field.std()).astype(np.float32)


def waves(shape: tuple[int, ...]) -> np.ndarray:
    """Few periods along each axis, whatever its length; not periodic."""
    places = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    return np.cos(sum((1 + i / 2) * place for i, place in enumerate(places))) + 0.1 * places[-1] ** 2


def relative(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.square(x.astype(float) - y).mean() / np.square(x - x.mean()).mean()))


def write(path: Path, config: ZipganConfig, seed: int = 0) -> Path:
    """A weights file whose generator does something."""
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    generator, encoder, critic = Generator(config), FieldEncoder(config), Discriminator(config, normed=False)
    torch.nn.init.normal_(generator.last.conv.weight, std=1e-3)
    parts = (("generator", generator), ("encoder", encoder), ("critic", critic))
    tensors = {f"{what}.{name}": value.half() for what, net in parts for name, value in net.state_dict().items()}
    save_file(tensors | table_state() | {"critic_reference": torch.tensor([0.5, 2.0])}, path, metadata(config, "test"))
    return path


SMALL: dict[str, Any] = {"features": 8, "growth": 8, "dense": 1, "critic": 4, "encoder_width": 4}


def load(path: Path) -> ZipganCodec:
    return ZipganCodec.from_weights(None, None, path, "cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("zipgan")
    return {r: write(folder / f"{r}.safetensors", ZipganConfig(r, **SMALL)) for r in (2, 4, 8)}


@pytest.fixture(scope="module")
def zipgan(files: dict[int, Path]) -> ZipganCodec:
    return load(files[2])


class TestTransform:
    @pytest.mark.parametrize("order", ["none", "x-last"])
    def test_solenoidal_and_plain_modes_hold_the_same_field(self, order: spectral.Order) -> None:
        x = flow(20)
        modes = Modes((20, 20, 20), (20, 20, 20), 3, True, order)
        mean, c = modes.analyse(x)
        assert len(c) == (4 if order == "x-last" else 6)
        assert np.allclose(modes.synthesise(mean, c), x, atol=1e-6)
        assert np.isclose(np.square(c).sum() * 2, np.square(x.astype(float) - x.mean((1, 2, 3), keepdims=True)).sum())

    def test_mirrored_modes_are_orthonormal(self) -> None:
        x = np.random.default_rng(1).normal(size=(2, 9, 12))
        mean, c = Modes((9, 12), (9, 12), 2, False).analyse(x)
        assert np.allclose(Modes((9, 12), (9, 12), 2, False).synthesise(mean, c), x)
        assert np.isclose(np.square(c).sum(), np.square(x - x.mean((1, 2), keepdims=True)).sum())

    def test_a_finer_grid_samples_the_same_function(self) -> None:
        x = flow(24, top=5)
        modes = Modes((24, 24, 24), (12, 12, 12), 3, True, "x-last")
        mean, c = modes.analyse(x)
        assert np.allclose(modes.synthesise(mean, c, (48, 48, 48))[:, ::2, ::2, ::2], x, atol=1e-5)
        assert np.allclose(modes.synthesise(mean, c, (12, 12, 12)), x[:, ::2, ::2, ::2], atol=1e-5)

    def test_projection(self) -> None:
        x = flow(16)
        noise = np.random.default_rng(0).normal(size=x.shape)
        assert divergence(noise, "x-last") > 0.3
        assert divergence(project(noise, "x-last"), "x-last") < 1e-12
        assert np.allclose(project(x, "x-last"), x, atol=1e-6)
        assert np.abs(project(x + noise, "x-last") - x).std() < 0.9 * noise.std()  # a third of white noise is divergent
        ours = project_torch(torch.from_numpy(noise)[None], (4, 4, 4))[0].numpy()
        assert np.allclose(ours, project(noise, "x-last", (4, 4, 4)), atol=1e-5)

    def test_resampling_in_torch_is_the_same(self) -> None:
        x = flow(24, top=5)
        coarse = spectral_resample(torch.from_numpy(x)[None], (12, 12, 12))
        assert np.allclose(coarse[0].numpy(), x[:, ::2, ::2, ::2], atol=1e-5)
        assert np.allclose(spectral_resample(coarse, (24, 24, 24))[0].numpy(), x, atol=1e-5)

    def test_symbols_are_restored_within_the_step(self) -> None:
        x = flow(20)
        modes = Modes((20, 20, 20), (10, 10, 10), 3, True, "x-last")
        _, c = modes.analyse(x)
        rows = spectral.rows_of(modes, spectral.levels_of(modes, c, 0.3), len(c))
        back = spectral.restore(spectral.quantise(c, 0.3, rows), 0.3, rows)
        assert np.abs(back - c)[rows > 0].max() <= 0.3
        assert (
            np.square(back - c)[rows > 0].mean() < 0.3**2 / 12 * 1.02
        )  # the centres of mass are no worse than uniform


class TestFields:
    def test_quality_sets_the_error(self, zipgan: ZipganCodec) -> None:
        x = flow()
        sizes, errors = [], []
        for quality in (10, 30, 50):
            data = zipgan.compress(x, quality)
            sizes.append(len(data))
            errors.append(relative(x, zipgan.decompress(data)))
        assert sizes == sorted(sizes)
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.1
        with pytest.raises(UsageError):
            zipgan.compress(x, 101)

    @pytest.mark.parametrize("factor", [2, 4, 8])
    def test_what_is_divergence_free_comes_back_so(self, files: dict[int, Path], factor: int) -> None:
        x = flow()
        codec = load(files[factor])
        for turned in (x, np.ascontiguousarray(x.transpose(0, 3, 2, 1))):  # component 0 along the first axis
            data = codec.compress(turned)
            back = codec.decompress(data)
            order: spectral.Order = "x-last" if turned is x else "x-first"
            assert divergence(turned, order) < 1e-3
            assert divergence(back, order) < 1e-3
            assert back.dtype == np.float32
        assert abs(len(codec.compress(x)) - len(data)) < 40  # the other order costs nothing

    def test_two_components_are_cheaper_than_three(self, zipgan: ZipganCodec) -> None:
        x = flow(32, slope=0.8)
        free = np.stack([flow(32, seed, slope=0.8)[seed % 3] for seed in range(3)])  # of three flows: not solenoidal
        assert len(zipgan.compress(x, 40)) < 0.8 * len(zipgan.compress(free, 40))

    @pytest.mark.parametrize(
        "shape", [(3, 20, 18, 22), (40, 50), (15, 16, 17), (2, 3, 9, 10, 11), (9, 10, 11, 3), (2, 2, 2, 12, 13)]
    )
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_shapes(self, zipgan: ZipganCodec, shape: tuple[int, ...], dtype: Any) -> None:
        x = waves(shape).astype(dtype)
        data = zipgan.compress(x, 60)
        back = zipgan.decompress(data)
        assert back.shape == x.shape
        assert back.dtype == dtype
        assert relative(x, back) < 0.05
        assert data.find(bytes([ZIPGAN, 0, 0, 0, 0])) > 0

    @pytest.mark.parametrize("x", [smooth((5, 4)), smooth((300,)), np.full((9, 9, 9), 2.5), np.full((9, 9), np.nan)])
    def test_what_does_not_suit(self, zipgan: ZipganCodec, x: np.ndarray) -> None:
        back = zipgan.decompress(zipgan.compress(x))
        assert np.allclose(back, x, atol=0.1 * max(1e-9, np.ptp(x)), equal_nan=True)

    def test_layouts(self) -> None:
        for shape, count, components, field in (
            ((3, 16, 16, 16), 1, 3, (16, 16, 16)),
            ((1, 5, 3, 8, 9, 10), 5, 3, (8, 9, 10)),
            ((8, 9, 10, 3), 1, 3, (8, 9, 10)),
            ((30, 40), 1, 1, (30, 40)),
            ((7, 30, 40), 7, 1, (30, 40)),
        ):
            layout = layout_of(shape)
            assert layout is not None
            assert (layout.count, layout.components, layout.field) == (count, components, field)
            block = np.arange(np.prod(shape)).reshape(shape)
            assert np.array_equal(layout.joined(layout.items(block), shape), block)
        assert layout_of((5, 4)) is None
        assert layout_of((100,)) is None

    def test_the_generator_is_taken_where_it_is_nearer(self, files: dict[int, Path]) -> None:
        """A generator that is made to undo a known loss: here to add what the cut takes away, a constant pattern; or to
        take it away once more."""
        codec = load(files[4])
        x = flow()
        generator = codec.model.generator

        class Known(torch.nn.Module):
            config, pattern = generator.config, np.zeros_like(x)

            def forward(self, z: torch.Tensor, noise: torch.Tensor, periodic: bool) -> torch.Tensor:
                return torch.from_numpy(self.pattern / x.std())[None].float()

        object.__setattr__(codec.model, "generator", Known())
        try:
            base = codec.decompress(codec.compress(x))
            Known.pattern = base - x
            assert not codec.latents_of(codec.compress(x))[0].generated
            Known.pattern = x - base
            data = codec.compress(x)
            assert codec.latents_of(data)[0].generated
            assert relative(x, codec.decompress(data)) < 0.1 * relative(x, base)
        finally:
            object.__setattr__(codec.model, "generator", generator)


class TestBounds:
    @pytest.mark.parametrize("bound", [1e-1, 1e-2, 1e-3, 1e-5, 1e-9])
    @pytest.mark.parametrize("kind", ["flow", "mirrored", "noise", "mixed"])
    def test_never_exceeded(self, zipgan: ZipganCodec, bound: float, kind: str) -> None:
        x = {
            "flow": flow(),
            "mirrored": smooth((3, 20, 18, 22)).astype(np.float32),
            "noise": np.random.default_rng(0).standard_cauchy((12, 13, 14)),
            "mixed": np.stack([smooth((20, 21)) * 1e-3, smooth((20, 21), 1) + 300.0]),
        }[kind]
        codec = zipgan.with_settings(bound=Bound(bound))
        back: Any = codec.decompress(codec.compress(x))
        assert np.abs(back.astype(float) - x).max() <= bound * (float(x.max()) - float(x.min()))

    def test_holds_where_floats_differ(self, zipgan: ZipganCodec, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another machine's network, off by so much that half of the values are rounded to the next place of the grid:
        the bound holds all the same."""
        x = flow(32)
        grid = _grid_of(0.05 * (float(x.max()) - float(x.min())))
        codec = zipgan.with_settings(bound=Bound(0.05))
        data = codec.compress(x)
        exact = ZipganCodec.synthesise

        def elsewhere(self: ZipganCodec, latents: Any) -> Any:
            out = exact(self, latents)
            return out + 0.5 * grid * np.random.default_rng(3).choice([-1, 1], out.shape)

        monkeypatch.setattr(ZipganCodec, "synthesise", elsewhere)
        back = codec.decompress(data)
        assert np.abs(back.astype(float) - x).max() <= 0.05 * (float(x.max()) - float(x.min()))

    def test_shorter_than_the_fallback_where_it_suits(self, zipgan: ZipganCodec) -> None:
        x = flow(32)
        for bound in (Bound(0.03), Bound(1e-3)):
            ours = zipgan.with_settings(bound=bound).compress(x)
            other: Any = Codec.load("interp")
            assert len(ours) < 0.7 * len(other.with_settings(bound=bound).compress(x))

    def test_never_longer_than_the_fallback(self, zipgan: ZipganCodec) -> None:
        x = np.random.default_rng(0).standard_cauchy((30, 31))
        other: Any = Codec.load("interp")
        assert (
            len(zipgan.with_settings(bound=Bound(1e-4)).compress(x))
            < len(other.with_settings(bound=Bound(1e-4), fast=True).compress(x)) + 60
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four snapshots in between two flows."""
    path = tmp_path_factory.mktemp("run") / "run.h5"
    a, b = flow(16, 1), flow(16, 2)
    with h5py.File(path, "w") as file:
        steps = [np.cos(t) * a + np.sin(t) * b for t in (0.0, 0.1, 0.2, 0.3)]
        file.create_dataset("velocity", data=np.stack(steps).astype("f4"))
        file.attrs["Re_lambda"] = 34.0
        file["ids"] = np.arange(7)
    return path


class TestAnyRange:
    @pytest.mark.parametrize("scale", [1e300, 1e45, 1e-50, 1e-310])
    @pytest.mark.parametrize("bound", [None, Bound(1e-2)])
    def test_scaled(self, zipgan: ZipganCodec, scale: float, bound: Bound | None) -> None:
        """No range overflows, and none becomes its mean."""
        x = scale * flow(16).astype(float)
        codec = zipgan.with_settings(bound=bound)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = codec.compress(x)
            back = codec.decompress(data)
        assert codec.method_of(unpack(data)[1][0].payload) == "zipgan"
        assert relative(x / scale, back / scale) < 0.2
        if bound is not None:
            assert np.abs(back - x).max() <= 1e-2 * np.ptp(x)

    def test_components_of_other_sizes(self, zipgan: ZipganCodec) -> None:
        """One of 1e-40 of the others isn't lost in float32: another coder takes the field."""
        x = flow(16).astype(float) * np.array([1, 1e-40, 1]).reshape(3, 1, 1, 1)
        back = zipgan.decompress(zipgan.compress(x))
        assert np.isfinite(back).all()
        assert relative(x[0], back[0]) < 0.2

    @pytest.mark.parametrize("error", [IndexError, StreamError, ValueError, OverflowError])
    def test_a_failure_is_not_the_end(
        self, zipgan: ZipganCodec, error: type[Exception], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise error("no")

        monkeypatch.setattr(ZipganCodec, "_latents", fail)
        x = flow(16)
        for codec in (zipgan, zipgan.with_settings(bound=Bound(1e-2))):
            back = codec.decompress(codec.compress(x))
            assert np.abs(back - x).max() <= 0.1 * np.ptp(x)

    def test_bounds_that_can_not_be(self, zipgan: ZipganCodec) -> None:
        codec = zipgan.with_settings(bound=Bound(0.02))
        header, chunks = unpack(codec.compress(flow(16)))
        payload = chunks[0].payload
        assert payload[9] & 16, "a residual"
        for bound in (1e-323, 1e-310, 1e308, float("inf"), float("nan"), -1.0):
            wrong = payload[:14] + struct.pack("<d", bound) + payload[22:]
            with pytest.raises(StreamError):
                codec.decompress(pack(header, [replace(chunks[0], payload=wrong)]))


class TestWords:
    def test_the_error_is_said(self, zipgan: ZipganCodec, tmp_path: Path) -> None:
        noisy = flow(16) + 0.3 * np.random.default_rng(0).normal(size=(3, 16, 16, 16))
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["u"], file["t"], file["w"] = flow(16)[None], waves((70, 71)), noisy[None].astype("f4")
        summary = zipgan.encode_file(tmp_path / "a.h5", tmp_path / "a.zipgan")
        notes = {note.words.partition(":")[0]: note for note in summary.notes}
        assert all(note.kind == "bound" and "relative L2 error" in note.words for note in notes.values())
        assert "isn't a velocity" in notes["/t"].words
        assert "/u" not in notes, "a velocity, well coded"
        assert "without a bound: relative L2 error" in summary.about["fields"]["/u"]
        assert any("/u without a bound: relative L2 error" in words for words in summary.words)
        with h5py.File(tmp_path / "a.h5") as file:
            x: Any = file["u"][()]  # type: ignore[index]
        back = zipgan.decode_dataset((tmp_path / "a.zipgan").read_bytes(), "u")
        said = float(summary.about["fields"]["/u"].partition("L2 error ")[2].partition(" %")[0]) / 100
        assert said == pytest.approx(relative(x, back), rel=0.05)

    def test_no_note_under_a_bound(self, zipgan: ZipganCodec, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["t"] = waves((70, 71))
        bounded = zipgan.with_settings(bound=Bound(1e-3))
        assert not bounded.encode_file(tmp_path / "a.h5", tmp_path / "a.zipgan").notes


class TestTime:
    def test_between_arrays(self, zipgan: ZipganCodec) -> None:
        a, b = flow(16, 1), flow(16, 2)
        first, second = zipgan.compress(a), zipgan.compress(b)
        assert np.allclose(zipgan.between(first, second, 0), zipgan.decompress(first), atol=1e-5)
        assert np.allclose(zipgan.between(first, second, 1), zipgan.decompress(second), atol=1e-5)
        half = zipgan.between(first, second, 0.5)
        assert relative((a + b) / 2, half) < 0.2
        for wrong in (-0.1, 1.1, float("nan")):
            with pytest.raises(UsageError):
                zipgan.between(first, second, wrong)

    def test_at(self, zipgan: ZipganCodec, run: Path, files: dict[int, Path], tmp_path: Path) -> None:
        coded, out = tmp_path / "run.zipgan", tmp_path / "at.npy"
        own = ["--weights", str(files[2])]
        assert cli.main(["encode", str(run), "-c", "zipgan", "-q", "60", "-o", str(coded), "--quiet", *own]) == 0
        wanted = ["decode", str(coded), "--dataset", "/velocity", "--at", "1.5", "-o", str(out), "--quiet", *own]
        assert cli.main(wanted) == 0
        with h5py.File(run) as file, open(out, "rb") as stream:
            x: Any = file["velocity"]
            middle = np.lib.format.read_array(stream)
            assert relative((x[1] + x[2]) / 2, middle) < 0.15
            whole = zipgan.decode_at(coded.read_bytes(), "velocity", 2.0)
            assert relative(x[2], whole) < 0.15
        for wrong in (["--at", "9"], ["--at", "3.5"], ["--at", "1", "--snapshot", "1"]):
            arguments = ["decode", str(coded), "--dataset", "velocity", *wrong, "-o", str(tmp_path / "no.npy"), *own]
            assert cli.main(arguments) != 0
            assert not (tmp_path / "no.npy").exists()

    def test_between_what_is_damaged(self, zipgan: ZipganCodec) -> None:
        """With right checksums: latents are read with the same care as fields."""
        header, chunks = unpack(zipgan.with_settings(bound=Bound(0.05)).compress(flow(16)))
        for n in (0, 3, 6, 9, 12, 25, 40):
            cut = pack(header, [replace(chunks[0], payload=chunks[0].payload[:n])])
            with pytest.raises(StreamError):
                zipgan.latents_of(cut)

    def test_nothing_between_other_things(self, zipgan: ZipganCodec, run: Path) -> None:
        data = zipgan.encode_hdf5(run)
        with pytest.raises(UsageError, match="without loss"):
            zipgan.decode_at(data, "ids", 0.5)
        tiny = zipgan.compress(np.zeros(4))
        with pytest.raises(UsageError):
            zipgan.between(tiny, tiny, 0.5)


class TestFiles:
    def test_hdf5(self, zipgan: ZipganCodec, run: Path) -> None:
        data = zipgan.with_settings(quality=60).encode_hdf5(run)
        about = zipgan.describe_fields(data)
        assert about["/velocity"].startswith("zipgan, without a bound: relative L2 error ")
        buffer = io.BytesIO()
        zipgan.decode_hdf5(data, buffer)
        with h5py.File(buffer) as back, h5py.File(run) as file:
            assert back.attrs["Re_lambda"] == 34.0
            assert np.array_equal(back["ids"][()], file["ids"][()])  # type: ignore[index]
            assert relative(file["velocity"][()], back["velocity"][()]) < 0.15  # type: ignore[index]
        snapshot = zipgan.decode_dataset(data, "velocity", 2)
        assert np.array_equal(snapshot, zipgan.decode_dataset(data, "velocity")[2])
        bounded = zipgan.with_settings(bound=Bound(0.01)).encode_hdf5(run)
        assert "within" in zipgan.describe_fields(bounded)["/velocity"]

    @pytest.mark.parametrize("bound", [None, Bound(0.02)])
    def test_damage(self, zipgan: ZipganCodec, bound: Bound | None) -> None:
        codec = zipgan.with_settings(bound=bound)
        data = codec.compress(flow(12))
        expected = codec.decompress(data)
        harm = Damage(data, codec.decompress, lambda decoded: np.array_equal(decoded, expected))
        harm.flips_and_splices(150)
        harm.payloads(100)

    def test_other_weights_do_not_fit(self, files: dict[int, Path]) -> None:
        data = load(files[2]).compress(flow(16))
        with pytest.raises(CodecError):
            load(files[4]).decompress(data)


class TestNetworks:
    def test_the_published_sizes(self) -> None:
        """Trunk of the group's TSRGAN with ESRGAN's dense blocks: 1.66 M weights a block (notes, section 3.2)."""
        block = DenseBlock3d(ZipganConfig.paper(4).features, ZipganConfig.paper(4).growth)
        weights = 3 * sum(p.numel() for name, p in block.named_parameters() if name.endswith("weight"))
        assert weights == 3 * 27 * 64 * (64 + 128 + 192 + 256 + 320)

    @pytest.mark.parametrize("factor", [2, 4, 8])
    @pytest.mark.parametrize("kind", ["spectral", "box", "gaussian", "learned"])
    def test_encoders_start_as_filters(self, factor: int, kind: Any) -> None:
        config = ZipganConfig(factor, encoder=kind, **SMALL)
        x = torch.from_numpy(flow(16))[None]
        z = FieldEncoder(config)(x)
        assert z.shape == (1, 3, *(16 // factor,) * 3)
        assert torch.allclose(z.mean(), x.mean(), atol=1e-4)
        if kind == "learned":
            assert torch.allclose(z, torch.nn.functional.avg_pool3d(x, factor), atol=1e-6)

    def test_untrained_generators_add_nothing(self) -> None:
        for factor in (2, 4, 8):
            z = torch.randn(1, 3, 4, 4, 4)
            out = Generator(ZipganConfig(factor, **SMALL))(z, torch.zeros(1))
            assert out.shape == (1, 3, *(4 * factor,) * 3)
            assert not out.any()

    def test_periodic(self) -> None:
        """A shift of the latents by a cell shifts the field by a cell: nothing happens at borders."""
        net = Generator(ZipganConfig(2, **SMALL))
        torch.nn.init.normal_(net.last.conv.weight, std=0.1)
        z = torch.randn(1, 3, 6, 6, 6)
        out = net(z, torch.zeros(1))
        moved = net(z.roll((1, 2), (2, 4)), torch.zeros(1))
        assert torch.allclose(moved, out.roll((2, 4), (2, 4)), atol=1e-5)

    def test_transfer_keeps_what_was_learned(self) -> None:
        small, large = Generator(ZipganConfig(2, **SMALL)), Generator(ZipganConfig(4, **SMALL))
        torch.nn.init.normal_(small.last.conv.weight, std=0.1)
        large.grow_from(small)
        assert torch.equal(large.trunk[0].blocks[0].last.conv.weight, small.trunk[0].blocks[0].last.conv.weight)  # type: ignore[union-attr,index]
        assert torch.equal(large.last.conv.weight, small.last.conv.weight)

    def test_steps_beyond_what_was_trained_are_the_nearest(self) -> None:
        net = Generator(ZipganConfig(2, **SMALL))
        torch.nn.init.normal_(net.last.conv.weight, std=0.1)
        z = torch.randn(1, 3, 8, 8, 8)
        coarse, fine, finer, middle = (net(z, torch.tensor([noise])) for noise in (3.0, -3.0, -7.0, -2.0))
        assert torch.equal(fine, finer)
        assert torch.equal(coarse, net(z, torch.tensor([1.0])))
        assert not torch.equal(fine, middle)

    def test_the_plain_discriminator_is_the_same_function(self) -> None:
        critic = Discriminator(ZipganConfig(2, **SMALL)).eval()
        x = torch.randn(1, 3, 16, 16, 16)
        assert torch.allclose(critic(x), critic.plain()(x), atol=1e-5)

    def test_score(self, zipgan: ZipganCodec) -> None:
        x = flow(16)
        plain = zipgan.model.critic
        assert plain is not None
        logit = float(plain(torch.from_numpy((x - x.mean((1, 2, 3), keepdims=True)) / x.std())[None]).mean())
        assert np.isclose(score(x * 7, zipgan), (logit - 0.5) / 2.0, atol=1e-2)
        with pytest.raises(UsageError):
            score(np.zeros((2, 16, 16, 16)), zipgan)


@pytest.mark.parametrize("tag", [item.tag for item in shipped.manifests("zipgan")])
def test_what_ships_is_better_than_interpolation(tag: str) -> None:
    """On a decaying flow that no weights were trained on."""
    from codec.datasets.turbulence import FlowConfig, Simulation

    codec: Any = Codec.load(f"zipgan@{tag}")
    assert load_tensors(shipped.find("zipgan", tag).path).id == codec.weights_id
    simulation = Simulation(FlowConfig(n=32, viscosity=0.035, seed=77))
    simulation.advance(6.0)
    x = simulation.velocity().numpy().astype(np.float32)
    latents = codec.latents_of(codec.compress(x))[0]
    assert latents.generated
    waste = x.std() * np.random.default_rng(0).normal(size=x.shape)
    real, noisy, spoilt = (score(x + part * waste, codec) for part in (0.0, 0.03, 0.2))
    assert spoilt < noisy < real
    assert abs(real) < 20, "standard deviations of real fields, of another size and forcing"
