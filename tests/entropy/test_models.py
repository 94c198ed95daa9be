"""Densities: equal to CompressAI's, stable in float32, and what they promise is what the bytes are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from codec.entropy import models
from codec.entropy.models import (
    DiscretizedLogisticMixture,
    FactorizedPrior,
    GaussianConditional,
    LaplaceConditional,
    lower_bound,
    round_ste,
)
from codec.entropy.tables import MAX_COLUMNS, TOTAL, Tables


def scipy_free_mixture(x: Tensor, logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """The formula as it stands, in float64."""
    x, logits, mean, log_scale = (v.double() for v in (x, logits, mean, log_scale))
    cdf = [torch.sigmoid((x[..., None] + side - mean) / log_scale.exp()) for side in (-0.5, 0.5)]
    return (torch.softmax(logits, -1) * (cdf[1] - cdf[0])).sum(-1)


Module = TypeVar("Module", bound=torch.nn.Module)


def shaken(model: Module, seed: int = 0) -> Module:
    """Parameters away from their starting values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator)
    return model.eval()


class TestAgainstCompressAI:
    def test_gaussian(self) -> None:
        compressai = pytest.importorskip("compressai.entropy_models")
        torch.manual_seed(0)
        scale = torch.rand(100_000) * 40
        scale[::3] *= 0.02  # many below the bound of 0.11
        mean = torch.randn(100_000) * 5
        y = mean + torch.randn(100_000) * scale.clamp(min=0.3) * 3
        theirs = compressai.GaussianConditional([0.11, 1.0]).eval()
        y_hat, expected = theirs(y, scale, mean)
        actual = GaussianConditional().likelihood(y_hat, scale, mean)
        assert expected.min() < 2e-9 < 0.9 < expected.max()
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
        likely = expected > 1e-6
        torch.testing.assert_close(actual[likely], expected[likely], rtol=2e-3, atol=0)

    def test_factorized(self) -> None:
        compressai = pytest.importorskip("compressai.entropy_models")
        ours = shaken(FactorizedPrior(7))
        theirs = compressai.EntropyBottleneck(7).eval()
        theirs.load_state_dict({**theirs.state_dict(), **ours.state_dict()})
        z_hat, expected = theirs(torch.randn(3, 7, 50, 60) * 20)
        actual = ours.likelihood(z_hat)
        assert expected.max() > 0.01
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)

    def test_factorized_starts_the_same(self) -> None:
        compressai = pytest.importorskip("compressai.entropy_models")
        ours, theirs = FactorizedPrior(2).state_dict(), compressai.EntropyBottleneck(2).state_dict()
        for name, value in ours.items():
            if "bias" not in name:
                torch.testing.assert_close(value, theirs[name])


class TestFormulas:
    def test_laplace(self) -> None:
        """The integral of the density, in float64."""
        torch.manual_seed(0)
        y, mean, scale = torch.randn(1000) * 20, torch.randn(1000), torch.rand(1000) * 10 + 0.11
        laplace = torch.distributions.Laplace(mean.double(), scale.double())
        expected = laplace.cdf(y.double() + 0.5) - laplace.cdf(y.double() - 0.5)
        actual = LaplaceConditional().likelihood(y, scale, mean)
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-6)

    def test_mixture(self) -> None:
        torch.manual_seed(0)
        x = torch.randn(4, 500) * 30
        logits, mean, log_scale = torch.randn(4, 1, 5), torch.randn(4, 1, 5) * 20, torch.randn(4, 1, 5)
        actual = torch.exp2(-models.logistic_mixture_bits(x, logits, mean, log_scale))
        torch.testing.assert_close(
            actual.double(), scipy_free_mixture(x, logits, mean, log_scale), rtol=1e-4, atol=1e-7
        )

    @pytest.mark.parametrize("kind", [GaussianConditional, LaplaceConditional])
    def test_probabilities_of_all_integers_sum_to_one(self, kind: type) -> None:
        model = kind()
        x = torch.arange(-6000, 6001).float()
        for level in range(0, 64, 7):
            scale = model.scale(torch.tensor(float(level)))
            for mean in (0.0, 0.3, -0.5):
                assert model.likelihood(x, scale, torch.tensor(mean)).sum() == pytest.approx(1, abs=1e-4)

    def test_levels(self) -> None:
        model = GaussianConditional()
        scale = model.scale(torch.arange(64.0))
        assert scale[0] == pytest.approx(0.11)
        assert scale[-1] == pytest.approx(256, rel=1e-5)
        assert (scale[1:] / scale[:-1]).std() < 1e-5
        torch.testing.assert_close(model.level(scale), torch.arange(64.0), rtol=0, atol=1e-3)

    def test_lower_bound_lets_values_come_back(self) -> None:
        x = torch.tensor([-1.0, -1.0, 2.0, 2.0], requires_grad=True)
        lower_bound(x, 0.5).backward(torch.tensor([1.0, -1.0, 1.0, -1.0]))
        assert x.grad is not None
        assert x.grad.tolist() == [0.0, -1.0, 1.0, -1.0]

    def test_round_ste(self) -> None:
        x = torch.tensor([0.4, 1.7, -2.6], requires_grad=True)
        mean = torch.tensor([0.3, 0.3, 0.3])
        rounded = round_ste(x, mean)
        torch.testing.assert_close(rounded, torch.tensor([0.3, 1.3, -2.7]))
        rounded.sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [1, 1, 1]


