"""Metrics of velocity fields, where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codec.datasets.turbulence import FlowConfig, Simulation
from codec.errors import MediaError
from codec.eval.metrics import turbulence
from codec.eval.metrics.turbulence import Flow, compare, gaussian_bound, leaves, project

N = 32
GRID = np.arange(N) * 2 * math.pi / N
Z, Y, X = np.meshgrid(GRID, GRID, GRID, indexing="ij")


def taylor_green() -> np.ndarray:
    return np.stack([np.cos(Z) * np.cos(Y) * np.sin(X), -np.cos(Z) * np.sin(Y) * np.cos(X), np.zeros_like(X)])


@pytest.fixture(scope="module")
def flow() -> np.ndarray:
    """Developed enough to be skewed."""
    simulation = Simulation(FlowConfig(n=N, viscosity=0.03, seed=3))
    simulation.advance(2.0)
    return simulation.velocity().numpy()


class TestTaylorGreen:
    def test_derived(self) -> None:
        flow = Flow(taylor_green())
        assert np.allclose(flow.gradients[0, 0], np.cos(Z) * np.cos(Y) * np.cos(X), atol=1e-12)
        assert np.allclose(flow.gradients[0, 2], -np.sin(Z) * np.cos(Y) * np.sin(X), atol=1e-12)
        # each square of three factors has the mean 1/8; of the six non-zero gradients, du/dx and dv/dy are opposite
        assert flow.square_gradient == pytest.approx(6 / 8)
        assert flow.enstrophy == pytest.approx(6 / 8)  # equal for a field without divergence
        assert flow.dissipation == pytest.approx(6 / 8)
        assert flow.divergence < 1e-12
        assert flow.spectrum.sum() == pytest.approx(1 / 8)
        assert flow.spectrum[2] == pytest.approx(1 / 8)  # |k| = sqrt 3

    def test_moments_of_a_sine(self) -> None:
        wave = np.stack([np.sin(X), np.sin(Y), np.sin(Z)])
        flow = Flow(wave)
        assert flow.skewness == pytest.approx(0, abs=1e-12)
        assert flow.flatness == pytest.approx(1.5)
        assert flow.divergence == pytest.approx(1)  # mean (3 terms)^2 = 3 * mean of one square, all of the gradient
        assert Flow(taylor_green()).skewness != Flow(taylor_green()).skewness  # a component without gradients: NaN


class TestErrors:
    def test_equal_fields(self, flow: np.ndarray) -> None:
        found = compare(Flow(flow), Flow(flow.copy()))
        assert found.velocity == found.gradient == found.longitudinal_w1 == found.transverse_js == 0
        assert found.dissipation == found.enstrophy == found.longitudinal_tail == 1
        assert found.leaves == math.inf

    def test_same_statistics_as_the_solver(self, flow: np.ndarray) -> None:
        simulation = Simulation(FlowConfig(n=N, viscosity=0.03, seed=3))
        simulation.advance(2.0)
        theirs, ours = simulation.statistics(), Flow(flow)
        assert ours.skewness == pytest.approx(theirs.skewness, abs=1e-4)
        assert ours.flatness == pytest.approx(theirs.flatness, abs=1e-4)
        assert 0.03 * ours.dissipation == pytest.approx(theirs.dissipation, rel=1e-4)
        assert np.allclose(ours.spectrum, simulation.spectrum_of_energy().numpy(), rtol=1e-3, atol=1e-12)

    def test_noise_of_known_variance(self, flow: np.ndarray) -> None:
        rms = math.sqrt(float(np.square(flow).mean()))
        sigma = 0.05 * rms
        noise = np.random.default_rng(0).normal(0, sigma, flow.shape)
        truth = Flow(flow)
        found = compare(truth, Flow(flow + noise))
        assert found.velocity == pytest.approx(0.05, rel=0.01)
        # white noise has E(|ik|^2) = mean of k_x^2 over the grid, the mode n / 2 left out, for each of 9 gradients
        square = 9 * sigma**2 * float(np.mean(np.where(np.arange(N) == N // 2, 0, np.fft.fftfreq(N, 1 / N)) ** 2))
        assert found.gradient == pytest.approx(math.sqrt(square / truth.square_gradient), rel=0.01)
        assert found.dissipation > 1 and found.enstrophy > 1 and found.longitudinal_w1 > 0.01
        assert found.leaves < N / 3
        # a third of the noise's gradient energy is in its divergence: sum of three uncorrelated squares of nine
        expected = math.sqrt(square / 3 / (truth.square_gradient + square))
        assert found.divergence == pytest.approx(expected, rel=0.02)

    def test_spectral_cut(self, flow: np.ndarray) -> None:
        keep = turbulence._shells(N) < 6
        low = np.fft.irfftn(np.fft.rfftn(flow, axes=(1, 2, 3)) * keep, s=(N,) * 3, axes=(1, 2, 3))
        truth = Flow(flow)
        found = compare(truth, Flow(low))
        spectrum = truth.spectrum
        whole = np.square(flow.astype(np.float64)).sum(0).mean() / 2
        assert found.velocity == pytest.approx(math.sqrt(1 - spectrum[:6].sum() / whole), rel=1e-4)
        assert found.leaves == 6
        assert found.dissipation < 1 and found.longitudinal_tail < 1
        assert found.gradient == pytest.approx(math.sqrt(1 - found.dissipation), rel=1e-3)  # orthogonal parts

    def test_distances(self) -> None:
        a = np.sort(np.random.default_rng(1).normal(size=20000))
        p, q = turbulence.density(a, 1.0), turbulence.density(a + 0.5, 1.0)
        assert p.sum() * (turbulence.BINS[1] - turbulence.BINS[0]) == pytest.approx(1)
        assert 0 < turbulence.jensen_shannon(p, q) < 0.2
        assert turbulence.jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == 1
        assert turbulence._tail(np.arange(200_001.0)) == 199_999  # two of 200 001
        assert leaves(np.ones(17), np.array([0, 1, 1.05, 1.2, 1, *[1] * 12]), N) == 3

    def test_unfit_fields_are_refused(self, flow: np.ndarray) -> None:
        with pytest.raises(MediaError, match="expected three components"):
            project(flow[:2])
        with pytest.raises(MediaError, match="same shape"):
            compare(Flow(flow), Flow(taylor_green()[:, :16, :16, :16]))
        with pytest.raises(MediaError, match="without gradients"):
            compare(Flow(np.ones_like(flow)), Flow(flow))


class TestProjection:
    def test_a_flow_stays_and_a_potential_goes(self, flow: np.ndarray) -> None:
        assert np.allclose(project(flow, cut=True), flow, atol=2e-6)
        assert project(flow).dtype == np.float32
        potential = np.stack([np.cos(X + Y), np.cos(X + Y), np.zeros_like(X)])  # gradient of sin(x + y)
        assert np.abs(project(potential)).max() < 1e-12
        assert np.allclose(project(taylor_green() + potential), taylor_green(), atol=1e-12)

    def test_it_lowers_the_error_of_noise_by_a_third(self, flow: np.ndarray) -> None:
        noisy = flow + np.random.default_rng(0).normal(0, 0.05, flow.shape)
        truth = Flow(flow)
        before, after = (compare(truth, Flow(one)).velocity for one in (noisy, project(noisy)))
        assert (after / before) ** 2 == pytest.approx(2 / 3, rel=0.02)
        cut = compare(truth, Flow(project(noisy, cut=True)))
        kept = (2 * math.floor((N - 1) / 3) + 1) ** 3 / N**3
        assert (cut.velocity / before) ** 2 == pytest.approx(2 / 3 * kept, rel=0.03)
        assert cut.divergence < 1e-6


class TestGaussianBound:
    def test_one_shell(self) -> None:
        """All modes of one variance: D = 2^(-2 R / N)."""
        generator = np.random.default_rng(5)
        field = project(generator.normal(size=(3, N, N, N)))
        keep = turbulence._shells(N) == 3
        field = np.fft.irfftn(np.fft.rfftn(field, axes=(1, 2, 3)) * keep, s=(N,) * 3, axes=(1, 2, 3))
        freedoms = 2 * int((np.rint(np.sqrt(sum(k**2 for k in np.meshgrid(*[np.arange(-9, 10)] * 3)))) == 3).sum())
        for bits in (0.5, 2.0):
            found = gaussian_bound(field, bits * freedoms)
            assert found.velocity == pytest.approx(2**-bits, rel=1e-6)
            assert found.gradient == pytest.approx(2**-bits, rel=1e-6)

    def test_more_bits_less_error(self, flow: np.ndarray) -> None:
        errors = [gaussian_bound(flow, bits).velocity for bits in (0, 1e3, 1e4, 1e5)]
        assert errors[0] == pytest.approx(1) and errors == sorted(errors, reverse=True)
