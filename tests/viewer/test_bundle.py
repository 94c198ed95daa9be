"""Fetching the renderer, with a stand-in for npm: only what is pinned is kept, whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest

from codec.errors import MediaError, UsageError
from codec.viewer import bundle
from codec.viewer.bundle import FILES, PACKAGES, Package


def archive(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def pinned(name: str, data: bytes, **files: str) -> Package:
    integrity = base64.b64encode(hashlib.sha512(data).digest()).decode()
    return Package(name, "1.2.3", integrity, {key.replace("_", "."): value for key, value in files.items()})


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that does as `npm pack` does with two packages, which are the ones that are pinned."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    data = {"@a/b": archive({"x/y.js": b"ab", "LICENSE": b"MIT", "more.js": b"-"}), "c": archive({"c.js": b"c"})}
    (shelf / "a-b-1.2.3.tgz").write_bytes(data["@a/b"])
    (shelf / "c-1.2.3.tgz").write_bytes(data["c"])
    packages = (pinned("@a/b", data["@a/b"], y_js="x/y.js", LICENSE_txt="LICENSE"), pinned("c", data["c"], c_js="c.js"))
    monkeypatch.setattr(bundle, "PACKAGES", packages)
    monkeypatch.setattr(bundle, "FILES", ("y.js", "LICENSE.txt", "c.js"))
    program = tmp_path / "npm"
    program.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys\n"
        "assert sys.argv[1:5] == ['pack', '--silent', '--ignore-scripts', '--pack-destination'], sys.argv\n"
        "name = sys.argv[6].removeprefix('@').replace('/', '-').replace('@', '-') + '.tgz'\n"
        f"source = pathlib.Path({str(shelf)!r}, name)\n"
        "if not source.exists():\n"
        "    sys.exit('npm error code ENOTFOUND')\n"
        "shutil.copy(source, sys.argv[5])\n"
    )
    program.chmod(0o755)
    return program


def test_what_is_kept(npm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "dist"
    assert not bundle.bundled(folder)
    assert bundle.fetch(folder, str(npm)) == folder
    assert bundle.bundled(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "versions.txt"} == {
        "y.js": b"ab",
        "LICENSE.txt": b"MIT",
        "c.js": b"c",
    }
    assert bundle.fetch(folder, str(npm)) == folder, "again"
    (folder / "c.js").unlink()
    assert not bundle.bundled(folder)


def test_another_archive_is_refused(npm: Path, tmp_path: Path) -> None:
    (tmp_path / "shelf" / "c-1.2.3.tgz").write_bytes(archive({"c.js": b"evil"}))
    with pytest.raises(MediaError, match="c@1.2.3 is not the archive that is pinned"):
        bundle.fetch(tmp_path / "dist", str(npm))
    assert not (tmp_path / "dist").exists()


def test_no_network(npm: Path, tmp_path: Path) -> None:
    (tmp_path / "shelf" / "a-b-1.2.3.tgz").unlink()
    with pytest.raises(MediaError, match="npm pack @a/b@1.2.3 failed: npm error code ENOTFOUND"):
        bundle.fetch(tmp_path / "dist", str(npm))


def test_no_npm(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"npm is missing.*install Node.js"):
        bundle.fetch(tmp_path / "dist", str(tmp_path / "npm"))


def test_an_archive_without_a_file(npm: Path) -> None:
    data = archive({"other.js": b""})
    with pytest.raises(MediaError, match="no file package/c.js"):
        bundle.files_of(pinned("c", data, c_js="c.js"), data)


def test_links_are_no_files(npm: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo("package/c.js")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(MediaError, match="no file package/c.js"):
        bundle.files_of(pinned("c", file.getvalue(), c_js="c.js"), file.getvalue())


def test_other_versions_are_not_taken(npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle.fetch(tmp_path / "dist", str(npm))
    monkeypatch.setattr(bundle, "_PINS", "three 0.1\n")
    assert not bundle.bundled(folder)


def test_a_missing_bundle_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle, "PACKAGE", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match="codec view --setup"):
        bundle.find()
    assert bundle.fetched_to() == tmp_path / "cache" / "codec-suite" / "viewer"
    (tmp_path / "pyproject.toml").touch()
    assert bundle.fetched_to() == tmp_path / "viewer" / "dist"


def test_every_package_comes_with_its_licence() -> None:
    assert all(any("LICENSE" in path for path in package.files.values()) for package in PACKAGES)
    assert len(set(FILES)) == len(FILES)
