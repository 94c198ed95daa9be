"""Runs as they go wrong in life: interrupted, gone on with otherwise, in odd folders, with items that don't fit."""

from __future__ import annotations

import csv
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.errors import MediaError, UsageError
from codec.eval import peers, rate_distortion
from codec.eval.bench import run as bench
from codec.eval.bench.bd import bd_delta
from codec.eval.bench.contract import Family
from codec.eval.bench.items import find_items, guess_medium, printable
from codec.eval.bench.run import write_results

from ..fakes import Broken, Raw, Sized, curve, family

SAMPLE = Path(__file__).parents[3] / "samples" / "dog.png"


def crop(path: Path, box: tuple[int, int, int, int]) -> None:
    with Image.open(SAMPLE) as image:
        image.convert("RGB").crop(box).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "photos"
    out.mkdir()
    crop(out / "a.png", (40, 40, 104, 88))
    crop(out / "b.png", (80, 90, 128, 154))
    return out


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---- folders


def test_results_inside_the_data_are_not_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(out: Path) -> tuple[str, ...]:
        table = rate_distortion(folder, "jpeg:q=50", metrics=["psnr-rgb"], out=out, repeat=1)
        write_results(table, out, command="")
        return table.items

    assert run(folder / "res") == ("a.png", "b.png")
    assert (folder / "res" / "rd-psnr-rgb.png").exists()
    assert run(folder / "res") == ("a.png", "b.png")
    assert run(folder / "other") == ("a.png", "b.png")  # nor are the results of another run


def test_any_file_name(folder: Path, tmp_path: Path) -> None:
    names = [b"line\nend\r.png", b"\xff\xfebytes.png", b'comma,"quote".png', "ümläut 写真.png".encode()]
    for name in names:
        shutil.copy(folder / "a.png", folder / os.fsdecode(name))
    (folder / os.fsdecode(b"\xfe.txt")).write_text("no picture")
    out = tmp_path / "out"
    for _ in range(2):  # the second run reads what the first one wrote
        table = rate_distortion(folder, "jpeg:q=50", metrics=["psnr-rgb"], out=out, repeat=1)
        write_results(table, out, command="", crops=0)
    assert len(table.items) == 6 and len(read(out / "rows.csv")) == 6
    assert {printable(os.fsdecode(name)) for name in names} < set(table.items)
    assert [one.name for one in table.skipped] == ["\\xfe.txt"]
    assert not list(out.glob("*.part"))


def test_only_regular_files_are_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")  # reading it would never end
    (folder / "loop").symlink_to(folder)
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "link.png").symlink_to(folder / "a.png")
    found = find_items(folder, "image")
    assert [item.name for item in found.items] == ["a.png", "b.png", "link.png"]
    reasons = {one.name: one.reason for one in found.skipped}
    assert reasons.keys() == {"pipe.png", "loop", "gone.png"}
    assert "link to a folder" in reasons["loop"] and reasons["pipe.png"] == "not a regular file"


def test_what_a_folder_holds(folder: Path, tmp_path: Path) -> None:
    assert guess_medium(folder) == "image"
    (folder / "clip.mp4").write_bytes(b"")
    with pytest.raises(UsageError, match="image and video: say which with --medium"):
        guess_medium(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="nothing that can be measured"):
        guess_medium(tmp_path / "empty")


# ---- going on with a run


