"""Every input of the trials through the command: encoded, shown, verified, decoded.

    python -P tests/trials.py OUT INPUT ... [--decode .mkv,.mp4] [-- OPTIONS OF ENCODE]

One JSON line for each input has the exit status, the words and the notes of every command. `eval/results/trials` has
what was seen so. All of it runs in one process, as thousands of starts of the command would take hours.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from codec import cli


def run(*words: str | Path) -> tuple[int, str]:
    """The exit status of `codec WORDS`, and all that it says."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    try:
        with redirect_stdout(out), redirect_stderr(out):
            status = cli.main([str(word) for word in words])
    except SystemExit as end:  # argparse's way out
        status = int(end.code or 0)
    except BaseException as error:  # a fault of ours, which the line must show
        if isinstance(error, KeyboardInterrupt):
            raise
        return 70, f"not caught: {type(error).__name__}: {error}"
    return status, out.buffer.getvalue().decode("utf-8", "replace").strip()


def commands(source: Path, coded: Path, suffixes: Sequence[str], options: Sequence[str]) -> Iterator[list[str | Path]]:
    """The commands that follow one another for an input; after an error of `encode` only those that still can."""
    yield ["encode", source, "-o", coded, "--force", *options]
    if not coded.exists():
        return
    yield ["info", coded]
    yield ["verify", coded]
    for suffix in suffixes:
        yield ["decode", coded, "-o", coded.with_name(f"{coded.name}-back{suffix}"), "--force"]


def trial(source: Path, out: Path, suffixes: Sequence[str], options: Sequence[str]) -> dict[str, object]:
    """The words of every command about an input; paths are shortened to names."""
    coded = out / f"{source.name}.coded"
    coded.unlink(missing_ok=True)
    steps: dict[str, object] = {}
    for command in commands(source, coded, suffixes, options):
        name = str(command[0]) + ("" if command[0] != "decode" else Path(command[3]).name[len(coded.name) + 5 :])
        status, words = run(*command)
        for folder in (f"{source.parent}/", f"{out}/"):
            words = words.replace(folder, "")
        steps[name] = {"exit": status, "words": words}
    return {"input": source.name} | steps


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("out", type=Path, help="a folder for what is made")
    parser.add_argument("inputs", type=Path, nargs="+")
    parser.add_argument("--decode", default="", help="suffixes to decode to: .mkv,.mp4; none: not decoded")
    words = sys.argv[1:] if words is None else words
    cut = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:cut])
    args.out.mkdir(parents=True, exist_ok=True)
    suffixes = [suffix for suffix in args.decode.split(",") if suffix]
    for source in args.inputs:
        print(json.dumps(trial(source, args.out, suffixes, words[cut + 1 :])), flush=True)


if __name__ == "__main__":
    main()
