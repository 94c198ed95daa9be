"""Files that a training run writes: whole or not at all; and weights with their manifest.

Every file of `train/` that must never lie there half written goes through `files.whole`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import whole

__all__ = ["write_manifest", "write_weights"]


def write_weights(
    folder: Path,
    codec: str,
    title: str,
    tag: str,
    data: bytes,
    parameters: int,
    default: bool,
    about: Mapping[str, Any],
) -> Path:
    """Writes CODEC-TAG.safetensors and its manifest CODEC-TAG.json. Copy both to `weights/` to ship them.

    title: the codec's name in words. data: the safetensors file. parameters: how many numbers were trained. default:
    whether these weights are taken if no tag is asked for. about: what only the caller knows (recipe, data, licence,
    steps, metrics, ...).
    """
    target = folder / f"{codec}-{tag}.safetensors"
    manifest = {
        "name": f"{title} {tag}",
        "codec": codec,
        "tag": tag,
        "file": target.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "parameters": parameters,
        "default": default,
        **about,
    }
    with whole(target, replace=True, path_only=True) as partial:
        partial.write_bytes(data)
    write_manifest(target, manifest)
    return target


def write_manifest(weights: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the JSON file beside a weights file."""
    with whole(weights.with_suffix(".json"), replace=True, path_only=True) as partial:
        partial.write_text(json.dumps(manifest, indent=2) + "\n")
