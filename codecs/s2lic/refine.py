"""Refinement while encoding: gradient steps on the latents of one picture lower bits plus lambda times squared error.

Yang, Bamler, Mandt: "Improving Inference for Neural Image Compression", NeurIPS 2020, arXiv 2006.04240, section 3
(iterative inference, stochastic Gumbel annealing). An analysis network is trained to be good on average; what it gives
is a good start for one picture. Only the encoder does this: the decoder, the file format and the time to decode stay as
they are. Differs, to need tens of steps in place of thousands:

- plain gradient steps with momentum, divided by a curvature: that of the squared error, per channel, from one random
  projection (Hutchinson), plus that of the bits, which the predicted scale of each latent says. Adam moves all latents
  alike, whether they matter or not, and did harm in the first tens of steps (docs/notes/s2lic.md);
- the temperature anneals the probabilities of the two integers only, and is 1 for the draw between them. With both
  annealed, as in the paper, draws are integers from early on, and gradients of few steps are mostly noise;
- z stays what the analysis made of it: 1 to 3 % of a file;
- large pictures are worked on tile by tile, with latents around the tile that are seen and not moved.

It works on the float form of the networks. What is coded is made by the exact ones from the latents it gives, so
nothing here can make a file undecodable.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.backends import mkldnn

from ...entropy.exact import ExactConv2d, FixedPoint
from ..layers.tiles import CELL, Tile, around, tiles
from .config import LEVELS
from .layers import checkerboard, estimated_bits, rate_weight
from .network import S2licNet, Slice

__all__ = ["HALO", "MARGIN", "STEPS", "Refiner", "refined_tiles", "slices_of"]

STEPS = 20  # of effort 1
RATE = 0.06  # of a Newton step, for STEPS steps: while it is constant, in the first half
MOMENTUM = 0.3
TEMPERATURES = (0.45, 0.08)  # of the rounding, at the first and at the last step
LARGEST_STEP = 0.5
FLOOR = 2.0  # bits per squared unit, added to each curvature
WIDTH = 0.03  # squared units, added to a scale's square: soft symbols of the narrowest rows aren't on their mean
HALO = 8  # cells around a tile that are seen
MARGIN = 2  # of these, the cells whose pixels count


class Refiner:
    """The float form of a network, which refines latents: it makes no gradients for its weights, and never changes."""

    def __init__(self, net: S2licNet) -> None:
        self.net = _float_form(net)
        device = next(self.net.parameters()).device
        # where bfloat16 isn't native it is slower, not faster
        self.bf16 = device.type != "cpu" or _has_bf16()

    def __call__(self, y: Tensor, z_hat: Tensor, cut: Cut, size: tuple[int, int], step: int, steps: int) -> Tensor:
        """Better latents, in the shape and units of y: (1, M, h, w) float32.

        z_hat: (1, N, ceil(h / 4), ceil(w / 4)). cut(rows, columns): the pixels of these rows and columns of cells,
        (1, 3, 16 rows, 16 columns) float32 in [0, 1]. size: (H, W) of the picture, pixels. step: the quality step.
        steps: how many gradient steps. The same machine gives the same latents again, with the same number of threads:
        sums of float32 depend on it in their last bits, and steps go on from them.
        """
        with torch.inference_mode(False), torch.enable_grad():
            y, z_hat = y.clone(), z_hat.float()
            generator = torch.Generator(y.device).manual_seed(0)
            for tile, seen in refined_tiles(*y.shape[-2:]):
                work = _TileSteps(self, y, z_hat, cut, size, step, tile, seen, generator)
                y[(..., *slices_of(tile))] = work.refined(steps)
        return y


Cut = Callable[[range, range], Tensor]  # the pixels of rows and columns of cells: see `Refiner.__call__`


class _TileSteps:
    """The gradient steps on one tile, and the tensors that they share."""

    def __init__(
        self,
        refiner: Refiner,
        y: Tensor,
        z_hat: Tensor,
        cut: Cut,
        size: tuple[int, int],
        step: int,
        tile: Tile,
        seen: Tile,
        generator: torch.Generator,
    ) -> None:
        self.net, self.bf16, self.generator = refiner.net, refiner.bf16, generator
        quality = step / self.net.config.quality_steps
        self.t = torch.tensor([quality], dtype=torch.float32, device=y.device)
        self.weight = rate_weight(quality) * 255**2 / 3  # of the sum over pixels and colours, against bits
        self.start = y[(..., *slices_of(seen))].clone()
        self.x = cut(*seen).clone()
        z_hat = z_hat[(..., *(slice(side.start // 4, -(-side.stop // 4)) for side in seen))]
        cells = self.start.shape[-2:]
        with torch.no_grad():
            self.features = self.net.hyper_synthesis(z_hat)[..., : cells[0], : cells[1]]
        self.inner = tuple(  # the tile's own cells, in what is seen
            slice(own.start - side.start, own.stop - side.start) for own, side in zip(tile, seen, strict=True)
        )
        self.moves = torch.zeros(1, 1, *cells, dtype=torch.float32, device=y.device)
        self.moves[(..., *self.inner)] = 1
        counts = torch.zeros_like(self.moves)
        counts[(..., *(slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in self.inner))] = 1
        self.counts = counts.repeat_interleave(CELL, -2).repeat_interleave(CELL, -1)
        for dim, (length, side) in enumerate(zip(size, seen, strict=True), start=2):  # cells may reach over the edges
            inside = torch.arange(self.counts.shape[dim], device=y.device) < length - CELL * side.start
            self.counts *= inside.view(-1, 1) if dim == 2 else inside

    def refined(self, steps: int) -> Tensor:
        """Better latents of the tile, (1, M, h, w), after so many steps."""
        y = self.start.clone()
        damping = self._damping()
        velocity = torch.zeros_like(y)
        for index in range(steps):
            part = index / max(1, steps - 1)
            temperature = TEMPERATURES[0] * (TEMPERATURES[1] / TEMPERATURES[0]) ** part
            gradient = self._gradient(y, temperature)
            velocity = MOMENTUM * velocity + (1 - MOMENTUM) * gradient * damping
            rate = RATE * math.sqrt(STEPS / steps) * min(1.0, 2 * (1 - index / steps)) / (1 - MOMENTUM ** (index + 1))
            y -= (rate * velocity).clamp_(-LARGEST_STEP, LARGEST_STEP)
        return y[(..., *self.inner)]

    def _gradient(self, y: Tensor, temperature: float) -> Tensor:
        """The gradient of bits plus lambda times squared error by y, in the shape of y."""
        y = y.detach().requires_grad_()
        with torch.autocast(y.device.type, torch.bfloat16, enabled=self.bf16):
            y_hat, bits, _ = self._coded(y, temperature)
            x_hat = self.net.reconstruct(y_hat, self.t)
        error = (x_hat.float() - self.x).square() * self.counts
        (bits.sum() + self.weight * error.sum()).backward()
        assert y.grad is not None
        return y.grad

    @torch.no_grad()
    def _damping(self) -> Tensor:
        """The inverse curvature of the cost by each latent; 0 for those that stay.

        Latents stay outside the tile, and where the symbol is always 0.
        """
        y_hat, _, level = self._coded(self.start, None)
        with torch.enable_grad():
            y_hat = y_hat.detach().requires_grad_()
            with torch.autocast(y_hat.device.type, torch.bfloat16, enabled=self.bf16):
                x_hat = self.net.reconstruct(y_hat, self.t).float()
            signs = torch.randint(0, 2, x_hat.shape, generator=self.generator, device=x_hat.device).float() * 2 - 1
            (x_hat * signs).sum().backward()
        assert y_hat.grad is not None
        of_error = 2 * self.weight * y_hat.grad.square().mean((0, 2, 3))[None, :, None, None]
        scale = self.net.y_density.scale(level.clamp(0, LEVELS - 1))
        of_bits = 1 / (math.log(2) * (scale.square() + WIDTH))
        return self.moves * (level >= 0.5) / (of_error + of_bits + FLOOR)

    def _coded(self, y: Tensor, temperature: float | None) -> tuple[Tensor, Tensor, Tensor]:
        """Latents as they are decoded, y_hat; their bits, (1,); and their levels. As `S2licNet.predict`, in floats.

        temperature: of soft rounding; None: rounding.
        """
        base = self.net.base.at(self.t)
        anchors = checkerboard(*y.shape[-2:], y.device)
        two = self.net.config.passes == 2
        done: list[Tensor] = []
        levels: list[Tensor] = []
        bits = torch.zeros(1, dtype=torch.float32, device=y.device)
        for part in self.net.slices:
            assert isinstance(part, Slice)
            where = slice(part.start, part.start + part.size)
            y_s, base_s = y[:, where], base[:, where]
            context = part.context(self.features, torch.cat(done, 1) if done else y[:, :0])
            mean, level = (out.float() for out in part.first(context, base_s))
            hat = self._rounded(y_s - mean, temperature) + mean
            if two:
                mean2, level2 = (out.float() for out in part.second(context, hat * anchors, base_s))
                hat = torch.where(anchors, hat, self._rounded(y_s - mean2, temperature) + mean2)
                mean, level = torch.where(anchors, mean, mean2), torch.where(anchors, level, level2)
            bits = bits + estimated_bits(self.net.y_density, hat, mean, level, False)
            done.append(part.refined(hat, context))
            levels.append(level.detach())
        return torch.cat(done, 1), bits, torch.cat(levels, 1)

    def _rounded(self, x: Tensor, temperature: float | None) -> Tensor:
        """Soft rounding of x to its two integers: Gumbel-softmax of Yang et al., eq. 11 and 12; None: rounding."""
        if temperature is None:
            return torch.round(x)
        low = torch.floor(x).detach()
        part = (x - low).clamp(1e-3, 1 - 1e-3)
        uniform = torch.empty_like(x).uniform_(1e-6, 1 - 1e-6, generator=self.generator)
        noise = torch.log(uniform) - torch.log1p(-uniform)  # the difference of two Gumbel variables is logistic
        return low + torch.sigmoid((torch.atanh(part) - torch.atanh(1 - part)) / temperature + noise)


def _has_bf16() -> bool:
    """Whether this processor has instructions for bfloat16."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None) if mkldnn.is_available() else None
    return supported is not None and bool(supported())


def _float_form(net: S2licNet) -> S2licNet:
    """A copy in float arithmetic, which has gradients, and shares the weights."""
    shared: dict[int, object] = {id(parameter): parameter for parameter in net.parameters()}
    for part in net.modules():
        if isinstance(part, ExactConv2d):
            shared[id(part._frozen)] = None  # the copy doesn't need the integers
    out: S2licNet = copy.deepcopy(net, shared)
    for part in out.modules():
        if isinstance(part, (ExactConv2d, FixedPoint)):
            part.mode = "float"
    return out.eval()


def refined_tiles(height: int, width: int) -> Iterator[tuple[Tile, Tile]]:
    """The tiles of y (..., height, width) that are refined one after another, each with the cells that are seen for it.

    What is seen starts at a whole cell of z.
    """
    for tile in tiles(height, width, even=True):
        near = (around(cells, size, HALO) for cells, size in zip(tile, (height, width), strict=True))
        rows, columns = (range(cells.start // 4 * 4, cells.stop) for cells in near)
        yield tile, (rows, columns)


def slices_of(tile: Tile) -> tuple[slice, slice]:
    return slice(tile[0].start, tile[0].stop), slice(tile[1].start, tile[1].stop)
