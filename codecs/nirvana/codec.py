"""NIRVANA: a video as networks, one for each group of frames, each started from the one before.

Maiya, Girish, Ehrlich, Wang, Lee, Poirson, Wu, Wang, Shrivastava, CVPR 2023, arXiv 2212.14593. Presets: `paper` is the
paper's network and recipe (paper/network.py, paper/fit.py); `grid`, the default, codes latents on grids with tiny
networks in the same frame (grid/preset.py). Differs: docs of those; key groups, scene cuts, sound and times are ours
(codecs/base/video/stream.py). A preset is one line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import ClassVar

from ...errors import torch_may_be_missing
from ..base.settings import Setting
from ..base.video.codec import VideoCodec
from ..base.video.groups import Preset
from . import CARD

__all__ = ["PRESETS", "NirvanaCodec"]

PRESETS: Mapping[str, str] = MappingProxyType(
    {
        "grid": "grid.preset:GridPreset",
        "paper": "paper.fit:NirvanaPreset",
    }
)


class NirvanaCodec(VideoCodec):
    """The codec NIRVANA. `Codec.load("nirvana@paper")` names a preset."""

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    selection: ClassVar[tuple[Setting, ...]] = CARD.selection
    stream: ClassVar[int] = 1
    default_preset: ClassVar[str] = "grid"
    sweep: ClassVar[tuple[float, ...]] = (20, 40, 60, 80)

    @classmethod
    def presets(cls, device: str = "cpu") -> Mapping[str, Callable[[], Preset]]:
        return {name: partial(_make, target, device) for name, target in PRESETS.items()}


def _make(target: str, device: str) -> Preset:
    module, _, name = target.partition(":")
    with torch_may_be_missing(f"the preset {module.partition('.')[0]} of nirvana"):
        kind: type[Preset] = getattr(importlib.import_module(f".{module}", __package__), name)
    return kind(device=device)
