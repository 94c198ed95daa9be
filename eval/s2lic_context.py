"""What each part of S2LIC's entropy model is worth: the small-scale acceptance test of the network.

    python -P -m codec.eval.s2lic_context TRAINING_PICTURES --test KODAK --out eval/results/s2lic_context.json

The same frozen transforms (of the shipped weights, or of --weights), the same crops in the same order and the same
noise; an entropy model trained from its start for each row, the same number of steps:

- hyperprior: mean and scale from z alone, all channels at once;
- channel-wise: slices one after the other, each sees the earlier ones;
- checkerboard: and each slice in two passes, the second of which sees no more than the first, which is what the
  paper's released code does; it has parameters of its own, so this row is also what more parameters are worth;
- anchor context: and the second pass sees the first one around each cell.

Latent residual prediction is off in all of them, so that reconstructions differ only by how means move the rounding.
Bits are estimates, with rounding (files are within half a per cent of them, tests/codecs/test_s2lic.py); PSNR is of the
float network. BD-rates are against the first row.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..codecs import s2lic, weights
from ..codecs.layers.exact_state import import_state
from ..codecs.s2lic_net import LAMBDA, S2licConfig, S2licNet
from ..datasets.images import RandomCrops, find_pictures, load_pictures
from ..errors import UsageError
from .bd import bd_delta

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
    config = s2lic.config_from(about["network"], about["config"])
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
    """What is trained here: everything but the transforms and the gains."""
    parts = (net.hyper_analysis, net.hyper_synthesis, net.slices, net.base, net.z_mean, net.z_level)
    return [parameter for part in parts for parameter in part.parameters()]


def train(
    shared: S2licNet, nets: Mapping[str, S2licNet], crops: RandomCrops, steps: int, say: Any = lambda words: None
) -> dict[str, float]:
    """All entropy models side by side, each on the same latents. Returns seconds a step of each."""
    optimizers = {}
    for name, net in nets.items():
        knots = [*net.base.parameters(), *net.z_mean.parameters(), *net.z_level.parameters()]
        rest = [p for p in entropy_parameters(net) if not any(p is k for k in knots)]
        groups = [{"params": rest, "lr": LEARNING_RATE}, {"params": knots, "lr": 3 * LEARNING_RATE}]
        optimizers[name] = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
    rates = {name: [group["lr"] for group in one.param_groups] for name, one in optimizers.items()}
    seconds = dict.fromkeys(nets, 0.0)
    for step, batch in zip(range(steps), crops, strict=False):
        torch.manual_seed(step)
        t = torch.rand(len(batch))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            y = shared.latents(batch, t).float()
        factor = min(1.0, (step + 1) / 100) * min(1.0, 2 * (1 - step / steps))
        weight = LAMBDA[0] * (LAMBDA[1] / LAMBDA[0]) ** t  # as in training: no rate owns the gradient
        for name, net in nets.items():
            start = time.perf_counter()
            torch.manual_seed(step)
            optimizer = optimizers[name]
            for group, rate in zip(optimizer.param_groups, rates[name], strict=True):
                group["lr"] = rate * factor
            with torch.autocast("cpu", torch.bfloat16):
                _, y_bits, z_bits = net.coded(y, t)
            bpp = (y_bits + z_bits) / (batch.shape[-1] * batch.shape[-2])
            loss = (0.05 * bpp / weight.sqrt()).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(entropy_parameters(net), 1.0)
            optimizer.step()
            seconds[name] += time.perf_counter() - start
            if step % 250 == 249:
                say(f"step {step + 1}: {name}: {float(bpp.detach().mean()):.4f} bpp")
    return {name: total / max(1, steps) for name, total in seconds.items()}


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
            rows.append((float(y_bits + z_bits) / (x.shape[-1] * x.shape[-2]), -10 * math.log10(mse)))
        bpp, psnr = np.mean(rows, 0)
        points.append({"quality": quality, "bpp": round(float(bpp), 5), "psnr": round(float(psnr), 4)})
    return points


def run(
    training: Path, test: Path, steps: int, batch: int = 8, crop: int = 128, path: Path | None = None, say: Any = print
) -> dict[str, Any]:
    """The whole test, as one JSON object."""
    shared, weights_id = transforms(path)
    crops = RandomCrops(load_pictures(find_pictures(training), crop), crop, batch, seed=2)
    pictures = load_pictures(find_pictures(test), shared.config.stride)
    first = next(iter(RandomCrops(crops.pictures, crop, 48, seed=3)))
    nets = {name: beginning(config, shared, first) for name, config in variants(shared.config).items()}
    seconds = train(shared, nets, crops, steps, say)
    rows = {}
    for name, net in nets.items():
        points = curve(shared, net, pictures)
        rows[name] = {
            "parameters": sum(p.numel() for p in entropy_parameters(net)),
            "seconds_per_step": round(seconds[name], 4),
            "points": points,
        }
    anchor = [(point["bpp"], point["psnr"]) for point in rows["hyperprior"]["points"]]
    for row in rows.values():
        delta = bd_delta(anchor, [(point["bpp"], point["psnr"]) for point in row["points"]])
        row["bd_rate"] = None if delta.rate is None else round(delta.rate, 2)
    about = {"weights": weights_id, "steps": steps, "batch": batch, "crop": crop, "pictures": len(pictures)}
    return {**about, "rate": "estimated, with rounding", "variants": rows}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)

    def say(words: str) -> None:
        sys.stderr.write(words + "\n")

    found = run(arguments.training, arguments.test, arguments.steps, arguments.batch, path=arguments.weights, say=say)
    options = f"--steps {arguments.steps} --batch {arguments.batch}"
    names = f"{arguments.training.name} --test {arguments.test.name}"
    found = {"command": f"python -P -m codec.eval.s2lic_context {names} {options} --out {arguments.out}", **found}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    for name, row in found["variants"].items():
        say(f"{name:<16} {row['parameters'] / 1e6:.2f} M parameters, BD-rate {row['bd_rate']:+.2f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
