"""One job in two parts: the first ends with latents and occupies the device, the second makes files of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from jobs import faults
from jobs.errors import Unavailable
from jobs.spec import JobSpec
from jobs.state import Artifact, Result, Stage
from jobs.storage import Storage, attempt_prefix
from model import DragAnythingPipeline
from worker.attempt import Attempt
from worker.encode import MEDIA_TYPES, encode, frames_zip, poster
from worker.inputs import Scene
from worker.manifest import manifest
from worker.overlay import overlay

Frames = NDArray[np.uint8]
Files = dict[str, tuple[str, bytes, str]]
"""Artifact name → file name, bytes, media type."""
T = TypeVar("T")


class NotFinite(Exception):
    """The networks produced infinities or NaN."""


@dataclass(frozen=True)
class Denoised:
    """A job whose steps are done: latents [1, F, C, h, w] and where its entities were sent, in output pixels."""

    latents: torch.Tensor
    centres: NDArray[np.int32]  # [E, F, 2]
    sides: NDArray[np.int32]  # [E, F]


def denoise(
    spec: JobSpec, scene: Scene, pipeline: DragAnythingPipeline, attempt: Attempt, beside: Callable[[], None]
) -> Denoised:
    """Build the conditions and run the sampler. ``beside`` is called at each step and must return at once.

    Raises:
        Interruption: the attempt was canceled, drained, timed out or superseded.
        NotFinite: the model produced no numbers.
    """

    def on_stage(stage: str, done: int, total: int) -> None:
        attempt.report(Stage(stage), done, total)
        if stage == Stage.DENOISING:
            faults.reach("mid_step")
            beside()

    conditions = pipeline.condition(
        scene.image,
        scene.entities,
        num_frames=spec.num_frames,
        width=spec.width,
        height=spec.height,
        generator=torch.Generator("cpu").manual_seed(spec.seed),
        motion_bucket_id=spec.motion_bucket_id,
        noise_aug_strength=spec.noise_aug_strength,
        on_stage=on_stage,
    )
    latents = pipeline.denoise(
        conditions,
        num_inference_steps=spec.num_inference_steps,
        min_guidance_scale=spec.min_guidance_scale,
        max_guidance_scale=spec.max_guidance_scale,
        control_scale=spec.control_scale,
        control_start=spec.control_start,
        control_end=spec.control_end,
        sampler=spec.sampler,
        on_stage=on_stage,
    )
    if not math.isfinite(float(latents.abs().max())):
        raise NotFinite(f"{pipeline.card.name} produced latents that are not finite")
    return Denoised(latents, conditions.conditioning.points, conditions.conditioning.sides)


def finish(
    spec: JobSpec, denoised: Denoised, pipeline: DragAnythingPipeline, storage: Storage, attempt: Attempt
) -> Result:
    """Decode, encode, store all files; nothing is visible until the result is committed.

    Raises:
        Interruption: the attempt was canceled, drained, timed out or superseded.
    """
    frames = pipeline.decode(
        denoised.latents,
        spec.decode_chunk_size,
        lambda stage, done, total: attempt.report(Stage(stage), done, total),
    )
    attempt.report(Stage.ENCODING)
    files = _encode(spec, frames, denoised)
    attempt.report(Stage.UPLOADING)
    faults.reach("before_upload")
    artifacts = insist(lambda: _upload(files, storage, attempt), attempt, Stage.UPLOADING)
    timings_s = attempt.finish()
    document = manifest(spec, pipeline.card, frames, artifacts, timings_s)
    key = attempt_prefix(attempt.job_id, attempt.id) + "manifest.json"
    artifacts["manifest"] = insist(
        lambda: storage.put(key, document, "application/json"), attempt, Stage.UPLOADING
    )
    faults.reach("after_upload")
    return Result(
        artifacts=artifacts,
        width=spec.width,
        height=spec.height,
        num_frames=spec.num_frames,
        fps=spec.fps,
        duration_s=round(spec.num_frames / spec.fps, 4),
        seed=spec.seed,
        timings_s=timings_s,
    )


def insist(call: Callable[[], T], attempt: Attempt, stage: Stage) -> T:
    """Ask the object store until it answers: rendered work is not thrown away because S3 is away for a while.

    Raises:
        Interruption: the attempt was canceled, drained, timed out or superseded in the meantime.
    """
    while True:
        try:
            return call()
        except Unavailable:
            attempt.pause()
            attempt.report(stage)


def _encode(spec: JobSpec, frames: Frames, denoised: Denoised) -> Files:
    fmt = spec.output.format
    files: Files = {
        "video": (f"video.{fmt}", encode(frames, fmt, spec.fps), MEDIA_TYPES[fmt]),
        "poster": ("poster.jpg", poster(frames[0]), MEDIA_TYPES["jpeg"]),
    }
    if spec.output.overlay:
        labels = [track.label for track in spec.entities]
        drawn = overlay(frames, denoised.centres, denoised.sides, labels)
        files["overlay"] = ("overlay.mp4", encode(drawn, "mp4", spec.fps), MEDIA_TYPES["mp4"])
    if spec.output.frames:
        files["frames"] = ("frames.zip", frames_zip(frames), MEDIA_TYPES["zip"])
    return files


def _upload(files: Files, storage: Storage, attempt: Attempt) -> dict[str, Artifact]:
    prefix = attempt_prefix(attempt.job_id, attempt.id)

    def put(name: str) -> Artifact:
        filename, data, media_type = files[name]
        artifact = storage.put(prefix + filename, data, media_type)
        faults.reach("mid_upload")
        return artifact

    with ThreadPoolExecutor(max_workers=len(files)) as pool:
        return dict(zip(files, pool.map(put, files), strict=True))
