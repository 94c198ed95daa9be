"""The page in a headless Chromium that draws in software: known scenes, and what a user does, looked at in screenshots.

Needs Chromium and the renderer: `make viewer`. Without them the tests are skipped and say so, or they fail where
CODEC_REQUIRE_BROWSER=1 or CODEC_REQUIRE_VIEWER=1 says that they are there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from codec.errors import UsageError
from codec.media.gaussians.values import DC, Gaussians
from codec.viewer import Viewer
from codec.viewer import bundle as bundles
from codec.viewer.frames import pack, pack_harmonics

from ..eval.report.browser import Browser, Page, retry, started
from .scenes import BLUE, GREEN, RED, Source, ball, moving, random_gaussians, together, unpacked

SOFTWARE = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
SIDE = 240
SHOWN = 60.0  # seconds that a busy machine may take to show a frame
CHATTER = "GPU stall due to ReadPixels"  # of the software's driver


@pytest.fixture(scope="module")
def bundle() -> Path:
    try:
        return bundles.find()
    except UsageError as error:
        if os.environ.get("CODEC_REQUIRE_VIEWER") == "1":
            pytest.fail(f"CODEC_REQUIRE_VIEWER=1, but {error}")
        pytest.skip(f"{error}")


@pytest.fixture(scope="module")
def browser(bundle: Path) -> Iterator[Browser]:
    with started(*SOFTWARE) as browser:
        yield browser


@contextlib.contextmanager
def shown(
    browser: Browser, source: Source, address: str = "", width: int = SIDE, height: int = SIDE, wait: bool = True
) -> Iterator[Page]:
    """The page of a source, without what lies on the scene, when its first frame is drawn."""
    with Viewer(source, name="clip", n_bytes=5000) as viewer:
        thread = threading.Thread(target=viewer.serve)
        thread.start()
        try:
            with browser.page(viewer.address, address, width=width, height=height) as page:
                if wait:
                    wait_for(page, "document.body.dataset.shown !== undefined && document.body.dataset.shown !== ''")
                yield page
                own = (viewer.address, f"blob:http://127.0.0.1:{viewer.port}/")  # Spark's workers
                assert [url for url in page.requests() if not url.startswith(own)] == []
        finally:
            viewer.stop()
            thread.join()


def wait_for(page: Page, expression: str) -> None:
    state = "JSON.stringify(document.body.dataset) + document.getElementById('message').textContent"
    assert retry(lambda: page.evaluate(expression) is True, SHOWN), f"{expression}: {page.evaluate(state)}"


def wait_for_frame(page: Page, frame: int) -> None:
    wait_for(page, f"document.body.dataset.shown === '{frame}'")


def picture(page: Page) -> NDArray[np.int16]:
    """A screenshot of the scene alone."""
    page.evaluate("for (const id of ['facts', 'controls']) document.getElementById(id).style.visibility = 'hidden'; 0")
    page.settle()
    return page.screenshot().astype(np.int16)


def near(colour: NDArray[np.int16], wanted: tuple[float, float, float], tolerance: int = 8) -> bool:
    return bool((np.abs(colour - np.rint(np.array(wanted) * 255)) <= tolerance).all())


def centre_of(shot: NDArray[np.int16], colour: tuple[float, float, float]) -> tuple[float, float]:
    """Across and down, -1 to 1 over the picture, of the pixels that have about this colour."""
    rows, columns = np.nonzero((np.abs(shot - np.array(colour) * 255) < 40).all(axis=2))
    assert len(rows) > 50, "no such colour in the picture"
    height, width, _ = shot.shape
    return float(columns.mean() / width * 2 - 1), float(rows.mean() / height * 2 - 1)


class TestScenes:
    def test_colours_and_places(self, browser: Browser) -> None:
        with shown(browser, moving(1)) as page:
            shot = picture(page)
            assert page.evaluate("document.body.dataset.shown") == "0"
            assert [words for words in page.complaints() if CHATTER not in words] == []
            hidden = page.evaluate("getComputedStyle(document.getElementById('timeline')).display")
        assert hidden == "none", "a scene that stands still has nothing to play"
        (red_x, red_y), (green_x, green_y) = centre_of(shot, RED), centre_of(shot, GREEN)
        assert red_x == pytest.approx(-green_x, abs=0.04) and green_x > 0.3
        assert abs(red_y) < 0.03 and abs(green_y) < 0.03
        middle = SIDE // 2
        assert near(shot[middle, round((red_x + 1) * middle)], RED)
        assert near(shot[middle, round((green_x + 1) * middle)], GREEN)
        assert all(near(shot[y, x], (1, 1, 1), 0) for y in (1, -2) for x in (1, -2))

    @pytest.mark.slow
    @pytest.mark.parametrize(("up", "sign"), [("y-down", -1), ("y", 1)])
    def test_up(self, browser: Browser, up: str, sign: int) -> None:
        scene = together(ball((0, sign, 0), BLUE), ball((1, -sign, 0), RED))
        with shown(browser, Source([scene]), f"#background=black&up={up}") as page:
            shot = picture(page)
        assert near(shot[1, 1], (0, 0, 0), 0)
        assert centre_of(shot, BLUE)[1] < -0.2 < 0.2 < centre_of(shot, RED)[1]
        assert centre_of(shot, BLUE)[0] < centre_of(shot, RED)[0]

    @pytest.mark.slow
    def test_z_is_up(self, browser: Browser) -> None:
        scene = together(ball((0, 0, 1), BLUE), ball((1, 0, -1), RED))
        with shown(browser, Source([scene]), "#up=z") as page:
            shot = picture(page)
        assert centre_of(shot, BLUE)[1] < -0.2 < 0.2 < centre_of(shot, RED)[1]
        assert centre_of(shot, BLUE)[0] < centre_of(shot, RED)[0]

    @pytest.mark.slow
    def test_what_is_near_hides_what_is_behind(self, browser: Browser) -> None:
        scene = together(ball((0, 0, -1), RED), ball((0, 0, 1), GREEN))
        with shown(browser, Source([scene])) as page:
            assert near(picture(page)[SIDE // 2, SIDE // 2], RED)
            page.evaluate("location.hash = 'azimuth=180'; 0")
            assert retry(lambda: near(picture(page)[SIDE // 2, SIDE // 2], GREEN), SHOWN)

    @pytest.mark.parametrize(
        "degree", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 3]
    )
    def test_colours_by_direction(self, browser: Browser, degree: int) -> None:
        """Spherical harmonics as in 3D Gaussian splatting, with the direction from the camera to the Gaussian."""
        scene = ball((0, 0, 0), (0.5, 0.5, 0.5), degree=degree)
        scene.harmonics[:, 1:] = np.random.default_rng(degree).normal(size=scene.harmonics[0, 1:].shape) * 0.25
        scene.positions[:] *= 0.01
        with shown(browser, Source([scene]), "#azimuth=90") as page:
            side = picture(page)[SIDE // 2, SIDE // 2]
            page.evaluate("location.hash = 'azimuth=0'; 0")
            wanted = [colour_towards(scene, direction) for direction in ((-1, 0, 0), (0, 0, 1))]
            assert not near(side, wanted[1], 12), "the two directions can be told apart"
            assert near(side, wanted[0])
            assert retry(lambda: near(picture(page)[SIDE // 2, SIDE // 2], wanted[1]), SHOWN)


def colour_towards(scene: Gaussians, direction: tuple[float, float, float]) -> tuple[float, float, float]:
    """The colour of the first Gaussian, seen in this direction."""
    x, y, z = direction
    basis = [
        *(0.4886025 * np.array([-y, z, -x])),
        *(1.0925484 * np.array([x * y, -y * z])),
        0.3153916 * (2 * z * z - x * x - y * y),
        *(-1.0925484 * np.array([x * z]), 0.5462742 * np.array([x * x - y * y])),
        -0.5900436 * y * (3 * x * x - y * y),
        2.8906114 * x * y * z,
        -0.4570458 * y * (4 * z * z - x * x - y * y),
        0.3731763 * z * (2 * z * z - 3 * x * x - 3 * y * y),
        -0.4570458 * x * (4 * z * z - x * x - y * y),
        1.4453057 * z * (x * x - y * y),
        -0.5900436 * x * (x * x - 3 * y * y),
    ]
    harmonics = scene.harmonics[0].astype(np.float64)
    weights = np.array([float(np.ravel(value)[0]) for value in basis])[: len(harmonics) - 1]
    red, green, blue = np.clip(0.5 + DC * harmonics[0] + weights @ harmonics[1:], 0, 1)
    return float(red), float(green), float(blue)


class TestSequences:
    def test_frames_by_address_and_keyboard(self, browser: Browser) -> None:
        with shown(browser, moving(), "#frame=3") as page:
            assert page.evaluate("document.body.dataset.shown") == "3"
            places = {3: centre_of(picture(page), RED)[0]}
            for key, code, frame in (
                ("ArrowRight", 39, 4),
                ("ArrowRight", 39, 0),
                ("End", 35, 4),
                ("ArrowLeft", 37, 3),
            ):
                page.key(key, code)
                wait_for_frame(page, frame)
                places[frame] = centre_of(picture(page), RED)[0]
                assert page.evaluate("location.hash") == f"#frame={frame}"
            page.evaluate("location.hash = 'frame=1'; 0")
            wait_for_frame(page, 1)
            places[1] = centre_of(picture(page), RED)[0]
            assert centre_of(picture(page), GREEN)[0] > places[4]
            assert page.evaluate("document.getElementById('frame').textContent") == "1 / 4"
        steps = np.diff([places[frame] for frame in (1, 3, 4)]) / (2, 1)
        assert steps[0] > 0.05 and steps == pytest.approx(steps[0], abs=0.02), "0.2 to the right a frame"
        assert places[0] == pytest.approx(places[1] - steps[0], abs=0.02)

    def test_harmonics_of_each_frame(self, browser: Browser) -> None:
        scenes = []
        for frame in range(3):
            scene = ball((0, 0, 0), (0.5, 0.5, 0.5), degree=3)
            scene.harmonics[:, 1:] = np.random.default_rng(frame).normal(size=scene.harmonics[0, 1:].shape) * 0.25
            scene.positions[:] *= 0.01
            scenes.append(scene)
        with shown(browser, Source(scenes)) as page:
            for frame in (0, 2, 1):
                page.evaluate(f"location.hash = 'frame={frame}'; 0")
                wait_for_frame(page, frame)
                wanted = colour_towards(scenes[frame], (0, 0, 1))
                assert near(picture(page)[SIDE // 2, SIDE // 2], wanted), frame

    def test_play_and_pause(self, browser: Browser) -> None:
        with shown(browser, moving()) as page:
            playing = "document.getElementById('play').hasAttribute('data-playing')"
            assert page.evaluate(playing) is False
            page.key(" ", 32)
            assert page.evaluate(playing) is True
            wait_for(page, "document.getElementById('scrub').value !== '0'")
            page.click("#play")
            wait_for(page, "document.body.dataset.shown !== ''")
            frame = page.evaluate("document.body.dataset.shown")
            page.settle()
            assert (page.evaluate(playing), page.evaluate("document.body.dataset.shown")) == (False, frame)

    @pytest.mark.slow
    def test_scrub_bar(self, browser: Browser) -> None:
        with shown(browser, moving(), width=900, height=400) as page:
            x, y = page.point_at("#scrub", across=0.995)
            for kind in ("mousePressed", "mouseReleased"):
                page.mouse(kind, x, y, button="left", clickCount=1)
            wait_for_frame(page, 4)

    @pytest.mark.slow
    def test_drag_and_reset(self, browser: Browser) -> None:
        with shown(browser, moving(1)) as page:
            before = centre_of(picture(page), RED)
            page.mouse("mousePressed", SIDE / 2, SIDE / 2, button="left", clickCount=1)
            page.mouse("mouseMoved", SIDE / 2 + 60, SIDE / 2, button="left", buttons=1)
            page.mouse("mouseReleased", SIDE / 2 + 60, SIDE / 2, button="left", clickCount=1)
            assert retry(lambda: abs(centre_of(picture(page), RED)[0] - before[0]) > 0.1, SHOWN)
            page.key("r", 82)
            assert retry(lambda: np.allclose(centre_of(picture(page), RED), before, atol=0.01), SHOWN)

    @pytest.mark.slow
    def test_a_background(self, browser: Browser) -> None:
        with shown(browser, moving(1)) as page:
            page.key("b", 66)
            assert retry(lambda: near(picture(page)[1, 1], (0, 0, 0), 0), SHOWN)

    def test_a_damaged_frame_is_said(self, browser: Browser) -> None:
        source = moving()
        source.broken = (2,)
        with shown(browser, source, "#frame=2", wait=False) as page:
            wait_for(page, "document.getElementById('message').textContent.includes('segment 2 is damaged')")


def test_on_a_phone(browser: Browser) -> None:
    with shown(browser, moving(), width=360, height=640) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        for selector in ("#play", "#scrub", "#frame", "#speed", "#up", "#background", "#reset", "#facts"):
            left, top, width, height = page.box(selector)
            assert left >= 0 and left + width <= 360 and top >= 0 and top + height <= 640, selector
            assert selector in ("#frame", "#facts") or min(width, height) >= 40, f"{selector}: for a thumb"
        assert page.box("#scrub")[2] > 150


def test_spark_reads_our_words(browser: Browser) -> None:
    """Spark's own decoder says of the words that the server sends what we put in."""
    g = random_gaussians(40, 3, seed=4)
    place, shape = (plane.ravel().tolist() for plane in unpacked(pack(g)))
    word = unpacked(pack_harmonics(g))[0, :, 2].tolist()
    script = f"""import("./spark.js").then(({{ utils }}) => {{
      const arrays = [new Uint32Array({place}), new Uint32Array({shape})];
      const rows = [];
      for (let i = 0; i < 40; i++) {{
        const s = utils.decodeExtSplat(arrays, i);
        rows.push([...s.center, ...s.scales, s.quaternion.w, s.quaternion.x, s.quaternion.y, s.quaternion.z, s.opacity,
                   s.color.r, s.color.g, s.color.b]);
        const c = utils.decodeExtRgb(new Uint32Array({word})[i]);
        rows[i].push(c.r, c.g, c.b);
      }}
      return rows;
    }})"""
    with shown(browser, moving(1)) as page:
        rows = np.array(page.evaluate(script))
    assert np.allclose(rows[:, :3], g.positions, atol=1e-6)
    assert np.allclose(np.log(rows[:, 3:6]), g.scales, atol=2e-3)
    unit = g.rotations / np.linalg.norm(g.rotations, axis=1, keepdims=True)
    assert np.abs((rows[:, 6:10] * unit).sum(axis=1)).min() > 1 - 1e-5
    assert np.allclose(rows[:, 10], 1 / (1 + np.exp(-g.opacities)), atol=1e-3)
    assert np.allclose(rows[:, 11:14], 0.5 + DC * g.harmonics[:, 0], atol=2e-3)
    assert np.allclose(rows[:, 14:], g.harmonics[:, 3], atol=np.abs(g.harmonics[:, 3]).max() / 128)


@pytest.mark.slow
def test_without_webgl(bundle: Path) -> None:
    with started("--disable-3d-apis") as browser, shown(browser, moving(), wait=False) as page:
        wait_for(page, "document.getElementById('message').textContent.includes('no WebGL 2')")
