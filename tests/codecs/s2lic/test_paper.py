"""The published network: its size, its context, and files of a tiny one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from codec.codecs.s2lic.codec import S2licCodec
from codec.codecs.s2lic.config import S2licPaperConfig
from codec.codecs.s2lic.paper import DeformableAttention, Enhancement, PaperSlice, S2licPaperNet
from codec.errors import StreamError

from .test_codec import ABOUT, decode_latents, psnr

TINY = S2licPaperConfig(width=16, latent=32, slices=4, heads=(2, 2, 4), enhance=4, max_keys=20, knots=3)


def test_size() -> None:
    """74.2 million parameters, as counted in the reconstruction of the released code."""
    with torch.device("meta"):
        count = {
            kind: sum(p.numel() for p in S2licPaperNet(replace(S2licPaperConfig(), anchor_context=kind)).parameters())
            for kind in ("none", "masked_conv")
        }
    assert count["none"] == pytest.approx(74.2e6, rel=0.01)
    assert count["masked_conv"] == pytest.approx(74.2e6, rel=0.01)
    assert count["masked_conv"] > count["none"]


def tiny(**changes: object) -> S2licPaperNet:
    torch.manual_seed(0)
    net = S2licPaperNet(replace(TINY, **changes))
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.01)
    return net


@pytest.mark.parametrize(
    "changes", [{}, {"offset_norm": "layer"}, {"offset_groups": "one"}, {"hyper_order": "figure"}], ids=str
)
def test_training_path(changes: dict[str, str]) -> None:
    """With each of the open guesses; each is another network."""
    net, usual = tiny(**changes), tiny()
    same = {name: p.shape for name, p in net.named_parameters()} == {n: p.shape for n, p in usual.named_parameters()}
    assert same == (not changes)
    x = torch.rand(2, 3, 64, 128)
    out = net(x, torch.tensor([0.1, 0.8]))
    assert out.x_hat.shape == x.shape
    assert out.y_bits.shape == out.z_bits.shape == (2,)
    (out.x_hat.square().sum() + out.y_bits.sum() + out.z_bits.sum()).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


@pytest.mark.parametrize("norm", ["none", "group", "batch"])
def test_files(norm: str, tmp_path: Path, photo: np.ndarray) -> None:
    from codec.train.s2lic.task import S2licRecipe, S2licTask

    task = S2licTask(replace(TINY, norm=norm), S2licRecipe(steps=1, decay_from=1, hard_from=1), "tiny")
    task.ema.load_state_dict(tiny(norm=norm).state_dict())
    path = task.export(tmp_path, ABOUT)
    codec = S2licCodec.from_weights(None, None, path, "cpu")
    pixels = np.ascontiguousarray(photo[:70, :100])
    data = codec.compress(pixels, 90)
    first, second = decode_latents(codec, data), decode_latents(codec, data)
    assert torch.equal(first, second)
    out = codec.decompress(data)
    assert out.shape == pixels.shape
    assert psnr(out, codec.decompress(codec.compress(pixels, 90))) == 120


@pytest.mark.parametrize("second", [False, True])
def test_a_mean_rounded_differently_is_an_error(
    second: bool, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it could be on another machine: off by one step of its grid, in the first pass or where no symbol follows."""
    from codec.train.s2lic.task import S2licRecipe, S2licTask

    task = S2licTask(TINY, S2licRecipe(steps=1, decay_from=1, hard_from=1), "tiny")
    task.ema.load_state_dict(tiny().state_dict())
    codec = S2licCodec.from_weights(None, None, task.export(tmp_path, ABOUT), "cpu")
    data = codec.compress(np.ascontiguousarray(photo[:70, :100]), 90)
    original, calls = PaperSlice.density, []

    def density(self: PaperSlice, context: Tensor, anchors: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, level = original(self, context, anchors)
        if (anchors is not None) == second and self.start + self.size == TINY.latent:
            mean[0, 3, 2, 2 if second else 3] += 1 / 16
            calls.append(1)
        return mean, level

    assert codec.decompress(data).shape == (70, 100, 3)
    monkeypatch.setattr(PaperSlice, "density", density)
    with pytest.raises(StreamError, match="latents"):
        codec.decompress(data)
    assert calls == [1]


@pytest.mark.parametrize("anchor_context", ["none", "masked_conv"])
def test_second_pass_sees_the_anchors(anchor_context: str) -> None:
    part = tiny(anchor_context=anchor_context).slices[1]
    assert isinstance(part, PaperSlice)
    context = part.context(torch.randn(1, 64, 4, 4), torch.randn(1, 8, 4, 4))
    means = [part.density(context, value * torch.ones(1, 8, 4, 4))[0] for value in (1.0, 2.0)]
    assert torch.equal(*means) == (anchor_context == "none")


def test_attention_is_global_and_bounded() -> None:
    torch.manual_seed(0)
    attention = DeformableAttention(8, 2, 5, max_keys=16)
    x = torch.randn(1, 8, 12, 12, requires_grad=True)
    attention(x)[0, :, 0, 0].sum().backward()
    assert x.grad is not None
    assert bool(x.grad[0, :, 11, 11].any() | x.grad[0, :, 9:, 9:].any())
    seen: list[int] = []
    original = torch.nn.functional.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append(k.shape[-2])
        return original(q, k, v)

    torch.nn.functional.scaled_dot_product_attention = spy
    try:
        attention(torch.randn(1, 8, 40, 50))
    finally:
        torch.nn.functional.scaled_dot_product_attention = original
    assert seen[0] <= 16


def test_enhancement_starts_as_the_identity() -> None:
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(Enhancement(4)(x), x)
