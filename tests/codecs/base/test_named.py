"""`Codec.load` is typed by name: the stub that says so is written from the registry.

Written anew by `python -P tests/codecs/base/test_named.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codec import registry
from codec.codecs.base import weights

if TYPE_CHECKING:  # what pyright says of README's lines; `make lint` checks this file
    from typing_extensions import assert_type

    from codec import Codec, ImageCodec
    from codec.codecs.interp.codec import InterpCodec
    from codec.codecs.walloc.codec import WallocCodec

    assert_type(Codec.load("walloc"), WallocCodec)
    assert_type(ImageCodec.load("walloc@16x", quality=40, device="auto"), WallocCodec)
    assert_type(Codec.load("interp").with_settings(max_error=1e-3), InterpCodec)
    Codec.load("walloc").latents("photo.png").integers.shape
    Codec.load("circuit", weights="mine.safetensors").decompress_item(b"", 3).shape

    def of_any_name(name: str) -> None:
        assert_type(Codec.load(name), Codec)
        assert_type(ImageCodec.load(name), ImageCodec)
        with Codec.load(name).to("auto") as codec:
            assert_type(codec, Codec)


STUB = Path(__file__).resolve().parents[3] / "codecs" / "base" / "named.pyi"

HEAD = '''"""`Codec.load` typed by the name of the codec, for type checkers; tests/codecs/base/test_named.py writes it.

Nothing imports this when the package runs: a base knows no family.
"""

from typing import Any, Generic, Literal, TypeVar, overload

from ...files import PathLike
{imports}
from .codec import Codec

C = TypeVar("C", bound=Codec)

class Load(Generic[C]):
    """The codec of this name, with a tag or without: "walloc", "walloc@16x".

    quality: what `compress` uses if it isn't told; None: the family's default. weights: a safetensors file in place of
    the shipped one. device: as torch names it, or "auto", a GPU if there is one. Raises UsageError (a device that can't
    be used too), WeightsError.
    """

'''
ONE = """    @overload
    def __call__(
        self,
        name: {name},
        quality: float | None = None,
        weights: PathLike | None = None,
        device: str = "cpu",
    ) -> {result}: ...
"""
TAIL = """
class LoadByName:
    def __get__(self, instance: object, owner: type[C]) -> Load[C]: ...
"""


def _place_of(line: str) -> str:
    """The module of an import, by which ruff sorts."""
    return line.split()[1]


def stub() -> str:
    """The stub for the codecs that there are, with the tags that ship."""
    imports, parts = [], []
    for name in registry.names():
        module, _, kind = registry.entry(name).target.partition(":")
        presets = getattr(registry.load_class(name), "presets", dict)()
        tags = [*(item.tag for item in weights.manifests(name) if not item.retired), *presets]
        words = ", ".join(f'"{word}"' for word in dict.fromkeys((name, *(f"{name}@{tag}" for tag in tags))))
        imports.append(f"from {module.replace('codec.codecs', '..')} import {kind}".replace("...", ".."))
        parts.append(ONE.format(name=f"Literal[{words}]", result=kind))
    parts.append(ONE.format(name="str", result="C"))
    return (HEAD.format(imports="\n".join(sorted(imports, key=_place_of))) + "".join(parts) + TAIL).replace(
        "import Any, ", "import "
    )


def test_load_is_typed_for_every_name() -> None:
    assert STUB.read_text() == stub(), f"run `python -P {Path(__file__).name}` and commit {STUB.name}"


if __name__ == "__main__":
    STUB.write_text(stub())
    sys.exit(0)
