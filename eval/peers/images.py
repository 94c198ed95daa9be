"""Classical picture codecs: Pillow for JPEG, WebP, PNG and writing AVIF, imagecodecs for the rest.

A value is (H, W, 3) uint8, RGB. Files hold what decoding needs and no more: no EXIF, no ICC profile, and the comment in
which OpenJPEG and OpenJPH name themselves is taken out of their codestreams. Colour management is never applied.

Choices that move the numbers: AVIF is written by Pillow, which lets us say what the encoder tunes for, and read by
imagecodecs, which unlike Pillow decodes with as many threads as it is told. JPEG 2000 is the bare codestream (a .jp2
around it is 85 bytes longer) with the 9/7 wavelet, the colour transform and one quality layer. JPEG XR has 4:2:0 chroma
below quality 0.5 and 4:4:4 from there on: its library couples the two. WebP's sharper chroma subsampling isn't
reachable from Python. mozjpeg, jpegli and HEIF aren't in the wheels of either library.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CodecError, MediaError, StreamError, UsageError
from ..bench.contract import Family, Option, OptionValue, Peer

__all__ = ["FAMILIES", "check_picture", "check_settings", "whole"]

Pixels = NDArray[np.uint8]

# Sides that a format or its library can hold; the libraries say so late, or print it to stderr. AV1 goes up to 65536,
# but libavif decodes half of it unless it is told otherwise, which isn't possible from Python.
_JPEG_SIDE, _WEBP_SIDE, _AVIF_SIDE = 65500, 16383, 32768


# ---- settings and values


def check_settings(name: str, options: Mapping[str, Option], settings: Mapping[str, OptionValue]) -> None:
    """UsageError unless there is a value for every option, and each is one that the option takes."""
    if settings.keys() != options.keys():
        odd = sorted(settings.keys() ^ options.keys())
        raise UsageError(
            f"{name}: settings {', '.join(odd)} are missing or unknown; it has {', '.join(options) or 'none'}"
        )
    for key, option in options.items():
        value = settings[key]
        if isinstance(option.default, str):
            if option.choices and value not in option.choices:
                raise UsageError(f"{name}: {key}={value}; expected one of {', '.join(option.choices)}")
            if not isinstance(value, str):
                raise UsageError(f"{name}: {key}={value!r}; expected text")
            continue
        low = -np.inf if option.low is None else option.low
        high = np.inf if option.high is None else option.high
        if isinstance(value, (str, bool)) or not low <= value <= high:
            raise UsageError(f"{name}: {key}={value}; expected a number from {low:g} to {high:g}")
        if isinstance(option.default, int) and value != int(value):
            raise UsageError(f"{name}: {key}={value}; expected a whole number")


def whole(settings: Mapping[str, OptionValue], key: str) -> int:
    """A setting that `check_settings` found to be a whole number."""
    return int(settings[key])


def check_picture(name: str, value: Any, max_side: int | None = None) -> Pixels:
    """The value as a contiguous (H, W, 3) uint8. MediaError for another kind, and for sides that the format can't
    hold."""
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3:
        kind = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise MediaError(f"{name}: a picture is {kind}; expected a uint8 array (H, W, 3), RGB")
    height, width, _ = value.shape
    if not height or not width:
        raise MediaError(f"{name}: a picture of {width}x{height} pixels; expected at least 1x1")
    if max_side is not None and max(height, width) > max_side:
        raise MediaError(f"{name}: a picture of {width}x{height}; it takes sides up to {max_side}: cut it into parts")
    return np.ascontiguousarray(value)


def _rgb(decoded: Any) -> Pixels:
    """The pixels that a decoder gave, as a contiguous (H, W, 3): grey repeated, alpha dropped. StreamError if it can't
    be."""
    if not isinstance(decoded, np.ndarray) or decoded.dtype != np.uint8:
        kind = f"{decoded.dtype} values" if isinstance(decoded, np.ndarray) else f"a {type(decoded).__name__}"
        raise StreamError(f"{kind} instead of 8-bit pixels")
    pixels = decoded[:, :, None] if decoded.ndim == 2 else decoded
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4):
        raise StreamError(f"an array of shape {decoded.shape} instead of a picture")
    if pixels.shape[2] != 3:
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[:, :, :3]
    return np.ascontiguousarray(pixels)


@dataclass(frozen=True)
class _PicturePeer:
    """Two calls of a library, between the checks that all of them need."""

    name: str
    encoder: Callable[[Pixels], bytes | bytearray]
    decoder: Callable[[bytes], Any]
    max_side: int | None = None

    def encode(self, value: Any) -> bytes:
        """Encodes (H, W, 3) uint8. MediaError if the format or its library can't hold it."""
        pixels = check_picture(self.name, value, self.max_side)
        try:
            return bytes(self.encoder(pixels))
        except CodecError:
            raise
        except Exception as error:  # the boundary to C libraries, whose errors are of any kind
            size = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise MediaError(f"{self.name}: a picture of {size} couldn't be encoded ({error})") from error

    def decode(self, data: bytes) -> Pixels:
        """Decodes to (H, W, 3) uint8, contiguous. StreamError if data isn't a whole file of this format."""
        try:
            return _rgb(self.decoder(data))
        except StreamError as error:
            raise StreamError(f"{self.name}: {error}") from None
        except Exception as error:
            raise StreamError(f"{self.name}: the file can't be decoded, damaged? ({error})") from error


