"""The plan of a command: which input becomes which output. All that can be refused is, before a byte is written.

Nothing here knows a codec: verbs say which files are meant and what their outputs are called.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UsageError
from ..files import STDIO
from .inputs import Accepts, Input, Inputs, no_folder

if TYPE_CHECKING:
    from ..media import Probe

__all__ = ["Job", "Naming", "Output", "Plan", "plan", "plan_reading"]


class Job(NamedTuple):
    """One input and its output."""

    source: str  # path, or "-" for stdin
    target: str | None = None  # path, "-" for stdout, None for commands that write no file
    replace: bool = False  # may take the place of an existing file
    skip: bool = False  # the target is there already, and the user said to keep it
    codec: str = ""  # the name of the codec that encodes it
    probe: Probe | None = None  # what the input is, where that was looked at
    refused: str = ""  # why it isn't done at all


class Output(NamedTuple):
    """The name of an input's output, without folders, and what else is known of its job, as `Job` has it."""

    name: str
    codec: str = ""
    probe: Probe | None = None
    refused: str = ""


@dataclass(frozen=True)
class Plan:
    """The jobs of a command, and what of its folders has none: counted by kind, with the first example of each."""

    jobs: Sequence[Job]
    left_out: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Naming:
    """The rules by which outputs are named.

    output: a file for one input, a folder for several (the tree below each given folder is kept), "-" for stdout; None:
    each output beside its input. name: the output of an input. force, skip_existing: what becomes of files that are
    there. formats: suffixes that say a format, which a new folder can't have. remedy: what helps against two inputs of
    one output.
    """

    name: Callable[[Input], Output]
    output: str | None = None
    force: bool = False
    skip_existing: bool = False
    formats: Collection[str] = ()
    remedy: str = "encode them apart, or rename one"
    offers_force: bool = True


def plan_reading(words: Sequence[str], accepts: Accepts) -> Plan:
    """The plan of a command that only reads."""
    inputs = Inputs(words, accepts)
    jobs = [Job(item.source) for item in inputs]
    return Plan(jobs, dict(inputs.left_out), inputs.examples)


def plan(words: Sequence[str], naming: Naming, accepts: Accepts, is_one_input: Accepts = no_folder) -> Plan:
    """One job for each input file, or UsageError with nothing written yet."""
    inputs = Inputs(words, accepts, is_one_input)
    files = iter(inputs)
    first = list(islice(files, 2))
    several = len(first) > 1 or any(os.path.isdir(text) and not is_one_input(Path(text)) for text in words)
    output = STDIO if first[0].source == STDIO and naming.output is None else naming.output
    if output == STDIO:
        if several:
            n_inputs = len(first) + sum(1 for _ in files)
            raise UsageError(f"'-o -' (stdout) holds one output, and there are {n_inputs} inputs: name a folder")
        _, codec, probe, refused = naming.name(first[0])
        return Plan([Job(first[0].source, STDIO, codec=codec, probe=probe, refused=refused)])
    is_folder = output is not None and _is_folder(output, first[0].source, several, naming.formats)
    jobs = [_job(item, output, is_folder, naming) for item in chain(first, files)]
    _refuse_clashes(jobs, naming.remedy)
    _refuse_existing(jobs, naming)
    return Plan(jobs, dict(inputs.left_out), inputs.examples)


def _job(item: Input, output: str | None, is_folder: bool, naming: Naming) -> Job:
    name, codec, probe, refused = naming.name(item)
    if output is None:
        target = os.path.join(os.path.dirname(item.source), name)
    elif is_folder:
        target = str(Path(output, item.place.parent, name))
    else:
        target = str(Path(output))
    if target == STDIO:  # a file that is called as stdout is
        target = os.path.join(os.curdir, target)
    is_there = os.path.lexists(target)
    return Job(item.source, target, naming.force, naming.skip_existing and is_there, codec, probe, refused)


def _is_folder(output: str, source: str, several: bool, formats: Collection[str]) -> bool:
    """Whether the output names a folder for the outputs, not a file."""
    if several and os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"-o {output} is a file, and the outputs of several inputs need a folder")
    separators = tuple(filter(None, (os.sep, os.altsep)))
    is_meant = output.endswith(separators) or os.path.isdir(output)
    suffix = os.path.splitext(output)[1].lower()
    if several and not is_meant and suffix in formats:
        raise UsageError(
            f"-o {output}: several inputs need a folder, and this is called as a {suffix} file is: "
            f"name another, or {output}{os.sep}"
        )
    if (several or is_meant) and source == STDIO:
        raise UsageError(f"-o {output} is a folder; what comes from stdin has no name: give -o a file name")
    return several or is_meant


def _refuse_clashes(jobs: list[Job], remedy: str) -> None:
    """Refuse each of the jobs whose outputs are the same; the others are done."""
    parents: dict[str, str] = {}

    def real(target: str) -> str:
        folder, name = os.path.split(target)
        if folder not in parents:
            parents[folder] = os.path.realpath(folder)
        path = os.path.join(parents[folder], name)
        return os.path.realpath(path) if os.path.islink(path) else path

    counts = Counter(hash(real(job.target or "")) for job in jobs)  # numbers: there may be a million names
    if len(counts) == len(jobs):
        return
    groups: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        if counts[hash(path := real(job.target or ""))] > 1:
            groups.setdefault(path, []).append(index)
    for group in groups.values():
        for index in group if len(group) > 1 else ():
            others = [jobs[other].source for other in group if other != index]
            shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            words = f"would become {jobs[index].target}, as {shown} would: {remedy}"
            jobs[index] = jobs[index]._replace(refused=words, skip=False)


def _refuse_existing(jobs: Sequence[Job], naming: Naming) -> None:
    existing = [job.target for job in _writing(jobs) if job.target is not None and os.path.exists(job.target)]
    if not existing:
        return
    inputs = {_identity(job.source): job.source for job in jobs if job.source != STDIO and os.path.exists(job.source)}
    for target in existing:
        if source := inputs.get(_identity(target)):
            raise UsageError(f"{target} would be written over the input {source}: give -o another place")
    folders = [target for target in existing if os.path.isdir(target)]
    if folders:
        raise UsageError(f"{folders[0]} is a folder: give -o another name")
    if not (naming.force or naming.skip_existing):
        names = ", ".join(existing[:3]) + (", ..." if len(existing) > 3 else "")
        what = "the output exists already" if len(jobs) == 1 else f"{len(existing)} of {len(jobs)} outputs exist"
        # What lies beside a file of ours is often the original, which nobody should be told to replace.
        force = "--force replaces, " if naming.offers_force or naming.output is not None else ""
        raise UsageError(f"{what}: {names}; -o names another place, {force}--skip-existing keeps")


def _writing(jobs: Sequence[Job]) -> Iterator[Job]:
    return (job for job in jobs if not job.refused)


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