EXTREMES = torch.tensor([0.0, 0.5, 1.0, -3.0, 77.7, -300.0, 1e4, -1e6, 2.0**31])


class TestFloat32:
    """Finite values and gradients everywhere, and a gradient that points home however far away a value is."""

    @pytest.mark.parametrize("kind", [GaussianConditional, LaplaceConditional])
    def test_conditionals(self, kind: type) -> None:
        for scale in (1e-6, 0.11, 1.0, 30.0, 256.0, 1e5):
            y = EXTREMES.clone().requires_grad_()
            s = torch.full_like(y, scale, requires_grad=True)
            bits = kind().bits(y, s)
            bits.sum().backward()
            assert y.grad is not None
            assert s.grad is not None
            for value in (bits, y.grad, s.grad):
                assert value.isfinite().all()
            assert (bits >= 0).all()
            assert (y.grad[4:] * y.detach()[4:].sign() > 0).all()
            far = y.detach().abs() > 6 * max(scale, 0.11) + 1
            assert (s.grad[far] < 0).all()  # a larger scale would be better

    @pytest.mark.parametrize("log_scale", [-1e3, -4.0, 0.0, 5.0, 20.0, 1e3])
    def test_mixture(self, log_scale: float) -> None:
        x = EXTREMES.clone().requires_grad_()
        params = [
            torch.zeros(len(x), 2),
            torch.tensor([[-1.0, 3.0]]).repeat(len(x), 1),
            torch.full((len(x), 2), log_scale),
        ]
        params = [p.requires_grad_() for p in params]
        bits = models.logistic_mixture_bits(x, *params)
        bits.sum().backward()
        for value in (bits, x.grad, *(p.grad for p in params)):
            assert value is not None
            assert value.isfinite().all()
        assert (bits >= 0).all()
        assert x.grad is not None
        if log_scale <= 5:
            assert (x.grad[4:] * x.detach()[4:].sign() > 0).all()

    def test_factorized(self) -> None:
        prior = shaken(FactorizedPrior(3))
        z = EXTREMES[:-1].reshape(1, 1, -1).repeat(2, 3, 1).requires_grad_()
        bits = prior.bits(z)
        bits.sum().backward()
        assert z.grad is not None
        assert bits.isfinite().all()
        assert z.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in prior.parameters())
        assert (z.grad[..., 5:] * z.detach()[..., 5:].sign() > 0).all()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_lifted(self, dtype: torch.dtype) -> None:
        y = torch.randn(2, 3, 8, 8).to(dtype) * 8
        scale = torch.rand(2, 3, 8, 8).to(dtype) * 8 + 0.2
        for kind in (GaussianConditional, LaplaceConditional):
            assert (kind().bits(y, scale) == kind().bits(y.float(), scale.float())).all()
        prior = FactorizedPrior(3)
        with torch.autocast("cpu", torch.bfloat16):
            inside = prior.bits(y)
        assert (inside == prior.bits(y.float())).all()
        assert inside.dtype == torch.float32


class TestForward:
    def all(self) -> list[tuple[Any, tuple[Tensor, ...]]]:
        scale = torch.full((2, 3, 4, 5), 2.0)
        return [
            (FactorizedPrior(3), ()),
            (GaussianConditional(), (scale, 0.1 * scale)),
            (LaplaceConditional(), (scale,)),
            (DiscretizedLogisticMixture(3), (torch.arange(3)[:, None, None],)),
        ]

    def test_noise_when_training_and_rounding_otherwise(self) -> None:
        y = 5 * torch.randn(2, 3, 4, 5)
        for model, args in self.all():
            noisy, bits = model.train()(y, *args)
            assert bits.shape == (2,)
            assert (noisy - y).abs().max() <= 0.5
            assert len(torch.unique(noisy - noisy.round())) > 100
            rounded, bits = model.eval()(y, *args)
            assert (rounded - y).abs().max() <= 0.5 + 1e-6
            mean = args[1] if len(args) > 1 else 0
            torch.testing.assert_close(rounded - mean, (rounded - mean).round())
            torch.testing.assert_close(bits, model.bits(rounded, *args).flatten(1).sum(1))

    def test_training_fits_the_data(self) -> None:
        """From their start, both learned densities come close to the entropy of what they see."""
        torch.manual_seed(0)
        x = torch.randn(16, 2, 64) * torch.tensor([1.0, 5.0])[:, None] + torch.tensor([3.0, -8.0])[:, None]
        entropy = math.log2(math.sqrt(2 * math.pi * math.e)) + math.log2(5) / 2  # bits a value, of the densities
        for model, args in [(FactorizedPrior(2), ()), (DiscretizedLogisticMixture(2), (torch.arange(2)[:, None],))]:
            optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
            for _ in range(120):
                optimizer.zero_grad()
                loss = model(x, *args)[1].mean() / 128
                loss.backward()
                optimizer.step()
            assert loss.item() == pytest.approx(entropy, abs=0.1)


