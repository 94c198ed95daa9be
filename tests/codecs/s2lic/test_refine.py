"""Refinement of S2LIC's latents while encoding: worth its time, repeatable, in tiles, and nothing but an encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from codec import Codec, cli
from codec.codecs.base.codec import threads
from codec.codecs.layers import tiles
from codec.codecs.s2lic import refine as s2lic_refine
from codec.codecs.s2lic.codec import S2licCodec
from codec.codecs.s2lic.config import S2licPaperConfig
from codec.codecs.s2lic.layers import rate_weight
from codec.codecs.s2lic.refine import refined_tiles, slices_of
from codec.container import read_header
from codec.entropy.exact import ExactConv2d, FixedPoint
from codec.errors import UsageError
from codec.eval.bench.specs import parse
from codec.eval.peers.ours import families


@pytest.fixture(scope="module")
def codec() -> S2licCodec:
    loaded = Codec.load("s2lic")
    assert isinstance(loaded, S2licCodec)
    return loaded


@pytest.fixture(scope="module")
def crop(photo: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(photo[100:290, 120:330])  # neither side is a multiple of a cell


def cost(codec: S2licCodec, pixels: np.ndarray, quality: float) -> float:
    """What training minimises, of a file."""
    data = codec.compress(pixels, quality)
    error = float(np.mean((codec.decompress(data).astype(float) - pixels) ** 2))
    weight = rate_weight(codec.step_of(quality) / codec.model.net.config.quality_steps)
    return 8 * len(data) / (pixels.shape[0] * pixels.shape[1]) + weight * error


@pytest.mark.parametrize("quality", [25, 75])
def test_it_is_worth_it(codec: S2licCodec, crop: np.ndarray, quality: float) -> None:
    assert cost(codec.with_settings(effort=0.5), crop, quality) < 0.985 * cost(codec, crop, quality)


def test_tiles(codec: S2licCodec, crop: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    crop = np.ascontiguousarray(crop[:, :140])
    before = cost(codec, crop, 60)
    whole = cost(codec.with_settings(effort=0.3), crop, 60)
    monkeypatch.setattr(tiles, "TILE", 6)
    assert len(list(refined_tiles(12, 9))) == 4
    tiled = cost(codec.with_settings(effort=0.3), crop, 60)
    assert before - tiled > 0.7 * (before - whole) > 0


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (49, 95), (144, 72)])
def test_tiles_cover_everything_once(size: tuple[int, int]) -> None:
    seen = np.zeros(size, int)
    for tile, near in refined_tiles(*size):
        seen[slices_of(tile)] += 1
        for own, side, length in zip(tile, near, size, strict=True):
            assert 0 <= side.start <= own.start < own.stop <= side.stop <= length
            assert side.start % 4 == 0
            assert side.start == 0 or own.start - side.start >= s2lic_refine.HALO
            assert side.stop == length or side.stop - own.stop == s2lic_refine.HALO
    assert (seen == 1).all()
    assert max(len(cells) for cells in tiles.spans(size[0], even=True)) <= 1.5 * tiles.TILE


def test_what_a_tile_moves_and_looks_at(codec: S2licCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents of the tile itself; pixels of it and two cells around, none beyond the picture's edges."""
    monkeypatch.setattr(tiles, "TILE", 12)
    config, size = codec.model.net.config, (380, 395)
    y = 3 * torch.randn(1, config.latent, 24, 25, generator=torch.Generator().manual_seed(0))
    z_hat = torch.zeros(1, config.hyper, 6, 7)

    def cut(rows: range, columns: range) -> torch.Tensor:
        return torch.full((1, 3, 16 * len(rows), 16 * len(columns)), 0.5)

    pixels = 0
    for tile, near in refined_tiles(24, 25):
        generator = torch.Generator().manual_seed(0)
        work = s2lic_refine._TileSteps(codec.model.refiner, y, z_hat, cut, size, 160, tile, near, generator)
        moved = torch.zeros(24, 25, dtype=torch.bool)
        moved[slices_of(near)] = (work._damping() > 0).any(1)[0]
        expected = torch.zeros(24, 25, dtype=torch.bool)
        expected[slices_of(tile)] = True
        assert torch.equal(moved, expected)
        counts = torch.zeros(400, 416)
        rows, columns = (slice(16 * side.start, 16 * side.stop) for side in near)
        counts[rows, columns] = work.counts[0, 0]
        for axis, own, length in zip((0, 1), tile, size, strict=True):
            seen = torch.nonzero(counts.any(1 - axis)).flatten()
            assert int(seen[0]) == max(0, 16 * (own.start - s2lic_refine.MARGIN))
            assert int(seen[-1]) == min(length, 16 * (own.stop + s2lic_refine.MARGIN)) - 1
        pixels += int(counts[: size[0], : size[1]].sum())
    assert pixels > size[0] * size[1]


def test_same_bytes_again_and_nothing_changes(codec: S2licCodec, crop: np.ndarray) -> None:
    plain, small = codec.compress(crop, 40), codec.with_settings(effort=0.1)
    files = [small.compress(crop, 40) for _ in range(2)]
    assert files[0] == files[1] != plain
    assert codec.compress(crop, 40) == plain
    assert read_header(files[0]) == read_header(plain)  # how it was encoded is the encoder's own affair
    assert np.array_equal(codec.decompress(files[0]), small.decompress(files[0]))


