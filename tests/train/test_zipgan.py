"""Training of ZipGAN: splits, rotations, a run that learns, resumes to the same weights, and hands over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from codec.codecs.base.weights import load_tensors, manifests
from codec.codecs.layers import spectral
from codec.codecs.layers.spectral import divergence
from codec.codecs.zipgan.codec import ZipganCodec
from codec.codecs.zipgan.networks import NOISE, ZipganConfig
from codec.errors import UsageError
from codec.train.device_loop import DeviceSteps
from codec.train.run import RECIPES, main
from codec.train.settings import fill
from codec.train.zipgan import ROTATIONS, Latents, ZipganRecipe, ZipganTask, _balance, load_fields, rotated, split_of

from ..codecs.zipgan.test_codec import SMALL, flow, relative


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulations")
    for seed in (0, 1, 8, 9):
        with h5py.File(folder / f"s{seed}.h5", "w") as file:
            file["velocity"] = np.stack([flow(16, 10 * seed + t) * (1 + t) for t in range(3)])
            file.attrs["seed"] = seed
    return folder


def recipe(path: Path, factor: int = 2, **more: Any) -> Path:
    import yaml

    settings = {"steps": 6, "decay_from": 4, "noise": [-2.0, 0.0], "adversarial_from": 3, "bf16": False} | more
    path.write_text(yaml.safe_dump({"tag": f"{factor}", "model": {"factor": factor, **SMALL}, "recipe": settings}))
    return path


def test_splits_are_by_simulation(data: Path) -> None:
    train, validation = load_fields(data, "train"), load_fields(data, "validation")
    assert train.shape == (6, 3, 16, 16, 16)
    assert len(validation) == 3
    assert torch.allclose(train.square().mean((1, 2, 3, 4)), torch.ones(6), atol=1e-4)
    test = torch.from_numpy(flow(16, 90))
    assert not any(torch.allclose(test / test.square().mean().sqrt(), one, atol=1e-3) for one in (*train, *validation))
    with pytest.raises(UsageError):
        load_fields(data / "nothing", "train")


def test_seeds_from_100_on_are_trained_on() -> None:
    assert [split_of(seed) for seed in (0, 7, 8, 9, 19, 99, 100)] == [
        "train",
        "train",
        "validation",
        "test",
        "test",
        "test",
        "train",
    ]


@pytest.mark.parametrize("which", range(0, len(ROTATIONS), 5))
def test_components_turn_with_the_axes(which: int) -> None:
    x = torch.from_numpy(flow(16))
    turned = rotated(x, which, (3, 0, 5))
    assert divergence(turned.numpy(), "x-last") < 1e-3
    assert torch.allclose(turned.square().sum().sqrt(), x.square().sum().sqrt())


def test_all_rotations_differ() -> None:
    x = torch.from_numpy(flow(8))
    found = [rotated(x, which) for which in range(len(ROTATIONS))]
    assert len({tuple(one.flatten()[:40].tolist()) for one in found}) == 48


def steps_on(task: ZipganTask, fields: torch.Tensor, level: float = -1.0) -> DeviceSteps:
    """Steps of a task on the same fields again and again."""
    return DeviceSteps(task, lambda: (fields, torch.full((len(fields),), level)), task.named_optimizers())


def step(steps: DeviceSteps) -> dict[str, float]:
    """What the log would have of one step."""
    steps.advance(1)
    return steps.means()


def test_learns() -> None:
    """One field again and again: the generator adds what the latents lack."""
    torch.manual_seed(0)
    task = ZipganTask(ZipganConfig(2, **SMALL), ZipganRecipe(60, 50, (-1.0, -1.0), lr=3e-3, bf16=False), 16)
    x = torch.from_numpy(flow(16))
    x = x / x.square().mean().sqrt()
    steps = steps_on(task, x[None])
    errors = [step(steps)["error"] for _ in range(60)]
    assert errors[0] == pytest.approx(1.0, abs=0.02)
    assert errors[-1] < 0.8


@pytest.mark.parametrize("encoder", ["spectral", "box"])
@pytest.mark.parametrize("factor", [2, 4])
def test_trains_on_the_latents_that_files_hold(encoder: Any, factor: int) -> None:
    """Each field of a batch at a step of its own, against the codec's own quantiser."""
    latents = Latents(ZipganConfig(factor, encoder=encoder, **SMALL), 16)
    x = torch.from_numpy(np.stack([flow(16), flow(16, 7)]))
    noise = torch.tensor([-3.0, -0.5])
    found = latents.hard(x, noise)
    for field, level, z in zip(x, noise.tolist(), found, strict=True):
        source = field if encoder == "spectral" else latents.encoder(field[None])[0]
        mean, c = latents.modes.analyse(source.double().numpy())
        rows = spectral.rows_of(latents.modes, spectral.levels_of(latents.modes, c, 2**level), len(c))
        back = spectral.restore(spectral.quantise(c, 2**level, rows), 2**level, rows)
        assert np.allclose(z, latents.modes.synthesise(mean, back, latents.coarse), atol=1e-5)


