"""Everything that the command shows: lines, tables and the progress bar. Data on stdout, words on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = ["Progress", "escaped", "line", "printable", "progress", "say", "table"]

_TITLE_CHARACTERS = 40  # of a bar
_STATE_CHARACTERS = 72
_CHARACTERS, _ENTRIES = 400, 64  # shown of a value, and of several by name


def say(stream: TextIO, words: str) -> None:
    print(printable(words, stream), file=stream)


def printable(words: str, stream: TextIO) -> str:
    """The words with everything escaped that a terminal would obey or can't show; line ends stay.

    A file name or a file's metadata may hold anything.
    """
    safe = "\n".join(map(escaped, words.split("\n")))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def escaped(text: str) -> str:
    """The text with control characters, line ends and lone surrogates as \\x1b, \\n, \\udcff."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


# ---- reports of single inputs


def line(report: Mapping[str, Any], words: Sequence[str] = ()) -> str:
    """The report of one input for people: one line, and one more for each of its notes.

    words: what the line says between the size of the output and the time it took.
    """
    source, target = report["input"], report.get("output")
    if report["status"] == "failed":
        return f"{escaped(source)}: {report['error']}"
    head = escaped(source if target is None else f"{source} -> {target}")
    if report["status"] == "skipped":
        return f"{head}: exists, skipped"
    size = [f"{report['bytes_out']} bytes"] if "bytes_out" in report else []
    facts = ", ".join([*size, *words, f"{report['seconds']:.2f} s"])
    notes = [f"\n  {escaped(note)}" for note in report.get("notes", ())]
    return f"{head}: {facts}" + "".join(notes)


def table(report: Mapping[str, Any]) -> str:
    """A report as a name and a value a line, below its input."""
    rows = [f"  {key:<11} {_cell(key, value)}" for key, value in report.items() if key not in ("input", "status")]
    return "\n".join([escaped(report["input"]), *rows])


def _cell(key: str, value: Any) -> str:
    if isinstance(value, float):
        value = f"{value:.4g}"
    elif isinstance(value, dict):
        parts = [f"{k}={_short(v)}" for k, v in islice(value.items(), _ENTRIES)]
        more = [f"... ({len(value)} in all)"] if len(value) > _ENTRIES else []
        value = ", ".join([*parts, *more]) or "-"
    elif key == "chunks":
        shown = [f"{tag} {size}" for tag, size in value[:8]]
        value = ", ".join(shown) + (f", ... ({len(value)} in all)" if len(value) > 8 else "")
    elif isinstance(value, list):
        value = " x ".join(str(item) for item in value)
    return escaped(str(value)) or "-"


def _short(value: Any) -> str:
    """A value of a report in so many characters: --json has all of it."""
    text = str(value[: _CHARACTERS + 1] if isinstance(value, (list, str)) else value)
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}... (--json shows all)"


# ---- progress


class Progress:
    """Lines about work that goes on, and how far it is. This one has no bar: `progress` gives the one to use."""

    def say(self, words: str) -> None:
        """Show a line that stays, above the bar if there is one."""
        say(sys.stderr, words)

    def update(self, done: float, total: float | None, state: str = "") -> None:
        """Show that `done` of `total` (None: nobody knows of how many) are done, and a few words on what is."""


class _Bar(Progress):
    def __init__(self, bar: RichProgress, title: str, total: float | None, stream: TextIO) -> None:
        self._bar, self._stream = bar, stream
        self._task = bar.add_task(printable(title, stream)[:_TITLE_CHARACTERS], total=total, state="")

    def say(self, words: str) -> None:
        self._bar.console.print(printable(words, self._stream), soft_wrap=True)

    def update(self, done: float, total: float | None, state: str = "") -> None:
        state = printable(state, self._stream)[:_STATE_CHARACTERS]
        self._bar.update(self._task, completed=done, total=total, state=state)


@contextlib.contextmanager
def progress(title: str, *, wanted: bool = True, total: float | None = None, counts: bool = True) -> Iterator[Progress]:
    """The progress of some work: with a bar on stderr if one is wanted and stderr is a terminal, else lines only.

    counts: whether the bar says "3/8" and the time that is left by its own estimate; if not, the words of each update
    say what there is to say.
    """
    if not wanted or not sys.stderr.isatty():
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn()]
    if counts:
        columns += [MofNCompleteColumn(), TimeRemainingColumn()]
    columns.append(TextColumn("{task.fields[state]}", markup=False))
    console = Console(stderr=True, highlight=False, markup=False)
    stream = sys.stderr  # the terminal itself: while the bar is there, sys.stderr is rich's, which hides its encoding
    # rich would send our stdout to the terminal, too, when that is a file
    with RichProgress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        yield _Bar(bar, title, total, stream)
