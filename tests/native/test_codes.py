"""The compiled coders: the same bytes and symbols as their twins, of anything, and no wrong call gets through."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from codec import native
from codec.entropy import coders
from codec.entropy.coders import Block, NativeCoder, NumpyCoder, TorchacCoder
from codec.entropy.tables import TOTAL, Tables
from codec.errors import StreamError, UsageError
from codec.native import codes

pytestmark = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")


@pytest.fixture(params=native.instruction_sets())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using(request.param):
        yield request.param


def make_rows(seed: int) -> list[np.ndarray]:
    """Rows of 2 to 32767 columns, flat and peaked at either end and inside."""
    rng = np.random.default_rng(seed)
    rows = []
    for columns in (2, 3, 7, 40, 255, 256, 257, 3000, 32_767):
        cuts = np.sort(rng.choice(np.arange(1, TOTAL), columns - 1, replace=False))
        rows.append(np.array([0, *cuts, TOTAL], np.int32))
        rows.append(np.append(np.arange(columns), TOTAL).astype(np.int32))
        rows.append((TOTAL - rows[-1][::-1]).astype(np.int32))
        inside = np.arange(columns + 1)
        rows.append(np.where(inside <= columns // 2, inside, TOTAL - columns + inside).astype(np.int32))
    return rows


def make_block(rows: list[np.ndarray], n: int, seed: int, probable: bool) -> Block:
    rng = np.random.default_rng(seed)
    row = np.sort(rng.integers(0, len(rows), n))
    used, counts = np.unique(row, return_counts=True)
    if probable:
        columns = [np.searchsorted(rows[r], rng.integers(0, TOTAL), "right") - 1 for r in row]
    else:
        columns = [rng.integers(0, len(rows[r]) - 1) for r in row]
    return Block(used, counts, np.array(columns, np.int32))


class TestAns:
    @pytest.mark.parametrize("probable", [True, False])
    def test_the_twin_s_bytes(self, isa: str, probable: bool) -> None:
        rows = make_rows(0)
        blocks = [make_block(rows, n, n, probable) for n in (1, 2, 700, 5, 300)]
        data = NativeCoder(rows).encode(blocks)
        assert data == NumpyCoder(rows).encode(blocks)
        reader = NativeCoder(rows).open(data)
        for block in blocks:
            assert (reader.take(block.rows, block.counts) == block.columns).all()
        reader.finish()

    def test_every_column(self, isa: str) -> None:
        """The first, the middle and the last count of each column of every row."""
        rows = make_rows(1)
        model = codes.Model(rows)
        for row, cdf in enumerate(rows):
            column = np.arange(len(cdf) - 1)
            for count in (cdf[:-1], (cdf[:-1] + cdf[1:]) // 2, cdf[1:] - 1):
                # the state's low 24 bits choose the column, and words behind it fill them anew
                words = [(0x0100_0000 | int(c) << 8) for c in count[:40]]
                for word, expected in zip(words, column, strict=False):
                    reader = codes.AnsReader(model, np.array([word], np.uint32))
                    assert reader.take(np.array([row]), np.array([1])) == [expected]
        flat = make_rows(2)
        block = Block(
            np.arange(len(flat)),
            np.array([len(cdf) - 1 for cdf in flat]),
            np.concatenate([np.arange(len(cdf) - 1) for cdf in flat]).astype(np.int32),
        )
        coder = NativeCoder(flat)
        assert (coder.open(coder.encode([block])).take(block.rows, block.counts) == block.columns).all()

    def test_noise_decodes_as_the_twin_does(self, isa: str) -> None:
        rows, rng = make_rows(3), np.random.default_rng(3)
        for n_bytes in (1, 3, 4, 5, 8, 9, 12, 300):
            data = rng.integers(1, 256, n_bytes).astype(np.uint8).tobytes()
            ours, twin = NativeCoder(rows).open(data), NumpyCoder(rows).open(data)
            for n in (1, 30, 100):
                block = make_block(rows, n, n_bytes, True)
                assert ours.bits_left == twin.bits_left
                assert (ours.take(block.rows, block.counts) == twin.take(block.rows, block.counts)).all()
            for reader in (ours, twin):
                with pytest.raises(StreamError):
                    reader.finish()

    def test_an_empty_stream(self, isa: str) -> None:
        reader = NativeCoder(make_rows(0)).open(b"")
        assert reader.bits_left == 0
        reader.finish()
        with pytest.raises(StreamError):
            reader.take(np.array([0]), np.array([1]))


class TestSteps:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64])
    def test_as_without_the_module(self, isa: str, dtype: type) -> None:
        """Symbols of any size, so escapes as well; rows of any integers."""
        rng = np.random.default_rng(0)
        pmf = [rng.gamma(1.0, size=n) + 1e-9 for n in (1, 2, 9, 60, 400)]
        tables = Tables.from_pmf([p / p.sum() * 0.95 for p in pmf], [0, -1, 2**31 - 9, -30, -(2**31)])
        row = rng.integers(0, 5, (30, 40)).astype(dtype)
        symbols = rng.integers(-40, 40, row.shape) + np.where(rng.random(row.shape) < 0.1, 2**30, 0)
        symbols[0, :6] = -(2**31), 2**31 - 1, 0, 1, -1, 2**31 - 9
        steps = [(symbols, row), (symbols[:, ::2], row[:, ::2]), (symbols[:1, :1], row[:1, :1])]
        for coder in ("constriction", "torchac", NumpyCoder):
            data = tables.encode_steps(steps, coder)
            if coder != "torchac":
                with native.using(None):
                    assert data == tables.encode_steps(steps, coder)
            decoder = tables.decoder(data, coder)
            for expected, places in steps:
                decoded = decoder.take(places)
                assert decoded.dtype == np.int32
                assert (decoded == expected).all()
            decoder.finish()

    @pytest.mark.parametrize("bad", [-1, 2, 255])
    def test_rows_that_are_none(self, isa: str, bad: int) -> None:
        tables = Tables.from_pmf([[0.5, 0.5]] * 2, [0, 0])
        row = np.array([0, 1, bad], np.int16)
        with pytest.raises(UsageError, match="from 0 to 1"):
            tables.encode(row * 0, row)
        data = tables.encode(row[:2] * 0, row[:2])
        with pytest.raises(UsageError, match="from 0 to 1"):
            tables.decode(data, row)
        with pytest.raises(UsageError, match="from 0 to 1"):
            tables.encode(row * 0, row.astype(np.float32))


class TestRange:
    def coders(self, seed: int) -> tuple[TorchacCoder, list[Block]]:
        rows = make_rows(seed)
        blocks = [make_block(rows, n, n, probable) for n, probable in ((1, True), (900, True), (300, False), (2, False))]
        return TorchacCoder(rows), blocks

    def test_the_package_s_bytes(self, isa: str) -> None:
        coder, blocks = self.coders(0)
        data = coder.encode(blocks)
        with native.using(None):
            assert coder.encode(blocks) == data
        reader = coder.open(data)
        for block in blocks:
            assert (reader.take(block.rows, block.counts) == block.columns).all()
        reader.finish()

    def test_noise_decodes_as_the_twin_does(self, isa: str) -> None:
        coder, rng = TorchacCoder(make_rows(4)), np.random.default_rng(4)
        lists = [coder._model._cdf[at : at + n + 1].tolist() for at, n in zip(coder._model._at, coder._model.lengths)]
        for cdf in lists:
            cdf[-1] = TOTAL
        noise = [rng.integers(0, 256, n).astype(np.uint8).tobytes() for n in (0, 1, 3, 4, 5, 60, 400)]
        for data in (*noise, b"\xff" * 90, bytes(90), b"\x7f" + b"\xff" * 80, b"\x80" + bytes(80)):
            row = rng.integers(0, len(lists), 200)
            expected = coders.decode_range(lists, row.tolist(), data)
            assert (codes.range_take(coder._model, row, data) == expected).all()


class TestWrongCalls:
    def test_rows(self) -> None:
        for cdf in ([0, TOTAL], [0, 5, 5, TOTAL], [1, 5, TOTAL], [0, 5, TOTAL - 1], [0.0, 5, TOTAL]):
            with pytest.raises(ValueError, match="rise strictly|columns"):
                codes.Model([np.array(cdf)])
        with pytest.raises(ValueError, match="columns"):
            codes.Model([])

    def test_blocks(self, isa: str) -> None:
        model = codes.Model(make_rows(0))
        reader = codes.AnsReader(model, np.ones(4, np.uint32))
        for rows, counts in (([len(model)], [1]), ([-1], [1]), ([0, 1], [3, -1])):
            with pytest.raises(AssertionError):
                reader.take(np.array(rows), np.array(counts))
        for rows, counts, columns in (([0], [1], [2]), ([0], [1], [-1]), ([0], [2], [0]), ([99], [1], [0])):
            with pytest.raises(AssertionError):
                codes.AnsWriter(model).put(np.array(rows), np.array(counts), np.array(columns, np.int32))

    def test_segments(self, isa: str) -> None:
        model = codes.Model(make_rows(0))
        with pytest.raises(AssertionError):
            codes.range_take(model, np.array([len(model)]), b"abc")
        for row, column in ((-1, 0), (len(model), 0), (0, 2), (0, -1)):
            with pytest.raises(AssertionError):
                codes.range_put(model, np.array([row]), np.array([column], np.int32))
