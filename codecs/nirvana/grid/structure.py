"""The structure of a group of the preset `grid`: the coding order of its frames, its header, the state between groups.

A payload is one byte of version, then one ANS stream: parameters of the networks, the length of a mini-GOP (the
distance of anchors), the frames in coding order. Both the encoder and the decoder take it from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....errors import StreamError
from .frame import DecodedPicture
from .networks import Nets, code_nets
from .symbols import Coding, code_number

__all__ = ["MAX_FRAMES", "VERSION", "OrderEntry", "State", "code_start", "coding_order", "last_use"]

VERSION = 1
MAX_FRAMES = 256  # of a mini-GOP


@dataclass(frozen=True)
class State:
    """The state that a group leaves behind for the next: its networks and its last picture."""

    nets: Nets
    picture: DecodedPicture


@dataclass(frozen=True)
class OrderEntry:
    """A frame in coding order. refs: frames it is predicted from; -1 is the last one of the group before."""

    frame: int
    refs: tuple[int, ...]
    depth: int  # 0: key, 1: an anchor, 2 and up: between two others

    @property
    def distances(self) -> tuple[int, ...]:
        """How many frames ago each reference was; negative for those to come."""
        return tuple(self.frame - ref for ref in self.refs)


def coding_order(n_frames: int, linked: bool, mini_gop: int) -> list[OrderEntry]:
    """The coding order of a group of `n_frames`.

    There is an anchor every `mini_gop` frames, each predicted from the one before; then come the frames between them,
    from the middle on. linked: the first anchor leans on the group before.
    """
    order: list[OrderEntry] = []
    previous = -1
    if not linked:
        order.append(OrderEntry(0, (), 0))
        previous = 0

    def between(low: int, high: int, depth: int) -> None:
        if high - low < 2:
            return
        middle = (low + high) // 2
        order.append(OrderEntry(middle, (low, high), depth))
        between(low, middle, depth + 1)
        between(middle, high, depth + 1)

    while previous < n_frames - 1:
        anchor = min(previous + mini_gop, n_frames - 1)
        order.append(OrderEntry(anchor, (previous,), 1))
        between(previous, anchor, 2)
        previous = anchor
    return order


def code_start(io: Coding, old: Nets, new: Nets | None, mini_gop: int | None) -> tuple[Nets, int]:
    """Codes what comes before the frames: the group's networks, as differences to the old ones, and its mini-GOP."""
    nets = code_nets(io, old, new)
    length = code_number(io, mini_gop)
    if not 1 <= length <= MAX_FRAMES:
        raise StreamError("the group is damaged: the distance of its anchors is out of range")
    return nets, length


def last_use(order: list[OrderEntry]) -> dict[int, int]:
    """The place in coding order after which a frame is no reference any more."""
    return {ref: place for place, entry in enumerate(order) for ref in entry.refs}