# ---- Pillow


def _saver(format: str, **parameters: Any) -> Callable[[Pixels], bytes]:
    from PIL import Image

    def save(pixels: Pixels) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format, **parameters)
        return stream.getvalue()

    return save


def _opener(plugin: Callable[[io.BytesIO], Any]) -> Callable[[bytes], Pixels]:
    """The plugin of one format, not Image.open: that one guesses, and refuses large pictures by a global setting."""

    def load(data: bytes) -> Pixels:
        with plugin(io.BytesIO(data)) as image:
            image.load()  # opening reads the header only
            return np.array(image if image.mode in ("RGB", "L") else image.convert("RGB"))

    return load


def _pillow_missing(*features: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        if find_spec("PIL") is None:
            return "Pillow isn't installed: pip install pillow"
        from PIL import features as built

        # Names that this Pillow doesn't know are features that it is too old for; asking for them would warn.
        known = {*built.modules, *built.codecs, *built.features}
        lacking = [name for name in features if name not in known or not built.check(name)]
        return f"this Pillow was built without {', '.join(lacking)}: pip install -U pillow" if lacking else None

    return missing


def _pillow_versions(library: str, feature: str) -> dict[str, str]:
    from PIL import features

    return {"pillow": version("pillow"), library: str(features.version(feature))}


# ---- imagecodecs


def _imagecodecs_missing(*codecs: str) -> Callable[[], str | None]:
    """A function for `Family.missing`. codecs: names of imagecodecs' classes, whose `available` tells whether the wheel
    has the library."""

    def missing() -> str | None:
        if find_spec("imagecodecs") is None:
            return "imagecodecs isn't installed: pip install 'codec-suite[eval]'"
        import imagecodecs

        lacking = [name for name in codecs if not getattr(getattr(imagecodecs, name, None), "available", False)]
        return (
            f"this imagecodecs was built without {', '.join(lacking)}: pip install -U imagecodecs" if lacking else None
        )

    return missing


def _imagecodecs_versions(codec: str) -> Callable[[], dict[str, str]]:
    """A function for `Family.versions`. codec: as in imagecodecs.<codec>_version(), which says "libjxl 0.11.1"."""

    def versions() -> dict[str, str]:
        import imagecodecs

        library, _, number = str(getattr(imagecodecs, f"{codec}_version")()).partition(" ")
        return {"imagecodecs": version("imagecodecs"), library: number}

    return versions


# ---- families


_Calls = tuple[Callable[[Pixels], bytes | bytearray], Callable[[bytes], Any]]
_Make = Callable[[Mapping[str, OptionValue], int], _Calls]


def _family(
    name: str,
    about: str,
    options: Mapping[str, Option],
    calls: _Make,
    missing: Callable[[], str | None],
    versions: Callable[[], Mapping[str, str]],
    sweep: Sequence[OptionValue] = (),
    max_side: int | None = None,
) -> Family:
    """A codec of pictures. calls: gives encoder and decoder for settings and threads, and imports the library. The
    first option is a sweep's axis."""

    def make(settings: Mapping[str, OptionValue], threads: int) -> Peer:
        check_settings(name, options, settings)
        if threads < 1:
            raise UsageError(f"{name}: {threads} threads; expected 1 or more")
        problem = missing()
        if problem:
            raise UsageError(f"{name}: {problem}")
        return _PicturePeer(name, *calls(settings, threads), max_side)

    axis = next(iter(options)) if sweep else None
    return Family(name, "image", about, options, make, axis, tuple(sweep), not sweep, missing, versions)


_SCANS = ("progressive", "optimized", "baseline")
_JPEG_OPTIONS = {
    "q": Option(75, "libjpeg's quality", 1, 100),
    "chroma": Option("420", "resolution of the chroma planes", choices=("444", "422", "420")),
    "scan": Option("progressive", "order of coefficients; all but baseline fit Huffman tables", choices=_SCANS),
}


def _jpeg(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from PIL.JpegImagePlugin import JpegImageFile

    q, chroma, scan = whole(settings, "q"), str(settings["chroma"]), settings["scan"]
    subsampling = ":".join(chroma)
    save = _saver(
        "JPEG", quality=q, subsampling=subsampling, optimize=scan == "optimized", progressive=scan == "progressive"
    )

    def encode(pixels: Pixels) -> bytes:
        try:
            return save(pixels)
        except OSError as error:
            if scan == "baseline":
                raise
            # Pillow sizes libjpeg's buffer by the pixels, and both passes must fit: only noise at high quality doesn't.
            raise MediaError(
                f"jpeg: at q={q} this picture outgrows the buffer that Pillow has for scan={scan}, one or two bytes a "
                "pixel: use scan=baseline"
            ) from error

    return encode, _opener(JpegImageFile)


def _jpeg_versions() -> dict[str, str]:
    from PIL import features

    turbo = features.check_feature("libjpeg_turbo")
    return _pillow_versions(*(("libjpeg-turbo", "libjpeg_turbo") if turbo else ("libjpeg", "jpg")))


_WEBP_METHOD = Option(4, "effort, slower and smaller", 0, 6)


def _webp(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from PIL.WebPImagePlugin import WebPImageFile

    return _saver("WEBP", quality=float(settings["q"]), method=whole(settings, "method")), _opener(WebPImageFile)


def _webp_lossless(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from PIL.WebPImagePlugin import WebPImageFile

    effort, method = whole(settings, "effort"), whole(settings, "method")
    return _saver("WEBP", lossless=True, quality=effort, method=method), _opener(WebPImageFile)


def _without_comments(codestream: bytes | bytearray) -> bytes:
    """A JPEG 2000 codestream without the COM segments of its main header (ISO/IEC 15444-1, annex A).

    Nothing in such a header points into the file, and tile parts give their lengths from their own starts.
    """
    kept, at = bytearray(codestream[:2]), 2
    while True:
        marker, length = struct.unpack_from(">HH", codestream, at)
        if marker == 0xFF90:  # start of the first tile part
            return bytes(kept + codestream[at:])
        if marker != 0xFF64:
            kept += codestream[at : at + 2 + length]
        at += 2 + length


def _jpeg2000(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import jpeg2k_decode, jpeg2k_encode

    psnr = float(settings["psnr"])

    def encode(pixels: Pixels) -> bytes:
        # The binding's type is int, its code takes fractions of a decibel too.
        level: Any = psnr
        return _without_comments(
            jpeg2k_encode(pixels, level, codecformat="j2k", reversible=False, mct=True, numthreads=threads)
        )

    return encode, lambda data: jpeg2k_decode(data, numthreads=threads)


def _jpeg2000_lossless(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import jpeg2k_decode, jpeg2k_encode

    def encode(pixels: Pixels) -> bytes:
        return _without_comments(
            jpeg2k_encode(pixels, 0, codecformat="j2k", reversible=True, mct=True, numthreads=threads)
        )

    return encode, lambda data: jpeg2k_decode(data, numthreads=threads)


def _htj2k(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import htj2k_decode, htj2k_encode

    step = float(settings["step"])
    return lambda pixels: _without_comments(htj2k_encode(pixels, step, reversible=False)), htj2k_decode


def _htj2k_lossless(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import htj2k_decode, htj2k_encode

    return lambda pixels: _without_comments(htj2k_encode(pixels, reversible=True)), htj2k_decode


_AVIF_OPTIONS = {
    "q": Option(60, "libavif's quality", 0, 100),
    "chroma": Option("444", "resolution of the chroma planes", choices=("444", "422", "420")),
    "speed": Option(6, "faster and larger", 0, 10),
    "encoder": Option("aom", "AV1 encoder", choices=("aom", "svt", "rav1e")),
    "tune": Option("iq", "what aom optimizes", choices=("iq", "ssim", "psnr")),
}


def _avif(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import avif_decode
    from PIL import AvifImagePlugin

    encoder, chroma, tune = str(settings["encoder"]), str(settings["chroma"]), str(settings["tune"])
    if AvifImagePlugin.get_codec_version(encoder) is None:
        raise UsageError(f"avif: this Pillow was built without the encoder {encoder}: use encoder=aom")
    if encoder == "svt" and chroma != "420":
        raise UsageError(f"avif: the encoder svt writes 4:2:0 only, not chroma={chroma}: add chroma=420")
    if encoder != "aom" and tune != _AVIF_OPTIONS["tune"].default:
        raise UsageError(f"avif: tune={tune} is for the encoder aom; leave it out with encoder={encoder}")
    save = _saver(
        "AVIF",
        quality=whole(settings, "q"),
        subsampling=":".join(chroma),
        speed=whole(settings, "speed"),
        codec=encoder,
        max_threads=threads,
        **({"advanced": {"tune": tune}} if encoder == "aom" else {}),
    )
    return save, lambda data: avif_decode(data, numthreads=threads)


def _avif_missing() -> str | None:
    return _pillow_missing("avif")() or _imagecodecs_missing("AVIF")()


def _avif_versions() -> dict[str, str]:
    from PIL import AvifImagePlugin

    known = {name: AvifImagePlugin.get_codec_version(name) for name in _AVIF_OPTIONS["encoder"].choices}
    encoders = {{"aom": "libaom"}.get(name, name): number for name, number in known.items() if number}
    reader = {f"{name} (decoder)": number for name, number in _imagecodecs_versions("avif")().items()}
    return {**_pillow_versions("libavif", "avif"), **encoders, **reader}


def _avif_lossless(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import AVIF, avif_decode, avif_encode

    speed = whole(settings, "speed")

    def encode(pixels: Pixels) -> bytes | bytearray:
        # Without the identity matrix the rounding of a colour transform would remain.
        matrix = AVIF.MATRIX_COEFFICIENTS.IDENTITY
        level = AVIF.QUALITY.LOSSLESS
        return avif_encode(
            pixels, level, speed=speed, pixelformat="444", codec="aom", matrix=matrix, numthreads=threads
        )

    return encode, lambda data: avif_decode(data, numthreads=threads)


def _jxl(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import jpegxl_decode, jpegxl_encode

    distance, effort = float(settings["d"]), whole(settings, "effort")

    def encode(pixels: Pixels) -> bytes | bytearray:
        return jpegxl_encode(
            pixels, distance=distance, effort=effort, lossless=False, usecontainer=False, numthreads=threads
        )

    return encode, lambda data: jpegxl_decode(data, numthreads=threads)


def _jxl_lossless(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import jpegxl_decode, jpegxl_encode

    effort = whole(settings, "effort")

    def encode(pixels: Pixels) -> bytes | bytearray:
        return jpegxl_encode(pixels, effort=effort, lossless=True, usecontainer=False, numthreads=threads)

    return encode, lambda data: jpegxl_decode(data, numthreads=threads)


def _jpegxr(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import jpegxr_decode, jpegxr_encode

    quality = float(settings["q"])
    return lambda pixels: jpegxr_encode(pixels, quality), jpegxr_decode


def _jpegls(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import jpegls_decode, jpegls_encode

    # imagecodecs makes room for what compresses; a sample takes at most 32 bits (ITU-T T.87, LIMIT for 8 bits).
    return lambda pixels: bytes(jpegls_encode(pixels, out=4 * pixels.size + 4096)), jpegls_decode


def _qoi(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from imagecodecs import qoi_decode, qoi_encode

    return qoi_encode, qoi_decode


def _png(settings: Mapping[str, OptionValue], threads: int) -> _Calls:
    from PIL.PngImagePlugin import PngImageFile

    return _saver("PNG", optimize=True), _opener(PngImageFile)


def _png_versions() -> dict[str, str]:
    from PIL import features

    zlib_ng = features.version_feature("zlib_ng") if "zlib_ng" in features.features else None
    return {"pillow": version("pillow"), "zlib-ng": zlib_ng} if zlib_ng else _pillow_versions("zlib", "zlib")


_JXL_EFFORT = Option(7, "effort, slower and smaller", 1, 9)

FAMILIES: tuple[Family, ...] = (
    _family(
        "jpeg",
        "JPEG by libjpeg; one thread",
        _JPEG_OPTIONS,
        _jpeg,
        _pillow_missing("jpg"),
        _jpeg_versions,
        sweep=(5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95),
        max_side=_JPEG_SIDE,
    ),
    _family(
        "webp",
        "lossy WebP, which always has 4:2:0 chroma; one thread",
        {
            "q": Option(75, "libwebp's quality", 0, 100),
            "chroma": Option("420", "resolution of the chroma planes; there is no other", choices=("420",)),
            "method": _WEBP_METHOD,
        },
        _webp,
        _pillow_missing("webp"),
        lambda: _pillow_versions("libwebp", "webp"),
        sweep=(1, 10, 30, 50, 70, 80, 90, 95, 98),
        max_side=_WEBP_SIDE,
    ),
    _family(
        "avif",
        "AV1 stills; threads for both ways",
        _AVIF_OPTIONS,
        _avif,
        _avif_missing,
        _avif_versions,
        sweep=(5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95),
        max_side=_AVIF_SIDE,
    ),
    _family(
        "jxl",
        "JPEG XL, 4:4:4 in XYB; threads for both ways",
        {"d": Option(1.0, "Butteraugli distance, 1 is about invisible", 0.01, 25), "effort": _JXL_EFFORT},
        _jxl,
        _imagecodecs_missing("JPEGXL"),
        _imagecodecs_versions("jpegxl"),
        sweep=(20.0, 15.0, 10.0, 6.0, 4.0, 2.5, 1.5, 1.0, 0.7, 0.45),
    ),
    _family(
        "jpeg2000",
        "JPEG 2000 by OpenJPEG, 9/7 wavelet, 4:4:4; threads for both ways",
        {"psnr": Option(38.0, "target of the rate control, dB", 20, 70)},
        _jpeg2000,
        _imagecodecs_missing("JPEG2K"),
        _imagecodecs_versions("jpeg2k"),
        sweep=(28.0, 30.0, 32.0, 34.0, 36.0, 38.0, 40.0, 42.0, 45.0),
    ),
    _family(
        "htj2k",
        "high-throughput JPEG 2000 by OpenJPH, 9/7 wavelet, 4:4:4; one thread",
        {"step": Option(0.015, "quantization step of the finest band, 1 is the range of the pixels", 0.0005, 1)},
        _htj2k,
        _imagecodecs_missing("HTJ2K"),
        _imagecodecs_versions("htj2k"),
        sweep=(0.2, 0.1, 0.06, 0.04, 0.025, 0.018, 0.013, 0.01),
    ),
    _family(
        "jpegxr",
        "JPEG XR, 4:2:0 below q=0.5 and 4:4:4 from there; one thread",
        {"q": Option(0.7, "jxrlib's quality; 1 would be lossless", 0.01, 0.99)},
        _jpegxr,
        _imagecodecs_missing("JPEGXR"),
        _imagecodecs_versions("jpegxr"),
        sweep=(0.01, 0.1, 0.2, 0.3, 0.4, 0.49, 0.6, 0.7, 0.8),
    ),
    _family("png", "PNG, optimized; one thread", {}, _png, _pillow_missing("zlib"), _png_versions),
    _family(
        "webp-lossless",
        "lossless WebP; one thread",
        {"method": _WEBP_METHOD, "effort": Option(75, "libwebp's effort within a method", 0, 100)},
        _webp_lossless,
        _pillow_missing("webp"),
        lambda: _pillow_versions("libwebp", "webp"),
        max_side=_WEBP_SIDE,
    ),
    _family(
        "jxl-lossless",
        "lossless JPEG XL; threads for both ways",
        {"effort": _JXL_EFFORT},
        _jxl_lossless,
        _imagecodecs_missing("JPEGXL"),
        _imagecodecs_versions("jpegxl"),
    ),
    _family(
        "avif-lossless",
        "lossless AVIF by aom, 4:4:4 RGB; threads for both ways",
        {"speed": Option(6, "faster and larger", 0, 10)},
        _avif_lossless,
        _imagecodecs_missing("AVIF"),
        _imagecodecs_versions("avif"),
        max_side=_AVIF_SIDE,
    ),
    _family(
        "jpeg2000-lossless",
        "lossless JPEG 2000 by OpenJPEG, 5/3 wavelet; threads for both ways",
        {},
        _jpeg2000_lossless,
        _imagecodecs_missing("JPEG2K"),
        _imagecodecs_versions("jpeg2k"),
    ),
    _family(
        "htj2k-lossless",
        "lossless high-throughput JPEG 2000 by OpenJPH, 5/3 wavelet; one thread",
        {},
        _htj2k_lossless,
        _imagecodecs_missing("HTJ2K"),
        _imagecodecs_versions("htj2k"),
    ),
    _family(
        "jpegls",
        "lossless JPEG-LS by CharLS, no colour transform; one thread",
        {},
        _jpegls,
        _imagecodecs_missing("JPEGLS"),
        _imagecodecs_versions("jpegls"),
    ),
    _family(
        "qoi",
        "QOI, lossless and quick; one thread",
        {},
        _qoi,
        _imagecodecs_missing("QOI"),
        _imagecodecs_versions("qoi"),
    ),
)
