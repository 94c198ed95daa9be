"""`codec reproduce entropic-student`: the student among codecs of pictures, of equal bytes; what the report says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import codec as package
from codec import Codec, cli
from codec.codecs.entropic_student.config import view_of
from codec.eval.perception import perceive
from codec.eval.perception.contract import Sample
from codec.eval.perception.report import Analysis
from codec.eval.perception.samples import digest_of
from codec.eval.reproduce import entropic_student as module

SAMPLE = Path(package.__file__).parent / "samples" / "dog.png"


class Brightness(module.Classes):
    """The class is how bright a view is; of features, whatever their mean says. No file of a model is needed."""

    name = "brightness"
    models = ("mean",)

    def samples(self, data: Path | None) -> Iterator[Sample]:
        with Image.open(SAMPLE) as image:
            pixels = np.asarray(image.convert("RGB"))
        for index in range(4):
            part: Any = pixels[40 * index : 40 * index + 300] // (1 + index)
            view = view_of(np.ascontiguousarray(part))
            yield Sample(f"v{index}", view, digest_of(view))

    def load(self, model: str) -> Any:
        return lambda view: int(view.mean() > 60)

    def head(self, codec: Any) -> Any:
        return lambda features: int(features.shape == (24, 56, 56))


@pytest.fixture(scope="module")
def results() -> Any:
    task = Brightness()
    codec = Codec.load("entropic-student")
    given = perceive(task, "jpeg:444:q=5+60", metrics=())
    return module._with_student(given, task, codec, None)


def test_the_student_is_a_curve_of_whole_files(results: Any) -> None:
    assert [curve.label for curve in results.curves] == ["entropic-student", "jpeg:444"]
    codec: Any = Codec.load("entropic-student")
    first = next(iter(Brightness().samples(None)))
    for point, quality in zip(results.curves[0].points, module.QUALITIES, strict=True):
        row = results.of(point.spec)[0]
        assert row.bytes == len(codec.encode_seen(np.asarray(first.value), quality))
        assert (row.n, row.sample) == (224 * 224, first.name)
        assert row.version.endswith(codec.weights_id.hex()[:8])


def test_scores_are_of_the_same_samples(results: Any) -> None:
    analysis = Analysis(results)
    truth = [float(np.asarray(sample.value).mean() > 60) for sample in Brightness().samples(None)]
    assert 0 < np.mean(truth) < 1
    assert analysis.curves["entropic-student"].scores[:, 0] == pytest.approx(np.mean(truth))
    assert analysis.curves["jpeg:444"].scores[-1, 0] == 1


def test_the_report(results: Any) -> None:
    part = module._restated(results)
    assert part["samples"] == 4
    assert [row["quality"] for row in part["student"]] == list(module.QUALITIES)
    sizes = [row["bytes"] for row in part["student"]]
    assert sizes == sorted(sizes)
    assert part["smallest_bytes"]["entropic-student"] == sizes[0]
    assert set(part["student_less"]["2"]) == {"jpeg:444"}
    report = {
        "title": "T",
        "source": "S",
        "machine": "M",
        "heads": {"classification": json.loads(json.dumps(part))},
        "encoder": {"parameters": {"encoder": 3}, "milliseconds": {"entropic-student": 1.25}},
    }
    text = module.text(report)
    assert "entropic-student" in text
    assert f"{sizes[0]:.0f} bytes" in text
    assert "–" in text, "no file of JPEG is as small as half a kilobyte"


def test_kilobytes_are_bits_a_pixel_of_a_view() -> None:
    assert module._bpp(1.0) == pytest.approx(8000 / (224 * 224))


def test_it_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce"]) == 0
    assert "entropic-student" in capsys.readouterr().out


def test_a_family_of_features_makes_no_picture() -> None:
    with pytest.raises(package.errors.UsageError, match="features, not pictures"):
        module._family().make({}, 1)


def test_the_whole_on_one_photograph(tmp_path: Path) -> None:
    from codec.codecs.entropic_student.heads import load_teacher
    from codec.eval.perception.models import edge_detector

    try:
        load_teacher()
        edge_detector()
    except package.errors.UsageError as error:
        pytest.skip(str(error))
    (tmp_path / "data").mkdir()
    with Image.open(SAMPLE) as image:
        image.convert("RGB").crop((0, 0, 520, 300)).save(tmp_path / "data" / "a.png")
    report = module.run(tmp_path / "data", tmp_path / "out", peers="webp:q=40+90")
    assert json.loads((tmp_path / "out" / "entropic-student.json").read_text()) == json.loads(json.dumps(report))
    assert set(report["heads"]) == {"classification", "edges"}
    assert [part["samples"] for part in report["heads"].values()] == [2, 1], "edges: one part of each photograph"
    for part in report["heads"].values():
        assert set(part["at_kilobytes"]["4"]) == {"entropic-student", "webp:420"}
    assert report["encoder"]["parameters"]["encoder"] < 0.1e6 < 4e6 < report["encoder"]["parameters"]["teacher"] < 5e6
    assert all(ms > 0 for ms in report["encoder"]["milliseconds"].values())
    assert "milliseconds a view" in module.text(report)
    assert (tmp_path / "out" / "edges" / "report.html").exists()
