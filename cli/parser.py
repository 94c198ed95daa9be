"""The parser of the command line, and the options that several verbs share."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any, NoReturn

from . import verbs
from .options import count

__all__ = ["Parser", "add_inputs", "add_jobs", "add_model", "add_outputs", "add_partial", "build_parser"]

EXAMPLES = """\
examples:
  codec encode photo.png                       writes photo.s2lic beside it
  codec decode photo.s2lic -o back.png
  codec encode photos -o small -q 40 --jobs 4  the whole folder; its tree is kept

exit codes: 0 done, 1 some inputs failed, 2 usage, 3 bad stream, 4 weights missing (1 when reasons differ)
"""


_NUMBER = re.compile(r"-\.?\d")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are two lines, and which shows its examples as they are written."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        self._negative_number_matcher = _NUMBER  # -3:2 is a wrong value of --frames, not an option

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n{self.prog} --help shows examples\n")


class TopParser(Parser):
    """The parser of `codec` itself: offers the nearest verb for an unknown one."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice" in message and len(parts := message.split("'")) > 2:
            import difflib  # only where something is wrong: it takes milliseconds

            near = difflib.get_close_matches(parts[1], verbs.VERBS, n=1, cutoff=0.5)
            message = f"no command {parts[1]!r}: " + (f"did you mean {near[0]!r}? " if near else "")
            message += f"There are {', '.join(verbs.VERBS)}"
        super().error(message)


class VerbParser(Parser):
    """The parser of one verb, empty until it is asked to parse: only then is the verb's module imported."""

    def __init__(self, verb: str, **settings: Any) -> None:
        super().__init__(description=verbs.VERBS[verb].summary, add_help=False, **settings)
        self.verb = verb
        self._words: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.epilog is None:
            self._fill()
        self._words = list(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        behind = self._words.index("--") if "--" in self._words else len(self._words)
        for word in self._words[:behind]:
            if word.startswith("-") and len(word) > 1 and os.path.lexists(word):
                message += f" ({word} is a file: write {os.path.join(os.curdir, word)}, or -- before it)"
                break
        super().error(message)

    def _fill(self) -> None:
        module = verbs.load(self.verb)
        self.epilog = module.EXAMPLES
        self.add_argument("-h", "--help", action="help", help="show this help message and exit")
        self.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
        self.add_argument("--quiet", action="store_true", help="no words but errors")
        self.add_argument("--debug", action="store_true", help="show where in the code an error comes from")
        module.add_options(self)


def build_parser() -> Parser:
    """The parser of the whole command line: it gives `version`, `verb`, and the verb's options."""
    parser = TopParser(
        prog="codec",
        description="Neural codecs behind one file format: a file decodes to the same values anywhere.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND", parser_class=VerbParser)
    for verb, entry in verbs.VERBS.items():
        commands.add_parser(verb, help=entry.summary, verb=verb)
    return parser


# ---- options that several verbs share


def add_inputs(parser: argparse.ArgumentParser, folders: str = "folders") -> None:
    """Adds the inputs of a verb that works on many: `inputs`. folders: what the help says about them."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help=f"files, {folders}, quoted globs, or - for stdin")


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Adds the options on where outputs are put and on files that are there: `output`, `force`, `skip_existing`."""
    words = "file, or folder for several inputs, or - for stdout; default: beside each input"
    parser.add_argument("-o", "--output", metavar="OUT", help=words)
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--force", action="store_true", help="replace files that exist")
    existing.add_argument("--skip-existing", action="store_true", help="leave files that exist: resumes a batch")


def add_partial(parser: argparse.ArgumentParser) -> None:
    """Adds the option that accepts inputs of which a part is missing: `partial`."""
    parser.add_argument("--partial", action="store_true", help="an input that is taken in part is no failure")


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Adds the number of worker processes: `jobs`, 0 for one per core."""
    words = "worker processes; 0: one per CPU core; of one input for its parts, where it has any"
    parser.add_argument("--jobs", type=count, default=1, metavar="N", help=words)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the options on the weights and the device of the network: `weights`, `device`."""
    parser.add_argument("--weights", metavar="FILE", help="weights of your own, in place of the shipped ones")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, or auto: a GPU if there is one")
