"""The fit of a whole sequence: frame 0, then frame by frame; checkpoints, resuming, and an error for lost pictures.

`fit` takes a capture (`datasets.capture.Capture`, or anything with its attributes) and writes the folder of
`folder.FitFolder`. Each stage draws its random numbers from seed, frame and stage, so a fit in parts gives the same
files as a fit in one piece.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...codecs.layers.splatting.rasterise import Backend
from ...errors import MediaError
from ..devices import check_training_device, training_device
from ..run import read_recipe, recipe_path
from .config import Recipe, recipe_of
from .folder import FitFolder
from .gaussians import Cloud
from .joints import first_points, fit_static, track
from .pace import KINDS, Pace, Watcher
from .painting import Look, drawn, look
from .skins import Canon, canon_of, refine
from .views import CaptureLike, Views, camera_extent

__all__ = ["DualFit", "fit", "fit_capture"]

Say = Callable[[str], None]
_BLANK = 1.0  # decibels that a fit of frame 0 has to be better than a white picture


def fit(
    capture: CaptureLike,
    out: str | Path,
    recipe: Recipe,
    *,
    name: str = "",
    frames: int | None = None,
    resume: bool = False,
    first: Path | None = None,
    say: Say | None = None,
    watcher: Watcher | None = None,
    device: torch.device | str = "cpu",
    backend: Backend = "auto",
) -> dict[str, Any]:
    """Fits dual Gaussians to the first frames of a capture (all by default), and returns what dual.json says.

    name: of the recipe. resume: goes on with a fit that was interrupted, or had fewer frames. first: another fit's
    folder, whose frame 0 is taken. UsageError if `out` can't be used; MediaError if the picture of a frame is lost:
    what is done so far stays, and --resume tries that frame again.
    """
    return DualFit(capture, Path(out), recipe, name, frames, say, watcher, device, backend).run(resume, first)


def fit_capture(data: str | Path, out: str | Path, recipe: str, device: str = "auto", **options: Any) -> dict[str, Any]:
    """Fits dual Gaussians to a capture on disk by a recipe of train/recipes/dualgs, or a YAML file.

    options: `frames`, `resume`, `say` and `watcher` of `fit`.
    """
    from ...datasets.capture import Capture

    path = recipe_path("dualgs", recipe)
    settings = read_recipe(path)
    parts = [settings["model"] or {}, settings["recipe"] or {}]
    values = {name: value for part in parts for name, value in part.items()}
    check_training_device(device)
    capture = Capture.open(data)
    filled, where = recipe_of(values, str(path)), training_device(device)
    return fit(capture, out, filled, name=settings["tag"], device=where, **options)


class DualFit:
    """A fit and its state between frames. Arguments: those of `fit`."""

    def __init__(
        self,
        capture: CaptureLike,
        out: Path,
        recipe: Recipe,
        name: str = "",
        frames: int | None = None,
        say: Say | None = None,
        watcher: Watcher | None = None,
        device: torch.device | str = "cpu",
        backend: Backend = "auto",
    ) -> None:
        self.capture, self.recipe, self.name, self.device = capture, recipe, name, device
        self.backend: Backend = backend
        self.n_frames = min(capture.n_frames, frames or capture.n_frames)
        self.say = say or (lambda words: None)
        self.held_out = tuple(capture.held_out)
        self.trained = tuple(view for view in range(len(capture.cameras)) if view not in self.held_out)
        if not self.trained or self.n_frames < 1:
            raise MediaError(f"{len(self.trained)} cameras to fit to and {self.n_frames} frames: nothing to do")
        self.extent = camera_extent([capture.cameras[view] for view in self.trained])
        self.folder = FitFolder(out, self._mark(), device)
        self.pace = Pace(recipe, self.n_frames, watcher)
        self.looks: list[Look] = []  # on views that are trained on, a frame each

    def _mark(self) -> str:
        cameras = [(c.width, c.height, c.intrinsics, np.asarray(c.world_to_camera)) for c in self.capture.cameras]
        text = json.dumps([dataclasses.asdict(self.recipe), self.held_out, len(cameras)])
        digest = hashlib.sha256(text.encode())
        for width, height, intrinsics, matrix in cameras:
            digest.update(np.array([width, height, *intrinsics, *matrix.ravel()]).tobytes())
        return digest.hexdigest()

    def _generator(self, frame: int, kind: str) -> torch.Generator:
        key = f"{self.recipe.seed} {frame} {kind}".encode()
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:7], "little"))

    def _views(self, frame: int, views: tuple[int, ...]) -> Views:
        return Views(self.capture, frame, views, self.device)

    # ---- the whole sequence

    def run(self, resume: bool, first: Path | None = None) -> dict[str, Any]:
        """Fits what isn't fitted yet."""
        self.folder.begin(resume)
        if first is not None:
            self.folder.take_first(first)
        began, views = time.monotonic(), self._views(0, self.trained)
        canon = canon_of(self._first_joints(views), self._first_skins(views), self.recipe)
        state = self._first_state(canon, views, began)
        done = state[1]["frame"] + 1
        for kind in KINDS[2:]:
            self.pace.skip(kind, min(done, self.n_frames) - 1)
        try:
            for frame in range(done, self.n_frames):
                state = self._next(frame, canon, state)
                done = frame + 1
        finally:
            facts = {**self._facts(canon), "complete": done >= self.n_frames}
            self.folder.finish(done, canon.anchors.index, canon.anchors.weights, facts)
        if done >= self.capture.n_frames:
            self.folder.remove_state()
        counts = {"n_joints": len(canon.joints["positions"]), "n_skins": len(canon.skins["positions"])}
        return {"n_frames": done, **counts, **facts}

    def _facts(self, canon: Canon) -> dict[str, Any]:
        return {
            "fps": float(self.capture.fps),
            "neighbours": canon.anchors.index.shape[1],
            "length": canon.length,
            "recipe": self.name,
            "rigid": self.recipe.fine.rigid,
            "held_out": list(self.held_out),
            "settings": dataclasses.asdict(self.recipe),
        }

    # ---- frame 0

    def _first_joints(self, views: Views) -> dict[str, Tensor]:
        saved = self.folder.load("joints")
        if saved is not None:
            self.pace.skip("joints")
            return saved[0]
        generator = self._generator(0, "joints")
        self.pace.begin("joints", 0)
        cloud = first_points(self.recipe, views, generator, self.device)
        tick, settings = self.pace.tick, self.recipe.first
        fit_static(cloud, views, self.recipe, settings, self.extent, generator, tick, self.backend, joints=True)
        n = len(cloud)
        if n <= self.recipe.neighbours:
            raise MediaError(f"{n} joints are left in frame 0: the subject isn't seen. Check cameras and background")
        if n < self.recipe.joints:
            self.say(f"{n} joints: fewer than the {self.recipe.joints} of the recipe, as frame 0 has no more to show")
        return self._keep("joints", cloud)

    def _first_skins(self, views: Views) -> dict[str, Tensor]:
        saved = self.folder.load("skins")
        if saved is not None:
            self.pace.skip("skins")
            return saved[0]
        joints = self.folder.load("joints")
        assert joints is not None
        self.pace.begin("skins", 0)
        cloud, generator = Cloud(joints[0]), self._generator(0, "skins")
        settings, tick = self.recipe.skins, self.pace.tick
        fit_static(cloud, views, self.recipe, settings, self.extent, generator, tick, self.backend)
        return self._keep("skins", cloud)

    def _keep(self, name: str, cloud: Cloud) -> dict[str, Tensor]:
        tensors = cloud.data()
        tensors["rotations"] = functional.normalize(tensors["rotations"], dim=1)
        self.folder.save(name, tensors)
        return tensors

    def _first_state(self, canon: Canon, views: Views, began: float) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state after frame 0. began: when its fit did, or this part of it, if it was interrupted."""
        saved = self.folder.load("state")
        if saved is not None:
            self.looks = [Look(*pair) for pair in saved[1]["looks"]]
            return saved
        joints, skins = Cloud(canon.joints), Cloud(canon.skins)
        blank = Cloud({name: value[:1] for name, value in canon.skins.items()})
        blank.values["opacities"].data.fill_(-20.0)
        which = self._which(views)
        nothing = look(drawn(blank), views, which, self.backend)
        seen = look(drawn(skins), views, which, self.backend)
        if seen.psnr < nothing.psnr + _BLANK:
            raise MediaError(
                f"frame 0: {seen.psnr:.1f} dB PSNR, where a white picture has {nothing.psnr:.1f}: nothing was fitted. "
                "Check the cameras and the background: codec data check FOLDER"
            )
        n = len(joints)
        transforms = torch.eye(3, 4, device=self.device).expand(n, 3, 4)
        return self._write(0, joints, skins, None, transforms, seen, began)

    # ---- later frames

    def _next(
        self, frame: int, canon: Canon, state: tuple[dict[str, Tensor], dict[str, Any]]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Fits one frame, from the state after the last one; returns and keeps the state after it."""
        began, recipe, views = time.monotonic(), self.recipe, self._views(frame, self.trained)
        last_joints, last = _part(state[0], "joints"), _part(state[0], "skins")
        joints = Cloud(last_joints)
        self.pace.begin("coarse", frame)
        generator, tick = self._generator(frame, "coarse"), self.pace.tick
        earlier = state[0].get("earlier")
        graph = canon.joint_graph
        track(joints, earlier, views, graph, recipe.coarse, self.extent, generator, tick, self.backend)
        since = canon.skins if recipe.fine.since == "first" else last
        skins = Cloud({**since, "positions": last["positions"], "rotations": last["rotations"]})
        self.pace.begin("fine", frame)
        generator = self._generator(frame, "fine")
        before = (last, last["positions"], last["rotations"])
        motion = refine(
            joints, skins, before, canon, views, recipe, recipe.fine, self.extent, generator, tick, self.backend
        )
        skins.values["positions"].data = motion.skin_positions
        skins.values["rotations"].data = motion.skin_rotations
        if recipe.fine.joints_follow:
            joints.values["positions"].data, joints.values["rotations"].data = motion.positions, motion.rotations
        seen = look(drawn(skins), views, self._which(views), self.backend)
        self._check(frame, seen)
        return self._write(frame, joints, skins, last_joints["positions"], motion.transforms, seen, began)

    def _which(self, views: Views) -> list[int]:
        count = min(len(views), max(1, self.recipe.looks))
        return [round(i * (len(views) - 1) / max(1, count - 1)) for i in range(count)]

    def _check(self, frame: int, seen: Look) -> None:
        """Raises MediaError if the picture was lost from the last frame to this one; says so if it fades."""
        before, first = self.looks[-1].psnr, self.looks[0].psnr
        if not seen.psnr > before - self.recipe.collapse:
            raise MediaError(
                f"frame {frame}: the picture is lost: PSNR fell from {before:.1f} to {seen.psnr:.1f} dB. Do cameras "
                "and pictures of this frame belong together, and is its background white? codec data check says. The "
                f"frames before it are written; --resume tries frame {frame} again"
            )
        if seen.psnr < first - self.recipe.collapse:
            self.say(f"frame {frame}: {seen.psnr:.1f} dB, {first - seen.psnr:.1f} dB below frame 0: tracking fades")

    def _write(
        self,
        frame: int,
        joints: Cloud,
        skins: Cloud,
        earlier: Tensor | None,
        transforms: Tensor,
        seen: Look,
        began: float,
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self.looks.append(seen)
        row: dict[str, Any] = {"frame": frame, "joints": len(joints), "skins": len(skins), "psnr": seen.psnr}
        row |= {"ssim": seen.ssim}
        if self.held_out:
            held = look(drawn(skins), self._views(frame, self.held_out), None, self.backend)
            row |= {"held_out_psnr": held.psnr, "held_out_ssim": held.ssim}
        row["seconds"] = time.monotonic() - began
        row = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        self.folder.write_frame(frame, skins.gaussians(), joints.gaussians())
        self.folder.write_motion(frame, transforms)
        tensors = {f"joints.{name}": value for name, value in joints.data().items()}
        tensors |= {f"skins.{name}": value for name, value in skins.data().items()}
        if earlier is not None:
            tensors["earlier"] = earlier
        facts = {"frame": frame, "looks": [[kept.psnr, kept.ssim] for kept in self.looks]}
        self.folder.save("state", tensors, **facts)
        self.folder.log(row)
        shown = f", held out {row['held_out_psnr']:.2f} dB" if self.held_out else ""
        self.say(f"frame {frame}: {seen.psnr:.2f} dB PSNR{shown}, {len(skins)} skins, {row['seconds']:.1f} s")
        return tensors, facts


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
