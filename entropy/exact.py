"""Layers whose results are the same bits on every machine: fixed-point networks carried in floating-point tensors.

A float32 tensor holds every integer below 2**24 exactly and a float64 tensor every integer below 2**53; so does
either for integers times a fixed power of two. As long as weights, activations and all partial sums stay on such a
grid and below that bound, additions have no rounding and so no order: thread count, memory format, instruction set
and library make no difference. The idea of integer networks is Ballé, Johnston, Minnen, "Integer Networks for Data
Compression with Latent-Variable Models", ICLR 2019. Differs: power-of-two rescaling only, and the integers live in
float tensors, where convolutions are fast everywhere.

One class serves for training and for use, in three modes:

- float: an ordinary layer, to train the bulk of the way;
- twin: weights and activations are rounded to their grids with straight-through gradients; what it computes is what
  the exact layer computes, up to the rounding of biases and of the training arithmetic (bfloat16 or float32);
- frozen (`freeze`): weights become integers with an exponent per output channel, and the bound on every partial sum is
  checked, not assumed: `freeze` raises if the carrier could be overrun by any input that the layer accepts.

A layer may take an input finer than that allows (`split`). Then each input is looked at: by Cauchy and Schwarz no sum,
and no part of one, exceeds the norm of a window times the norm of a channel's weights, which is far below the worst
case for what networks really make. An input beyond it is cut into high and low bits, whose convolutions both fit. All
ways give the same integers, so which one was taken makes no difference.
"""

from __future__ import annotations

import math
import os
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mode = Literal["float", "twin", "frozen"]

# One bit less than the significand: rounding adds half a unit, which needs one more bit.
CARRIER_BITS = {torch.float32: 23, torch.float64: 52}


def round_half_up(x: Tensor) -> Tensor:
    """floor(x + 1/2): exact on any machine if x + 1/2 is representable (torch.round's ties to even would be, too)."""
    return torch.floor(x + 0.5)


def round_half_up_ste(x: Tensor) -> Tensor:
    """x rounded half up, with a straight-through gradient: that of the identity."""
    return x + (round_half_up(x) - x).detach()


def clamp_closed(x: Tensor, low: float, high: float) -> Tensor:
    """torch.clamp, whose gradient at a limit is that of the identity.

    PyTorch 2.14 made the gradient of torch.clamp zero there. Rounded values lie on a limit often: a ReLU's on zero.
    """
    return torch.where((x >= low) & (x <= high), x, x.detach().clamp(low, high))


