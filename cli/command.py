"""One command line, from its words to its exit code.

argparse, since `codec --help` and `codec list` must answer at once, under 0.1 s of processor time. argparse takes 2 ms
of it; importing typer would add 33 ms and rich 22 (python -X importtime, one core of 2 GHz or so). A verb's module is
imported when the verb is called, and everything heavy (NumPy, torch, rich) by the function that needs it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from .. import __version__
from ..errors import CodecError, MediaError, UsageError
from ..files import cpu_count
from . import verbs
from .parser import build_parser
from .terminal import say

__all__ = ["main"]

ENDING = ("SIGTERM", "SIGHUP", "SIGQUIT")  # signals that end us as Ctrl-C does


class Ended(KeyboardInterrupt):
    """A signal that ends the command: temporary files are removed, workers are ended. number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, by default the process's own; returns its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    verb = next((word for word in words if word in verbs.VERBS), "")
    name = f"codec {verb}".rstrip()
    try:
        with _quiet("--debug" in words), _ended_by_signals():
            _set_threads()
            code = _run(words)
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except BrokenPipeError:
        # Whoever read our stdout has gone. Python would complain again when it flushes at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1 if sys.stdout is None else sys.stdout.fileno())
        return MediaError.exit_code
    except KeyboardInterrupt as error:
        hint = getattr(verbs.load(verb), "INTERRUPTED", "") if verb else ""
        say(sys.stderr, f"{name}: interrupted{hint and f'; {hint}'}")
        return 128 + (error.number if isinstance(error, Ended) else signal.SIGINT)  # as a shell counts it
    except Exception as error:
        if "--debug" in words:
            raise
        say(sys.stderr, f"{name}: {_words_of(error)}")
        return error.exit_code if isinstance(error, CodecError) else MediaError.exit_code


def _words_of(error: Exception) -> str:
    """One line for people about an error."""
    if isinstance(error, (CodecError, OSError)):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory"
    shown = " ".join(str(error).split())
    shown = shown if len(shown) <= 300 else shown[:297] + "..."
    return f"a mistake of ours, please report it (--debug shows where it is): {type(error).__name__}: {shown}"


def _run(words: Sequence[str]) -> int:
    parser = build_parser()
    args = parser.parse_args(words)
    if args.version:
        print(__version__)
        return 0
    if args.verb is None:
        parser.print_help(sys.stderr)
        return UsageError.exit_code
    return verbs.load(args.verb).run(args)


def _set_threads() -> None:
    """Settings of libraries that read them once, when they are imported: here and in all workers."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait would take whole cores from the others
    with contextlib.suppress(AttributeError, OSError):
        if cpu_count() < len(os.sched_getaffinity(0)):  # a container's share, which OpenMP doesn't see
            os.environ.setdefault("OMP_NUM_THREADS", str(cpu_count()))


@contextlib.contextmanager
def _quiet(shows_all: bool) -> Iterator[None]:
    """Warnings of libraries aren't for the users of a command: what is lost of their data, our own notes say."""
    if shows_all or sys.warnoptions:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """The signals of ENDING end us like Ctrl-C does, unless whoever started us told us to ignore them (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise Ended(number)

    before = {}
    for name in ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
