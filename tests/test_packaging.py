"""The root of the checkout is the package: what keeps that sound with pip, pytest and other people's imports."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import codec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
NOT_SHIPPED = {"tests", "docs", "build", "dist"}
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
# Packages that a plain import would find from the root. `codecs` is the standard library's, which is there first.
GUARDED = sorted({file.parent.name for file in ROOT.glob("*/__init__.py")} - {"codecs"})


def shipped_folders() -> list[Path]:
    """The root and every folder of the checkout that is not hidden, not tests, and not made by a build."""
    found = [ROOT]
    for parent, folders, _ in os.walk(ROOT):
        top = Path(parent) == ROOT
        folders[:] = [
            f
            for f in folders
            if not f.startswith((".", "__")) and not f.endswith(".egg-info") and not (top and f in NOT_SHIPPED)
        ]
        found += [Path(parent, f) for f in folders]
    return found


def dotted(path: Path) -> str:
    """codecs/base/image.py -> codec.codecs.base.image; the root -> codec."""
    parts = path.relative_to(ROOT).parts
    return ".".join(("codec", *(p.removesuffix(".py") for p in parts if p != "__init__.py")))


def package_files() -> list[Path]:
    return sorted(file for folder in shipped_folders() for file in folder.glob("*.py"))


def python(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


class TestPackageList:
    def test_equals_the_folders(self) -> None:
        with_code = {dotted(folder) for folder in shipped_folders() if any(folder.glob("*.py"))}
        assert sorted(SETUPTOOLS["packages"]) == sorted(with_code)

    def test_every_package_has_an_init(self) -> None:
        missing = [f for f in shipped_folders() if any(f.glob("*.py")) and not (f / "__init__.py").is_file()]
        assert not missing, "a folder without __init__.py is left out of the wheel by include-package-data = false"

    def test_data_files_match_a_pattern(self) -> None:
        """A weights file or recipe that no pattern names would be missing from the wheel."""
        patterns = [
            str(Path(*package.split(".")[1:], pattern))
            for package, names in SETUPTOOLS["package-data"].items()
            for pattern in names
        ]
        data = [
            str(file.relative_to(ROOT))
            for folder in ("samples", "weights", "train/recipes", "eval/report/assets", "eval/reproduce", "viewer/page")
            for file in (ROOT / folder).rglob("*")
            if file.is_file() and not file.name.startswith(".") and file.suffix not in (".py", ".pyc")
        ]
        assert data
        assert not [name for name in data if not any(fnmatch.fnmatch(name, p) for p in patterns)]


class TestRequirements:
    def test_every_requirement_is_pinned(self) -> None:
        lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
        pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}
        extras = [r for rs in EXTRAS.values() for r in rs]
        for text in PYPROJECT["project"]["dependencies"] + extras:
            requirement = Requirement(text)
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if name != PYPROJECT["project"]["name"]:
                assert name in pins, f"{name} is not in constraints.txt"
                assert requirement.specifier.contains(pins[name]), f"{text}, but constraints.txt has {pins[name]}"

    @pytest.mark.parametrize("name", ["lightning", "pytorch-lightning"])
    def test_malicious_lightning_is_excluded(self, name: str) -> None:
        """It is published under two names, and asking for the first doesn't keep a bad release of the second away."""
        (lightning,) = (r for r in map(Requirement, EXTRAS["train"]) if r.name == name)
        assert not any(lightning.specifier.contains(bad) for bad in ("2.6.2", "2.6.3"))

    @pytest.mark.parametrize(("name", "bad"), [("av", "17.0.1"), ("h5py", "3.15.1"), ("pillow", "12.1.1")])
    def test_releases_with_known_holes_are_excluded(self, name: str, bad: str) -> None:
        (requirement,) = (r for r in map(Requirement, PYPROJECT["project"]["dependencies"]) if r.name == name)
        assert not requirement.specifier.contains(bad)

    def test_compressai_is_in_an_extra_of_its_own(self) -> None:
        """It needs NumPy 1: in another extra it would have Python 3.13 compile that from source, for ten minutes."""
        holders = [extra for extra, texts in EXTRAS.items() for text in texts if "compressai" in text]
        assert holders == ["zoo"]
        (compressai,) = map(Requirement, EXTRAS["zoo"])
        assert compressai.marker is not None
        taken = {
            version: compressai.marker.evaluate({"python_version": version}) for version in ("3.12", "3.13", "3.14")
        }
        assert taken == {"3.12": True, "3.13": False, "3.14": False}

    def test_all_is_every_extra(self) -> None:
        (everything,) = map(Requirement, EXTRAS["all"])
        assert everything.extras == set(EXTRAS) - {"all"}

    def test_version_is_the_installed_one(self) -> None:
        assert importlib.import_module("importlib.metadata").version("codec-suite") == codec.__version__


