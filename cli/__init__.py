"""The `codec` command: words in, bytes and exit codes out. One verb, one file.

`verbs` is the table of verbs; `command` runs one. A verb's module has EXAMPLES, `add_options(parser)`, `run(args)` and,
where something is worth saying after Ctrl-C, INTERRUPTED. What verbs share: `parser` and `options` (reading the command
line), `terminal` (everything that is shown), `jobs` (many inputs, many outputs).

This package may import everything; nobody imports it. Its modules are reached relatively (`from .list import run`) and
import what is heavy (NumPy, torch, rich) inside functions, so that `codec --help` answers at once. A submodule that has
been imported is a name in this file: `list` here isn't the built-in.
"""

if "." not in __name__:
    raise ImportError(f"`{__name__}` is here a folder of a codec-suite checkout: use codec.{__name__}, or python -P")

from .command import main

__all__ = ["main"]