Sampled = Callable[[int], tuple[np.ndarray, np.ndarray, Tensor, Tables]]


def sample_scale(kind: type) -> Sampled:
    def sample(n: int) -> tuple[np.ndarray, np.ndarray, Tensor, Tables]:
        torch.manual_seed(0)
        model = kind()
        row = torch.randint(0, 64, (n,))
        scale = model.scale(row.float())
        draw = torch.randn(n) if kind is GaussianConditional else torch.distributions.Laplace(0.0, 1.0).sample((n,))
        symbols = (draw * scale).round()
        return symbols.int().numpy(), row.numpy(), model.bits(symbols, scale), model.to_tables()

    return sample


def sample_learned(model: FactorizedPrior | DiscretizedLogisticMixture, rows: int) -> Sampled:
    """Symbols drawn from the density itself, on a wide range of integers."""

    def sample(n: int) -> tuple[np.ndarray, np.ndarray, Tensor, Tables]:
        x = torch.arange(-400.0, 401.0)
        each = n // rows
        grid = x.expand(1, rows, -1)
        args = (torch.arange(rows)[:, None],) if isinstance(model, DiscretizedLogisticMixture) else ()
        with torch.no_grad():
            bits = model.bits(grid, *args)[0]
        torch.manual_seed(0)
        index = torch.multinomial(torch.exp2(-bits), each, replacement=True)
        row = np.repeat(np.arange(rows), each)
        return x[index].flatten().int().numpy(), row, bits.gather(1, index).flatten(), model.to_tables()

    return sample


class TestToTables:
    @pytest.mark.parametrize(
        "sample",
        [
            sample_scale(GaussianConditional),
            sample_scale(LaplaceConditional),
            sample_learned(shaken(FactorizedPrior(10)), 10),
            sample_learned(shaken(DiscretizedLogisticMixture(10)), 10),
        ],
        ids=["gaussian", "laplace", "factorized", "mixture"],
    )
    def test_estimated_bits_are_the_bytes(self, sample: Sampled) -> None:
        """A million symbols: the rate that training sees against the stream, within 1 %."""
        symbols, row, bits, tables = sample(1_000_000)
        data = tables.encode(symbols, row)
        assert len(data) * 8 == pytest.approx(float(bits.double().sum()), rel=0.01)
        assert len(data) * 8 == pytest.approx(tables.bits(symbols, row), rel=0.001)
        assert (tables.decode(data, row) == symbols).all()

    @pytest.mark.parametrize("kind", [GaussianConditional, LaplaceConditional])
    def test_rows_follow_the_density(self, kind: type) -> None:
        model = kind()
        tables = model.to_tables()
        assert len(tables.lengths) == 64
        for level in (0, 20, 40, 63):
            counts = np.diff(tables.rows[level])[:-1]
            assert (counts == counts[::-1]).all() or np.abs(counts - counts[::-1]).max() <= 1
            assert tables.offset[level] == -(len(counts) // 2)
            x = torch.arange(len(counts)) + float(tables.offset[level])
            p = model.likelihood(x, model.scale(torch.tensor(float(level)))).numpy()
            assert np.abs(counts / TOTAL - p).max() < (0.008 if level == 0 else 2e-4)

    def test_factorized_channels_stand_where_their_mass_is(self) -> None:
        prior = FactorizedPrior(3)
        with torch.no_grad():
            prior.biases[-1][:, 0, 0] += torch.tensor([-300.0, 0.0, 2000.0])
        tables = prior.to_tables()
        z = torch.arange(-40_000.0, 40_000.0)[None, None].repeat(1, 3, 1)
        best = z[0, 0, prior.bits(z)[0].argmin(1)]
        top = [offset + np.diff(cdf)[:-1].argmax() for offset, cdf in zip(tables.offset, tables.rows, strict=True)]
        assert best.abs().max() > 1000
        assert np.abs(np.array(top) - best.detach().numpy()).max() < 40

    def test_extreme_parameters_still_give_tables(self) -> None:
        """Flat over millions, one point, far apart: long rows are cut at MAX_COLUMNS, the rest is escapes."""
        mixture = DiscretizedLogisticMixture(4, 2)
        with torch.no_grad():
            mixture.log_scale[:] = torch.tensor([[14.0, 14.0], [-50.0, -50.0], [0.0, 0.0], [100.0, -100.0]])
            mixture.mean[:] = torch.tensor([[0.0, 0.0], [7.0, 7.0], [-1e5, 1e5], [0.0, 1e30]])
        prior = FactorizedPrior(2, init_scale=1e7)
        for tables, rows in ((mixture.to_tables(), 4), (prior.to_tables(), 2)):
            assert tables.lengths.max() <= MAX_COLUMNS
            row = np.arange(200) % rows
            symbols = (np.arange(200) - 100) ** 3
            assert (tables.decode(tables.encode(symbols, row), row) == symbols).all()
        assert np.diff(mixture.to_tables().rows[1]).argmax() + mixture.to_tables().offset[1] == 7
