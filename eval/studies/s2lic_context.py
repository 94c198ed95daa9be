"""The study of what each part of S2LIC's entropy model is worth: the small-scale acceptance test of the network.

    python -P -m codec.eval.studies.s2lic_context TRAINING_PICTURES --test KODAK --out eval/results/s2lic_context.json

The same frozen transforms (of the shipped weights, or of --weights), the same crops in the same order and the same
noise; an entropy model trained from its start for each row, the same number of steps:

- hyperprior: mean and scale from z alone, all channels at once;
- channel-wise: slices one after the other, each sees the earlier ones;
- checkerboard: and each slice in two passes, the second of which sees no more than the first, which is what the
  paper's released code does; it has parameters of its own, so this row is also what more parameters are worth;
- anchor context: and the second pass sees the first one around each cell.

On a GPU (`--device cuda`) a step is one CUDA graph, crops are cut there, and the noise is each variant's own. `--save`
keeps what was trained, `--load` takes it up again, so that training and looking may happen on different machines.

Latent residual prediction is off in all of them, so that reconstructions differ only by how means move the rounding.
Bits are estimates, with rounding (files are within half a per cent of them, as tests hold); PSNR is of the
float network. BD-rates are against the first row.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ...codecs.base import weights
from ...codecs.layers.exact_state import import_state
from ...codecs.s2lic import weights as s2lic_weights
from ...codecs.s2lic.config import LAMBDA, S2licConfig
from ...codecs.s2lic.network import S2licNet
from ...datasets.images import DeviceCrops, RandomCrops, find_pictures, load_pictures
from ...entropy.exact import FixedPoint
from ...errors import UsageError
from ..bench.bd import bd_delta
from ..metrics.images import psnr
from ..output import write_file

QUALITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
LEARNING_RATE = 1e-3


def variants(config: S2licConfig) -> dict[str, S2licConfig]:
    """The rows, in the order of the module's docstring."""
    plain = replace(config, refine=0)
    return {
        "hyperprior": replace(plain, slices=(config.latent,), passes=1),
        "channel-wise": replace(plain, passes=1),
        "checkerboard": replace(plain, passes=2, anchor_context="none"),
        "anchor context": replace(plain, passes=2, anchor_context="masked_conv"),
    }


def transforms(path: Path | None) -> tuple[S2licNet, str]:
    """The network of a weights file as floats, and the file's id in hex."""
    loaded = weights.load_tensors(weights.find("s2lic").path if path is None else path)
    about = json.loads(loaded.metadata["s2lic"])
    config = s2lic_weights.config_from(about["network"], about["config"])
    if not isinstance(config, S2licConfig):
        raise UsageError("only the network `small` has these variants")
    net = S2licNet(config)
    state = {name: value for name, value in loaded.tensors.items() if "_tables." not in name}
    import_state(net, state)
    return net.requires_grad_(False).eval(), loaded.id.hex()


def beginning(config: S2licConfig, shared: S2licNet, pictures: Tensor) -> S2licNet:
    """A net whose entropy model is untrained, with starting levels from the spread of the shared latents."""
    torch.manual_seed(0)
    net = S2licNet(config)
    with torch.no_grad():
        for index in range(config.knots):
            t = torch.full((len(pictures),), index / (config.knots - 1))
            y = shared.latents(pictures, t)
            deviation = y.transpose(0, 1).flatten(1).std(1)
            net.base.values[index] = net.y_density.level((0.5 * deviation).clamp(0.11, 200)) / net.base.unit
    return net.train()


def entropy_parameters(net: S2licNet) -> list[torch.nn.Parameter]:
    """The parameters that are trained here: all but those of the transforms and the gains."""
    parts = (net.hyper_analysis, net.hyper_synthesis, net.slices, net.base, net.z_mean, net.z_level)
    return [parameter for part in parts for parameter in part.parameters()]


