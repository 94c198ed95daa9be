"""The coders: constriction against an independent twin, bit by bit; torchac in bounded memory; golden streams."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codec import native
from codec.entropy import coders
from codec.entropy.coders import ConstrictionCoder, NumpyCoder, TorchacCoder
from codec.entropy.tables import TOTAL, Tables
from codec.errors import UsageError

from ..probes import digest_of_pixels

MakeTables = Callable[..., Tables]
Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


class TestConstriction:
    """Its models take floats. These tests hold that our use of them gives the integers we mean."""

    @given(rows=st.integers(1, 20), columns=st.integers(2, 60), n=st.integers(0, 200), seed=st.integers(0, 2**31))
    def test_same_bytes_as_the_twin(
        self, rows: int, columns: int, n: int, seed: int, random_tables: MakeTables, draw: Draw
    ) -> None:
        tables = random_tables(rows, columns, seed)
        symbols, row = draw(tables, n, seed)
        data = tables.encode(symbols, row, ConstrictionCoder)
        assert data == tables.encode(symbols, row, NumpyCoder) == tables.encode(symbols, row)
        assert (tables.decode(data, row, NumpyCoder) == symbols).all()

    @pytest.mark.parametrize("columns", [2, 3, 256, 4097, 32_767])
    def test_every_column_of_a_row(self, columns: int) -> None:
        """Counts down to 1 and up to 2**16 - columns + 1, in a row as long as tables allow."""
        rng = np.random.default_rng(columns)
        cuts = np.sort(rng.choice(np.arange(1, TOTAL), columns - 1, replace=False))
        peaked = np.append(np.arange(columns), TOTAL)
        tables = Tables(np.array([[0, *cuts, TOTAL], peaked]), np.array([columns] * 2), np.array([0, 0]))
        symbols = np.tile(np.arange(columns - 1), 2)
        row = np.repeat([0, 1], columns - 1)
        data = tables.encode(symbols, row, ConstrictionCoder)
        assert (tables.decode(data, row, ConstrictionCoder) == symbols).all()
        assert data == tables.encode(symbols, row, NumpyCoder)

    def test_the_integers_of_the_model(self, random_tables: MakeTables) -> None:
        """Left cumulative and count of each column, read from the state: s becomes s // p * 2**24 + left + s % p."""
        tables = random_tables(3, 200)
        coder = coders.ConstrictionCoder(tables.rows)
        state = 123_456_789
        for row, cdf in enumerate(tables.rows):
            for column, (left, right) in enumerate(np.stack([cdf[:-1], cdf[1:]], 1).tolist()):
                ans = coder._ans(np.array([state], np.uint32))
                ans.encode_reverse(np.array([column], np.int32), coder._models[row])
                count = (right - left) << 8
                assert ans.pos() == (0, (state // count << 24) + (left << 8) + state % count)

    def test_a_step_of_any_content_grows_the_stream(self) -> None:
        """Where the state starts, no column is free: the first column of a peaked row, a million times."""
        tables = Tables.from_pmf([[0.999, 0.001]], [0])
        row = np.zeros(1_000_000, np.uint8)
        data = tables.encode(row, row)
        assert len(data) * 8 >= tables.bits(row, row) > 10_000
        assert not tables.decode(data, row).any()

    def test_overhead(self, random_tables: MakeTables, draw: Draw) -> None:
        tables = random_tables(5, 9)
        sizes = []
        for n in range(1, 200):
            symbols, row = draw(tables, n, n)
            sizes.append(len(tables.encode(symbols, row)) - tables.bits(symbols, row) / 8)
        assert np.min(sizes) >= 3.0
        assert np.max(sizes) < 4.1


@pytest.mark.parametrize(
    ("coder", "digest"),
    [
        ("constriction", "57646eeefd69f7e7"),
        (ConstrictionCoder, "57646eeefd69f7e7"),
        (NumpyCoder, "57646eeefd69f7e7"),
        ("torchac", "9427e0c8fac3a42b"),
    ],
)
def test_golden_stream(coder: str | type[coders.Coder], digest: str) -> None:
    """Bytes of today. If this fails, files exist that can't be decoded any more: raise the stream versions."""
    sums = np.cumsum(np.arange(1, 41) ** 2)
    cdf = np.full((4, 42), TOTAL)
    for row, n in zip(cdf, (2, 3, 17, 40), strict=True):
        row[: n + 1] = 0, *(sums[:n] * 60_000 // sums[n - 1] + np.arange(1, n + 1))
    tables = Tables(cdf, np.array([3, 4, 18, 41]), np.array([0, -1, 5, -20]))
    i = np.arange(2000)
    row = (i // 3 + i * i) % 4
    symbols = i * 7919 % (tables.lengths[row] + 1) + tables.offset[row] - 1
    symbols[::97] = i[::97] * 1_000_003 - 10**9
    data = tables.encode(symbols, row, coder)
    assert hashlib.sha256(data).hexdigest()[:16] == digest
    assert (tables.decode(data, row, coder) == symbols).all()


class TestTorchac:
    """The package, without our compiled module: tests/native/test_codes.py compares the two."""

    @pytest.fixture(autouse=True)
    def _compiled(self) -> Iterator[None]:
        coders._import_torchac()
        with native.using(None):
            yield

    def test_widened_rows(self, random_tables: MakeTables) -> None:
        """No column without a count, the same total, and about the same probabilities."""
        for length in (2, 3, 60, 200):
            cdf = random_tables(1, length + 1, length).rows[0]
            for width in (len(cdf) - 1, len(cdf), 256):
                wide = np.diff(coders._widen(cdf, width))
                assert wide.sum() == TOTAL
                assert wide.min() >= 1
                assert len(wide) == width
                own = np.diff(cdf)
                assert (wide[: len(own)] >= own * (1 - width / TOTAL) - 1).all()

    def test_memory_is_bounded(self, random_tables: MakeTables) -> None:
        """CDFs of all symbols would take 400 MB here."""
        tables = random_tables(300, 1000)
        row = np.random.default_rng(0).integers(0, 300, 200_000)
        symbols = tables.offset[row]
        tables.encode(symbols[:1], row[:1], "torchac")
        tracemalloc.start()
        data = tables.encode(symbols, row, "torchac")
        assert (tables.decode(data, row, "torchac") == symbols).all()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40 * 2**20

    def test_size_is_close_to_ideal(self, random_tables: MakeTables, draw: Draw) -> None:
        tables = random_tables(64, 100)
        symbols, row = draw(tables, 50_000)
        assert len(tables.encode(symbols, row, "torchac")) * 8 < tables.bits(symbols, row) * 1.001 + 8 * 60

    def test_decodes_without_torchac(
        self, random_tables: MakeTables, draw: Draw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same symbols bit by bit, also of what no encoder wrote."""
        cases = []
        for columns, n in ((2, 1), (2, 700), (40, 900), (600, 300)):
            tables = random_tables(9, columns)
            symbols, row = draw(tables, n)
            cases.append((tables, symbols, row, tables.encode(symbols, row, "torchac")))
        rng = np.random.default_rng(0)
        cdfs = [[0, 1, TOTAL], [0, TOTAL - 1, TOTAL], [0, TOTAL // 2 - 1, TOTAL]]
        places = rng.integers(0, 3, 400)
        wrapped = torch.from_numpy(np.array(cdfs)[places].astype(np.uint16).view(np.int16))
        noise = [rng.integers(0, 256, n).astype(np.uint8).tobytes() for n in (1, 3, 4, 60)] + [b"\xff" * 50, bytes(50)]
        expected = [coders._import_torchac().decode_int16_normalized_cdf(wrapped, data).numpy() for data in noise]
        monkeypatch.setitem(sys.modules, "torchac", None)
        for data, symbols in zip(noise, expected, strict=True):
            assert np.array_equal(coders.decode_range(cdfs, places.tolist(), data), symbols)
        for tables, symbols, row, data in cases:
            fresh = Tables(tables.cdf, tables.lengths, tables.offset)
            assert (fresh.decode(data, row, "torchac") == symbols).all()

    def test_rows_too_long(self) -> None:
        cdf = np.append(np.arange(2**15 + 1), TOTAL).astype(np.int32)
        with pytest.raises(UsageError, match="32767"):
            TorchacCoder([cdf])


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    root = Path(coders.__file__).resolve().parents[1]
    head = f"import importlib.util, sys; sys.path[:0] = {sys.path!r}\n"
    return subprocess.run(
        [sys.executable, "-P", "-c", head + code],
        capture_output=True,
        text=True,
        cwd=root.parent,
        env={**os.environ, **env},
        timeout=120,
    )


class TestTorchacIsOptional:
    USE = """
import numpy as np
from codec.entropy.tables import Tables
tables, row = Tables.from_pmf([[0.5, 0.5]], [0]), np.zeros(3, np.int32)
assert (tables.decode(tables.encode(row, row), row) == row).all()
"""

    def test_the_default_needs_neither_torch_nor_torchac(self) -> None:
        done = run(self.USE + "assert not {'torch', 'torchac'} & set(sys.modules)")
        assert done.returncode == 0, done.stderr

    def test_missing(self) -> None:
        done = run(
            "sys.modules['torchac'] = None\n"
            + self.USE
            + """
from codec.errors import UsageError
try:
    tables.encode(row, row, 'torchac')
except UsageError as error:
    assert 'pip install torchac' in str(error), error
else:
    raise SystemExit('no error')
""",
            CODEC_NATIVE="0",
        )
        assert done.returncode == 0, done.stderr

    def test_files_decode_without_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        golden = Path(__file__).resolve().parents[1] / "golden"
        name = "walloc-4x-s1-40d68a58-torchac-rgb.walloc"
        index = json.loads((golden / "golden.json").read_text())
        monkeypatch.setitem(sys.modules, "torchac", None)
        assert digest_of_pixels((golden / name).read_bytes()) == index[name]["pixels"]

    @pytest.mark.parametrize(("age", "stays"), [(3600, False), (0, True)])
    def test_a_lock_that_a_killed_process_left(
        self, age: float, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """torch waits for it for ever; that of a process that compiles is waited for."""
        from torch.utils import cpp_extension

        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
        coders._remove_stale_lock(cpp_extension)
        lock = tmp_path / "torchac_backend" / "lock"
        lock.parent.mkdir(exist_ok=True)
        lock.touch()
        then = time.time() - age
        os.utime(lock, (then, then))
        waits = []

        def sleep(seconds: float) -> None:
            waits.append(lock.exists())
            lock.unlink()

        monkeypatch.setattr(coders.time, "sleep", sleep)
        coders._remove_stale_lock(cpp_extension)
        assert waits == [True] * stays
        assert not lock.exists()

    def test_no_compiler(self, tmp_path: Path) -> None:
        """And nothing on stdout, where data may go."""
        done = run(
            self.USE
            + """
from codec.errors import UsageError
try:
    tables.encode(row, row, 'torchac')
except UsageError as error:
    assert 'compiler' in str(error) and 'ninja' in str(error), error
else:
    raise SystemExit('no error')
""",
            TORCH_EXTENSIONS_DIR=str(tmp_path),
            CXX=str(tmp_path / "no-such-compiler"),
            CODEC_NATIVE="0",
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""


def test_names() -> None:
    assert coders.names() == ("constriction", "torchac")
    assert coders.DEFAULT == "constriction"


def test_many_small_steps_are_quick(random_tables: MakeTables, draw: Draw) -> None:
    """12 steps of 3-6 thousand symbols, 256 rows of 256 columns: an image's latents. Ours takes 3 ms a direction."""
    tables = random_tables(256, 256)
    steps = [draw(tables, 3000 + 250 * i, i) for i in range(12)]
    seconds = []
    for _ in range(3):
        start = time.process_time()
        decoder = tables.decoder(tables.encode_steps(steps))
        for symbols, row in steps:
            assert (decoder.take(row) == symbols).all()
        decoder.finish()
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1
