"""The server of the page: on loopback only, for whoever knows the token in the address.

    /TOKEN/                         the page; its scripts and styles lie beside it
    /TOKEN/scene.json               what there is to play: name, bytes, frames, Gaussians, where to look
    /TOKEN/frames/12                the message of frame 12, see `frames`
    /TOKEN/frames/12/harmonics      the same with its harmonics

Only GET and HEAD, only these paths: nothing of an address ever becomes a path of the disk. A Host that isn't this
server is refused, since a page of somebody else can give its own name our address (DNS rebinding), and so is a request
that a browser says another site makes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import CodecError, UsageError
from ..files import PACKAGE
from .bundle import SCRIPTS, find
from .frames import Frames, Playable, bounds_of

__all__ = ["BACKGROUNDS", "UPS", "Viewer"]

BACKGROUNDS = ("white", "black")
UPS = ("y-down", "y", "z")  # the direction that is up; y-down is that of the usual captures
LOOPBACK = "127.0.0.1"
_SECONDS = 30  # that a connection may do nothing
_PAGE = PACKAGE / "viewer" / "page"
_KINDS = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
    }
)
_PAGE_FILES = ("index.html", "page.css", "page.js", "player.js", "stage.js")
_FRAME = re.compile(r"frames/(0|[1-9][0-9]{0,8})(/harmonics)?")
_BINARY = "application/octet-stream"


@dataclass(frozen=True)
class _Answer:
    status: HTTPStatus
    kind: str
    body: bytes


class Viewer:
    """A server of one source, which listens from the start. A context manager; `serve` answers until it is ended.

    name, n_bytes: of the file, for the page. port: 0 for one that is free. bundle: the folder of the renderer, by
    default the one that `bundle.find` gives. UsageError if the renderer is missing or the port is taken.
    """

    def __init__(
        self,
        source: Playable,
        *,
        name: str = "",
        n_bytes: int | None = None,
        port: int = 0,
        background: str = "white",
        up: str | None = None,
        bundle: Path | None = None,
    ) -> None:
        self.files = _files(find() if bundle is None else bundle)
        self.token = secrets.token_urlsafe(16)
        self.frames = Frames(source)
        self.policy = _policy(self.files["index.html"].body)
        self.files["scene.json"] = _json(HTTPStatus.OK, _scene(self.frames, name, n_bytes, background, up))
        try:
            self._server = _Server(self, port)
        except (OSError, OverflowError) as error:
            words = getattr(error, "strerror", None) or error
            raise UsageError(f"port {port}: {words}; --port 0 takes one that is free") from None
        self.port: int = self._server.server_address[1]

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{LOOPBACK}:{self.port}/{self.token}/"

    def serve(self) -> None:
        """Answer requests until another thread calls `close`, or KeyboardInterrupt."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop answering, and give the port back."""
        self._server.server_close()

    def stop(self) -> None:
        """End `serve`, which runs in another thread."""
        self._server.shutdown()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, path: str) -> _Answer:
        """The answer to a path without its query."""
        _, token, *rest = path.split("/", 2)
        if not rest or not hmac.compare_digest(token.encode(), self.token.encode()):
            return _words(HTTPStatus.NOT_FOUND, "not found: the address has a token, take it from the terminal")
        name = rest[0] or "index.html"
        if name in self.files:
            return self.files[name]
        frame = _FRAME.fullmatch(name)
        if frame is None or int(frame[1]) >= self.frames.source.n_frames:
            return _words(HTTPStatus.NOT_FOUND, "not found")
        number = int(frame[1])
        try:
            body = self.frames.harmonics(number) if frame[2] else self.frames.words(number)
        except (CodecError, OSError) as error:
            return _words(HTTPStatus.INTERNAL_SERVER_ERROR, f"frame {number}: {error}")
        return _Answer(HTTPStatus.OK, _BINARY, body)


def _files(bundle: Path) -> dict[str, _Answer]:
    """Everything that the page is made of, in memory, by the name of its address."""
    paths = [*(_PAGE / name for name in _PAGE_FILES), *(bundle / name for name in SCRIPTS)]
    return {path.name: _Answer(HTTPStatus.OK, _KINDS[path.suffix], path.read_bytes()) for path in paths}


def _policy(page: bytes) -> str:
    """The content security policy of a page: its own files, its one inline script, and what Spark's workers need."""
    (script,) = re.findall(rb'<script type="importmap">(.*?)</script>', page, re.S)
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}' 'wasm-unsafe-eval'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self' data:; worker-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _scene(frames: Frames, name: str, n_bytes: int | None, background: str, up: str | None) -> Mapping[str, Any]:
    """The facts about a source that the page begins with."""
    source = frames.source
    if source.n_frames < 1:
        raise UsageError(f"{name}: no frames to show")
    first = frames.frame(0)
    bounds = bounds_of(first)
    own = getattr(source, "up", None)
    return {
        "name": name,
        "bytes": n_bytes,
        "frames": source.n_frames,
        "fps": source.fps or 25.0,
        "count": len(first),
        "degree": first.degree,
        "centre": bounds.centre,
        "radius": bounds.radius,
        "background": background,
        "up": up or (own if own in UPS else UPS[0]),
    }


def _json(status: HTTPStatus, value: Mapping[str, Any]) -> _Answer:
    return _Answer(status, _KINDS[".json"], json.dumps(value).encode())


def _words(status: HTTPStatus, words: str) -> _Answer:
    return _Answer(status, "text/plain; charset=utf-8", words.encode("utf-8", "replace"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a frame that is being decoded doesn't hold up Ctrl-C
    block_on_close = False

    def __init__(self, viewer: Viewer, port: int) -> None:
        self.viewer = viewer
        super().__init__((LOOPBACK, port), _Handler)

    def server_bind(self) -> None:
        """Bind without looking up a name for the address, which can take seconds."""
        if hasattr(socket, "SO_REUSEADDR"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that closes a connection is no fault."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS
    server: _Server
    server_version, sys_version = "codec", ""
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        viewer = self.server.viewer
        if (refusal := self._refusal()) is not None:
            self._send(refusal)
        else:
            self._send(viewer.answer(self.path.partition("?")[0]))

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self.close_connection = True  # a body may follow, which nobody reads
        self._send(_words(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD"))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _refusal(self) -> _Answer | None:
        """The answer to a request that doesn't come from this server's own page."""
        port = self.server.viewer.port
        hosts = {f"{name}:{port}" for name in (LOOPBACK, "localhost")}
        origins = {f"http://{host}" for host in hosts}
        if self.headers.get_all("Host", []) not in [[host] for host in hosts]:
            self.close_connection = True
            return _words(
                HTTPStatus.MISDIRECTED_REQUEST, "this server has another name: take the address from the terminal"
            )
        site = self.headers.get("Sec-Fetch-Site", "none")
        if self.headers.get("Origin") not in {None, *origins} or site not in ("none", "same-origin"):
            return _words(HTTPStatus.FORBIDDEN, "not for other sites")
        if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            return _words(HTTPStatus.BAD_REQUEST, "a request without a body, please")
        return None

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Content-Security-Policy", self.server.viewer.policy)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """An error that the parser of requests finds, in plain words instead of a page."""
        self.close_connection = True
        status = HTTPStatus(code)
        self._send(_words(status, message or status.phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to whoever started the viewer."""
