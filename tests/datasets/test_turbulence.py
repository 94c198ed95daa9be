"""The solver against published and exact behaviour, and its files: whole, resumable, the same again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from codec import cli
from codec.datasets.turbulence import FlowConfig, Simulation, Statistics, simulate, viscosity_for
from codec.errors import UsageError

# Brachet et al. 1983, Taylor-Green vortex at Re = 100: time, dissipation
BRACHET = {0.05: 0.00752, 0.33: 0.00745, 2.67: 0.01060, 4.84: 0.01298, 7.84: 0.00902}


def vortex(n: int = 32, nu: float = 0.01) -> Simulation:
    return Simulation(FlowConfig(n=n, viscosity=nu, power=0, start="taylor-green", double=True))


class TestPhysics:
    def test_brachets_curve(self) -> None:
        flow, before = vortex(), 0.0
        for time, dissipation in BRACHET.items():
            flow.advance(time - before, 0.05)
            before = time
            assert flow.statistics().dissipation == pytest.approx(dissipation, rel=0.02), time

    def test_dissipation_is_what_energy_loses(self) -> None:
        flow = vortex()
        flow.advance(4, 0.05)
        start = flow.statistics()
        flow.advance(0.1, 0.05)
        end = flow.statistics()
        lost = (start.energy - end.energy) / 0.1
        assert lost == pytest.approx((start.dissipation + end.dissipation) / 2, rel=0.002)

    def test_forcing_adds_its_power(self) -> None:
        flow = Simulation(FlowConfig(n=32, viscosity=0.03, power=0.2, double=True))
        flow.advance(0.5)
        start = flow.statistics()
        flow.advance(0.02, 0.01)
        end = flow.statistics()
        gained = (end.energy - start.energy) / 0.02
        assert gained == pytest.approx(0.2 - (start.dissipation + end.dissipation) / 2, abs=0.002)

    def test_without_viscosity_and_power_energy_stays(self) -> None:
        """What truncation and projection leave of the nonlinear term conserves energy."""
        flow = Simulation(FlowConfig(n=16, viscosity=1e-12, power=0, double=True))
        before = flow.statistics().energy
        flow.advance(0.5, 0.002)
        assert flow.statistics().energy == pytest.approx(before, rel=1e-4)

    def test_a_mode_alone_decays_exactly(self) -> None:
        flow = vortex(16, 0.1)
        sheared = torch.zeros(3, 16, 16, 16, dtype=torch.float64)
        sheared[0] = torch.cos(3 * torch.arange(16).double() * 2 * math.pi / 16)[
            :, None, None
        ]  # u(z): no nonlinear term
        flow.u_hat = flow.spectrum(sheared)
        flow.advance(0.7, 0.1)
        assert torch.allclose(flow.field(flow.u_hat), sheared * math.exp(-0.1 * 9 * 0.7), atol=1e-12)

    def test_divergence_and_spectrum(self) -> None:
        flow = Simulation(FlowConfig(n=24, viscosity=0.03))
        flow.advance(0.3)
        statistics = flow.statistics()
        assert statistics.divergence < 1e-5
        of_k = flow.spectrum_of_energy()
        assert float(of_k.sum()) == pytest.approx(statistics.energy, rel=1e-5)
        dissipated = 2 * 0.03 * float((of_k * torch.arange(len(of_k)) ** 2).sum())
        assert dissipated == pytest.approx(statistics.dissipation, rel=0.2), "shells are of rounded |k|"

    def test_velocity_is_along_its_axis(self) -> None:
        """Continuity by finite differences: component 0 belongs to the last axis."""
        flow = Simulation(FlowConfig(n=32, viscosity=0.03))
        u, h = flow.velocity(), 2 * math.pi / 32
        parts = [(torch.roll(u[i], -1, 2 - i) - torch.roll(u[i], 1, 2 - i)) / (2 * h) for i in range(3)]
        others = (torch.roll(u[0], -1, 0) - torch.roll(u[0], 1, 0)) / (2 * h) + parts[1] + parts[2]
        right = float(torch.stack(parts).sum(0).square().mean())
        assert right < 0.05 * float(others.square().mean())

    def test_a_seed_is_a_flow(self) -> None:
        same, other = Simulation(FlowConfig(n=16, double=True)), Simulation(FlowConfig(n=16, seed=1, double=True))
        finer = Simulation(FlowConfig(n=32, double=True))
        assert not torch.allclose(same.velocity(), other.velocity(), atol=0.1)
        assert torch.allclose(finer.velocity()[:, ::2, ::2, ::2], same.velocity(), atol=0.15)

    def test_several_at_once_are_those_alone(self) -> None:
        config = FlowConfig(n=16, viscosity=0.05, double=True)
        several = Simulation(config, seeds=(3, 5))
        several.advance(0.4, 0.05)
        for index, seed in enumerate((3, 5)):
            alone = Simulation(FlowConfig(n=16, viscosity=0.05, double=True, seed=seed))
            alone.advance(0.4, 0.05)
            assert torch.allclose(several.velocity()[index], alone.velocity(), atol=1e-6)

    def test_an_unstable_flow_is_an_error(self) -> None:
        with pytest.raises(UsageError, match="unstable"):
            Simulation(FlowConfig(n=16, viscosity=1e-6)).advance(100, 10)

    def test_viscosity(self) -> None:
        assert viscosity_for(64, None, 0.1) == pytest.approx(0.0135, rel=0.01)
        assert viscosity_for(64, 34, 0.1) == pytest.approx(0.0141, rel=0.01)

    @pytest.mark.slow
    def test_isotropic_turbulence(self) -> None:
        flow = Simulation(FlowConfig(n=64, viscosity=viscosity_for(64, 34, 0.1)))
        rows: list[Statistics] = []
        for index in range(64):
            flow.advance(0.5)
            if index >= 40:
                rows.append(flow.statistics())
        means = {name: np.mean([getattr(row, name) for row in rows]) for name in Statistics.__dataclass_fields__}
        assert 30 < means["re_lambda"] < 38
        assert 1.4 < means["kmax_eta"] < 1.65
        assert -0.52 < means["skewness"] < -0.40
        assert 3.6 < means["flatness"] < 4.6
        assert means["dissipation"] == pytest.approx(0.1, rel=0.1)
        of_k = flow.spectrum_of_energy()[2:22]
        assert bool((of_k > 0).all())
        assert bool((of_k[1:] < of_k[:-1])[2:].all())


class TestFiles:
    CONFIG = FlowConfig(n=16, viscosity=0.05, seed=3)

    def test_what_is_in_it(self, tmp_path: Path) -> None:
        path = simulate(self.CONFIG, tmp_path / "a.h5", 3, 0.25, 0.5)
        flow = Simulation(self.CONFIG)
        flow.advance(0.25)
        flow.advance(0.25)
        with h5py.File(path) as file:
            velocity: Any = file["velocity"]
            assert velocity.shape == (3, 3, 16, 16, 16)
            assert velocity.dtype == np.float32
            assert velocity.attrs["axes"] == "snapshot,component,z,y,x"
            assert np.array_equal(velocity[0], flow.velocity().numpy())
            assert np.allclose(np.asarray(file["time"]), [0.5, 0.75, 1.0])
            statistics = np.asarray(file["statistics/re_lambda"])
            assert statistics[0] == pytest.approx(flow.statistics().re_lambda)
            assert file.attrs["Re_lambda"] == pytest.approx(statistics.mean())
            assert file.attrs["viscosity"] == 0.05
        assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]

    def test_goes_on_after_an_interruption(self, tmp_path: Path) -> None:
        whole = simulate(self.CONFIG, tmp_path / "whole.h5", 4, 0.25, 0.25).read_bytes()

        def stop(done: int, total: int, statistics: Statistics) -> None:
            if done == 2:
                raise KeyboardInterrupt

        target = tmp_path / "parts.h5"
        with pytest.raises(KeyboardInterrupt):
            simulate(self.CONFIG, target, 4, 0.25, 0.25, progress=stop)
        assert not target.exists()
        other = FlowConfig(n=16, viscosity=0.06, seed=3)
        with pytest.raises(UsageError, match="another simulation"):
            simulate(other, target, 4, 0.25, 0.25)
        calls: list[int] = []
        simulate(self.CONFIG, target, 4, 0.25, 0.25, progress=lambda done, total, statistics: calls.append(done))
        assert calls == [3, 4]
        with h5py.File(target) as parts, h5py.File(tmp_path / "whole.h5") as uncut:
            for name in ("velocity", "time", "statistics/energy"):
                assert np.array_equal(np.asarray(parts[name]), np.asarray(uncut[name]))
        assert len(whole) == target.stat().st_size
        assert not target.with_name("parts.h5.part").exists()

    def test_what_is_there_stays(self, tmp_path: Path) -> None:
        target = tmp_path / "a.h5"
        target.write_bytes(b"mine")
        with pytest.raises(UsageError, match="exists"):
            simulate(self.CONFIG, target, 1, 0.1, 0)
        assert target.read_bytes() == b"mine"
        simulate(self.CONFIG, target, 1, 0.1, 0, force=True)
        assert h5py.is_hdf5(target)

    @pytest.mark.parametrize("wrong", [{"n": 7}, {"n": 4}, {"viscosity": 0}, {"power": -1}, {"courant": 2}])
    def test_wrong_settings(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            FlowConfig(**wrong)

    def test_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "v.h5"
        base = ["data", "taylor-green", "--n", "16", "--snapshots", "2", "--spacing", "0.1", "-o", str(out)]
        assert cli.main(base) == 2
        assert "--re" in capsys.readouterr().err
        assert cli.main([*base, "--re", "100", "--json"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["snapshot"] for row in rows] == [1, 2]
        assert rows[0]["energy"] == pytest.approx(0.125)
        assert cli.main([*base, "--re", "100"]) == 2
        assert "exists" in capsys.readouterr().err
