"""The benchmark of decoding: every file once, its frames, a digest that tells frames apart."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from codec.codecs.base.video import stream as video_stream
from codec.codecs.nirvana.codec import NirvanaCodec
from codec.eval.studies.nirvana.decoding import main

GOLDEN = Path(__file__).parents[2] / "golden"


def test_files_are_measured(tmp_path: Path) -> None:
    clip = GOLDEN / "nirvana-grid-s1-clip.nirvana"
    out = tmp_path / "speed.json"
    (row,) = main([str(clip), "--repeat", "1", "--out", str(out)])
    with clip.open("rb") as file:
        frames = list(video_stream.VideoFile(file, NirvanaCodec.presets()).frames())
    digest = hashlib.sha256(b"".join(plane.tobytes() for frame in frames for plane in frame.planes))
    assert row["frames"] == len(frames) and row["sha256"] == digest.hexdigest()
    assert row["frames_per_cpu_s"] > 0 and row["n_bytes"] == clip.stat().st_size
    assert json.loads(out.read_text())["files"] == [row]
