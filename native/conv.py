"""Convolutions in 16-bit integers whose sums fit 32 bits, with what follows them in fixed-point networks: `Narrow`.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
fuse what follows likewise; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, have the
Winograd forms of 3x3 kernels. Differs: the transforms are in integers mod 2**32, where they are exact, their fractions
taken out as common factors (src/conv.h), and the form is chosen by bounds that hold for any input on the grid.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import native
from .grids import Grid, Rows
from .sums import weight_sums

__all__ = ["Narrow"]

_LARGEST_EXPONENT = 60  # of a scale: the product of two is a normal number
_BLOCK = 16  # output channels that are packed together
_CACHE = 1 << 21  # bytes of the second cache where there is AMX
_AMX_UNSIGNED, _AMX_SIGNED, _AMX_TWO = 81, 82, 83  # forms for tiles of bytes: of inputs 0...255, +-127, of 16 bits


class _Quantiser(ctypes.Structure):
    """A quantiser, QuantiserArgs of src/args.h."""

    _fields_ = [
        ("given", ctypes.c_int64),
        *((name, ctypes.c_double) for name in ("scale", "unit", "low", "high", "slope")),
    ]

    @classmethod
    def of(cls, grid: Grid | None) -> _Quantiser:
        if grid is None:
            return cls(0, 1.0, 1.0, 0.0, 0.0, 1.0)
        return cls(1, 2.0**grid.exponent, 2.0**-grid.exponent, grid.smallest, grid.largest, 2.0**-grid.leak)


class _Call(ctypes.Structure):
    """A call of the kernel, ConvArgs of src/args.h."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("first", "rows", "height", "width", "inner")),
        *((name, ctypes.c_int64) for name in ("kernel", "stride", "offset", "form")),
        ("packed", ctypes.c_void_p),
        ("blocks", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("place", "bias", "scale")),
        *((name, ctypes.c_int64) for name in ("top", "bottom", "columns", "shuffle", "channels")),
        *((name, ctypes.c_void_p) for name in ("residual", "gain", "wide_gain", "kept", "values", "out")),
        ("wide", ctypes.c_int64),
        ("stream", _Quantiser),
        ("grid", _Quantiser),
    ]


class _Packed(NamedTuple):
    """The weights of a layer as the kernel wants them."""

    form: int
    weight: NDArray[np.int16]
    order: NDArray[np.int32]  # (blocks, 16): output channels of the blocks, -1: none
    place: NDArray[np.int64]  # (blocks, 4): row and column in the shuffle, first channel, channels
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]


class _Form(NamedTuple):
    """A form of Winograd's: its name, its products, the rows of its input transform, the bits of its factor."""

    code: int
    products: int
    rows: tuple[tuple[int, ...], ...]
    columns: tuple[tuple[int, ...], ...]
    shift: int


_B2 = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_B4 = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_FORMS = (_Form(44, 36, _B4, _B4, 6), _Form(24, 24, _B2, _B4, 4), _Form(22, 16, _B2, _B2, 2))  # the fastest first


def _fits(form: _Form, grid: Grid, largest_sum: int) -> bool:
    """Whether transformed inputs stay in 16 bits, and sums times the factor in 32, for all inputs on a grid."""
    products = np.multiply.outer(np.array(form.rows), np.array(form.columns)).swapaxes(1, 2).reshape(form.products, -1)
    up, down = np.maximum(products, 0).sum(1), np.maximum(-products, 0).sum(1)
    high = (up * grid.largest - down * grid.smallest).max()
    low = (up * grid.smallest - down * grid.largest).min()
    return low >= -32768 and high <= 32767 and largest_sum < 2 ** (31 - form.shift)


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _aligned(shape: tuple[int, ...]) -> NDArray[np.int16]:
    """An array that starts at a multiple of 64 bytes: a vector of it is in a single line of the cache."""
    n_bytes = 2 * math.prod(shape)
    buffer = np.empty(n_bytes + 63, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + n_bytes].view(np.int16).reshape(shape)


