"""Label maps, palette pictures and masks by mixing, against PNG, WebP lossless and JPEG XL lossless.

    python -P -m codec.eval.studies.labels --kodak ../kodak --debian ../debs -o eval/results/labels

The sets: atlases of brains (Debian's mricron-data, 16 sheets from the middle of each), pictures of few colours of games
and icons (Debian's pingus-data, freeciv-data, lincity-ng-data, gnome-icon-theme, unpacked below --debian by `dpkg-deb
-x`; every n-th of at least 576 pixels), pictures of documentation that --documents lists, Kodak's pictures in 256, 64
and 16 colours (Pillow, median cut, with and without dithering), and masks: opacities, thresholds, dithered halftones.

The peers get what suits them: PNG the index plane with a palette in as few bits as hold it (Pillow, optimize), WebP
the colours (method 6, quality 100, exact; it finds palettes itself), JPEG XL (effort 9) the colours or the plane of
indices, the shorter. Sheets of a volume stand below each other. Ours is the whole file of the codec `mix`.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...codecs.mixing.codec import MixCodec
from ...entropy.mixing.labels import LabelModel

_SHEETS = 16


@dataclass(frozen=True, eq=False)
class Map:
    """A label map: indices (n, h, w), and the colours (K, 3) or (K, 4) uint8 of a picture."""

    name: str
    labels: NDArray[np.int32]
    colours: NDArray[np.uint8] | None = None

    @property
    def size(self) -> int:
        return int(self.labels.max()) + 1


# ---- sets


def _dense(name: str, values: NDArray[np.integer] | NDArray[np.bool_]) -> Map:
    """The map whose labels are the ranks of the values."""
    return Map(name, np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int32))


def _nifti(path: Path) -> NDArray[np.integer]:
    data = gzip.decompress(path.read_bytes())
    sides = np.frombuffer(data[42:48], "<i2").astype(int)
    kind = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 256: "i1", 512: "<u2"}[int(np.frombuffer(data[70:72], "<i2")[0])]
    first = int(np.frombuffer(data[108:112], "<f4")[0])
    return np.frombuffer(data[first:], kind, int(sides.prod())).reshape(sides[::-1]).astype(np.int64)


def atlases(folder: Path = Path("/usr/share/mricron/templates")) -> Iterator[Map]:
    """Volumes of labelled regions."""
    for name in ("aal", "brodmann", "AICHAmc", "jhu189", "natbrainlab", "inia19-NeuroMaps"):
        volume = _nifti(folder / f"{name}.nii.gz")
        first = (len(volume) - min(_SHEETS, len(volume))) // 2
        yield _dense(name, volume[first : first + _SHEETS])


def _picture(path: Path) -> Map | None:
    """A picture of 2 to 256 colours; its own palette, or the colours in the order in which they come."""
    from PIL import Image

    picture = Image.open(path)
    if picture.mode == "P" and "transparency" not in picture.info:
        indices = np.asarray(picture)
        colours = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return Map(path.name, indices[None].astype(np.int32), colours[: int(indices.max()) + 1])
    pixels = np.asarray(picture.convert("RGBA"))
    if (pixels[..., 3] == 255).all():
        pixels = pixels[..., :3]
    flat = np.ascontiguousarray(pixels).reshape(-1, pixels.shape[-1])
    colours, first, indices = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    if not 2 <= len(colours) <= 256:
        return None
    order = np.argsort(first)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    return Map(path.name, rank[indices.reshape(-1)].reshape(1, *pixels.shape[:2]), colours[order])


def pictures(paths: list[Path], least: int, step: int) -> Iterator[Map]:
    """Every `step`-th of the pictures of few colours that have at least so many pixels."""
    from PIL import Image

    kept = 0
    for path in sorted(paths):
        try:
            size = Image.open(path).size
        except OSError:
            continue
        if size[0] * size[1] >= least and (item := _picture(path)) is not None:
            kept += 1
            if kept % step == 0:
                yield item


def quantised(folder: Path) -> Iterator[Map]:
    """Photographs in 256, 64, 16 colours."""
    from PIL import Image

    for number in (3, 20):
        picture = Image.open(folder / f"kodim{number:02}.png").convert("RGB")
        for n in (256, 64, 16):
            plain = picture.quantize(n, dither=Image.Dither.NONE)
            dithered = picture.quantize(palette=plain, dither=Image.Dither.FLOYDSTEINBERG)
            for name, made in (("plain", plain), ("dithered", dithered)):
                indices = np.asarray(made)[None].astype(np.int32)
                colours = np.array(made.getpalette("RGB"), np.uint8).reshape(-1, 3)[: int(indices.max()) + 1]
                yield Map(f"kodim{number:02}-{n}-{name}", indices, colours)


def masks(kodak: Path, sprites: list[Path]) -> Iterator[Map]:
    """Two labels: thresholds and halftones of photographs, opacities of sprites, what is brain."""
    from PIL import Image

    for number in (3, 20):
        picture = Image.open(kodak / f"kodim{number:02}.png").convert("L")
        yield _dense(f"kodim{number:02}-threshold", np.asarray(picture)[None] > 127)
        yield _dense(f"kodim{number:02}-halftone", np.asarray(picture.convert("1"))[None])
    for path in sorted(sprites)[::80]:
        opacity = np.asarray(Image.open(path).convert("RGBA"))[None, ..., 3] > 127
        if opacity.size >= 4096 and opacity.any() and not opacity.all():
            yield _dense(path.name, opacity)
    yield _dense("aal", _nifti(Path("/usr/share/mricron/templates/aal.nii.gz"))[82:98] > 0)


# ---- coders


def _plane(item: Map) -> NDArray[np.integer]:
    plane = item.labels.reshape(-1, item.labels.shape[2])
    return plane.astype(np.uint8 if item.size <= 256 else np.uint16)


def _colours(item: Map) -> NDArray[np.uint8]:
    plane = _plane(item)
    if item.colours is not None:
        return item.colours[plane]
    return np.stack([plane & 255, plane >> 8, 0 * plane], -1).astype(np.uint8)


def png(item: Map) -> int:
    """The bytes of a palette PNG; of one of 16 bits where there are more labels."""
    from PIL import Image

    plane, out = _plane(item), io.BytesIO()
    picture = Image.fromarray(plane)
    bits = next(b for b in (1, 2, 4, 8, 16) if item.size <= 1 << b)
    if bits <= 8 and item.colours is not None:
        picture.putpalette(item.colours[:, :3].tobytes(), "RGB")
        extra = {"transparency": item.colours[:, 3].tobytes()} if item.colours.shape[1] == 4 else {}
        picture.save(out, "PNG", optimize=True, bits=bits, **extra)
    elif bits == 1:
        Image.fromarray(plane.astype(bool)).save(out, "PNG", optimize=True)
    elif bits <= 8:
        picture.putpalette(np.repeat(np.arange(item.size), 3).astype(np.uint8).tobytes(), "RGB")
        picture.save(out, "PNG", optimize=True, bits=bits)
        return len(out.getvalue()) - 3 * item.size - 12  # the palette, which a map doesn't need
    else:
        picture.save(out, "PNG", optimize=True)
    return len(out.getvalue())


def webp(item: Map) -> int:
    """The bytes of a lossless WebP; a stack higher than it can is cut in parts."""
    from PIL import Image

    colours, total = _colours(item), 0
    for top in range(0, len(colours), 16000):
        out = io.BytesIO()
        Image.fromarray(colours[top : top + 16000]).save(out, "WEBP", lossless=True, quality=100, method=6, exact=True)
        total += len(out.getvalue())
    return total


def jxl(item: Map) -> int:
    """The bytes of a lossless JPEG XL: of the colours, or of the indices with the palette's bytes."""
    import imagecodecs

    plane = imagecodecs.jpegxl_encode(_plane(item), lossless=True, effort=9)
    if item.colours is None:
        return len(plane)
    coloured = imagecodecs.jpegxl_encode(np.ascontiguousarray(_colours(item)), lossless=True, effort=9)
    return min(len(coloured), len(plane) + item.colours.size)


