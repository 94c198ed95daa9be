"""Training of the paper's VQGAN on a tiny network: both stages, the game, resuming, and what goes wrong in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from codec.codecs.base.weights import load_tensors
from codec.codecs.vqgan.codec import VqganCodec
from codec.codecs.vqgan.paper import VqganPaperConfig, VqganPaperNet, network_of, published_names
from codec.codecs.vqgan.quantiser import nearest
from codec.errors import UsageError
from codec.train import device_loop
from codec.train.device_loop import DeviceSteps
from codec.train.run import RECIPES, main, read_recipe
from codec.train.settings import fill
from codec.train.vqgan.extractors import HedVgg
from codec.train.vqgan.losses import FeatureDistance
from codec.train.vqgan.paper import VqganPaperRecipe, VqganPaperTask, check_settings, network_from
from codec.train.vqgan.shrink import shrunk

SMOKE = read_recipe(RECIPES / "vqgan" / "paper-smoke.yaml")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(ROOT / "samples" / "dog.png") as image:
        image.convert("RGB").crop((100, 100, 228, 228)).save(folder / "dog.png")
    return folder


def recipe(path: Path, model: dict[str, Any] | None = None, **changes: Any) -> Path:
    settings = {**SMOKE, "model": {**SMOKE["model"], **(model or {})}, "recipe": {**SMOKE["recipe"], **changes}}
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    out = tmp_path_factory.mktemp("run")
    return main("vqgan", str(recipe(out / "a.yaml")), data, out / "runs", device="cpu")


def weights(folder: Path) -> VqganPaperNet:
    loaded = load_tensors(folder / "vqgan-paper-smoke.safetensors")
    return network_of(loaded.metadata, loaded.tensors)


def task(**changes: Any) -> VqganPaperTask:
    torch.manual_seed(0)
    settings = {**SMOKE["recipe"], **changes}
    distance = FeatureDistance(HedVgg(((4,), (8,))))
    return VqganPaperTask(
        fill(VqganPaperConfig, SMOKE["model"], "model"), VqganPaperRecipe(**settings), distance=distance
    )


def rows(made: VqganPaperTask, batch: torch.Tensor, count: int) -> list[dict[str, float]]:
    """What the log would have of steps on the same pictures again and again."""
    steps = DeviceSteps(made, lambda: batch, made.named_optimizers())
    out = []
    for _ in range(count):
        steps.advance(1)
        out.append(steps.means())
    return out


def test_exports_what_can_be_read(finished: Path) -> None:
    net = weights(finished)
    assert net.encode(torch.rand(1, 3, 40, 20)).shape == (1, 3, 2)
    manifest = json.loads((finished / "vqgan-paper-smoke.json").read_text())
    assert (manifest["codec"], manifest["steps"], manifest["recipe"]) == ("vqgan", 12, "vqgan/a")


def test_a_resumed_run_is_the_same_run(finished: Path, data: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    class Stopping(DeviceSteps):
        def wait(self) -> None:
            if self.task.step == 7:
                device_loop.save_run(tmp_path / "runs" / "vqgan-paper-smoke" / "last.ckpt", self.task, self.optimizers)
                raise Stop

    path = recipe(tmp_path / "a.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("codec.train.vqgan.paper.DeviceSteps", Stopping)
        with pytest.raises(Stop):
            main("vqgan", str(path), data, tmp_path / "runs", device="cpu")
    folder = main("vqgan", str(path), data, tmp_path / "runs", resume=True, device="cpu")
    states = [torch.load(f / "last.ckpt", weights_only=True) for f in (finished, folder)]
    assert states[0]["state_dict"].keys() == states[1]["state_dict"].keys()
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name]), name


def test_learns_and_the_game_is_played() -> None:
    made = task(steps=40, decay_from=40, adversarial_from=24, critic_from=2, critic_lr=5e-3, penalty=0.0, lr=1e-3)
    torch.manual_seed(1)
    batch = torch.tensor([0.9, 0.1])[:, None, None, None] + 0.05 * torch.randn(2, 3, 32, 32)  # one bright, one dark
    log = rows(made, batch, 28)
    assert min(row["l1"] for row in log[:24]) < 0.8 * log[0]["l1"]  # new words make it jump
    assert "distance" in log[0]
    assert "critic" not in log[1]
    assert "critic" in log[2]
    assert "adversarial" not in log[23], "the generator hears of it later"
    assert log[23]["critic"] < log[2]["critic"]
    assert all(0 <= row["weight"] <= 10 for row in log[24:])
    assert {"adversarial", "matching", "perplexity", "distinct"} <= log[24].keys()
    assert not any("extractor" in name for name in made.state_dict()), "features aren't written to checkpoints"


def test_what_is_no_number_ends_the_run_and_spares_the_weights() -> None:
    made = task(critic_from=1000, adversarial_from=1000)
    before = {name: value.clone() for name, value in made.net.named_parameters()}
    with pytest.raises(UsageError, match="isn't a number.*l1"):
        rows(made, torch.full((1, 3, 32, 32), float("nan")), 1)
    assert all(torch.equal(value, before[name]) for name, value in made.net.named_parameters())
    made = task(critic_from=0)
    with torch.no_grad():
        next(made.critic.parameters()).fill_(float("nan"))
    with pytest.raises(UsageError, match="critic nan"):
        rows(made, torch.rand(1, 3, 32, 32), 1)


def test_shrinks_and_fine_tunes_the_codebooks_only(finished: Path, data: Path, tmp_path: Path) -> None:
    start = str(finished / "vqgan-paper-smoke.safetensors")
    path = recipe(
        tmp_path / "a.yaml", {"words": [4, 8]}, stage="shrink", start=start, critic_from=0, adversarial_from=2
    )
    folder = main("vqgan", str(path), data, tmp_path / "runs", device="cpu")
    large, small = weights(finished), weights(folder)
    assert small.config.words == (4, 8)
    for part in ("encoder", "decoder"):
        states = [getattr(net, part).state_dict() for net in (large, small)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0]), f"{part} is frozen"
    for words in (4, 8):
        for part in ("quant_conv", "post_quant_conv"):
            pair = [getattr(net.book(n), part).weight for net, n in ((large, 32), (small, words))]
            assert not torch.equal(*pair), f"{part} of {words} is trained"


def test_the_weight_is_taken_where_the_published_code_fails(finished: Path) -> None:
    """With a frozen decoder: at the 1x1 convolution before it."""
    made = task(
        stage="shrink", start=str(finished / "vqgan-paper-smoke.safetensors"), adversarial_from=0, critic_from=0
    )
    log = rows(made, torch.rand(2, 3, 32, 32), 2)
    assert 0 < log[1]["weight"] <= 10
    assert made.net.decoder.conv_out.weight.grad is None
    assert made.net.book().post_quant_conv.weight.grad is not None


def test_shrunk_codebooks_are_gone_on_with(finished: Path, data: Path, tmp_path: Path) -> None:
    """No word begins anew at the first steps, although a batch uses few of the larger codebook's words."""
    model = {"words": [4, 32], "restart": 0.5}
    changes = {"stage": "shrink", "shrink": "rows", "start": str(finished / "vqgan-paper-smoke.safetensors")}
    path = recipe(tmp_path / "a.yaml", model, **changes, steps=2, lr=1e-9)
    net = weights(main("vqgan", str(path), data, tmp_path / "runs", device="cpu"))
    rows = weights(finished).book().vectors.codebook.detach()
    for words in (4, 32):
        expected = shrunk(rows, words, "rows", seed=VqganPaperRecipe(**SMOKE["recipe"]).seed)
        torch.testing.assert_close(net.book(words).vectors.codebook.detach(), expected, rtol=0, atol=1e-5)


