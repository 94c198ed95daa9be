"""The extractors that losses compare features of, found by their names."""

from __future__ import annotations

from ...codecs.layers.extractors import (
    EXTRACTORS,
    HED_FILE,
    EfficientNetLite0,
    Extractor,
    HedVgg,
    folders_of_package,
)
from ...errors import UsageError
from ...files import find_model

__all__ = ["EXTRACTORS", "HED_FILE", "EfficientNetLite0", "Extractor", "HedVgg", "load_extractor"]


def load_extractor(name: str) -> Extractor:
    """Loads an extractor by its name. UsageError if there is none such, or its file isn't here."""
    if name not in EXTRACTORS:
        raise UsageError(f"no features {name!r:.80}: there are {', '.join(EXTRACTORS)}")
    kind, file, place = EXTRACTORS[name]
    path = find_model(file, *folders_of_package(*place))
    if path is None:
        raise UsageError(
            f"the features {name!r} need {file}: `make models` fetches it into data/models, or name its folder by "
            "CODEC_MODELS; or train without (`perceptual: none` in the recipe)"
        )
    return kind.load(path).frozen()
