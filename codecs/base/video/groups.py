"""Groups of frames and the presets that code them: the seam between the stream of a video and the networks.

A video is cut into groups of consecutive frames. A preset turns a group into bytes and back; a group may lean on the
state that the one before it left behind, unless it is a key group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ....media.video.values import Pixels, Planes

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

__all__ = [
    "LOSSLESS_PSNR",
    "Checkpoint",
    "FitProgress",
    "FitSettings",
    "Fitted",
    "Group",
    "GroupShape",
    "Pixels",
    "Planes",
    "Preset",
]

LOSSLESS_PSNR = 99.0  # dB, the most that is said of a group: journals and means need a finite number


@dataclass(frozen=True)
class GroupShape:
    """The size of a group, known before it is decoded. width, height: of a frame, in samples of luma."""

    n_frames: int
    pixels: Pixels
    width: int
    height: int


@dataclass(frozen=True)
class Group:
    """Consecutive frames of one scene, planes of uint8. width, height: of a frame, in samples of luma."""

    frames: Sequence[Planes]
    pixels: Pixels
    width: int
    height: int

    @property
    def shape(self) -> GroupShape:
        return GroupShape(len(self.frames), self.pixels, self.width, self.height)


@dataclass(frozen=True)
class FitSettings:
    """The settings of a group's fit.

    effort: optimiser steps, as a multiple of the preset's own number. quality: 1 to 100. psnr: a target in decibels,
    over all samples of the group, at which its fit ends; None: there is none. seed: of all random numbers.
    """

    effort: float = 1.0
    quality: float = 50.0
    psnr: float | None = None
    seed: int = 1


@dataclass(frozen=True)
class FitProgress:
    """The progress of a group's fit: `step` of `steps`, its size in bits and its PSNR in decibels as estimated."""

    step: int
    steps: int
    bits: float
    psnr: float


@dataclass(frozen=True)
class Fitted:
    """A group that is fitted.

    payload: all that is sent. state: what the next group may lean on, equal to what `decode` arrives at. frames: what
    `decode` gives. stats: iterations, seconds, psnr (in decibels), bits, and bits of each part of the payload.
    """

    payload: bytes
    state: Any
    frames: Sequence[Planes]
    stats: Mapping[str, float] = field(default_factory=dict)


class Checkpoint(Protocol):
    """The place where a fit that may be interrupted keeps its tensors. It gives back only those of the same fit."""

    def load(self) -> Mapping[str, Tensor] | None:
        """The tensors that were kept last; None if there are none."""
        ...

    def due(self) -> bool:
        """Whether it is time to keep the tensors again."""
        ...

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Keeps these tensors in place of those before."""
        ...


@dataclass(frozen=True, kw_only=True)
class Preset(ABC):
    """Both directions of one kind of network: a group of frames to bytes, and back.

    Everything that `decode` computes is exact: the same frames and state on any machine.

    name: how files and users call it. default_effort: the effort of an encoding that names none, as a multiple of the
    preset's own number of optimiser steps. needs_effort: whether effort 0, without a single step, gives nothing of use.
    device: the torch device to compute on. group_frames: frames of a group, unless the settings say otherwise.
    key_every: groups from one key group to the next within a scene, unless the settings say otherwise.
    """

    name: ClassVar[str]
    default_effort: ClassVar[float] = 1.0
    needs_effort: ClassVar[bool] = False

    device: str = "cpu"
    group_frames: int = 8
    key_every: int = 8

    @property
    def most_frames(self) -> int | None:
        """The largest number of frames that a group can have; None: as many as the stream allows."""
        return None

    def fingerprint(self) -> str:
        """Text that tells this preset from others of its name that would write other bytes.

        An interrupted encoding goes on only where the text is the same.
        """
        return ""

    def on(self, device: str) -> Self:
        """The same preset on another torch device. One that computes on the processor alone stays what it is."""
        return self if device == self.device else replace(self, device=device)

    @abstractmethod
    def fit(
        self,
        group: Group,
        previous: Any | None,
        settings: FitSettings,
        report: Callable[[FitProgress], None] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Fitted:
        """Fits a network to a group and codes it.

        previous: the state that the group before left behind; None for a key group. report: called now and then.
        checkpoint: where a long fit keeps what it has, and goes on from; a short one needn't look at it.
        """

    @abstractmethod
    def decode(self, payload: bytes, previous: Any | None, shape: GroupShape) -> tuple[list[Planes], Any]:
        """The frames of a group, and the state that it leaves behind, from the payload that `fit` made.

        StreamError if the payload isn't one of this preset, or `previous` isn't the state that it leans on.
        """
