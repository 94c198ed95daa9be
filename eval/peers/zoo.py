"""CompressAI's model zoo: learned picture codecs, with the weights that its authors published.

Bégaint, Racapé, Feltman, Pushparaja, "CompressAI: a PyTorch library and evaluation platform for end-to-end compression
research", arXiv 2011.03029. The architectures: Ballé et al. 2018 (arXiv 1802.01436), Minnen et al. 2018 (1809.02736),
Cheng et al. 2020 (2001.01568).

Nothing is downloaded here: weights are read from where CompressAI itself keeps them, torch's hub folder, or from a file
that the option `checkpoint` names. What differs from CompressAI's own evaluation: a rate is the size of a whole file,
with a header of ours (20 bytes, 16 without a hyperprior); sides that are no multiple of 64 are padded at the right and
the bottom by repeating the edge, where CompressAI pads all around with black. On the CPU only.

The streams of its range coder have no checksum and its decoder doesn't check where it reads, so only the header's
damage is sure to be noticed: decode what you trust.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, StreamError, UsageError, WeightsError
from ...media.values import check_size
from ..bench.contract import Family, Option, OptionValue, Peer
from .images import check_picture, check_settings, whole

__all__ = ["FAMILIES"]

_STRIDE = 64  # sides are padded to a multiple of this, for every architecture
_MAX_SIDE = 0xFFFF * 16 // _STRIDE * _STRIDE  # sizes of latents are 16 bits in the header
_SEED = 0
_SIZES = struct.Struct("<IIHH")  # height, width; height and width of the innermost latent
_LENGTH = struct.Struct("<I")
_WORD = 4  # the range coder writes words of 32 bits, and two of them at the end


@dataclass(frozen=True)
class _Architecture:
    name: str
    about: str
    qualities: int
    strings: int = 2  # what it writes: y and z, or y alone
    stride: int = 64  # of the innermost latent


_ARCHITECTURES = (
    _Architecture("bmshj2018-factorized", "factorized prior, Ballé et al. 2018", 8, strings=1, stride=16),
    _Architecture("bmshj2018-hyperprior", "scale hyperprior, Ballé et al. 2018", 8),
    _Architecture("mbt2018-mean", "mean and scale hyperprior, Minnen et al. 2018", 8),
    _Architecture("mbt2018", "hyperprior and autoregressive context, Minnen et al. 2018; slow", 8),
    _Architecture("cheng2020-anchor", "residual blocks and autoregressive context, Cheng et al. 2020; slow", 6),
    _Architecture("cheng2020-attn", "as cheng2020-anchor, with attention; slow", 6),
)


# ---- files


def _pack(height: int, width: int, inner: tuple[int, int], strings: list[bytes]) -> bytes:
    lengths = b"".join(_LENGTH.pack(len(item)) for item in strings)
    return _SIZES.pack(height, width, *inner) + lengths + b"".join(strings)


def _unpack(architecture: _Architecture, data: bytes) -> tuple[int, int, tuple[int, int], list[bytes]]:
    """Height, width, shape of the innermost latent, strings. StreamError unless all of them fit each other."""
    name, head = architecture.name, _SIZES.size + _LENGTH.size * architecture.strings
    if len(data) < head:
        raise StreamError(f"{name}: a file of {len(data)} bytes; expected a header of {head}: is it cut?")
    height, width, inner_height, inner_width = _SIZES.unpack_from(data)
    try:
        check_size(width, height)
    except MediaError as error:
        raise StreamError(f"{name}: a damaged header: {error}") from None
    inner = (inner_height, inner_width)
    expected = _inner_shape(architecture, height, width)
    if inner != expected:
        raise StreamError(
            f"{name}: a damaged header, or another codec's file: a picture of {width}x{height} has a latent of "
            f"{expected[1]}x{expected[0]}, not {inner_width}x{inner_height}"
        )
    lengths = [_LENGTH.unpack_from(data, _SIZES.size + i * _LENGTH.size)[0] for i in range(architecture.strings)]
    if head + sum(lengths) != len(data):
        raise StreamError(
            f"{name}: a file of {len(data)} bytes whose header says {head + sum(lengths)}: cut or damaged"
        )
    if any(n % _WORD or n < 2 * _WORD for n in lengths):
        raise StreamError(f"{name}: strings of {lengths} bytes; the range coder writes whole words, two at least")
    strings, at = [], head
    for n in lengths:
        strings.append(data[at : at + n])
        at += n
    return height, width, inner, strings


def _inner_shape(architecture: _Architecture, height: int, width: int) -> tuple[int, int]:
    per_tile = _STRIDE // architecture.stride
    return -(-height // _STRIDE) * per_tile, -(-width // _STRIDE) * per_tile


# ---- networks


def _cached(architecture: _Architecture, metric: str, quality: int) -> tuple[Path, str]:
    """The path at which torch.hub keeps these weights, and their address."""
    import torch
    from compressai.zoo.image import model_urls

    url = str(model_urls[architecture.name][metric][quality])
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1], url


def _network(architecture: _Architecture, settings: Mapping[str, OptionValue]) -> Any:
    """A CompressAI model in eval mode, its tables made."""
    import torch
    from compressai.zoo.image import cfgs, model_architectures
    from compressai.zoo.pretrained import load_pretrained

    name, quality, metric = architecture.name, whole(settings, "quality"), str(settings["metric"])
    cls: Any = model_architectures[name]
    if settings["weights"] == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            network = cls(*cfgs[name][quality])
    else:
        named = str(settings["checkpoint"])
        if named:
            path = Path(named).expanduser()
            hint = f"checkpoint={named}: there is no such file"
        else:
            path, url = _cached(architecture, metric, quality)
            hint = (
                f"the weights for quality={quality}, metric={metric} aren't here: fetch {url} with a network and put "
                f"it at {path}, or name a file with checkpoint=PATH (weights=random is for timing only)"
            )
        if not path.is_file():
            raise WeightsError(f"{name}: {hint}")
        try:
            network = cls.from_state_dict(load_pretrained(_state_dict(path)))
        except Exception as error:  # torch and CompressAI have no errors of their own for a file that doesn't fit
            raise WeightsError(f"{name}: {path} doesn't hold the weights of this architecture ({error})") from error
    network.eval()
    network.update()  # makes the tables if the file has none; those that it has are kept
    return network.requires_grad_(False)


def _state_dict(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    # The one use of torch.load: CompressAI publishes its weights in this format only, and with weights_only the file
    # can make tensors and plain containers but call nothing.
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    return loaded.get("state_dict", loaded)  # training checkpoints have more around it


class _ZooPeer:
    def __init__(self, architecture: _Architecture, network: Any) -> None:
        self.architecture = architecture
        self.network = network

    def encode(self, value: Any) -> bytes:
        """Encodes (H, W, 3) uint8 to a header and strings."""
        import torch
        from torch.nn.functional import pad

        pixels = check_picture(self.architecture.name, value, _MAX_SIDE)
        height, width, _ = pixels.shape
        check_size(width, height)
        with torch.inference_mode():
            x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
            x = pad(x, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
            coded = self.network.compress(x)
        inner = (int(coded["shape"][0]), int(coded["shape"][1]))
        assert inner == _inner_shape(self.architecture, height, width)
        return _pack(height, width, inner, [batch[0] for batch in coded["strings"]])

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Decodes to (H, W, 3) uint8. StreamError if the header is damaged."""
        import torch

        height, width, inner, strings = _unpack(self.architecture, data)
        with torch.inference_mode():
            x_hat = self.network.decompress([[item] for item in strings], inner)["x_hat"]
            pixels = (x_hat[0, :, :height, :width] * 255).round().clamp(0, 255).to(torch.uint8)
            return pixels.permute(1, 2, 0).contiguous().numpy()


