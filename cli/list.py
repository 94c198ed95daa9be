"""`codec list`: the codecs there are."""

from __future__ import annotations

import argparse
import json

from .. import native, registry

EXAMPLES = """\
examples:
  codec list
  codec list --json
  codec list --json | jq -r .name
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def _engine() -> str:
    """The words for the engine of the exact networks here, and for what would run them faster."""
    engine = native.engine()
    if engine == "native":
        return f"compiled kernels ({native.instruction_set()}, {native.threads()} threads)"
    slow = "NumPy, which is slow" if engine == "numpy" else "PyTorch"
    return f"{slow}: no compiled kernels are in use; a C++ compiler and pip install give them"


def run(args: argparse.Namespace) -> int:
    for name in registry.names():
        entry = registry.entry(name)
        if args.json:
            about = {"name": name, "medium": entry.medium, "suffix": entry.suffix, "summary": entry.summary}
            engine = {"engine": native.engine(), "instruction_set": native.instruction_set()}
            print(json.dumps({**about, "default": registry.default(entry.medium) == name, **engine}))
        else:
            mark = "*" if registry.default(entry.medium) == name else ""
            print(f"{name + mark:<16} {entry.medium:<9} {entry.suffix:<10} {entry.summary}")
    if not args.json:
        print("* codes its medium where no codec is named with -c")
        print(f"exact networks run on {_engine()}")
    for name, reason in registry.broken().items():
        print(json.dumps({"name": name, "error": reason}) if args.json else f"{name:<16} can't be used: {reason}")
    return 0