class TestLicences:
    def test_each_weights_file_is_under_a_licence_of_the_wheel(self) -> None:
        """Manifests say `CC BY-SA 4.0`, the metadata of the wheel CC-BY-SA-4.0, weights/LICENSE.md both in a table."""
        expression = set(PYPROJECT["project"]["license"].split(" AND "))
        page = (ROOT / "weights" / "LICENSE.md").read_text(encoding="utf-8")
        table = [
            [cell.strip() for cell in line.split("|")[1:3]] for line in page.splitlines() if line.startswith("| `")
        ]
        rows = [(pattern, licence) for names, licence in table for pattern in re.findall("`([^`]+)`", names)]
        for manifest in (ROOT / "weights").glob("*.json"):
            words = json.loads(manifest.read_text(encoding="utf-8"))["licence"]
            licences = [licence for pattern, licence in rows if fnmatch.fnmatch(manifest.stem, pattern)]
            assert len(licences) == 1, f"{manifest.name} in weights/LICENSE.md"
            name = re.sub(r"^\[(.*)\]\(.*\)$", r"\1", licences[0])
            assert name in words and name.replace(" ", "-") in expression

    def test_their_texts_are_in_the_wheel(self) -> None:
        files = PYPROJECT["project"]["license-files"]
        assert {"LICENSE", "samples/LICENSE.md", "weights/LICENSE.md"} == set(files)
        assert all((ROOT / name).is_file() for name in files)


class TestOneCopy:
    def test_in_this_process(self) -> None:
        """Two names for one file are two copies of every class, and `except CodecError` stops working."""
        for name in ("codec.cli", "codec.container", "codec.registry"):
            importlib.import_module(name)
        tests = ROOT / "tests"
        wrong = {}
        for name, module in list(sys.modules.items()):
            file = Path(getattr(module, "__file__", None) or "/")
            hidden = file.is_relative_to(ROOT) and file.relative_to(ROOT).parts[:1][0].startswith(".")
            ours = file.is_relative_to(ROOT) and not file.is_relative_to(tests) and not hidden
            if ours and name != "__main__" and name != dotted(file):
                wrong[name] = str(file)
        assert not wrong

    def test_the_standard_library_keeps_its_codecs(self) -> None:
        assert importlib.import_module("codecs").lookup("utf-8").name == "utf-8"

    @pytest.mark.parametrize(
        ("cwd", "argument"),
        [(".", "tests/test_packaging.py"), ("tests", "test_packaging.py"), ("tests/codecs", "../test_packaging.py")],
    )
    def test_however_pytest_is_started(self, cwd: str, argument: str) -> None:
        (ROOT / cwd).mkdir(exist_ok=True)
        this = [
            f"{argument}::TestOneCopy::test_in_this_process",
            f"{argument}::TestOneCopy::test_the_standard_library_keeps_its_codecs",
        ]
        done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", *this, cwd=ROOT / cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 passed" in done.stdout


