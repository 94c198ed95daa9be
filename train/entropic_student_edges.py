"""The head of edges of Entropic Student: it learns from HED, on features as files of all qualities give them.

Encoder, prior and decoder stay as they are (Matsubara et al., WACV 2022, arXiv 2108.11898, section 3.4: other tasks
reuse the encoder). HED: Xie, Tu, ICCV 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codecs.entropic_student.config import FACTOR, LEVELS, EntropicStudentConfig
from ..codecs.entropic_student.edges import EDGES, LAYERS
from ..codecs.layers.extractors import HED_FILE, HED_PLACE, EdgeDetector, folders_of_package
from ..errors import UsageError
from ..files import find_model

__all__ = ["edge_tensors", "fit_edges", "load_hed"]

STEPS, BATCH, RATE = 1500, 8, 2e-3
LEVELS_SEEN = (4, 12, 20, 28)  # at which each picture is decoded


def load_hed() -> EdgeDetector:
    """HED from the file of `make models`. UsageError if it isn't here."""
    path = find_model(HED_FILE, *folders_of_package(*HED_PLACE))
    if path is None:
        raise UsageError(f"the head of edges needs {HED_FILE}: `make models` fetches it, or `edges: 0` in the recipe")
    return cast(EdgeDetector, EdgeDetector.load(path).frozen())


def _net() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inner, outer in LAYERS:
        layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.PixelShuffle(FACTOR))


def edge_tensors(net: nn.Sequential | None = None) -> dict[str, Tensor]:
    """The tensors of a weights file: of a network, or zeros before there is one, which see no edges anywhere."""
    if net is None:
        net = _net()
        for part in net.parameters():
            nn.init.zeros_(part)
    convs = [part for part in net if isinstance(part, nn.Conv2d)]
    out: dict[str, Tensor] = {}
    for k, conv in enumerate(convs):
        out |= {f"{EDGES}.{k}.weight": conv.weight.detach(), f"{EDGES}.{k}.bias": cast(Tensor, conv.bias).detach()}
    return {name: tensor.to(torch.float16).contiguous() for name, tensor in out.items()}


def fit_edges(
    views: list[Tensor],
    config: EntropicStudentConfig,
    features_of: Callable[[Any, int], Any],
    hed: EdgeDetector,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Tensor]:
    """Trains the head and returns its tensors. views: (224, 224, 3) uint8. features_of: a view and a quality step to
    the features (24, 56, 56) that its file decodes to, in NumPy."""
    torch.manual_seed(seed)
    assert max(LEVELS_SEEN) < LEVELS
    wanted, given = [], []
    for k, view in enumerate(views):
        with torch.no_grad():
            x = view.permute(2, 0, 1)[None].float() / 255
            wanted.append(hed.edges(x).half())
        given.append(
            torch.stack(
                [torch.from_numpy(features_of(view.numpy(), config.step_of(level))).half() for level in LEVELS_SEEN]
            )
        )
        if k % 50 == 0:
            say(f"edges of picture {k} of {len(views)}")
    targets, features = torch.stack(wanted), torch.stack(given)  # (N, 1, 224, 224), (N, 4, 24, 56, 56)
    net = _net()
    with torch.no_grad():  # features are of size 8, and rare edges begin as such
        cast(nn.Conv2d, net[0]).weight.mul_(1 / 8)
        nn.init.constant_(cast(Tensor, cast(nn.Conv2d, net[-2]).bias), -2.0)
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for step in range(STEPS):
        index, level = torch.randint(len(views), (BATCH,)), torch.randint(len(LEVELS_SEEN), (BATCH,))
        loss = F.binary_cross_entropy_with_logits(net(features[index, level].float()), targets[index].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            say(f"edges, step {step + 1} of {STEPS}: cross-entropy {loss.item():.4f}")
    return edge_tensors(net)
