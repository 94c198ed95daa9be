"""The table of verbs, their help, and those that have no test file of their own: list, train, demo."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from codec import cli, media
from codec.cli import parser, verbs
from codec.files import PACKAGE

from .helpers import picture, run

pytestmark = pytest.mark.usefixtures("toy")


class TestHelp:
    @pytest.mark.parametrize("command", [None, *verbs.VERBS])
    def test_help_shows_three_examples(self, command: str | None, capfd: pytest.CaptureFixture[str]) -> None:
        assert run(*filter(None, [command, "--help"])) == 0
        text = capfd.readouterr().out
        examples = [line for line in text.partition("examples:\n")[2].splitlines() if line.startswith("  c")]
        assert len(examples) == 3
        assert max(map(len, text.splitlines())) <= 110

    def test_examples_parse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What --help shows can be typed."""
        monkeypatch.undo()  # the toy has few settings
        texts = [parser.EXAMPLES, *(verbs.load(verb).EXAMPLES for verb in verbs.VERBS)]
        lines = [line.strip() for text in texts for line in text.splitlines() if line.startswith("  codec ")]
        assert len(lines) > 15
        for line in lines:
            usage = re.split(r"\s{2,}| [<>|]", line)[0]
            parser.build_parser().parse_args(shlex.split(usage)[1:])


class TestTable:
    """Only the verb that is called is imported, and nobody imports what is heavy to show a help."""

    CODE = """
import sys
from codec.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
from codec.cli.verbs import VERBS
print(*[verb for verb in VERBS if f"codec.cli.{verb}" in sys.modules], sep=",", file=sys.stderr)
print(*[name for name in ("numpy", "PIL", "torch", "rich") if name in sys.modules], sep=",", file=sys.stderr)
"""

    @pytest.mark.parametrize("words", ["--help", "--version", "list", *(f"{verb} --help" for verb in verbs.VERBS)])
    def test_lazy(self, words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-P", "-c", self.CODE, *words.split()], capture_output=True, text=True, check=True
        )
        verb = words.split()[0] if words.split()[0] in verbs.VERBS else ""
        assert done.stdout
        assert done.stderr == f"{verb}\n\n"

    @pytest.mark.parametrize("verb", verbs.VERBS)
    def test_modules(self, verb: str) -> None:
        module = verbs.load(verb)
        assert module.__name__ == f"codec.cli.{verb}"
        assert module.EXAMPLES.startswith("examples:\n")
        assert callable(module.add_options)
        assert callable(module.run)

    def test_main_stays_itself(self) -> None:
        """Submodules are names in their package: none may take the place of `main`."""
        for verb in verbs.VERBS:
            verbs.load(verb)
        assert callable(cli.main)
        assert cli.main(["--version"]) == 0

    def test_as_a_module(self) -> None:
        done = subprocess.run([sys.executable, "-P", "-m", "codec.cli", "list"], capture_output=True, check=True)
        assert b"s2lic" in done.stdout

    @pytest.mark.parametrize("words", [("data", "cube", "-o", "x"), ("bench", "--medium", "cube", "x")])
    def test_a_wrong_choice_is_no_wrong_verb(self, words: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
        assert run(*words) == 2
        err = capfd.readouterr().err
        assert "invalid choice: 'cube'" in err
        assert "no command" not in err


def test_python_m_codec() -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "codec", "--version"], capture_output=True, check=True)
    assert done.stdout.decode().strip() == cli.command.__version__


