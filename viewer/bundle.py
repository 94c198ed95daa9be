"""The renderer of the page: Spark and three.js, as npm publishes them, fetched once in versions that are pinned here.

They are ES modules, so that nothing has to be compiled: `npm pack` brings the archives, their SHA-512 is compared with
the one below, and the few files that the page loads are taken out, with their licences. In a checkout they go to
`viewer/dist`, which `make wheel` ships if it is there; elsewhere to the cache of the user.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import MediaError, UsageError
from ..files import PACKAGE, whole

__all__ = ["COMMAND", "FILES", "PACKAGES", "SCRIPTS", "Package", "bundled", "fetch", "fetched_to", "find"]

COMMAND = "codec view --setup"
_LARGEST = 16 << 20  # bytes of an archive, and of a file in it


@dataclass(frozen=True)
class Package:
    """A package of npm. integrity: base64 of the SHA-512 of its archive. files: our name of each file to its own."""

    name: str
    version: str
    integrity: str
    files: Mapping[str, str]


PACKAGES = (
    Package(
        "@sparkjsdev/spark",
        "2.2.0",
        "wf5F2YAmPXnjm20/MgXYer9FQTXz2JOCo05HwxFkaD7Guk9rHVPIwdJ6fq0oF9ME0heMvYj+TxS6DTrucvy6KA==",
        {"spark.js": "dist/spark.module.min.js", "LICENSE-spark.txt": "LICENSE"},
    ),
    Package(
        "three",
        "0.187.0",
        "Qiu7R+Cmh8CstZsY1uJOSWnVlfo7ZtNLV7mF8Jltk3LB3AtDu9cRZlcnRKkAk8Y4z6KKw35z7Y7Urd7jWY8etA==",
        {
            "three.js": "build/three.module.js",
            "three.core.js": "build/three.core.js",
            "OrbitControls.js": "examples/jsm/controls/OrbitControls.js",
            "Pass.js": "examples/jsm/postprocessing/Pass.js",
            "LICENSE-three.txt": "LICENSE",
        },
    ),
    Package(  # Spark's file holds it
        "fflate",
        "0.8.2",
        "cPJU47OaAoCbg0pBvzsgpTPhmhqI5eJjh/JIu8tPj5q+T7iLvW/JAYUqmE7KOB4R1ZyEhzBaIQpQpardBF5z8A==",
        {"LICENSE-fflate.txt": "LICENSE"},
    ),
)
FILES = tuple(name for package in PACKAGES for name in package.files)
SCRIPTS = tuple(name for name in FILES if name.endswith(".js"))
_PINS = "".join(f"{package.name} {package.version} sha512-{package.integrity}\n" for package in PACKAGES)
_PINNED = "versions.txt"  # in the folder of the files, which of them they are


def fetched_to() -> Path:
    """The folder that `fetch` fills: `viewer/dist` of a checkout, else one in the user's cache."""
    if (PACKAGE / "pyproject.toml").is_file():
        return PACKAGE / "viewer" / "dist"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    return base / "codec-suite" / "viewer"


def bundled(folder: Path) -> bool:
    """Whether a folder holds all files, of the versions that are pinned."""
    try:
        pinned = (folder / _PINNED).read_text(encoding="utf-8") == _PINS
    except (OSError, UnicodeDecodeError):
        return False
    return pinned and all((folder / name).is_file() for name in FILES)


def find() -> Path:
    """The folder with the renderer: the one in the package, else the fetched one. UsageError with what to type."""
    for folder in (PACKAGE / "viewer" / "dist", fetched_to()):
        if bundled(folder):
            return folder
    raise UsageError(f"the viewer needs Spark and three.js, which are not here yet: {COMMAND}")


def fetch(folder: Path | None = None, npm: str = "npm") -> Path:
    """Fetches the pinned packages with npm, checks them and puts their files into the folder, which is returned."""
    folder = fetched_to() if folder is None else folder
    program = shutil.which(npm)
    if program is None:
        raise UsageError(
            "npm is missing, which brings Spark and three.js: install Node.js (Debian, Ubuntu: apt install npm)"
        )
    with tempfile.TemporaryDirectory(prefix="codec-viewer-") as place:
        contents: dict[str, bytes] = {}
        for package in PACKAGES:
            contents |= files_of(package, _archive_of(package, program, Path(place)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _PINNED).unlink(missing_ok=True)  # until all files are there
        for name, data in contents.items():
            with whole(folder / name, replace=True) as file:
                file.write(data)
        with whole(folder / _PINNED, replace=True) as file:
            file.write(_PINS.encode())
    except OSError as error:
        raise MediaError(f"{folder}: {error.strerror or error}") from None
    return folder


def _archive_of(package: Package, npm: str, place: Path) -> bytes:
    """The archive of a package, from the registry that npm is set up for."""
    words = [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(place)]
    spec = f"{package.name}@{package.version}"
    try:
        done = subprocess.run(  # noqa: S603
            [*words, spec], cwd=place, capture_output=True, text=True, errors="replace", timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MediaError(f"npm pack {spec}: {error}") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise MediaError(f"npm pack {spec} failed: {said[0] if said else f'exit code {done.returncode}'}")
    path = place / f"{package.name.removeprefix('@').replace('/', '-')}-{package.version}.tgz"
    try:
        if path.stat().st_size > _LARGEST:
            raise MediaError(f"npm pack {spec}: more than {_LARGEST} bytes")
        return path.read_bytes()
    except OSError as error:
        raise MediaError(f"npm pack {spec} left no archive: {error.strerror or error}") from None


def files_of(package: Package, archive: bytes) -> dict[str, bytes]:
    """The files of a package that the page needs, by our names. MediaError if the archive is not the pinned one."""
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if digest != package.integrity:
        spec = f"{package.name}@{package.version}"
        raise MediaError(f"{spec} is not the archive that is pinned: its SHA-512 is {digest}; nothing was kept")
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:gz") as tar:
            return {name: _member(tar, f"package/{path}") for name, path in package.files.items()}


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        member = tar.getmember(name)
        file = tar.extractfile(member) if member.size <= _LARGEST else None
    except KeyError:
        file = None
    if file is None:
        raise MediaError(f"the archive has no file {name}")
    return file.read()