class FixedPoint(nn.Module):
    """A quantiser: rounds to multiples of 2**-exponent and clamps to `bits` bits.

    signed: integers from -(2**(bits-1) - 1) to 2**(bits-1) - 1; otherwise 0 to 2**bits - 1, which makes it a ReLU as
    well, or with a leak a leaky ReLU: negative values are multiplied by 2**-leak, and end at -(2**bits - 1) / 2**leak.
    In float mode it passes its input on (unsigned: through the ReLU) and remembers the largest value, from which
    `calibrate` sets the exponent.
    """

    exponent: Tensor
    peak: Tensor
    watching = True  # whether peaks are looked at in training: a look makes a GPU wait

    def __init__(self, bits: int, signed: bool, exponent: int = 0, leak: int = 0) -> None:
        super().__init__()
        assert not (signed and leak)
        self.bits, self.signed, self.leak = bits, signed, leak
        self.mode: Mode = "float"
        self._calls = 0
        self.register_buffer("exponent", torch.tensor(exponent, dtype=torch.int32))
        self.register_buffer("peak", torch.zeros(()), persistent=False)

    @property
    def largest(self) -> int:
        """The largest magnitude of the integers."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    def calibrate(self, quantile_peak: float | None = None) -> None:
        """Sets the finest grid that still holds the largest value seen in float mode (or the given one)."""
        peak = float(self.peak) if quantile_peak is None else quantile_peak
        if peak > 0:
            self.exponent.fill_(math.floor(math.log2(self.largest / peak)))

    @torch.no_grad()
    def _watch(self, x: Tensor) -> None:
        """Updates the running estimate of the 99.99 % quantile of |x|, from a sample of every 16th call."""
        self._calls += 1
        if self._calls % 16 == 1:
            # not the maximum: a single outlier must not cost everyone a bit
            sample = x.detach().flatten()[:: max(1, x.numel() // 20000)].float().abs()
            self.peak.lerp_(torch.quantile(sample, 0.9999), 0.1 if float(self.peak) else 1.0)

    @property
    def smallest(self) -> int:
        """The most negative integer."""
        return -self.largest if self.signed else -(self.largest >> self.leak) if self.leak else 0

    def _rectified(self, x: Tensor) -> Tensor:
        # a power of two as the slope of a leak: the product is exact
        return F.leaky_relu(x, 2.0**-self.leak) if self.leak else F.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "float":
            x = x if self.signed else self._rectified(x)
            if self.training and self.watching:
                self._watch(x)
            return x
        if self.mode == "twin":
            x = self._rectified(x.float()) if self.leak else x.float()
            # on a GPU nothing may make it wait for the processor
            scale = torch.exp2(self.exponent.float()) if x.is_cuda else 2.0 ** int(self.exponent)
            return clamp_closed(round_half_up_ste(x * scale), self.smallest, self.largest) * (1 / scale)
        scale = 2.0 ** int(self.exponent)
        # one new tensor, then in place: fresh memory costs more than the arithmetic
        x = self._rectified(x).mul_(scale) if self.leak else x * scale
        return x.add_(0.5).floor_().clamp_(self.smallest, self.largest).mul_(1 / scale)


class ExactConv2d(nn.Module):
    """A 2-D convolution (zero padding, "same" size) on fixed-point inputs; `ExactLinear` is its 1x1 case.

    input_format: the quantiser that made the input (its bits bound the sums). weight_bits: at most so many bits a
    weight, sign included; fewer where the sum of a channel would not fit the carrier. Output values lie on a grid of
    their own per channel, 2**-(weight exponent + input exponent); pass them through a `FixedPoint` before the next
    layer.
    """

    weight_exponent: Tensor
    sum_bits: float

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        input_format: FixedPoint,
        weight_bits: int = 16,
        carrier: torch.dtype = torch.float64,
        split: int = 0,
    ) -> None:
        """Makes a layer in float mode. split: number of low bits of an input, where all may not fit the carrier."""
        super().__init__()
        self.split = split
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.kernel = kernel
        self._input = (input_format,)  # in a tuple: it belongs to somebody else, so it is not a submodule of this one
        self.weight_bits, self.carrier = weight_bits, carrier
        self.mode: Mode = "float"
        self.register_buffer("weight_exponent", torch.zeros(out_channels, dtype=torch.int32))
        self._frozen: tuple[Tensor, Tensor] | None = None
        self._safe_square = math.inf  # of an input's windows, sums of squares: up to here all sums fit the carrier

    @property
    def input_format(self) -> FixedPoint:
        return self._input[0]

    @property
    def _largest_input(self) -> int:
        """The integer that sums are bounded for without a look at the input: its largest, or that of its parts."""
        largest = self.input_format.largest
        return max((largest >> self.split) + 1, 2**self.split) if self.split else largest

    @torch.no_grad()
    def fit_exponents(self) -> None:
        """Chooses the finest grid per output channel that keeps weights in `weight_bits` and sums in the carrier."""
        flat = self.conv.weight.detach().double().flatten(1)
        largest = flat.abs().amax(1).clamp_min(1e-12)
        room = 2.0 ** CARRIER_BITS[self.carrier] * 0.98  # rounding the weights may raise their sum a little
        bias = self.conv.bias
        assert bias is not None
        grid_input = 2.0 ** int(self.input_format.exponent)
        total = flat.abs().sum(1) * self._largest_input + bias.detach().double().abs() * grid_input
        by_size = torch.floor(torch.log2((2 ** (self.weight_bits - 1) - 1) / largest))
        by_sum = torch.floor(torch.log2(room / total.clamp_min(1e-12)))
        # a tiny weight range needs no finer grid than 2**-30: keeps exponents far from the limits of the float formats
        self.weight_exponent.copy_(torch.minimum(torch.minimum(by_size, by_sum), torch.tensor(30.0)).to(torch.int32))

    def quantised(self) -> tuple[Tensor, Tensor]:
        """Integer weights (O, I, k, k) and biases (O,), float64, on the grids of the exponents."""
        bias = self.conv.bias
        assert bias is not None
        scale = torch.exp2(self.weight_exponent.double())
        limit = 2 ** (self.weight_bits - 1) - 1
        weight = torch.clamp(
            round_half_up(self.conv.weight.detach().double() * scale[:, None, None, None]), -limit, limit
        )
        return weight, round_half_up(bias.detach().double() * scale * 2.0 ** int(self.input_format.exponent))

    @torch.no_grad()
    def freeze(self) -> None:
        """Fixes the integers and proves that no input can overrun the carrier."""
        weight, bias = self.quantised()
        worst = weight.abs().flatten(1).sum(1) * self._largest_input + bias.abs()
        room = 2.0 ** CARRIER_BITS[self.carrier]
        if float(worst.max()) > room:
            raise ValueError(
                f"a sum of this layer can reach 2**{math.log2(float(worst.max())):.1f}, "
                f"more than {self.carrier} holds exactly; call fit_exponents() first"
            )
        self.sum_bits = math.log2(max(1.0, float(worst.max())))
        if self.split:
            norm = weight.square().flatten(1).sum(1).sqrt().clamp_min(1)
            # a thousandth for the sum of squares, which is rounded
            reach = float(((room - bias.abs()).clamp_min(0) / norm).min()) * 2.0 ** -int(self.input_format.exponent)
            self._safe_square = 0.999 * reach**2
        scale = torch.exp2(-self.weight_exponent.double())
        device = self.conv.weight.device
        memory_format = torch.channels_last if self.carrier == torch.float32 else torch.contiguous_format
        self._frozen = (
            (weight * scale[:, None, None, None]).to(device, self.carrier).contiguous(memory_format=memory_format),
            (bias * scale * 2.0 ** -int(self.input_format.exponent)).to(device, self.carrier),
        )
        self.mode = "frozen"

    def forward(self, x: Tensor, stride: int = 1, offset: int = 0) -> Tensor:
        """Convolves x (B, I, H, W) on its input grid. Returns (B, O, ...) at rows, columns offset + i stride."""
        if self.mode == "frozen":
            assert self._frozen is not None
            weight, bias = self._frozen
            x = x.to(weight.dtype)
            if self.split and x.device.type == "cpu" and not self._fits(x):
                return self._in_parts(x, weight, bias, stride, offset)
            return exact_conv2d(x, weight, bias, stride, offset)
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        if self.mode == "twin":
            limit = 2 ** (self.weight_bits - 1) - 1
            scale = torch.exp2(self.weight_exponent.to(weight.dtype))[:, None, None, None]
            weight = clamp_closed(round_half_up_ste(weight * scale), -limit, limit) / scale
        y = F.conv2d(x, weight, bias, padding=self.kernel // 2)
        return y[:, :, offset::stride, offset::stride] if stride > 1 or offset else y

    def _fits(self, x: Tensor) -> bool:
        """True if no sum over this input can leave the carrier, in any order of additions."""
        squares = x.square().sum(1, keepdim=True)
        windows = F.avg_pool2d(squares, self.kernel, 1, self.kernel // 2) * self.kernel**2
        return float(windows.max()) <= self._safe_square

    def _in_parts(self, x: Tensor, weight: Tensor, bias: Tensor, stride: int, offset: int) -> Tensor:
        """The convolution by high and low bits; what float32 can't hold is rounded once, as a float64 product is."""
        unit = 2.0 ** (self.split - int(self.input_format.exponent))
        high = torch.floor(x * (1 / unit)) * unit
        zero = torch.zeros_like(bias)
        parts = [exact_conv2d(part, weight, zero, stride, offset).double() for part in (high, x - high)]
        return (parts[0] + parts[1] + bias.double()[:, None, None]).to(weight.dtype)


