"""The contract of measuring: the types that baselines, our codecs, metrics and reports share.

A peer is anything that turns a value into the bytes of a whole file and such bytes back into a value: a classical codec
behind a library, or one of ours. Values are plain: the kinds below, one for each medium.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEDIA", "Audio", "Family", "Medium", "Metric", "Option", "OptionValue", "Peer", "Value", "Video"]

Medium = Literal["image", "audio", "video", "array"]
MEDIA: tuple[Medium, ...] = ("image", "audio", "video", "array")
OptionValue = int | float | str  # of one Option, in a codec string


@dataclass(frozen=True, eq=False)
class Audio:
    """A sound that is measured, all of it in memory.

    samples: (C, N) float32, full scale is [-1, 1]; rate: samples a second.
    """

    samples: NDArray[np.float32]
    rate: int


@dataclass(frozen=True, eq=False)
class Video:
    """A video that is measured, all of it in memory.

    This is another thing than the media layer's `VideoInfo` with its frames, a stream of planes in the file's own
    format, each with its time: two videos are compared frame by frame, as RGB at one rate. `video_frames.frames_of`
    and `stack` lead from one to the other.
    frames: (T, H, W, 3) uint8, RGB; fps: frames a second.
    """

    frames: NDArray[np.uint8]
    fps: Fraction


# image: (H, W, 3) uint8 RGB. array: any shape of 1 to 4 axes, float32, float64 or an integer type.
Value = NDArray[Any] | Audio | Video


class Peer(Protocol):
    """A codec with its settings fixed, ready to use."""

    def encode(self, value: Any) -> bytes:
        """The bytes of a whole file: everything that `decode` needs but the peer's own settings is inside.

        A stream that doesn't carry its shape or type gets a header of ours in front, which counts.
        """
        ...

    def decode(self, data: bytes) -> Any:
        """A value of the same kind and shape, in memory: no lazy handle whose work is done later."""
        ...


@dataclass(frozen=True)
class Option:
    """A setting that a family takes in a codec string. Numbers lie in [low, high]; words are among choices. about: a
    line for the help."""

    default: OptionValue
    about: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """A codec before its settings are chosen.

    name: as written in a codec string. axis: the option that moves along a rate-distortion curve, None if there is one
    point only; sweep: its values if the codec string names none. A choice of an option may be written alone
    ("jpeg:444" for "jpeg:chroma=444").
    make: a peer from a value for every option and the number of threads that it may use. UsageError if they don't go
    together.
    missing: None, or why it can't run here and what to install, as one line.
    versions: libraries that did the work, with their versions, for the results.
    """

    name: str
    medium: Medium
    about: str
    options: Mapping[str, Option]
    make: Callable[[Mapping[str, OptionValue], int], Peer]
    axis: str | None = None
    sweep: tuple[OptionValue, ...] = ()
    lossless: bool = False
    missing: Callable[[], str | None] = lambda: None
    versions: Callable[[], Mapping[str, str]] = dict


@dataclass(frozen=True)
class Metric:
    """A distance or likeness of two values of one medium.

    measure(original, decoded): a number; infinity for a perfect PSNR or SNR, NaN where it isn't defined (and why is
    said in `about`). better: which way is better. slow: whether it takes about as long as the value lasts, or longer.
    """

    name: str
    medium: Medium
    unit: str
    better: Literal["higher", "lower"]
    about: str
    measure: Callable[[Any, Any], float]
    missing: Callable[[], str | None] = lambda: None
    versions: Callable[[], Mapping[str, str]] = field(default=dict)
    slow: bool = False
