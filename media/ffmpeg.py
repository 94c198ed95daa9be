"""FFmpeg's libraries by PyAV, of any version that pyproject.toml admits: what they name in other ways, in one place."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av.container import InputContainer

__all__ = ["errors", "open_input", "ratio"]


class _Rational(Protocol):
    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


def open_input(
    source: str | BinaryIO,
    format: str | None = None,
    options: Mapping[str, str] | None = None,
    buffer_size: int = 1 << 15,
) -> InputContainer:
    """An open file, whose texts may be in any encoding: what isn't UTF-8 in them is replaced.

    format: FFmpeg's name of the container, None to guess. Raises one of `errors()`.
    """
    import av
    from av.container import InputContainer

    words: dict[str, Any] = {}
    if hasattr(InputContainer, "metadata_errors"):  # gone since PyAV 19, which replaces by itself
        words["metadata_errors"] = "replace"
    return av.open(source, "r", format=format, options=dict(options or {}), buffer_size=buffer_size, **words)


def errors() -> tuple[type[Exception], ...]:
    """The exceptions of PyAV on what it is given: anything else is a mistake of ours, and not damage."""
    import av.error

    return (av.error.FFmpegError, OSError, EOFError, UnicodeError)


def ratio(value: _Rational | None) -> Fraction | None:
    """A rational number of PyAV's, which are fractions.Fraction in some versions and a type of its own in others."""
    return None if value is None or value.denominator == 0 else Fraction(value.numerator, value.denominator)
