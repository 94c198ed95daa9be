"""Every error this package raises on purpose: one tree, so that callers catch `CodecError` and nothing else.

`exit_code` is what the command line returns for it. A message says what was wrong, what was expected and what to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

__all__ = [
    "CodecError",
    "ContainerError",
    "LimitError",
    "MediaError",
    "StreamError",
    "UsageError",
    "WeightsError",
    "torch_may_be_missing",
]


class CodecError(Exception):
    """Base of all errors of this package."""

    exit_code: ClassVar[int] = 1


class MediaError(CodecError):
    """An input (picture, sound, ...) can't be read, or is of a kind that isn't supported."""

    exit_code = 1


class UsageError(CodecError):
    """A call or a command line that can't be right: unknown codec, quality out of range, wrong type."""

    exit_code = 2


class LimitError(CodecError):
    """A file that would decode to more than a limit allows: `codecs/base/limits.py`, or the options --max-...

    It isn't damaged, and the command isn't wrong: of several inputs, this one isn't decoded. name: of the limit.
    needed: what decoding takes.
    """

    exit_code = 1

    def __init__(self, words: str, name: str = "", needed: int = 0) -> None:
        super().__init__(words, name, needed)  # all of them, so that it can be pickled
        self.name, self.needed = name, needed

    def __str__(self) -> str:
        return str(self.args[0])


class ContainerError(CodecError):
    """A file whose structure is damaged, hostile, or newer than this reader."""

    exit_code = 3


class StreamError(ContainerError):
    """A file whose structure is fine but whose coded payload can't be decoded."""

    exit_code = 3


class WeightsError(CodecError):
    """The weights that are needed are missing, damaged, or not the ones a file was made with."""

    exit_code = 4


@contextlib.contextmanager
def torch_may_be_missing(what: str = "this") -> Iterator[None]:
    """Turns the failed import of PyTorch, which the base install hasn't got, into a UsageError that names the cure."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise UsageError(f"{what} needs PyTorch, which isn't installed: pip install 'codec-suite[torch]'") from error
