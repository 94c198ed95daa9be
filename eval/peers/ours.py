"""Our own codecs, under the same contract as their peers: whole files, container and all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ... import __version__
from ...codecs.base.codec import Codec
from ...codecs.base.settings import Setting as Declared
from ...codecs.base.settings import count, not_negative, positive
from ...codecs.base.weights import manifests
from ...errors import WeightsError
from ...media.audio.values import Audio as Sound
from ...media.audio.values import to_float
from ...media.video.values import Frame, VideoInfo, frames_of, stack, to_yuv420
from ...registry import entry, load_class, names
from ..bench.contract import Audio, Family, Medium, Option, OptionValue, Peer, Video

__all__ = ["families", "to_420"]

_MEDIA: Mapping[str, Medium] = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "array": "array",
    "field": "array",
}


def to_420(value: Video) -> tuple[VideoInfo, list[Frame]]:
    """A video as a stream of 4:2:0 frames, which is what the videos that there are were once."""
    rgb, frames = frames_of(value.frames, value.fps)
    info = replace(rgb, pixels="yuv420p")
    return info, [replace(frame, planes=to_yuv420(frame.planes[0], info)) for frame in frames]


class _OurVideo:
    """One of our video codecs. Frames become 4:2:0 first, as with the other video codecs here."""

    def __init__(self, codec: Codec) -> None:
        self.codec: Any = codec

    def encode(self, value: Video) -> bytes:
        return self.codec.compress(to_420(value))

    def decode(self, data: bytes) -> Video:
        with self.codec.open_file(data) as file:
            return Video(stack(file.info, file.frames()), file.info.frame_rate)


class _OurSound:
    """One of our codecs of sound. Samples come as floats, time first, as the media layer has them."""

    def __init__(self, codec: Codec) -> None:
        self.codec: Any = codec

    def encode(self, value: Audio) -> bytes:
        return self.codec.compress(Sound.from_array(np.ascontiguousarray(value.samples.T), value.rate))

    def decode(self, data: bytes) -> Audio:
        sound: Sound = self.codec.decompress(data)
        return Audio(np.ascontiguousarray(to_float(sound.samples, sound.info.bits).T), sound.info.rate)


class _Ours:
    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def encode(self, value: Any) -> bytes:
        return self.codec.compress(value)

    def decode(self, data: bytes) -> Any:
        return self.codec.decompress(data)


_WRAPPERS: Mapping[str, Callable[[Codec], Peer]] = {"video": _OurVideo, "audio": _OurSound}


def families() -> tuple[Family, ...]:
    """A family for every codec in the registry whose medium is measured. Its options: the tag of the weights, the
    quality (0: the default of the weights), and what its card declares besides."""
    return tuple(_family(name) for name in names() if entry(name).medium in _MEDIA)


def _family(name: str) -> Family:
    cls, card = load_class(name), entry(name)
    tags = tuple(getattr(cls, "presets", dict)()) or tuple(item.tag for item in manifests(name) if not item.retired)
    options = {"q": Option(0, "quality, 1 to 100; 0: what the weights were made for", 0, 100)}
    if tags:
        options = {"tag": Option("", "weights; default: the codec's choice", choices=("", *tags))} | options
    declared = {setting.name: option for setting in card.settings if (option := _option(setting, cls)) is not None}
    options |= declared

    def make(settings: Mapping[str, OptionValue], threads: int) -> Peer:
        del threads  # torch's, which the runner sets
        tag, quality = str(settings.get("tag", "")), float(settings["q"])
        codec: Codec = Codec.load(f"{name}@{tag}" if tag else name, quality=quality or None)
        given = {key: settings.get(key, option.default) for key, option in declared.items()}
        changes = {key: value for key, value in given.items() if value != declared[key].default}
        codec = codec.with_settings(**changes) if changes else codec
        return _WRAPPERS.get(card.medium, _Ours)(codec)

    def versions() -> Mapping[str, str]:
        shipped = [item for item in manifests(name) if not item.retired]
        weights = " ".join(f"{item.tag}{'*' * item.default}={item.id.hex()[:8]}" for item in shipped)
        return {"codec-suite": __version__, name: f"stream {cls.stream}" + (f", weights {weights}" if weights else "")}

    return Family(
        name=name,
        medium=_MEDIA[card.medium],
        about=card.summary,
        options=options,
        make=make,
        axis="q",
        sweep=tuple(getattr(cls, "sweep", ())),
        missing=_missing(name),
        versions=versions,
    )


def _option(setting: Declared, cls: type[Codec]) -> Option | None:
    """The option of a declared setting that a codec string can name: coders, the bit rate of sound, and numbers that
    aren't a rate or a bound, of which -1 stands for the codec's own choice."""
    if setting.name == "coder":
        return Option("", "entropy coder; default: the codec's choice", choices=("", *getattr(cls, "coders", ())))
    if setting.name == "kbps":
        return Option(0.0, f"{setting.help}; 0: the quality decides", 0, 1000)
    if setting.rivals is None and setting.command and setting.parse in (count, positive, not_negative):
        default = -1 if setting.parse is count else -1.0  # says whether a codec string may give a fraction
        return Option(default, f"{setting.help}; -1: the codec's choice", -1, 1000)
    return None


def _missing(name: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        try:
            manifests(name)
        except WeightsError as error:
            return str(error)
        return None

    return missing
