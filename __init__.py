"""Neural codecs for images and more, behind one file format, one command and one call.

    from codec import Codec

    data = Codec.load("walloc").compress(image)      # PIL, NumPy (H, W, 3) uint8, torch (3, H, W) in [0, 1], or a path
    image = Codec.load("walloc").decompress(data)    # the same kind

Importing this package imports neither torch nor NumPy: the names below are looked up when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .codecs.base.codec import Codec, decode
    from .codecs.base.image import ImageCodec
    from .codecs.base.image import open_file as open
    from .container import describe as info
    from .errors import CodecError, ContainerError, MediaError, StreamError, UsageError, WeightsError
    from .media.values import Picture
    from .registry import names

__version__ = "0.1.0"
__all__ = [
    "Codec",
    "CodecError",
    "ContainerError",
    "ImageCodec",
    "MediaError",
    "Picture",
    "StreamError",
    "UsageError",
    "WeightsError",
    "__version__",
    "decode",
    "info",
    "names",
    "open",
]

_LAZY = {
    "Codec": ("codecs.base.codec", "Codec"),
    "ImageCodec": ("codecs.base.image", "ImageCodec"),
    "decode": ("codecs.base.codec", "decode"),
    "open": ("codecs.base.image", "open_file"),
    "info": ("container", "describe"),
    "names": ("registry", "names"),
    "Picture": ("media.values", "Picture"),
    **{name: ("errors", name) for name in __all__ if name.endswith("Error")},
}
_MODULES = ("codecs", "container", "errors", "media", "registry")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = getattr(import_module(f".{module}", __name__), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
