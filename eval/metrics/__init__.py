"""Metrics: one number for a value and what a codec made of it.

Each says its unit, its direction and where it isn't defined. Light to import: libraries are imported, and networks
loaded once a process, when a metric first measures. Nothing that is compared is changed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from ...errors import UsageError
from ..bench.contract import Medium, Metric
from .arrays import ARRAY_METRICS
from .audio import AUDIO_METRICS
from .images import IMAGE_METRICS
from .perceptual import PERCEPTUAL_METRICS
from .video import VIDEO_METRICS

__all__ = ["DEFAULT", "METRICS", "metric", "names"]

_ALL = (*IMAGE_METRICS, *PERCEPTUAL_METRICS, *AUDIO_METRICS, *VIDEO_METRICS, *ARRAY_METRICS)

# A name may be used by several media: psnr-rgb of a picture isn't that of a video.
METRICS: Mapping[tuple[Medium, str], Metric] = MappingProxyType({(item.medium, item.name): item for item in _ALL})

DEFAULT: Mapping[Medium, tuple[str, ...]] = MappingProxyType(
    {
        "image": ("psnr-rgb", "ms-ssim-rgb"),
        "audio": ("snr", "si-sdr", "mel-distance"),
        "video": ("psnr-rgb", "psnr-y"),
        "array": ("relative-l2", "max-error"),
    }
)


def names(medium: Medium) -> tuple[str, ...]:
    """Names of the metrics of a medium, in the order of METRICS."""
    return tuple(name for kind, name in METRICS if kind == medium)


def metric(medium: Medium, name: str) -> Metric:
    """The metric of that name. UsageError with the nearest name if there is none."""
    known = METRICS.get((medium, name))
    if known is not None:
        return known
    near = difflib.get_close_matches(name.lower(), names(medium), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? There are" if near else "there are"
    raise UsageError(f"no metric {name!r} for {medium}: {hint} {', '.join(names(medium))}")
