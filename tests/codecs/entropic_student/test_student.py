"""Entropic Student: the networks without torch and in it, hostile files, the prediction, the edges."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import codec as package
from codec import cli
from codec.codecs.entropic_student import heads
from codec.codecs.entropic_student.codec import EntropicStudentCodec
from codec.codecs.entropic_student.config import (
    CELLS,
    LARGEST_LATENT,
    LEVELS,
    SIDE,
    EntropicStudentConfig,
    level_of,
    view_of,
)
from codec.codecs.entropic_student.edges import EDGES
from codec.codecs.entropic_student.network import EntropicStudentNet, initialise
from codec.codecs.entropic_student.torch_model import exported
from codec.codecs.entropic_student.weights import tensor_shapes
from codec.codecs.layers.extractors import Classifier
from codec.container import Chunk, pack, unpack
from codec.errors import StreamError, UsageError, WeightsError
from codec.files import find_model
from codec.train.twins import twin_of

SAMPLE = Path(package.__file__).parent / "samples" / "dog.png"


@functools.cache
def student() -> EntropicStudentCodec:
    return package.Codec.load("entropic-student")


@functools.cache
def view() -> Any:
    with Image.open(SAMPLE) as image:
        return view_of(np.asarray(image.convert("RGB")))


def test_the_view_is_the_middle_at_a_scale() -> None:
    ramp = np.repeat(np.arange(512, dtype=np.uint8)[None, :, None] // 2, 3, 2).repeat(256, 0)
    seen = view_of(ramp.astype(np.uint8))
    assert seen.shape == (224, 224, 3)
    assert view_of(seen[:, :, :]).shape == (224, 224, 3)
    wide = np.zeros((256, 1024, 3), np.uint8)
    wide[:, 400:624] = 255  # exactly what a view of 224 in the middle of 1024 pixels shows
    assert view_of(wide).min() == 255


def test_levels_go_from_the_lowest_to_the_highest_quality() -> None:
    levels = [level_of(quality) for quality in range(1, 101)]
    assert levels == sorted(levels)
    assert set(levels) == set(range(LEVELS))
    config = EntropicStudentConfig()
    assert (config.step_of(0), config.step_of(LEVELS - 1)) == (0, config.last_step)


class TestNetworks:
    def test_the_tensors_of_a_file_are_those_of_the_network(self) -> None:
        config = EntropicStudentConfig(latent=3, decoder_width=(6, 7), knots=3)
        net = EntropicStudentNet(config)
        net.train()
        net.decode(net.latents(torch.rand(2, 3, 32, 32), torch.rand(2)), torch.rand(2))
        state = {name: tuple(t.shape) for name, t in exported(twin_of(net)).items() if not name.startswith("tables.")}
        shapes = {name: shape for name, shape in tensor_shapes(config).items() if not name.startswith(EDGES)}
        assert state == shapes

    def test_it_starts_as_the_teacher(self) -> None:
        """Its encoder gives the teacher's features, in channels that aren't correlated; the decoder turns them back."""
        torch.manual_seed(0)
        teacher = Classifier().eval()
        for part in teacher.modules():
            if isinstance(part, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(part.weight)
        net = EntropicStudentNet(EntropicStudentConfig())
        x, highest = torch.rand(40, 3, 64, 64), torch.ones(40)
        initialise(net, teacher, x)
        with torch.no_grad():
            wanted = heads.early(teacher, x)
            assert torch.allclose(net.encoder.features(x), wanted, atol=1e-4)
            latents = net.encoder(x).transpose(0, 1).flatten(1)
            assert (torch.corrcoef(latents) - torch.eye(len(latents))).abs().max() < 1e-2
            energy = latents.square().mean(1)
            assert (energy[:-1] >= 0.999 * energy[1:]).all(), "the largest first"
            errors = []
            for t in (highest, 0 * highest):
                y = net.latents(x, t)
                noisy = y + torch.rand_like(y) - 0.5
                centred = wanted - wanted.mean((0, 2, 3), keepdim=True)
                errors.append(float((net.decode(noisy, t) - wanted).square().mean() / centred.square().mean()))
        assert errors[0] < 0.7 * errors[1], "a higher quality is nearer"
        assert errors[1] < 1.5, "noise of the largest steps is not let through"

    def test_the_engine_decodes_as_torch_does(self) -> None:
        model = student().model
        for level in (0, 7, 20, LEVELS - 1):
            step = model.config.step_of(level)
            latents = model.engine.latents(view(), step)  # type: ignore[union-attr]
            expected = model.oracle.features(latents, step)
            assert (model.engine.features(latents, step) == expected).all()  # type: ignore[union-attr]
            assert expected.std() > 0.1

    def test_latents_of_any_size_decode_to_the_same(self) -> None:
        """Those of a hostile file, too: grids clamp them before anything is summed."""
        model, rng = student().model, np.random.default_rng(0)
        for size in (300, 1 << 12, LARGEST_LATENT):
            latents = rng.integers(-size, size + 1, (model.config.latent, CELLS, CELLS)).astype(np.int32)
            features = model.engine.features(latents, model.config.last_step)  # type: ignore[union-attr]
            assert (features == model.oracle.features(latents, model.config.last_step)).all()
            assert np.isfinite(features).all()

    def test_the_encoders_agree(self) -> None:
        model = student().model
        step = model.config.step_of(20)
        mine, theirs = model.engine.latents(view(), step), model.oracle.latents(view(), step)  # type: ignore[union-attr]
        assert np.abs(mine - theirs).max() <= 1
        assert (mine != theirs).mean() < 1e-3
        assert len(np.unique(mine)) > 3


class TestFiles:
    def test_what_is_decoded_is_what_was_coded(self) -> None:
        data = student().encode_seen(view(), 60.0)
        latents, level = student().read_latents(*unpack(data))
        assert level == level_of(60.0)
        assert (latents == student().model.networks.latents(view(), student().model.config.step_of(level))).all()

    def test_the_estimate_of_the_tables_is_the_size(self) -> None:
        codec = student()
        for quality in (20.0, 90.0):
            level = level_of(quality)
            latents = codec.model.networks.latents(view(), codec.model.config.step_of(level))
            bits = codec.model.tables.bits(latents.reshape(len(latents), -1), codec._rows(level))
            _, chunks = unpack(codec.encode_seen(view(), quality))
            assert 8 * sum(len(chunk.payload) for chunk in chunks) == pytest.approx(bits, abs=80, rel=0.01)

    def test_a_view_is_not_scaled_again(self) -> None:
        with pytest.raises(UsageError, match="expected uint8"):
            student().encode_seen(view()[:100], 50.0)
        with pytest.raises(UsageError, match="expected uint8"):
            student().encode_seen(view().astype(np.float32), 50.0)

    @pytest.mark.parametrize("level", [-1, LEVELS, 3.0, True, "3", None])
    def test_levels_that_can_not_be(self, level: Any) -> None:
        header, chunks = unpack(student().encode_seen(view(), 50.0))
        params = {**header.params, "l": level}
        if level is None:
            del params["l"]
        data = pack(dataclasses.replace(header, params=params), chunks)
        with pytest.raises(StreamError, match="level"):
            student().decompress(data)

    def test_chunks_that_can_not_be(self) -> None:
        header, chunks = unpack(student().encode_seen(view(), 50.0))
        for changed in ([], [*chunks, *chunks], [Chunk("Late", b"")]):
            with pytest.raises(StreamError):
                student().decompress(pack(header, changed))
        with pytest.raises(StreamError, match="coder"):
            student().decompress(pack(dataclasses.replace(header, coder="webp"), chunks))
        with pytest.raises(package.CodecError, match=r"features of float32 \(24, 56, 57\)"):
            student().decompress(pack(dataclasses.replace(header, shape=(24, 56, 57)), chunks))

    def test_unknown_coder(self) -> None:
        with pytest.raises(UsageError, match="no coder 'webp'"):
            student().with_settings(coder="webp")


class TestHeads:
    def test_edges_are_probabilities_at_each_pixel(self) -> None:
        codec = student()
        edges = codec.edges(codec.decompress(codec.encode_seen(view(), 80.0)))
        assert edges.shape == (224, 224)
        assert 0 <= edges.min() < edges.max() <= 1

    def test_the_head_of_edges_is_a_network_of_the_file(self) -> None:
        """The same as torch computes of the same tensors."""
        arrays = student().model.arrays
        features = np.random.default_rng(0).normal(0, 8, (24, SIDE, SIDE)).astype(np.float32)
        x = torch.from_numpy(features)[None]
        for k in range(3):
            weight, bias = (
                torch.from_numpy(arrays[f"{EDGES}.{k}.{part}"].astype(np.float32)) for part in ("weight", "bias")
            )
            x = torch.nn.functional.conv2d(x if k == 0 else x.relu(), weight, bias, padding=1)
        expected = torch.nn.functional.pixel_shuffle(x, 4).sigmoid()[0, 0].numpy()
        assert np.abs(student().edges(features) - expected).max() < 1e-3

    def test_features_of_another_shape_have_no_prediction(self) -> None:
        with pytest.raises(UsageError, match="expected"):
            student().predict(np.zeros((24, 5, 5), np.float32))

    def test_without_the_classifier_it_says_how_to_get_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from codec.codecs.entropic_student import codec as module

        module._teacher.cache_clear()
        monkeypatch.setattr(heads, "find_model", lambda *_: None)
        (tmp_path / "a").write_bytes(student().encode_seen(view(), 50.0))
        assert cli.main(["decode", str(tmp_path / "a"), "-o", str(tmp_path / "a.json")]) == UsageError.exit_code
        assert "make models" in capsys.readouterr().err
        assert not (tmp_path / "a.json").exists()

    def test_without_torch_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import builtins

        plain = builtins.__import__

        def without(name: str, *rest: Any) -> Any:
            if name == "torch":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")
            return plain(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(UsageError, match="the prediction of a classifier needs PyTorch"):
            student().predict(np.zeros((24, SIDE, SIDE), np.float32))

    def test_the_prediction_is_the_classifiers(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from codec.codecs.layers.extractors import LITE_FILE, LITE_PLACE, folders_of_package

        if find_model(LITE_FILE, *folders_of_package(*LITE_PLACE)) is None:
            pytest.skip("needs the classifier of `make models`")
        teacher = heads.load_teacher()
        x = torch.from_numpy(view()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            own = heads.early(teacher, x)
            assert torch.allclose(heads.late(teacher, own).logits, teacher.logits(x), atol=1e-3)
            wanted = int(teacher.logits(x).argmax())
        answer = student().predict(own[0].numpy())
        assert answer["classes"][0]["class"] == wanted
        chances = [item["probability"] for item in answer["classes"]]
        assert chances == sorted(chances, reverse=True)
        assert len(chances) == 5
        assert cli.main(["encode", str(SAMPLE), "-c", "entropic-student", "-o", str(tmp_path / "a"), "-q", "100"]) == 0
        assert cli.main(["decode", str(tmp_path / "a"), "-o", str(tmp_path / "a.json")]) == 0
        written = json.loads((tmp_path / "a.json").read_text())
        assert written == json.loads(json.dumps(student().predict(student().decompress(tmp_path / "a"))))


@pytest.mark.parametrize("damage", ["config", "table", "shape", "number"])
def test_weights_that_can_not_be(damage: str, tmp_path: Path) -> None:
    from safetensors.numpy import save_file
    from safetensors.torch import load_file

    from codec.codecs.base import weights

    made = next(item for item in weights.manifests("entropic-student") if not item.retired)
    arrays = {name: tensor.numpy() for name, tensor in load_file(made.path).items()}
    about = {"config": dataclasses.asdict(EntropicStudentConfig()), "tag": "x"}
    if damage == "config":
        about["config"]["latent"] = 10**9  # type: ignore[index]
    elif damage == "table":
        arrays["tables.lengths"] = arrays["tables.lengths"][:-1]
    elif damage == "shape":
        arrays["encoder.stem.weight"] = arrays["encoder.stem.weight"][:-1]
    else:
        arrays["encoder.stem.bias"] = np.full_like(arrays["encoder.stem.bias"], np.nan)
    path = tmp_path / "bad.safetensors"
    save_file(arrays, path, {"codec": "entropic-student", "entropic-student": json.dumps(about)})
    with pytest.raises(WeightsError):
        package.Codec.load("entropic-student", weights=path)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 10), (7, 9), (1, 1)])
def test_layers_of_each_channel_are_those_of_torch(stride: int, size: tuple[int, int]) -> None:
    """With TensorFlow's padding, which isn't the same on both sides."""
    from codec.codecs.entropic_student import engine
    from codec.codecs.layers.extractors import LiteConv

    torch.manual_seed(0)
    conv, stem = LiteConv(5, 5, 3, stride, groups=5), LiteConv(3, 4, 3, 2)
    x = np.random.default_rng(0).normal(0, 2, (*size, 5)).astype(np.float32)
    given = torch.from_numpy(x).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = [conv(given)[0].permute(1, 2, 0).numpy(), stem(given[:, :3])[0].permute(1, 2, 0).numpy()]
        (w, b), (stem_w, stem_b) = ((np.asarray(p) for p in layer.parameters()) for layer in (conv, stem))
    assert np.abs(engine._depthwise(x, w, b, stride) - expected[0]).max() < 1e-5
    assert np.abs(engine._stem(x[..., :3], stem_w, stem_b) - expected[1]).max() < 1e-5