def exact_conv2d(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, offset: int = 0) -> Tensor:
    """A zero-padded convolution of operands on fixed-point grids whose sums fit their dtype.

    Returns the outputs at rows and columns offset, offset + stride, ... of the "same"-sized result.
    On GPUs the product is an explicit matrix product in float64, which no TF32 setting touches: library convolutions
    may pick Winograd or FFT algorithms, whose intermediate values leave the grid.
    """
    with torch.autocast(x.device.type, enabled=False):  # a caller's autocast must not reach in here
        return _exact_conv2d(x, weight, bias, stride, offset)


def _exact_conv2d(x: Tensor, weight: Tensor, bias: Tensor, stride: int, offset: int) -> Tensor:
    kernel = weight.shape[-1]
    pad = kernel // 2
    if offset or stride > 1:
        x, pad = F.pad(x, (pad - offset, pad, pad - offset, pad)), 0  # negative padding crops
    if x.device.type == "cpu":
        return grid_conv2d(x, weight, bias, stride, pad)
    h, w = ((side + 2 * pad - kernel) // stride + 1 for side in x.shape[-2:])
    columns = F.unfold(x, kernel, padding=pad, stride=stride)  # (B, I k k, h w)
    wide = weight.double().flatten(1)
    # a few thousand positions at a time: float64 columns of a whole picture would not fit
    # rounded once, after the bias: a sum may leave float32 where an input has more bits than fit (`split`)
    shift = bias.double()[:, None]
    parts = [(wide @ part.double() + shift).to(weight.dtype) for part in columns.split(1 << 16, 2)]
    return torch.cat(parts, 2).reshape(len(x), -1, h, w)


# From this batch on, torch may give a float32 convolution to NNPACK, whose Winograd transforms leave the grid: it does
# where oneDNN is missing or switched off.
_NNPACK_BATCH = 16


def grid_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """F.conv2d on a CPU, of operands on a grid whose sums fit their dtype: no algorithm or precision that leaves it."""
    if x.dtype != torch.float32 or (keeps_float32() and len(x) < _NNPACK_BATCH):
        return F.conv2d(x, weight, bias, stride, padding)
    if not keeps_float32():
        wide = None if bias is None else bias.double()
        return F.conv2d(x.double(), weight.double(), wide, stride, padding).float()
    return torch.cat([F.conv2d(part, weight, bias, stride, padding) for part in x.split(_NNPACK_BATCH - 1)])


def grid_product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product of operands on a grid whose sums fit their dtype, at its full precision."""
    if a.device.type != "cpu" or a.dtype != torch.float32 or keeps_float32():
        return a @ b
    return (a.double() @ b.double()).float()


def keeps_float32() -> bool:
    """Whether float32 products on the CPU keep all their bits: a caller, or the environment, may allow bfloat16."""
    modes = (os.environ.get(f"{library}_DEFAULT_FPMATH_MODE", "") for library in ("ONEDNN", "DNNL"))
    if any(mode.upper() not in ("", "STRICT") for mode in modes):
        return False
    try:
        onednn: Any = torch.backends.mkldnn
        parts = [getattr(onednn, name, None) for name in ("conv", "matmul")]
        allowed = {getattr(part, "fp32_precision", "none") for part in parts}
        return allowed <= {"none", "ieee"} and torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # settings of the old kind and of the new one together
        return False


class ExactLinear(ExactConv2d):
    """A linear layer on (..., in_features): a 1x1 `ExactConv2d`."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        input_format: FixedPoint,
        weight_bits: int = 16,
        carrier: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(in_features, out_features, 1, input_format, weight_bits, carrier)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1], 1, 1)
        return super().forward(flat).reshape(*x.shape[:-1], -1)


def set_mode(module: nn.Module, mode: Literal["float", "twin"]) -> None:
    """Switches every exact layer below `module`; entering twin mode chooses the grids."""
    for part in module.modules():
        if isinstance(part, FixedPoint):
            if mode == "twin" and part.mode == "float":
                part.calibrate()
            part.mode = mode
    for part in module.modules():
        if isinstance(part, ExactConv2d):
            part.mode = mode
            if mode == "twin":
                part.fit_exponents()


def freeze(module: nn.Module) -> None:
    """Turns every exact layer below `module` into its integer form, for use."""
    for part in module.modules():
        if isinstance(part, FixedPoint):
            part.mode = "frozen"
    for part in module.modules():
        if isinstance(part, ExactConv2d):
            part.freeze()
    module.eval()
