"""Direct numerical simulation of turbulence in a periodic cube: real data for the codecs of scientific fields.

Incompressible Navier-Stokes, pseudo-spectral: rotational form u x omega, cubic 2/3-rule truncation, Heun's method with
the exact viscous integrating factor, projection in every stage (Rogallo 1981, NASA TM 81315; Canuto et al., "Spectral
Methods", 2007). Forced isotropic turbulence gets constant power: P u / (2 E_f) on the shell 0 < |k| <= 2.5, where E_f
is the energy of the shell. Without a power it decays; the Taylor-Green vortex (Brachet et al. 1983) validates the
scheme.

The cube has sides of 2 pi; all quantities are in these units. Velocities are (3, n, n, n): component 0 is along the
last axis (x), 1 along y, 2 along z. Spectra are of `rfftn` with norm "forward", so that they don't depend on n.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import UsageError
from ..files import whole

__all__ = ["FlowConfig", "Simulation", "Statistics", "simulate", "viscosity_for", "write_hdf5"]

FORCED_TO = 2.5  # largest |k| of the forced shell
RESOLVED = 1.5  # k_max eta of a run whose Reynolds number isn't given
# u'^2 of a forced run of unit box, as found here at R_lambda 34 to 60 with power 0.1; only for a first guess of nu
_ENERGY = 0.33


@dataclass(frozen=True)
class FlowConfig:
    """The flow to simulate, and how. n: points a side, even. viscosity: kinematic. power: of the forcing, 0 for none.

    start: "random" (solenoidal, spectrum k^4 exp(-2 (k / 3)^2)) or "taylor-green". courant: dt times
    max(|u| + |v| + |w|) over the spacing.
    """

    n: int = 64
    viscosity: float = 0.0135
    power: float = 0.1
    start: Literal["random", "taylor-green"] = "random"
    courant: float = 0.5
    seed: int = 0
    double: bool = False

    def __post_init__(self) -> None:
        if self.n < 8 or self.n % 2:
            raise UsageError(f"n = {self.n}: expected an even number of points, 8 or more")
        if not (self.viscosity > 0 and self.power >= 0 and 0 < self.courant <= 1):
            raise UsageError("viscosity must be above 0, power 0 or above, and the Courant number in (0, 1]")


@dataclass(frozen=True)
class Statistics:
    """Statistics of a velocity field. energy: u_i u_i / 2. dissipation: 2 nu s_ij s_ij. re_lambda: of Taylor's scale.

    kmax_eta: largest resolved wave number times Kolmogorov's scale. turnover: integral scale / u'. skewness, flatness:
    of du_i/dx_i, mean over i. divergence: rms divergence / rms gradient.
    """

    energy: float
    dissipation: float
    re_lambda: float
    kmax_eta: float
    turnover: float
    skewness: float
    flatness: float
    divergence: float


def viscosity_for(n: int, re_lambda: float | None, power: float) -> float:
    """The viscosity of a forced run that gets near a Reynolds number, or (None) is resolved to k_max eta = 1.5."""
    if re_lambda is None:
        return ((RESOLVED / (n / 3)) ** 4 * power) ** (1 / 3)
    return 15 * (_ENERGY * (power / 0.1) ** (2 / 3)) ** 2 / (power * re_lambda**2)


class Simulation:
    """The state of a simulation. u_hat: (3, n, n, n / 2 + 1) complex.

    seeds: several simulations at once, in steps that suit the fastest of them; tensors then have an axis for them in
    front, and `energy` is the sum of all. `statistics` and `spectrum_of_energy` are for a single one. A GPU is idle
    most of the time with one.
    """

    def __init__(self, config: FlowConfig, device: str = "cpu", seeds: Sequence[int] = ()) -> None:
        self.config, self.device = config, torch.device(device)
        n, self.real = config.n, torch.float64 if config.double else torch.float32
        whole = torch.fft.fftfreq(n, 1 / n, dtype=self.real, device=self.device)
        half = torch.fft.rfftfreq(n, 1 / n, dtype=self.real, device=self.device)
        # the derivative of the mode n / 2 isn't real; truncation removes it anyway
        self.k = (half[None, None, :], whole[None, :, None], whole[:, None, None])
        self.k2 = self.k[0] ** 2 + self.k[1] ** 2 + self.k[2] ** 2
        self.inverse_k2 = 1 / self.k2.clamp_min(1)
        keep = [k.abs() < n / 3 for k in self.k]
        self.resolved = (keep[0] & keep[1] & keep[2]).to(self.real)
        self.shell = ((self.k2 > 0) & (self.k2 <= FORCED_TO**2)).to(self.real)
        twice = torch.full_like(half, 2.0)
        twice[0] = twice[-1] = 1.0
        self.twice = twice[None, None, :]  # how often a mode of the half spectrum counts
        self.time, self.steps = 0.0, 0
        if config.start == "taylor-green":
            self.u_hat = self._taylor_green()
        elif seeds:
            self.u_hat = torch.stack([self._random(seed) for seed in seeds])
        else:
            self.u_hat = self._random(config.seed)

    # ---- beginnings

    def _taylor_green(self) -> Tensor:
        n = self.config.n
        x = torch.arange(n, dtype=self.real, device=self.device) * (2 * math.pi / n)
        sin, cos = torch.sin(x), torch.cos(x)
        u = cos[:, None, None] * cos[None, :, None] * sin[None, None, :]
        v = -cos[:, None, None] * sin[None, :, None] * cos[None, None, :]
        return self.spectrum(torch.stack([u, v, torch.zeros_like(u)]))

    def _random(self, seed: int) -> Tensor:
        """A random spectrum: phases and directions by chance, on the same modes for every n, so a seed is one flow."""
        n, side = self.config.n, 16
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(3, side, side, side, generator=generator, dtype=torch.float64)
        modes = torch.fft.rfftn(noise, dim=(1, 2, 3), norm="forward")
        low = min(side, n) // 2 - 1  # what both grids resolve
        index = torch.cat([torch.arange(low + 1), torch.arange(-low, 0)])
        u_hat = torch.zeros(3, n, n, n // 2 + 1, dtype=torch.complex128)
        u_hat[:, index[:, None] % n, index[None, :] % n, : low + 1] = modes[
            :, index[:, None] % side, index[None, :] % side, : low + 1
        ]
        kind = torch.complex128 if self.config.double else torch.complex64
        u_hat = self.project(u_hat.to(self.device, kind) * self.resolved)
        k = self.k2.sqrt()
        # a shell of noise has an energy that grows with k^2, and so has this: k^4 in all
        u_hat = u_hat * k * torch.exp(-((k / 3) ** 2))
        wanted = 1.5 * _ENERGY * (max(self.config.power, 1e-12) / 0.1) ** (2 / 3) if self.config.power else 0.5
        return u_hat * math.sqrt(wanted / self.energy(u_hat))

    # ---- spectral calculus

    def spectrum(self, field: Tensor) -> Tensor:
        return torch.fft.rfftn(field, dim=(-3, -2, -1), norm="forward")

    def field(self, spectrum: Tensor) -> Tensor:
        n = self.config.n
        return torch.fft.irfftn(spectrum, s=(n, n, n), dim=(-3, -2, -1), norm="forward")

    def project(self, f_hat: Tensor) -> Tensor:
        """Projects the spectrum of a vector field, (..., 3, n, n, n / 2 + 1), onto fields without divergence."""
        k = self.k
        f = f_hat.unbind(-4)
        pressure = (k[0] * f[0] + k[1] * f[1] + k[2] * f[2]) * self.inverse_k2
        return torch.stack([f[i] - k[i] * pressure for i in range(3)], -4)

    def curl(self, f_hat: Tensor) -> Tensor:
        x, y, z = self.k
        f = f_hat.unbind(-4)
        return 1j * torch.stack([y * f[2] - z * f[1], z * f[0] - x * f[2], x * f[1] - y * f[0]], -4)

    def energy(self, u_hat: Tensor, weight: Tensor | None = None) -> float:
        return float(self._energies(u_hat, weight).sum())

    def _energies(self, u_hat: Tensor, weight: Tensor | None = None) -> Tensor:
        """The kinetic energy, float64 on the device of u_hat: () of a single flow, (S,) of several."""
        density = u_hat.real.square().sum(-4) + u_hat.imag.square().sum(-4)
        return (density * self.twice * (1 if weight is None else weight)).sum((-3, -2, -1), dtype=torch.float64) / 2

    def rate(self, u_hat: Tensor) -> Tensor:
        """The time derivative of u_hat without viscosity: the projected, truncated rotational term, and the forcing."""
        u, omega = self.field(u_hat), self.field(self.curl(u_hat))
        cross = torch.linalg.cross(u, omega, dim=-4)
        change = self.project(self.spectrum(cross)) * self.resolved
        if self.config.power:
            forced = self._energies(u_hat, self.shell).clamp_min(1e-12)
            share = (self.config.power / (2 * forced)).to(self.real)
            change = change + u_hat * self.shell * share[..., None, None, None, None]
        return change

    # ---- time

    def advance(self, duration: float, step: float | None = None) -> None:
        """Goes on by `duration`, in equal steps that end exactly there, none longer than `step`, or (None) than the
        Courant number allows for the flow as it is now."""
        if step is None:
            speed = float(self.field(self.u_hat).abs().sum(-4).max())
            step = self.config.courant * (2 * math.pi / self.config.n) / max(speed, 1e-6)
        count = max(1, math.ceil(duration / step - 1e-9))
        dt = duration / count
        decay = torch.exp(-self.config.viscosity * dt * self.k2)
        for _ in range(count):
            first = self.rate(self.u_hat)
            second = self.rate(decay * (self.u_hat + dt * first))
            self.u_hat = decay * (self.u_hat + dt / 2 * first) + dt / 2 * second
        self.time += duration
        self.steps += count
        if not bool(torch.isfinite(self.u_hat.real.sum() + self.u_hat.imag.sum())):
            raise UsageError(f"the flow became unstable at t = {self.time:.3g}: more viscosity, or a smaller step")

    def velocity(self) -> Tensor:
        """The velocity, (3, n, n, n) float32; (S, 3, n, n, n) of several simulations."""
        return self.field(self.u_hat).float()

    # ---- what it is like

    def spectrum_of_energy(self) -> Tensor:
        """The energy spectrum E(k), k = 0, 1, ..., n / 2: energy in shells of |k| rounded; their sum is the energy."""
        density = (self.u_hat.real.square() + self.u_hat.imag.square()).sum(0) * self.twice / 2
        shells = self.k2.sqrt().round().long().flatten()
        return torch.bincount(shells, density.double().flatten())[: self.config.n // 2 + 1]

    def statistics(self) -> Statistics:
        """The statistics of the flow as it is now."""
        nu, energy = self.config.viscosity, self.energy(self.u_hat)
        dissipation = 2 * nu * self.energy(self.u_hat, self.k2)
        variance = 2 * energy / 3  # u'^2
        taylor = math.sqrt(15 * nu * variance / dissipation)
        of_k = self.spectrum_of_energy()[1:]
        integral = math.pi / (2 * variance) * float((of_k / torch.arange(1, len(of_k) + 1, device=of_k.device)).sum())
        longitudinal = self.field(torch.stack([1j * self.k[i] * self.u_hat[i] for i in range(3)])).double()
        divergence, square = longitudinal.sum(0), longitudinal.square().mean((1, 2, 3))
        skewness = (longitudinal**3).mean((1, 2, 3)) / square**1.5
        flatness = (longitudinal**4).mean((1, 2, 3)) / square**2
        gradients = dissipation / nu  # mean of (du_i/dx_j)^2, of a field without divergence
        return Statistics(
            energy=energy,
            dissipation=dissipation,
            re_lambda=math.sqrt(variance) * taylor / nu,
            kmax_eta=self.config.n / 3 * (nu**3 / dissipation) ** 0.25,
            turnover=integral / math.sqrt(variance),
            skewness=float(skewness.mean()),
            flatness=float(flatness.mean()),
            divergence=math.sqrt(float(divergence.square().mean()) / gradients),
        )


# --------------------------------------------------------------------------------------------------- runs and files


def snapshots(
    flow: Simulation, count: int, spacing: float, spin_up: float, start: int = 0
) -> Iterator[tuple[int, Tensor, Statistics]]:
    """Snapshots (index, velocity, statistics): after `spin_up`, then every `spacing`; goes on after `start` of them."""
    for index in range(start, count):
        if index == 0:
            parts = math.ceil(spin_up / spacing - 1e-9) if spin_up > 0 else 0
            for _ in range(parts):  # the step is chosen anew for each
                flow.advance(spin_up / parts)
        else:
            flow.advance(spacing)
        yield index, flow.velocity(), flow.statistics()


def simulate(
    config: FlowConfig,
    out: str | os.PathLike[str],
    count: int,
    spacing: float = 0.5,
    spin_up: float = 20.0,
    device: str = "cpu",
    force: bool = False,
    progress: Callable[[int, int, Statistics], None] | None = None,
) -> Path:
    """Writes `count` snapshots to an HDF5 file. Interrupted, it leaves OUT.part, from which the same call goes on.

    Raises UsageError for a file that exists (unless `force`), and for an OUT.part of another simulation.
    """
    from safetensors.torch import load_file, save_file

    target = Path(out)
    if count < 1 or spacing <= 0 or spin_up < 0:
        raise UsageError("at least one snapshot, a spacing above 0 and a spin-up of 0 or more")
    if target.is_dir() or (target.exists() and not force):
        raise UsageError(f"{target} exists already: -o names another place, --force replaces it")
    work = target.with_name(target.name + ".part")
    about = json.dumps({**asdict(config), "spacing": spacing, "spin_up": spin_up}, sort_keys=True)
    flow, rows = Simulation(config, device), []
    state, settings = work / "state.safetensors", work / "settings.json"
    if work.exists():
        if not settings.is_file() or settings.read_text() != about:
            raise UsageError(f"{work} is left of another simulation: remove it, or name another output")
        if state.is_file():
            saved = load_file(state, device=str(flow.device))
            flow.u_hat = torch.view_as_complex(saved["u_hat"])
            flow.time, rows = float(saved["time"]), saved["statistics"].tolist()
    else:
        work.mkdir(parents=True)
        settings.write_text(about)
    for index, velocity, statistics in snapshots(flow, count, spacing, spin_up, len(rows)):
        rows.append([flow.time, *asdict(statistics).values()])
        save_file({"velocity": velocity.cpu().contiguous()}, work / f"{index:06d}.safetensors")
        tensors = {
            "u_hat": torch.view_as_real(flow.u_hat).contiguous(),
            "time": torch.tensor(flow.time, dtype=torch.float64),
            "statistics": torch.tensor(rows, dtype=torch.float64),
        }
        with whole(state, replace=True, path_only=True) as partial:
            save_file(tensors, partial)
        if progress is not None:
            progress(index + 1, count, statistics)
    files = [work / f"{index:06d}.safetensors" for index in range(count)]
    with whole(target, replace=True, path_only=True) as partial:
        write_hdf5(partial, config, rows[:count], (load_file(file)["velocity"] for file in files))
    shutil.rmtree(work)
    return target


def write_hdf5(
    path: str | os.PathLike[str], config: FlowConfig, rows: list[list[float]], fields: Iterator[Tensor]
) -> None:
    """Writes an HDF5 file: /velocity (snapshot, component, z, y, x) float32, one chunk a snapshot; /time, /statistics,
    and attributes that say what it is."""
    import h5py

    names = ["time", *Statistics.__dataclass_fields__]
    columns: Mapping[str, list[float]] = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    side = (config.n,) * 3
    with h5py.File(path, "w") as file:
        file.attrs["description"] = _words(config)
        for name, value in asdict(config).items():
            file.attrs[name] = value
        file.attrs["Re_lambda"] = sum(columns["re_lambda"]) / len(rows)
        file.attrs["box"] = 2 * math.pi
        file.attrs["licence"] = "CC0, computed by codec-suite"
        shape = (len(rows), 3, *side)
        velocity = file.create_dataset("velocity", shape, "float32", chunks=(1, 3, *side))
        velocity.attrs.update(
            {"axes": "snapshot,component,z,y,x", "units": "1", "periodic": [False, False, True, True, True]}
        )
        for index, field in enumerate(fields):
            velocity[index] = field.numpy()
        time = file.create_dataset("time", data=columns.pop("time"))
        time.attrs["units"] = "1"
        group = file.create_group("statistics")
        for name, values in columns.items():
            group.create_dataset(name, data=values)


def _words(config: FlowConfig) -> str:
    what = "forced isotropic turbulence" if config.power else "decaying turbulence"
    if config.start == "taylor-green":
        what = "Taylor-Green vortex"
    return f"{what}, incompressible, pseudo-spectral, {config.n}^3 points, sides of 2 pi, dimensionless units"


def as_json(statistics: Statistics) -> dict[str, Any]:
    return {name: float(f"{value:.5g}") for name, value in asdict(statistics).items()}