def mix(item: Map) -> dict[str, float | int]:
    """The whole file of the codec `mix`, of the colours or of the labels, and megabytes a second both ways.

    A value is a byte, if there are up to 256, else two. Time is the processor's, of one thread.
    """
    codec = MixCodec.from_weights(None, None, None, "cpu")
    values = item.labels.astype(np.uint8 if item.size <= 256 else np.uint16)
    array = values if item.colours is None else item.colours[item.labels]
    begun = time.thread_time()
    data = codec.compress(array[0] if len(array) == 1 else array)
    middle = time.thread_time()
    decoded = codec.decompress(data)
    ended = time.thread_time()
    assert (decoded == array).all()
    n, height, width = item.labels.shape
    model = LabelModel(item.size, (n, height, width))
    speeds = {"encode_mb_s": middle - begun, "decode_mb_s": ended - middle}
    return {
        "mix": len(data),
        "label_stream": len(model.encode(item.labels)),
        **{name: round(values.nbytes / max(1e-6, seconds) / 1e6, 3) for name, seconds in speeds.items()},
    }


def measure(item: Map) -> dict[str, float | int | str]:
    """Bytes of a map's file by each coder, and the speed of ours."""
    row: dict[str, float | int | str] = {
        "name": item.name,
        "shape": "x".join(map(str, item.labels.shape)),
        "labels": item.size,
        **mix(item),
    }
    coders: dict[str, Callable[[Map], int]] = {"png": png, "webp": webp, "jxl": jxl}
    return row | {name: coder(item) for name, coder in coders.items()}