class Trainer:
    """Adam for one entropy model; `step` is one step on latents y at qualities t."""

    def __init__(self, net: S2licNet, device: torch.device) -> None:
        self.net, self.device = net, device
        knots = [*net.base.parameters(), *net.z_mean.parameters(), *net.z_level.parameters()]
        self.parameters = entropy_parameters(net)
        plain = [p for p in self.parameters if not any(p is k for k in knots)]
        groups = [{"params": plain, "lr": LEARNING_RATE}, {"params": knots, "lr": 3 * LEARNING_RATE}]
        self.rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = torch.tensor(group["lr"], device=device)
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True, capturable=device.type == "cuda")
        self.bpp = torch.zeros((), device=device)  # of the latest batch

    def set_rate(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"].fill_(rate * factor)

    def step(self, y: Tensor, t: Tensor) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            _, y_bits, z_bits = self.net.coded(y, t)
        bpp = (y_bits + z_bits) / (y.shape[-1] * y.shape[-2] * 256)
        weight = LAMBDA[0] * (LAMBDA[1] / LAMBDA[0]) ** t  # as in training: no rate owns the gradient
        loss = (0.05 * bpp / weight.sqrt()).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.bpp.copy_(bpp.detach().mean())


def train(
    shared: S2licNet,
    nets: Mapping[str, S2licNet],
    crops: RandomCrops | DeviceCrops,
    steps: int,
    batch: int = 8,
    say: Any = lambda words: None,
) -> float:
    """Trains all entropy models side by side, each on the same latents. Returns seconds a step of all together."""
    device = next(shared.parameters()).device
    trainers = {name: Trainer(net, device) for name, net in nets.items()}

    def work(pictures: Tensor, seed: int | None) -> None:
        t = torch.rand(len(pictures), device=device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            y = shared.latents(pictures, t).float()
        for trainer in trainers.values():
            if seed is not None:
                torch.manual_seed(seed)  # the same noise for all
            trainer.step(y, t)

    def forget() -> None:
        for trainer in trainers.values():
            trainer.optimizer.zero_grad(set_to_none=True)

    graph: torch.cuda.CUDAGraph | None = None
    if isinstance(crops, DeviceCrops) and device.type == "cuda":
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # chooses algorithms and fills caches
                forget()
                work(crops.draw(batch), None)
        torch.cuda.current_stream().wait_stream(stream)
        forget()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work(crops.draw(batch), None)
    source = None if isinstance(crops, DeviceCrops) else iter(crops)
    start = time.perf_counter()
    for step in range(steps):
        for trainer in trainers.values():
            trainer.set_rate(min(1.0, (step + 1) / 100) * min(1.0, 2 * (1 - step / steps)))
        if graph is not None:
            graph.replay()
        else:
            torch.manual_seed(step)
            forget()
            work(crops.draw(batch) if isinstance(crops, DeviceCrops) else next(cast(Any, source)), step)
        if step % 250 == 249:
            rates = "  ".join(f"{name} {float(trainer.bpp):.4f}" for name, trainer in trainers.items())
            say(f"step {step + 1}, {time.perf_counter() - start:.0f} s, bpp: {rates}")
    return (time.perf_counter() - start) / max(1, steps)


def entropy_state(net: S2licNet) -> dict[str, Tensor]:
    """The entropy model's parameters by name, in half precision."""
    parts = ("hyper_analysis.", "hyper_synthesis.", "slices.", "base.", "z_mean.", "z_level.")
    return {
        name: value.detach().cpu().to(torch.float16).contiguous()
        for name, value in net.state_dict().items()
        if name.startswith(parts) and value.is_floating_point()
    }


@torch.no_grad()
def curve(shared: S2licNet, net: S2licNet, pictures: Sequence[Tensor]) -> list[dict[str, float]]:
    """Mean bits per pixel and PSNR over the pictures, (3, H, W) uint8, at each of QUALITIES."""
    net.eval()
    points = []
    for quality in QUALITIES:
        rows = []
        for picture in pictures:
            x = picture[None].float() / 255
            stride = net.config.stride
            x = x[..., : x.shape[-2] // stride * stride, : x.shape[-1] // stride * stride]
            t = torch.tensor([quality])
            y_hat, y_bits, z_bits = net.coded(shared.latents(x, t).float(), t, True)
            mse = float((shared.reconstruct(y_hat, t).clamp(0, 1) - x).square().mean())
            rows.append((float(y_bits + z_bits) / (x.shape[-1] * x.shape[-2]), psnr(mse, 1.0)))
        bpp, decibels = np.mean(rows, 0)
        points.append({"quality": quality, "bpp": round(float(bpp), 5), "psnr": round(float(decibels), 4)})
    return points


def run(
    training: Path,
    test: Path | None,
    steps: int,
    batch: int = 8,
    crop: int = 128,
    path: Path | None = None,
    device: str = "cpu",
    save: Path | None = None,
    load: Path | None = None,
    say: Any = print,
) -> dict[str, Any]:
    """The whole test, as one JSON object; without `test` nothing is looked at.

    path: of weights whose transforms are used; None: the shipped ones. save, load: folders that keep what was trained.
    """
    shared, weights_id = transforms(path)
    pictures = load_pictures(find_pictures(training), crop)
    first = next(iter(RandomCrops(pictures, crop, 48, seed=3)))
    nets = {name: beginning(config, shared, first) for name, config in variants(shared.config).items()}
    if load is None:
        about: dict[str, Any] = {"weights": weights_id, "steps": steps, "batch": batch, "crop": crop}
        crops: Any = (
            RandomCrops(pictures, crop, batch, seed=2)
            if device == "cpu"
            else DeviceCrops(pictures, crop, (), torch.device(device))
        )
        _move(shared, nets, device)
        torch.manual_seed(1)
        seconds = train(shared, nets, crops, steps, batch, say)
        about["device"] = "CPU" if device == "cpu" else torch.cuda.get_device_name()
        if save is not None:
            _save(nets, about | {"seconds_per_step": round(seconds, 4)}, save)
        for net in (shared, *nets.values()):
            net.cpu()
    else:
        about = _load(nets, load, weights_id)
        seconds = about.pop("seconds_per_step")
    if test is None:
        return about
    pictures = load_pictures(find_pictures(test), shared.config.stride)
    about |= {"seconds_per_step_of_all": round(seconds, 4), "pictures": len(pictures)}
    return {**about, "rate": "estimated, with rounding", "variants": _compared(shared, nets, pictures, say)}


def _move(shared: S2licNet, nets: Mapping[str, S2licNet], device: str) -> None:
    """Everything to the device, in the layout that is fast there; ranges aren't watched in training."""
    for net in (shared, *nets.values()):
        net.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for net in nets.values():
        for part in net.modules():
            if isinstance(part, FixedPoint):
                part.watching = False


def _tensors_of(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '-')}.safetensors"


def _save(nets: Mapping[str, S2licNet], about: Mapping[str, Any], folder: Path) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, net in nets.items():
        save_file(entropy_state(net), _tensors_of(folder, name))
    write_file(folder / "about.json", json.dumps(about, indent=2) + "\n")


def _load(nets: Mapping[str, S2licNet], folder: Path, weights_id: str) -> dict[str, Any]:
    """Fills the nets, and returns what is known of them. UsageError if they were trained on other transforms."""
    from safetensors.torch import load_file

    about = json.loads((folder / "about.json").read_text())
    if about["weights"] != weights_id:
        raise UsageError(f"{folder} was trained on the transforms {about['weights']}; name them with --weights")
    for name, net in nets.items():
        state = load_file(_tensors_of(folder, name))
        net.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
    return about


def _compared(
    shared: S2licNet, nets: Mapping[str, S2licNet], pictures: Sequence[Tensor], say: Callable[[str], object]
) -> dict[str, Any]:
    """Curve, parameters and BD-rate (per cent, against the hyperprior alone) of each entropy model."""
    rows: dict[str, Any] = {}
    for name, net in nets.items():
        points = curve(shared, net, pictures)
        rows[name] = {"parameters": sum(p.numel() for p in entropy_parameters(net)), "points": points}
        say(f"{name}: {points}")
    anchor = [(point["bpp"], point["psnr"]) for point in rows["hyperprior"]["points"]]
    for row in rows.values():
        delta = bd_delta(anchor, [(point["bpp"], point["psnr"]) for point in row["points"]])
        row["bd_rate"] = None if delta.rate is None else round(delta.rate, 2)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--load", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)

    def say(words: str) -> None:
        sys.stderr.write(words + "\n")

    results = run(
        arguments.training,
        arguments.test,
        arguments.steps,
        arguments.batch,
        arguments.crop,
        arguments.weights,
        arguments.device,
        arguments.save,
        arguments.load,
        say,
    )
    if arguments.out is None or arguments.test is None:
        return 0
    training = f"--steps {results['steps']} --batch {results['batch']} --crop {results['crop']}"
    folders = f"{arguments.training.name} --test {arguments.test.name}"
    command = f"python -P -m codec.eval.studies.s2lic_context {folders} {training}"
    results = {"command": f"{command} --out {arguments.out}", **results}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_file(arguments.out, json.dumps(results, indent=2) + "\n")
    for name, row in results["variants"].items():
        say(f"{name:<16} {row['parameters'] / 1e6:.2f} M parameters, BD-rate {row['bd_rate']:+.2f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