class Narrow:
    """A zero-padded "same" convolution of int16 activations on a grid, 1x1, 3x3 or 5x5, and its epilogue.

    Its output is float32(sum of weight * input + bias) * 2**-(exponent + exponent of the grid), for inputs between
    the grid's limits.
    """

    def __init__(
        self,
        weight: NDArray[Any],
        bias: NDArray[Any],
        exponent: NDArray[Any],
        grid: Grid,
        *,
        shuffle: int = 1,
        stride: int = 1,
    ) -> None:
        """Makes a layer of integers: weight (O, I, k, k), bias (O,), exponent (O,); ValueError if a bound fails.

        shuffle: output channel c * shuffle**2 + i * shuffle + j goes to row y * shuffle + i and column
        x * shuffle + j of channel c. stride: only these rows and columns are computed.
        """
        weight, bias, exponent = (np.asarray(x) for x in (weight, bias, exponent))
        assert all(x.dtype.kind in "iu" for x in (weight, bias, exponent)), "a layer of integers is needed"
        assert weight.ndim == 4 and weight.shape[2] == weight.shape[3] in (1, 3, 5) and min(weight.shape) > 0
        assert bias.shape == exponent.shape == weight.shape[:1] and shuffle in (1, 2) and stride >= 1
        assert len(weight) % shuffle**2 == 0
        reach = max(grid.largest, -grid.smallest)
        bounds = weight_sums(weight)
        if reach > 32767 or max(bounds.most, -bounds.least) > 32767:
            raise ValueError("inputs and weights of a narrow convolution have 16 bits")
        sums = bounds.magnitudes * reach
        if (np.abs(bias.astype(np.float64)) + sums).max() >= 2**31:
            raise ValueError(f"a sum of this layer can reach 2**{np.log2(sums.max() + 1.0):.1f}, not below 2**31")
        scale = exponent.astype(np.int64) + grid.exponent
        if np.abs(scale).max() > _LARGEST_EXPONENT:
            raise ValueError(f"exponents of this layer leave +-{_LARGEST_EXPONENT}")
        self.grid, self.shuffle, self.stride = grid, shuffle, stride
        self.outer, self.inner, self.kernel = weight.shape[:3]
        self.largest_sum = int(sums.max())
        self._weight, self._bias = np.ascontiguousarray(weight, np.int16), bias.astype(np.int64)
        self._scale = np.ldexp(np.float32(1), -scale).astype(np.float32)
        self._matrices: NDArray[Any] | None = None  # of the twin
        self._ready: dict[bool, _Packed] = {}  # by whether there is AMX

    @property
    def channels(self) -> int:
        """The channels of the result."""
        return self.outer // self.shuffle**2

    def side(self, side: int, offset: int = 0) -> int:
        """The height, or width, of the output for that of an input, before the shuffle."""
        return len(range(offset, side, self.stride))

    def run(
        self,
        x: Rows,
        top: int,
        bottom: int,
        *,
        offset: int = 0,
        residual: Rows | None = None,
        gain: NDArray[Any] | None = None,
        wide: bool = False,
        stream: Grid | None = None,
        kept: Rows | None = None,
        out: Rows | None = None,
        grid: Grid | None = None,
        values: Rows | None = None,
    ) -> None:
        """Computes rows top ... bottom - 1 of the output of x, int16 (they are counted before the shuffle).

        offset: the first row and column of the input at which there is an output, for a stride. What becomes of an
        output v, in float32, or after the convolution in float64 (wide):

        - residual (float32): residual + v. gain, (channels,): v * gain. stream: stream(v), v on this grid;
        - kept (float32) takes v now, and may be the residual itself; values (float32) takes it, too;
        - out (int16) takes the integers of v on `grid`.

        Results and residuals are (rows, columns, channels) after the shuffle. None may overlap x.
        """
        self._check(x, top, bottom, offset)
        height, width = self.side(x.height, offset), self.side(x.array.shape[1], offset)
        places = []
        for rows, dtype in ((residual, np.float32), (kept, np.float32), (values, np.float32), (out, np.int16)):
            places.append(None if rows is None else self._place(rows, dtype, top, bottom, height, width))
        assert all(rows is None or rows.array.flags.writeable for rows in (kept, values, out)), "results are written"
        assert (out is None) == (grid is None), "`out` takes integers of `grid`"
        assert grid is None or max(grid.largest, -grid.smallest) <= 32767, "`out` takes grids of 16 bits"
        for each in (stream, grid):
            assert each is None or (abs(each.exponent) <= _LARGEST_EXPONENT and 0 <= each.leak <= 16)
        if gain is not None:
            gain = np.ascontiguousarray(gain, np.float64 if wide else np.float32)
            assert gain.shape == (self.channels,), f"the gain has the shape {gain.shape}, not {(self.channels,)}"
        if top < bottom and width:
            run = self._twin if native.library() is None else self._kernel
            run(x, top, bottom, offset, width, gain, wide, stream, grid, places)

    def _check(self, x: Rows, top: int, bottom: int, offset: int) -> None:
        assert x.array.dtype == np.int16 and x.array.ndim == 3 and x.array.flags.c_contiguous, "x is int16, contiguous"
        assert x.array.shape[2] == self.inner, f"x has {x.array.shape[2]} channels, not {self.inner}"
        assert 0 <= offset < self.stride and 0 <= top <= bottom <= self.side(x.height, offset), "these rows aren't x's"
        if top < bottom:
            x.cut(*self._reach(x, top, bottom, offset))

    def _reach(self, x: Rows, top: int, bottom: int, offset: int) -> tuple[int, int]:
        """The rows of x, from the first to behind the last, that these rows of the output depend on."""
        first, last, pad = top * self.stride + offset, (bottom - 1) * self.stride + offset, self.kernel // 2
        return max(0, first - pad), min(x.height, last + pad + 1)

    def _place(self, rows: Rows, dtype: Any, top: int, bottom: int, height: int, width: int) -> NDArray[Any]:
        array, s = rows.array, self.shuffle
        assert array.dtype == dtype and array.ndim == 3 and array.flags.c_contiguous, "results are contiguous rows"
        assert rows.height == height * s and array.shape[1:] == (width * s, self.channels), "results have another shape"
        return rows.cut(top * s, bottom * s)

    # ---- the kernel

    def prepare(self) -> _Packed | None:
        """Packs the weights for the instruction set in use, which the first run does otherwise; None: not compiled."""
        if (name := native.instruction_set()) is None:
            return None
        amx = name == "amx"
        if amx not in self._ready:
            self._ready[amx] = self._packed(amx)
        return self._ready[amx]

    @property
    def form(self) -> int:
        """The form of the kernel: 44, 24, 22 for Winograd's with tiles of 4x4, 2x4, 2x2; 81 to 83 for AMX; else 0."""
        ready = self.prepare()
        return 0 if ready is None else ready.form

    def _forms(self, amx: bool) -> list[tuple[int, tuple[int, ...]]]:
        """The forms whose bounds hold for all inputs, the fastest first, and the shapes of a block's weights."""
        grid, pairs = self.grid, -(-self.inner // 2)
        winograd = self.kernel == 3 and self.stride == 1
        forms = [form for form in _FORMS if winograd and _fits(form, grid, self.largest_sum)]
        shapes = [(form.code, (form.products, pairs, _BLOCK, 2)) for form in forms]
        if amx:
            code = _AMX_TWO
            if grid.largest < 128:
                code = _AMX_SIGNED
            elif grid.largest < 256 and grid.smallest >= 0:
                code = _AMX_UNSIGNED
            chunks = -(-self.kernel * 4 * -(-self.inner // 4) // 64)
            # two bytes are twice the work, about that of a form whose weights stay in the cache
            rival = code == _AMX_TWO and any(form.products > 16 for form in forms)
            if not rival or 2 * forms[0].products * self.inner * self.outer > _CACHE:
                shapes.insert(0, (code, (self.kernel, chunks, 16, 32)))
        return [*shapes, (0, (self.kernel**2, pairs, _BLOCK, 2))]

    def _blocks(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The output channels of the blocks of 16, and their places: see `_Packed`."""
        order, place = [], []
        for phase in range(self.shuffle**2):
            for start in range(0, self.channels, _BLOCK):
                n = min(_BLOCK, self.channels - start)
                channels = [(start + i) * self.shuffle**2 + phase for i in range(n)]
                order.append(channels + [-1] * (_BLOCK - n))
                place.append((*divmod(phase, self.shuffle), start, n))
        return np.array(order, np.int32), np.array(place, np.int64)

    def _packed(self, amx: bool) -> _Packed:
        module = native.library()
        assert module is not None
        order, place = self._blocks()
        seen, picked = order >= 0, np.maximum(order, 0)
        bias = np.where(seen, self._bias[picked], 0).astype(np.int32)
        scale = np.where(seen, self._scale[picked], np.float32(1))
        for form, shape in self._forms(amx):
            weight = _aligned((len(order), *shape))
            status = module.codec_conv_pack(
                _pointer(self._weight),
                *(ctypes.c_int64(n) for n in (self.inner, self.kernel, form)),
                _pointer(order),
                ctypes.c_int64(len(order)),
                _pointer(weight),
            )
            with contextlib.suppress(ValueError):  # a weight may have too many bits for the form
                native.check(status)
                return _Packed(form, weight, order, place, bias, scale)
        raise AssertionError("the direct form takes all weights")

    def _kernel(
        self,
        x: Rows,
        top: int,
        bottom: int,
        offset: int,
        width: int,
        gain: NDArray[Any] | None,
        wide: bool,
        stream: Grid | None,
        grid: Grid | None,
        places: list[NDArray[Any] | None],
    ) -> None:
        """Calls the kernel."""
        module, ready = native.library(), self.prepare()
        assert module is not None and ready is not None
        first, stop = self._reach(x, top, bottom, offset)
        if gain is not None:
            starts, (rows, lanes) = ready.place[:, 2:3], ready.order.shape
            gain = np.ascontiguousarray(gain[np.minimum(starts + np.arange(lanes), self.channels - 1)])
            assert gain.shape == (rows, lanes)
        residual, kept, values, out = (None if place is None else _pointer(place) for place in places)
        source = x.cut(first, stop)
        call = _Call(
            _pointer(source),
            *(first, stop - first, x.height, x.array.shape[1], self.inner),
            *(self.kernel, self.stride, offset, ready.form),
            _pointer(ready.weight),
            len(ready.order),
            *(_pointer(ready.place), _pointer(ready.bias), _pointer(ready.scale)),
            *(top, bottom, width, self.shuffle, self.channels),
            residual,
            None if gain is None or wide else _pointer(gain),
            None if gain is None or not wide else _pointer(gain),
            *(kept, values, out),
            int(wide),
            _Quantiser.of(stream),
            _Quantiser.of(grid),
        )
        native.check(module.codec_conv_run(ctypes.byref(call)))

    # ---- the twin

    def _sums(self, x: Rows, top: int, bottom: int, offset: int, width: int) -> NDArray[Any]:
        """The outputs of the convolution in integers, (rows, columns, outer), as floats that hold them exactly."""
        matrices = self._matrices
        if matrices is None:
            # no sum, and no part of one, leaves what the dtype holds exactly, in any order
            dtype = np.float32 if self.largest_sum < 2**24 else np.float64
            matrices = self._matrices = self._weight.transpose(2, 3, 1, 0).astype(dtype)
        k, s, pad = self.kernel, self.stride, self.kernel // 2
        first, rows = top * s + offset - pad, (bottom - top - 1) * s + k
        low, high = max(0, first), min(x.height, first + rows)
        seen = np.zeros((rows, x.array.shape[1] + 2 * pad, self.inner), matrices.dtype)
        seen[low - first : high - first, pad : seen.shape[1] - pad] = x.cut(low, high)
        sums = np.zeros(((bottom - top) * width, self.outer), matrices.dtype)
        for i in range(k):
            for j in range(k):
                part = seen[i : i + (bottom - top - 1) * s + 1 : s, j + offset : j + offset + (width - 1) * s + 1 : s]
                sums += np.ascontiguousarray(part).reshape(-1, self.inner) @ matrices[i, j]
        return sums.reshape(bottom - top, width, self.outer)

    def _twin(
        self,
        x: Rows,
        top: int,
        bottom: int,
        offset: int,
        width: int,
        gain: NDArray[Any] | None,
        wide: bool,
        stream: Grid | None,
        grid: Grid | None,
        places: list[NDArray[Any] | None],
    ) -> None:
        """The twin of the kernel."""
        residual, kept, values, out = places
        sums = self._sums(x, top, bottom, offset, width).astype(np.float64) + self._bias
        v = sums.astype(np.float32) * self._scale
        if (s := self.shuffle) > 1:
            v = v.reshape(bottom - top, width, self.channels, s, s).transpose(0, 3, 1, 4, 2)
            v = v.reshape((bottom - top) * s, width * s, self.channels)
        if wide:
            v = v.astype(np.float64)
        if residual is not None:
            v = residual + v
        if gain is not None:
            v = v * gain
        if stream is not None:
            v = stream(v)
        for place in (kept, values):
            if place is not None:
                place[...] = v
        if out is not None and grid is not None:
            out[...] = grid.integers(v)
