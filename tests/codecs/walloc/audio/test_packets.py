"""The paper's audio models: sizes, parameters, the transform; and a small model's receptive field."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from codec.codecs.layers.wavelet_plans import split
from codec.codecs.walloc.audio.packets import PAPER_CONFIGS, PacketConfig, filter_bank
from codec.codecs.walloc.audio.packets_network import OobleckDecoder, PacketNet, RateModel, analysis, synthesis

PRINTED = {"5x-paper": (55_404, 16_290_152, 518), "20x-paper": (13_851, 15_184_097, 518)}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", PRINTED)
def test_parameters_of_the_paper(name: str) -> None:
    with torch.device("meta"):
        net = PacketNet(PAPER_CONFIGS[name])
    assert (count(net.encoder), count(net.decoder), count(net.post)) == PRINTED[name]
    if name == "5x-paper":
        assert count(net) == 16_346_074  # as the authors' notebook prints it


def test_ratios_of_the_paper() -> None:
    ratios = [round(config.dimension_ratio, 2) for config in PAPER_CONFIGS.values()]
    assert ratios == [4.74, 18.96]
    assert [config.decoder_width for config in PAPER_CONFIGS.values()] == [756, 756]


def test_the_paper_has_two_frames_more() -> None:
    config = dataclasses.replace(PAPER_CONFIGS["20x-paper"], latent=9, width=18)
    net = PacketNet(config).eval()
    x = 0.1 * torch.randn(2, 2, 10 * 256)
    gain = torch.zeros(2)
    with torch.no_grad():
        u = net.latents_of(net.coefficients(x), gain)
        bias = net.compander(net.encoder.bias)
        assert u.shape == (2, 9, 12)
        torch.testing.assert_close(u[:, :, 0], bias.expand(2, 9))
        assert net.reconstruct(torch.round(u), gain).shape == x.shape


@pytest.mark.parametrize("levels", [1, 3, 4, 5, 8])
def test_transform_is_the_packet_transform_and_inverts(levels: int) -> None:
    rng = np.random.default_rng(levels)
    x = rng.uniform(-0.5, 0.5, (2, 3, 12 * 256)).astype(np.float32)
    y = analysis(torch.from_numpy(x), levels)
    assert y.shape == (2, 3 << levels, 12 * 256 >> levels)
    bands = [x[1, 2].astype(np.float64)]
    for _ in range(levels):
        bands = [half for band in bands for half in split(band, "periodization")]
    np.testing.assert_allclose(y[1, 2 << levels :].numpy(), np.stack(bands), atol=2e-5)
    np.testing.assert_allclose(synthesis(y, levels).numpy(), x, atol=1e-5)


def test_filters_are_those_of_cdf_9_7() -> None:
    low = [0.8526986790, 0.3774028556, -0.1106244044, -0.0238494650, 0.0378284555]
    high = [-0.7884856164, 0.4180922732, 0.0406894176, -0.0645388826]
    rows = filter_bank(1, False).transpose(1, 0, 2).reshape(2, -1)  # over samples -8 to 9
    for row, taps, centre in ((rows[0], low, 8), (rows[1], high, 9)):
        reach = len(taps) - 1
        expected = np.zeros(18)
        expected[centre - reach : centre + reach + 1] = [*taps[:0:-1], *taps]
        np.testing.assert_allclose(row, expected, atol=1e-9)


@pytest.mark.parametrize(
    "config",
    [
        PacketConfig(latent=6, width=12),
        PacketConfig(latent=6, decoder="small", width=8, kernel=3),
        PacketConfig(latent=6, decoder="small", width=8, blocks=1, kernel=5, linear_taps=3),
    ],
    ids=["paper", "small", "small, wide kernels"],
)
def test_receptive_field(config: PacketConfig) -> None:
    torch.manual_seed(0)
    decoder = PacketNet(config).decoder
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    n, reach = 241, config.receptive_field
    v = torch.randn(1, config.latent, n + (2 if isinstance(decoder, OobleckDecoder) else 0), requires_grad=True)
    (decoder(v, torch.zeros(1))[0, :, n // 2] * torch.randn(config.bands)).sum().backward()
    assert v.grad is not None
    frames = torch.nonzero(v.grad.abs().sum((0, 1))).flatten() - (v.shape[2] - n) // 2
    assert (n // 2 - int(frames.min()), int(frames.max()) - n // 2) == (reach, reach)


def test_the_estimate_of_bits_is_a_probability() -> None:
    """The masses of all values of a latent, its past given, sum to one."""
    torch.manual_seed(1)
    rate = RateModel(3)
    for parameter in rate.parameters():
        nn.init.normal_(parameter, std=0.2)
    u = torch.round(3 * torch.randn(1, 3, 8)).repeat(801, 1, 1)
    u[:, 1, 5] = torch.arange(-400, 401)
    with torch.no_grad():
        bits = rate.bits(u, torch.full((801,), 0.5))
    assert float(torch.exp2(-bits[:, 1, 5]).sum()) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(bits[:, :, :5], bits[:1, :, :5].expand(801, 3, 5))  # what came before can't know it


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"channels": 3}, "models of 1 and 2"),
        ({"levels": 9}, "1 to 8"),
        ({"latent": 600}, "1 to 512"),
        ({"post_taps": 128}, "odd"),
        ({"width": 90}, "at least 108"),
    ],
)
def test_sizes_that_make_no_network(sizes: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PacketConfig(**sizes)  # type: ignore[arg-type]
