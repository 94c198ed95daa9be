"""CompressAI's zoo: whole files with random weights, strict headers, and clear words where the weights aren't."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from codec.errors import CodecError, MediaError, StreamError, UsageError, WeightsError
from codec.eval.bench.contract import Family, OptionValue, Peer
from codec.eval.peers import zoo

# not imported here: that takes seconds, of every process that collects the tests
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("compressai") is None,
    reason="CompressAI isn't installed: pip install 'codec-suite[zoo]' (up to Python 3.12)",
)

NAMES = [family.name for family in zoo.FAMILIES]
SMALL = "bmshj2018-factorized"
HYPER = "bmshj2018-hyperprior"


def family(name: str) -> Family:
    return next(item for item in zoo.FAMILIES if item.name == name)


def settings(name: str, **chosen: OptionValue) -> dict[str, OptionValue]:
    return {key: option.default for key, option in family(name).options.items()} | {"quality": 1} | chosen


def peer(name: str, **chosen: OptionValue) -> Peer:
    return family(name).make(settings(name, **chosen), 1)


@pytest.fixture(scope="module")
def random_peers() -> dict[str, Peer]:
    return {name: peer(name, weights="random") for name in (SMALL, HYPER, "mbt2018", "cheng2020-anchor")}


@pytest.fixture(scope="module")
def loud_peers() -> dict[str, Peer]:
    """Random weights quantize nearly every latent to 0, whatever the picture. These are scaled until they don't."""
    peers: dict[str, Any] = {name: peer(name, weights="random") for name in (SMALL, HYPER, "mbt2018")}
    for one in peers.values():
        one.network.g_a[-1].weight.mul_(100)
    return peers


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where torch.hub keeps weights, and no way to download any."""
    import torch

    def download(*_: Any, **__: Any) -> None:
        raise AssertionError("a download was started")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(torch.hub, "urlopen", download)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    return (np.stack([2 * x, 2 * y, x + y], axis=2) % 190 + noise).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [(SMALL, 64, 96), (SMALL, 1, 1), (SMALL, 65, 3), (HYPER, 64, 96), (HYPER, 3, 70), ("mbt2018", 64, 96)],
)
def test_round_trip_and_whole_files(name: str, height: int, width: int, loud_peers: dict[str, Peer]) -> None:
    """The decoder's picture is the network's own reconstruction of the padded picture, cut to size."""
    import torch

    one: Any = loud_peers[name]
    x = picture(height, width)
    data = one.encode(x)
    assert data != one.encode(255 - x), "it would pass without looking at the picture"
    decoded = one.decode(data)
    assert type(decoded) is np.ndarray and decoded.dtype == np.uint8 and decoded.flags.c_contiguous

    padded = np.pad(x, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
    with torch.inference_mode():
        coded = one.network.compress(torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255)
        x_hat = one.network.decompress(coded["strings"], coded["shape"])["x_hat"][0].permute(1, 2, 0).numpy()
    assert (decoded == np.round(x_hat[:height, :width] * 255).astype(np.uint8)).all()

    strings = [item[0] for item in coded["strings"]]
    header = struct.pack("<IIHH", height, width, *coded["shape"]) + b"".join(struct.pack("<I", len(s)) for s in strings)
    assert len(header) == (16 if name == SMALL else 20)
    assert data == header + b"".join(strings)


def test_a_decoder_of_its_own(random_peers: dict[str, Peer]) -> None:
    """The seed makes the same network again; nothing is left over from encoding, and torch's generator is untouched."""
    import torch

    x = picture(64, 96)
    data = random_peers[HYPER].encode(x)
    torch.manual_seed(5)
    other = peer(HYPER, weights="random")
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert drawn == torch.rand(1)
    assert other.encode(x) == data
    assert (other.decode(data) == random_peers[HYPER].decode(data)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_architecture(name: str) -> None:
    one = peer(name, weights="random", quality=family(name).sweep[-1])
    x = picture(65, 40)
    decoded = one.decode(one.encode(x))
    assert decoded.shape == x.shape


class TestHeader:
    @pytest.fixture(autouse=True)
    def data(self, random_peers: dict[str, Peer]) -> None:
        self.one = random_peers[HYPER]
        self.file = self.one.encode(picture(64, 96))

    @pytest.mark.parametrize(
        ("at", "format", "value", "says"),
        [
            (0, "<I", 65, "latent"),  # height of the next tile
            (0, "<I", 0, "damaged header"),
            (4, "<I", 0, "damaged header"),
            (4, "<I", 2**32 - 1, "damaged header"),
            (4, "<I", 1 << 19, "latent"),
            (8, "<H", 2, "latent"),
            (10, "<H", 60000, "latent"),
            (12, "<I", 12, "whose header says"),
            (12, "<I", 2**32 - 1, "whose header says"),
            (16, "<I", 0, "whose header says"),
        ],
    )
    def test_damage(self, at: int, format: str, value: int, says: str) -> None:
        broken = bytearray(self.file)
        struct.pack_into(format, broken, at, value)
        with pytest.raises(StreamError, match=says):
            self.one.decode(bytes(broken))

    def test_cuts_and_additions(self) -> None:
        for n in (*range(24), len(self.file) - 4, len(self.file) - 1):
            with pytest.raises(StreamError, match=HYPER):
                self.one.decode(self.file[:n])
        with pytest.raises(StreamError, match="whose header says"):
            self.one.decode(self.file + b"\0")

    def test_strings_too_short_for_the_range_coder(self) -> None:
        y, z = struct.unpack_from("<II", self.file, 12)
        for lengths in ((4, y + z - 4), (y + 1, z - 1), (0, y + z)):
            broken = bytearray(self.file)
            struct.pack_into("<II", broken, 12, *lengths)
            with pytest.raises(StreamError, match="range coder"):
                self.one.decode(bytes(broken))

    def test_files_of_another_architecture(self, random_peers: dict[str, Peer]) -> None:
        with pytest.raises(StreamError, match="latent"):
            random_peers[SMALL].decode(self.file)


class TestWeights:
    def test_absent(self, hub: Path) -> None:
        with pytest.raises(WeightsError) as caught:
            peer("mbt2018-mean", quality=3)
        message = str(caught.value)
        file = "mbt2018-mean-3-723404a8.pth.tar"
        for part in (
            f"/{file}",
            str(hub / file),
            "quality=3",
            "metric=mse",
            "https://",
            "checkpoint=",
            "weights=random",
        ):
            assert part in message
        assert not list(hub.iterdir())

    def test_the_metric_has_its_own_file(self, hub: Path) -> None:
        with pytest.raises(WeightsError, match="bmshj2018-hyperprior-ms-ssim-1-5cf249be.pth.tar"):
            peer(HYPER, metric="ms-ssim")

    def test_no_such_checkpoint(self, hub: Path) -> None:
        with pytest.raises(WeightsError, match="nowhere.pth: there is no such file"):
            peer(HYPER, checkpoint="nowhere.pth")

    def test_found(self, hub: Path, tmp_path: Path, random_peers: dict[str, Peer]) -> None:
        """The same state as a published file in the hub's folder, as a training checkpoint, and as safetensors."""
        import torch
        from compressai.models import ScaleHyperprior
        from safetensors.torch import save_file

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            network = ScaleHyperprior(16, 24)  # sizes come from the file
        network.update()
        state = network.state_dict()
        torch.save(
            {f"module.{key}": value for key, value in state.items()}, hub / "bmshj2018-hyperprior-1-7eb97409.pth.tar"
        )
        torch.save({"epoch": 3, "state_dict": state}, tmp_path / "training.pth")
        save_file(state, tmp_path / "export.safetensors")
        x = picture(64, 96)
        files = {
            peer(HYPER).encode(x),
            peer(HYPER, checkpoint=str(tmp_path / "training.pth")).encode(x),
            peer(HYPER, checkpoint=str(tmp_path / "export.safetensors")).encode(x),
        }
        assert len(files) == 1
        (data,) = files
        assert data != random_peers[HYPER].encode(x)
        assert peer(HYPER).decode(data).shape == x.shape

    def test_tables_are_made_if_the_file_has_none(self, hub: Path, tmp_path: Path) -> None:
        import torch
        from compressai.models import FactorizedPrior

        torch.save(FactorizedPrior(16, 24).state_dict(), tmp_path / "raw.pth")
        one = peer(SMALL, checkpoint=str(tmp_path / "raw.pth"))
        assert one.decode(one.encode(picture(64, 96))).shape == (64, 96, 3)

    def test_weights_of_something_else(self, hub: Path, tmp_path: Path) -> None:
        import torch
        from compressai.models import FactorizedPrior

        torch.save(FactorizedPrior(16, 24).state_dict(), tmp_path / "factorized.pth")
        (tmp_path / "text.pth").write_text("no weights")
        for name in ("factorized.pth", "text.pth"):
            with pytest.raises(WeightsError, match=f"{name} doesn't hold the weights"):
                peer("cheng2020-anchor", checkpoint=str(tmp_path / name))

    def test_files_can_not_run_code(self, hub: Path, tmp_path: Path) -> None:
        import torch

        torch.save({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
        with pytest.raises(WeightsError, match="trap.pth"):
            peer(SMALL, checkpoint=str(tmp_path / "trap.pth"))
        assert not (tmp_path / "sprung").exists()


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", NAMES)
class TestDeclaration:
    def test_options(self, name: str) -> None:
        item = family(name)
        last = 6 if name.startswith("cheng") else 8
        assert item.medium == "image" and not item.lossless and item.axis == "quality"
        assert item.sweep == tuple(range(1, last + 1))
        for chosen in (
            {"quality": last + 1},
            {"quality": 0},
            {"quality": 1.5},
            {"metric": "psnr"},
            {"weights": "none"},
        ):
            with pytest.raises(UsageError, match=next(iter(chosen))):
                item.make(settings(name, **chosen), 1)

    def test_every_quality_has_a_file(self, name: str, hub: Path) -> None:
        for metric in ("mse", "ms-ssim"):
            for quality in family(name).sweep:
                with pytest.raises(WeightsError, match=f"quality={quality}, metric={metric}"):
                    peer(name, quality=quality, metric=metric)

    def test_random_weights_and_a_checkpoint(self, name: str) -> None:
        with pytest.raises(UsageError, match="exclude each other"):
            peer(name, weights="random", checkpoint="x.pth")

    def test_versions_and_missing(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        found = family(name).versions()
        assert set(found) == {"compressai", "torch"} and all(number[0].isdigit() for number in found.values())
        assert family(name).missing() is None
        monkeypatch.setattr(zoo, "find_spec", lambda module: None if module == "compressai" else object())
        monkeypatch.setattr(zoo, "sys", SimpleNamespace(version_info=(3, 13, 0)))
        assert "use Python 3.12 or earlier" in (family(name).missing() or "")
        monkeypatch.setattr(zoo, "sys", SimpleNamespace(version_info=(3, 12, 9)))
        assert "compressai not installed: pip install 'codec-suite[zoo]'" in (family(name).missing() or "")
        with pytest.raises(UsageError, match="codec-suite"):
            peer(name, weights="random")


@pytest.mark.parametrize("value", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_values_of_another_kind(value: np.ndarray, random_peers: dict[str, Peer]) -> None:
    with pytest.raises(MediaError, match=SMALL):
        random_peers[SMALL].encode(value)


def test_sides_that_the_header_cannot_hold(random_peers: dict[str, Peer]) -> None:
    with pytest.raises(CodecError, match="1048512"):
        random_peers[SMALL].encode(np.zeros((1, 1048513, 3), np.uint8))
