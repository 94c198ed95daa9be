"""One codec on one value: bytes, distortion, seconds, memory.

Times are of finished work: what a decoder gives back is made a plain array inside the clock, because libraries open
pictures lazily, and a header read in no time is no decoder (a figure of 2747 megapixels a second for WebP has been
published that way). A device is waited for. The first run warms up, and is where memory is measured; the median of the
others is the time.
"""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from ...errors import CodecError, StreamError
from .contract import Audio, Metric, Peer, Value, Video
from .items import shape_of

__all__ = ["ENDLESS_RUN", "LONG_RUN", "Measured", "check_decoded", "explain", "materialise", "measure", "resident_kib"]

LONG_RUN = 5.0  # seconds; a run that takes longer is timed once, warm
ENDLESS_RUN = 10.0  # seconds; one that takes longer isn't run again: the cold run is what there is
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """The measurements of one codec on one value.

    n_bytes: of the whole file. seconds: medians of `runs` warm runs; 0 runs: of the first, cold one. cpu: processor
    seconds of the same runs, which tell how many threads worked. peak: MiB that memory rose above what the process held
    before the call (input not counted); None where the system doesn't say (anything but Linux).
    """

    n_bytes: int
    values: Mapping[str, float]
    encode_seconds: float
    decode_seconds: float
    encode_cpu: float
    decode_cpu: float
    encode_peak: float | None
    decode_peak: float | None
    encode_runs: int
    decode_runs: int
    data: bytes
    decoded: Value


def measure(peer: Peer, value: Value, metrics: Sequence[Metric], repeat: int = 3, lossless: bool = False) -> Measured:
    """Encodes and decodes `repeat` times after a warm-up. CodecError for a peer that gives back something else."""
    data, encode_first, encode_peak = _with_peak(lambda: _as_bytes(peer.encode(value)))
    decoded, decode_first, decode_peak = _with_peak(lambda: materialise(peer.decode(data)))
    check_decoded(value, decoded, lossless)
    encode, encode_runs = _timed(lambda: _as_bytes(peer.encode(value)), repeat, encode_first)
    decode, decode_runs = _timed(lambda: materialise(peer.decode(data)), repeat, decode_first)
    return Measured(
        n_bytes=len(data),
        values={metric.name: float(metric.measure(value, decoded)) for metric in metrics},
        encode_seconds=encode[0],
        decode_seconds=decode[0],
        encode_cpu=encode[1],
        decode_cpu=decode[1],
        encode_peak=encode_peak,
        decode_peak=decode_peak,
        encode_runs=encode_runs,
        decode_runs=decode_runs,
        data=data,
        decoded=decoded,
    )


def materialise(value: Any) -> Value:
    """The value as plain, finished arrays: an opened picture is loaded, a tensor on a device is fetched."""
    if isinstance(value, Audio):
        return Audio(_array(value.samples), value.rate)
    if isinstance(value, Video):
        return Video(_array(value.frames), value.fps)
    return _array(value)


def _array(value: Any) -> Any:
    if hasattr(value, "detach"):  # a tensor: waits for its device
        value = value.detach().cpu().numpy()
    # asarray of a PIL image decodes it. A memory map or a strided view is read through, by the copy.
    return np.array(np.asarray(value), order="C", copy=not isinstance(value, np.ndarray) or _borrowed(value))


def _borrowed(value: np.ndarray) -> bool:
    return isinstance(value, np.memmap) or not value.flags.c_contiguous


def _as_bytes(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise StreamError(f"a peer's encoder gave {type(data).__name__}; expected bytes")
    return data


def check_decoded(value: Value, decoded: Value, lossless: bool = False) -> None:
    """StreamError unless a decoded value has the kind, shape and type of the original, and its values if `lossless`."""
    if type(value) is not type(decoded):
        raise StreamError(f"decoded to {type(decoded).__name__}; expected {type(value).__name__}")
    expected, shape = shape_of(value), shape_of(decoded)
    if expected != shape:
        raise StreamError(f"decoded to shape {shape}; expected {expected}")
    arrays = [_plain(value), _plain(decoded)]
    if arrays[0].dtype != arrays[1].dtype:
        raise StreamError(f"decoded to {arrays[1].dtype}; expected {arrays[0].dtype}")
    if isinstance(value, Audio) and isinstance(decoded, Audio) and value.rate != decoded.rate:
        raise StreamError(f"decoded to {decoded.rate} Hz; expected {value.rate}")
    if lossless and arrays[0].tobytes() != arrays[1].tobytes():
        raise StreamError("a lossless codec gave back other values")


def _plain(value: Value) -> Any:
    if isinstance(value, Audio):
        return value.samples
    return value.frames if isinstance(value, Video) else value


def _timed(work: Callable[[], object], repeat: int, first: tuple[float, float]) -> tuple[tuple[float, float], int]:
    """Median wall and processor seconds, and of how many warm runs."""
    if first[0] > ENDLESS_RUN:
        return first, 0
    runs = [_clocked(work)[1] for _ in range(1 if first[0] > LONG_RUN else max(1, repeat))]
    wall, cpu = zip(*runs, strict=True)
    return (statistics.median(wall), statistics.median(cpu)), len(runs)


def _clocked(work: Callable[[], T]) -> tuple[T, tuple[float, float]]:
    cpu, start = time.process_time(), time.perf_counter()
    result = work()
    _synchronise()
    return result, (time.perf_counter() - start, time.process_time() - cpu)


def _synchronise() -> None:
    """Waits for a GPU that somebody has used; imports nothing."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _with_peak(work: Callable[[], T]) -> tuple[T, tuple[float, float], float | None]:
    """The result, its seconds, and how far resident memory rose meanwhile, MiB."""
    start = _reset_peak()
    result, seconds = _clocked(work)
    peak = None if start is None else resident_kib("VmHWM")
    return result, seconds, None if start is None or peak is None else max(0.0, (peak - start) / 1024)


def _reset_peak() -> int | None:
    """Gives free memory back to the system, forgets the old peak, and says what is held now (KiB); None if unknown."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc: else a freed buffer would be used again and not be counted
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return None
    return resident_kib("VmRSS")


def resident_kib(field: Literal["VmRSS", "VmHWM"]) -> int | None:
    """KiB of this process that are in memory now (VmRSS) or were at most (VmHWM); None where the system doesn't say."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


def explain(error: Exception) -> str:
    """One line about why a peer failed, whoever raised it."""
    text = str(error).partition("\n")[0]
    return text if isinstance(error, CodecError) else f"{type(error).__name__}: {text}"