def total(rows: list[dict[str, float | int | str]]) -> dict[str, float | int]:
    """A set's sums, and of how many files ours is the smallest."""
    out: dict[str, float | int] = {"files": len(rows)}
    for name in ("mix", "png", "webp", "jxl"):
        out[name] = sum(int(row[name]) for row in rows)
    out["least"] = sum(int(row["mix"]) <= min(int(row[peer]) for peer in ("png", "webp", "jxl")) for row in rows)
    out["to_best_peer"] = round(out["mix"] / min(out[peer] for peer in ("png", "webp", "jxl")), 4)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kodak", type=Path, required=True, help="folder of Kodak's pictures")
    parser.add_argument("--debian", type=Path, required=True, help="folder with the unpacked packages")
    parser.add_argument("--documents", type=Path, help="text file with a path of a picture on each line")
    parser.add_argument("--only", nargs="*", help="names of sets")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    share = options.debian / "usr/share"
    games = [p for name in ("pingus", "freeciv", "lincity-ng") for p in share.glob(f"games/{name}/**/*.png")]
    icons = list(share.glob("icons/**/*.png"))
    pages = options.documents.read_text().split("\n") if options.documents else []
    sets: dict[str, Callable[[], Iterator[Map]]] = {
        "atlases": atlases,
        "games": lambda: pictures(games, 4096, 24),
        "icons": lambda: pictures(icons, 576, 60),
        "documents": lambda: pictures([Path(p) for p in pages if p], 4096, 1),
        "quantised": lambda: quantised(options.kodak),
        "masks": lambda: masks(options.kodak, [p for p in games if "pingus" in p.parts]),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, maps in sets.items():
        if options.only and name not in options.only:
            continue
        rows = []
        for item in maps():
            rows.append(measure(item))
            print(name, rows[-1], flush=True)
        if rows:
            result = {"total": total(rows), "files": rows}
            (options.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
            print(name, result["total"], flush=True)


if __name__ == "__main__":
    main()
