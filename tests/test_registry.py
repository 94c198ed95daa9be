"""Names, tags, and what `import codec` may import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from codec import registry
from codec.codecs.base.settings import Card
from codec.errors import UsageError

LIGHT = """
import sys
import codec, codec.registry, codec.errors, codec.container
assert codec.names() == codec.registry.names() and codec.registry.entry("walloc@16x").medium
codec.info, codec.CodecError, codec.__version__, dir(codec)
heavy = {"torch", "numpy", "PIL", "av", "cbor2", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""


def test_import_is_light():
    subprocess.run([sys.executable, "-P", "-c", LIGHT], check=True)


def test_public_names_exist():
    import codec

    for name in codec.__all__:
        assert getattr(codec, name) is not None
        assert name in dir(codec)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        codec.nothing_of_the_kind
    assert codec.registry is registry


def test_names():
    assert "walloc" in registry.names()
    assert registry.names() == tuple(sorted(registry.names()))
    assert set(registry.names("image")) == {n for n in registry.names() if registry.entry(n).medium == "image"}
    assert {"circuit", "interp", "nirvana", "s2lic", "walloc", "zipgan"} <= set(registry.names())
    assert registry.names("smell") == ()


@pytest.mark.parametrize("name", registry.names())
def test_entries_are_complete(name):
    entry = registry.entry(name)
    module, _, attribute = entry.target.partition(":")
    assert module.startswith("codec.codecs.")
    assert attribute.endswith("Codec")
    assert entry.suffix.startswith(".")
    assert entry.summary
    assert len({registry.entry(other).suffix for other in registry.names()}) == len(registry.names())


def test_defaults_are_codecs_of_their_medium():
    defaults = {medium: registry.default(medium) for medium in ("image", "video", "field", "array", "audio")}
    assert defaults == {"image": "s2lic", "video": "nirvana", "field": "interp", "array": None, "audio": None}
    for medium in ("image", "video", "field"):
        assert registry.entry(str(defaults[medium])).medium == medium
        assert sum(registry.entry(name).default for name in registry.names(medium)) == 1


@pytest.mark.parametrize("name", ["waloc", "WaLLoC", "walloc2", "wallok@16x"])
def test_nearest_name_is_offered(name):
    with pytest.raises(UsageError, match="did you mean 'walloc'"):
        registry.entry(name)


def test_far_names_get_the_list():
    with pytest.raises(UsageError, match=r"there are: .*walloc"):
        registry.entry("jpeg")


def test_split_tag():
    assert registry.split_tag("walloc") == ("walloc", None)
    assert registry.split_tag("walloc@16x") == ("walloc", "16x")


@pytest.mark.parametrize("name", ["", "@", "@16x", "walloc@", "a@b@c"])
def test_bad_tags(name):
    with pytest.raises(UsageError, match="name@tag"):
        registry.split_tag(name)


def test_load_class(monkeypatch):
    card = Card("x", "image", ".x", "x", "codec.errors:UsageError")
    monkeypatch.setattr(registry, "_ours", lambda: {"x": card})
    assert registry.load_class("x@tag") is UsageError
