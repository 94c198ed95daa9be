"""Neural codecs for images, video and scientific fields, behind one file format, one command and one call.

    from codec import Codec

    data = Codec.load("walloc").compress(image)      # PIL, NumPy (H, W, 3) uint8, torch (3, H, W) in [0, 1], or a path
    image = Codec.load("walloc").decompress(data)    # the same kind

    import codec

    codec.encode_file("photo.png", "photo.s2lic", quality=60)
    codec.decode_file("photo.s2lic", "back.png")

Importing this package imports neither torch nor NumPy: the names below are looked up when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .codecs.base.codec import Codec, Summary, decode, decode_file, encode_file, info
    from .codecs.base.field import Bound
    from .codecs.base.image import ImageCodec
    from .codecs.base.image import open_file as open
    from .codecs.base.limits import Limits
    from .errors import CodecError, ContainerError, LimitError, MediaError, StreamError, UsageError, WeightsError
    from .media.values import Picture
    from .media.video.reader import open_video
    from .registry import names

__version__ = "0.1.0"
__all__ = [
    "Bound",
    "Codec",
    "CodecError",
    "ContainerError",
    "ImageCodec",
    "LimitError",
    "Limits",
    "MediaError",
    "Picture",
    "StreamError",
    "Summary",
    "UsageError",
    "WeightsError",
    "__version__",
    "decode",
    "decode_file",
    "encode_file",
    "info",
    "names",
    "open",
    "open_video",
]

_LAZY = {
    "Bound": ("codecs.base.field", "Bound"),
    "Codec": ("codecs.base.codec", "Codec"),
    "ImageCodec": ("codecs.base.image", "ImageCodec"),
    "Limits": ("codecs.base.limits", "Limits"),
    "Picture": ("media.values", "Picture"),
    "Summary": ("codecs.base.codec", "Summary"),
    "decode": ("codecs.base.codec", "decode"),
    "decode_file": ("codecs.base.codec", "decode_file"),
    "encode_file": ("codecs.base.codec", "encode_file"),
    "info": ("codecs.base.codec", "info"),
    "names": ("registry", "names"),
    "open": ("codecs.base.image", "open_file"),
    "open_video": ("media.video.reader", "open_video"),
    **{name: ("errors", name) for name in __all__ if name.endswith("Error")},
}
_MODULES = ("codecs", "container", "errors", "files", "media", "registry")


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
