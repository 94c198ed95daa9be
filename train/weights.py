"""Weights files that a training run writes: safetensors and a manifest, as `codecs/weights.py` reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

__all__ = ["write_weights"]


def write_weights(
    folder: Path,
    codec: str,
    title: str,
    tag: str,
    data: bytes,
    net: nn.Module | int,
    default: bool,
    about: Mapping[str, Any],
) -> Path:
    """Writes CODEC-TAG.safetensors and its manifest CODEC-TAG.json. Copy both to `weights/` to ship them.

    title: the codec's name in words; data: the safetensors file; net: whose parameters are counted, or their
    number; default: whether
    these weights are taken if no tag is asked for; about: what only the caller knows (recipe, data, licence, ...).
    """
    target = folder / f"{codec}-{tag}.safetensors"
    target.write_bytes(data)
    manifest = {
        "name": f"{title} {tag}",
        "codec": codec,
        "tag": tag,
        "file": target.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "parameters": net if isinstance(net, int) else sum(p.numel() for p in net.parameters()),
        "default": default,
        **about,
    }
    target.with_suffix(".json").write_text(json.dumps(manifest, indent=2) + "\n")
    return target
