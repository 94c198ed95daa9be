"""Exact layers against plain integer arithmetic, and the same bits from every machine that can be had here.

Run as a script, it prints a digest of what two networks compute: the tests run it as another machine.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from codec.entropy import exact
from codec.entropy.exact import (
    CARRIER_BITS,
    ExactConv2d,
    ExactLinear,
    FixedPoint,
    freeze,
    round_half_up,
    round_half_up_ste,
    set_mode,
)

KINDS = {"float64, 16 bits": (16, torch.float64), "float32, 8 bits": (8, torch.float32)}


class Stack(nn.Module):
    """Convolutions of three kernel sizes, a skip connection, a linear layer; all in one carrier."""

    def __init__(self, bits: int, carrier: torch.dtype) -> None:
        super().__init__()
        self.input = FixedPoint(bits, signed=True, exponent=bits - 3)
        self.conv1 = ExactConv2d(6, 24, 5, self.input, bits, carrier)
        self.act1 = FixedPoint(bits, signed=False)
        self.conv2 = ExactConv2d(24, 24, 3, self.act1, bits, carrier)
        self.act2 = FixedPoint(bits, signed=False)
        self.conv3 = ExactConv2d(24, 10, 1, self.act2, bits, carrier)
        self.act3 = FixedPoint(bits, signed=True)
        self.linear = ExactLinear(10, 7, self.act3, bits, carrier)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.conv1(self.input(x)))
        y = self.act2(y + self.conv2(y))
        y = self.act3(self.conv3(y))
        return self.linear(y.movedim(1, -1))


def pictures() -> Tensor:
    # from NumPy: torch's generators depend on the instruction set
    return torch.from_numpy(np.random.default_rng(5).normal(size=(2, 6, 37, 50)).astype(np.float32))


def twin_stack(kind: str) -> Stack:
    rng = np.random.default_rng(3)
    net = Stack(*KINDS[kind])
    with torch.no_grad():
        for parameter in net.parameters():
            reach = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(torch.from_numpy(rng.uniform(-reach, reach, parameter.shape)))
    net.train()
    net(pictures())  # shows the quantisers the range of their values
    set_mode(net, "twin")
    return net.eval().requires_grad_(False)


def frozen_stack(kind: str) -> Stack:
    net = twin_stack(kind)
    freeze(net)
    return net


def on_grid(x: Tensor, kind: str) -> Tensor:
    """Inputs as both arithmetics hold them exactly."""
    return x.to(KINDS[kind][1])


def digest() -> str:
    parts = [frozen_stack(kind)(on_grid(pictures(), kind)).contiguous().numpy().tobytes() for kind in KINDS]
    return hashlib.sha256(b"".join(parts)).hexdigest()


# ---- the oracle: int64, no torch


def integer_conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(B, I, H, W), (O, I, k, k), (O,) int64 -> (B, O, H, W) int64."""
    k = weight.shape[-1]
    _, _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2,) * 2, (k // 2,) * 2))
    out = np.zeros((len(x), len(weight), h, w), np.int64) + bias[:, None, None]
    for i in range(k):
        for j in range(k):
            out += np.einsum("oi,bihw->bohw", weight[:, :, i, j], padded[:, :, i : i + h, j : j + w])
    return out


def integer_rescale(x: np.ndarray, shift: np.ndarray | int, quantiser: FixedPoint) -> np.ndarray:
    """x 2**-shift, rounded half up and clamped, in shifts."""
    shift = np.broadcast_to(shift, x.shape)
    up, down = np.maximum(-shift, 0), np.maximum(shift, 0)
    rounded = ((x << up) + np.where(down > 0, 1 << np.maximum(down - 1, 0), 0)) >> down
    low = -quantiser.largest if quantiser.signed else 0
    return np.clip(rounded, low, quantiser.largest)


def integer_stack(net: Stack, x: Tensor) -> np.ndarray:
    """What `net` computes, as float64 values, from integers only."""

    def layer(part: ExactConv2d, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weight, bias = (t.numpy().astype(np.int64) for t in part.quantised())
        exponents = part.weight_exponent.numpy().astype(np.int64) + int(part.input_format.exponent)
        return integer_conv(values, weight, bias), exponents[:, None, None]

    scaled = np.floor(x.double().numpy() * 2.0 ** int(net.input.exponent) + 0.5).astype(np.int64)
    y = np.clip(scaled, -net.input.largest, net.input.largest)
    y, e = layer(net.conv1, y)
    y = integer_rescale(y, e - int(net.act1.exponent), net.act1)
    z, e = layer(net.conv2, y)
    # The skip connection adds on the finer of the two grids.
    own = int(net.act1.exponent)
    fine = np.maximum(e, own)
    y = (z << (fine - e)) + (y << (fine - own))
    y = integer_rescale(y, fine - int(net.act2.exponent), net.act2)
    y, e = layer(net.conv3, y)
    y = integer_rescale(y, e - int(net.act3.exponent), net.act3)
    y, e = layer(net.linear, y.transpose(0, 2, 3, 1).reshape(-1, 10, 1, 1))
    return (y * 2.0 ** -e.astype(np.float64)).reshape(*x.shape[:1], *x.shape[2:], 7)


@pytest.mark.parametrize("kind", KINDS)
def test_against_integers(kind: str) -> None:
    net = frozen_stack(kind)
    out = net(on_grid(pictures(), kind))
    assert out.shape == (2, 37, 50, 7)
    assert out.dtype == KINDS[kind][1]
    assert np.array_equal(out.double().numpy(), integer_stack(net, pictures()))
    assert 0.05 < float(out.std()) < 10  # not a test of zeros
    used = [int(part.exponent) for part in (net.act1, net.act2, net.act3)]
    assert all(exponent > 2 for exponent in used), used


# ---- other machines


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_same_bits(kind: str) -> None:
    net, x = frozen_stack(kind), on_grid(pictures(), kind)
    expected = net(x)
    for n in (1, 2):
        for onednn in (True, False):
            for layout in (torch.contiguous_format, torch.channels_last):
                with threads(n), torch.backends.mkldnn.flags(enabled=onednn):
                    assert torch.equal(net(x.contiguous(memory_format=layout)), expected), (n, onednn, layout)
                    assert torch.equal(net(x[1:]), expected[1:])
    # so does any order of summation
    for part in (net.conv1, net.conv2, net.conv3, net.linear):
        assert part._frozen is not None
        weight, bias = part._frozen
        size = (3, weight.shape[1], 9, 8)
        low = -part.input_format.largest if part.input_format.signed else 0
        values = torch.randint(low, part.input_format.largest + 1, size, generator=torch.Generator().manual_seed(1))
        values = (values * 2.0 ** -int(part.input_format.exponent)).to(weight.dtype)
        whole = ExactConv2d.forward(part, values)
        order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(2))
        pad = weight.shape[-1] // 2
        shuffled = nn.functional.conv2d(values[:, order], weight[:, order], bias, padding=pad)
        half = weight.shape[1] // 2
        halves = nn.functional.conv2d(values[:, half:], weight[:, half:], padding=pad)
        halves = halves + nn.functional.conv2d(values[:, :half], weight[:, :half], bias, padding=pad)
        assert torch.equal(whole, shuffled)
        assert torch.equal(whole, halves)


def test_an_ordinary_layer_has_other_bits() -> None:
    """The settings above do make a difference where arithmetic isn't exact, or the tests would show nothing."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(6, 24, 5, padding=2).requires_grad_(False), pictures()
    expected = layer(x)
    with torch.backends.mkldnn.flags(enabled=False):
        assert not torch.equal(layer(x), expected)


@pytest.mark.parametrize("setting", ["ATEN_CPU_CAPABILITY=default", "ONEDNN_MAX_CPU_ISA=SSE41"])
def test_same_bits_with_older_instructions(setting: str) -> None:
    name, _, value = setting.partition("=")
    run = subprocess.run(
        [sys.executable, "-P", str(Path(__file__).resolve())],
        env={**os.environ, name: value, "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    capability, actual = run.stdout.split()
    if name == "ATEN_CPU_CAPABILITY":
        assert capability == "DEFAULT"
    assert actual == digest()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_on_a_gpu(kind: str) -> None:
    x = on_grid(pictures(), kind)
    expected = frozen_stack(kind)(x)
    net = twin_stack(kind).cuda()
    freeze(net)
    assert torch.equal(net(x.cuda()).cpu(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("reach", [30, 2047])
def test_same_bits_of_a_split_layer_on_a_gpu(reach: int) -> None:
    layer, _ = split_layer(1)
    x = torch.from_numpy(np.random.default_rng(reach).integers(-reach, reach + 1, (2, 48, 9, 7))).float() * 2.0**-7
    worst = (layer.quantised()[0] > 0).float() * 4094 * 2.0**-7 - 2047 * 2.0**-7
    expected = [layer(inputs) for inputs in (x, worst)]
    on_gpu = split_layer(1)[0].cuda()
    on_gpu.freeze()
    for inputs, out in zip((x, worst), expected, strict=True):
        assert torch.equal(on_gpu(inputs.cuda()).cpu(), out)


# ---- training twin


@pytest.mark.parametrize("kind", KINDS)
def test_twin_is_the_frozen_layer_up_to_rounding(kind: str) -> None:
    """Layer by layer, on the same inputs; then at the end, where what rounds the other way has moved other values."""
    twin, frozen, float_ = twin_stack(kind), frozen_stack(kind), twin_stack(kind)
    set_mode(float_, "float")
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, part in frozen.named_children():
        part.register_forward_hook(lambda _, given, out, name=name: seen.update({name: (given[0], out)}))
    exact = frozen(on_grid(pictures(), kind))
    for name, part in twin.named_children():
        given, expected = seen[name]
        actual = part(given.float())
        assert actual.dtype == torch.float32
        difference = (actual.double() - expected.double()).abs()
        if isinstance(part, FixedPoint):
            assert float(difference.max()) <= 2.0 ** -int(part.exponent) * 1.01, name
            assert float((difference > 0).float().mean()) < 1e-2, name
        else:  # float32 sums, and a bias that isn't on the grid of the sums
            assert isinstance(part, ExactConv2d)
            unit = 2.0 ** -(int(part.weight_exponent.min()) + int(part.input_format.exponent))
            assert float(difference.max()) < 1e-5 * float(expected.abs().max()) + unit / 2, name
    scale = float(exact.std())
    rms = {name: float((net(pictures()) - exact).square().mean().sqrt()) for name, net in (("t", twin), ("f", float_))}
    # a twin that didn't round would be as far away as the float network is
    assert rms["t"] < 0.3 * rms["f"], rms
    assert (
        rms["f"] < (1e-3 if kind.startswith("float64") else 0.1) * scale
    )  # and the grids are fine enough to be of use


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind: str) -> None:
    net = twin_stack(kind).requires_grad_(True)
    net(pictures()).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_straight_through() -> None:
    x = torch.tensor([-3.2, -0.5, 0.49, 1.5, 700.0], requires_grad=True)
    assert round_half_up(x.detach()).tolist() == [-3, 0, 0, 2, 700]
    round_half_up_ste(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1] * 5
    quantiser = FixedPoint(8, signed=True)
    quantiser.mode = "twin"
    y = torch.tensor([-3.2, 700.0, -700.0], requires_grad=True)
    quantiser(y).sum().backward()
    assert y.grad is not None
    assert y.grad.tolist() == [1, 0, 0]


# ---- quantisers


@pytest.mark.parametrize("mode", ["twin", "frozen"])
@pytest.mark.parametrize("exponent", [-3, 0, 5])
def test_grid_and_bounds(mode: str, exponent: int) -> None:
    for signed, low, high in ((True, -127, 127), (False, 0, 255)):
        quantiser = FixedPoint(8, signed, exponent)
        quantiser.mode = mode  # type: ignore[assignment]
        step = 2.0**-exponent
        x = torch.arange(-300, 300, 0.25) * step
        assert quantiser.largest == high
        assert torch.equal(quantiser(x), torch.floor(x / step + 0.5).clamp(low, high) * step)


def test_values_on_a_limit_get_a_gradient() -> None:
    """With any PyTorch: what rounds to zero in a ReLU still learns."""
    x = torch.tensor([-9.0, -0.6, -0.2, 0.2, 3.0, 127.9, 200.0], requires_grad=True)
    quantiser = FixedPoint(7, signed=False)
    quantiser.mode = "twin"
    out = quantiser(x)
    out.sum().backward()
    assert out.tolist() == [0, 0, 0, 0, 3, 127, 127]
    assert x.grad is not None and x.grad.tolist() == [0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("leak", [1, 3])
def test_leak(leak: int) -> None:
    """Negative values at a fraction of their slope, on the same grid; the float layer is what the others round."""
    x = (torch.arange(-4000, 4000, 0.25, dtype=torch.float64) / 16).requires_grad_()
    quantiser = FixedPoint(8, signed=False, exponent=1, leak=leak).eval()
    plain = quantiser(x)
    assert torch.equal(plain, torch.where(x > 0, x, x / 2**leak))
    expected = torch.floor(plain.detach() * 2 + 0.5).clamp(-(255 >> leak), 255) / 2
    for mode in ("twin", "frozen"):
        quantiser.mode = mode  # type: ignore[assignment]
        assert torch.equal(quantiser(x).detach().double(), expected), mode
    assert (quantiser.smallest, quantiser.largest) == (-(255 >> leak), 255)
    quantiser.mode = "twin"
    quantiser(x).sum().backward()
    assert x.grad is not None
    inside = (plain.detach() * 2 > quantiser.smallest) & (x < 127) & (x != 0)
    assert torch.equal(x.grad[inside], torch.where(x > 0, 1.0, 2.0**-leak).double()[inside])


@settings(max_examples=50)
@given(peak=st.floats(1e-4, 1e6), bits=st.integers(4, 22), signed=st.booleans())
def test_calibration_takes_the_finest_grid_that_holds_the_peak(peak: float, bits: int, signed: bool) -> None:
    quantiser = FixedPoint(bits, signed)
    quantiser.calibrate(peak)
    exponent = int(quantiser.exponent)
    assert peak * 2.0**exponent <= quantiser.largest < peak * 2.0 ** (exponent + 1)


def test_watching() -> None:
    quantiser = FixedPoint(8, signed=False).train()
    x = torch.rand(100, 1000)
    x[3, 3] = 1e6  # one in 100 000
    assert torch.equal(quantiser(-x), torch.zeros_like(x))
    quantiser = FixedPoint(8, signed=False).train()
    assert torch.equal(quantiser(x), x)
    assert 0.99 < float(quantiser.peak) < 1.01
    quantiser.eval()
    quantiser(100 * x)
    assert float(quantiser.peak) < 1.01
    net = nn.Sequential(quantiser)
    set_mode(net, "twin")
    assert int(quantiser.exponent) == 7
    quantiser.peak.fill_(1000)
    set_mode(net, "twin")  # it stays as it is: the network has trained on this grid
    assert int(quantiser.exponent) == 7


# ---- bounds of sums


@settings(max_examples=40, deadline=None)
@given(
    scale=st.floats(1e-6, 1e4),
    bias=st.floats(-1e3, 1e3),
    seed=st.integers(0, 99),
    carrier=st.sampled_from([torch.float32, torch.float64]),
    bits=st.sampled_from([4, 8, 14]),
)
def test_no_input_overruns_the_carrier(scale: float, bias: float, seed: int, carrier: torch.dtype, bits: int) -> None:
    """The worst input there is, for each channel, gives what integers give."""
    torch.manual_seed(seed)
    quantiser = FixedPoint(10, signed=True, exponent=seed % 12)
    layer = ExactConv2d(16, 4, 3, quantiser, bits, carrier)
    with torch.no_grad():
        layer.conv.weight.mul_(scale)
        layer.conv.weight[0].mul_(1e-3)
        assert layer.conv.bias is not None
        layer.conv.bias.fill_(bias)
    layer.fit_exponents()
    layer.freeze()
    assert layer.sum_bits <= CARRIER_BITS[carrier]
    weight, bias_int = (t.numpy().astype(np.int64) for t in layer.quantised())
    assert np.abs(weight).max() <= 2 ** (bits - 1) - 1
    sign = 1 if bias >= 0 else -1
    worst = np.where(weight * sign > 0, 1, -1) * quantiser.largest  # (O, I, k, k), as 4 inputs of 3x3
    with torch.no_grad():
        out = layer(torch.from_numpy(worst * 2.0 ** -int(quantiser.exponent)))
    exponents = layer.weight_exponent.numpy() + int(quantiser.exponent)
    actual = out.double().numpy() * 2.0 ** exponents[:, None, None]
    expected = integer_conv(worst, weight, bias_int)
    assert np.array_equal(actual, expected)
    assert np.abs(expected).max() <= 2 ** CARRIER_BITS[carrier]
    reached = np.abs(np.diagonal(expected[:, :, 1, 1])).max()
    assert reached > 2 ** (layer.sum_bits - 1e-6) - 2  # the bound is tight


def test_freeze_refuses_sums_that_could_be_rounded() -> None:
    layer = ExactConv2d(64, 8, 3, FixedPoint(10, signed=False), 16, torch.float32)
    layer.fit_exponents()
    layer.freeze()
    layer.weight_exponent += 2
    with pytest.raises(ValueError, match="fit_exponents"):
        layer.freeze()
    layer.fit_exponents()
    layer.freeze()
    with torch.no_grad():
        assert layer.conv.bias is not None
        layer.conv.bias.fill_(1e9)
    with pytest.raises(ValueError, match="more than"):
        layer.freeze()


def test_exponents_are_the_finest_that_fit() -> None:
    quantiser = FixedPoint(8, signed=False, exponent=4)
    layer = ExactConv2d(4, 3, 1, quantiser, 8, torch.float64)
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.weight[0, 0], layer.conv.weight[1, 0], layer.conv.weight[2, 0] = 0.9, -100.0, 1e-11
        assert layer.conv.bias is not None
        layer.conv.bias.copy_(torch.tensor([0.3, 0.0, 0.0]))
    layer.fit_exponents()
    assert layer.weight_exponent.tolist() == [7, 0, 30]  # 115/128; -100; nothing finer than 2**-30
    weight, bias = layer.quantised()
    assert weight[:, 0, 0, 0].tolist() == [115, -100, 0]
    assert bias.tolist() == [round(0.3 * 2**11), 0, 0]


@pytest.mark.parametrize("carrier", [torch.float32, torch.float64])
def test_a_part_of_the_outputs(carrier: torch.dtype) -> None:
    """Stride and offset pick outputs of the whole convolution, in each mode."""
    torch.manual_seed(0)
    quantiser = FixedPoint(8, signed=True, exponent=3)
    x = torch.randint(-127, 128, (2, 3, 9, 8), generator=torch.Generator().manual_seed(0)).to(carrier) / 8
    for kernel in (1, 3, 5):
        layer = ExactConv2d(3, 4, kernel, quantiser, 8, carrier).requires_grad_(False)
        for freezing in (False, True):
            if freezing:
                layer.fit_exponents()
                layer.freeze()
            given = x if freezing else x.float()
            whole = layer(given)
            for stride, offset in ((1, 0), (2, 0), (2, 1), (4, 2)):
                part = layer(given, stride, offset)
                assert torch.equal(part, whole[:, :, offset::stride, offset::stride]), (kernel, stride, offset)


def test_linear() -> None:
    quantiser = FixedPoint(8, signed=True, exponent=3)
    layer = ExactLinear(5, 4, quantiser, 8)
    x = torch.randint(-127, 128, (2, 3, 7, 5), generator=torch.Generator().manual_seed(0)).double() / 8
    assert torch.allclose(
        layer(x.float()), nn.functional.linear(x.float(), layer.conv.weight[:, :, 0, 0], layer.conv.bias)
    )
    layer.fit_exponents()
    layer.freeze()
    out = layer(x)
    assert out.shape == (2, 3, 7, 4)
    weight, bias = layer.quantised()
    expected = (x * 8) @ weight[:, :, 0, 0].T + bias
    assert torch.equal(out, expected * torch.exp2(-layer.weight_exponent.double() - 3))
    assert torch.equal(layer(x[0, 0, 0]), out[0, 0, 0])


if __name__ == "__main__":
    print(torch.backends.cpu.get_cpu_capability(), digest())


def split_layer(seed: int, bits: int = 12, split: int = 5) -> tuple[ExactConv2d, FixedPoint]:
    """float32, and an input too fine for it: a worst case of 2**26 or so."""
    torch.manual_seed(seed)
    quantiser = FixedPoint(bits, signed=True, exponent=7)
    layer = ExactConv2d(48, 6, 3, quantiser, 8, torch.float32, split).requires_grad_(False)
    layer.fit_exponents()
    layer.freeze()
    return layer, quantiser


@pytest.mark.parametrize("reach", [30, 300, 2047])
def test_finer_inputs_than_fit_give_what_integers_give(reach: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones at once, large ones in two parts: the same integers, whichever way is taken."""
    layer, quantiser = split_layer(1)
    weight, bias = (t.numpy().astype(np.int64) for t in layer.quantised())
    assert np.abs(weight).sum((1, 2, 3)).max() * quantiser.largest > 2**24  # no bound for all inputs
    x = np.random.default_rng(reach).integers(-reach, reach + 1, (2, 48, 9, 7))
    given = torch.from_numpy(x.astype(np.float32)) * 2.0**-7
    assert layer._fits(given) == (reach <= 300)
    expected = integer_conv(x, weight, bias)
    units = 2.0 ** (layer.weight_exponent.numpy() + 7)[:, None, None]
    assert np.array_equal(layer(given).double().numpy() * units, expected)
    monkeypatch.setattr(ExactConv2d, "_fits", lambda self, x: False)
    assert np.array_equal(layer(given).double().numpy() * units, expected)
    assert torch.equal(layer(given, 2, 1), layer(given)[:, :, 1::2, 1::2])


def test_worst_input_of_a_split_layer() -> None:
    """Every weight meets the largest input of its sign: one rounding of the true sum, as float64 would give."""
    layer, quantiser = split_layer(2)
    weight, bias = (t.numpy().astype(np.int64) for t in layer.quantised())
    worst = np.where(weight > 0, 1, -1) * quantiser.largest
    given = torch.from_numpy((worst * 2.0**-7).astype(np.float32))
    assert not layer._fits(given)
    expected = integer_conv(worst, weight, bias)
    assert np.abs(expected).max() > 2**24
    units = 2.0 ** (layer.weight_exponent.numpy() + 7)[:, None, None]
    assert np.array_equal(layer(given).numpy(), (expected / units).astype(np.float32))


@given(seed=st.integers(0, 999), reach=st.integers(1, 2047), spread=st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_what_fits_is_below_the_bound(seed: int, reach: int, spread: float) -> None:
    """Inputs that lean towards the weights' signs: wherever `_fits` says so, no sum of magnitudes leaves 2**23."""
    layer, _ = split_layer(seed % 3)
    weight, bias = layer.quantised()
    rng = np.random.default_rng(seed)
    lean = np.sign(weight[seed % 6].numpy())
    x = np.where(rng.random(lean.shape) < spread, lean * reach, rng.integers(-reach, reach + 1, lean.shape))
    given = torch.from_numpy((x * 2.0**-7).astype(np.float32))[None]
    if layer._fits(given):
        magnitudes = torch.nn.functional.conv2d(torch.from_numpy(np.abs(x))[None].double(), weight.abs(), padding=1)
        assert float((magnitudes + bias.abs()[:, None, None]).max()) <= 2**23


def test_parts_of_a_split_layer_have_a_bound_for_all_inputs() -> None:
    layer, _ = split_layer(3, bits=14, split=3)
    assert 22 < layer.sum_bits <= 23
    layer.weight_exponent += 1
    with pytest.raises(ValueError, match="fit_exponents"):
        layer.freeze()


def integers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-127, 128, shape, generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("batch", [1, 15, 16, 47])
def test_any_batch_without_onednn(batch: int) -> None:
    """From 16 on, torch gives a float32 convolution to NNPACK, whose Winograd transforms leave the grid."""
    x, weight, bias = integers(batch, 20, 12, 12), integers(8, 20, 3, 3, seed=1), integers(8, seed=2)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=1).float()
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(exact.exact_conv2d(x, weight, bias), expected)
    assert torch.equal(exact.exact_conv2d(x, weight, bias), expected)


@pytest.mark.parametrize("allowed", ["by the caller", "by the environment"])
def test_lower_precision_is_not_taken(allowed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of bfloat16 lose bits: then float64 carries the integers, whatever this processor would do."""
    x, weight = integers(2, 5, 9, 9), integers(4, 5, 3, 3, seed=1)
    dtypes: list[torch.dtype] = []
    conv2d = F.conv2d
    monkeypatch.setattr(exact.F, "conv2d", lambda x, *rest: (dtypes.append(x.dtype), conv2d(x, *rest))[1])
    expected = exact.grid_conv2d(x, weight)
    product = exact.grid_product(x[0, 0], x[1, 0])
    assert exact.keeps_float32()
    try:
        if allowed == "by the caller":
            torch.set_float32_matmul_precision("medium")
        else:
            monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "bf16")
        assert not exact.keeps_float32()
        assert torch.equal(exact.grid_conv2d(x, weight), expected)
        assert torch.equal(exact.grid_product(x[0, 0], x[1, 0]), product)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert dtypes == [torch.float32, torch.float64]
