"""`codec list`: the codecs there are."""

from __future__ import annotations

import argparse
import json

from .. import registry

EXAMPLES = """\
examples:
  codec list
  codec list --json
  codec list --json | jq -r .name
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace) -> int:
    for name in registry.names():
        entry = registry.entry(name)
        if args.json:
            about = {"name": name, "medium": entry.medium, "suffix": entry.suffix, "summary": entry.summary}
            print(json.dumps({**about, "default": registry.default(entry.medium) == name}))
        else:
            mark = "*" if registry.default(entry.medium) == name else ""
            print(f"{name + mark:<12} {entry.medium:<9} {entry.suffix:<10} {entry.summary}")
    if not args.json:
        print("* codes its medium where no codec is named with -c")
    for name, reason in registry.broken().items():
        print(json.dumps({"name": name, "error": reason}) if args.json else f"{name:<12} can't be used: {reason}")
    return 0
