"""Small models in integers: what they decode is the float network's, the same however it is cut, and bounded."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from codec.codecs.walloc.audio import packets_exact as exact
from codec.codecs.walloc.audio.packets import filter_bank
from codec.codecs.walloc.audio.packets_exact import PacketDecoder, frames_of, integer_bank, snake_table
from codec.codecs.walloc.audio.packets_model import PacketModel
from codec.codecs.walloc.audio.packets_network import PacketNet
from codec.codecs.walloc.audio.packets_torch import export_small, small_arrays
from codec.codecs.walloc.config import compander_limit, compander_scale, expansion_integers
from codec.errors import StreamError

from .tiny import TINY, seeded_net, sound


def float_samples(net: PacketNet, latents: np.ndarray, gain16: int, n: int) -> np.ndarray:
    """The samples (n, channels) that the network of torch makes of latents with silence around them."""
    frames = latents.shape[1] + 2 * net.config.halo
    u = torch.zeros(1, net.config.latent, frames)
    u[0, :, net.config.halo : frames - net.config.halo] = torch.from_numpy(latents.astype(np.float32))
    with torch.no_grad():
        x = net.reconstruct(u, torch.tensor([gain16 / 16]))[0]
    start = (net.config.halo + 1) * net.config.frame
    return x[:, start : start + n].T.numpy()


@pytest.mark.parametrize("gain16", [-37, 0, 20])
def test_integers_compute_the_float_network(net: PacketNet, model: PacketModel, gain16: int) -> None:
    x = sound(7001, net.config.channels)
    latents = model.latents(x, gain16)
    assert latents.any()
    y = model.samples(latents, gain16, len(x))
    assert y.dtype == np.int32
    assert y.shape == x.shape
    expected = float_samples(net, latents, gain16, len(x))
    assert np.abs(y / 2**23 - expected).max() < 1e-4
    assert np.abs(expected).max() > 0.1


def test_latents_are_those_of_the_float_network(net: PacketNet, model: PacketModel) -> None:
    x = sound(5000, net.config.channels)
    latents = model.latents(x, 7)
    assert latents.dtype == np.int16
    frame, frames = net.config.frame, frames_of(5000, net.config)
    assert latents.shape == (net.config.latent, frames)
    around = 8 * frame
    padded = torch.nn.functional.pad(torch.from_numpy(x.T.copy())[None], (around, around - 5000 % frame + frame))
    with torch.no_grad():
        u = torch.round(net.latents_of(net.coefficients(padded), torch.tensor([7 / 16])))[0, :, 7 : 7 + frames]
    assert np.mean(latents != u.numpy()) < 2e-3  # values halfway between two integers may go either way


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (255, 257), (4000, 9003), (14999, 15000), (20, 20), (9, None)])
def test_any_part_is_that_of_the_whole(model: PacketModel, start: int, stop: int | None) -> None:
    x = sound(15000, model.config.channels)
    latents = model.latents(x, 0)
    whole = model.samples(latents, 0, len(x))
    part = model.samples(latents, 0, len(x), start, stop)
    assert np.array_equal(part, whole[start:stop])


def test_chunks_leave_no_trace(model: PacketModel, monkeypatch: pytest.MonkeyPatch) -> None:
    x = sound(15000, model.config.channels)
    latents = model.latents(x, 0)
    whole = model.samples(latents, 0, len(x))
    monkeypatch.setattr(exact, "CHUNK", 7)
    assert np.array_equal(model.latents(x, 0), latents)
    assert np.array_equal(model.samples(latents, 0, len(x)), whole)


def test_frames_are_the_middle_of_a_window(model: PacketModel) -> None:
    x = sound(15000, model.config.channels)
    latents = model.latents(x, 0)
    whole = model.samples(latents, 0, len(x))
    halo, frame = model.config.halo, model.config.frame
    padded = np.pad(latents, ((0, 0), (halo, halo)))
    window = model.frames(padded[:, 5 : 5 + 2 * halo + 9], 0)  # latent frames 5 to 13
    assert np.array_equal(window, whole[4 * frame : 13 * frame])
    assert model.frames(padded[:, : 2 * halo], 0).shape == (0, model.config.channels)


def test_latents_reach_as_far_as_the_network_does(model: PacketModel) -> None:
    """A latent changes samples as many frames away as the receptive field has; the halo is at least that."""
    halo, reach = model.config.halo, model.config.receptive_field
    assert halo > reach
    silence = np.zeros((model.config.latent, 2 * halo + 1), np.int16)
    for place in (halo - reach, halo + reach):
        loud = silence.copy()
        loud[:, place] = 2 ** (model.config.latent_bits - 1) - 1
        assert not np.array_equal(model.frames(loud, 0), model.frames(silence, 0))


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257])
def test_any_length(model: PacketModel, n: int) -> None:
    x = sound(n, model.config.channels)
    latents = model.latents(x, 0)
    assert latents.shape[1] == -(-n // model.config.frame) + 2
    assert model.samples(latents, 0, n).shape == x.shape


def test_worst_inputs_stay_exact(net: PacketNet) -> None:
    """Each layer at the inputs that make its largest sums gives what integers of 64 bits give."""
    decoder = PacketDecoder(small_arrays(net), net.config)
    layers = [(decoder.linear, exact.LARGEST_INPUT), (decoder.first, exact.LARGEST_INPUT)]
    layers += [(layer, exact.LARGEST_ACTIVATION) for unit in decoder.units for layer in (unit[1], unit[3])]
    layers.append((decoder.last, exact.LARGEST_ACTIVATION))
    for layer, largest in layers:
        output = int(np.abs(layer.weight).sum((0, 1)).argmax())
        x = np.where(layer.weight[:, :, output] < 0, -largest, largest).astype(np.int64)
        wide = sum(x[k] @ layer.weight[k].astype(np.int64) for k in range(len(x))) + layer.bias.astype(np.int64)
        assert np.abs(wide).max() > 2**36
        assert layer(x.astype(np.float64)).astype(np.int64)[0].tolist() == wide.tolist()


@pytest.mark.parametrize("gain16", [-96, 96])
def test_the_loudest_latents_end_at_the_limits(model: PacketModel, gain16: int) -> None:
    rng = np.random.default_rng(0)
    largest = 2 ** (model.config.latent_bits - 1) - 1
    latents = rng.choice(np.array([-largest, largest], np.int16), (model.config.latent, 2 * model.config.halo + 20))
    whole = model.frames(latents, gain16)
    assert np.abs(whole).max() <= exact.LARGEST_SAMPLE
    assert np.array_equal(whole[model.config.frame :], model.frames(latents[:, 1:], gain16))


def test_weights_whose_sums_could_leave_float64_are_refused(net: PacketNet) -> None:
    arrays = small_arrays(net)
    arrays["decoder.last.bias"] = arrays["decoder.last.bias"] + 2**53
    with pytest.raises(ValueError, match="sums of decoder.last don't fit"):
        PacketDecoder(arrays, net.config)
    arrays = small_arrays(net)
    arrays["decoder.snake.frequency"] = arrays["decoder.snake.frequency"] + exact.LARGEST_FACTOR
    with pytest.raises(ValueError, match=r"decoder\.snake isn't an activation"):
        PacketDecoder(arrays, net.config)
    arrays = small_arrays(net)
    arrays["post.weight"] = arrays["post.weight"] + 2**24
    with pytest.raises(ValueError, match=r"post\.weight don't fit"):
        PacketDecoder(arrays, net.config)


def test_latents_out_of_range_are_refused(model: PacketModel) -> None:
    latents = model.latents(sound(900, model.config.channels), 0)
    for value in (2 ** (model.config.latent_bits - 1), -(2 ** (model.config.latent_bits - 1))):
        latents[3, 1] = value
        with pytest.raises(StreamError, match="out of range"):
            model.samples(latents, 0, 900)


def test_tables_are_the_same_integers_on_every_machine() -> None:
    """No entry lies so near to a rounding boundary that another mathematical library could round it otherwise."""
    period = 2**exact.TABLE_BITS
    sines = np.array([math.sin(math.pi * i / period) ** 2 for i in range(period)]) * 2.0**exact.SINE_BITS
    assert np.abs(sines % 1 - 0.5).min() > 1e-8
    assert np.array_equal(snake_table(), np.floor(sines + 0.5))
    assert snake_table()[0] == 0
    assert snake_table()[2 ** (exact.TABLE_BITS - 1)] == 2**exact.SINE_BITS
    largest, limit = 2047, compander_limit(12)
    u = [max(1e-4, min(1 - 1e-4, k / (2 * limit) + 0.5)) for k in range(-largest, largest + 1)]
    wide = compander_scale(12) * np.array([NormalDist().inv_cdf(p) for p in u]) * 2.0**exact.INPUT_BITS
    assert np.abs(wide % 1 - 0.5).min() > 1e-6
    assert np.array_equal(expansion_integers(12), np.floor(wide + 0.5))


def test_banks_are_integers_far_from_rounding_boundaries() -> None:
    for levels in range(1, 5):
        scaled = filter_bank(levels, True) * 2.0**exact.BANK_BITS
        assert np.abs(scaled % 1 - 0.5).min() > 1e-7
        assert np.array_equal(integer_bank(levels), np.rint(integer_bank(levels)))


def test_rounding_is_to_the_nearest() -> None:
    x = np.array([-1.5, -0.51, -0.5, 0.49, 0.5, 1.5, 7e9])
    assert exact.rounded(x.astype(np.float64) * 4.0, 0.25, 100).tolist() == [-1, -1, 0, 0, 1, 2, 100]


def test_snake_is_as_good_as_its_table() -> None:
    rng = np.random.default_rng(0)
    alpha, beta = rng.uniform(0.2, 5, 16), rng.uniform(0.5, 4, 16)
    arrays = {
        "s.frequency": np.rint(alpha / np.pi * 2**exact.PHASE_BITS).astype(np.int32),
        "s.amplitude": np.rint(2**exact.AMPLITUDE_BITS / beta).astype(np.int32),
    }
    x = np.rint(rng.uniform(-30, 30, (500, 16)) * 2**exact.ACTIVATION_BITS)
    frequency, amplitude = arrays["s.frequency"] / 2**exact.PHASE_BITS, arrays["s.amplitude"] / 2**exact.AMPLITUDE_BITS
    real = x / 2**exact.ACTIVATION_BITS
    expected = real + np.sin(np.pi * frequency * real) ** 2 * amplitude
    error = exact.Snake(arrays, "s")(x) / 2**exact.ACTIVATION_BITS - expected
    largest = amplitude * np.pi / 2 ** (exact.TABLE_BITS + 1) + 2.0 ** -(exact.ACTIVATION_BITS + 1)
    assert (np.abs(error) < 1.05 * largest).all()


PROGRAM = """
import hashlib, sys
import numpy as np
from codec.codecs.walloc.audio.packets_model import PacketModel
assert "torch" not in sys.modules
model = PacketModel.read(sys.argv[1])
rng = np.random.default_rng(9)
latents = rng.integers(-9, 10, (model.config.latent, 3 * model.config.halo), np.int16)
assert "torch" not in sys.modules
sys.stdout.write(hashlib.sha256(model.frames(latents, 3).tobytes()).hexdigest())
"""


def test_samples_in_another_process_with_other_threads_and_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(export_small(seeded_net(TINY), "tiny", (-48, 32), 0))
    digests = set()
    for settings in ({"OPENBLAS_NUM_THREADS": "1"}, {"OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Haswell"}):
        command = [sys.executable, "-P", "-c", PROGRAM, str(path)]
        environment = {**os.environ, **settings}
        digests.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(digests) == 1
    assert all(len(digest) == 64 for digest in digests)