def test_a_little_effort_is_a_step(codec: S2licCodec, crop: np.ndarray) -> None:
    assert codec.with_settings(effort=0.001).compress(crop, 40) != codec.compress(crop, 40)
    assert codec.with_settings(effort=0).compress(crop, 40) == codec.compress(crop, 40)


def test_weights_are_shared(codec: S2licCodec) -> None:
    exact = dict(codec.model.net.named_parameters())
    for name, parameter in codec.with_settings(effort=1).model.refiner.net.named_parameters():
        assert parameter is exact[name]
        assert not parameter.requires_grad
    modes = {part.mode for part in codec.model.net.modules() if isinstance(part, (ExactConv2d, FixedPoint))}
    assert modes == {"frozen"}


def test_kinds_and_sizes(codec: S2licCodec, photo: np.ndarray) -> None:
    little = codec.with_settings(effort=0.05)
    for pixels in (photo[:1, :1], photo[:5, :40], photo[:33, :17].astype(np.uint16) * 257, photo[:40, :40, 0]):
        out = little.decompress(little.compress(np.ascontiguousarray(pixels)))
        assert (out.shape, out.dtype) == (pixels.shape, pixels.dtype)


def test_callers_modes_stay_out(codec: S2licCodec, crop: np.ndarray) -> None:
    little = codec.with_settings(effort=0.1)
    expected = little.compress(crop, 30)
    with torch.no_grad():
        assert little.compress(crop, 30) == expected
    with torch.inference_mode():
        assert little.compress(crop, 30) == expected
        loaded_there = Codec.load("s2lic").with_settings(effort=0.1)
    assert loaded_there.compress(crop, 30) == expected
    torch.set_default_dtype(torch.float64)
    try:
        assert little.compress(crop, 30) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_coder_and_effort_go_together(codec: S2licCodec) -> None:
    changed = codec.with_settings(effort=0.5).with_settings(coder="torchac")
    assert (changed.effort, changed.coder) == (0.5, "torchac")
    assert codec.with_settings(coder="torchac").with_settings(effort=2).coder == "torchac"


@pytest.mark.parametrize(
    ("effort", "words"), [(-0.1, "a finite number, 0 or more"), (101.0, "0 to 100"), (float("nan"), "a finite number")]
)
def test_efforts_that_cant_be(codec: S2licCodec, effort: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        codec.with_settings(effort=effort)


def test_networks_that_have_none(codec: S2licCodec) -> None:
    model = type(codec.model)(S2licPaperConfig(), codec.model.y_tables, codec.model.z_tables, "paper", b"")
    with pytest.raises(UsageError, match="small"):
        S2licCodec(model).with_settings(effort=1)
    for effort in (0, 1):  # a codec that doesn't declare it refuses any
        with pytest.raises(UsageError, match="walloc"):
            Codec.load("walloc").with_settings(effort=effort)


def test_command_line(
    crop: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    # of one number of threads: sums of float32 differ in their last bits with it, and steps go on from them
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what workers take
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    Image.fromarray(crop).save(tmp_path / "a.png")

    def encode(*words: str, names: tuple[str, ...] = ("a.png",)) -> int:
        with threads(1):
            return cli.main(["encode", *(str(tmp_path / name) for name in names), "--force", *words])

    assert encode("-o", str(tmp_path / "a.s2lic")) == 0
    assert encode("-o", str(tmp_path / "b.s2lic"), "--effort", "0.1") == 0
    assert (tmp_path / "a.s2lic").read_bytes() != (tmp_path / "b.s2lic").read_bytes()
    capfd.readouterr()
    assert encode("-c", "walloc", "-o", str(tmp_path / "c.walloc"), "--effort", "1") == 2
    assert "walloc doesn't take --effort" in capfd.readouterr().err
    assert not (tmp_path / "c.walloc").exists()
    assert encode("-o", str(tmp_path / "d.s2lic"), "--effort", "500") == 2
    Image.fromarray(crop).save(tmp_path / "b.png")
    assert encode("-o", str(tmp_path / "out"), "--effort", "0.1", "--jobs", "2", names=("a.png", "b.png")) == 0
    for name in ("a", "b"):
        assert (tmp_path / "out" / f"{name}.s2lic").read_bytes() == (tmp_path / "b.s2lic").read_bytes()


def test_it_is_a_curve_of_the_bench() -> None:
    family = {family.name: family for family in families()}["s2lic"]
    plain, slow = parse("s2lic:q=50,s2lic:q=50:effort=0.5", {"s2lic": family})
    assert (plain.label, slow.label) == ("s2lic", "s2lic:effort=0.5")
    peer = family.make(slow.points[0].settings, 1)
    assert peer.codec.effort == 0.5  # type: ignore[attr-defined]
    assert "effort" not in {family.name: family for family in families()}["walloc"].options


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(codec: S2licCodec, crop: np.ndarray) -> None:
    on_gpu = Codec.load("s2lic", device="cuda").with_settings(effort=0.5)
    assert isinstance(on_gpu, S2licCodec)
    assert cost(on_gpu, crop, 50) < cost(codec, crop, 50)
    data = on_gpu.compress(crop, 50)
    assert np.array_equal(on_gpu.decompress(data), codec.decompress(data))