def test_other_settings_of_the_run_are_other_rows(folder: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    import av

    with av.open(str(clips / "clip.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        for shade in (30, 90, 150):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), shade, np.uint8), format="rgb24")
            for packet in stream.encode(frame.reformat(format="bgr0")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    shapes = []
    for frames in (1, 2, None):
        table = rate_distortion(clips, "ffv1", metrics=["psnr-rgb"], out=tmp_path / "out", repeat=1, max_frames=frames)
        shapes += [row.shape for row in table.rows]
    assert shapes == ["1x32x48x3", "2x32x48x3", "3x32x48x3"]
    [point] = table.points("ffv1")
    assert point.kbps == pytest.approx(8 * point.bytes / (3 / 25) / 1000)


def test_seconds_of_a_busy_machine_are_measured_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    busy = rate_distortion(folder, "png", metrics=["psnr-rgb"], out=out, repeat=1, jobs=2, n_threads=1)
    assert busy.settings["jobs"] == 2
    # fewer items at once: not good enough. More at once: better than asked for
    quiet = rate_distortion(folder, "png", metrics=["psnr-rgb"], out=out, repeat=1, n_threads=1)
    assert quiet.settings["jobs"] == 1 and {row.jobs for row in quiet.rows} == {1}
    again = rate_distortion(folder, "png", metrics=["psnr-rgb"], out=out, repeat=1, jobs=2, n_threads=1)
    assert {row.jobs for row in again.rows} == {1}


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_run_ends_at_once_and_keeps_its_rows(tmp_path: Path, jobs: int) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for index in range(40):
        crop(photos / f"{index:02}.png", (index, 0, index + 64, 64))
    command = [sys.executable, "-P", "-m", "codec.cli", "bench", str(photos), "-c", "avif:speed=0", "--repeat", "2"]
    command += ["--out", str(out), "--metrics", "psnr-rgb", "--threads", "1", "--jobs", str(jobs)]

    def interruptible() -> None:  # the tests may run in the background of a shell, where Ctrl-C is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=interruptible)
    try:
        deadline = time.monotonic() + 240
        while not (out / "rows.csv").exists() or len((out / "rows.csv").read_text().splitlines()) < 4:
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does
        _, words = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
    assert run.returncode == 130
    assert "what was measured is kept" in words
    rows = read(out / "rows.csv")
    assert 3 <= len(rows) < 400


def test_a_full_disk_says_that_the_rows_are_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    rate_distortion(folder, "jpeg:q=50", metrics=["psnr-rgb"], out=out, repeat=1)
    before = (out / "rows.csv").read_bytes()
    from codec.eval.bench import rows as table

    def full(*args: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table, "_line", full)
    with pytest.raises(MediaError, match="rows so far are kept: make room"):
        rate_distortion(folder, "jpeg:q=60", metrics=["psnr-rgb"], out=out, repeat=1)
    assert (out / "rows.csv").read_bytes() == before


def test_curves_of_other_codecs_do_not_stay(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for codecs in ("jpeg:q=50", "png"):
        table = rate_distortion(folder, codecs, metrics=["psnr-rgb"], out=out, repeat=1)
        write_results(table, out, command="", crops=0)
    assert [path.name for path in (out / "curves").iterdir()] == ["png.json"]
    assert "psnr-rgb" not in (out / "curves" / "png.json").read_text()  # infinite: no number for other tools


@pytest.mark.parametrize("words", [{"n_threads": 0}, {"n_threads": -3}, {"repeat": 0}, {"jobs": 0}, {"max_frames": 0}])
def test_numbers_start_at_one(folder: Path, words: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected at least 1"):
        rate_distortion(folder, "png", **words)  # pyright: ignore[reportArgumentType]


def test_lists_and_words_are_the_same(folder: Path) -> None:
    one = rate_distortion(folder, ["jpeg:q=50", "png"], metrics="psnr-rgb", repeat=1)
    assert [curve.label for curve in one.curves] == ["jpeg:420", "png"]
    assert one.points("png") == one.points(one.curves[1])
    with pytest.raises(UsageError, match="there are jpeg:420, png"):
        one.points("webp")


# ---- means of items that don't fit

FAKES = {
    item.name: item
    for item in (
        curve("a", sweep=tuple(range(1, 9))),
        curve("b", 0.9, sweep=tuple(range(1, 9))),
        family("exact", lambda s, t: Raw(), options={}, axis=None, sweep=()),
        family("tall", lambda s, t: Tall(), options={}, axis=None, sweep=()),
        family(
            "part", lambda s, t: TallSized(0.02 * 1.5 ** int(s["q"]), 20 - 2 * int(s["q"])), sweep=tuple(range(1, 9))
        ),
        family("broken", lambda s, t: Broken(), options={}, axis=None, sweep=()),
    )
}


class Tall(Raw):
    """Refuses pictures that are wider than high."""

    def encode(self, value: np.ndarray) -> bytes:
        if value.shape[1] > value.shape[0]:
            raise MediaError("wider than high")
        return super().encode(value)


class TallSized(Sized):
    """The same refusal, of a codec with a curve."""

    def encode(self, value: np.ndarray) -> bytes:
        if value.shape[1] > value.shape[0]:
            raise MediaError("wider than high")
        return super().encode(value)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Family]:
    monkeypatch.setattr(peers, "families", lambda: FAKES)
    bench.ready_peer.cache_clear()
    return FAKES


def test_an_item_that_is_kept_exactly_is_left_out_of_the_mean_and_said(fakes: object, folder: Path) -> None:
    """A flat picture has no PSNR under JPEG. It must not take every curve's BD-rate with it."""
    only = rate_distortion(folder, "a,b", metrics=["psnr-rgb"], repeat=1).delta("b", "a")
    Image.new("RGB", (48, 32), (128, 128, 128)).save(folder / "flat.png")
    FAKES["a"], kept = curve("a", sweep=tuple(range(1, 9)), exact_if_flat=True), FAKES["a"]
    try:
        bench.ready_peer.cache_clear()
        table = rate_distortion(folder, "a,b", metrics=["psnr-rgb"], repeat=1)
    finally:
        FAKES["a"] = kept
    assert table.delta("b", "a").rate == pytest.approx(only.rate)
    assert table.delta("b", "a").items == 2
    assert all(math.isfinite(point.metrics["psnr-rgb"] or math.inf) for point in table.points("a"))
    assert table.points("a")[0].metric_items == {"psnr-rgb": 2} and table.points("a")[0].items == 3
    [left] = table.summary()["left_out"]
    assert (left["metric"], left["item"]) == ("psnr-rgb", "flat.png")
    assert "kept exactly by a" in left["reason"]


def test_a_metric_that_is_not_defined_on_an_item_says_so(fakes: object, folder: Path) -> None:
    crop(folder / "large.png", (0, 0, 180, 170))
    table = rate_distortion(folder, "a", metrics=["psnr-rgb", "ms-ssim-rgb"], repeat=1)
    point = table.points("a")[0]
    assert point.metrics["ms-ssim-rgb"] is not None and 0 < point.metrics["ms-ssim-rgb"] < 1
    assert point.metric_items == {"psnr-rgb": 3, "ms-ssim-rgb": 1}
    left = table.left_out()
    assert [(one["metric"], one["item"]) for one in left] == [("ms-ssim-rgb", "a.png"), ("ms-ssim-rgb", "b.png")]
    assert "48x64x3" in left[0]["reason"]


def test_curves_are_compared_over_the_items_that_both_have(fakes: object, folder: Path) -> None:
    table = rate_distortion(folder, "a,tall", metrics=["psnr-rgb"], repeat=1)
    assert [one.item for one in table.failed] == ["a.png"]
    assert table.whole_items("tall") == {"b.png"} and table.whole_items("a") == {"a.png", "b.png"}
    assert not table.points("tall")[0].complete
    rates = {row.setting: row.rate for row in table.rows if row.codec == "a" and row.item == "b.png"}
    pairs = table.pairs("a", "psnr-rgb", {"b.png"})
    assert [rate for rate, _ in pairs] == pytest.approx(sorted(rates.values()))
    both = rate_distortion(folder, "a,part", metrics=["psnr-rgb"], repeat=1)
    for codec, anchor in (("part", "a"), ("a", "part")):
        delta = both.delta(codec, anchor)
        assert delta.items == 1 and delta.rate == pytest.approx(0.0, abs=1e-6)
    nothing = rate_distortion(folder, "a,broken", metrics=["psnr-rgb"], repeat=1).delta("broken", "a")
    assert nothing.rate is None and nothing.reason == "there is no item that both have at all their points"


def test_sound_of_unequal_length_is_all_bits_by_all_seconds(tmp_path: Path) -> None:
    import soundfile

    clips = tmp_path / "clips"
    clips.mkdir()
    noise = (np.random.default_rng(0).normal(0, 0.1, (24000, 1)) * 32768).astype(np.int16)
    soundfile.write(clips / "long.wav", noise, 8000)
    soundfile.write(clips / "short.wav", noise[:80], 8000)
    table = rate_distortion(clips, "flac", metrics=["snr"], repeat=1)
    [point] = table.points("flac")
    n_bytes = {row.item: row.bytes for row in table.rows}
    assert point.rate == pytest.approx(8 * sum(n_bytes.values()) / (24080 / 8000) / 1000)
    assert {row.item: row.rate for row in table.rows}["short.wav"] == pytest.approx(8 * n_bytes["short.wav"] / 10)


def test_bd_metric_is_the_integral_over_the_common_rates() -> None:
    """Not over the rates that are left when the curves are first cut to their common quality."""
    anchor = [(0.1 * 1.6**i, 26.0 + 1.5 * i) for i in range(9)]
    test = [(0.25 * 1.6**i, 30.0 + 1.4 * i) for i in range(8)]
    delta = bd_delta(anchor, test)
    from scipy.interpolate import PchipInterpolator

    low, high = 0.25, min(anchor[-1][0], test[-1][0])
    ends = np.log10([low, high])
    areas = [
        PchipInterpolator(np.log10([r for r, _ in points]), [m for _, m in points]).integrate(*ends)
        for points in (anchor, test)
    ]
    assert delta.rates == pytest.approx((low, high))
    assert delta.metric == pytest.approx((areas[1] - areas[0]) / (ends[1] - ends[0]), abs=1e-6)
    cut = bd_delta(anchor, test, window=(32, 35))
    assert cut.rates is not None and cut.rates[1] < high
