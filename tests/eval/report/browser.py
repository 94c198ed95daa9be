"""A headless Chromium for tests of pages, driven through its DevTools protocol over a pipe: standard library only.

`--remote-debugging-pipe`: Chromium reads commands from file descriptor 3 and writes answers and events to 4, JSON that
ends in a zero byte. The profile is a new empty folder; nothing is fetched from anywhere.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# Moves two descriptors to 3 and 4 and becomes Chromium: between fork and exec of this process nothing of ours runs.
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]]
os.dup2(ends[0], 3); os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
TIMEOUT = 60.0


class BrowserError(Exception):
    """Chromium didn't start, went away, didn't answer, or answered with an error."""


def find() -> str:
    """Chromium's path. Skips the test if there is none, or fails it if CODEC_REQUIRE_BROWSER=1."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    if os.environ.get("CODEC_REQUIRE_BROWSER") == "1":
        pytest.fail("no Chromium, and CODEC_REQUIRE_BROWSER=1: apt install chromium")
    pytest.skip("no Chromium: apt install chromium")


class Browser:
    """A process with one page at a time. Use `started`."""

    def __init__(self, process: subprocess.Popen[bytes], commands: int, answers: int) -> None:
        self._process, self._commands, self._answers = process, commands, answers
        self._buffer = b""
        self._count = 0
        self.events: list[Mapping[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Run a command of the protocol and return its result."""
        self._count += 1
        wanted = self._count
        message: dict[str, Any] = {"id": wanted, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + TIMEOUT
        while True:
            answer = self._next(deadline, method)
            if answer.get("id") == wanted:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait(self, method: str, session: str, since: int) -> None:
        """Until an event of this name has come after the first `since` events."""
        deadline = time.monotonic() + TIMEOUT
        while not any(e.get("method") == method and e.get("sessionId") == session for e in self.events[since:]):
            self.events.append(self._next(deadline, method))

    def _next(self, deadline: float, waiting_for: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise BrowserError(f"no answer from Chromium within {TIMEOUT:g} s, waiting for {waiting_for}")
            part = os.read(self._answers, 1 << 20)
            if not part:
                raise BrowserError(f"Chromium ended (exit code {self._process.poll()}), waiting for {waiting_for}")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    @contextlib.contextmanager
    def page(
        self,
        path: Path | str,
        address: str = "",
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        script: bool = True,
    ) -> Iterator[Page]:
        """A file, or what a server has, in a new page. address: what follows the path, such as "#slider=30"."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, len(self.events))
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        if not script:
            page.call("Emulation.setScriptExecutionDisabled", value=True)
        since = len(self.events)
        page.call("Page.navigate", url=(path if isinstance(path, str) else path.resolve().as_uri()) + address)
        self.wait("Page.loadEventFired", session, since)
        try:
            yield page
        finally:
            self.call("Target.closeTarget", targetId=target)


class Page:
    """A page that has loaded."""

    def __init__(self, browser: Browser, session: str, first: int) -> None:
        self._browser, self._session, self._first = browser, session, first

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def _events(self, method: str) -> list[Mapping[str, Any]]:
        events = self._browser.events[self._first :]
        return [e["params"] for e in events if e.get("method") == method and e.get("sessionId") == self._session]

    def complaints(self) -> list[str]:
        """Uncaught exceptions, and what the page or the browser wrote to the console as a warning or an error."""
        self.evaluate("0")  # events before this have arrived
        found = [str(e["exceptionDetails"]) for e in self._events("Runtime.exceptionThrown")]
        found += [str(e["args"]) for e in self._events("Runtime.consoleAPICalled") if e["type"] in ("error", "warning")]
        entries = [e["entry"] for e in self._events("Log.entryAdded")]
        return found + [e["text"] for e in entries if e["level"] in ("error", "warning")]

    def requests(self) -> list[str]:
        """Addresses that were asked for, without inline data."""
        urls = [e["request"]["url"] for e in self._events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def settle(self) -> None:
        """Until pictures are decoded and what was asked for is painted."""
        self.evaluate(
            "Promise.all([...document.images].filter(i => i.src).map(i => i.decode().catch(() => 0)))"
            ".then(() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1)))))"
        )

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width, height of an element in the page."""
        found = self.evaluate(
            f"(() => {{ const r = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [r.left + scrollX, r.top + scrollY, r.width, r.height]; })()"
        )
        return found[0], found[1], found[2], found[3]

    def screenshot(self, selector: str | None = None) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 of an element, or of the whole page."""
        if selector is None:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            left, top, width, height = 0.0, 0.0, size["width"], size["height"]
        else:
            left, top, width, height = self.box(selector)
        clip = {"x": left, "y": top, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        with Image.open(io.BytesIO(base64.b64decode(shot["data"]))) as image:
            return np.asarray(image.convert("RGB"))

    def point_at(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """A place in an element, by its shares of width and height, scrolled into view."""
        name = json.dumps(selector)
        self.evaluate(f"document.querySelector({name}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        found = self.evaluate(
            f"(() => {{ const r = document.querySelector({name}).getBoundingClientRect();"
            f" return [r.left + r.width * {across}, r.top + r.height * {down}]; }})()"
        )
        return found[0], found[1]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector: str) -> None:
        """With the mouse, where the element is: what covers it gets the click instead."""
        x, y = self.point_at(selector)
        self.mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def key(self, name: str, code: int) -> None:
        """Press and release a key. code: its virtual key code, as DevTools wants it."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)


def retry(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def started(*more: str) -> Iterator[Browser]:
    """A running Chromium with a profile of its own, which goes with it. Skips or fails if there is none, as `find`.

    more: flags besides FLAGS.
    """
    path = find()
    their_commands, commands = os.pipe()
    answers, their_answers = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [sys.executable, "-c", LAUNCH, str(their_commands), str(their_answers), path, *FLAGS, *more]
        command += [f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            command,
            pass_fds=(their_commands, their_answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_commands)
        os.close(their_answers)
        browser = Browser(process, commands, answers)
        try:
            yield browser
        finally:
            with contextlib.suppress(BrowserError, OSError):
                browser.call("Browser.close")
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(commands)
            os.close(answers)