def test_finite_scalars(data: Path, tmp_path: Path) -> None:
    """They are trained, and their weights code pictures; nothing of them is in the codebook's place."""
    model = {"codebook": "finite", "levels": [4, 2, 2, 2], "restart": 0.0}
    folder = main("vqgan", str(recipe(tmp_path / "a.yaml", model)), data, tmp_path / "runs", device="cpu")
    path = folder / "vqgan-paper-smoke.safetensors"
    net = weights(folder)
    assert not any("codebook" in name for name in load_tensors(path).tensors)
    index = torch.arange(32).view(1, 4, 8)
    assert torch.equal(net.book().codewords()[index[0]].movedim(-1, 0)[None], net.book().quantize.lookup(index))
    codec = VqganCodec.from_weights(None, None, path, "cpu")
    x = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    assert codec.decompress(codec.compress(x)).shape == x.shape
    settings = recipe(tmp_path / "b.yaml", {**model, "words": [32]}, stage="shrink", start=str(path))
    with pytest.raises(UsageError, match="only vectors can be shrunk"):
        main("vqgan", str(settings), data, tmp_path / "other", device="cpu")


def test_published_checkpoints_as_a_start(tmp_path: Path) -> None:
    """As they are, or their tensors alone; other objects aren't loaded, and the error says what can be done."""
    torch.manual_seed(0)
    config = fill(VqganPaperConfig, {**SMOKE["model"], "restart": 0.0}, "model")
    net = VqganPaperNet(config)
    parameters = dict(net.named_parameters())
    state = {name: parameters[ours].detach() for name, ours in published_names(config).items()}
    for content in ({"state_dict": state, "epoch": 3}, state):
        torch.save(content, tmp_path / "last.ckpt")
        with pytest.raises(UsageError, match="expected"):  # the paper's sizes
            network_from(tmp_path / "last.ckpt")
    torch.save({"state_dict": state, "callbacks": {Path: 1}}, tmp_path / "last.ckpt")
    with pytest.raises(UsageError, match=r"last.ckpt: it can't be read .*save those alone"):
        network_from(tmp_path / "last.ckpt")
    torch.save([1], tmp_path / "last.ckpt")
    with pytest.raises(UsageError, match="no `state_dict`"):
        network_from(tmp_path / "last.ckpt")


