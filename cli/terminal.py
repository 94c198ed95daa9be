"""Everything that the command shows: lines, tables and the progress bar. Data on stdout, words on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = ["Progress", "duration", "escaped", "json_line", "line", "printable", "progress", "say", "table"]

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


def json_line(report: Mapping[str, Any]) -> str:
    """A report as JSON, which has no word for infinity and NaN: they are null."""
    return json.dumps(_finite(report))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- reports of single inputs


def line(report: Mapping[str, Any], words: Sequence[str] = (), notes: Sequence[str] = ()) -> str:
    """The report of one input for people: one line, and one more for each of its notes that are to be shown.

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
    below = [f"{name}: {what}" for name, what in report.get("parts", {}).items()]  # of a dry run
    return f"{head}: {facts}" + "".join(f"\n  {escaped(line)}" for line in (*below, *notes))


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
    elif key == "notes":
        return "".join(f"\n    {escaped(str(note))}" for note in value)
    elif isinstance(value, list):
        value = " x ".join(str(item) for item in value)
    return escaped(str(value)) or "-"


def _short(value: Any) -> str:
    """A value of a report in so many characters: --json has all of it."""
    text = str(value[: _CHARACTERS + 1] if isinstance(value, (list, str)) else value)
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}... (--json shows all)"


# ---- progress

_FIRST_SECONDS, _NEXT_SECONDS = 10.0, 30.0  # of work before a line says how far it is, where there is no bar


class Now(Protocol):
    """The state of some work. fraction: 0 to 1, None while it isn't known. words: one line for people."""

    @property
    def fraction(self) -> float | None: ...
    @property
    def words(self) -> str: ...


class Progress:
    """Lines about work that goes on, and how far it is. This one shows no progress: `progress` gives the one to use."""

    def say(self, words: str) -> None:
        """Show a line that stays, above the bar if there is one."""
        say(sys.stderr, words)

    def update(self, done: float, total: float | None, state: str = "") -> None:
        """Show that `done` of `total` (None: nobody knows of how many) are done, and a few words on what is."""

    def part(self, state: str) -> None:
        """Show a few words on the item that is going on."""

    def report(self, now: Now) -> None:
        """Show how far the one item is: what codecs call."""
        self.update(now.fraction or 0.0, None if now.fraction is None else 1, now.words)


class _Bar(Progress):
    def __init__(self, bar: RichProgress, title: str, total: float | None, stream: TextIO) -> None:
        self._bar, self._stream, self._started = bar, stream, time.monotonic()
        self._task = bar.add_task(printable(title, stream)[:_TITLE_CHARACTERS], total=total, state="")

    def say(self, words: str) -> None:
        self._bar.console.print(printable(words, self._stream), soft_wrap=True)

    def update(self, done: float, total: float | None, state: str = "") -> None:
        self._bar.update(self._task, completed=done, total=total, state=self._shown(state))

    def part(self, state: str) -> None:
        self._bar.update(self._task, state=self._shown(state))

    def report(self, now: Now) -> None:
        seconds = time.monotonic() - self._started
        left = "" if "left" in now.words else _left(now.fraction, seconds)
        self.update(
            now.fraction or 0.0, None if now.fraction is None else 1, ", ".join(filter(None, (now.words, left)))
        )

    def _shown(self, state: str) -> str:
        return printable(state, self._stream)[:_STATE_CHARACTERS]


class _Part(Progress):
    """The progress of one item below that of all: its words are the state of the bar."""

    def __init__(self, whole: Progress) -> None:
        self._whole = whole

    def say(self, words: str) -> None:
        self._whole.say(words)

    def update(self, done: float, total: float | None, state: str = "") -> None:
        self._whole.part(state)


class _Lines(Progress):
    """A line now and then, for logs and pipes, from a thread: also of work that tells nothing about itself."""

    def __init__(self, title: str) -> None:
        self._title, self._started = title, time.monotonic()
        self._fraction: float | None = None
        self._state = ""
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="lines of progress", daemon=True).start()

    def update(self, done: float, total: float | None, state: str = "") -> None:
        self._fraction, self._state = (done / total if total else None), state

    def end(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        pause = _FIRST_SECONDS
        while not self._ended.wait(pause):
            say(sys.stderr, f"{self._title}: {self.line(time.monotonic() - self._started)}")
            pause = _NEXT_SECONDS

    def line(self, seconds: float) -> str:
        """How far the work is, and about how long it will take, when so many seconds have passed."""
        percent = "" if self._fraction is None else f"{100 * self._fraction:.0f} %"
        left = "" if "left" in self._state else _left(self._fraction, seconds)
        words = [word for word in (percent, self._state, left) if word]
        return ", ".join(words) or f"{duration(seconds)} so far"


def _left(fraction: float | None, seconds: float) -> str:
    """About how long some work will still take; "" where that can't be said yet."""
    if fraction is None or fraction < 0.02 or seconds < _FIRST_SECONDS / 2:
        return ""
    return f"about {duration(seconds / fraction - seconds)} left"


def duration(seconds: float) -> str:
    """Seconds as "1 h 05 min", "3 min" or "12 s"."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"


_shown: list[Progress] = []  # the bar or the lines that are there now: a second bar would spoil the first


@contextlib.contextmanager
def progress(title: str, *, wanted: bool = True, total: float | None = None, counts: bool = True) -> Iterator[Progress]:
    """The progress of some work: a bar on stderr if one is wanted and stderr is a terminal, else a line now and then.

    counts: whether the bar says "3/8" and the time that is left by its own estimate; if not, the words of each update
    say what there is to say. Inside of another one it is a part of that.
    """
    if not wanted:
        yield Progress()
    elif _shown:
        yield _Part(_shown[-1])
    elif not sys.stderr.isatty():
        if counts:  # each item has a line of its own
            yield Progress()
            return
        lines = _Lines(title)
        try:
            yield lines
        finally:
            lines.end()
    else:
        with _bar(title, total, counts) as bar:
            _shown.append(bar)
            try:
                yield bar
            finally:
                _shown.remove(bar)


@contextlib.contextmanager
def _bar(title: str, total: float | None, counts: bool) -> Iterator[Progress]:
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
