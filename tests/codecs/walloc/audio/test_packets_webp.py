"""Latents of sound as a lossless WebP: the paper's folding, its strict inverse, and latents of more than 8 bits."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from codec.codecs.walloc.audio.packets import PacketConfig
from codec.codecs.walloc.audio.packets_webp import packets_from_webp, webp_from_packets
from codec.errors import MediaError, StreamError, UsageError

EIGHT, TWELVE = PacketConfig(latent=12), PacketConfig(latent=12, latent_bits=12, decoder="small")


def latents_of(config: PacketConfig, frames: int) -> np.ndarray:
    largest = 2 ** (config.latent_bits - 1) - 1
    latents = np.random.default_rng(1).integers(-largest, largest + 1, (12, frames)).astype(np.int16)
    latents[0, 0], latents[1, 0] = largest, -largest
    return latents


@pytest.mark.parametrize("config", [EIGHT, TWELVE], ids=["8 bits", "12 bits"])
@pytest.mark.parametrize("frames", [1, 127, 128, 129, 700])
@pytest.mark.parametrize("rows", [128, 256])
def test_round_trip(config: PacketConfig, frames: int, rows: int) -> None:
    latents = latents_of(config, frames)
    back = packets_from_webp(webp_from_packets(latents, config, rows), config, frames, rows)
    assert back.dtype == np.int16
    assert np.array_equal(back, latents)


def test_the_picture_is_the_papers() -> None:
    """Latent (plane, i, j) is tile (i, j) of its plane; frame 128 c + r of it is in row r and column c."""
    latents = np.zeros((12, 300), np.int16)
    latents[2 * 4 + 1 * 2 + 0, 128 + 5] = 77
    with Image.open(io.BytesIO(webp_from_packets(latents, EIGHT))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (2 * 128, 2 * 3, 3)
    assert [tuple(at) for at in np.argwhere(pixels != 128)] == [(128 + 5, 1, 2)]
    assert pixels[128 + 5, 1, 2] == 128 + 77


def test_small_latents_have_no_high_digits() -> None:
    latents = np.clip(latents_of(TWELVE, 300), -127, 127)
    with Image.open(io.BytesIO(webp_from_packets(latents, TWELVE))) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (2 * 256, 6, 3)
    assert (pixels[128:256] == 128).all()
    assert (pixels[384:] == 128).all()


def test_other_pictures_are_refused() -> None:
    payload = webp_from_packets(latents_of(EIGHT, 200), EIGHT)
    with pytest.raises(StreamError, match="behind the last frame"):
        packets_from_webp(payload, EIGHT, 150)
    with pytest.raises(StreamError, match="damaged"):
        packets_from_webp(payload, EIGHT, 300)
    with pytest.raises(StreamError, match="damaged"):
        packets_from_webp(payload[:-9], EIGHT, 200)
    wide = PacketConfig(latent=12, latent_bits=12, decoder="small")
    narrow = PacketConfig(latent=12, latent_bits=9, decoder="small")
    with pytest.raises(StreamError, match="out of range"):
        packets_from_webp(webp_from_packets(latents_of(wide, 200), wide), narrow, 200)


def test_sounds_that_are_too_long_or_dont_tile() -> None:
    with pytest.raises(MediaError, match="parts of"):
        webp_from_packets(np.zeros((12, 8192 * 128), np.int16), EIGHT)
    with pytest.raises(UsageError, match="can't be tiled"):
        webp_from_packets(np.zeros((13, 9), np.int16), PacketConfig(latent=13))
    with pytest.raises(UsageError, match="128 or 256"):
        webp_from_packets(np.zeros((12, 9), np.int16), EIGHT, 64)
