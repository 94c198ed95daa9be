"""A few hundred cases of the fuzzer, all files of its corpus, and that it would find what it looks for.

`make fuzz` runs it for longer: CONTRIBUTING.md.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codec import registry
from codec.codecs.base.codec import Codec
from codec.container import ChunkWriter, pack, unpack
from codec.errors import StreamError

from ..damage import alarm
from . import execute, run, structure, tiny

NAMES, FILES = run.corpus()
CASES = 300  # of every run of the tests


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[execute.Target]:
    target = execute.Target(tmp_path_factory.mktemp("fuzz") / "case", [tiny.codec()])
    target.load(FILES)
    with execute.fenced():
        yield target


# ---- what is tried


@pytest.mark.parametrize("name", [name for name in NAMES if (run.HERE / "corpus" / name).exists()])
def test_files_of_the_corpus(name: str, target: execute.Target) -> None:
    """What once broke a reader must not again, whichever way it is read."""
    data = FILES[NAMES.index(name)]
    for seed in range(3):
        with alarm(f"{name} doesn't end"):
            assert not target.run(data, str(seed)).is_fault


def test_changed_files(target: execute.Target) -> None:
    """The same cases every time: a new fault among them is a mistake that was just made."""
    counts = Counter[str]()
    faults = []
    for number in range(CASES):
        case = structure.Case.drawn(f"tests:{number}", FILES)
        with alarm(f"case {number} doesn't end"):
            outcome = target.run(case.data(), str(number))
        counts[outcome.kind] += 1
        if outcome.is_fault:
            faults.append(f"tests:{number}, {NAMES[case.base]}, {case.words()}: {outcome}")
    assert not faults, "\n".join(faults)
    assert counts["accepted"] > CASES / 100  # else everything is refused too soon to be a test
    assert counts["refused"] > CASES / 2


# ---- that the fuzzer is one


def test_every_codec_is_in_the_corpus() -> None:
    codecs = {unpack(data)[0].codec for data in FILES}
    assert codecs == {*registry.names(), tiny.codec().name}
    names = [name for data in FILES if (name := unpack(data)[0].codec) in registry.names()]
    media = Counter(registry.entry(name).medium for name in names)
    assert all(media[medium] >= 2 for medium in media)
    assert sum(map(len, FILES)) < 1 << 20


@pytest.mark.parametrize("name", NAMES)
def test_a_file_taken_apart_is_sealed_as_it_was(name: str) -> None:
    data = FILES[NAMES.index(name)]
    assert structure.Parts.of(data).sealed() == data
    compact = data.startswith(structure.COMPACT)
    header, chunks = unpack(data)
    if structure.Parts.of(data).fields[10] is None:
        writer = ChunkWriter(header)
        assert writer.start + b"".join(map(writer.chunk, chunks)) == data
        return
    assert pack(header, chunks, compact) == data or "meta" in str(structure.Parts.of(data).chunks[:1])


def test_compact_files_are_in_the_corpus() -> None:
    """Each coder that has a model, packets, and both layouts; what is changed in them is refused and accepted."""
    made = dict(tiny.files())
    compact = {name for name, data in made.items() if data.startswith(structure.COMPACT)}
    assert compact == {name for name in made if name not in ("packets-metadata.vqgan", "deep.vqgan")}
    assert {unpack(data)[0].coder for data in made.values()} == {"histogram", "mix", "fixed"}
    assert sum("packets" in unpack(data)[0].params for data in made.values()) == 3


@pytest.mark.parametrize("name", [name for name, data in tiny.files() if data.startswith(structure.COMPACT)])
def test_changed_compact_files(name: str, target: execute.Target) -> None:
    """Each operation, on each of them."""
    data, counts = dict(tiny.files())[name], Counter[str]()
    for operation, (change, _) in enumerate(structure.OPERATIONS):
        case = structure.Case([data, *FILES[-len(tiny.files()) :]], 0, ((operation, 1), (operation, 2)))
        with alarm(f"{change.__name__} doesn't end"):
            outcome = target.run(case.data(), f"{name}:{operation}")
        counts[outcome.kind] += 1
        assert not outcome.is_fault, f"{change.__name__}: {outcome}"
    assert counts["accepted"] and counts["refused"] > 4


def test_packets_that_are_lost_are_restored(target: execute.Target) -> None:
    names = [operation.__name__ for operation, _ in structure.OPERATIONS]
    data, counts = dict(tiny.files())["packets.vqgan"], Counter[str]()
    for seed in range(12):
        case = structure.Case([data], 0, ((names.index("harm"), seed),))
        counts[target.run(case.data(), str(seed)).kind] += 1
    assert set(counts) <= {"accepted", "refused"} and counts["accepted"] > 6


def test_a_seed_is_a_case() -> None:
    cases = [structure.Case.drawn(f"7:{number}", FILES) for number in range(200)]
    again = [structure.Case.drawn(f"7:{number}", FILES).data() for number in range(200)]
    assert [case.data() for case in cases] == again
    assert len(set(again)) > 190
    used = {operation for case in cases for operation, _ in case.changes}
    assert used == set(range(len(structure.OPERATIONS)))
    longer = next(case for case in cases if len(case.changes) > 1)
    assert len(longer.without(0).changes) == len(longer.changes) - 1
    assert longer.changes[1:] == longer.without(0).changes


def test_changes_are_behind_right_checksums() -> None:
    refused = Counter[bool]()
    for number in range(300):
        case = structure.Case.drawn(f"8:{number}", FILES)
        behind = ("start", "harm")  # a start that ends elsewhere, and packets that were whole
        if case.last is None and not any(structure.OPERATIONS[k][0].__name__ in behind for k, _ in case.changes):
            try:
                unpack(case.data())
            except Exception as error:
                refused["CRC" in str(error)] += 1
    assert not refused[True]
    assert refused[False] < 150


def test_every_operation_changes_something() -> None:
    for operation, _ in structure.OPERATIONS:
        changed = 0
        for seed in range(20):
            base = FILES[seed % len(FILES)]
            parts = structure.Parts.of(base)
            operation(random.Random(seed), parts, FILES)
            changed += parts.sealed() != base
        assert changed > 10, operation.__name__


class TestFaults:
    """Mistakes that are made on purpose."""

    DATA = FILES[NAMES.index("metadata.walloc")]

    @pytest.fixture(autouse=True)
    def one_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(execute, "_ways", lambda loaded, data, *rest: [lambda: loaded.decompress(data)])

    def outcome(self, target: execute.Target, monkeypatch: pytest.MonkeyPatch, mistake: Any) -> execute.Outcome:
        monkeypatch.setattr(registry.load_class("walloc"), "decompress_one", mistake)
        return target.run(self.DATA, "1")

    def test_none(self, target: execute.Target) -> None:
        assert target.run(self.DATA, "1").kind == "accepted"

    def test_another_exception(self, target: execute.Target, monkeypatch: pytest.MonkeyPatch) -> None:
        for error in (ValueError("x"), MemoryError(), AssertionError(), RecursionError(), RuntimeError("torch")):

            def mistake(self: Codec, data: bytes, error: BaseException = error) -> None:
                raise error

            found = self.outcome(target, monkeypatch, mistake)
            assert (found.kind, found.words.split()[0]) == ("raised", type(error).__name__)

    def test_an_error_of_ours(self, target: execute.Target, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Codec, data: bytes) -> None:
            raise StreamError("damaged")

        assert self.outcome(target, monkeypatch, refuse).kind == "refused"

    def test_another_file(self, target: execute.Target, monkeypatch: pytest.MonkeyPatch) -> None:
        changes = [
            lambda: target.victim.write_bytes(b"x"),
            lambda: target.victim.unlink(),
            lambda: (target.out / "other").write_bytes(b""),
            lambda: (target.folder / "victim.h5").unlink(),
        ]
        for change in changes:
            found = self.outcome(target, monkeypatch, lambda self, data, change=change: change() and None)
            assert found.kind == "touched"

    def test_time(self, target: execute.Target, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(execute, "SECONDS", -1.0)
        assert target.run(self.DATA, "1").kind == "slow"

    def test_readers_that_disagree(self, target: execute.Target, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(execute.container, "describe", lambda data: unpack(data[:-1]))
        assert target.run(self.DATA, "1").kind == "disagrees"


def test_a_finding_is_made_smaller(tmp_path: Path) -> None:
    """The fault is a chunk `Late`: what is left of a case has nothing but that."""

    class Fake:
        def run(self, data: bytes, seed: str) -> execute.Outcome:
            faulty = any(tag == b"Late" for tag, _ in structure.Parts.of(data).chunks)
            return execute.Outcome("raised", "ValueError at x:1: y") if faulty else execute.Outcome("refused")

    base = NAMES.index("metadata.walloc")
    operations = [operation.__name__ for operation, _ in structure.OPERATIONS]
    changes = tuple((operations.index(name), 3) for name in ("filled", "table", "filled"))
    case = structure.Case(FILES, base, changes)
    outcome = execute.Outcome("raised", "ValueError at x:1: z")
    data = run.smaller(case, "1", outcome, Fake())  # type: ignore[arg-type]
    parts = structure.Parts.of(data)
    assert [tag for tag, _ in parts.chunks] == [b"Late"]
    assert len(data) < len(case.data()) / 2
    path = run.keep(tmp_path / "out", data, outcome, "1:2", "about")
    assert path.read_bytes() == data
    assert "seed 1:2" in path.with_suffix(".txt").read_text()


@pytest.mark.slow
def test_a_worker_that_dies_and_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = run.Worker()
    try:
        assert worker.run(b"not a file", "1").kind == "refused"
        process = worker._process
        assert process is not None
        process.kill()
        assert worker.run(b"not a file", "1").kind in ("died", "refused")
        monkeypatch.setattr(run, "WALL_SECONDS", 0.0)
        assert worker.run(FILES[0], "1").kind in ("hangs", "died")
    finally:
        worker.end()
