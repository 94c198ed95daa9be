"""The small audio models in NumPy, without torch: encoding in float64, and decoding to the same samples everywhere.

A decoder's values are integers held in float64, and no sum of products can reach 2**53, whatever the latents are: the
bounds are checked when weights are read. Sums are exact then, so that their order makes no difference: thread count,
library, instruction set, where a recording is cut into windows. What isn't a sum of products is one operation of IEEE
754 on each value. Grids: latents as they are expanded 2**-16, activations 2**-14, wavelet coefficients 2**-22, samples
2**-23; what goes beyond a grid's limit stays at it. Snake is a table of sin**2 over a period, 2**15 entries of 2**-20.

A recording is an endless sequence of frames, whose latents are zero beyond its own. A frame of samples depends on
`PacketConfig.halo` frames to either side: any part can be decoded alone, and is the same as in the whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ....errors import StreamError
from ..config import EXPANSION_BITS, expansion_integers, inverse_gain, largest_latent, rounding_edges
from .packets import DILATIONS, REACH, PacketConfig, filter_bank, stage_levels

__all__ = ["PacketDecoder", "PacketEncoder", "frames_of", "integer_bank", "snake_table", "tensor_shapes"]

Array = NDArray[np.float64]

INPUT_BITS = EXPANSION_BITS  # fractional bits of expanded latents
ACTIVATION_BITS = 14  # of the network's activations
COEFFICIENT_BITS = 22  # of wavelet coefficients, and of samples before the post-filter
BANK_BITS = 18  # of the filter banks and of the post-filter
SAMPLE_BITS = 23  # of decoded samples
LARGEST_INPUT = 2**30  # in units of each grid
LARGEST_ACTIVATION = 2**25
LARGEST_COEFFICIENT = 2**27
LARGEST_SAMPLE = 2**26
PHASE_BITS, TABLE_BITS = 20, 15  # of a frequency, in periods; of the table's index
SINE_BITS, AMPLITUDE_BITS = 20, 10  # of the table's entries; of an amplitude
LARGEST_FACTOR = 2**24  # of frequencies and amplitudes: products stay in int64
CARRIER = 2**53
POST_BLOCK = 64  # samples to a block of the post-filter
CHUNK = 256  # frames that are worked on at once
MOST_GAIN16 = 96  # magnitude of 16 log2(gain)


def tensor_shapes(config: PacketConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a small model's weights file, by name."""
    latent, bands, width, kernel = config.latent, config.bands, config.width, config.kernel
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.weight": (latent, bands),
        "encoder.bias": (latent,),
        "decoder.input_exponent": (latent,),
        "decoder.gain": (width,),
        "decoder.output_exponent": (bands,),
        "post.weight": (config.channels, config.channels, config.post_taps),
    }

    def layer(name: str, outputs: int, inputs: int, taps: int) -> None:
        shapes[f"{name}.weight"] = (taps, inputs, outputs)
        shapes[f"{name}.bias"] = shapes[f"{name}.weight_exponent"] = (outputs,)

    def snake(name: str) -> None:
        shapes[f"{name}.frequency"] = shapes[f"{name}.amplitude"] = (width,)

    layer("decoder.linear", bands, latent, config.linear_taps)
    layer("decoder.first", width, latent, kernel)
    for k in range(config.blocks * len(DILATIONS)):
        snake(f"decoder.units.{k}.snake1")
        layer(f"decoder.units.{k}.conv1", width, width, kernel)
        snake(f"decoder.units.{k}.snake2")
        layer(f"decoder.units.{k}.conv2", width, width, 1)
    snake("decoder.snake")
    layer("decoder.last", bands, width, kernel)
    return shapes


