"""Optical character recognition: the text of a page.

The model is RapidOCR, a detector and a recogniser (PP-OCRv4) that come in a package. Pages are drawn here, some over
photographs, so that the truth is known: sentences of a public-domain novel in the typefaces that come with matplotlib.
"Machine Perceptual Quality" has no such task, and so there is no reference model; screens and scans are what people ask
about first. Spaces don't count: recognisers differ about those.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ....errors import UsageError
from ...bench.items import Skipped, find_items
from ...metrics.support import versions_of
from ..contract import Counts, Predict, Sample, Score, Task, share
from ..editing import edit_distance
from ..samples import digest_of, loaded, photographs

__all__ = ["Text", "in_reading_order", "page"]

RAPID = "rapidocr"
PAGES, WIDTH, HEIGHT = 32, 448, 256
FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf")
SIZES = (12, 14, 17, 20)  # pixels
# Jane Austen, "Pride and Prejudice", 1813: the beginning, in lines that fit.
LINES = (
    "It is a truth universally",
    "acknowledged, that a single man",
    "in possession of a good fortune,",
    "must be in want of a wife.",
    "However little known the feelings",
    "or views of such a man may be on",
    "his first entering a neighbourhood,",
    "this truth is so well fixed in the",
    "minds of the surrounding families,",
    "that he is considered as the",
    "rightful property of some one or",
    "other of their daughters.",
    "My dear Mr. Bennet, said his lady",
    "to him one day, have you heard that",
    "Netherfield Park is let at last?",
    "Mr. Bennet replied that he had not.",
    "But it is, returned she; for",
    "Mrs. Long has just been here, and",
    "she told me all about it.",
    "Mr. Bennet made no answer.",
)
# Ink and paper. None: a photograph, darkened, is the paper.
COLOURS: tuple[tuple[tuple[int, int, int], tuple[int, int, int] | None], ...] = (
    ((20, 20, 20), (255, 255, 255)),
    ((30, 40, 90), (244, 236, 216)),
    ((235, 235, 235), (24, 28, 34)),
    ((255, 250, 235), None),
)


class Text(Task):
    """The characters of pages."""

    name, medium = "text", "image"
    models: ClassVar[tuple[str, ...]] = (RAPID,)
    about = f"the characters of {PAGES} drawn pages of {WIDTH} x {HEIGHT}, four sizes, some over photographs"
    data = "drawn"
    scores = (
        Score(
            "characters",
            "1 - character error rate without spaces, against the true text",
            share("errors", "characters", rest=True),
            0.0,
        ),
        Score(
            "agreement",
            "1 - character error rate without spaces, against the text of the original",
            share("moved", "read", rest=True),
        ),
    )

    def samples(self, data: Path | None) -> Iterator[Sample | Skipped]:
        if data is None:
            yield from _drawn()
            return
        listed = find_items(data, "image")
        yield from (item for item in listed.skipped if not item.name.endswith(".txt"))
        for item in listed.items:
            label = item.path.with_suffix(".txt")
            yield loaded(item, label=_read_text(label) if label.is_file() else None)

    def load(self, model: str) -> Predict:
        if model != RAPID:
            raise UsageError(f"no model {model!r}: expected {RAPID}")
        engine = _rapid()
        return lambda pixels: in_reading_order(engine(np.ascontiguousarray(pixels[:, :, ::-1]))[0])

    def compare(self, answer: str, original: str, label: str | None) -> Counts:
        n = len(_plain(original))
        counts = {"read": float(n), "moved": float(min(n, edit_distance(_plain(answer), _plain(original))))}
        if label is not None:
            n = len(_plain(label))
            counts |= {"characters": float(n), "errors": float(min(n, edit_distance(_plain(answer), _plain(label))))}
        return counts

    def versions(self) -> Mapping[str, str]:
        return versions_of("rapidocr-onnxruntime", "onnxruntime", "opencv-python", "opencv-python-headless", "pillow")()


def _plain(text: str) -> str:
    """The text without spaces: recognisers differ about those, and nobody misreads a word for it."""
    return "".join(text.split())


def in_reading_order(parts: Sequence[Sequence[Any]] | None) -> str:
    """The text of what a detector found, (box, text, confidence) each: lines from above, each from the left."""
    boxes = []
    for corners, text, *_ in parts or ():
        x, y = np.asarray(corners, float).reshape(-1, 2).T
        boxes.append((float(y.mean()), float(x.min()), float(np.ptp(y)), str(text)))
    lines: list[list[tuple[float, float, float, str]]] = []
    for box in sorted(boxes):
        if lines and box[0] - lines[-1][0][0] < 0.5 * min(box[2], lines[-1][0][2]):
            lines[-1].append(box)
        else:
            lines.append([box])
    return "\n".join(" ".join(box[3] for box in sorted(line, key=lambda box: box[1])) for line in lines)


@functools.lru_cache(maxsize=1)
def _rapid() -> Any:
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ImportError as error:
        raise UsageError(f"rapidocr can't be used ({error}): pip install 'codec-suite[perception]'") from None
    return RapidOCR()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: can't be read as text ({error})") from None


# ---- pages


def _drawn() -> Iterator[Sample]:
    photos = _papers()
    for index in range(PAGES):
        size, font = SIZES[index % len(SIZES)], FONTS[(index // len(SIZES)) % len(FONTS)]
        ink, paper = COLOURS[(index + index // len(SIZES)) % len(COLOURS)]
        back = photos[index % len(photos)] if paper is None else np.full((HEIGHT, WIDTH, 3), paper, np.uint8)
        lines = [LINES[(7 * index + k) % len(LINES)] for k in range(HEIGHT // (2 * size) - 1)]
        pixels = page(back, lines, font, size, ink)
        yield Sample(f"page-{index:02d}", pixels, digest_of(pixels), "\n".join(lines))


def _papers() -> list[NDArray[np.uint8]]:
    """Four photographs as paper: their middles, at a third of their brightness."""
    out = []
    for sample in photographs(None):
        if isinstance(sample, Skipped):
            continue
        pixels = np.asarray(sample.value)
        top, left = ((n - m) // 2 for n, m in zip(pixels.shape[:2], (HEIGHT, WIDTH), strict=True))
        out.append(pixels[top : top + HEIGHT, left : left + WIDTH] // 3)
        if len(out) == 4:
            break
    return out


def page(
    paper: NDArray[np.uint8], lines: Sequence[str], font: str, size: int, ink: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """A picture of lines of text on paper (H, W, 3), two line heights apart. size: of the typeface, in pixels."""
    try:
        from matplotlib import get_data_path
    except ImportError:
        raise UsageError("pages are drawn with matplotlib's typefaces: pip install 'codec-suite[eval]'") from None
    picture = Image.fromarray(np.ascontiguousarray(paper))
    draw = ImageDraw.Draw(picture)
    file = Path(get_data_path(), "fonts", "ttf", font)
    face = ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)
    for index, line in enumerate(lines):
        draw.text((12, 12 + 2 * size * index), line, fill=ink, font=face)
    return np.array(picture)
