"""Who makes the videos of a benchmark: the pipeline in this process, or a service.

A long path can be made in parts, each from the last frame of the one before, as ``extends`` does.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from draganything_client import Client, DragAnythingError, InvalidRequest, Job

from evaluation.clips import Clip
from evaluation.tracking import Tracker, carry
from evaluation.videos import Frames, VideosMissing, png, unzip
from model.conditioning import Entity
from model.pipeline import DragAnythingPipeline
from training.stages.video import mute

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Control = Literal["full", "entity", "gaussian", "none"]
"""What the network is told: entity representation and Gaussian, either alone, nothing. ``gaussian`` is what a
request calls ``point``, the drag-pixel baseline."""


class Maker(Protocol):
    """Makes a video for a clip."""

    def make(self, clip: Clip, control: Control, paths: Floats, parts: int) -> Frames:
        """A video [L, H, W, 3] from the clip's first frame, in which its entities follow ``paths`` [E, L, 2].

        It is made in ``parts``, each from the last frame of the one before, which it shares: L - 1 is a multiple.
        Once every entity is lost, the last frame stands still.
        """
        ...


def stretch(paths: Floats, parts: int) -> Floats:
    """Paths [E, F, 2] that take ``parts`` times as long: [E, parts * (F - 1) + 1, 2]."""
    last = paths.shape[1] - 1
    times = np.linspace(0, last, parts * last + 1)
    before = np.minimum(np.floor(times).astype(int), max(last - 1, 0))
    share = (times - before)[:, None]
    after = np.minimum(before + 1, last)
    return np.asarray(paths[:, before] * (1 - share) + paths[:, after] * share)


@dataclass(frozen=True)
class Local:
    """The pipeline in this process."""

    pipeline: DragAnythingPipeline
    tracker: Tracker
    seed: int = 1
    steps: int | None = None

    def make(self, clip: Clip, control: Control, paths: Floats, parts: int) -> Frames:
        """See ``Maker``. What the tracker has lost by the end of a part is not controlled in the next ones."""
        length = (paths.shape[1] - 1) // parts
        frames, masks = clip.frames[:1], list(clip.masks)
        for part in range(parts):
            now = paths[:, part * length : (part + 1) * length + 1]
            known = [k for k, mask in enumerate(masks) if mask.any()]
            if not known:
                return np.concatenate([frames, np.repeat(frames[-1:], (parts - part) * length, axis=0)])
            made = self._part(frames[-1], [masks[k] for k in known], now[known], control, seed_of(clip, self.seed))
            if part + 1 < parts:
                masks = self._ending(made, masks, now, known)
            frames = np.concatenate([frames, made[1:]])
        return frames

    def _part(self, image: Frames, masks: list[Bools], paths: Floats, control: Control, seed: int) -> Frames:
        entities = [
            Entity(mask, path, control="point" if control == "gaussian" else "entity")
            for mask, path in zip(masks, paths, strict=True)
        ]
        with ExitStack() as stack:
            if control == "entity":
                embedding = self.pipeline.controlnet.controlnet_cond_embedding
                hook = embedding.register_forward_pre_hook(_without_heat)
                stack.callback(hook.remove)
            return self.pipeline(
                image,
                entities,
                num_frames=paths.shape[1],
                num_inference_steps=self.steps,
                width=image.shape[1],
                height=image.shape[0],
                generator=torch.Generator().manual_seed(seed),
                control_scale=0.0 if control == "none" else 1.0,
            ).frames

    def _ending(self, frames: Frames, masks: list[Bools], paths: Floats, known: list[int]) -> list[Bools]:
        """Where the entities are in the last frame; an empty mask for one that is lost."""
        found = np.stack(masks)
        tracks, seen = self.tracker.track(frames, found, paths[:, 0])
        size = (frames.shape[2], frames.shape[1])
        for k in range(len(masks)):
            motion = carry(frames, found[k], tracks[k], seen[k]) if k in known else None
            if motion is None:
                found[k] = False
            else:
                found[k] = cv2.warpAffine(found[k].astype(np.uint8), motion, size, flags=cv2.INTER_NEAREST) > 0
        return list(found)


def _without_heat(_module: object, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*mute("entity", inputs[0], inputs[1]), *inputs[2:])


def seed_of(clip: Clip, seed: int) -> int:
    """A seed for a clip that does not depend on which other clips there are."""
    return int.from_bytes(hashlib.sha256(f"{seed} {clip.name}".encode()).digest()[:7], "big")


@dataclass(frozen=True)
class Service:
    """A running service, by its client."""

    client: Client
    model: str | None = None
    seed: int = 1
    steps: int | None = None

    def make(self, clip: Clip, control: Control, paths: Floats, parts: int) -> Frames:
        """See ``Maker``. What the service has lost by the end of a part is left out of the next ones.

        Raises:
            VideosMissing: a job was refused or failed, or Gaussians were to be left out, which it can not.
        """
        if control == "entity":
            raise VideosMissing("a service has no control without Gaussians: leave --service or this row out")
        try:
            return self._make(clip, control, paths, parts)
        except DragAnythingError as error:
            raise VideosMissing(f"{clip.name}: {error}") from error

    def _make(self, clip: Clip, control: Control, paths: Floats, parts: int) -> Frames:
        length = (paths.shape[1] - 1) // parts
        job: Job | None = None
        for part in range(parts):
            now = paths[:, part * length : (part + 1) * length + 1]
            longer = self._render(self._request(clip, control, now, job))
            if longer is None:
                break
            job = longer
        assert job is not None  # there is always a first part
        with tempfile.TemporaryDirectory() as folder:
            saved = self.client.download(job, folder, ["frames"])["frames"]
            frames = unzip(saved.read_bytes())
        return np.concatenate([frames, np.repeat(frames[-1:], paths.shape[1] - len(frames), axis=0)])

    def _render(self, request: dict[str, Any]) -> Job | None:
        """The finished job; None where no entity is left that can be found."""
        while request["entities"]:
            try:
                return self.client.wait(self.client.generate(request))
            except InvalidRequest as error:
                lost = _lost(error.errors, request)
                if not lost:
                    raise
                request = {**request, "entities": [e for i, e in enumerate(request["entities"]) if i not in lost]}
        return None

    def _request(self, clip: Clip, control: Control, paths: Floats, before: Job | None) -> dict[str, Any]:
        entities: list[dict[str, Any]] = []
        for index, (mask, path) in enumerate(zip(clip.masks, paths, strict=True)):
            entity: dict[str, Any] = {
                "label": str(index),
                "trajectory": {"points": path.tolist(), "timing": "per_point"},
                "control": "point" if control == "gaussian" else "entity",
            }
            if before is None:
                entity["mask"] = {"base64": png(mask.astype(np.uint8) * 255)}
            entities.append(entity)
        return {
            **({"image": {"base64": png(clip.frames[0])}} if before is None else {"extends": before.id}),
            **({"model": self.model} if self.model else {}),
            **({"num_inference_steps": self.steps} if self.steps else {}),
            **({} if before is not None else {"width": clip.size[0], "height": clip.size[1]}),
            "entities": entities,
            "num_frames": paths.shape[1],
            "seed": seed_of(clip, self.seed),
            "control_scale": 0.0 if control == "none" else 1.0,
            "output": {"frames": True, "overlay": False},
        }


def _lost(errors: Sequence[Any], request: dict[str, Any]) -> set[int]:
    """The entities, by their place, that an extension does not find in the earlier video."""
    found = (re.fullmatch(r"/entities/(\d+)/(label|mask)", error.pointer) for error in errors)
    return {int(match[1]) for match in found if match} if "extends" in request else set()
