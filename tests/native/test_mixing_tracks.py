"""Frames of tracks: compiled and in NumPy, the same numbers and the same state; streams that are cut."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from codec import native
from codec.codecs.dualgs import tracks
from codec.codecs.dualgs.tracks import Kind, TrackReader, encode_tracks
from codec.errors import StreamError
from codec.native.mixing_tracks import Known

pytestmark = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
ISA = native.instruction_sets()
N_FRAMES = 12  # so many that the state of some rows is at each limit
KINDS = [Kind(3), Kind(1), Kind(1, 5), Kind(4), Kind(1, 1)]


def _tracks(n: int, n_frames: int) -> list[np.ndarray]:
    """Tracks that change in some places, by steps of which some are large."""
    draw = np.random.default_rng(n)
    out = []
    for kind in KINDS:
        shape = (n_frames, n, kind.width)
        if kind.bits:
            change = draw.integers(0, 1 << kind.bits, shape)
            keep = draw.random(shape) < 0.7
            for t in range(1, n_frames):
                change[t] = np.where(keep[t], change[t - 1], change[t])
            out.append(change.astype(np.int32))
        else:
            step = np.rint(draw.standard_t(1.5, shape) * 3) * (draw.random((n_frames, n, 1)) < 0.3)
            out.append(np.cumsum(np.clip(step, -1e6, 1e6), 0).astype(np.int32))
    return out


def _state(coder: tracks._Coder) -> dict[str, np.ndarray]:
    return {field.name: getattr(coder._known, field.name) for field in fields(Known)}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 150])
def test_frames_and_all_that_is_known_are_those_of_the_twin(n: int) -> None:
    wanted = _tracks(n, N_FRAMES)
    stream = encode_tracks(wanted, KINDS)
    for name in ISA:
        with native.using(name):
            compiled, twin = (tracks._Coder(n, KINDS, N_FRAMES, stream) for _ in range(2))
            for t in range(N_FRAMES):
                compiled.read()
                twin.frame(None)
                assert np.array_equal(compiled.now, np.concatenate([track[t] for track in wanted], 1)), (name, t)
                for key, expected in _state(twin).items():
                    assert np.array_equal(_state(compiled)[key], expected), (name, t, key)
            compiled.finish()
            twin.finish()


def test_any_number_of_threads_reads_the_same() -> None:
    wanted = _tracks(150, 5)
    stream = encode_tracks(wanted, KINDS)
    before = native.threads()
    try:
        for n_threads in (1, 2, 3):
            native.set_threads(n_threads)
            reader = TrackReader(stream, 150, KINDS, 5)
            for t in range(5):
                for track, read in zip(wanted, reader.next(), strict=True):
                    assert np.array_equal(track[t], read), (n_threads, t)
    finally:
        native.set_threads(before)


def test_a_stream_that_is_changed_ends_with_an_error_or_other_numbers() -> None:
    """Never a crash, and a stream without most of its bytes is noticed."""
    stream = encode_tracks(_tracks(150, 5), KINDS)
    head = 4 * (2 + len(KINDS))
    draw = np.random.default_rng(0)
    noticed = 0
    for _ in range(40):
        damaged = bytearray(stream)
        for at in draw.integers(head, len(stream), 8):
            damaged[at] = int(draw.integers(0, 256))
        try:
            reader = TrackReader(bytes(damaged), 150, KINDS, 5)
            for _ in range(5):
                reader.next()
        except StreamError:
            noticed += 1
    assert noticed > 20
    with pytest.raises(StreamError, match="damaged"):
        TrackReader(stream[:-1], 150, KINDS, 5)


def test_coders_of_another_plan_are_refused() -> None:
    stream = encode_tracks(_tracks(20, 2), KINDS)
    coder = tracks._Coder(20, KINDS, 2, stream)
    assert coder._streams is not None
    coder._streams.any.struct.n_choices = 1
    with pytest.raises(AssertionError, match="called wrongly"):
        coder.read()