def test_list(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    assert capfd.readouterr().out.split()[:3] == ["toy*", "image", ".toy"], "the star marks defaults"
    assert run("list", "--json") == 0
    assert json.loads(capfd.readouterr().out)["default"] is True


class TestTrain:
    def test_arguments_arrive(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        calls: list[object] = []

        def main(*args: object, **options: object) -> Path:
            calls.append((args, options))
            return Path("runs/x")

        monkeypatch.setitem(sys.modules, "codec.train.run", SimpleNamespace(main=main))
        monkeypatch.setattr("codec.train.run", SimpleNamespace(main=main), raising=False)
        assert run("train", "walloc", "--recipe", "small", "--resume", "--out", "here", "--steps", "7") == 0
        options = {"data": None, "out": "here", "resume": True, "steps": 7, "device": "auto"}
        options |= {"devices": 1, "nodes": 1}
        assert calls == [(("walloc", "small"), options)]
        assert capfd.readouterr().out == "runs/x\n"

    def test_missing_extra(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        monkeypatch.delitem(sys.modules, "codec.train.run", raising=False)
        monkeypatch.delattr("codec.train.run", raising=False)
        monkeypatch.setitem(sys.modules, "yaml", None)
        assert run("train", "walloc", "--recipe", "small") == 2
        assert "codec-suite[train]" in capfd.readouterr().err

    def test_missing_extra_that_is_imported_late(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def main(*_: object, **__: object) -> Path:
            raise ModuleNotFoundError("No module named 'lightning'", name="lightning")

        monkeypatch.setitem(sys.modules, "codec.train.run", SimpleNamespace(main=main))
        monkeypatch.setattr("codec.train.run", SimpleNamespace(main=main), raising=False)
        assert run("train", "walloc", "--recipe", "small") == 2
        assert "training needs lightning: pip install 'codec-suite[train]'" in capfd.readouterr().err


class TestDemo:
    def test_files_and_numbers(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("demo", "--picture", picture(tmp_path / "photo.png"), "-o", tmp_path / "out", "--json") == 0
        report = json.loads(capfd.readouterr().out)
        assert report["bytes"] == (tmp_path / "out" / "photo.toy").stat().st_size
        assert report["psnr_db"] is None, "infinite, for which JSON has no number"
        assert report["jpeg_bytes"] == (tmp_path / "out" / "photo-equal-size.jpg").stat().st_size
        with Image.open(report["sheet"]) as sheet:
            assert sheet.width == 3 * 13 + 2 * 4

    def test_words(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("demo", "-o", tmp_path / "out") == 0
        out = capfd.readouterr().out
        for word in ("bytes", "bpp", "dB PSNR", "encoded in", "JPEG", "side-by-side.png"):
            assert word in out
        assert run("demo", "-o", tmp_path / "out", "--picture", tmp_path / "none.png") == 1

    def test_never_overwrites_what_is_named(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        photo, out = picture(tmp_path / "photo.png"), tmp_path / "out"
        out.mkdir()
        (out / "side-by-side.png").write_bytes(b"precious")
        assert run("demo", "--picture", photo, "-o", out) == 2
        assert "--force" in capfd.readouterr().err
        assert [(p.name, p.read_bytes()) for p in out.iterdir()] == [("side-by-side.png", b"precious")]
        assert run("demo", "--picture", photo, "-o", out, "--force") == 0
        assert sorted(p.name for p in out.iterdir()) == [
            "photo-equal-size.jpg",
            "photo-toy.png",
            "photo.toy",
            "side-by-side.png",
        ]
        assert (out / "side-by-side.png").read_bytes() != b"precious"

    def test_the_default_folder_is_replaced_but_never_the_picture(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        photo = picture(tmp_path / "photo.png")
        assert run("demo", "--picture", photo) == 0
        assert run("demo", "--picture", photo) == 0
        sheet = tmp_path / "demo-out" / "side-by-side.png"
        before = sheet.read_bytes()
        assert run("demo", "--picture", sheet) == 2
        assert sheet.read_bytes() == before

    @pytest.mark.parametrize("n_bytes", [5000, 20000, 60000])
    def test_jpeg_is_the_largest_that_fits(self, n_bytes: int) -> None:
        from codec.cli.demo import SAMPLE, jpeg_of_size

        with Image.open(SAMPLE) as sample:
            image = sample.convert("RGB").resize((288, 288))
        data, quality = jpeg_of_size(image, n_bytes)
        larger = io.BytesIO()
        image.save(larger, "JPEG", quality=quality + 1, optimize=True)
        assert len(data) <= n_bytes < larger.tell()
        same = io.BytesIO()
        image.save(same, "JPEG", quality=quality, optimize=True)
        assert same.getvalue() == data

    def test_psnr(self) -> None:
        from codec.media.distortion import psnr

        a = np.zeros((4, 4, 3), np.uint8)
        assert psnr(a, a) == float("inf")
        assert psnr(a, a + 5) == pytest.approx(34.1514, abs=1e-3)


class _SaidByCode(ast.NodeTransformer):
    """A module without its docstrings and EXAMPLES, which may say "photo"."""

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if ast.unparse(node.targets[0]) == "EXAMPLES" else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if isinstance(node.value, ast.Constant) else node


@pytest.mark.parametrize("module", ["encode", "decode", "verify", "info", "coding", "jobs", "parser", "view"])
def test_the_command_names_no_medium_and_no_codec(module: str) -> None:
    """What differs between media is said by cards, bases and `media`: a new medium adds nothing to the command."""
    tree = ast.parse(Path(verbs.__file__).with_name(f"{module}.py").read_text())
    code = ast.unparse(_SaidByCode().visit(tree)).lower()
    families = {place.name for place in (PACKAGE / "codecs").iterdir() if (place / "__init__.py").exists()}
    names = (families | {*media.MEDIA, "picture", "hdf5", "png", "h5"}) - {"base", "layers"}
    assert {"s2lic", "nirvana", "video", "field"} <= names
    assert not {name for name in names if re.search(rf"(?<![a-z]){name}s?(?![a-z])", code)}


class TestDryRun:
    def test_of_a_picture(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", picture(tmp_path / "a.png"), "--dry-run") == 0
        assert "nothing is written" in capfd.readouterr().err
        assert os.listdir(tmp_path) == ["a.png"]
