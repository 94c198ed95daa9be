"""The network of VQGAN as published, configuration `paper`: for people with GPUs. No weights ship; network.py's do.

Mao et al., "Extreme image compression using fine-tuned VQGANs", DCC 2024, arXiv 2307.08265, on Esser, Rombach, Ommer,
"Taming transformers for high-resolution image synthesis", CVPR 2021, arXiv 2012.09841 (f = 16, 16384 words): 76.07 M
parameters. Structure and names of parameters from the published code, so that its checkpoints can be read.

Differs: one network holds several codebooks, each with its two 1x1 convolutions, so that one codec has all rates;
pictures of any size are padded to multiples of 16 by reflection; sRGB in [0, 1] outside, [-1, 1] inside.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import WeightsError
from .quantiser import FiniteQuantiser, Gradient, VectorQuantiser

__all__ = [
    "STRIDE",
    "Book",
    "Coded",
    "VqganPaperConfig",
    "VqganPaperNet",
    "exported",
    "from_published",
    "metadata",
    "network_of",
    "padded",
]

STRIDE = 16  # pixels to a side of what one index stands for
MOST_CHANNELS, MOST_WORDS = 4096, 1 << 16


@dataclass(frozen=True)
class VqganPaperConfig:
    """The sizes of the configuration `paper`; defaults are the paper's."""

    width: int = 128
    multiples: tuple[int, ...] = (1, 1, 2, 2, 4)  # of the width, at 1/1, 1/2, ..., 1/16 of the resolution
    blocks: int = 2  # residual blocks to a resolution of the encoder; the decoder has one more
    latent: int = 256  # channels of the encoder's output
    code: int = 256  # channels of a codeword
    words: tuple[int, ...] = (16384,)  # sizes of the codebooks; shrunk ones: 8, 16, ..., 2048
    groups: int = 32  # of group normalisation
    codebook: Literal["average", "learned", "finite"] = "learned"
    levels: tuple[
        int, ...
    ] = ()  # of "finite" scalars, one for each of the channels of a codeword: [8, 8, 4] is 256 words
    gradient: Gradient = "straight-through"
    commitment: float = 0.25
    restart: float = 0.0  # share of the mean use below which a word begins anew; 0, as published: none does

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        whole = {"width": MOST_CHANNELS, "blocks": 16, "latent": MOST_CHANNELS, "code": MOST_CHANNELS, "groups": 512}
        for name, most in whole.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{name} is {value!r:.80}; expected a whole number from 1 to {most}")
        for name, count, most in (("multiples", (5, 5), 16), ("words", (1, 16), MOST_WORDS)):
            values = getattr(self, name)
            if not isinstance(values, (tuple, list)) or not count[0] <= len(values) <= count[1]:
                raise ValueError(f"{name} is {values!r:.80}; expected {count[0]} to {count[1]} whole numbers")
            if not all(type(value) is int and 1 <= value <= most for value in values):
                raise ValueError(f"{name} is {values!r:.80}; expected whole numbers from 1 to {most}")
        if len(set(self.words)) < len(self.words):
            raise ValueError(f"words is {self.words!r:.80}; expected different sizes")
        if any(
            self.width * multiple % self.groups or self.width * multiple > MOST_CHANNELS for multiple in self.multiples
        ):
            raise ValueError(f"width is {self.width}; expected multiples of groups, {self.groups}, in all stages")
        for name, choices in (
            ("codebook", ("average", "learned", "finite")),
            ("gradient", ("straight-through", "rotation")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r:.80}; there are {', '.join(choices)}")
        for name in ("commitment", "restart"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
                raise ValueError(f"{name} is {value!r:.80}; expected a number from 0 to 100")
        self._check_levels()

    def _check_levels(self) -> None:
        levels = self.levels
        if not isinstance(levels, (tuple, list)) or not all(type(level) is int and level >= 2 for level in levels):
            raise ValueError(f"levels is {levels!r:.80}; expected whole numbers of 2 or more")
        if self.codebook != "finite":
            if levels:
                raise ValueError(f"levels is {levels!r:.80}, which codebook: {self.codebook} doesn't take")
        elif len(levels) != self.code or self.words != (math.prod(levels),):
            raise ValueError(
                f"levels is {levels!r:.80}: expected as many as code, {self.code}, whose product is the only number of "
                f"words, {self.words!r:.80}"
            )


class ResnetBlock(nn.Module):
    """A residual block with group norm and swish, (B, inner, h, w) to (B, outer, h, w)."""

    def __init__(self, inner: int, outer: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, inner, eps=1e-6), nn.Conv2d(inner, outer, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, outer, eps=1e-6), nn.Conv2d(outer, outer, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class AttnBlock(nn.Module):
    """Single-head attention over all places, with a residual connection; (B, width, h, w)."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (part(y).flatten(2).mT[:, None] for part in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v)  # the kernel that doesn't hold all pairs, where there is one
        return x + self.proj_out(out[:, 0].mT.reshape(x.shape))


class Resample(nn.Module):
    """A 3x3 convolution that halves the resolution (padded on the right and at the bottom), or doubles it."""

    def __init__(self, width: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(width, width, 3, padding=1) if up else nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else F.pad(x, (0, 1, 0, 1)))


class Stage(nn.Module):
    """The blocks at one resolution, with the names of the published code."""

    def __init__(self, inner: int, outer: int, blocks: int, attends: bool, resample: str, groups: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(outer if k else inner, outer, groups) for k in range(blocks))
        self.attn = nn.ModuleList(AttnBlock(outer, groups) for _ in range(blocks if attends else 0))
        self.downsample = Resample(outer, up=False) if resample == "down" else None
        self.upsample = Resample(outer, up=True) if resample == "up" else None

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        for part in (self.downsample, self.upsample):
            x = x if part is None else part(x)
        return x


class Middle(nn.Module):
    """Block, attention, block."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.block_1, self.block_2 = ResnetBlock(width, width, groups), ResnetBlock(width, width, groups)
        self.attn_1 = AttnBlock(width, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] to (B, latent, H/16, W/16). Sides are multiples of 16."""

    def __init__(self, config: VqganPaperConfig) -> None:
        super().__init__()
        widths = [config.width * multiple for multiple in config.multiples]
        last, groups = len(widths) - 1, config.groups
        self.conv_in = nn.Conv2d(3, config.width, 3, padding=1)
        self.down = nn.ModuleList(
            Stage(
                widths[max(0, k - 1)] if k else config.width,
                width,
                config.blocks,
                k == last,
                "down" if k < last else "",
                groups,
            )
            for k, width in enumerate(widths)
        )
        self.mid = Middle(widths[-1], groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for stage in self.down:
            x = stage(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """The latents (B, latent, h, w) to pictures (B, 3, 16 h, 16 w), about [-1, 1]."""

    def __init__(self, config: VqganPaperConfig) -> None:
        super().__init__()
        widths = [config.width * multiple for multiple in config.multiples]
        last, groups = len(widths) - 1, config.groups
        self.conv_in = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], groups)
        self.up = nn.ModuleList(  # the finest first, as published
            Stage(widths[min(last, k + 1)], width, config.blocks + 1, k == last, "up" if k else "", groups)
            for k, width in enumerate(widths)
        )
        self.norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for stage in reversed(self.up):
            x = stage(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Book(nn.Module):
    """A codebook with its two 1x1 convolutions: all that differs between rates."""

    def __init__(self, words: int, config: VqganPaperConfig) -> None:
        super().__init__()
        self.quant_conv = nn.Conv2d(config.latent, config.code, 1)
        self.quantize = (
            FiniteQuantiser(config.levels)
            if config.codebook == "finite"
            else VectorQuantiser(
                words,
                config.code,
                codebook=config.codebook,
                commitment=config.commitment,
                restart=config.restart,
                gradient=config.gradient,
            )
        )
        self.post_quant_conv = nn.Conv2d(config.code, config.latent, 1)

    @property
    def vectors(self) -> VectorQuantiser:
        """The codebook of vectors. TypeError if scalars are quantised, which have none that could be filled."""
        if not isinstance(self.quantize, VectorQuantiser):
            raise TypeError("finite scalars have no codebook to fill")
        return self.quantize

    def codewords(self) -> Tensor:
        """Returns all codewords, (words, code)."""
        quantize = self.quantize
        if isinstance(quantize, VectorQuantiser):
            return quantize.codebook
        every = torch.arange(quantize.words, device=quantize.radix.device)
        return quantize.lookup(every[None, None])[0, :, 0].T


class Coded(NamedTuple):
    """Pictures (B, 3, H, W), about [0, 1], indices (B, H/16, W/16) int64, and the quantiser's loss."""

    x_hat: Tensor
    index: Tensor
    loss: Tensor


class VqganPaperNet(nn.Module):
    """The whole network. Pictures: (B, 3, H, W), sRGB in [0, 1]. words: size of the codebook that is used."""

    arithmetic = "float32"

    def __init__(self, config: VqganPaperConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.books = nn.ModuleDict({str(words): Book(words, config) for words in config.words})

    def book(self, words: int = 0) -> Book:
        """Returns the codebook of that size, by default the first; KeyError if there is none."""
        book = self.books[str(words or self.config.words[0])]
        assert isinstance(book, Book)
        return book

    def vectors(self, x: Tensor, words: int = 0) -> Tensor:
        """Returns what is quantised, (B, code, H/16, W/16), of pictures whose sides are multiples of 16."""
        return self.book(words).quant_conv(self.encoder(2 * x - 1))

    def synthesise(self, codes: Tensor, words: int = 0) -> Tensor:
        """Returns pictures, about [0, 1], of codewords (B, code, h, w)."""
        return (self.decoder(self.book(words).post_quant_conv(codes)) + 1) / 2

    def forward(self, x: Tensor, words: int = 0) -> Coded:
        """Codes pictures whose sides are multiples of 16, with gradients."""
        quantised = self.book(words).quantize(self.vectors(x, words))
        return Coded(self.synthesise(quantised.codes, words), quantised.index, quantised.loss)

    @torch.no_grad()
    def encode(self, x: Tensor, words: int = 0) -> Tensor:
        """Returns the indices (B, ceil(H/16), ceil(W/16)) int64 of pictures of any size."""
        return self.book(words).quantize.index_of(self.vectors(padded(x), words))

    @torch.no_grad()
    def decode(self, index: Tensor, shape: tuple[int, int], words: int = 0) -> Tensor:
        """Returns pictures (B, 3, *shape) in [0, 1] of indices (B, ceil(H/16), ceil(W/16))."""
        x = self.synthesise(self.book(words).quantize.lookup(index), words)
        return x[..., : shape[0], : shape[1]].clamp(0, 1)


def padded(x: Tensor) -> Tensor:
    """Pads pictures (B, 3, H, W) on the right and at the bottom to multiples of 16, by reflection, often if small."""
    for axis in (-2, -1):
        size = x.shape[axis]
        if size % STRIDE:
            index = torch.arange(-(-size // STRIDE) * STRIDE, device=x.device)
            folded = index % max(1, 2 * size - 2)
            x = x.index_select(axis, torch.minimum(folded, (2 * size - 2 - folded).abs()) if size > 1 else 0 * index)
    return x


# ---- weights files: ours, and published checkpoints


def metadata(config: VqganPaperConfig, tag: str) -> dict[str, str]:
    """The text map of a weights file: what is needed to rebuild the network."""
    about = {"network": "paper", "config": asdict(config), "tag": tag}
    return {"codec": "vqgan", "vqgan": json.dumps(about, sort_keys=True)}


def exported(net: VqganPaperNet, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a weights file: what coding needs, without the averages of training."""
    names = {name for name, _ in net.named_parameters()}
    if net.config.codebook != "finite":
        names |= {f"books.{words}.quantize.codebook" for words in net.config.words}
    return {name: value.detach().to(device).contiguous() for name, value in net.state_dict().items() if name in names}


def network_of(about: Mapping[str, str], tensors: Mapping[str, Tensor]) -> VqganPaperNet:
    """Builds the network of a weights file, from its text map and its tensors. WeightsError if it is another one's."""
    try:
        settings = json.loads(about["vqgan"])
        if settings["network"] != "paper":
            raise ValueError(f"network {settings['network']!r:.80}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["config"].items()}
        config = VqganPaperConfig(**values)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise WeightsError(f"these aren't weights of VQGAN's network `paper` ({error}): name another file") from None
    with torch.device("meta"):  # nothing is allocated before the sizes fit
        shapes = {name: value.shape for name, value in exported(VqganPaperNet(config), "meta").items()}
    if {name: value.shape for name, value in tensors.items()} != shapes:
        raise WeightsError("these weights don't fit their own configuration: export them again")
    net = VqganPaperNet(config)
    net.load_state_dict(dict(tensors), strict=False)
    for words in config.words if config.codebook != "finite" else ():
        quantiser = net.book(words).vectors
        quantiser.fill(quantiser.codebook.detach().clone())
    return net


_BOOK = ("quant_conv.weight", "quant_conv.bias", "post_quant_conv.weight", "post_quant_conv.bias")


def published_names(config: VqganPaperConfig) -> dict[str, str]:
    """Maps the names of a published checkpoint to those of a network with one codebook."""
    (words,) = config.words
    if config.codebook == "finite":
        raise WeightsError("published checkpoints have a codebook of vectors: take codebook: learned or average")
    with torch.device("meta"):
        net = VqganPaperNet(config)
    names = {name: name for name, _ in net.named_parameters() if not name.startswith("books.")}
    names |= {name: f"books.{words}.{name}" for name in _BOOK}
    return names | {"quantize.embedding.weight": f"books.{words}.quantize.codebook"}


def from_published(state: Mapping[str, Tensor], config: VqganPaperConfig | None = None) -> VqganPaperNet:
    """Builds the network of a checkpoint of taming-transformers, by the names of its `state_dict`.

    What belongs to training (`loss.*`: LPIPS and the discriminator) is left out. WeightsError if anything else is
    missing, too much, or of another shape. config: the paper's by default, with as many words as the checkpoint has.
    """
    given = {name: value for name, value in state.items() if not name.startswith("loss.")}
    codebook = given.get("quantize.embedding.weight")
    if codebook is None or codebook.ndim != 2:
        raise WeightsError("this isn't a checkpoint of a VQGAN: no codebook, quantize.embedding.weight, in it")
    if config is None:
        if not 1 <= len(codebook) <= MOST_WORDS:
            raise WeightsError(f"a codebook of {len(codebook)} words; at most {MOST_WORDS} can be read")
        config = VqganPaperConfig(words=(len(codebook),))
    names = published_names(config)
    missing, unknown = sorted(names.keys() - given.keys()), sorted(given.keys() - names.keys())
    if missing or unknown:
        which = f"lacks {missing[0]}" if missing else f"also holds {unknown[0]}"
        raise WeightsError(
            f"this checkpoint {which} ({len(missing)} names missing, {len(unknown)} unknown): expected a VQGAN of "
            "f = 16 with attention at 1/16 only, as vqgan_imagenet_f16_16384"
        )
    net = VqganPaperNet(config)
    parameters = dict(net.named_parameters())
    parameters |= dict(net.named_buffers())
    with torch.no_grad():
        for name, target in names.items():
            value, parameter = given[name], parameters[target]
            if value.shape != parameter.shape:
                raise WeightsError(f"{name} is {tuple(value.shape)}; expected {tuple(parameter.shape)}")
            if not bool(torch.isfinite(value).all()):
                raise WeightsError(f"{name} holds values that aren't finite: get the checkpoint again")
            parameter.copy_(value)
    book = net.book()
    book.vectors.fill(book.vectors.codebook.detach().clone())
    return net
