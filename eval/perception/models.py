"""Models that tasks ask: those of a hub, from a local cache only, and those that come in packages.

Nothing is fetched. A model of a hub is used if it is in the cache of transformers already, or lies in a folder that is
named; else the message says how to get it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codecs.layers.extractors import (
    EXTRACTORS,
    Classifier,
    EdgeDetector,
    EfficientNetLite0,
    HedVgg,
    folders_of_package,
)
from ...errors import UsageError
from ...files import find_model

__all__ = ["edge_detector", "hub_pipeline", "offline_classifier"]


def hub_pipeline(kind: str, model: str) -> Callable[..., Any]:
    """A pipeline of transformers for a model that is in the local cache, or in a folder. UsageError if it isn't."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported: nothing of it asks a server
    try:
        from transformers import pipeline  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError(f"{model} needs transformers: pip install transformers, and fetch the model once") from None
    try:
        return pipeline(kind, model=model, model_kwargs={"local_files_only": True})
    except (OSError, ValueError, ImportError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{model} isn't in the local cache, nor a folder with it ({first[:120]})") from None


@functools.lru_cache(maxsize=1)
def _lite() -> Classifier:
    net = Classifier.load(_file(EfficientNetLite0.name))
    assert isinstance(net, Classifier)
    return net.eval()


@functools.lru_cache(maxsize=1)
def _hed() -> EdgeDetector:
    net = EdgeDetector.load(_file(HedVgg.name))
    assert isinstance(net, EdgeDetector)
    return net.eval()


def _file(name: str) -> Path:
    _, file, place = EXTRACTORS[name]
    path = find_model(file, *folders_of_package(*place))
    if path is None:
        raise UsageError(f"{name} needs {file}: `make models` fetches it, or name its folder by CODEC_MODELS")
    return path


def offline_classifier() -> Callable[[NDArray[np.uint8]], int]:
    """EfficientNet-Lite0: a picture (224, 224, 3) uint8 to one of ImageNet's 1000 classes."""
    import torch

    net = _lite()

    def predict(pixels: NDArray[np.uint8]) -> int:
        x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return int(net.logits(x).argmax())

    return predict


def edge_detector() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """HED: a picture (H, W, 3) uint8 to the probability of an edge at each pixel, (H, W)."""
    import torch

    net = _hed()

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return net.edges(x)[0].numpy()

    return predict
