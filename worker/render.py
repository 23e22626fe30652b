"""One job: fetch its inputs, generate, encode, upload. What it returns is what gets committed."""

from __future__ import annotations

import hashlib
import io
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from jobs.spec import Blob, JobSpec
from jobs.state import Artifact, Result, Stage
from jobs.storage import Storage, attempt_prefix
from model import DragAnythingPipeline, Entity
from worker.attempt import Attempt
from worker.encode import MEDIA_TYPES, encode, frames_zip, poster
from worker.manifest import manifest
from worker.overlay import overlay

Frames = NDArray[np.uint8]
Files = dict[str, tuple[str, bytes, str]]
"""Artifact name → file name, bytes, media type."""


class DamagedInput(Exception):
    """A stored input is not what its hash says, or no picture."""


class NotFinite(Exception):
    """The networks produced infinities or NaN."""


@dataclass(frozen=True)
class _Video:
    frames: Frames
    centres: NDArray[np.int32]  # [E, F, 2] in output pixels
    sides: NDArray[np.int32]  # [E, F]


def render(spec: JobSpec, pipeline: DragAnythingPipeline, storage: Storage, attempt: Attempt) -> Result:
    """Make the video of a job and store all of its files; nothing is visible until the result is committed.

    Raises:
        Interruption: the attempt was canceled, drained, timed out or superseded.
        NotFound, Unavailable, DamagedInput: an input could not be read.
        NotFinite: the model produced no numbers.
    """
    attempt.report(Stage.LOADING)
    image, entities = _fetch(spec, storage)
    video = _generate(spec, image, entities, pipeline, attempt)
    attempt.report(Stage.ENCODING)
    files = _encode(spec, video)
    attempt.report(Stage.UPLOADING)
    artifacts = _upload(files, storage, attempt)
    timings_s = attempt.finish()
    document = manifest(spec, pipeline.card, video.frames, artifacts, timings_s)
    key = attempt_prefix(attempt.job_id, attempt.id) + "manifest.json"
    artifacts["manifest"] = storage.put(key, document, "application/json")
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


def _fetch(spec: JobSpec, storage: Storage) -> tuple[Image.Image, list[Entity]]:
    blobs = [spec.image, *(track.mask for track in spec.entities)]
    with ThreadPoolExecutor(max_workers=min(len(blobs), 8)) as pool:
        image, *masks = pool.map(lambda blob: _read(blob, storage), blobs)
    upright = ImageOps.exif_transpose(image).convert("RGB")
    entities = [
        Entity(
            mask=np.asarray(mask.convert("L")) > 0,
            points=np.asarray(track.points, np.float64),
            scale=None if track.scale is None else np.asarray(track.scale, np.float64),
            control=track.control,
        )
        for mask, track in zip(masks, spec.entities, strict=True)
    ]
    return upright, entities


def _read(blob: Blob, storage: Storage) -> Image.Image:
    data = storage.get(blob.key)
    if hashlib.sha256(data).hexdigest() != blob.sha256:
        raise DamagedInput(blob.key)
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise DamagedInput(blob.key) from error
    return image


def _generate(
    spec: JobSpec, image: Image.Image, entities: list[Entity], pipeline: DragAnythingPipeline, attempt: Attempt
) -> _Video:
    def on_stage(stage: str, done: int, total: int) -> None:
        attempt.report(Stage(stage), done, total)

    conditions = pipeline.condition(
        image,
        entities,
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
    frames = pipeline.decode(latents, spec.decode_chunk_size, on_stage)
    return _Video(frames, conditions.conditioning.points, conditions.conditioning.sides)


def _encode(spec: JobSpec, video: _Video) -> Files:
    fmt = spec.output.format
    files: Files = {
        "video": (f"video.{fmt}", encode(video.frames, fmt, spec.fps), MEDIA_TYPES[fmt]),
        "poster": ("poster.jpg", poster(video.frames[0]), MEDIA_TYPES["jpeg"]),
    }
    if spec.output.overlay:
        labels = [track.label for track in spec.entities]
        drawn = overlay(video.frames, video.centres, video.sides, labels)
        files["overlay"] = ("overlay.mp4", encode(drawn, "mp4", spec.fps), MEDIA_TYPES["mp4"])
    if spec.output.frames:
        files["frames"] = ("frames.zip", frames_zip(video.frames), MEDIA_TYPES["zip"])
    return files


def _upload(files: Files, storage: Storage, attempt: Attempt) -> dict[str, Artifact]:
    prefix = attempt_prefix(attempt.job_id, attempt.id)
    with ThreadPoolExecutor(max_workers=len(files)) as pool:
        puts = {
            name: pool.submit(storage.put, prefix + filename, data, media_type)
            for name, (filename, data, media_type) in files.items()
        }
        return {name: put.result() for name, put in puts.items()}
