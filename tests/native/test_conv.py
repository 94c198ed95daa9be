"""Convolutions in 16 bits: every instruction set and form against the twin, the twin against the layers of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec import native
from codec.codecs.base.weights import load_tensors
from codec.codecs.layers.frozen import FrozenState, Integers
from codec.native.conv import Narrow
from codec.native.grids import Grid, Rows

compiled = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
each_set = pytest.mark.parametrize("name", native.instruction_sets())

S2LIC = Path(__file__).parents[2] / "weights" / "s2lic-small.safetensors"

FORMS = (
    # form, the grid that allows it and no faster one, bits of a weight
    (44, Grid(8, False, 3), 8),
    (44, Grid(9, True, 3), 8),
    (24, Grid(10, False, 3, 3), 8),
    (24, Grid(11, True, 3), 8),
    (22, Grid(13, True, 3), 6),
    (0, Grid(15, True, 3), 3),
    (44, Grid(8, True, 3), 8),
    (44, Grid(8, False, 3, 3), 8),
)


def form_of(name: str, code: int, grid: Grid) -> int:
    """The form that an instruction set takes where the others take `code`: tiles of AMX, inputs of one byte or two."""
    if name != "amx":
        return code
    if grid.bits > 8 or grid.leak:
        return 83
    return 82 if grid.signed else 81


def layer(draw: np.random.Generator, outer: int, inner: int, kernel: int, bits: int, extreme: bool = False) -> Integers:
    """Random integers; extreme: all weights are the largest, plus or minus."""
    largest = 2 ** (bits - 1) - 1
    weight = draw.integers(-largest, largest + 1, (outer, inner, kernel, kernel))
    weight = np.where(weight < 0, -largest, largest) if extreme else weight
    return Integers(weight.astype(np.int16), draw.integers(-9999, 9999, outer), draw.integers(4, 10, outer))


def inputs(draw: np.random.Generator, grid: Grid, shape: tuple[int, ...], extreme: bool = False) -> np.ndarray:
    low, high = grid.smallest, grid.largest
    return (draw.choice([low, high], shape) if extreme else draw.integers(low, high + 1, shape)).astype(np.int16)


def results(narrow: Narrow, x: np.ndarray, band: tuple[int, int], offset: int, options: dict[str, Any]) -> list[Any]:
    """What run() leaves in kept, values and out, for the rows of a band; other rows keep their numbers."""
    options = dict(options)
    s, height, width = narrow.shuffle, narrow.side(len(x), offset), narrow.side(x.shape[1], offset)
    shape = (height * s, width * s, narrow.channels)
    draw = np.random.default_rng(5)
    kept = Rows(draw.normal(0, 300, shape).astype(np.float32), 0, shape[0])
    values = Rows(np.full(shape, 7, np.float32), 0, shape[0])
    out = Rows(np.full(shape, 7, np.int16), 0, shape[0])
    if options.pop("residual", False):
        options["residual"] = kept
    top, bottom = band
    pad = narrow.kernel // 2
    low = max(0, top * narrow.stride + offset - pad)
    high = min(len(x), (bottom - 1) * narrow.stride + offset + pad + 1)
    rows = Rows(np.ascontiguousarray(x[low:high]), low, len(x))  # no more than is needed
    here = {"kept": kept, "values": values, "out": out}
    places = {k: here[k] for k in ("kept", "values", "out") if options.pop(k, k != "out" or "grid" in options)}
    narrow.run(rows, top, bottom, offset=offset, **places, **options)
    return [rows.array for rows in here.values()]


def check(narrow: Narrow, x: np.ndarray, band: tuple[int, int], name: str, offset: int = 0, **options: Any) -> None:
    with native.using(None):
        expected = results(narrow, x, band, offset, options)
    with native.using(name):
        for computed, wanted in zip(results(narrow, x, band, offset, options), expected, strict=True):
            assert np.array_equal(computed, wanted)


STREAM, OUT = Grid(20, True, 4), Grid(10, False, 3, 3)
EPILOGUES: tuple[dict[str, Any], ...] = (
    {"kept": False, "values": False, "grid": Grid(8, False, 2)},
    {"kept": False, "values": False, "grid": OUT},
    {"residual": True, "stream": STREAM, "values": False, "grid": Grid(9, True, 2)},
    {"kept": False},
    {"residual": True, "gain": True, "stream": STREAM, "grid": OUT},
    {"residual": True, "gain": True, "stream": STREAM, "grid": OUT, "wide": True},
    {"residual": True, "gain": True, "wide": True, "values": False},
    {"stream": Grid(12, False, 1, 2), "grid": Grid(16, True, 0), "kept": False, "wide": True},
)


def epilogue(options: dict[str, Any], draw: np.random.Generator, channels: int) -> dict[str, Any]:
    return {**options, "gain": draw.uniform(0.5, 2, channels)} if options.get("gain") else options


@compiled
@each_set
@pytest.mark.parametrize("options", EPILOGUES, ids=range(len(EPILOGUES)))
@pytest.mark.parametrize("form", range(len(FORMS)), ids=[f"{form}-{grid.bits}" for form, grid, _ in FORMS])
def test_3x3_is_the_twin_s(name: str, form: int, options: dict[str, Any]) -> None:
    code, grid, bits = FORMS[form]
    draw = np.random.default_rng(form)
    for inner, outer, height, width, shuffle in ((20, 24, 9, 11, 1), (1, 3, 1, 1, 1), (49, 52, 6, 17, 2)):
        narrow = Narrow(*layer(draw, outer, inner, 3, bits), grid, shuffle=shuffle)
        with native.using(name):
            assert narrow.form == form_of(name, code, grid)
        chosen = epilogue(options, draw, narrow.channels)
        x = inputs(draw, grid, (height, width, inner))
        for band in {(0, height), (height // 2, height // 2 + 1), (height // 3, height)}:
            check(narrow, x, band, name, **chosen)


@compiled
@each_set
@pytest.mark.parametrize("options", EPILOGUES, ids=range(len(EPILOGUES)))
@pytest.mark.parametrize(("kernel", "stride", "offset"), [(1, 1, 0), (5, 1, 0), (3, 2, 0), (3, 2, 1), (5, 4, 3)])
def test_other_kernels_and_strides(name: str, kernel: int, stride: int, offset: int, options: dict[str, Any]) -> None:
    draw, grid = np.random.default_rng(kernel * stride), Grid(11, True, 4)
    for inner, outer, height, width, shuffle in ((20, 24, 9, 70, 1), (1, 3, 4, 4, 1), (33, 68, 7, 5, 2)):
        narrow = Narrow(*layer(draw, outer, inner, kernel, 8), grid, shuffle=shuffle, stride=stride)
        chosen = epilogue(options, draw, narrow.channels)
        x, n = inputs(draw, grid, (height, width, inner)), narrow.side(height, offset)
        for band in {(0, n), (n // 2, n // 2 + 1)}:
            check(narrow, x, band, name, offset, **chosen)


@compiled
@each_set
@pytest.mark.parametrize("form", range(len(FORMS)), ids=[f"{form}-{grid.bits}" for form, grid, _ in FORMS])
def test_extremes(name: str, form: int) -> None:
    code, grid, bits = FORMS[form]
    draw = np.random.default_rng(form)
    inner = 2000 // (grid.largest * (2 ** (bits - 1) - 1) // 2**13 + 1) // 9 + 1  # sums come close to the bound
    integers = layer(draw, 16, inner, 3, bits, extreme=True)
    integers.weight[0], integers.weight[1] = np.abs(integers.weight[0]), -np.abs(integers.weight[1])
    narrow = Narrow(*integers, grid)
    with native.using(name):
        assert narrow.form == form_of(name, code, grid)
    for x in (inputs(draw, grid, (9, 13, inner), True), np.full((9, 13, inner), grid.largest, np.int16)):
        check(narrow, x, (0, 9), name)


@compiled
@each_set
def test_inputs_beyond_the_grid_stay_in_memory(name: str) -> None:
    draw = np.random.default_rng(0)
    narrow = Narrow(*layer(draw, 5, 7, 3, 8), Grid(9, True, 3))
    x = inputs(draw, Grid(16, True, 0), (6, 6, 7), True)
    with native.using(name):
        results(narrow, x, (0, 6), 0, {"grid": Grid(8, False, 0)})
        narrow.run(
            Rows(x, 0, 6),
            *(0, 6),
            residual=Rows(np.full((6, 6, 5), np.nan, np.float32), 0, 6),
            out=(out := Rows.empty(6, 6, 5, np.int16)),
            grid=Grid(8, False, 0),
        )
        assert out.array.shape == (6, 6, 5)


@compiled
@each_set
def test_threads_make_no_difference(name: str) -> None:
    draw, grid, before = np.random.default_rng(0), Grid(9, True, 3), native.threads()
    layers = [Narrow(*layer(draw, 40, 24, kernel, 8), grid) for kernel in (1, 3)]
    try:
        for n in (1, 2, 5):
            native.set_threads(n)
            for narrow in layers:
                check(narrow, inputs(draw, grid, (40, 52, 24)), (0, 40), name, grid=OUT)
    finally:
        native.set_threads(before)


@compiled
def test_a_transformed_weight_of_17_bits_takes_another_form() -> None:
    draw, grid = np.random.default_rng(0), Grid(8, False, 3)
    weight = np.full((16, 2, 3, 3), 255, np.int16)
    with native.using(native.instruction_sets()[0]):
        assert Narrow(weight // 2, *layer(draw, 16, 2, 3, 8)[1:], grid).form == 44
        assert Narrow(weight, *layer(draw, 16, 2, 3, 8)[1:], grid).form == 24


def test_bounds_are_proved() -> None:
    draw = np.random.default_rng(0)
    weight, bias, exponent = layer(draw, 4, 8, 3, 8)
    grid = Grid(9, True, 3)
    Narrow(weight, bias, exponent, grid)
    for wrong in (
        (np.full((4, 8, 3, 3), 32767, np.int16), bias, exponent, Grid(16, True, 0)),
        (weight, bias + 2**31, exponent, grid),
        (weight.astype(np.int64) + 2**20, bias, exponent, grid),
        (weight, bias, exponent, Grid(17, True, 0)),
        (weight, bias, exponent, Grid(9, True, 99)),
    ):
        with pytest.raises(ValueError, match=r"bits|2\*\*31|exponents"):
            Narrow(*wrong)


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
def test_wrong_calls_are_refused(name: str | None) -> None:
    draw, grid = np.random.default_rng(0), Grid(9, True, 3)
    narrow = Narrow(*layer(draw, 4, 8, 3, 8), grid)
    x = inputs(draw, grid, (6, 5, 8))
    rows, out = Rows(x, 0, 6), Rows.empty(6, 5, 4, np.float32)
    frozen = np.empty((6, 5, 4), np.float32)
    frozen.flags.writeable = False
    with native.using(name):
        narrow.run(rows, 0, 6, values=out)
        narrow.run(rows, 3, 3, values=out)
        for wrong in (
            lambda: narrow.run(Rows(x.astype(np.int32), 0, 6), 0, 6, values=out),
            lambda: narrow.run(Rows(x.astype(">i2"), 0, 6), 0, 6, values=out),
            lambda: narrow.run(Rows(x[:, ::2], 0, 6), 0, 6, values=out),
            lambda: narrow.run(Rows(x[..., :7].copy(), 0, 6), 0, 6, values=out),
            lambda: narrow.run(Rows(x[:3], 0, 6), 0, 6, values=out),
            lambda: narrow.run(Rows(x[2:], 2, 6), 2, 6, values=out),
            lambda: narrow.run(rows, -1, 6, values=out),
            lambda: narrow.run(rows, 0, 7, values=out),
            lambda: narrow.run(rows, 0, 6, values=Rows.empty(6, 4, 4, np.float32)),
            lambda: narrow.run(rows, 0, 6, values=Rows.empty(6, 5, 3, np.float32)),
            lambda: narrow.run(rows, 0, 6, values=Rows.empty(6, 5, 4, np.float64)),
            lambda: narrow.run(rows, 0, 6, values=Rows(out.array[:5], 0, 6)),
            lambda: narrow.run(rows, 0, 6, values=Rows(out.array, 0, 7)),
            lambda: narrow.run(rows, 0, 6, values=Rows(frozen, 0, 6)),
            lambda: narrow.run(rows, 0, 6, values=out, gain=np.ones(3)),
            lambda: narrow.run(rows, 0, 6, values=out, residual=Rows.empty(5, 5, 4, np.float32)),
            lambda: narrow.run(rows, 0, 6, out=Rows.empty(6, 5, 4, np.int16)),
            lambda: narrow.run(rows, 0, 6, out=Rows.empty(6, 5, 4, np.int16), grid=Grid(17, True, 0)),
            lambda: narrow.run(rows, 0, 6, out=Rows.empty(6, 5, 4, np.int16), grid=Grid(8, True, 99)),
        ):
            with pytest.raises(AssertionError):
                wrong()


# ---- layers of torch


def torch_layer(x: np.ndarray, integers: Integers, grid: Grid) -> Any:
    """What ExactConv2d gives for integers x on a grid, (1, O, H, W) float32."""
    import torch

    from codec.entropy.exact import exact_conv2d

    unit = 2.0**-grid.exponent
    scale = np.exp2(-integers.exponent.astype(np.float64))
    weight = torch.from_numpy(integers.weight * scale[:, None, None, None]).float()
    bias = torch.from_numpy(integers.bias * scale * unit).float()
    return exact_conv2d(torch.from_numpy(x * np.float32(unit)).permute(2, 0, 1)[None].float(), weight, bias)


def torch_grid(grid: Grid) -> Any:
    """The quantiser of torch on this grid."""
    from codec.entropy.exact import FixedPoint

    fixed = FixedPoint(grid.bits, grid.signed, grid.exponent, grid.leak)
    fixed.mode = "frozen"
    return fixed


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
@pytest.mark.parametrize("stage", ["stage16.1", "stage8.2", "stage4.0"])
def test_residual_blocks_of_s2lic_are_those_of_torch(name: str | None, stage: str) -> None:
    pytest.importorskip("torch")
    state = FrozenState(load_tensors(S2LIC).arrays)
    finer, wide = 2 if "stage4" in stage else 0, "stage16" in stage
    prefix = f"synthesis.{stage}."
    grids = (
        state.grid(f"{prefix}first.input", 9 + finer, True),
        state.grid(f"{prefix}second.input", 8 + finer, False, 3),
    )
    stream, after = state.grid(f"{prefix}stream", 20, True), Grid(8, False, 3, 3)
    first, second = (state.integers(f"{prefix}{part}.layer") for part in ("first", "second"))
    draw = np.random.default_rng(0)
    # what networks make: few numbers reach the limits
    x = np.clip(draw.normal(0, grids[0].largest / 4, (13, 10, first.weight.shape[1])), -grids[0].largest, None)
    x = np.clip(np.rint(x), None, grids[0].largest).astype(np.int16)
    residual = stream(draw.normal(0, 2, x.shape)).astype(np.float32)
    height, channels = len(x), x.shape[2]
    kept, middle = Rows(residual.copy(), 0, height), Rows.empty(*x.shape, np.int16)
    out = Rows.empty(*x.shape, np.int16)
    with native.using(name):
        Narrow(*first, grids[0]).run(Rows(x, 0, height), 0, height, out=middle, grid=grids[1])
        block = Narrow(*second, grids[1])
        block.run(*(middle, 0, height), residual=kept, wide=wide, stream=stream, kept=kept, out=out, grid=after)
    import torch

    r = torch.from_numpy(residual).permute(2, 0, 1)[None]
    y = torch_grid(grids[1])(torch_layer(x, first, grids[0]))
    y = torch_layer((y[0].permute(1, 2, 0).numpy() * 2.0 ** grids[1].exponent), second, grids[1])
    y = torch_grid(stream)((r.double() if wide else r) + y)
    assert channels == y.shape[1] and np.array_equal(kept.array, y[0].permute(1, 2, 0).float().numpy())
    assert np.array_equal(out.array, torch_grid(after)(y)[0].permute(1, 2, 0).numpy() * 2.0**after.exponent)


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
def test_the_shuffle_is_that_of_torch(name: str | None) -> None:
    torch = pytest.importorskip("torch")
    draw, grid = np.random.default_rng(0), Grid(8, False, 3, 3)
    for kernel in (1, 3):
        integers = layer(draw, 76, 12, kernel, 8)
        x = inputs(draw, grid, (5, 7, 12))
        values = Rows.empty(10, 14, 19, np.float32)
        with native.using(name):
            Narrow(*integers, grid, shuffle=2).run(Rows(x, 0, 5), 0, 5, values=values)
        expected = torch.nn.functional.pixel_shuffle(torch_layer(x, integers, grid), 2)
        assert np.array_equal(values.array, expected[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
@pytest.mark.parametrize("stride", [2, 4])
def test_strides_and_offsets_are_those_of_torch(name: str | None, stride: int) -> None:
    torch = pytest.importorskip("torch")
    draw, grid = np.random.default_rng(0), Grid(8, True, 0)
    integers = layer(draw, 20, 9, 5, 9)
    x, narrow = inputs(draw, grid, (11, 9, 9)), Narrow(*integers, grid, stride=stride)
    for offset in range(stride):
        height, width = narrow.side(11, offset), narrow.side(9, offset)
        values = Rows.empty(height, width, 20, np.float32)
        with native.using(name):
            narrow.run(Rows(x, 0, 11), 0, height, offset=offset, values=values)
        expected = torch_layer(x, integers, grid)[..., offset::stride, offset::stride]
        assert torch.equal(torch.from_numpy(values.array).permute(2, 0, 1), expected[0])
