"""The server of the page: what it answers, and everything that it refuses."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from codec.errors import UsageError
from codec.viewer import Viewer
from codec.viewer.bundle import SCRIPTS
from codec.viewer.frames import pack, pack_harmonics

from .scenes import Source, empty_bundle, moving, random_gaussians


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return empty_bundle(tmp_path / "bundle")


@pytest.fixture
def viewer(bundle: Path) -> Iterator[Viewer]:
    source = Source([random_gaussians(50, 2, seed) for seed in range(4)], 12.5, broken=[3])
    with serving(Viewer(source, name="a.b <c>", n_bytes=1234, bundle=bundle)) as viewer:
        yield viewer


class serving:
    """A viewer that answers from a thread while the block runs."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer, self.thread = viewer, threading.Thread(target=viewer.serve)

    def __enter__(self) -> Viewer:
        self.thread.start()
        return self.viewer

    def __exit__(self, *_: object) -> None:
        self.viewer.stop()
        self.thread.join()
        self.viewer.close()


def ask(
    viewer: Viewer, path: str, method: str = "GET", token: str | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body. path: behind the token. headers: with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/{viewer.token if token is None else token}/{path}", headers=given)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def raw(viewer: Viewer, request: bytes) -> bytes:
    """All that comes back for these bytes, until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


class TestAnswers:
    def test_the_page(self, viewer: Viewer) -> None:
        assert viewer.address == f"http://127.0.0.1:{viewer.port}/{viewer.token}/"
        status, headers, body = ask(viewer, "")
        assert status == 200 and body.startswith(b"<!doctype html>")
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "unsafe-inline" not in policy
        assert not any(name in headers["Server"] for name in ("Python", "Base"))

    @pytest.mark.parametrize("name", [*SCRIPTS, "page.js", "player.js", "stage.js", "page.css"])
    def test_its_files(self, viewer: Viewer, name: str) -> None:
        status, headers, body = ask(viewer, name)
        assert status == 200 and body
        assert headers["Content-Type"].split(";")[0] == ("text/css" if name == "page.css" else "text/javascript")

    def test_the_scene(self, viewer: Viewer) -> None:
        _, _, body = ask(viewer, "scene.json")
        scene = json.loads(body)
        assert scene["radius"] > 0 and len(scene.pop("centre")) == 3 and scene.pop("radius")
        facts = {"name": "a.b <c>", "bytes": 1234, "frames": 4, "fps": 12.5, "count": 50, "degree": 2}
        assert scene == {**facts, "background": "white", "up": "y-down"}

    def test_frames(self, viewer: Viewer) -> None:
        gaussians = random_gaussians(50, 2, 1)
        status, headers, body = ask(viewer, "frames/1")
        assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
        assert body == pack(gaussians, 1)
        assert ask(viewer, "frames/1/harmonics")[2] == pack_harmonics(gaussians, 1)

    def test_a_range_is_not_taken(self, viewer: Viewer) -> None:
        status, _, body = ask(viewer, "frames/1", Range="bytes=0-3")
        assert status == 200 and len(body) == 16 + 50 * 32

    def test_head(self, viewer: Viewer) -> None:
        status, headers, body = ask(viewer, "frames/0", method="HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(16 + 50 * 32))
        request = f"HEAD /{viewer.token}/frames/0 HTTP/1.1\r\nHost: 127.0.0.1:{viewer.port}\r\n\r\n"
        assert raw(viewer, request.encode()).endswith(b"\r\n\r\n"), "no body comes"

    def test_one_connection_for_many(self, viewer: Viewer) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=20)
        for number in (0, 1, 9, 2):
            connection.request("GET", f"/{viewer.token}/frames/{number}")
            answer = connection.getresponse()
            assert answer.status == (404 if number == 9 else 200)
            answer.read()
        connection.close()

    def test_a_frame_that_cannot_be_decoded(self, viewer: Viewer) -> None:
        status, headers, body = ask(viewer, "frames/3")
        assert status == 500 and headers["Content-Type"].startswith("text/plain")
        assert body == b"frame 3: segment 3 is damaged: get the file again"
        assert ask(viewer, "frames/2")[0] == 200

    def test_what_the_source_says(self, bundle: Path) -> None:
        source = moving(1)
        source.fps = None
        source.up = "z"  # type: ignore[attr-defined]
        with Viewer(source, bundle=bundle, background="black") as viewer:
            scene = json.loads(viewer.files["scene.json"].body)
            assert (scene["fps"], scene["up"], scene["background"], scene["bytes"]) == (25, "z", "black", None)
        with Viewer(source, bundle=bundle, up="y") as viewer:
            assert json.loads(viewer.files["scene.json"].body)["up"] == "y"


class TestRefusals:
    @pytest.mark.parametrize(
        "path",
        [
            "frames/4",
            "frames/-1",
            "frames/01",
            "frames/1e0",
            "frames/٣",
            "frames/1/",
            "frames/1/shape",
            "frames/99999999999999999999",
            "frames",
            "page",
            "dist/spark.js",
            "../index.html",
            "../../pyproject.toml",
            "%2e%2e/%2e%2e/pyproject.toml",
            "..%2f..%2fpyproject.toml",
            "/etc/passwd",
            "versions.txt",
            "server.py",
            "page.js/",
            "page.js%00",
        ],
    )
    def test_unknown_paths(self, viewer: Viewer, path: str) -> None:
        answer = raw(viewer, f"GET /{viewer.token}/{path} HTTP/1.0\r\nHost: 127.0.0.1:{viewer.port}\r\n\r\n".encode())
        assert answer.split(b"\r\n")[0].split()[1] == b"404"

    @pytest.mark.parametrize("token", ["", "x", "a/b"])
    def test_without_the_token(self, viewer: Viewer, token: str) -> None:
        for name in ("", "scene.json", "frames/0"):
            status, _, body = ask(viewer, name, token=token)
            assert status == 404 and viewer.token.encode() not in body

    def test_tokens_differ(self, bundle: Path) -> None:
        with Viewer(moving(1), bundle=bundle) as first, Viewer(moving(1), bundle=bundle) as second:
            assert first.token != second.token and len(first.token) > 20

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{0}.evil.example", ""])
    def test_another_host(self, viewer: Viewer, host: str) -> None:
        """A name of somebody else that leads to our address."""
        assert ask(viewer, "scene.json", Host=host.format(viewer.port))[0] == 421

    def test_our_hosts(self, viewer: Viewer) -> None:
        assert ask(viewer, "scene.json", Host=f"localhost:{viewer.port}")[0] == 200
        two = f"Host: 127.0.0.1:{viewer.port}\r\nHost: evil.example\r\n"
        assert raw(viewer, f"GET /{viewer.token}/ HTTP/1.1\r\n{two}\r\n".encode()).startswith(b"HTTP/1.1 421")
        assert raw(viewer, f"GET /{viewer.token}/ HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 421")

    def test_other_sites(self, viewer: Viewer) -> None:
        assert ask(viewer, "scene.json", Origin="https://evil.example")[0] == 403
        assert ask(viewer, "scene.json", Origin="null")[0] == 403
        assert ask(viewer, "scene.json", Sec_Fetch_Site="cross-site")[0] == 403
        assert (
            ask(viewer, "scene.json", Sec_Fetch_Site="same-origin", Origin=viewer.address.rsplit("/", 2)[0])[0] == 200
        )

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
    def test_other_methods(self, viewer: Viewer, method: str) -> None:
        status, headers, _ = ask(viewer, "scene.json", method=method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
            bytes(range(256)) * 8,
        ],
        ids=["empty", "short", "version", "method", "long", "headers", "noise"],
    )
    def test_damaged_requests(self, viewer: Viewer, request_bytes: bytes) -> None:
        answer = raw(viewer, request_bytes)
        assert not answer.startswith(b"HTTP/1.1 200") and b"Traceback" not in answer
        assert ask(viewer, "scene.json")[0] == 200, "it goes on"

    def test_a_body_is_not_read_as_a_request(self, viewer: Viewer) -> None:
        second = f"GET /{viewer.token}/scene.json HTTP/1.1\r\nHost: 127.0.0.1:{viewer.port}\r\n\r\n"
        first = (
            f"GET /{viewer.token}/ HTTP/1.1\r\nHost: 127.0.0.1:{viewer.port}\r\nContent-Length: {len(second)}\r\n\r\n"
        )
        answer = raw(viewer, (first + second).encode())
        assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1") == 1

    def test_it_listens_on_loopback_only(self, viewer: Viewer) -> None:
        assert viewer._server.socket.getsockname()[0] == "127.0.0.1"

    def test_a_port_that_is_taken(self, viewer: Viewer, bundle: Path) -> None:
        with pytest.raises(UsageError, match=f"port {viewer.port}: .*--port 0"):
            Viewer(moving(1), port=viewer.port, bundle=bundle)
        with pytest.raises(UsageError, match="port 70000"):
            Viewer(moving(1), port=70000, bundle=bundle)

    def test_no_frames(self, bundle: Path) -> None:
        with pytest.raises(UsageError, match="no frames"):
            Viewer(Source([]), name="x", bundle=bundle)