def frames_of(n: int, config: PacketConfig) -> int:
    """The latent frames of n samples: one before the first sample and one behind the last, as in the paper."""
    return -(-n // config.frame) + 2


def rounded(x: Array, scale: Array | float, limit: int) -> Array:
    """The integers x times a power of two, rounded half up, at most `limit` in magnitude; x is written over."""
    x *= scale
    x += 0.5
    np.floor(x, out=x)
    return np.clip(x, -limit, limit, out=x)


def power_of_two(exponent: NDArray[np.int64]) -> Array:
    """The powers of two of whole exponents, exactly: `np.exp2` promises no more than a small error."""
    return np.ldexp(1.0, exponent)


@lru_cache(maxsize=16)
def integer_bank(levels: int) -> Array:
    """The inverse filter bank as a matrix (9 m, m) of integers of 2**-BANK_BITS: nine blocks of bands to m samples."""
    bank = filter_bank(levels, True).transpose(0, 2, 1)  # (9, bands, samples)
    return np.rint(bank.reshape(-1, bank.shape[2]) * 2.0**BANK_BITS)


@lru_cache(maxsize=1)
def snake_table() -> NDArray[np.int64]:
    """The table round(2**SINE_BITS sin(pi i / 2**TABLE_BITS)**2); no entry lies near a rounding boundary."""
    entries = [math.sin(math.pi * i / 2**TABLE_BITS) ** 2 for i in range(2**TABLE_BITS)]
    return np.floor(np.array(entries) * 2.0**SINE_BITS + 0.5).astype(np.int64)


def windows(blocks: NDArray[Any], count: int) -> NDArray[Any]:
    """The runs of `count` blocks, (P, T - count + 1, count * m), one behind each other, of blocks (P, T, m); a copy."""
    blocks = np.ascontiguousarray(blocks)
    parts, n, m = blocks.shape
    across, along, inside = blocks.strides
    view = as_strided(blocks, (parts, n - count + 1, count * m), (across, along, inside), writeable=False)
    return np.ascontiguousarray(view)


class Layer:
    """A convolution in integers: x (T, inputs) to sums (T - (taps - 1) dilation, outputs), "valid" at its ends.

    exponent: of the weights, for each output. ValueError if a sum could leave float64.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], name: str, largest: float, more: Any = 0.0) -> None:
        """Reads the layer of a name. largest: magnitude of its inputs; more: what else is added to an output."""
        weight, bias, exponent = (arrays[f"{name}.{part}"] for part in ("weight", "bias", "weight_exponent"))
        if any(array.dtype.kind != "i" for array in (weight, bias, exponent)):
            raise ValueError(f"{name} isn't a layer of integers")
        self.weight, self.bias = weight.astype(np.float64), bias.astype(np.float64)
        self.exponent = exponent.astype(np.int64)
        if float((np.abs(self.weight).sum((0, 1)) * largest + np.abs(self.bias) + more).max()) >= CARRIER:
            raise ValueError(f"the sums of {name} don't fit 53 bits")

    def __call__(self, x: Array, dilation: int = 1) -> Array:
        """The sums, bias included, in units of 2**-(exponent of the weights + that of x)."""
        taps = len(self.weight)
        n = len(x) - (taps - 1) * dilation
        total = x[:n] @ self.weight[0]
        for k in range(1, taps):
            total += x[k * dilation : k * dilation + n] @ self.weight[k]
        total += self.bias
        return total

    def scale(self, source: int, target: int) -> Array:
        """The factor that brings sums over inputs of 2**-source to 2**-target."""
        return power_of_two(target - source - self.exponent)


class Snake:
    """x + sin(alpha x)**2 / beta on integers of 2**-ACTIVATION_BITS, through a table."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], name: str) -> None:
        """Reads the activation of a name. ValueError if its factors are too large."""
        factors = [arrays[f"{name}.{part}"] for part in ("frequency", "amplitude")]
        if any(factor.dtype.kind != "i" or int(np.abs(factor).max()) > LARGEST_FACTOR for factor in factors):
            raise ValueError(f"{name} isn't an activation in integers of 25 bits")
        self.frequency, self.amplitude = factors[0].astype(np.int64), factors[1].astype(np.int64)

    def __call__(self, x: Array) -> Array:
        """The activations of x (T, width), a new array."""
        shift = ACTIVATION_BITS + PHASE_BITS - TABLE_BITS
        phase = x.astype(np.int64)
        phase *= self.frequency
        phase += 1 << (shift - 1)
        phase >>= shift
        phase &= 2**TABLE_BITS - 1
        y = snake_table().take(phase)
        y *= self.amplitude
        shift = SINE_BITS + AMPLITUDE_BITS - ACTIVATION_BITS
        y += 1 << (shift - 1)
        y >>= shift
        y = y + x
        return np.clip(y, -LARGEST_ACTIVATION, LARGEST_ACTIVATION, out=y)


class PacketDecoder:
    """The decoder of a small model. ValueError where its tensors, or the bounds of its sums, are others."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: PacketConfig) -> None:
        self.config = config
        self.largest = largest_latent(config.latent_bits)
        self.table = expansion_integers(config.latent_bits).astype(np.float64)
        self.input_scale = power_of_two(-arrays["decoder.input_exponent"].astype(np.int64))[:, None]
        self.gain = arrays["decoder.gain"].astype(np.float64)
        self.linear = Layer(arrays, "decoder.linear", LARGEST_INPUT)
        self.first = Layer(arrays, "decoder.first", LARGEST_INPUT, MOST_GAIN16 * np.abs(self.gain))
        names = [f"decoder.units.{k}" for k in range(config.blocks * len(DILATIONS))]
        self.units = [
            (
                Snake(arrays, f"{name}.snake1"),
                Layer(arrays, f"{name}.conv1", LARGEST_ACTIVATION),
                Snake(arrays, f"{name}.snake2"),
                Layer(arrays, f"{name}.conv2", LARGEST_ACTIVATION),
                DILATIONS[k % len(DILATIONS)],
            )
            for k, name in enumerate(names)
        ]
        self.snake = Snake(arrays, "decoder.snake")
        self.last = Layer(arrays, "decoder.last", LARGEST_ACTIVATION)
        self.output_scale = power_of_two(arrays["decoder.output_exponent"].astype(np.int64))
        self.post = _post_matrix(arrays["post.weight"])
        banks = [np.abs(integer_bank(level)).sum(0).max() for level in stage_levels(config.levels)]
        if max(*banks, float(np.abs(self.post).sum(0).max())) * LARGEST_COEFFICIENT >= CARRIER:
            raise ValueError("the sums of post.weight don't fit 53 bits")

    def expanded(self, latents: NDArray[Any], gain16: int) -> Array:
        """The expanded latents (T, latent), each divided by its usual size, of integers (latent, T).

        StreamError if a latent is out of range.
        """
        if latents.ndim != 2 or len(latents) != self.config.latent:
            raise StreamError(f"latents of shape {latents.shape}: expected {self.config.latent} to a frame")
        if latents.size and max(-int(latents.min()), int(latents.max())) > self.largest:
            raise StreamError("a latent is out of range: the stream is damaged")
        v = self.table[latents.astype(np.int64) + self.largest]
        v = rounded(v, self.input_scale * inverse_gain(gain16), LARGEST_INPUT)
        return np.ascontiguousarray(v.T)

    def coefficients(self, v: Array, gain16: int) -> Array:
        """The wavelet coefficients (T - 2 receptive_field, bands) of expanded latents (T, latent)."""
        x = self.first(v)
        x += self.gain * gain16
        x = rounded(x, self.first.scale(INPUT_BITS, ACTIVATION_BITS), LARGEST_ACTIVATION)
        for snake1, conv1, snake2, conv2, dilation in self.units:
            scale1, scale2 = (conv.scale(ACTIVATION_BITS, ACTIVATION_BITS) for conv in (conv1, conv2))
            y = rounded(conv1(snake1(x), dilation), scale1, LARGEST_ACTIVATION)
            y = rounded(conv2(snake2(y)), scale2, LARGEST_ACTIVATION)
            spare = (len(x) - len(y)) // 2
            y += x[spare : spare + len(y)]
            x = np.clip(y, -LARGEST_ACTIVATION, LARGEST_ACTIVATION, out=y)
        scale = self.last.scale(ACTIVATION_BITS, COEFFICIENT_BITS) * self.output_scale
        x = rounded(self.last(self.snake(x)), scale, LARGEST_COEFFICIENT)
        edge = self.config.receptive_field
        spare = (len(x) - (len(v) - 2 * edge)) // 2
        x = x[spare : len(x) - spare]
        edge -= self.config.linear_taps // 2
        line = self.linear(v[edge : len(v) - edge])
        x = x + rounded(line, self.linear.scale(INPUT_BITS, COEFFICIENT_BITS), LARGEST_COEFFICIENT)
        return np.clip(x, -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT, out=x)

    def waveform(self, coefficients: Array) -> NDArray[np.int32]:
        """The samples (n, channels), of the frames in the middle that know all they depend on."""
        config = self.config
        bands = np.ascontiguousarray(coefficients.T)
        for level in reversed(stage_levels(config.levels)):
            m = 2**level
            blocks = bands.reshape(-1, m, bands.shape[1]).transpose(0, 2, 1)
            joined = windows(blocks, 2 * REACH + 1) @ integer_bank(level)
            bands = rounded(joined, 2.0**-BANK_BITS, LARGEST_COEFFICIENT).reshape(len(joined), -1)
        spare = config.halo - config.receptive_field
        n = (len(coefficients) - 2 * spare) * config.frame
        reach = config.post_taps // 2
        start = (bands.shape[1] - n) // 2 - reach
        padded = -n % POST_BLOCK
        source = np.pad(bands[:, start : start + n + 2 * reach], ((0, 0), (0, padded)))
        count = (n + padded) // POST_BLOCK
        across, along = source.strides
        shape, strides = (count, config.channels, POST_BLOCK + 2 * reach), (along * POST_BLOCK, across, along)
        runs = np.ascontiguousarray(as_strided(source, shape, strides, writeable=False)).reshape(count, -1)
        y = rounded(runs @ self.post, 2.0 ** (SAMPLE_BITS - COEFFICIENT_BITS - BANK_BITS), LARGEST_SAMPLE)
        y = y.reshape(count, config.channels, POST_BLOCK).transpose(0, 2, 1).reshape(-1, config.channels)
        return y[:n].astype(np.int32)

    def frames(self, latents: NDArray[Any], gain16: int) -> NDArray[np.int32]:
        """The samples of the frames in the middle, ((T - 2 halo) * frame, channels), of latents (latent, T).

        In units of 2**-23, not clipped to one. A few hundred frames at a time: memory grows with T.
        """
        if latents.shape[-1] <= 2 * self.config.halo:
            return np.zeros((0, self.config.channels), np.int32)
        return self.waveform(self.coefficients(self.expanded(latents, gain16), gain16))

    def samples(
        self, latents: NDArray[Any], gain16: int, n: int, start: int = 0, stop: int | None = None
    ) -> NDArray[np.int32]:
        """The samples [start, stop) of a recording of n, (stop - start, channels), from all its latents (latent, F)."""
        config = self.config
        if latents.shape[-1] != frames_of(n, config):
            raise StreamError(f"{latents.shape[-1]} latent frames: {n} samples have {frames_of(n, config)}")
        stop = n if stop is None else min(stop, n)
        size, halo = config.frame, config.halo
        parts = [np.zeros((0, config.channels), np.int32)]
        first, last = start // size, -(-stop // size)  # frames of samples; latent frame k + 1 is that of frame k
        for frame in range(first, last, CHUNK):
            end = min(frame + CHUNK, last)
            low, high = frame + 1 - halo, end + 1 + halo
            inside = latents[:, max(low, 0) : max(high, 0)]
            beyond = (max(-low, 0), high - max(low, 0) - inside.shape[1])
            parts.append(self.frames(np.pad(inside, ((0, 0), beyond)), gain16))
        return np.concatenate(parts)[start - first * size :][: max(0, stop - start)]


def _post_matrix(weight: NDArray[Any]) -> Array:
    """The post-filter as a matrix, (channels * (block + taps - 1), channels * block), of its integer taps."""
    if weight.dtype.kind != "i":
        raise ValueError("post.weight isn't a filter of integers")
    outputs, inputs, taps = weight.shape
    matrix = np.zeros((inputs, POST_BLOCK + taps - 1, outputs, POST_BLOCK))
    for at in range(POST_BLOCK):
        matrix[:, at : at + taps, :, at] = weight.transpose(1, 2, 0)
    return matrix.reshape(inputs * (POST_BLOCK + taps - 1), outputs * POST_BLOCK)


class PacketEncoder:
    """The encoder of a small model, in float64: wavelet packets, a matrix, the compander's rounding edges."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: PacketConfig) -> None:
        self.config = config
        self.weight = np.ascontiguousarray(arrays["encoder.weight"].T, np.float64)
        self.bias = arrays["encoder.bias"].astype(np.float64)
        self.edges = rounding_edges(config.latent_bits)
        self.largest = largest_latent(config.latent_bits)
        levels = stage_levels(config.levels)
        self.margin = sum(REACH << sum(levels[: k + 1]) for k in range(len(levels)))  # samples that analysis loses
        self.banks = [filter_bank(level, False).transpose(0, 2, 1).reshape(-1, 2**level) for level in levels]

    def coefficients(self, parts: Array) -> Array:
        """The wavelet coefficients (T, bands) of parts (channels, margin + T * frame + margin)."""
        bands = parts
        for level, bank in zip(stage_levels(self.config.levels), self.banks, strict=True):
            m = 2**level
            blocks = bands.reshape(len(bands), -1, m)
            split = windows(blocks, 2 * REACH + 1) @ bank
            bands = np.ascontiguousarray(split.transpose(0, 2, 1)).reshape(len(bands) * m, -1)
        return np.ascontiguousarray(bands.T)

    def latents(self, samples: NDArray[Any], gain16: int) -> NDArray[np.int16]:
        """The integer latents (latent, frames_of(n)) of samples (n, channels), float in [-1, 1]."""
        config = self.config
        n, frames = len(samples), frames_of(len(samples), config)
        out = np.empty((config.latent, frames), np.int16)
        for first in range(0, frames, 4 * CHUNK):
            last = min(first + 4 * CHUNK, frames)
            low = (first - 1) * config.frame - self.margin
            high = (last - 1) * config.frame + self.margin
            inside = samples[max(low, 0) : max(min(high, n), 0)].astype(np.float64)
            before = max(-low, 0)
            parts = np.pad(inside, ((before, high - low - before - len(inside)), (0, 0))).T
            if config.channels == 2:
                parts = np.stack([parts[0] + parts[1], parts[0] - parts[1]]) * 0.5**0.5
            v = self.coefficients(np.ascontiguousarray(parts)) @ self.weight + self.bias
            out[:, first:last] = self.quantised(v * 2.0 ** (gain16 / 16)).T
        return out

    def quantised(self, v: Array) -> NDArray[np.int16]:
        """The integers that the compander rounds values to."""
        return (np.searchsorted(self.edges, v, side="left") - self.largest).astype(np.int16)
