"""One command line, from its words to its exit code.

argparse, since `codec --help` and `codec list` must answer at once, under 0.1 s of processor time. argparse takes 2 ms
of it; importing typer would add 33 ms and rich 22 (python -X importtime, one core of 2 GHz or so). A verb's module is
imported when the verb is called, and everything heavy (NumPy, torch, rich) by the function that needs it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from .. import __version__
from ..errors import CodecError, MediaError, UsageError
from . import verbs
from .parser import build_parser
from .terminal import say

__all__ = ["main"]

INTERRUPTED = 130  # as a shell counts it: 128 and the number of SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, by default the process's own; returns its exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.version:
        print(__version__)
        return 0
    if args.verb is None:
        parser.print_help(sys.stderr)
        return UsageError.exit_code
    try:
        return _run(args)
    except BrokenPipeError:
        # Whoever read our stdout has gone. Python would complain again when it flushes at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MediaError.exit_code
    except (CodecError, OSError) as error:
        if args.debug:
            raise
        say(sys.stderr, f"codec {args.verb}: {error}")
        return error.exit_code if isinstance(error, CodecError) else MediaError.exit_code
    except KeyboardInterrupt:
        hint = getattr(verbs.load(args.verb), "INTERRUPTED", "")
        say(sys.stderr, f"codec {args.verb}: interrupted{hint and f'; {hint}'}")
        return INTERRUPTED


def _run(args: argparse.Namespace) -> int:
    with _ended_by_sigterm():
        code = verbs.load(args.verb).run(args)
        sys.stdout.flush()
        return code


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends us like Ctrl-C does: temporary files are removed, workers are ended."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
