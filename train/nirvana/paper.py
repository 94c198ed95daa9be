"""The paper's experiments with NIRVANA, for people with its clips and a GPU.

    codec train nirvana --recipe uvg --data DIR

There are no weights to train: every video in DIR is encoded, with the recipe's network and steps, by the same functions
as `codec encode`. The run's folder gets the files, and results.json with their rates and PSNRs. Interrupted, --resume
goes on, within a group, too. (What is trained are the networks that preset `grid` starts from: --recipe grid-start,
grid_start.py.)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...codecs.base.video.encode import EncodeProgress, EncodeSettings
from ...codecs.nirvana.codec import NirvanaCodec
from ...codecs.nirvana.paper.fit import NirvanaPreset, Recipe
from ...codecs.nirvana.paper.network import NetConfig
from ...errors import UsageError
from ...files import whole
from ...media import VIDEO_READS
from ..devices import training_device
from ..settings import fill
from . import grid_start

__all__ = ["codec_of", "train"]


def codec_of(settings: Mapping[str, Any], device: str) -> NirvanaCodec:
    """Makes the codec that a recipe describes."""
    config = fill(NetConfig, settings["model"], "model")
    preset = NirvanaPreset(
        config=config, recipe=fill(Recipe, settings["recipe"], "recipe"), device=device, group_frames=config.frames
    )
    codec = NirvanaCodec(preset, fill(EncodeSettings, settings.get("encode", {}), "encode"), device)
    codec.check_settings()
    return codec


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Encodes all videos of a folder by a recipe, from where it stopped if `resume`; writes files and results.json.

    settings: `model` (NetConfig), `recipe` (Recipe), `encode` (EncodeSettings); a model that is `preset: grid` has a
    recipe of its own.
    """
    if settings["model"] == {"preset": "grid"}:
        grid_start.train(settings, data, folder, resume, device, about)
        return
    codec = codec_of(settings, str(training_device(device)))
    videos = (
        [data] if data.is_file() else sorted(path for path in data.rglob("*") if path.suffix.lower() in VIDEO_READS)
    )
    if not videos:
        raise UsageError(f"{data}: no video here; expected {', '.join(VIDEO_READS)} (raw UVG clips: ffmpeg makes Y4M)")
    results = folder / "results.json"
    rows: dict[str, Any] = json.loads(results.read_text())["videos"] if resume and results.exists() else {}
    for video in videos:
        name = str(video.relative_to(data)) if data.is_dir() else video.name
        if name in rows:
            continue
        target = folder / (name + ".nirvana")
        rows[name] = dict(codec.encode_file(video, target, _Say(name), replace=True).about)
        with whole(results, replace=True, path_only=True) as partial:
            partial.write_text(json.dumps({**about, "videos": rows}, indent=1) + "\n")


class _Say:
    """Says a line for each group of frames, on stderr."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, now: EncodeProgress) -> None:
        if not now.step:
            left = "" if now.seconds_left is None else f", {now.seconds_left / 3600:.1f} h left"
            words = f"{self.name}: frame {now.frames:.0f} of {now.total or '?'}{left}"
            print(words, file=sys.stderr, flush=True)  # noqa: T201