class TestImports:
    @pytest.mark.parametrize("command", ["list", "list --json", "--help", "encode --help", "--version"])
    def test_command_line_starts_light(self, command: str) -> None:
        code = (
            "import sys\nfrom codec.cli import main\n"
            "try:\n    main(sys.argv[1:])\nexcept SystemExit as e:\n    assert not e.code\n"
            "heavy = {'torch', 'numpy', 'rich', 'PIL', 'av', 'h5py', 'lightning', 'cbor2'} & set(sys.modules)\n"
            "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
        )
        done = python("-c", code, *command.split())
        assert done.returncode == 0, done.stderr
        assert done.stdout

    @pytest.mark.parametrize("command", ["list", "--help"])
    def test_command_line_answers_at_once(self, command: str) -> None:
        """Under 0.2 s. CPU time, best of three: the wall clock of a busy machine measures its other work."""
        script = Path(sys.executable).with_name("codec")
        seconds = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([script, command], check=True, capture_output=True, timeout=60)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert min(seconds) < 0.2

    def test_the_package_itself_is_light(self) -> None:
        done = python("-c", "import codec, sys; dir(codec); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)")
        assert done.returncode == 0

    @pytest.mark.parametrize("name", GUARDED)
    def test_refuses_to_stand_in_for_another_package(self, name: str) -> None:
        done = python("-c", f"import {name}", cwd=ROOT)
        assert done.returncode == 1
        assert f"`{name}` is here a folder of a codec-suite checkout: use codec.{name}" in done.stderr
        assert python("-c", f"import codec.{name}", cwd=ROOT).returncode == 0

    def test_coding_never_imports_training(self) -> None:
        done = python("-c", "import codec, sys; codec.Codec; sys.exit('lightning' in sys.modules)")
        assert done.returncode == 0, done.stderr


# What a folder may not import: arrows point down the table of folders in the design.
FORBIDDEN = {
    "codec.errors": {"container", "media", "entropy", "codecs", "datasets", "train", "eval"},
    "codec.files": {"container", "media", "entropy", "codecs", "datasets", "train", "eval"},
    "codec.container": {"media", "entropy", "codecs", "datasets", "train", "eval"},
    "codec.media.image": {"container", "entropy", "codecs", "datasets", "train", "eval"},
    "codec.entropy": {"container", "media", "codecs", "datasets", "train", "eval", "lightning"},
    "codec.codecs": {"datasets", "train", "eval", "cli", "lightning", "pytorch_lightning"},
    "codec.datasets": {"codecs", "entropy", "train", "eval"},
    "codec.eval": {"train", "lightning"},
}
UNSAFE = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# Published weights of CompressAI and EfficientNet-Lite0, and our own checkpoints: torch reads tensors only
# (weights_only=True, checked below).
EXCEPTIONS = {
    ("codec.eval.peers.zoo", "torch.load"),
    ("codec.train.checkpoints", "torch.load"),
    ("codec.codecs.layers.extractors", "torch.load"),
}
UNSAFE_CALLS = {"np.load", "numpy.load", "torch.load", "eval", "exec", "yaml.load"}


@pytest.mark.parametrize("file", package_files(), ids=lambda f: str(f.relative_to(ROOT)))
class TestSource:
    def test_imports(self, file: Path) -> None:
        tree, here = ast.parse(file.read_text(encoding="utf-8")), dotted(file)
        package = here if file.name == "__init__.py" else here.rpartition(".")[0]
        typing_only = {
            id(node)
            for branch in ast.walk(tree)
            if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
            for node in ast.walk(branch)
        }
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                names = [f"{base}.{node.module}"] if node.module else [f"{base}.{alias.name}" for alias in node.names]
            for name in names:
                top = name.split(".")[0]
                if isinstance(node, ast.Import) or not getattr(node, "level", 0):
                    assert top != "codec", f"line {getattr(node, 'lineno', 0)}: imports inside the package are relative"
                assert top not in UNSAFE, f"{name} runs code from data"
                if id(node) in typing_only:
                    continue
                for owner, forbidden in FORBIDDEN.items():
                    if here == owner or here.startswith(f"{owner}."):
                        what = name.split(".")[1] if top == "codec" and "." in name else top
                        assert what not in forbidden or name.startswith(owner), f"{here} imports {name}"

    def test_opens_with_a_docstring_and_runs_nothing_unsafe(self, file: Path) -> None:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if tree.body:
            assert ast.get_docstring(tree), "a module says what it is"
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if (dotted(file), name) in EXCEPTIONS:
                    assert any(key.arg == "weights_only" and ast.unparse(key.value) == "True" for key in node.keywords)
                    continue
                assert name not in UNSAFE_CALLS, f"line {node.lineno}: {name}"
