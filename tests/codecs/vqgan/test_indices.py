"""Index coders: what comes back, rates, hostile streams and states; the compiled mixer writes what its twin does."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from codec import native
from codec.codecs.vqgan import causal
from codec.codecs.vqgan.causal import CausalModel
from codec.codecs.vqgan.indices import METHODS, Models, decode, encode, pack_bits, unpack_bits
from codec.container import _FORMS
from codec.entropy.circuits.coding import FrozenCircuit
from codec.entropy.circuits.index_model import IndexModel
from codec.entropy.circuits.trees import VariableTree
from codec.entropy.tables import Tables
from codec.errors import StreamError, UsageError, WeightsError

BITS = 4
SHAPES = [(9, 14), (1, 1), (1, 9), (9, 1), (2, 2)]


def smooth(seed: int, shape: tuple[int, int] = (9, 14)) -> NDArray[np.int64]:
    """A map whose neighbours are alike."""
    steps = np.random.default_rng(seed).integers(-1, 2, shape)
    return np.clip(7 + steps.cumsum(1) + steps.cumsum(0) // 2, 0, 15)


@functools.cache
def model() -> CausalModel:
    codebook = np.stack([np.arange(16) - 7.5, (np.arange(16) % 3) - 1.0], 1)
    made = CausalModel.new(codebook, [smooth(0)], lines=12)
    if native.library() is not None:
        made.learn([smooth(n) for n in range(40)])
    return made


@functools.cache
def models() -> Models:
    counts = np.bincount(np.concatenate([smooth(n).ravel() for n in range(40)]), minlength=16) + 1
    tables = Tables.from_pmf([counts / counts.sum() * (1 - 2.0**-14)], [0])
    states = {"mix": model().to_state(1 << 16), "histogram": tables.to_state(), "circuit": circuit().to_state()}
    return Models({f"index.16.{name}.{key}": a for name, state in states.items() for key, a in state.items()})


def circuit() -> IndexModel:
    """A circuit over 2x2 blocks that nobody has fitted."""
    cells, states = 3 * 4, 2
    tree = VariableTree(np.arange(-1, cells - 1))
    rng = np.random.default_rng(5)
    theta, weights, root = rng.random((16 * cells, states)), rng.random((cells - 2, states, states)), np.ones(states)
    for v in range(cells):
        theta[16 * v : 16 * v + 16] /= theta[16 * v : 16 * v + 16].sum(0)
    weights /= weights.sum(2, keepdims=True)
    frozen = FrozenCircuit.from_probabilities(tree, np.full(cells, 16), theta, weights, root / states)
    return IndexModel(frozen, 16, 2)


def test_the_container_knows_the_methods() -> None:
    assert _FORMS[0].coders == METHODS
    assert set(models().methods(BITS)) == set(METHODS) and models().methods(5) == ("fixed",)
    assert models().methods(BITS)[0] == "mix"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(method: str, shape: tuple[int, int]) -> None:
    indices = smooth(99, shape)
    data = encode(indices, BITS, method, models())
    assert data == encode(indices, BITS, method, models())
    back = decode(data, method, BITS, shape, models())
    assert back.dtype == np.int32 and np.array_equal(back, indices)


@pytest.mark.skipif(native.library() is None, reason="what is learned needs the compiled module to be quick")
def test_rates() -> None:
    """What the models know pays, each more than the one before; a state that was packed knows nearly as much."""
    held = [smooth(n) for n in range(100, 110)]
    sizes = {method: sum(len(encode(m, BITS, method, models())) for m in held) for method in METHODS}
    assert sizes["fixed"] == 10 * 63
    assert sizes["mix"] < 0.8 * sizes["histogram"] < 0.8 * sizes["fixed"]
    fresh = CausalModel(model().codes, model().vectors, model().edges, causal.Mixer.new(model().mixer.plan))
    assert sizes["mix"] < 0.85 * sum(len(fresh.encode(m)) for m in held)
    assert sizes["mix"] < 1.05 * sum(len(model().encode(m)) for m in held)


@pytest.mark.skipif(native.library() is None, reason="without it both are the twin")
def test_the_twin_writes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    indices = smooth(7, (4, 5))
    data = encode(indices, BITS, "mix", models())
    monkeypatch.setattr(native, "library", lambda: None)
    assert encode(indices, BITS, "mix", models()) == data
    assert np.array_equal(decode(data, "mix", BITS, (4, 5), models()), indices)


def test_contexts_are_what_is_known() -> None:
    """No context looks at the cell itself, or at one that is coded later."""
    codes = model().codes[smooth(3, (6, 8))]
    order = [(int(y), int(x)) for ys, xs in causal._fronts(codes.shape) for y, x in zip(ys, xs, strict=True)]
    assert sorted(order) == [(y, x) for y in range(6) for x in range(8)]
    whole = np.concatenate([contexts for _, contexts, _ in model()._lines_of(codes)])
    for place in (0, 13, 30, 47):
        later = codes.copy()
        for y, x in order[place:]:
            later[y, x] ^= 5
        changed = np.concatenate([contexts for _, contexts, _ in model()._lines_of(later)])
        assert np.array_equal(changed[: place + 1], whole[: place + 1])


def test_similar_words_have_similar_codes() -> None:
    codebook = np.random.default_rng(1).permutation(64)[:, None] * 1.0
    codes = CausalModel.new(codebook, []).codes
    assert sorted(codes.tolist()) == list(range(64))
    assert codes[np.argsort(codebook[:, 0])].tolist() in (list(range(64)), list(range(64))[::-1]) or (
        np.abs(np.diff(codes[np.argsort(codebook[:, 0])].astype(int) >> 5)).sum() == 1
    )


@pytest.mark.parametrize("method", METHODS)
def test_damage(method: str) -> None:
    """StreamError, or another map: a payload's checksum is the container's."""
    data, rng = encode(smooth(5), BITS, method, models()), np.random.default_rng(2)
    cases = [data[:n] for n in range(0, len(data), 5)] + [b"", data + bytes(20), bytes(40), b"\xff" * 40]
    for _ in range(40):
        edit = bytearray(data)
        edit[rng.integers(len(edit))] ^= 1 << int(rng.integers(8))
        cases.append(bytes(edit))
    for case in cases:
        try:
            back = decode(case, method, BITS, (9, 14), models())
        except StreamError:
            continue
        assert back.shape == (9, 14) and 0 <= back.min() <= back.max() < 16
    with pytest.raises(StreamError):
        decode(data[: len(data) // 2], method, BITS, (9, 14), models())
    with pytest.raises(StreamError):
        decode(data + bytes(20), method, BITS, (9, 14), models())


@functools.cache
def large() -> CausalModel:
    """A model of 16384 words that has learned nothing."""
    rng = np.random.default_rng(3)
    codes, vectors = rng.permutation(1 << 14).astype(np.uint16), rng.integers(-127, 128, (1 << 11, 16), np.int8)
    mixer = causal.Mixer.new(causal._plan(14, 8))
    return CausalModel(codes, vectors, np.arange(7, dtype=np.int32) * 10**4, mixer)


def test_large_codebooks() -> None:
    """14 bits, in all of the methods that there are for it; what is coded together is decoded line by line."""
    indices = np.random.default_rng(4).integers(0, 1 << 14, (5, 7))
    indices[2:4, 1:5] = (1 << 14) - 1
    tables = Tables.from_pmf([np.full(1 << 14, (1 - 2.0**-14) / (1 << 14))], [0])
    states = {"mix": large().to_state(1 << 16), "histogram": tables.to_state()}
    made = Models({f"index.16384.{name}.{key}": a for name, state in states.items() for key, a in state.items()})
    assert made.methods(14) == ("mix", "histogram", "fixed")
    height, width = indices.shape
    for method in made.methods(14):
        data = encode(indices, 14, method, made)
        assert np.array_equal(decode(data, method, 14, (height, width), made), indices), method
    with pytest.raises(StreamError):
        decode(bytes(2000), "mix", 14, (height, width), made)
    for size in (1 << 15, 12):
        with pytest.raises(ValueError, match="power of two up to 16384"):
            CausalModel.new(np.zeros((size, 2)), [])


def test_large_codebooks_predict_among_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal, "_FINE_BITS", 3)
    words = np.random.default_rng(6).normal(size=(64, 3))
    made = CausalModel.new(words, [])
    assert made.vectors.shape == (8, 3)
    means = np.stack([words[made.codes >> 3 == k].mean(0) for k in range(8)])
    assert np.array_equal(made.vectors, np.rint(means * 127 / np.abs(means).max()))


@pytest.mark.parametrize("rows", [1, 7, 1 << 12])
def test_the_nearest_vectors(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly, and the first of several, where numbers are as large as they can be."""
    monkeypatch.setattr(causal, "_ROWS", rows)
    rng = np.random.default_rng(8)
    vectors = (127 * rng.integers(-1, 2, (64, 32))).astype(np.int8)
    made = CausalModel(np.arange(64, dtype=np.uint16), vectors, model().edges, model().mixer)
    targets = [(127 * scale * rng.integers(-1, 2, (9, 32)), scale) for scale in (1, 2, 6)]
    expected = [
        (scale * np.square(vectors.astype(int)).sum(1) - 2 * target @ vectors.astype(int).T).argmin(1)
        for target, scale in targets
    ]
    assert np.array_equal(made._nearest(*((t.astype(np.float32), scale) for t, scale in targets)), expected)


