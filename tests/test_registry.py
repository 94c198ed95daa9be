"""Names, tags, cards and the classes behind them, plug-ins, and what `import codec` may import."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from codec import Codec, registry
from codec.codecs.base import base_of
from codec.codecs.base.settings import RESERVED, Card, Setting
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
    defaults = {
        medium: registry.default(medium) for medium in ("image", "video", "field", "array", "audio", "gaussians")
    }
    assert defaults == {
        "image": "s2lic",
        "video": "nirvana",
        "field": "interp",
        "array": "mix",
        "audio": "walloc-audio",
        "gaussians": "dualgs",
    }
    for medium in ("image", "video", "field", "audio", "gaussians"):
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


# ---- cards and classes


@pytest.mark.parametrize("name", registry.names())
def test_class_and_card_agree(name):
    card, family = registry.entry(name), registry.load_class(name)
    assert issubclass(family, Codec)
    assert family.name == card.name == name
    assert family.medium == card.medium
    assert family.settings == card.settings
    assert family.selection == card.selection
    assert issubclass(family, base_of(card))
    assert base_of(card).medium == card.medium
    assert len({setting.name for setting in card.settings}) == len(card.settings)
    assert family.__module__.startswith(tuple("codec.codecs." + name.replace("-", sign) for sign in "._"))


def test_no_card_takes_a_name_that_the_commands_use():
    from codec.cli import decode, encode
    from codec.cli.parser import Parser

    declared = {
        setting.name
        for name in registry.names()
        for setting in (*registry.entry(name).settings, *registry.entry(name).selection)
        if setting.command
    }
    for verb in (encode, decode):
        parser = Parser()
        verb.add_options(parser)
        theirs = {action.dest for action in parser._actions} - declared - {"jobs"}  # which is a setting only in Python
        assert theirs <= RESERVED, "a setting of a plug-in could take these names: reserve them"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Toy"}, "a codec called 'Toy'"),
        ({"name": "a@b"}, "a codec called"),
        ({"name": 3}, "a codec called 3"),
        ({"name": "x" * 33}, "a codec called"),
        ({"medium": "smell"}, "toy is for 'smell'; expected one of image, audio, video, array, field, gaussians, "),
        ({"suffix": "toy"}, "the suffix 'toy'"),
        ({"suffix": ".png"}, "the suffix '.png'; expected one of its own"),
        ({"suffix": ""}, "the suffix ''"),
        ({"target": "codec.ToyCodec"}, "the target"),
        ({"summary": None}, "the summary"),
        ({"settings": ("quality",)}, "expected a Setting"),
        ({"settings": (Setting("output", "x"),)}, "expected a Setting, called otherwise"),
        ({"settings": (Setting("no_sound", "x"),)}, "called otherwise"),
        ({"settings": (Setting("max-error", "x"),)}, "called otherwise"),
        ({"settings": (Setting("level", "x", short="o"),)}, "an option -o"),
        ({"selection": (Setting("tile", "x"),)}, "selects by 'tile'; expected one of"),
    ],
)
def test_cards_that_can_not_be(changes, words):
    good: Any = {"name": "toy", "medium": "image", "suffix": ".toy", "summary": "a toy", "target": "codec:ToyCodec"}
    Card(**good)
    with pytest.raises(ValueError, match=words):
        Card(**{**good, **changes})


class Point(NamedTuple):
    """An entry point of another package."""

    name: str
    module: str
    load: Any


@pytest.fixture
def plug_in(monkeypatch):
    def put(*cards, load=None, module="codec_toy"):
        points = [Point("toy", module, load or (lambda: SimpleNamespace(CARDS=cards)))]
        monkeypatch.setattr(registry, "_announced", lambda: True)
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
        registry._plugins.cache_clear()

    yield put
    monkeypatch.undo()
    registry._plugins.cache_clear()


def toy_card(**changes):
    return Card(**{"name": "toy", "medium": "image", "suffix": ".toy", "summary": "x", "target": ":Toy", **changes})


def smelly():
    return SimpleNamespace(CARDS=(toy_card(medium="smell"),))


@pytest.mark.parametrize(
    ("cards", "load", "reason"),
    [
        ([], smelly, "ValueError: toy is for 'smell'"),
        ([toy_card(suffix=".s2lic")], None, "a codec with the suffix '.s2lic' already"),
        ([toy_card(name="s2lic")], None, "a codec 's2lic' already"),
        ([toy_card(), toy_card()], None, "a codec 'toy' already"),
    ],
)
def test_plug_ins_that_can_not_be(plug_in, cards, load, reason):
    plug_in(*cards, load=load)
    with pytest.warns(RuntimeWarning, match="plug-in 'toy' can't be used"):
        assert reason in registry.broken()["toy"]
    assert ("toy" in registry.names()) == (len(cards) == 2)
    assert registry.entry("s2lic").target == "codec.codecs.s2lic.codec:S2licCodec"


@pytest.mark.parametrize(
    ("target", "module", "full"),
    [
        (":Toy", "codec_toy", "codec_toy:Toy"),
        ("impl:Toy", "codec_toy", "codec_toy.impl:Toy"),
        ("codec_toy:Toy", "codec_toy", "codec_toy:Toy"),
        ("codec_toy.impl:Toy", "codec_toy.cards", "codec_toy.impl:Toy"),
        ("codec:Toy", "codec_toy", "codec_toy.codec:Toy"),
    ],
)
def test_targets(plug_in, target, module, full):
    plug_in(toy_card(target=target), module=module)
    assert registry.entry("toy").target == full


def test_a_class_that_can_not_be_imported_or_used(plug_in):
    plug_in(toy_card(target="no_such_module:Toy"))
    with pytest.raises(UsageError, match=r"plug-in 'toy' can't be used \(ModuleNotFoundError"):
        Codec.load("toy")
    plug_in(toy_card(target="json:Toy"), module="json")
    with pytest.raises(UsageError, match=r"can't be used \(AttributeError"):
        Codec.load("toy")
    for target in ("json:JSONDecoder", "json:loads"):
        plug_in(toy_card(target=target), module="json")
        with pytest.raises(UsageError, match="isn't a class of codec.Codec"):
            Codec.load("toy")


def test_a_medium_that_has_no_base_yet(plug_in, monkeypatch):
    monkeypatch.setattr("codec.codecs.base._BASES", {})
    plug_in(toy_card(medium="gaussians", target="json:JSONDecoder"), module="json")
    assert base_of(registry.entry("toy")) is json.JSONDecoder
    assert registry.names("gaussians") == ("dualgs", "toy")
    assert registry.default("gaussians") == "dualgs"
