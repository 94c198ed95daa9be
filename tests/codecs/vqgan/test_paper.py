"""The paper's network: its parameters counted, any size, published names, files of weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from codec.codecs.vqgan.paper import (
    VqganPaperConfig,
    VqganPaperNet,
    exported,
    from_published,
    metadata,
    network_of,
    padded,
    published_names,
)
from codec.errors import WeightsError

TINY: dict[str, Any] = {"width": 8, "blocks": 1, "latent": 8, "code": 4, "groups": 4, "words": (16, 8)}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def net() -> VqganPaperNet:
    torch.manual_seed(0)
    return VqganPaperNet(VqganPaperConfig(**TINY)).eval()


def test_parameters_of_the_paper() -> None:
    """Counted layer by layer in the published code."""
    with torch.device("meta"):
        whole = VqganPaperNet(VqganPaperConfig())
    book = whole.book()
    parts = (whole.encoder, whole.decoder, book.quantize)
    assert [count(part) for part in parts] == [29_298_176, 42_449_795, 4_194_304]
    assert count(book.quant_conv) + count(book.post_quant_conv) == 131_584
    assert count(whole) == 76_073_859


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (17, 40), (3, 33)])
def test_any_size(net: VqganPaperNet, shape: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *shape)
    index = net.encode(x, 8)
    assert index.shape == (1, -(-shape[0] // 16), -(-shape[1] // 16))
    back = net.decode(index, shape, 8)
    assert back.shape == x.shape
    assert 0 <= float(back.min()) <= float(back.max()) <= 1


def test_padding_reflects() -> None:
    x = torch.arange(5.0).expand(1, 3, 16, 5)
    assert padded(x)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1]
    assert torch.equal(padded(torch.full((1, 3, 1, 1), 0.5)), torch.full((1, 3, 16, 16), 0.5))


def test_codes_what_it_trains_on(net: VqganPaperNet) -> None:
    x = torch.rand(2, 3, 32, 48)
    out = net(x, 16)
    assert torch.equal(out.index, net.encode(x, 16))
    assert torch.allclose(out.x_hat.clamp(0, 1), net.decode(out.index, (32, 48), 16), atol=1e-5)


def published() -> dict[str, torch.Tensor]:
    """A checkpoint as the published code writes it, of a tiny network."""
    config = VqganPaperConfig(**{**TINY, "words": (16,)})
    torch.manual_seed(1)
    state = VqganPaperNet(config).state_dict()
    out = {name: torch.randn_like(state[target]) for name, target in published_names(config).items()}
    return {**out, "loss.discriminator.main.0.weight": torch.zeros(1), "loss.perceptual_loss.lin0": torch.zeros(1)}


def test_published_checkpoints() -> None:
    state, config = published(), VqganPaperConfig(**{**TINY, "words": (16,)})
    for name in (
        "encoder.down.0.block.0.norm1.weight",
        "encoder.down.2.block.0.nin_shortcut.weight",
        "encoder.down.4.attn.0.proj_out.bias",
        "encoder.down.3.downsample.conv.weight",
        "decoder.up.1.upsample.conv.bias",
        "decoder.up.4.attn.1.q.weight",
        "decoder.mid.block_2.conv2.weight",
        "quantize.embedding.weight",
        "post_quant_conv.bias",
    ):
        assert name in state
    net = from_published(state, config)
    assert torch.equal(net.encoder.mid.attn_1.k.weight, state["encoder.mid.attn_1.k.weight"])
    assert torch.equal(net.book().vectors.codebook, state["quantize.embedding.weight"])
    assert net.book().quantize.is_started


def test_names_of_the_published_network() -> None:
    """As many tensors as vqgan_imagenet_f16_16384 has outside its loss."""
    names = published_names(VqganPaperConfig())
    assert "encoder.down.0.downsample.conv.weight" in names
    assert not any("downsample" in name for name in names if name.startswith("encoder.down.4"))
    assert not any("upsample" in name for name in names if name.startswith("decoder.up.0"))
    assert len(names) == len(set(names.values()))


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "nan", "nothing"])
def test_refuses_other_checkpoints(change: str) -> None:
    state = published()
    if change == "missing":
        del state["encoder.conv_in.bias"]
    elif change == "unknown":
        state["encoder.down.0.attn.0.q.weight"] = torch.zeros(1)
    elif change == "shape":
        state["quant_conv.bias"] = torch.zeros(3)
    elif change == "nan":
        state["quant_conv.bias"] = state["quant_conv.bias"] * float("nan")
    else:
        state = {}
    with pytest.raises(WeightsError):
        from_published(state, VqganPaperConfig(**{**TINY, "words": (16,)}))


def test_files_of_weights(net: VqganPaperNet) -> None:
    about, tensors = metadata(net.config, "x"), exported(net)
    other = network_of(about, tensors).eval()
    x = torch.rand(1, 3, 16, 32)
    assert torch.equal(net.encode(x), other.encode(x))
    with pytest.raises(WeightsError, match="configuration"):
        network_of(about, {name: value for name, value in tensors.items() if name != "encoder.conv_in.bias"})
    for text in ("{}", '{"network": "small", "config": {}}', '{"network": "paper", "config": {"width": -1}}', "["):
        with pytest.raises(WeightsError, match="paper"):
            network_of({"vqgan": text}, tensors)


@pytest.mark.parametrize(
    "change",
    [{"width": 10}, {"words": ()}, {"words": (8, 8)}, {"multiples": (1, 2)}, {"gradient": "x"}, {"commitment": -1}],
)
def test_settings_say_what_is_wrong(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        VqganPaperConfig(**{**TINY, **change})
