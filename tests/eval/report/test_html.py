"""The report: what it says, that nothing in a name becomes markup, and how it behaves in a real browser."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import json
import math
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from codec.errors import CodecError, UsageError
from codec.eval.report import plots
from codec.eval.report.html import Crop, CropSet, write_report

from .bench_summary import crop_sets, sound_sets, sound_summary, summary
from .browser import Browser, Page, retry, started

EVIL = "</script><script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=1>&amp;{{js}}$&"


class Parsed(HTMLParser):
    """Elements with their attributes, and the text of each row of each table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self._inside: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self._inside:
            self.scripts[-1] += data
        elif "style" not in self._inside:
            self.text += data
            if "td" in self._inside or "th" in self._inside:
                self.rows[-1][-1] += data


def written(tmp_path: Path, given: dict[str, Any], crops: Any = (), sounds: Any = ()) -> Parsed:
    path = tmp_path / "report.html"
    write_report(given, crops, path, sounds)
    return Parsed(path.read_text(encoding="utf-8"))


def data_of(parsed: Parsed) -> dict[str, Any]:
    return json.loads(parsed.scripts[0], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def hostile(value: Any) -> Any:
    """Every word of a summary with markup behind it, but for the few that the code looks at."""
    kept = {"bpp", "higher", "lower", "dB", "image"}
    if isinstance(value, dict):
        return {k: hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    known = set(summary()["metrics"]) | kept
    return value + EVIL if isinstance(value, str) and value not in known else value


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without matplotlib: figures take a second a page."""
    monkeypatch.setattr(plots, "missing", lambda: "no matplotlib: pip install it")


def test_static_figures_without_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = written(tmp_path, summary())
    sources = [a["src"] for t, a in parsed.elements if t == "img" and a.get("src")]
    svgs = [base64.b64decode(s.partition(",")[2]) for s in sources if s and s.startswith("data:image/svg+xml")]
    assert svgs == [plots.rd_svg(summary(), m) for m in ("psnr-rgb", "ms-ssim-rgb", "lpips")]
    monkeypatch.setattr(plots, "missing", lambda: "no matplotlib: pip install it")
    assert "The curves need JavaScript" in written(tmp_path, summary()).text


@pytest.mark.usefixtures("no_figures")
class TestPage:
    def test_nothing_is_fetched(self, tmp_path: Path) -> None:
        parsed = written(tmp_path, summary(), crop_sets())
        for tag, attributes in parsed.elements:
            for name in ("src", "href", "srcset", "action", "data", "poster"):
                value = attributes.get(name)
                assert value is None or value.startswith(("data:", "#")), f"<{tag} {name}={value[:60]}>"
            assert tag not in ("iframe", "object", "embed", "base")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "@import" not in text
        assert not re.search(r"url\(", text)
        (policy,) = (a["content"] for t, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
        assert policy is not None
        assert "default-src 'none'" in policy
        assert "script-src 'sha256-" in policy

    def test_every_point_is_in_the_table(self, tmp_path: Path) -> None:
        given = summary()
        parsed = written(tmp_path, given)
        heads = next(row for row in parsed.rows if "setting" in row)
        assert heads[:5] == ["codec", "setting", "items", "ratebits per pixel", "psnr-rgbdB"]
        start = parsed.rows.index(heads) + 1
        counts = sum(len(c["points"]) for c in (*given["curves"], *given["reference"]))
        rows = parsed.rows[start : start + counts]
        first = given["curves"][0]["points"][2]
        (found,) = (r for r in rows if r[:2] == ["jpeg:chroma=444", "30"])
        assert found[2:5] == ["24", f"{first['bpp']:.3f}", f"{first['psnr-rgb']:.2f}"]
        assert found[5] == f"{first['ms-ssim-rgb']:.4f}"
        assert [r[4] for r in rows if r[0] == "png"] == ["∞"]
        assert [r[2] for r in rows if r[0] == "vtm-18.0"] == ["published"] * 5
        assert {r[5] for r in rows if r[0] == "vtm-18.0"} == {"–"}, "published without MS-SSIM"
        assert [r[2] for r in rows if r[:2] == ["jxl:effort=7", "5"]] == ["23 (some failed)"]
        assert len(rows) == counts
        assert all(len(r) == len(heads) for r in rows)

    def test_deltas_have_a_window_or_a_reason(self, tmp_path: Path) -> None:
        rows = written(tmp_path, summary()).rows
        assert ["walloc@16x", "webp:method=2", "psnr-rgb", "+31.2", "−1.10 dB", "26.40 to 37.90 dB"] in rows
        assert ["avif:speed=6", "webp:method=2", "ms-ssim-rgb", "−22.5", "+0.90 dB", "0.8800 to 0.9890"] in rows
        given = summary()
        given["bd"][0] |= {"anchor": "vtm-18.0", "published_anchor": True, "metric": "lpips", "window": [0.1, 0.25]}
        row = ["walloc@16x", "vtm-18.0 (published)", "lpips", "+31.2", "−1.100", "0.1000 to 0.2500"]
        assert row in written(tmp_path, given).rows
        reason = "the codec has 1 point; at least 4 make a curve"
        assert ["walloc@4x", "webp:method=2", "psnr-rgb", reason] in rows

    def test_speed_names_its_conditions(self, tmp_path: Path) -> None:
        parsed = written(tmp_path, summary())
        assert "Conditions: 2 threads, 1 job at a time, measured 3 times" in parsed.text
        assert "Every codec may use 2 threads." in parsed.text
        assert "aren't comparable: repeat" not in parsed.text
        row = next(r for r in parsed.rows if r[:2] == ["jpeg:chroma=444", "7"])
        assert row[2:4] == [f"{90 / 1.95:.1f}", f"{90 / 1.05:.1f}"]  # slowest at q=95, fastest at q=5
        assert "aren't comparable: repeat" in written(tmp_path, {**summary(), "jobs": 4}).text

    def test_origin_trouble_and_sources(self, tmp_path: Path) -> None:
        parsed = written(tmp_path, summary())
        for words in ("codec bench DATA -c jpeg:444", "AMD EPYC 7763", "1.6.0", "kodim24.png", "higher is better"):
            assert words in parsed.text
        assert ["kodim07.png", "jxl:effort=7:q=5", "the encoder ran out of memory"] in parsed.rows
        assert ["notes.txt", "no picture: text"] in parsed.rows
        assert "Published, not measured here: sources of 2 dashed curves" in parsed.text
        assert "elic: He et al., CVPR 2022, table 3" in parsed.text
        fine = written(tmp_path, {**summary(), "failed": [], "skipped": []})
        assert "Nothing was skipped, nothing failed." in fine.text

    def test_sound_has_no_pictures_to_compare(self, tmp_path: Path) -> None:
        given = summary()
        given["data"]["medium"] = "audio"
        given["rate"] = {"key": "kbps", "unit": "kbit/s"}
        for curve in (*given["curves"], *given["reference"]):
            for point in curve["points"]:
                point["kbps"] = 100 * point.pop("bpp")
        parsed = written(tmp_path, given)
        assert "24 recordings" in parsed.text
        assert not [1 for _, a in parsed.elements if a.get("id") == "compare"]
        assert "The same detail" not in parsed.text
        assert all(p["rateText"].endswith(" kbit/s") for s in data_of(parsed)["series"] for p in s["points"])

    def test_nothing_measured(self, tmp_path: Path) -> None:
        given = {"rate": {"key": "bpp"}, "curves": [], "metrics": {"psnr": {}}}
        assert "Nothing was measured." in written(tmp_path, given).text

    def test_names_are_text(self, tmp_path: Path) -> None:
        given = hostile(summary())
        given["metrics"]["<img src=x onerror=window.hacked=1>"] = {"unit": EVIL, "better": "higher", "about": EVIL}
        given["versions"][EVIL] = "1"
        for curve in given["curves"]:
            for point in curve["points"]:
                point |= {"<img src=x onerror=window.hacked=1>": 2.5, "extra" + EVIL: 3.5, "note": EVIL}
        plain = written(tmp_path, summary(), crop_sets())
        crops = [
            dataclasses.replace(
                s,
                item=EVIL,
                crops=[dataclasses.replace(c, codec=c.codec + EVIL, spec=EVIL, metrics={EVIL: 1.0}) for c in s.crops],
            )
            for s in crop_sets()
        ]
        parsed = written(tmp_path, given, crops)
        assert len(parsed.scripts) == len(plain.scripts) == 2
        assert parsed.scripts[1] == plain.scripts[1]
        allowed = {tag for tag, _ in plain.elements}
        assert {tag for tag, _ in parsed.elements} == allowed
        assert not [a for _, a in parsed.elements for name in a if name.startswith("on")]
        assert any(row[0] == "png" + EVIL for row in parsed.rows)
        assert data_of(parsed)["series"][0]["name"] == "walloc@16x" + EVIL
        assert "</" not in parsed.scripts[0]

    def test_file_names_of_any_bytes(self, tmp_path: Path) -> None:
        given = summary()
        given["data"]["items"] = given["failed"][0]["item"] = [os.fsdecode(b"caf\xe9.png")]
        assert "caf?.png" in written(tmp_path, given).text

    def test_numbers_that_are_none(self, tmp_path: Path) -> None:
        given = summary()
        points = given["curves"][0]["points"]
        points[0]["psnr-rgb"], points[1]["psnr-rgb"], points[2]["psnr-rgb"] = None, math.nan, "Infinity"
        points[3]["decode_mpx_s"] = math.inf
        given["bd"][0] |= {"bd_rate": math.nan, "reason": None}
        parsed = written(tmp_path, given)
        drawn = next(s for s in data_of(parsed)["series"] if s["name"] == "jpeg:chroma=444")["points"]
        assert ["psnr-rgb" in p["y"] for p in drawn[:4]] == [False, False, True, True]
        assert drawn[2]["y"]["psnr-rgb"] is None
        assert drawn[2]["perfect"] == ["psnr-rgb"]
        assert ["walloc@16x", "webp:method=2", "psnr-rgb", "not computed, and no reason was given"] in parsed.rows


@pytest.mark.usefixtures("no_figures")
class TestCrops:
    def test_pixels_are_exact_and_kept_once(self, tmp_path: Path) -> None:
        sets = crop_sets()
        data = data_of(written(tmp_path, summary(), sets))
        assert [len(c["views"]) for c in data["crops"]] == [11, 11, 11]
        for given, shown in zip(sets, data["crops"], strict=True):
            ours_first = sorted(given.crops, key=lambda c: c.codec != "walloc@16x")
            wanted = [*[c.pixels for c in ours_first], given.original]
            for pixels, view in zip(wanted, shown["views"], strict=True):
                kind, _, text = data["images"][view["image"]].partition(",")
                assert kind == "data:image/webp;base64"
                with Image.open(io.BytesIO(base64.b64decode(text))) as image:
                    assert np.array_equal(np.asarray(image.convert("RGB")), pixels)
            assert [v["key"] for v in shown["views"]][:2] == ["walloc@16x", "png"]
            assert shown["views"][1]["image"] == shown["views"][-1]["image"], "png lost nothing"
        assert len(data["images"]) == 30

    def test_sides_say_setting_rate_and_metrics(self, tmp_path: Path) -> None:
        sets = crop_sets()
        view = data_of(written(tmp_path, summary(), sets))["crops"][0]["views"][2]
        crop = sets[0].crops[1]
        assert view["key"] == crop.codec == "jpeg:chroma=444"
        assert view["lines"] == [
            "jpeg:chroma=444:q=8",
            f"{crop.bpp:.3f} bits per pixel",
            f"psnr-rgb {crop.metrics['psnr-rgb']:.2f} dB",
            "ms-ssim-rgb 0.9643 (14.47 dB)",
        ]

    def test_the_same_codec_twice(self, tmp_path: Path) -> None:
        given = crop_sets()[0]
        twice = dataclasses.replace(given, crops=[given.crops[1], given.crops[1], given.crops[2]])
        data = data_of(written(tmp_path, summary(), [twice]))
        assert [v["key"] for v in data["crops"][0]["views"]] == [
            "jpeg:chroma=444",
            "jpeg:chroma=444 (2)",
            "jpeg:chroma=422",
            "original",
        ]

    def test_ten_codecs_and_three_sets_stay_small(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()  # with figures
        written(tmp_path, summary(), crop_sets(384, 256))
        assert (tmp_path / "report.html").stat().st_size < 6e6

    def test_wrong_sizes_are_refused_and_the_old_file_stays(self, tmp_path: Path) -> None:
        good = crop_sets()[0]
        path = tmp_path / "report.html"
        path.write_text("old")
        small = dataclasses.replace(good.crops[0], pixels=good.original[1:])
        real = Crop("x", "x", 1.0, {}, good.original.astype(np.float32))  # pyright: ignore[reportArgumentType]
        wrong = [dataclasses.replace(good, crops=[c]) for c in (small, real)]
        wrong.append(CropSet("x", (0, 0, 5, 5), 1.0, good.original, ()))
        for crops in wrong:
            with pytest.raises(UsageError, match="expected uint8"):
                write_report(summary(), [crops], path)
        with pytest.raises(UsageError, match=r"summary\.json"):
            write_report({"curves": 3}, [], path)
        assert path.read_text() == "old"
        with pytest.raises(CodecError, match="can't be written"):
            write_report(summary(), [], path / "report.html")
        assert [p.name for p in tmp_path.iterdir()] == ["report.html"]

    def test_written_whole_or_not_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "report.html"
        path.write_text("old")
        seen: list[str] = []

        def refuse(source: Path, target: Path) -> None:
            seen.append(source.read_text(encoding="utf-8")[-8:].strip())
            assert target == path
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(CodecError, match=r"report\.html: can't be written \(No space left on device\)"):
            write_report(summary(), [], path)
        assert seen == ["</html>"], "all of it was under another name first"
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.usefixtures("no_figures")
class TestSounds:
    def test_players_hold_the_files(self, tmp_path: Path) -> None:
        sets = sound_sets()
        parsed = written(tmp_path, sound_summary(), (), sets)
        players = [a for t, a in parsed.elements if t == "audio"]
        assert len(players) == 8 and all("controls" in a for a in players)
        wanted = [data for s in sets for data in (s.original, s.takes[1].data, s.takes[0].data, s.takes[2].data)]
        for player, data in zip(players, wanted, strict=True):
            kind, _, text = (player["src"] or "").partition(",")
            assert kind == "data:audio/flac;base64" and base64.b64decode(text) == data
        assert [a["aria-label"] for a in players[:3]] == [
            "piano.flac, original",
            "piano.flac, walloc@16x",
            "piano.flac, opus",
        ], "the original, then ours"
        assert "media-src data:;" in str(
            [a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy"]
        )

    def test_players_say_place_setting_rate_and_metrics(self, tmp_path: Path) -> None:
        parsed = written(tmp_path, sound_summary(), (), sound_sets())
        assert "piano.flac, 64 kbit/s, 2.0 to 3.0 seconds" in parsed.text
        assert "opusopus:kbps=6464.4 kbit/ssi-sdr 36.40 dB" in parsed.text
        assert "originalas it was given to the codecs" in parsed.text

    def test_names_are_text(self, tmp_path: Path) -> None:
        sets = [
            dataclasses.replace(
                s,
                item=EVIL,
                takes=[dataclasses.replace(t, codec=EVIL, spec=EVIL, metrics={EVIL: 1.0}) for t in s.takes],
            )
            for s in sound_sets()
        ]
        plain = written(tmp_path, sound_summary(), (), sound_sets())
        parsed = written(tmp_path, sound_summary(), (), sets)
        assert len(parsed.scripts) == 2 and parsed.scripts[1] == plain.scripts[1]
        assert {tag for tag, _ in parsed.elements} == {tag for tag, _ in plain.elements}
        assert not [a for _, a in parsed.elements for name in a if name.startswith("on")]

    def test_what_is_no_flac_is_refused(self, tmp_path: Path) -> None:
        good = sound_sets()[0]
        for wrong in (
            dataclasses.replace(good, original=b"RIFF"),
            dataclasses.replace(good, takes=[dataclasses.replace(good.takes[0], data=b"<scr")]),
        ):
            with pytest.raises(UsageError, match="expected a FLAC file"):
                write_report(sound_summary(), [], tmp_path / "report.html", [wrong])
        assert not list(tmp_path.iterdir())

    def test_without_sounds_there_is_no_section(self, tmp_path: Path) -> None:
        assert not [1 for _, a in written(tmp_path, sound_summary()).elements if a.get("id") == "listen"]


# ---- in Chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(summary(), crop_sets(), path)
    return path


def count(page: Page, selector: str) -> int:
    return page.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")


def points_of(page: Page, codec: str) -> int:
    return count(page, f'#chart .curve[data-codec="{codec}"] .point')


def halves(stage: NDArray[np.uint8], at: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Left and right of a cut, without the line of 4 pixels."""
    return stage[:, : at - 2], stage[:, at + 2 :]


class TestInBrowser:
    @pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
    def test_opens_quietly_and_fits(self, browser: Browser, report: Path, width: int, dark: bool) -> None:
        with browser.page(report, width=width, dark=dark) as page:
            page.settle()
            assert page.complaints() == []
            assert page.requests() == [report.as_uri()]
            assert page.evaluate("document.documentElement.scrollWidth") == width, "only tables may be wider"
            corner = page.screenshot()[0, 0].tolist()
            assert corner == ([20, 23, 26] if dark else [255, 255, 255])
            assert page.evaluate("document.querySelectorAll('noscript img').length") == 0

    def test_complaints_would_be_seen(self, browser: Browser, report: Path) -> None:
        with browser.page(report) as page:
            page.evaluate("setTimeout(() => { throw new Error('seen') })")
            assert retry(lambda: any("seen" in c for c in page.complaints()))
            page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.com/x.png'}))")
            assert retry(lambda: any("Content Security Policy" in c for c in page.complaints())), "the policy holds"

    def test_curves_have_their_points(self, browser: Browser, report: Path) -> None:
        given = summary()
        with browser.page(report) as page:
            for curve in given["curves"]:
                wanted = 0 if curve["lossless"] else len(curve["points"])
                assert points_of(page, curve["codec"]) == wanted, curve["codec"]
                line = f"#chart .curve[data-codec='{curve['codec']}'] path:not(.point)"
                corners = page.evaluate(
                    f'(document.querySelector("{line}")?.getAttribute("d").match(/[ML]/g) ?? []).length'
                )
                whole = sum(p["complete"] for p in curve["points"])
                assert corners == (whole if whole > 1 else 0), curve["codec"]
            assert points_of(page, "vtm-18.0 (published)") == 5
            assert "png at 12.6 bits per pixel" in page.evaluate("document.getElementById('chart-notes').textContent")
            page.evaluate("(() => { metric.value = 'ms-ssim-rgb'; metric.dispatchEvent(new Event('change')); })()")
            assert points_of(page, "vtm-18.0 (published)") == 0, "nobody published its MS-SSIM"
            assert points_of(page, "elic (published)") == 3
            assert "−10 log₁₀(1 − x)" in page.evaluate("document.querySelector('#chart .title').textContent")
            assert page.evaluate("location.hash") == "#metric=ms-ssim-rgb"

    def test_points_lie_in_order_on_either_axis(self, browser: Browser, report: Path) -> None:
        """A ratio of rates is a distance on the logarithmic axis, a difference on the linear one."""
        rates = [p["bpp"] for p in summary()["curves"][0]["points"]]
        seen = {}
        for axis in ("log", "linear"):
            with browser.page(report, f"#rate={axis}") as page:
                boxes = page.evaluate(
                    """[...document.querySelectorAll('#chart .curve[data-codec="jpeg:chroma=444"] .point')].map(p => {
                    const b = p.getBBox(); return [b.x + b.width / 2, b.y]; })"""
                )
                seen[axis] = np.array(boxes)
        for axis, move in (("log", np.log), ("linear", np.asarray)):
            x, y = seen[axis].T
            assert np.corrcoef(x, move(rates))[0, 1] > 0.99999, axis
            assert (np.diff(y) < 0).all(), "better is higher up"

    def test_a_click_in_the_legend_hides_a_curve(self, browser: Browser, report: Path) -> None:
        name = '#legend button[data-codec="walloc@16x"]'
        with browser.page(report) as page:
            before = count(page, "#chart .curve")
            assert points_of(page, "walloc@16x") == 6
            page.click(name)
            assert points_of(page, "walloc@16x") == 0
            assert count(page, "#chart .curve") == before - 1
            assert page.evaluate(f"document.querySelector('{name}').getAttribute('aria-pressed')") == "false"
            assert page.evaluate("new URLSearchParams(location.hash.slice(1)).get('hide')") == "walloc@16x"
            page.click(name)
            assert points_of(page, "walloc@16x") == 6
        with browser.page(report, "#hide=walloc@16x&hide=png") as page:
            assert points_of(page, "walloc@16x") == 0
            assert points_of(page, "walloc@4x") == 1

    def test_hover_and_keys_name_a_point(self, browser: Browser, report: Path) -> None:
        given = next(c for c in summary()["curves"] if c["codec"] == "walloc@4x")["points"][0]
        with browser.page(report) as page:
            page.mouse("mouseMoved", *page.point_at('#chart .curve[data-codec="walloc@4x"] .point'))
            assert retry(lambda: not page.evaluate("tip.hidden"))
            text = page.evaluate("tip.innerText")
            assert text.splitlines() == [
                "walloc@4x",
                "walloc@4x:q=3",
                f"{given['bpp']:.3f} bits per pixel, psnr-rgb {given['psnr-rgb']:.2f} dB",
            ]
            page.mouse("mouseMoved", *page.point_at("h1"))
            assert retry(lambda: page.evaluate("tip.hidden"))
            page.evaluate("chart.focus()")
            said = "document.getElementById('chart-status').textContent"
            page.key("ArrowRight", 39)
            assert page.evaluate(said).startswith("walloc@16x, walloc@16x:q=1")
            page.key("ArrowRight", 39)
            assert page.evaluate(said).startswith("walloc@16x, walloc@16x:q=2")
            page.key("ArrowUp", 38)
            assert "published, not measured here" in page.evaluate(said)

    def test_slider_shows_one_codec_left_and_another_right(self, browser: Browser, report: Path) -> None:
        """At one pixel a pixel, what is on the screen is what the codecs gave, on either side of the cut."""
        crops = crop_sets()[1]
        by_name = {c.codec: c.pixels for c in crops.crops}
        where = "#picture=2&zoom=1&left=jpeg:chroma=420&right=walloc@16x&slider="
        width = crops.box[2]
        stages = {}
        for per_cent in (25, 75):
            with browser.page(report, f"{where}{per_cent}") as page:
                page.settle()
                stages[per_cent] = page.screenshot("#stage")
                at = width * per_cent // 100
                left, right = halves(stages[per_cent], at)
                wanted_left, _ = halves(by_name["jpeg:chroma=420"], at)
                _, wanted_right = halves(by_name["walloc@16x"], at)
                assert np.array_equal(left, wanted_left)
                assert np.array_equal(right, wanted_right)
                assert "walloc@16x:q=37" in page.evaluate("document.getElementById('label-right').innerText")
                assert "jpeg:chroma=420:q=25" in page.evaluate("document.getElementById('label-left').innerText")
        quarter = width // 4
        a, b = stages[25], stages[75]
        assert np.array_equal(a[:, : quarter - 2], b[:, : quarter - 2])
        assert np.array_equal(a[:, 3 * quarter + 2 :], b[:, 3 * quarter + 2 :])
        middle = slice(quarter + 2, 3 * quarter - 2)
        assert (a[:, middle] != b[:, middle]).any(-1).mean() > 0.5

    def test_zoom_repeats_pixels(self, browser: Browser, report: Path) -> None:
        original = crop_sets()[0].original
        with browser.page(report, "#zoom=3&left=original&slider=100", height=1200) as page:
            page.settle()
            stage = page.screenshot("#stage")
        wanted = original.repeat(3, 0).repeat(3, 1)
        assert np.array_equal(stage[:, :-3], wanted[:, :-3])

    def test_slider_by_key_by_mouse_and_the_original(self, browser: Browser, report: Path) -> None:
        with browser.page(report, "#slider=30&zoom=1&right=original") as page:
            page.evaluate("slider.focus()")
            page.key("ArrowRight", 39)
            assert page.evaluate("[slider.value, cut.style.left].join()") == "31,31%"
            assert "31 %" in page.evaluate("slider.getAttribute('aria-valuetext')")
            x, y = page.point_at("#stage", across=0.8)
            page.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
            assert float(page.evaluate("slider.value")) == pytest.approx(80, abs=0.6)
            x, y = page.point_at("#stage", across=0.1)
            page.mouse("mouseMoved", x, y, button="left", buttons=1)
            page.mouse("mouseReleased", x, y, button="left", clickCount=1)
            assert float(page.evaluate("slider.value")) == pytest.approx(10, abs=0.6)
            page.click("#swap")
            assert page.evaluate("[left.value, right.value].join()") == "original,walloc@16x"
            assert "left=original" in page.evaluate("location.hash")

    def test_tables_sort_and_follow_the_metric(self, browser: Browser, report: Path) -> None:
        column = """(n => [...document.querySelectorAll('#points tbody tr')].map(r => r.cells[n].dataset.v))"""
        with browser.page(report) as page:
            page.click("#points thead th:nth-child(5) button")
            up = page.evaluate(f"{column}(4)")
            assert up[-1] == "Infinity"
            assert [float(v) for v in up] == sorted(float(v) for v in up)
            page.click("#points thead th:nth-child(5) button")
            assert page.evaluate(f"{column}(4)")[0] == "Infinity"
            page.click("#points thead th:nth-child(6) button")
            assert page.evaluate(f"{column}(5)")[-5:] == [""] * 5, "what isn't known comes last"
            rows = "[...document.querySelectorAll('#bd tbody tr')].filter(r => !r.hidden).length"
            assert page.evaluate(rows) == 3
            page.click("#bd-all")
            assert page.evaluate(rows) == 4
        with browser.page(report, "#metric=lpips") as page:
            assert page.evaluate(rows) == 0
            assert "No comparison was computed for lpips" in page.evaluate(
                "document.getElementById('bd-none').innerText"
            )

    def test_without_script(self, browser: Browser, report: Path) -> None:
        with browser.page(report, script=False) as page:
            assert page.evaluate("document.querySelectorAll('noscript img').length") == 3
            assert page.evaluate("[...document.querySelectorAll('noscript img')].every(i => i.naturalWidth > 300)")
            given = summary()
            rows = sum(len(c["points"]) for c in (*given["curves"], *given["reference"]))
            assert page.evaluate("document.querySelectorAll('#points tbody tr').length") == rows
            for hidden in ("chart-block", "compare", "bd-controls"):
                assert page.evaluate(f"document.getElementById('{hidden}').offsetHeight") == 0
            assert page.complaints() == []

    def test_names_are_text(self, browser: Browser, tmp_path: Path) -> None:
        sets = [
            dataclasses.replace(
                s, item=EVIL, crops=[dataclasses.replace(c, codec=c.codec + EVIL, spec=EVIL) for c in s.crops]
            )
            for s in crop_sets()[:1]
        ]
        path = tmp_path / "<b>&#.html"
        write_report(hostile(copy.deepcopy(summary())), sets, path)
        with browser.page(path) as page:
            page.settle()
            assert page.complaints() == []
            assert page.evaluate("window.hacked") is None
            assert page.evaluate("document.title") == "Benchmark: test-kodak" + EVIL
            assert page.evaluate("document.querySelector('#legend button').dataset.codec") == "walloc@16x" + EVIL
            page.click("#legend button")
            assert page.evaluate("document.querySelector('#legend button').getAttribute('aria-pressed')") == "false"
            page.mouse("mouseMoved", *page.point_at("#chart .curve.peer .point"))
            assert retry(lambda: not page.evaluate("tip.hidden"))
            assert EVIL in page.evaluate("tip.innerText")
            assert page.evaluate("window.hacked") is None


@pytest.fixture(scope="module")
def sound_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "report.html"
    write_report(sound_summary(), [], path, sound_sets(3.0))
    return path


class TestPlayersInChromium:
    def test_they_play_what_they_hold(self, browser: Browser, sound_report: Path) -> None:
        with browser.page(sound_report) as page:
            ready = "[...document.querySelectorAll('.takes audio')].every(a => a.readyState >= 1 && !a.error)"
            assert retry(lambda: page.evaluate(ready), 20)
            durations = page.evaluate("[...document.querySelectorAll('.takes audio')].map(a => a.duration)")
            assert durations == pytest.approx([3.0] * 8, abs=0.01)
            assert all(page.evaluate("[...document.querySelectorAll('.takes audio')].map(a => a.clientWidth > 200)")), (
                "no room for the controls"
            )
            assert page.complaints() == []
            assert page.requests() == [sound_report.resolve().as_uri()]

    def test_the_next_goes_on_where_the_last_was(self, browser: Browser, sound_report: Path) -> None:
        with browser.page(sound_report) as page:
            page.evaluate("window.players = [...document.querySelectorAll('.takes audio')]; players.length")
            assert retry(lambda: page.evaluate("players.every(a => a.readyState >= 1)"), 20)
            page.click("h1")  # nothing plays before the first one
            page.evaluate("players.forEach(a => { a.muted = true; }); players[0].currentTime = 1.5; players[0].play()")
            assert retry(lambda: page.evaluate("players[0].currentTime > 1.5"), 20)
            page.evaluate("players[1].play()")
            assert retry(lambda: page.evaluate("players[0].paused && players[1].currentTime >= 1.5"), 20)
            page.evaluate("players[5].play()")  # of another sound: from its own start
            assert retry(lambda: page.evaluate("players[1].paused"), 20)
            assert page.evaluate("players[5].currentTime < 1.5")
            assert page.complaints() == []

    def test_narrow_and_without_script(self, browser: Browser, sound_report: Path) -> None:
        with browser.page(sound_report, width=360, script=False) as page:
            wide = page.call("Page.getLayoutMetrics")["cssContentSize"]["width"]
            assert wide <= 360, "the page scrolls sideways"
            _, _, width, height = page.box(".takes audio")
            assert width > 200 and height > 20