def test_the_discriminator_learns() -> None:
    """To tell real fields from degraded ones; a loss of 2 ln 2 is that of guessing."""
    torch.manual_seed(0)
    recipe = ZipganRecipe(40, 40, (-1.0, -1.0), bf16=False, adversarial_from=0, alone=40, batch=4, window=0)
    sizes: dict[str, Any] = {**SMALL, "critic": 8}
    task = ZipganTask(ZipganConfig(2, **sizes), recipe, 16)
    fields = torch.from_numpy(np.stack([flow(16, seed) for seed in range(4)]))
    fields = fields / fields.square().mean((1, 2, 3, 4), keepdim=True).sqrt()
    steps = steps_on(task, fields)
    rows = [step(steps) for _ in range(40)]
    assert np.mean([row["critic"] for row in rows[-8:]]) < 1.0
    before = task.net.state_dict()["last.conv.weight"].clone()
    assert step(steps)["adversarial"] > 1.5, "the generator is found out"
    assert not torch.equal(before, task.net.state_dict()["last.conv.weight"])


def test_the_adversarial_gradient_is_a_part_of_the_others() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    loss, other = x.square().sum(), 1e4 * x.sum()
    one, two = (torch.autograd.grad(term, x, retain_graph=True)[0].norm() for term in (loss, other))
    assert torch.allclose(_balance(loss, other, x) * two, one)


def test_ends_by_the_clock(data: Path, tmp_path: Path) -> None:
    """However many steps are left, and with its learning rate at the end of its fall."""
    path = recipe(tmp_path / "a.yaml", steps=100000, decay_from=1, seconds=1.0)
    folder = main("zipgan", str(path), data, tmp_path / "runs", device="cpu")
    state = torch.load(folder / "last.ckpt", weights_only=True)
    assert 0 < state["global_step"] < 10000
    assert 1.0 <= state["seconds"] < 20
    assert state["optimizer"]["param_groups"][0]["lr"] < 1e-3 * 0.9


def test_a_learned_encoder_gets_gradients() -> None:
    task = ZipganTask(ZipganConfig(2, encoder="learned", **SMALL), ZipganRecipe(9, 5, (-1.0, -1.0), bf16=False), 16)
    steps = steps_on(task, torch.from_numpy(flow(16))[None])
    steps.advance(1)
    before = task.encoder.last.conv.weight.clone()
    steps.advance(1)
    assert not torch.equal(before, task.encoder.last.conv.weight)


def test_resumes_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    whole = main("zipgan", str(recipe(tmp_path / "a.yaml")), data, tmp_path / "whole", device="cpu")
    parts = main("zipgan", str(recipe(tmp_path / "a.yaml", steps=4)), data, tmp_path / "parts", device="cpu")
    # the first part must have had the schedule of the whole
    one = torch.load(parts / "last.ckpt", weights_only=True)
    assert one["global_step"] == 4
    parts = main("zipgan", str(recipe(tmp_path / "a.yaml")), data, tmp_path / "parts", resume=True, device="cpu")
    first = load_tensors(whole / "zipgan-2.safetensors").tensors
    second = load_tensors(parts / "zipgan-2.safetensors").tensors
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    codec = ZipganCodec.from_weights(None, None, whole / "zipgan-2.safetensors", "cpu")
    x = flow(16, 90)
    assert relative(x, codec.decompress(codec.compress(x, 50))) < 0.3
    assert codec.model.critic is not None
    # held-out fields are coded to files, next to what the averaged generator makes of their latents
    (manifest,) = manifests("zipgan", whole)
    for level in ("-2", "-1", "0"):
        assert manifest.metrics[f"file_error_{level}"] == pytest.approx(manifest.metrics[f"val_error_{level}"], rel=0.1)
    fields = load_fields(data, "validation")[:2].numpy()
    n_bytes = sum(len(codec.compress(field, 50)) for field in fields)
    assert manifest.metrics["file_ratio_-2"] == pytest.approx(fields.nbytes / n_bytes, rel=1e-4)


def test_hands_over_to_the_next_factor(data: Path, tmp_path: Path) -> None:
    first = main("zipgan", str(recipe(tmp_path / "a.yaml")), data, tmp_path / "runs", device="cpu")
    start = str(first / "zipgan-2.safetensors")
    second = main(
        "zipgan", str(recipe(tmp_path / "b.yaml", 4, start=start, frozen=100)), data, tmp_path / "runs", device="cpu"
    )
    old, new = (load_tensors(next(run.glob("*.safetensors"))).tensors for run in (first, second))
    name = "generator.trunk.0.blocks.0.last.conv.weight"
    assert torch.allclose(old[name].float(), new[name].float(), atol=1e-3)  # frozen
    assert any(not torch.equal(new[name], old[name]) for name in old if name.startswith("critic."))
    with pytest.raises(UsageError, match="factor"):
        main("zipgan", str(recipe(tmp_path / "c.yaml", 8, start=start)), data, tmp_path / "no", device="cpu")


@pytest.mark.parametrize("path", sorted((RECIPES / "zipgan").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_can_be_read(path: Path) -> None:
    import yaml

    settings = yaml.safe_load(path.read_text())
    assert settings["tag"] == (path.stem if path.stem != "paper" else "paper-64x")
    fill(ZipganConfig, settings["model"], "model")
    assert fill(ZipganRecipe, settings["recipe"], "recipe").noise == NOISE, "what the codec tells the generator"