@pytest.mark.parametrize("bits", [11, 14])
def test_bits(bits: int) -> None:
    values = np.arange(1 << bits)
    data = pack_bits(values, bits)
    assert len(data) == bits << bits - 3 and np.array_equal(unpack_bits(data, bits, 1 << bits), values)
    if bits == 14:
        return
    assert data[:4] == bytes([0, 0, 0b00000100, 1])  # 0, 1, 2 in 11 bits each, the highest first
    with pytest.raises(StreamError, match="behind"):
        unpack_bits(b"\x01", 3, 2)


def test_what_cannot_be() -> None:
    with pytest.raises(StreamError, match="newer version"):
        decode(b"", "other", BITS, (1, 1), models())
    with pytest.raises(WeightsError, match="fixed"):
        decode(b"", "mix", 5, (1, 1), models())
    with pytest.raises(UsageError, match="fixed"):
        encode(smooth(1), 5, "circuit", models())
    with pytest.raises(UsageError, match="there are mix"):
        encode(smooth(1), BITS, "other", models())
    with pytest.raises(ValueError, match="index map"):
        encode(smooth(1) + 3, BITS, "mix", models())


@pytest.mark.parametrize("name", ["codes", "vectors", "edges", "lines", "learned"])
def test_damaged_states(name: str) -> None:
    good = model().to_state(1 << 16)
    array = good[name]
    for wrong in (array[:-1], array.astype(np.float32), np.repeat(array, 2, 0), np.flip(array) * 0 + 77, None):
        state = dict(good) if wrong is not None else {key: a for key, a in good.items() if key != name}
        if wrong is not None:
            state[name] = wrong.astype(array.dtype) if wrong.shape == array.shape and wrong.dtype.kind != "f" else wrong
        if (
            name in ("vectors", "edges")
            and wrong is not None
            and wrong.shape == array.shape
            and wrong.dtype == array.dtype
        ):
            continue  # other numbers, of which none is wrong
        with pytest.raises(ValueError, match=r"index model|mixer"):
            CausalModel.from_state(state)
        arrays = {f"index.16.mix.{key}": a for key, a in state.items()}
        with pytest.raises(WeightsError):
            Models(arrays).mix(BITS)
