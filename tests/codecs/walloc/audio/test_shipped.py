"""The weights of the packet model that ship: they decode to the same samples as ever, and as well as they did."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from codec.codecs.base.weights import load_weights
from codec.codecs.walloc.audio.packets_model import PacketModel
from codec.codecs.walloc.audio.packets_webp import packets_from_webp, webp_from_packets

from .tiny import sound

DIGESTS = ["66b9cf1f9419366a", "c383a769429b2bb6", "c2dc329da30be589"]  # of samples at three gains


@pytest.fixture(scope="module")
def shipped() -> PacketModel:
    return PacketModel.read(load_weights("walloc-audio", "packets"))


def test_samples_are_those_of_every_machine(shipped: PacketModel) -> None:
    index = np.arange(shipped.config.latent * (2 * shipped.config.halo + 3)).reshape(shipped.config.latent, -1)
    latents = ((index * 7919 % 1009 - 504) // (1 + index % 97)).astype(np.int16)
    digests = [hashlib.sha256(shipped.frames(latents, gain16).tobytes()).hexdigest()[:16] for gain16 in (-48, 0, 32)]
    assert digests == DIGESTS


def test_a_finer_step_is_nearer_and_larger(shipped: PacketModel) -> None:
    x = sound(2 * 44100, 2)
    ratios, sizes = [], []
    for gain16 in (shipped.gain16[0], shipped.nominal, shipped.gain16[1]):
        latents = shipped.latents(x, gain16)
        y = shipped.samples(latents, gain16, len(x)) / 2**23
        ratios.append(10 * np.log10(np.square(x).sum() / np.square(x - y).sum()))
        payload = webp_from_packets(latents, shipped.config)
        assert np.array_equal(packets_from_webp(payload, shipped.config, latents.shape[1]), latents)
        sizes.append(len(payload))
    assert ratios == sorted(ratios)
    assert sizes == sorted(sizes)
    assert ratios[0] > 12


def test_silence_stays_silent(shipped: PacketModel) -> None:
    x = np.zeros((5000, 2), np.float32)
    latents = shipped.latents(x, 0)
    assert not latents.any()
    assert np.abs(shipped.samples(latents, 0, len(x))).max() < 2**23 / 10000
