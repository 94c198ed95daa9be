"""The folder of a fitted dual sequence: PLY files of skins and joints, motion, dual.json; and the state of a fit in it.

    dual.json, motion.safetensors      written when all frames are there, or when a fit is interrupted: those so far
    skins/0000.ply, joints/0000.ply    a frame each, as 3D Gaussian splatting writes them
    log.jsonl                          quality and seconds of every frame
    work/                              the state: what --resume goes on from

Count and order of Gaussians are those of frame 0 in every frame: asserted when a frame is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save
from torch import Tensor

from ...errors import UsageError
from ...files import whole
from ...media.gaussians import ply
from ...media.gaussians.values import Gaussians
from .gaussians import tensors_of

__all__ = ["FitFolder"]

VERSION = 1
Tensors = dict[str, Tensor]


class FitFolder:
    """Reads and writes the folder of a fit. mark: of recipe and capture; another one's state isn't gone on with."""

    def __init__(self, path: Path, mark: str, device: torch.device | str) -> None:
        self.path, self.mark, self.device = path, mark, device
        self.work = path / "work"
        self._counts: dict[str, int] = {}

    # ---- state

    def begin(self, resume: bool) -> None:
        """Makes the folder, or takes the one that is there. UsageError if that is another's, or without `resume`."""
        if self.path.exists() and any(self.path.iterdir()) and not resume:
            raise UsageError(f"{self.path} isn't empty: go on with --resume, or name another place")
        mark = self.work / "mark"
        if (self.path / "dual.json").exists() and not mark.exists():
            raise UsageError(f"{self.path} is a whole fit: name another place for another one")
        if mark.exists() and mark.read_text() != self.mark:
            raise UsageError(
                f"{self.path} was begun with another recipe or capture: it can't be gone on with; name another place"
            )
        self.work.mkdir(parents=True, exist_ok=True)
        with whole(mark, replace=True) as file:
            file.write(self.mark.encode())

    def save(self, name: str, tensors: Mapping[str, Tensor], **facts: Any) -> None:
        """Writes tensors and facts under a name, whole."""
        arrays = {key: np.ascontiguousarray(tensor.detach().cpu().numpy()) for key, tensor in tensors.items()}
        with whole(self.work / f"{name}.safetensors", replace=True) as file:
            file.write(save(arrays, {"facts": json.dumps(facts)}))

    def load(self, name: str) -> tuple[Tensors, dict[str, Any]] | None:
        """Reads what `save` wrote; None if it isn't there. UsageError if it is damaged."""
        path = self.work / f"{name}.safetensors"
        if not path.exists():
            return None
        try:
            data = path.read_bytes()
            with safe_open(path, "np") as file:
                facts = json.loads((file.metadata() or {})["facts"])
            return {key: torch.tensor(array, device=self.device) for key, array in load(data).items()}, facts
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise UsageError(
                f"{path} is damaged ({type(error).__name__}): remove {self.work}, and begin anew"
            ) from None

    def take_first(self, other: Path) -> None:
        """Takes frame 0 of another fit as that of this one. UsageError if it has none."""
        for name in ("joints", "skins"):
            path = other / name / "0000.ply"
            if not path.exists():
                raise UsageError(f"{path} isn't there: expected the folder of a fit")
            if not (self.work / f"{name}.safetensors").exists():
                self.save(name, tensors_of(ply.read(path.read_bytes())[0]))

    # ---- frames

    def write_frame(self, frame: int, skins: Gaussians, joints: Gaussians) -> None:
        """Writes the PLY files of a frame. AssertionError if a count isn't that of the frames before."""
        for name, gaussians in (("skins", skins), ("joints", joints)):
            expected = self._counts.setdefault(name, self._count_before(name, frame, len(gaussians)))
            assert len(gaussians) == expected, f"frame {frame} has {len(gaussians)} {name}; frame 0 has {expected}"
            target = self.path / name / f"{frame:04d}.ply"
            target.parent.mkdir(exist_ok=True)
            with whole(target, replace=True) as file:
                file.write(ply.write(gaussians))

    def _count_before(self, name: str, frame: int, count: int) -> int:
        first = self.path / name / "0000.ply"
        return len(ply.read(first.read_bytes())[0]) if frame and first.exists() else count

    def write_motion(self, frame: int, transforms: Tensor) -> None:
        """Keeps the transforms (J, 3, 4) of a frame until all of them are written."""
        self.save(f"motion-{frame:04d}", {"transforms": transforms})

    def log(self, row: Mapping[str, Any]) -> None:
        """Adds a row to the log."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def finish(self, n_frames: int, anchors: Tensor, weights: Tensor, facts: Mapping[str, Any]) -> None:
        """Writes motion.safetensors and dual.json for the frames so far."""
        each: list[NDArray[np.float32]] = []
        for frame in range(n_frames):
            state = self.load(f"motion-{frame:04d}")
            if state is None:
                raise UsageError(f"{self.work} has no motion of frame {frame}: remove {self.path}, and begin anew")
            each.append(state[0]["transforms"].cpu().numpy())
        arrays = {
            "rotation_translation": np.stack(each).astype(np.float32),
            "anchors": anchors.cpu().numpy().astype(np.int32),
            "weights": weights.cpu().numpy().astype(np.float32),
        }
        with whole(self.path / "motion.safetensors", replace=True) as file:
            file.write(save(arrays))
        counts = {"n_frames": n_frames, "n_joints": arrays["rotation_translation"].shape[1], "n_skins": len(anchors)}
        text = json.dumps({"version": VERSION, **counts, **facts}, indent=1)
        with whole(self.path / "dual.json", replace=True) as file:
            file.write(text.encode() + b"\n")

    def remove_state(self) -> None:
        """Removes what only --resume needs."""
        shutil.rmtree(self.work, ignore_errors=True)