def test_ways_to_shrink() -> None:
    """Rows that nobody uses take words from those that are used, if all rows count alike."""
    torch.manual_seed(0)
    used, unused = torch.randn(20, 4) + 10, torch.randn(200, 4)
    codebook = torch.cat([unused, used])
    outputs = used.repeat(20, 1) + 0.3 * torch.randn(400, 4)

    def error(how: Any) -> float:
        words = shrunk(codebook, 12, how, outputs)
        return float((outputs - words[nearest(outputs, words)]).square().sum(1).mean())

    assert error("outputs") <= error("usage") < 0.7 * error("rows")
    with pytest.raises(UsageError, match="initial_crops"):
        shrunk(codebook, 300, "outputs", outputs[:100])


def test_recipes_fit() -> None:
    for name in ("paper", "paper-shrink", "paper-smoke"):
        check_settings(read_recipe(RECIPES / "vqgan" / f"{name}.yaml"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"stage": "shrink", "start": "nowhere.safetensors"}, "no such file"),
        ({"stage": "shrink"}, "needs `start`"),
        ({"crop": 40}, "multiple of 16"),
        ({"perceptual": "lpips"}, "perceptual"),
        ({"critic_norm": "batch"}, "norm"),
        ({"lr": "1e-3"}, "lr"),
    ],
)
def test_says_what_is_wrong(changes: dict[str, Any], match: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=match):
        main("vqgan", str(recipe(tmp_path / "a.yaml", **changes)), data, tmp_path / "runs", device="cpu")


def test_unknown_networks(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({**SMOKE, "network": "huge"}))
    with pytest.raises(UsageError, match="paper, small"):
        main("vqgan", str(path), data, tmp_path / "runs", device="cpu")
