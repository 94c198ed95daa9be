"""Times of frames: what containers say of them made rising, from 0 on, and lasting until the next one."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from .values import Frame, Planes, VideoInfo

__all__ = ["OrderOfDecoding", "in_time", "seconds_of_duration"]


class OrderOfDecoding:
    """Times of frames of a file that has none of presentation: the packets' times, given to frames as these come out.

    A decoder that reorders frames has taken in as many packets as frames have come out, and their times rise.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def sent(self, stamp: int | None) -> None:
        """A packet is given to the decoder."""
        if stamp is not None:
            heapq.heappush(self._waiting, stamp)

    def skip(self, n: int) -> None:
        """The first `n` packets give no frame."""
        for _ in range(min(n, len(self._waiting))):
            heapq.heappop(self._waiting)

    def next(self) -> int | None:
        """The time of the frame that comes out now."""
        return heapq.heappop(self._waiting) if self._waiting else None


def in_time(
    frames: Iterator[tuple[Planes, int | None, int]],
    info: VideoInfo,
    end: int | None,
    moved: Callable[[], None],
) -> Iterator[Frame]:
    """Frames whose times start at 0, rise, and last until the next one.

    frames: planes, time and duration as the file has them. end: the time at which the last one ends, where it is known.
    moved: called if a time doesn't rise, and is moved.
    """
    nominal = max(1, round(1 / (info.frame_rate * info.time_base))) if info.frame_rate else 1
    held: tuple[Planes, int] | None = None
    origin, given = 0, 0
    for planes, stamp, duration in frames:
        if held is None:
            origin, pts = stamp or 0, 0
        else:
            pts = stamp - origin if stamp is not None else held[1] + (given or nominal)
            if pts <= held[1]:
                moved()
                pts = held[1] + 1
            yield Frame(held[0], held[1], pts - held[1])
        held, given = (planes, pts), duration
    if held is not None:
        last = end - origin - held[1] if end is not None else 0
        yield Frame(held[0], held[1], last if last > 0 else given or nominal)


def seconds_of_duration(text: str) -> Fraction | None:
    """The seconds in what Matroska says of a track's end, as 00:00:01.250000000."""
    match = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d)\.(\d{1,9})\s*\0*", text)
    if not match:
        return None
    hours, minutes, seconds, part = match.groups()
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds) + Fraction(int(part), 10 ** len(part))
