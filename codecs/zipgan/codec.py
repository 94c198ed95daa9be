"""ZipGAN for fields of floats: latents of few wave numbers, a generator that adds what they lack, a bound if asked for.

Nista et al.: "ZipGAN: Super-Resolution-based Generative Adversarial Network Framework for Data Compression of Direct
Numerical Simulations", arXiv 2412.14150. Networks, and where they differ: networks.py; latents: `layers/spectral.py`.
Beyond the paper: latents are quantised and entropy-coded, so that ratios are those
of files; an error bound (a residual stream); any shape, and fields that aren't velocities.

A field is the last 1 to 3 axes of 8 or more values; an axis of 1 to 6 in front of them (or behind) holds components;
all axes before are fields of their own. The encoder finds out whether a field is periodic, and whether it is a
divergence-free velocity; it takes the generator where that lowers the error, and `interp`'s coder where the field is
too small, or that is shorter at the bound.

Which symbols a file holds is exact on every machine. Values come from float64 transforms and a float32 network, so
they may differ in the last digits between machines: about 1e-6 of the field's spread. A bound allows for that.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ...entropy.tables import Tables
from ...errors import StreamError, UsageError, WeightsError
from ...media import hdf5
from ..base.codec import Data
from ..base.field import BOUNDED, Bound, FieldCodec, FieldLayout, layout_of
from ..base.field_file import FieldFile
from ..base.field_plan import find_dataset
from ..base.settings import Setting
from ..base.weights import LoadedWeights, about_of, config_of, load_weights, reading
from ..layers import interpolation, spectral
from ..layers.exact_state import check_numbers, check_shapes
from . import CARD
from .networks import Discriminator, FieldEncoder, Generator, ZipganConfig

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ZipganCodec", "ZipganModel", "read_model", "score"]

Floats = NDArray[np.float64]

ZIPGAN = 16  # how a block is coded
DEFAULT_QUALITY = 40.0
_HEAD = struct.Struct("<BBBf")  # flags, factor, components; step
_PERIODIC, _X_LAST, _X_FIRST, _GENERATED, _RESIDUAL = 1, 2, 4, 8, 16
_MAX_VALUES = 1 << 27  # of one field: transforms need it whole
_MAX_GENERATED = 1 << 25
_SOLENOIDAL = 1e-3  # largest divergence over gradient of a field that is called divergence-free
_CELL = 8  # of the residual: side of the cubes that have a spread of their own
_RESIDUAL_HEAD = struct.Struct("<BIdd")  # flags; length of the latents' stream, bound, slack
_DIVERGENT = 0.4  # divergence over gradient; of three fields that don't know of each other it is 0.58
_FAINT = 1e-30  # of the largest value: spreads below this are nothing in float32
_GRID = 64  # predictions are rounded to multiples of a power of two that is at most the bound over this
_LEAST = 2.0**-1000  # bounds outside this and its inverse are none
_TRIED = (0.5, 0.8)  # standard deviations of the latents' error over the bound, with the generator
_TRIED_WHOLE = (0.3, 0.4)  # and with all wave numbers in the latents


@dataclass(frozen=True)
class ZipganModel:
    """The content of a weights file: networks, tables, and facts about them.

    critic: the discriminator. reference: mean and standard deviation of its logits of real fields.
    """

    encoder: FieldEncoder
    generator: Generator
    critic: Discriminator | None
    reference: tuple[float, float]
    tables: Tables
    tag: str
    id: bytes

    @property
    def config(self) -> ZipganConfig:
        return self.generator.config


@dataclass(frozen=True)
class ZipganLatents:
    """The latents of one field, decoded from its stream: all that it holds but the residual."""

    modes: spectral.Modes
    shape: tuple[int, ...]  # of the field; the modes' is that of the encoder's output
    factor: int  # by which each side was shortened; 1 if all wave numbers are here
    step: float
    mean: Floats
    scale: Floats  # (C,)
    reach: tuple[int, ...]  # largest wave number of the field
    generated: bool
    coefficients: Floats  # quantised; in units of the scale


class ZipganCodec(FieldCodec):
    """The codec `zipgan`: see the module's docstring.

    quality: 1 to 100, a step of 8 x 2^(-quality / 10) root mean squares of the field; with a bound it is the bound that
    counts.
    """

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    selection: ClassVar[tuple[Setting, ...]] = CARD.selection
    stream: ClassVar[int] = 2
    reads: ClassVar[tuple[int, ...]] = (1,)
    methods: ClassVar[Mapping[int, str]] = {ZIPGAN: "zipgan"}
    comfort: ClassVar[int] = 60  # networks and scales are float32
    whole: ClassVar[int] = _MAX_VALUES
    sweep: ClassVar[tuple[float, ...]] = (10, 20, 30, 40, 50, 60)

    def __init__(
        self, model: ZipganModel, quality: float | None = None, bound: Bound | None = None, device: str = "cpu"
    ) -> None:
        self.model, self.quality, self.bound, self.device = model, quality, bound, device

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        return cls(read_model(load_weights(cls.name, tag, weights), device), quality, None, device)

    def check_settings(self) -> None:
        _ = self.step

    @property
    def weights_id(self) -> bytes:
        return self.model.id

    def change_setting(self, name: str, value: Any) -> None:
        if name == "quality":
            self.quality = value
        else:
            super().change_setting(name, value)

    @property
    def step(self) -> float:
        """The step of the quantiser, in units of the field's root mean square about its mean."""
        quality = DEFAULT_QUALITY if self.quality is None else self.quality
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: zipgan takes 1 to 100")
        return float(np.float32(8 * 2 ** (-quality / 10)))

    def bound_without_promise(self, low: float, high: float) -> float:
        """The error bound of blocks that can't be transformed, where none is asked for."""
        return Bound.of_quality(DEFAULT_QUALITY if self.quality is None else self.quality).absolute(low, high)

    def doubt_about(self, x: NDArray[Any]) -> str:
        """The reason, in words, for which a block isn't what the weights were trained on; or ""."""
        layout = layout_of(x.shape)
        if layout is None or layout.components != 3 or len(layout.field) != 3:
            return "isn't a velocity (three components on a grid of three axes)"
        with np.errstate(all="ignore"):
            item = np.asarray(layout.items(x)[0], np.float64)
            divergence = min(_divergence(item), _divergence(item[::-1]))
        return "" if divergence < _DIVERGENT else "isn't a velocity (its divergence is as large as its gradients)"

    # ---- blocks

    def encode_field(self, x: NDArray[Any], bound: float) -> tuple[int, bytes]:
        layout = layout_of(x.shape[1:])
        suits = layout is not None and math.prod(layout.field) * layout.components <= _MAX_VALUES
        ours = None
        if layout is not None and suits:
            parts = [self._encode_item(item, bound, x.dtype) for item in layout.items(x)]
            if all(part is not None for part in parts):
                ours = b"".join(struct.pack("<I", len(part)) + part for part in parts if part is not None)
        if ours is not None and math.isinf(bound):
            return ZIPGAN, ours
        if math.isinf(bound):
            bound = self.bound_without_promise(float(x.min()), float(x.max()))
            if bound == 0:
                bound = math.ulp(1.0)
        method, other = BOUNDED, interpolation.encode_block(x, bound)
        return (ZIPGAN, ours) if ours is not None and len(ours) < len(other) else (method, other)

    def decode_field(self, method: int, payload: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        if method == BOUNDED:
            return interpolation.decode_block(payload, shape, dtype)
        if method != ZIPGAN:
            raise StreamError(f"a block coded in way {method}: made by a newer version, or damaged")
        layout = layout_of(shape[1:])
        if layout is None:
            raise StreamError("a block that isn't a field: the file is damaged")
        items = [self._decode_item(part, layout, dtype) for part in _split(payload, layout.count)]
        return layout.joined(items, shape).astype(dtype, copy=False)

    # ---- one field: (C, *shape)

    def _encode_item(self, x: NDArray[Any], bound: float, dtype: np.dtype[Any]) -> bytes | None:
        """The stream of a field x (C, *shape); None where it can't be coded within the bound."""
        x = np.asarray(x, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            spread = x.std(axis=tuple(range(1, x.ndim)))
            top = float(np.abs(x).max())
            if not np.isfinite(spread).all() or ((spread > 0) & (spread < _FAINT * top)).any():
                return None
        own = self.model.config.factor
        if math.isinf(bound):
            return self._best_of_generator(x, self.step, spread, own)[0]
        total = float(np.sqrt((spread**2).mean()))
        slack = _grid_of(bound) + top * float(np.finfo(dtype).eps)
        if total == 0 or bound < 4 * slack or bound < 1e-5 * total:
            return None
        best: bytes | None = None
        for factor, share in [*((own, share) for share in _TRIED), *((1, share) for share in _TRIED_WHOLE)]:
            wanted = share * bound / total
            step = min(8.0, wanted * math.sqrt(12))
            if factor == 1:  # most coefficients are next to nothing and have no part of the error
                latents, _ = self._latents(x, float(np.float32(step)), np.full(len(x), total), 1)
                error = float(np.sqrt(np.square(self.synthesise(latents) - x).mean())) / total
                step = min(8.0, step * wanted / max(error, 1e-3 * wanted))
            head, back = self._best_of_generator(x, float(np.float32(step)), np.full(len(x), total), factor)
            residual = np.rint((x - _on_grid(back, bound)) / (2 * (bound - slack)))
            if np.abs(residual).max() > 1 << 30:
                return None
            rest = _pack_residual(residual.astype(np.int32), self.model.tables)
            whole = _RESIDUAL_HEAD.pack(head[0] | _RESIDUAL, len(head), bound, slack) + head + rest
            if best is None or len(whole) < len(best):
                best = whole
        return best

    def _best_of_generator(self, x: Floats, step: float, spread: Floats, factor: int) -> tuple[bytes, Floats]:
        """The stream of the latents of x, and the field that it decodes to; with the generator where that is nearer."""
        latents, head = self._latents(x, step, spread, factor)
        back = self.synthesise(latents)
        if self._generates(latents):
            other = replace(latents, generated=True)
            better = self.synthesise(other)
            if np.square(better - x).mean() < np.square(back - x).mean():
                return bytes([head[0] | _GENERATED]) + head[1:], better
        return head, back

    def _generates(self, latents: ZipganLatents) -> bool:
        """Whether the generator can take these latents."""
        size = math.prod(latents.shape) * latents.modes.components
        config = self.model.config
        if latents.factor != config.factor:
            return False
        return len(latents.shape) == 3 and latents.modes.components == config.components and size <= _MAX_GENERATED

    def _latents(self, x: Floats, step: float, spread: Floats, factor: int) -> tuple[ZipganLatents, bytes]:
        """The latents of a field x (C, *shape), and their stream.

        step: of the quantiser. spread: (C,), unit of the step. factor: that of the networks, or 1 for all wave numbers.
        """
        shape, components = x.shape[1:], len(x)
        periodic = _is_periodic(x)
        order = _order_of(x) if periodic else "none"
        source = x
        scale = np.where(spread > 0, spread, 1.0).astype(np.float32).astype(np.float64)
        if order != "none":
            scale = np.full(components, np.float32(np.sqrt((spread**2).mean())), np.float64)
        mean = x.mean(axis=tuple(range(1, x.ndim)))
        source = (x - _wide(mean, x)) / _wide(scale, x)
        reach = _reach_of(source, periodic)
        coarse = tuple(-(-size // factor) for size in shape)
        whole = shape
        if self._encodes(factor, shape, components, periodic):
            with torch.inference_mode():
                given = torch.from_numpy(source).float()[None]
                source = self.model.encoder(given, periodic)[0].double().cpu().numpy()
            whole, order = source.shape[1:], "none"
        modes = spectral.Modes(whole, coarse, components, periodic, order)
        rest, c = modes.analyse(source)
        mean = mean + rest * scale
        levels = spectral.levels_of(modes, c, step)
        rows = spectral.rows_of(modes, levels, len(c))
        symbols = spectral.quantise(c, step, rows)
        flags = _PERIODIC * periodic | {"none": 0, "x-last": _X_LAST, "x-first": _X_FIRST}[order]
        groups = np.float32(scale[: modes.groups])
        head = _HEAD.pack(flags, factor, components, step) + mean.astype("<f8").tobytes()
        head += groups.astype("<f4").tobytes() + np.array(reach, "<u4").tobytes()
        deltas = np.diff(levels, axis=1, prepend=0).astype(np.int32)
        used = rows > 0
        stream = self.model.tables.encode_steps(
            [(deltas, np.full(levels.shape, spectral.LEVEL_ROW)), (symbols[used], rows[used])]
        )
        back = spectral.restore(symbols, step, rows)
        return ZipganLatents(modes, shape, factor, step, mean, scale, reach, False, back), head + stream

    def _encodes(self, factor: int, shape: tuple[int, ...], components: int, periodic: bool) -> bool:
        """Whether a network or a filter makes the latents, rather than the transform by itself."""
        config = self.model.config
        suits = len(shape) == 3 and components == config.components and periodic
        return config.encoder != "spectral" and factor == config.factor and suits

    def _read_latents(self, data: bytes, layout: FieldLayout) -> ZipganLatents:
        shape, components = layout.field, layout.components
        if len(data) < _HEAD.size:
            raise StreamError("a field is cut: the file is damaged")
        flags, factor, n, step = _HEAD.unpack_from(data)
        config = self.model.config
        if n != components or factor not in (1, config.factor) or not (0 < step < 64):
            raise StreamError(f"{n} components, factor {factor}, step {step:g}: the file is damaged")
        periodic, bits = bool(flags & _PERIODIC), flags & (_X_LAST | _X_FIRST)
        if math.prod(shape) * components > _MAX_VALUES:
            raise StreamError(f"a field of {components} x {shape}: at most {_MAX_VALUES} values: the file is damaged")
        orders: Mapping[int, spectral.Order] = {0: "none", _X_LAST: "x-last", _X_FIRST: "x-first"}
        if bits not in orders or (bits and not (periodic and components == 3 and len(shape) == 3)):
            raise StreamError("a field of another kind: the file is damaged")
        order = orders[bits]
        coarse = tuple(-(-size // factor) for size in shape)
        learned = self._encodes(factor, shape, components, periodic)
        modes = spectral.Modes(coarse if learned else shape, coarse, components, periodic, order)
        at, sizes = _HEAD.size, (8 * components, 4 * modes.groups, 4 * len(shape))
        parts = []
        for size in sizes:
            parts.append(data[at : at + size])
            at += size
        if at > len(data):
            raise StreamError("a field is cut: the file is damaged")
        mean, groups = np.frombuffer(parts[0], "<f8"), np.frombuffer(parts[1], "<f4").astype(np.float64)
        reach = tuple(np.frombuffer(parts[2], "<u4").tolist())
        if not (np.isfinite(mean).all() and np.isfinite(groups).all() and (groups > 0).all()):
            raise StreamError("means or scales that aren't numbers: the file is damaged")
        decoder = self.model.tables.decoder(data[at:])
        deltas = decoder.take(np.full((modes.groups, modes.shells), spectral.LEVEL_ROW))
        levels = np.cumsum(deltas.astype(np.int64), axis=1)
        if levels.min(initial=0) < 0 or levels.max(initial=0) >= spectral.LEVELS:
            raise StreamError("levels out of range: the file is damaged")
        n_parts = (2 if periodic else 1) * (2 if order != "none" else components)
        rows = spectral.rows_of(modes, levels, n_parts)
        symbols = np.zeros(rows.shape, np.int32)
        used = rows > 0
        symbols[used] = decoder.take(rows[used])
        decoder.finish()
        scale = np.full(components, groups[0]) if order != "none" else groups
        back = spectral.restore(symbols, step, rows)
        return ZipganLatents(modes, shape, factor, step, mean, scale, reach, bool(flags & _GENERATED), back)

    def synthesise(self, latents: ZipganLatents) -> Floats:
        """The field of the latents, (C, *shape) float64."""
        modes, shape = latents.modes, latents.shape
        nothing = np.zeros(modes.components)
        field = modes.synthesise(nothing, latents.coefficients, shape)
        if latents.generated:
            if not self._generates(latents):
                raise StreamError("a field that the generator can't have made: the file is damaged")
            z = modes.synthesise(nothing, latents.coefficients, modes.coarse)
            if latents.modes.order == "x-first":
                z = z[::-1]
            noise = torch.tensor([math.log2(latents.step)], device=self.device)
            with torch.inference_mode(), torch.autocast(torch.device(self.device).type, enabled=False):
                given = torch.from_numpy(np.ascontiguousarray(z)).float().to(self.device)[None]
                made = self.model.generator(given, noise, modes.periodic)[0].double().cpu().numpy()
            if latents.modes.order == "x-first":
                made = made[::-1]
            fine = tuple(size * self.model.config.factor for size in modes.coarse)
            if fine != shape:
                everything = spectral.Modes(fine, shape, modes.components, modes.periodic)
                made = everything.synthesise(*everything.analyse(made), shape)
            field = field + made
        if modes.periodic and len(shape) == 3 and (latents.generated or modes.order != "none"):
            field = spectral.project(field, modes.order, latents.reach)
        return field * _wide(latents.scale, field) + _wide(latents.mean, field)

    def _decode_item(self, data: bytes, layout: FieldLayout, dtype: np.dtype[Any]) -> NDArray[Any]:
        head, rest, bound, slack = _without_residual(data)
        base = self.synthesise(self._read_latents(head, layout))
        if math.isinf(bound):
            return base
        base = _on_grid(base, bound)
        return base + _read_residual(rest, base.shape, self.model.tables) * (2 * (bound - slack))

    # ---- what only this codec does

    def latents_of(self, data: Data, dataset: str | None = None, snapshot: int = 0) -> list[ZipganLatents]:
        """The latents of each field in the file of an array, or in one snapshot of a dataset. UsageError otherwise."""
        with self._opened(data) as file:
            return self._latents_of(file, dataset, snapshot)[0]

    def _latents_of(
        self, file: FieldFile, dataset: str | None, snapshot: int
    ) -> tuple[list[ZipganLatents], tuple[int, ...]]:
        """The same of an open file, and the shape of what they are of."""
        payload, shape, place = self._payload(file, dataset, snapshot)
        layout = layout_of(shape)
        method, masked, rest = self.parts_of(payload)
        if masked:
            raise UsageError(
                f"{dataset or 'this array'} has missing values at that place: there is nothing between its latents"
            )
        if method != ZIPGAN or layout is None:
            raise UsageError(f"this was coded as {self.method_of(payload)!r}: there are latents of zipgan only")
        streams = _split(rest, layout.count)
        if dataset is not None:  # of small snapshots a block holds several
            each = layout.count // shape[0]
            streams, shape = streams[place * each : (place + 1) * each], (1, *shape[1:])
        return [self._read_latents(_without_residual(part)[0], layout) for part in streams], shape

    def between(self, first: Data, second: Data, weight: float) -> NDArray[Any]:
        """An array between two of the same shape in time: decoded from interpolated latents.

        They are (1 - weight) of the first and weight of the second. Sensible for spacings below about a tenth of the
        eddy turnover time.
        """
        if not 0 <= weight <= 1:
            raise UsageError(f"weight {weight:g}: expected 0 to 1")
        with self._opened(first) as file, self._opened(second) as other:
            before, shape = self._latents_of(file, None, 0)
            after, other_shape = self._latents_of(other, None, 0)
            if shape != other_shape:
                raise UsageError(f"arrays of shape {shape} and {other_shape}: nothing is between them")
            return self._interpolated(before, after, weight, shape, np.dtype(file.header.dtype))

    def _decode_at(self, file: FieldFile, dataset: str, at: float) -> NDArray[Any]:
        """A dataset at a place between two snapshots, counted along its first axis (3.5: half-way from 3 to 4)."""
        if not (math.isfinite(at) and at >= 0):
            raise UsageError(f"--at {at:g}: expected a place along the first axis, 0 or more")
        low = math.floor(at)
        node = find_dataset(file.plan.tree, dataset)
        if low == at:
            return self._dataset(file, node, low)
        (before, shape), (after, _) = (self._latents_of(file, dataset, index) for index in (low, low + 1))
        dtype = hdf5.dtype_of(node.dtype)
        return self._interpolated(before, after, at - low, shape, dtype)[0]

    def _interpolated(
        self,
        before: list[ZipganLatents],
        after: list[ZipganLatents],
        weight: float,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> NDArray[Any]:
        """The array (*shape) of latents between those of two."""
        layout = layout_of(shape)
        assert layout is not None
        out = []
        for a, b in zip(before, after, strict=True):
            if a.modes != b.modes:
                raise UsageError("these two were coded as fields of different kinds: nothing is between them")
            scale = (1 - weight) * a.scale + weight * b.scale
            rows = 1 if a.modes.order != "none" else len(scale)
            coefficients = sum(
                part * np.tile((item.scale / scale)[:rows], len(item.coefficients) // rows)[:, None] * item.coefficients
                for part, item in ((1 - weight, a), (weight, b))
            )
            out.append(
                replace(
                    a,
                    coefficients=coefficients,
                    scale=scale,
                    mean=(1 - weight) * a.mean + weight * b.mean,
                    step=(1 - weight) * a.step + weight * b.step,
                )
            )
        items = [self.synthesise(item) for item in out]
        return layout.joined(items, (1, *shape))[0].astype(dtype)


def score(field: NDArray[Any], codec: ZipganCodec | None = None) -> float:
    """The discriminator's score of a periodic velocity field (3, D, H, W), component 0 along the last axis.

    It is how many standard deviations the mean logit is from that of held-out simulations: more is better, real fields
    are about 0. Needs no original. UsageError for other shapes, WeightsError if these weights have no discriminator.
    """
    if codec is None:
        codec = ZipganCodec.from_weights(None, None, None, "cpu")
    if codec.model.critic is None:
        raise WeightsError(f"the weights {codec.model.tag!r} of zipgan have no discriminator")
    x = np.asarray(field)
    if x.ndim != 4 or x.shape[0] != codec.model.config.components or min(x.shape[1:]) < 16:
        raise UsageError(f"a field of shape {x.shape}; expected (3, D, H, W), 16 values or more to a side")
    x = x - x.mean((1, 2, 3), keepdims=True)
    spread = float(np.sqrt((x.astype(np.float64) ** 2).mean()))
    with torch.inference_mode():
        given = torch.from_numpy(np.asarray(x / (spread or 1.0), np.float32))[None].to(codec.device)
        logit = float(codec.model.critic(given).mean())
    mean, deviation = codec.model.reference
    return (logit - mean) / (deviation or 1.0)


# ------------------------------------------------------------------------------------------------- what a field is like


def _wide(values: Floats, field: Floats) -> Floats:
    """The values of components, (C,), in a shape that broadcasts to a field (C, *shape)."""
    return values.reshape(-1, *(1 for _ in field.shape[1:]))


def _is_periodic(x: Floats) -> bool:
    """Whether along every axis the step from the last value to the first is like those inside."""
    for axis in range(1, x.ndim):
        first, last = np.take(x, 0, axis), np.take(x, -1, axis)
        inside = np.square(np.diff(x, axis=axis)).mean()
        if np.square(first - last).mean() > 3 * inside:
            return False
    return True


def _divergence(x: Floats) -> float:
    """The root mean square of the divergence over that of the gradient, by differences, component 0 along axis -1."""
    size = float(np.abs(x).max())
    if size == 0:
        return 0.0
    gradients = [[np.gradient(part / size, axis=axis) for axis in (2, 1, 0)] for part in x]
    total = sum(float(np.square(part).mean()) for row in gradients for part in row)
    return math.sqrt(float(np.square(sum(gradients[i][i] for i in range(3))).mean()) / total) if total > 0 else 0.0


def _order_of(x: Floats) -> spectral.Order:
    """The order of the components of a divergence-free velocity field on an even grid; "none" for other fields."""
    if x.shape[0] != 3 or x.ndim != 4:
        return "none"
    orders: tuple[spectral.Order, ...] = ("x-last", "x-first")
    for order in orders:
        if 0 < spectral.divergence(x, order) < _SOLENOIDAL:
            return order
    return "none"


def _reach_of(x: Floats, periodic: bool) -> tuple[int, ...]:
    """The largest wave number of each axis that holds more than a millionth of a millionth of the energy."""
    shape = x.shape[1:]
    if not periodic or len(shape) != 3:
        return shape
    spectrum = np.square(np.abs(np.fft.fftn(x, axes=(1, 2, 3)))).sum(0)
    total, out = spectrum.sum(), []
    for axis, size in enumerate(shape):
        line = spectrum.sum(tuple(i for i in range(3) if i != axis))
        k = np.abs(np.fft.fftfreq(size, 1 / size))
        held = k[line > 1e-12 * total]
        out.append(int(held.max()) if len(held) else 0)
    return tuple(out)


# --------------------------------------------------------------------------------------------------------- error bounds


def _without_residual(data: bytes) -> tuple[bytes, bytes, float, float]:
    """The parts of a field's stream: latents, residual, bound, slack; the bound is infinite if there is none."""
    if not data or not data[0] & _RESIDUAL:
        return data, b"", math.inf, 0.0
    if len(data) < _RESIDUAL_HEAD.size:
        raise StreamError("a field is cut: the file is damaged")
    _, n, bound, slack = _RESIDUAL_HEAD.unpack_from(data)
    start = _RESIDUAL_HEAD.size
    if not (_LEAST < bound < 1 / _LEAST and 0 < slack < bound) or start + n > len(data):
        raise StreamError(f"a bound of {bound:g}: the file is damaged")
    return data[start : start + n], data[start + n :], bound, slack


def _grid_of(bound: float) -> float:
    """The grid of predictions under a bound, a power of two.

    Rounded to its multiples, predictions of two machines are nearly always the same, and never further apart than this.
    """
    return 2.0 ** math.floor(math.log2(bound / _GRID))


def _on_grid(x: Floats, bound: float) -> Floats:
    grid = _grid_of(bound)
    return np.rint(x / grid) * grid


def _cells(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """The number of the cube that each value of a field is in, as shape, (C, *sides)."""
    number = np.arange(shape[0], dtype=np.intp).reshape(-1, *(1 for _ in shape[1:]))
    for axis, size in enumerate(shape[1:], 1):
        n = -(-size // _CELL)
        index = (np.arange(size) // _CELL).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        number = number * n + index
    return number


def _pack_residual(q: NDArray[np.int32], tables: Tables) -> bytes:
    """The stream of a residual q (C, *shape): each cube of 8 to a side has the Gaussian that makes it shortest."""
    cell = _cells(q.shape).ravel()
    n = int(cell.max()) + 1
    flat = q.ravel()
    size = np.minimum(np.abs(flat), 15)
    histogram = np.bincount(cell * 16 + size, minlength=16 * n).reshape(n, 16)
    spread = np.sqrt(np.bincount(cell, flat.astype(np.float64) ** 2, n) / np.maximum(np.bincount(cell, minlength=n), 1))
    costs = histogram @ _costs(tables)  # (n, LEVELS)
    levels = costs.argmin(1)
    wide = histogram[:, 15] > 0
    guess = spectral.level_of(np.maximum(spread, 1e-9))
    levels[wide] = np.clip(guess[wide], 1, spectral.LEVELS - 1)
    levels[histogram[:, 1:].sum(1) == 0] = 0
    deltas = np.diff(levels, prepend=0).astype(np.int32)
    rows = levels[cell]
    used = rows > 0
    return tables.encode_steps([(deltas, np.full(n, spectral.LEVEL_ROW)), (flat[used], rows[used])])


def _read_residual(data: bytes, shape: tuple[int, ...], tables: Tables) -> NDArray[np.int32]:
    """The residual of a stream of `_pack_residual`; StreamError if it is damaged."""
    cell = _cells(shape).ravel()
    n = int(cell.max()) + 1
    decoder = tables.decoder(data)
    levels = np.cumsum(decoder.take(np.full(n, spectral.LEVEL_ROW)).astype(np.int64))
    if levels.min() < 0 or levels.max() >= spectral.LEVELS:
        raise StreamError("levels out of range: the file is damaged")
    rows = levels[cell]
    out = np.zeros(len(cell), np.int32)
    used = rows > 0
    out[used] = decoder.take(rows[used])
    decoder.finish()
    return out.reshape(shape)


def _costs(tables: Tables) -> Floats:
    """The bits of the sizes 0 to 15 at each level, (16, LEVELS); level 0 is out of question."""
    out = np.full((16, spectral.LEVELS), 40.0)
    for level in range(1, spectral.LEVELS):
        cdf, offset = tables.rows[level], int(tables.offset[level])
        bits = 16 - np.log2(np.diff(cdf))
        for size in range(16):
            at = size - offset
            escape = bits[-1] + 17 + 2 * math.log2(size + 1)
            out[size, level] = bits[at] if 0 <= at < len(bits) - 1 else escape
    return out


def _split(payload: bytes, count: int) -> list[bytes]:
    """The streams of the fields in a block's payload; StreamError unless there are `count`."""
    parts, at = [], 0
    for _ in range(count):
        if at + 4 > len(payload):
            raise StreamError("a block is cut: the file is damaged")
        (n,) = struct.unpack_from("<I", payload, at)
        parts.append(payload[at + 4 : at + 4 + n])
        at += 4 + n
    if at != len(payload):
        raise StreamError("a block is cut, or too long: the file is damaged")
    return parts


# -------------------------------------------------------------------------------------------------------- weights files


def metadata(config: ZipganConfig, tag: str) -> dict[str, str]:
    """The text map of a weights file: all that is needed to rebuild the networks."""
    return {"codec": "zipgan", "zipgan": json.dumps({"config": asdict(config), "tag": tag}, sort_keys=True)}


_LIMITS: Mapping[str, tuple[float, float]] = {  # of a configuration's numbers
    "factor": (2, 8),
    "features": (1, 1024),
    "growth": (1, 1024),
    "blocks": (0, 32),
    "dense": (0, 32),
    "encoder_width": (1, 1024),
    "critic": (1, 1024),
    "components": (1, 6),
}


def config_from(weights: LoadedWeights) -> ZipganConfig:
    with reading("zipgan"):
        return config_of(ZipganConfig, about_of(weights, "zipgan")["config"], _LIMITS)


def _networks(config: ZipganConfig, critic: bool) -> dict[str, torch.nn.Module]:
    """The networks of a configuration by the name that begins their tensors' names."""
    nets: dict[str, torch.nn.Module] = {"generator.": Generator(config), "encoder.": FieldEncoder(config)}
    return nets | ({"critic.": Discriminator(config, normed=False)} if critic else {})


def networks_from(weights: LoadedWeights) -> tuple[Generator, FieldEncoder, Discriminator | None]:
    """The networks of a weights file, float32, frozen. WeightsError if they don't fit."""
    with reading("zipgan"):
        config, tensors = config_from(weights), weights.tensors
        critic = any(name.startswith("critic.") for name in tensors)
        beside = {"critic_reference", *(f"tables.{key}" for key in _TABLE)}
        with torch.device("meta"):  # takes no memory
            nets = _networks(config, critic)
            expected = {
                prefix + name: value for prefix, net in nets.items() for name, value in net.state_dict().items()
            }
            check_shapes(expected, {name: value for name, value in tensors.items() if name not in beside})
        check_numbers(tensors)
        with torch.device("cpu"):
            nets = _networks(config, critic)
        for prefix, net in nets.items():
            own = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
            net.float().load_state_dict({name: value.float() for name, value in own.items()})
            net.eval().requires_grad_(False)
        return (
            cast(Generator, nets["generator."]),
            cast(FieldEncoder, nets["encoder."]),
            cast("Discriminator | None", nets.get("critic.")),
        )


def read_model(weights: LoadedWeights, device: str = "cpu") -> ZipganModel:
    """The model of a weights file, its networks frozen. WeightsError if it holds anything else."""
    with reading("zipgan"):
        generator, encoder, critic = networks_from(weights)
        mean, spread = weights.tensors.get("critic_reference", torch.tensor([0.0, 1.0], device="cpu")).tolist()
        for net in (generator, encoder, critic):
            if net is not None:
                net.to(device)
        generator.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
        tag = str(about_of(weights, "zipgan")["tag"])
        tables = Tables.from_state({key: weights.tensors[f"tables.{key}"].numpy() for key in _TABLE})
        return ZipganModel(encoder, generator, critic, (mean, spread), tables, tag, weights.id)


_TABLE = ("counts", "lengths", "offset")


def table_state() -> dict[str, torch.Tensor]:
    """The tensors of the tables in a weights file."""
    state = spectral.make_tables().to_state()
    return {f"tables.{key}": torch.from_numpy(np.array(state[key])) for key in _TABLE}