# ---- families


def _missing() -> str | None:
    absent = [name for name in ("torch", "compressai") if find_spec(name) is None]
    if "compressai" in absent and sys.version_info >= (3, 13):
        return "compressai has no release for Python 3.13 or later (it needs NumPy 1): use Python 3.12 or earlier"
    return f"{' and '.join(absent)} not installed: pip install 'codec-suite[zoo]'" if absent else None


def _versions() -> Mapping[str, str]:
    return {name: version(name) for name in ("compressai", "torch")}


def _family(architecture: _Architecture) -> Family:
    options = {
        "quality": Option(min(4, architecture.qualities), "step of the zoo", 1, architecture.qualities),
        "metric": Option("mse", "what it was trained for", choices=("mse", "ms-ssim")),
        "weights": Option(
            "pretrained", "random: for timing only, pictures come out as noise", choices=("pretrained", "random")
        ),
        "checkpoint": Option(
            "", "a .pth, .pth.tar or .safetensors instead of the zoo's; quality and metric only name it"
        ),
    }

    def make(settings: Mapping[str, OptionValue], threads: int) -> Peer:
        del threads  # torch's, which the runner sets
        check_settings(architecture.name, options, settings)
        if settings["checkpoint"] and settings["weights"] == "random":
            raise UsageError(f"{architecture.name}: weights=random and a checkpoint exclude each other: leave one out")
        problem = _missing()
        if problem:
            raise UsageError(f"{architecture.name}: {problem}")
        return _ZooPeer(architecture, _network(architecture, settings))

    return Family(
        name=architecture.name,
        medium="image",
        about=f"CompressAI: {architecture.about}",
        options=options,
        make=make,
        axis="quality",
        sweep=tuple(range(1, architecture.qualities + 1)),
        missing=_missing,
        versions=_versions,
    )


FAMILIES: tuple[Family, ...] = tuple(_family(architecture) for architecture in _ARCHITECTURES)
