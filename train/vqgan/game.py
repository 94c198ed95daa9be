"""The adversarial game of VQGAN's tasks: steps of discriminators, and a loss that isn't a number ends the run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import UsageError
from ..task import Loss
from .discriminator import FeatureDiscriminator, PatchDiscriminator
from .losses import critic_loss, gradient_penalty

__all__ = ["check_finite", "critic_step", "feature_critic_step"]

PENALTY_EVERY = 16  # steps


def check_finite(loss: Loss, step: int) -> None:
    """Raises UsageError if a loss isn't a number, before it gets into the weights."""
    if not bool(torch.isfinite(loss.total.detach())):
        known = ", ".join(f"{name} {float(value):.4g}" for name, value in loss.metrics.items())
        raise UsageError(
            f"step {step}: the loss isn't a number ({known}): take a lower `lr`, `critic_lr` or "
            "`adversarial`, or `bf16: false`, and go on with --resume"
        )


def critic_step(
    critic: PatchDiscriminator,
    real: Tensor,
    fake: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    bf16: bool,
    penalty: float = 0.0,
) -> dict[str, Tensor]:
    """Takes a step of the discriminator: real pictures (B, 3, H, W) in [0, 1] against what the network makes.

    penalty: weight of R1, which is taken every 16th step, 16 times as strongly. Returns what the log is to have.
    """
    loss = critic_loss(critic.judge(real, bf16)[0], critic.judge(fake, bf16)[0])
    metrics = {"critic": loss.detach()}
    if penalty and step % PENALTY_EVERY == 0:
        x = real.detach().requires_grad_(True)
        loss = loss + PENALTY_EVERY * penalty / 2 * gradient_penalty(critic.judge(x)[0], x)
    check_finite(Loss(loss, metrics), step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return metrics


def feature_critic_step(
    critic: FeatureDiscriminator,
    real: Sequence[Tensor],
    fake: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    bf16: bool,
) -> dict[str, Tensor]:
    """Takes a step of the discriminator of features (B, C, h, w) of real pictures against those of made ones.

    Returns what the log is to have.
    """
    pairs = zip(critic.judge(real, bf16), critic.judge(fake, bf16), strict=True)
    loss = torch.stack([critic_loss(a, b) for a, b in pairs]).mean()
    metrics = {"feature_critic": loss.detach()}
    check_finite(Loss(loss, metrics), step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return metrics
