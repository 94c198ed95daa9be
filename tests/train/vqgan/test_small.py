"""Training of VQGAN's network `small` on tiny networks: both stages, resuming, and what goes wrong in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save

from codec.codecs.layers.exact_state import export_state
from codec.codecs.s2lic.config import S2licConfig
from codec.codecs.s2lic.network import S2licNet, initialise
from codec.codecs.s2lic.torch_model import make_tables, table_state
from codec.codecs.s2lic.weights import metadata
from codec.codecs.vqgan.codec import VqganCodec
from codec.codecs.vqgan.config import VqganConfig
from codec.errors import UsageError
from codec.media.distortion import psnr
from codec.train import device_loop
from codec.train.device_loop import DeviceSteps
from codec.train.run import RECIPES, main, read_recipe
from codec.train.twins import twin_of
from codec.train.vqgan.discriminator import FeatureDiscriminator
from codec.train.vqgan.extractors import HedVgg
from codec.train.vqgan.game import feature_critic_step
from codec.train.vqgan.losses import FeatureDistance
from codec.train.vqgan.small import LatentCrops, VqganSmallRecipe, VqganSmallTask, check_settings, start_from

ROOT = Path(__file__).resolve().parents[3]
SIZES: dict[str, Any] = {"latent": 24, "synthesis_width": [8, 8, 16], "synthesis_blocks": [1, 1, 1], "knots": 3}
MODEL: dict[str, Any] = {
    **SIZES,
    "dim": 4,
    "width": 16,
    "head_blocks": 1,
    "blocks": 1,
    "codebooks": [8, 16],
    "step": 70,
}
RECIPE: dict[str, Any] = {
    "stage": "latents",
    "shares": [1.0, 1.0],
    "steps": 8,
    "decay_from": 4,
    "encoder_from": 3,
    "warmup": 1,
    "batch": 4,
    "crop": 64,
    "rounds": 1,
    "cluster_every": 5,
    "cluster_cells": 200,
    "critic_width": 8,
    "critic_layers": 2,
    "bf16": False,
    "scales": [],
}
PIXELS: dict[str, Any] = {"stage": "pixels", "batch": 2, "hed_vgg": 0.0, "efficientnet_lite0": 0.0, "freeze_from": 6}


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    with Image.open(ROOT / "samples" / "dog.png") as image:
        return np.asarray(image.convert("RGB").crop((100, 100, 260, 260)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(photo).save(folder / "dog.png")
    return folder


@pytest.fixture(scope="module")
def s2lic(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
    """Weights of a tiny S2LIC at its closed-form start."""
    torch.manual_seed(0)
    config = S2licConfig(
        slices=(8, 16),
        hyper=8,
        features=16,
        analysis_width=(8, 8, 16),
        analysis_blocks=(1, 1, 1),
        attention=0,
        context=8,
        hidden=8,
        refine=0,
        latent=24,
        synthesis_width=(8, 8, 16),
        synthesis_blocks=(1, 1, 1),
        knots=3,
    )
    net = S2licNet(config)
    x = torch.from_numpy(photo.transpose(2, 0, 1).copy())[None].float() / 255
    initialise(net, torch.cat([x[:, :, a : a + 64, b : b + 64] for a in (0, 64, 96) for b in (0, 50, 96)]))
    path = tmp_path_factory.mktemp("s2lic") / "s2lic-tiny.safetensors"
    path.write_bytes(
        save({**export_state(twin_of(net)), **table_state(*make_tables())}, metadata(config, "tiny", "mse"))
    )
    return path


def written(path: Path, start: Path, **changes: Any) -> Path:
    recipe = {**RECIPE, "start": str(start), **changes}
    recipe["start"] = changes.get("begin", recipe["start"])
    recipe.pop("begin", None)
    path.write_text(yaml.safe_dump({"network": "small", "tag": "tiny", "model": MODEL, "recipe": recipe}))
    return path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, data: Path, s2lic: Path) -> Path:
    out = tmp_path_factory.mktemp("latents")
    return main("vqgan", str(written(out / "a.yaml", s2lic)), data, out / "runs", device="cpu")


def task(start: Path, distance: bool = False, **changes: Any) -> VqganSmallTask:
    settings = {"network": "small", "tag": "", "model": MODEL, "recipe": {**RECIPE, "start": str(start), **changes}}
    distances = [(1.0, FeatureDistance(HedVgg(((4,), (8,)))))] if distance else []
    torch.manual_seed(0)
    return VqganSmallTask(*check_settings(settings), "tiny", distances=distances)


def test_starts_as_a_transform_codec(data: Path, s2lic: Path, photo: np.ndarray, tmp_path: Path) -> None:
    """After a step that does next to nothing, 16 words tell parts of a picture apart."""
    path = written(tmp_path / "a.yaml", s2lic, steps=1, lr=1e-9)
    folder = main("vqgan", str(path), data, tmp_path / "runs", device="cpu")
    codec = VqganCodec.from_weights(None, 99, folder / "vqgan-tiny.safetensors", "cpu")
    file = codec.compress(photo)
    flat = np.broadcast_to(photo.mean((0, 1)).round().astype(np.uint8), photo.shape)
    assert len(file) < 100
    assert psnr(codec.decompress(file), photo) > psnr(flat, photo) + 3


def test_both_stages_make_weights(first: Path, data: Path, photo: np.ndarray, tmp_path: Path) -> None:
    path = written(tmp_path / "a.yaml", first / "last.ckpt", **PIXELS)
    folder = main("vqgan", str(path), data, tmp_path / "runs", device="cpu")
    pair = [VqganCodec.from_weights(None, 99, f / "vqgan-tiny.safetensors", "cpu") for f in (first, folder)]
    pictures = [codec.decompress(codec.compress(photo)) for codec in pair]
    assert [picture.shape for picture in pictures] == [photo.shape] * 2
    assert not np.array_equal(*pictures)
    states = [torch.load(f / "last.ckpt", weights_only=True) for f in (first, folder)]
    assert not any("critic" in name for name in states[0]["state_dict"])
    assert states[1]["phases"] == ["freeze"]


def test_a_resumed_run_is_the_same_run(first: Path, data: Path, tmp_path: Path) -> None:
    """Of the second stage, across the freezing of the encoder and a round of K-means."""

    class Stop(Exception):
        pass

    class Stopping(DeviceSteps):
        def wait(self) -> None:
            if self.task.step == 7:
                device_loop.save_run(tmp_path / "parts" / "vqgan-tiny" / "last.ckpt", self.task, self.optimizers)
                raise Stop

    path = written(tmp_path / "a.yaml", first / "last.ckpt", **PIXELS)
    whole = main("vqgan", str(path), data, tmp_path / "whole", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("codec.train.vqgan.small.DeviceSteps", Stopping)
        with pytest.raises(Stop):
            main("vqgan", str(path), data, tmp_path / "parts", device="cpu")
    parts = main("vqgan", str(path), data, tmp_path / "parts", resume=True, device="cpu")
    states = [torch.load(f / "last.ckpt", weights_only=True)["state_dict"] for f in (whole, parts)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert (whole / "vqgan-tiny.safetensors").read_bytes() == (parts / "vqgan-tiny.safetensors").read_bytes()


def test_the_decoder_learns_latents(s2lic: Path) -> None:
    made = task(s2lic, lr=2e-2, steps=100, decay_from=100, encoder_from=20, cluster_every=1000)
    generator = torch.Generator().manual_seed(3)
    picture = torch.randn(4, 24, 4, 4, generator=generator)
    made.cells = lambda: picture
    made.cluster(3)
    frozen = {name: p.clone() for name, p in made.encoder(made.net).items()}
    steps, errors = DeviceSteps(made, lambda: [picture, picture], made.named_optimizers()), []
    for _ in range(40):
        made.enter_due_phases()
        steps.advance(1)
        errors.append(made.means()["error"])
        if made.step == 20:
            assert all(torch.equal(p, frozen[name]) for name, p in made.encoder(made.net).items()), "it learns later"
    assert np.mean(errors[-5:]) < 0.8 * np.mean(errors[:5])
    assert not all(torch.equal(p, frozen[name]) for name, p in made.encoder(made.net).items())


def test_the_game_and_the_frozen_encoder(first: Path) -> None:
    made = task(
        first / "last.ckpt", True, **{**PIXELS, "critic_from": 2, "adversarial_from": 4, "matching": 0.1, "steps": 40}
    )
    start_from(made, first / "last.ckpt")
    torch.manual_seed(1)
    batch = torch.rand(2, 3, 64, 64)
    made.cells = lambda: made.net.coefficients(batch)
    steps, log = DeviceSteps(made, lambda: batch, made.named_optimizers()), []
    states = []
    for _ in range(9):
        made.enter_due_phases()
        steps.advance(1)
        log.append(made.means())
        encoder = torch.cat([p.detach().flatten() for p in made.encoder(made.net).values()])
        states.append((encoder, made.net.level(16).codebook.clone(), made.net.leave.layer.conv.weight.clone()))
    assert "hed-vgg_distance" in log[0]
    assert ["critic" in row for row in log] == [False] * 2 + [True] * 7
    assert ["matching" in row for row in log] == [False] * 4 + [True] * 5
    assert all(0 < row["weight"] <= 10 * 0.2 for row in log[4:])
    assert not torch.equal(states[4][0], states[5][0])
    assert torch.equal(states[7][0], states[8][0]), "frozen"
    assert torch.equal(states[7][1], states[8][1])
    assert not torch.equal(states[7][2], states[8][2]), "the decoder goes on"


def test_adversarial_steps_are_not_those_without(first: Path) -> None:
    torch.manual_seed(1)
    batch, kernels = torch.rand(2, 3, 64, 64), []
    for weight in (0.0, 0.5):
        made = task(first / "last.ckpt", **{**PIXELS, "adversarial": weight})
        start_from(made, first / "last.ckpt")
        DeviceSteps(made, lambda: batch, made.named_optimizers()).advance(1)
        kernels.append(made.net.leave.layer.conv.weight.detach().clone())
    assert not torch.equal(*kernels)


def test_a_discriminator_of_features_joins_the_game(first: Path) -> None:
    """It learns, pushes the network elsewhere, and is in checkpoints; features that aren't compared can't be judged."""
    torch.manual_seed(1)
    batch, kernels = torch.rand(2, 3, 64, 64), []
    for share in (0.0, 0.5):
        made = task(first / "last.ckpt", True, **{**PIXELS, "adversarial": 0.0, "adversarial_features": share})
        start_from(made, first / "last.ckpt")
        before = {name: value.clone() for name, value in made.state_dict().items()}
        DeviceSteps(made, lambda: batch, made.named_optimizers()).advance(1)
        kernels.append(made.net.leave.layer.conv.weight.detach().clone())
        judges = [name for name in before if name.startswith("feature_critic.") and "original" in name]
        assert bool(judges) == bool(share)
        assert all(not torch.equal(before[name], made.state_dict()[name]) for name in judges)
    assert not torch.equal(*kernels)
    with pytest.raises(UsageError, match="needs hed_vgg or efficientnet_lite0"):
        task(first / "last.ckpt", **PIXELS, adversarial_features=0.1)


def test_discriminator_of_features_learns_to_tell_them_apart() -> None:
    torch.manual_seed(3)
    critic = FeatureDiscriminator((6, 10))
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    real = [torch.randn(4, c, 8, 8) for c in (6, 10)]
    fake = [x.roll(1, 1) + 0.5 for x in real]
    losses = [feature_critic_step(critic, real, fake, optimizer, step=k, bf16=False) for k in range(30)]
    assert float(losses[-1]["feature_critic"]) < 0.5 * float(losses[0]["feature_critic"])
    logits = critic.judge([1000 * x for x in real])
    assert [x.shape for x in logits] == [(4, 1, 8, 8)] * 2
    torch.testing.assert_close(logits, critic.judge(real), rtol=1e-3, atol=1e-4)  # their size says nothing


def test_crops_of_latents() -> None:
    torch.manual_seed(0)
    pictures = [torch.full((3, 200, 300), value, dtype=torch.uint8) for value in (0, 255)]
    maps = LatentCrops(pictures, 4, 2, 1, lambda x: [x[:, :, ::16, ::16], 2 * x[:, :, ::16, ::16]])
    a, b = maps.draw(16)
    assert a.shape == b.shape == (16, 3, 4, 4)
    assert torch.equal(b, 2 * a)
    assert {float(v) for v in a.mean((1, 2, 3))} == {0.0, 1.0}


def test_starts_from_weights_too(first: Path) -> None:
    made = task(first / "last.ckpt", **PIXELS)
    start_from(made, first / "last.ckpt")
    other = task(first / "last.ckpt", **PIXELS)
    start_from(other, first / "vqgan-tiny.safetensors")
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    for size in (8, 16):
        maps = [t.net.eval().indices(x, size) for t in (made, other)]
        assert (maps[0] == maps[1]).float().mean() > 0.9
        pictures = [t.net.picture(t.net.expand(t.net.level(size).look_up(maps[0]), size)) for t in (made, other)]
        assert (pictures[0] - pictures[1]).abs().max() < 0.02


def test_what_is_no_number_ends_the_run(first: Path) -> None:
    made = task(first / "last.ckpt", **PIXELS)
    start_from(made, first / "last.ckpt")
    before = {name: value.clone() for name, value in made.net.named_parameters()}
    batch = torch.full((2, 3, 64, 64), float("nan"))
    with pytest.raises(UsageError, match="isn't a number.*l1|critic"):
        DeviceSteps(made, lambda: batch, made.named_optimizers()).advance(1)
    assert all(torch.equal(value, before[name]) for name, value in made.net.named_parameters())


def test_recipes_fit() -> None:
    for name, stage in (("latents", "latents"), ("pixels", "pixels"), ("features", "pixels")):
        config, recipe = check_settings(read_recipe(RECIPES / "vqgan" / f"{name}.yaml"))
        assert config == VqganConfig()
        assert recipe.stage == stage
        assert len(recipe.shares) == len(config.codebooks)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"begin": "nowhere.safetensors"}, "no such file"),
        ({"begin": ""}, "name weights of s2lic"),
        ({"stage": "all"}, "latents, pixels"),
        ({"crop": 40}, "multiple of 16"),
        ({"shares": [1.0]}, "expected 2 numbers"),
        ({"shares": [1.0, "2"]}, "shares is '2'"),
        ({"lr": "1e-3"}, "lr"),
        ({"critic_norm": "batch"}, "norm"),
        ({"stage": "pixels", "texture": 0.3, "hed_vgg": 0.0}, "texture is a term of the distance hed_vgg"),
    ],
)
def test_says_what_is_wrong(changes: dict[str, Any], match: str, data: Path, s2lic: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "a.yaml", s2lic, **changes)
    with pytest.raises(UsageError, match=match):
        main("vqgan", str(path), data, tmp_path / "runs", device="cpu")


def test_starts_that_do_not_fit(first: Path, s2lic: Path) -> None:
    with pytest.raises(UsageError, match="doesn't fit"):
        start_from(task(s2lic, **PIXELS), s2lic)
    assert VqganSmallRecipe(**{**RECIPE, "shares": (1.0, 1.0), "scales": (), "start": str(first)}).critic.width == 8
