"""The acceptance test of S2LIC's entropy model, on a tiny network: rows are what they are called, and they train."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec.codecs.s2lic.config import S2licConfig
from codec.codecs.s2lic.network import S2licNet, initialise
from codec.datasets.images import RandomCrops
from codec.eval.studies import s2lic_context

ROOT = Path(__file__).resolve().parents[3]
CONFIG = S2licConfig(
    latent=24,
    slices=(8, 16),
    hyper=8,
    features=16,
    analysis_width=(8, 8, 8),
    analysis_blocks=(1, 1, 1),
    synthesis_width=(8, 8, 8),
    synthesis_blocks=(1, 1, 1),
    heads=2,
    context=16,
    hidden=16,
    refine=8,
    knots=3,
)


@pytest.fixture(scope="module")
def crops() -> RandomCrops:
    with Image.open(ROOT / "samples" / "dog.png") as image:
        photo = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)
    return RandomCrops([photo], 128, 4, seed=1)


@pytest.fixture(scope="module")
def shared(crops: RandomCrops) -> S2licNet:
    torch.manual_seed(0)
    net = S2licNet(CONFIG)
    initialise(net, torch.cat([batch for batch, _ in zip(crops, range(6), strict=False)]))
    return net.requires_grad_(False).eval()


def test_rows_differ_in_what_their_names_say() -> None:
    found = s2lic_context.variants(CONFIG)
    assert [(c.slices, c.passes) for c in found.values()] == [((24,), 1), ((8, 16), 1), ((8, 16), 2), ((8, 16), 2)]
    assert [c.anchor_context for c in list(found.values())[2:]] == ["none", "masked_conv"]
    assert {c.refine for c in found.values()} == {0}


def test_entropy_models_learn_and_transforms_do_not(shared: S2licNet, crops: RandomCrops) -> None:
    first = next(iter(crops))
    configs = s2lic_context.variants(CONFIG)
    nets = {name: s2lic_context.beginning(config, shared, first) for name, config in configs.items()}
    picture = crops.pictures[0][:, :256, :256]
    before = {name: s2lic_context.curve(shared, net, [picture]) for name, net in nets.items()}
    kept = {name: value.clone() for name, value in shared.state_dict().items()}
    for net in nets.values():
        net.train()
    assert s2lic_context.train(shared, nets, crops, 30) > 0
    for name, net in nets.items():
        after = s2lic_context.curve(shared, net, [picture])
        assert [p["quality"] for p in after] == list(s2lic_context.QUALITIES)
        # the same latents: the same quality but for where rounding falls, at a lower rate
        assert after[2]["bpp"] < 0.97 * before[name][2]["bpp"], name
        assert after[2]["psnr"] == pytest.approx(before[name][2]["psnr"], abs=0.3)
    assert all(torch.equal(value, kept[name]) for name, value in shared.state_dict().items())


def test_same_noise_for_every_row(shared: S2licNet, crops: RandomCrops) -> None:
    """Two rows of one configuration come out alike."""
    config = s2lic_context.variants(CONFIG)["channel-wise"]
    nets = {name: s2lic_context.beginning(config, shared, next(iter(crops))) for name in ("a", "b")}
    s2lic_context.train(shared, nets, crops, 3)
    for a, b in zip(nets["a"].parameters(), nets["b"].parameters(), strict=True):
        assert torch.equal(a, b)


def test_command(tmp_path: Path, crops: RandomCrops) -> None:
    from codec.train.s2lic.task import S2licRecipe, S2licTask

    task = S2licTask(CONFIG, S2licRecipe(steps=1, decay_from=1, hard_from=1), "x")
    assert isinstance(task.ema, S2licNet)
    batch = next(iter(crops))
    initialise(task.ema, torch.cat([batch] * 6))
    task.ema.train()(batch, torch.rand(len(batch)))
    names = ("licence", "training_data", "recipe", "device", "commit")
    path = task.export(tmp_path, {**dict.fromkeys(names, ""), "steps": 0, "seconds": 0, "metrics": {}})
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(crops.pictures[0][:, :256, :256].permute(1, 2, 0).numpy()).save(pictures / "dog.png")
    out = tmp_path / "found.json"
    arguments = [str(pictures), "--test", str(pictures), "--steps", "2", "--batch", "2"]
    assert s2lic_context.main([*arguments, "--weights", str(path), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert list(found["variants"]) == ["hyperprior", "channel-wise", "checkerboard", "anchor context"]
    assert found["variants"]["hyperprior"]["bd_rate"] == 0
    assert str(tmp_path) not in found["command"].split("--out")[0]
