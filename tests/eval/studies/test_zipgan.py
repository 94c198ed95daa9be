"""The study of zipgan on small fields and a codec that stands in for it: that each part measures what it says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from codec.errors import MediaError, UsageError
from codec.eval.metrics.turbulence import Flow, project
from codec.eval.studies.zipgan import bound as zipgan_bound
from codec.eval.studies.zipgan import coders as zipgan_coders
from codec.eval.studies.zipgan import main as zipgan_study
from codec.eval.studies.zipgan import score as zipgan_score
from codec.eval.studies.zipgan import speed as zipgan_speed
from codec.eval.studies.zipgan.coders import CODERS, FieldCoder, code, coders, low_pass, wavelet
from codec.eval.studies.zipgan.simulations import read_snapshots

N, SNAPSHOTS = 16, 6


def flow(time: float = 0.0, n: int = N) -> np.ndarray:
    """Smooth, without divergence, and it moves with time."""
    generator = np.random.default_rng(7)
    noise = generator.normal(size=(2, 3, n, n, n))
    u_hat = np.fft.rfftn(noise, axes=(-3, -2, -1))
    whole, half = np.fft.fftfreq(n, 1 / n), np.arange(n // 2 + 1)
    k = np.sqrt(half**2 + whole[:, None] ** 2 + whole[:, None, None] ** 2)
    smooth = np.fft.irfftn(u_hat * np.exp(-k / 1.5), s=(n, n, n), axes=(-3, -2, -1))
    return project((math.cos(time) * smooth[0] + math.sin(time) * smooth[1]).astype(np.float32), cut=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "s9.h5", "w") as out:
        out.attrs.update({"n": N, "viscosity": 0.01, "seed": 9})
        out["velocity"] = np.stack([flow(0.1 * index) for index in range(SNAPSHOTS)])
        out["time"] = 20 + 0.5 * np.arange(SNAPSHOTS)
        out["statistics/turnover"] = np.full(SNAPSHOTS, 2.5)
        out["statistics/re_lambda"] = np.full(SNAPSHOTS, 30.0)
    return tmp_path / "s9.h5"


def quantiser() -> FieldCoder:
    """Stands in for a codec: a byte for each step, deflated."""
    import zlib

    def encode(field: np.ndarray, step: float) -> bytes:
        head = np.array([step], np.float32).tobytes()
        return head + zlib.compress(np.rint(field / np.float32(step)).astype(np.int16).tobytes(), 1)

    def decode(data: bytes) -> np.ndarray:
        step = np.frombuffer(data[:4], np.float32)[0]
        return (np.frombuffer(zlib.decompress(data[4:]), np.int16) * step).astype(np.float32).reshape(3, N, N, N)

    top = float(np.abs(flow()).max())
    return FieldCoder("zipgan@64x", encode, decode, 1e-3 * top, 0.9 * top)


@pytest.fixture
def only_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = quantiser()
    fake = replace(fake, between=lambda a, b, w: (1 - w) * fake.decode(a) + w * fake.decode(b))
    chosen = {"sz3": CODERS["sz3"], "sperr-mse": CODERS["sperr-mse"], "spectral": CODERS["spectral"]}
    monkeypatch.setattr(zipgan_coders, "CODERS", chosen)
    monkeypatch.setattr(zipgan_coders, "OURS", ("zipgan@64x",))
    monkeypatch.setattr(zipgan_coders, "has_weights", lambda name: True)
    monkeypatch.setattr(zipgan_coders, "our_coder", lambda name, weights=None: fake)


class TestCoders:
    @pytest.mark.parametrize("name", ["sperr", "sperr-mse", "sz3", "interp"])
    def test_a_ratio_is_reached(self, name: str) -> None:
        field, coder = flow(), CODERS[name]()
        found = code(coder, field, 10.0)
        assert found.reached and found.ratio == pytest.approx(10, rel=0.02)
        assert found.n_bytes == len(coder.encode(field, found.setting))
        assert np.square(found.field - field).mean() < 0.1 * np.square(field).mean()
        again = code(coder, field, 10.0, found.position)
        assert again.setting == found.setting

    def test_what_cannot_be_reached_is_said(self) -> None:
        found = code(CODERS["zfp"](), flow(), 2000.0)
        assert not found.reached and found.ratio < 1000

    def test_the_search_copes_with_steps(self) -> None:
        sizes = FieldCoder("steps", lambda x, s: bytes(1000 * max(1, int(s))), lambda data: flow(), 50, 1, log=False)
        found = code(sizes, flow(), flow().nbytes / 7000)
        assert found.reached and found.n_bytes == 7000

    def test_wavelet_is_inverted_and_nearly_orthonormal(self) -> None:
        x = np.random.default_rng(0).normal(size=(3, 16, 16, 16))
        w = wavelet(x, 2)
        assert np.allclose(wavelet(w, 2, inverse=True), x, atol=1e-12)
        assert np.square(w).sum() == pytest.approx(np.square(x).sum(), rel=0.1)
        flat = wavelet(np.ones((1, 16, 16, 16)), 2)
        assert np.allclose(flat[0, :4, :4, :4], 8, rtol=1e-6)  # sqrt 2 for an axis and a level
        assert np.abs(flat[0, 4:]).max() < 1e-6

    def test_counts(self) -> None:
        field = flow()
        for name in ("wavelet", "spectral"):
            found = code(CODERS[name](), field, 8.0)
            assert found.ratio == pytest.approx(8) and CODERS[name]().counted
        spectrum = Flow(low_pass(field, 8.0)).spectrum
        assert np.allclose(spectrum[:4], Flow(field).spectrum[:4], rtol=1e-4)
        assert spectrum[8] < 1e-9
        along_x = np.abs(np.fft.rfftn(low_pass(field, 64.0), axes=(1, 2, 3), norm="forward"))[:, 0, 0]
        assert (
            along_x[1:, 1].max() > 1e-4 and along_x[:, 2].max() < 1e-7
        )  # a grid of 4 points has no sine of wave number 2

    def test_unknown_and_missing_ones(self) -> None:
        with pytest.raises(UsageError, match="no coder 'sz4'"):
            coders(["sz4"])
        assert [one.name for one in coders(["sz3", "spectral"])] == ["sz3", "spectral"]
        assert [one.name for one in coders(["zipgan@8x"], {"zipgan@8x": Path("net")})] == ["zipgan@8x"]


@pytest.mark.usefixtures("only_fast")
class TestParts:
    def call(self, part: str, file: Path, *more: str) -> dict:
        out = file.parent / "out"
        assert zipgan_study.main([part, str(file), *more, "--out", str(out)]) == 0
        return json.loads((out / f"{part}.json").read_text()) if (out / f"{part}.json").exists() else {}

    def test_table(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        found = self.call("table", file, "--every", "4", "--ratios", "8")["re34"]
        rows = {(row["coder"], row["projected"]): row for row in found["rows"]}
        assert len(rows) == 8 and found["about"]["snapshots"] == [0, 4]
        assert rows["sz3", True]["velocity"] < rows["sz3", False]["velocity"]
        assert rows["sz3", True]["divergence"] < 1e-5
        assert rows["spectral", False]["counted"] != "whole files"
        # the cut field is a flow already
        assert rows["spectral", True]["velocity"] == pytest.approx(rows["spectral", False]["velocity"], rel=1e-4)
        assert found["gaussian"][0]["velocity"] < rows["sperr-mse", True]["velocity"]
        assert "--ratios 8" in found["commands"][0] and str(file.parent) not in found["commands"][0]
        assert "sz3 + projection" in capsys.readouterr().out
        # another label, and one coder again: the others stay
        both = self.call("table", file, "--every", "4", "--ratios", "8", "--coders", "sz3", "--label", "other")
        assert {"re34", "other"} <= set(both) and len(both["other"]["rows"]) == 2
        again = self.call("table", file, "--every", "4", "--ratios", "8", "--coders", "sz3")
        assert len(again["re34"]["rows"]) == 8 and len(again["re34"]["commands"]) == 2

    def test_bound(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        loose = FieldCoder("zipgan@64x", lambda x, rel: x.tobytes(), lambda data: np.frombuffer(data, np.float32), 1, 1)
        broken = replace(loose, decode=lambda data: np.frombuffer(data, np.float32).reshape(3, N, N, N) + 0.5)
        real = zipgan_bound.bounded
        monkeypatch.setattr(
            zipgan_bound, "bounded", lambda name, rel, w: broken if name == "zipgan@64x" else real(name, rel, w)
        )
        monkeypatch.setattr(zipgan_bound, "BOUNDS", (1e-2,))
        names = "sz3,sperr,interp,zipgan@64x"
        found = self.call("bound", file, "--count", "2", "--coders", names)["re34"]
        rows = {row["coder"]: row for row in found["rows"]}
        assert [rows[name]["values_beyond"] for name in ("sz3", "sperr", "interp")] == [0, 0, 0]
        assert rows["zipgan@64x"]["fields_beyond"] == 2 and rows["zipgan@64x"]["ratio"] == 1

    def test_time(self, file: Path) -> None:
        found = self.call("time", file, "--ratios", "8")["re34"]
        rows = {(row["kind"], row["spacing"]): row for row in found["rows"]}
        # the middle of cos and sin a distance d apart is short by 1 - cos(d / 2)
        for gap in (2, 4):
            row = rows["originals, linear", gap * 0.5]
            assert row["velocity"] == pytest.approx(1 - math.cos(0.1 * gap / 2), rel=0.01)
            assert row["turnovers"] == pytest.approx(gap * 0.5 / 2.5)
            latents = rows["zipgan@64x at 8, latents", gap * 0.5]["velocity"]
            assert latents == pytest.approx(rows["zipgan@64x at 8, linear", gap * 0.5]["velocity"], rel=1e-3)

    def test_score(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        truth = [flow(0.1 * index) for index in range(SNAPSHOTS)]

        def knows(field: np.ndarray) -> float:
            return -min(float(np.square(Flow(field - one).gradients).mean()) for one in truth)

        monkeypatch.setattr(
            zipgan_score, "judges_of", lambda weights: {"knows": knows, "nothing": lambda x: x[0, 0, 0, 0]}
        )
        found = self.call("score", file, "--count", "1", "--ratios", "6,12")["re34"]
        assert found["correlations"]["knows"]["all"] < -0.98
        assert found["alone"] == found["correlations"], "one field"
        assert {"blur", "noise", "sz3", "sz3 + projection", "all"} <= set(found["correlations"]["nothing"])

    def test_speed(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zipgan_speed, "RUNS", 1)
        monkeypatch.setattr(zipgan_speed, "weights_bytes", lambda name, weights: 1000)
        found = self.call("speed", file, "--count", "1", "--ratios", "8", "--coders", "sz3,zipgan@64x")["re34"]
        assert {row["coder"] for row in found["rows"]} == {"sz3", "zipgan@64x"}
        assert all(row["encode_mb_s"] > 0 and row["decode_mb_s"] > 0 for row in found["rows"])
        (pay,) = found["weights"]
        # a quantiser without a transform is worse than SPERR with the projection, so nothing pays
        assert pay["sperr_bytes_at_equal_gradient"] < pay["bytes"] and pay["snapshots"] == "inf"

    def test_plots_and_fields(self, file: Path) -> None:
        self.call("plots", file, "--count", "1", "--ratios", "8")
        names = {path.name for path in (file.parent / "out").iterdir()}
        assert names == {"spectra-8.svg", "gradients-8.svg", "slices-8.png"}
        assert max(path.stat().st_size for path in (file.parent / "out").iterdir()) < 300_000
        self.call("fields", file, "--every", "5")
        with (file.parent / "out" / "s9-005.npy").open("rb") as stream:
            saved = np.lib.format.read_array(stream, allow_pickle=False)
        assert np.array_equal(saved, flow(0.5))

    def test_wrong_input(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert zipgan_study.main(["table", str(file), "--weights", "zipgan", "--out", str(file.parent)]) == 2
        assert "NAME=FILE" in capsys.readouterr().err
        (file.parent / "x.h5").write_bytes(b"no")
        with pytest.raises(MediaError, match="not a file of"):
            read_snapshots(file.parent / "x.h5")
