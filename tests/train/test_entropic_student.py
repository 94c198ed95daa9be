"""Training of Entropic Student: what is compared, what is frozen when, and that what comes out is a codec.

The teacher is a network of the classifier's shape with random weights: no file is needed.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from codec import Codec
from codec.codecs.entropic_student import heads
from codec.codecs.entropic_student.config import EntropicStudentConfig
from codec.codecs.layers.extractors import Classifier, EdgeDetector
from codec.errors import UsageError
from codec.train import entropic_student as module
from codec.train import entropic_student_edges as edges
from codec.train.entropic_student import EntropicStudentRecipe, EntropicStudentTask, check_settings
from codec.train.run import RECIPES
from codec.train.twins import HARD

SMALL = EntropicStudentConfig(latent=4, decoder_width=(8, 8), knots=3)


@functools.cache
def teacher() -> Classifier:
    torch.manual_seed(0)
    net = Classifier().frozen()
    with torch.no_grad():
        for part in net.modules():
            if isinstance(part, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(part.weight)  # so that answers depend on the picture
    assert isinstance(net, Classifier)
    return net


def pictures(n: int = 2, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(n, 3, side // 8, side // 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")


def made(**settings: Any) -> EntropicStudentTask:
    torch.manual_seed(1)
    task = EntropicStudentTask(SMALL, EntropicStudentRecipe(**{"steps": 40, "edges": 0, **settings}), "t", teacher())
    module.begin(task, pictures())
    return task


def test_every_recipe_can_be_run() -> None:
    for path in (RECIPES / "entropic-student").glob("*.yaml"):
        config, recipe = check_settings(yaml.safe_load(path.read_text()))
        assert recipe.steps > 1000
        assert config.latent


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"crop": 100}, "crop"),
        ({"crop": 32}, "crop"),
        ({"steps": 0}, "steps"),
        ({"distortion": (3.0, 1.0)}, "distortion"),
        ({"distortion": (0.0, 1.0)}, "distortion"),
    ],
)
def test_recipes_that_can_not_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_settings({"model": {}, "recipe": {"steps": 10, **settings}})


def test_the_teachers_own_features_have_no_error() -> None:
    task, x = made(), pictures()
    with torch.no_grad():
        own = heads.early(teacher(), x)
        error, divergence = task.compare(x, own)
        assert float(error.max()) < 1e-9
        assert float(divergence.abs().max()) < 1e-5
        error, divergence = task.compare(x, torch.zeros_like(own))
    assert float(error.min()) > 0.1
    assert float(divergence.min()) > 1e-6


def test_errors_are_relative_to_the_features() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert module._relative_error(0.5 * x, x).mean().item() == pytest.approx(0.25)
    assert module._relative_error(50 * x, 100 * x).mean().item() == pytest.approx(0.25)


def test_it_learns_with_all_rates_at_once() -> None:
    task, x = made(lr=5e-3), pictures()
    optimizer = task.configure_optimizers()
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(task.net.parameters()))
    assert {round(group["lr"] / 5e-3, 3) for group in optimizer.param_groups} == {0.01, 0.1, 1.0, 5.0, 10.0}

    def now() -> float:
        """The loss for the same qualities and the same noise."""
        out = []
        for seed in range(100, 112):
            torch.manual_seed(seed)
            with torch.no_grad():
                out.append(float(task.loss(x).total))
        return float(np.mean(out))

    before = now()
    for step in range(60):
        torch.manual_seed(step)
        task.optimise(x, {"optimizer": optimizer})
    assert now() < 0.85 * before
    with torch.no_grad():
        bits = [float(task.student(x, torch.full((2,), t))[1].mean()) for t in (0.0, 0.5, 1.0)]
    assert bits[0] < bits[1] < bits[2]


def test_in_the_last_phase_latents_are_whole_and_the_encoder_stays() -> None:
    task, x = made(hard_from=0.5), pictures()
    task.net.train()
    task.loss(x)
    assert not task.due_phases()
    task.step = 20
    task.enter_due_phases()
    assert task.entered == [HARD]
    trained = {name for name, parameter in task.net.named_parameters() if parameter.requires_grad}
    assert not [name for name in trained if name.startswith(("encoder.", "gain."))]
    assert [name for name in trained if name.startswith("correction.")]
    task.loss(x).total.backward()
    assert task.net.inverse_gain.values.grad is not None
    assert task.net.gain.values.grad is None


def test_what_comes_out_is_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = made()
    task.net.train()
    task.loss(pictures())
    path = task.export(tmp_path, {"recipe": "x"})
    assert json.loads(path.with_suffix(".json").read_text())["codec"] == "entropic-student"
    codec = Codec.load("entropic-student", weights=path)
    data = codec.compress(np.zeros((40, 50, 3), np.uint8))
    assert codec.decompress(data).shape == (24, 56, 56)
    task.held_out = [(255 * pictures(1, 256)[0]).byte()]
    rates = task.code(path)
    assert 0 < rates["file_bytes_1"] < rates["file_bytes_100"]
    assert task.estimate()["val_bytes_100"] == pytest.approx(rates["file_bytes_100"], rel=0.25)


def test_the_head_of_edges_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that are the edges themselves, in one channel: it finds them."""
    monkeypatch.setattr(edges, "STEPS", 120)
    monkeypatch.setattr(edges, "BATCH", 2)
    truth = torch.zeros(224, 224)
    truth[40:80], truth[:, 100:110] = 1.0, 1.0

    class Hed:
        def edges(self, x: torch.Tensor) -> torch.Tensor:
            return truth[None].expand(len(x), -1, -1)

    def features_of(view: Any, step: int) -> Any:
        out = np.zeros((24, 56, 56), np.float32)
        out[5] = 8 * (truth.reshape(56, 4, 56, 4).amax((1, 3)).numpy() * 2 - 1)
        return out

    said: list[str] = []
    views = [torch.zeros(224, 224, 3, dtype=torch.uint8)] * 3
    hed: EdgeDetector = Hed()  # type: ignore[assignment]  # all that is asked of it
    tensors = edges.fit_edges(views, EntropicStudentConfig(), features_of, hed, 1, said.append)
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        name: tuple(t.shape) for name, t in edges.edge_tensors().items()
    }
    from codec.codecs.entropic_student.edges import EdgeHead

    head = EdgeHead({name: tensor.numpy() for name, tensor in tensors.items()})
    seen = head(features_of(None, 0)) > 0.5
    assert (seen == (truth.numpy() > 0)).mean() > 0.97
    assert said
