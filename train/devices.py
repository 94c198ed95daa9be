"""Devices to train on: what `--device` may be, which one it stands for, and its name in a manifest."""

from __future__ import annotations

import torch

from ..errors import UsageError

__all__ = ["check_training_device", "device_name", "training_device"]


def check_training_device(device: str) -> None:
    """Raises UsageError unless PyTorch has the device that was asked for. Called before anything is made."""
    if device not in ("auto", "cpu", "cuda", "gpu"):
        raise UsageError(f"--device {device}: there are auto, cpu and cuda")
    if device in ("cuda", "gpu") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: PyTorch sees no GPU here; leave --device out to train on what there is")


def training_device(device: str) -> torch.device:
    """Returns the device that `--device` names: "auto" is a GPU where there is one, "gpu" another word for "cuda"."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device("cuda" if device == "gpu" else device)


def device_name(device: torch.device) -> str:
    """Names what a run trained on, for the manifest: the GPU's name, or the CPU and its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} thread(s)"
