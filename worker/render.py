"""One job in two parts: the first ends with latents and occupies the device, the second makes files of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf, isfinite
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.tracking import Tracker
from jobs import faults
from jobs.errors import Unavailable
from jobs.spec import JobSpec
from jobs.state import Artifact, Candidate, Result, Scores, Stage
from jobs.storage import Storage, attempt_prefix
from model import DragAnythingPipeline, Entity
from model.conditioning import Conditioning
from worker.attempt import Attempt
from worker.encode import MEDIA_TYPES, encode, ending_zip, frames_zip, poster
from worker.inputs import Scene
from worker.manifest import manifest
from worker.overlay import overlay
from worker.scoring import Scored, find_ending, score

Frames = NDArray[np.uint8]
Files = dict[str, tuple[str, bytes, str]]
"""Artifact name → file name, bytes, media type."""
OnStage = Callable[[str, int, int], None]
T = TypeVar("T")
SEEDS = 2**63


class NotFinite(Exception):
    """The networks produced infinities or NaN."""


@dataclass(frozen=True)
class Denoised:
    """A job whose steps are done: latents, and where its entities were sent, in output pixels."""

    latents: dict[int, torch.Tensor]  # by seed, [1, F, C, h, w]
    entities: Sequence[Entity]
    centres: NDArray[np.int32]  # [E, F, 2]
    sides: NDArray[np.int32]  # [E, F]
    prefix: Frames | None  # the video that this one extends


@dataclass
class _Take:
    """One of the videos that were rendered: uint8 [F, H, W, 3]; of an extension, the new part."""

    seed: int
    frames: Frames
    scored: Scored | None = None

    @property
    def scores(self) -> Scores | None:
        return None if self.scored is None else self.scored.scores


def denoise(
    spec: JobSpec, scene: Scene, pipeline: DragAnythingPipeline, attempt: Attempt, beside: Callable[[], None]
) -> Denoised:
    """Build the conditions and run the sampler. ``beside`` is called at each step and must return at once.

    Raises:
        Interruption: the attempt was canceled, drained, timed out or superseded.
        NotFinite: the model produced no numbers.
    """

    latents: dict[int, torch.Tensor] = {}
    steps = spec.num_inference_steps

    def on_stage(stage: str, done: int, total: int) -> None:
        if stage == Stage.DENOISING:
            attempt.report(Stage.DENOISING, len(latents) * steps + done, spec.best_of * steps)
            faults.reach("mid_step")
            beside()
        elif latents:  # the stage of a whole job never goes back
            attempt.report(Stage.DENOISING, len(latents) * steps, spec.best_of * steps)
        else:
            attempt.report(Stage(stage), done, total)

    for candidate in range(spec.best_of):
        seed = (spec.seed + candidate) % SEEDS
        latents[seed], conditioning = _denoise(spec, seed, scene, pipeline, on_stage)
    return Denoised(latents, scene.entities, conditioning.points, conditioning.sides, scene.prefix)


def _denoise(
    spec: JobSpec, seed: int, scene: Scene, pipeline: DragAnythingPipeline, on_stage: OnStage
) -> tuple[torch.Tensor, Conditioning]:
    """One video; with another seed, the entities' features differ too, so nothing of it is used again."""
    conditions = pipeline.condition(
        scene.image,
        scene.entities,
        num_frames=spec.num_frames,
        width=spec.width,
        height=spec.height,
        generator=torch.Generator("cpu").manual_seed(seed),
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
    if not isfinite(float(latents.abs().max())):
        raise NotFinite(f"{pipeline.card.name} produced latents that are not finite")
    return latents, conditions.conditioning


def finish(
    spec: JobSpec,
    denoised: Denoised,
    pipeline: DragAnythingPipeline,
    storage: Storage,
    attempt: Attempt,
    tracker: Tracker,
) -> Result:
    """Decode, score, encode, store all files; nothing is visible until the result is committed.

    Raises:
        Interruption: the attempt was canceled, drained, timed out or superseded.
    """
    takes = _decode(spec, denoised, pipeline, attempt)
    attempt.report(Stage.ENCODING)
    labels = [track.label for track in spec.entities]
    for take in takes:
        take.scored = score(take.frames, denoised.entities, labels, tracker)
        attempt.check()
    takes.sort(key=_rank)
    best = takes[0]
    files = _encode(spec, takes, denoised)
    whole = _join(denoised.prefix, best.frames)
    attempt.report(Stage.UPLOADING)
    faults.reach("before_upload")
    artifacts = insist(lambda: _upload(files, storage, attempt), attempt, Stage.UPLOADING)
    timings_s = attempt.finish()
    alone = spec.model_copy(update={"seed": best.seed, "best_of": 1})
    document = manifest(alone, pipeline.card, whole, artifacts, timings_s, best.scores)
    key = attempt_prefix(attempt.job_id, attempt.id) + "manifest.json"
    artifacts["manifest"] = insist(
        lambda: storage.put(key, document, "application/json"), attempt, Stage.UPLOADING
    )
    faults.reach("after_upload")
    return Result(
        artifacts=artifacts,
        width=spec.width,
        height=spec.height,
        num_frames=len(whole),
        fps=spec.fps,
        duration_s=round(len(whole) / spec.fps, 4),
        seed=best.seed,
        timings_s=timings_s,
        scores=best.scores,
        candidates=[
            Candidate(seed=take.seed, scores=take.scores, artifact=_name(place))
            for place, take in enumerate(takes)
        ]
        if len(takes) > 1
        else [],
    )


def _decode(spec: JobSpec, denoised: Denoised, pipeline: DragAnythingPipeline, attempt: Attempt) -> list[_Take]:
    takes: list[_Take] = []

    def on_stage(stage: str, done: int, total: int) -> None:
        attempt.report(Stage(stage), len(takes) * total + done, len(denoised.latents) * total)

    for seed, latents in denoised.latents.items():
        takes.append(_Take(seed, pipeline.decode(latents, spec.decode_chunk_size, on_stage)))
    return takes


def _rank(take: _Take) -> tuple[float, float]:
    """The best first: ObjMC, then drift."""
    return (inf, inf) if take.scored is None else take.scored.rank


def _name(place: int) -> str:
    """The artifact of a ranked candidate."""
    return f"candidate-{place + 1}" if place else "video"


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


def _encode(spec: JobSpec, takes: Sequence[_Take], denoised: Denoised) -> Files:
    """Every candidate's video, and of the best the rest."""
    fmt, prefix = spec.output.format, denoised.prefix
    files: Files = {
        _name(place): (
            f"{_name(place)}.{fmt}",
            encode(_join(prefix, take.frames), fmt, spec.fps),
            MEDIA_TYPES[fmt],
        )
        for place, take in enumerate(takes)
    }
    frames, scored = takes[0].frames, takes[0].scored
    whole = _join(prefix, frames)
    files["poster"] = ("poster.jpg", poster(whole[0]), MEDIA_TYPES["jpeg"])
    masks = find_ending(frames, denoised.entities, scored)
    files["ending"] = ("ending.zip", ending_zip(frames[-1], masks), MEDIA_TYPES["zip"])
    if spec.output.overlay:
        labels = [track.label for track in spec.entities]
        seen = (None, None) if scored is None else (scored.tracked - 0.5, scored.visible)  # indices of pixels
        drawn = overlay(frames, denoised.centres, denoised.sides, labels, *seen)
        if prefix is not None:
            nothing = np.zeros((0, len(prefix), 2))
            drawn = _join(overlay(prefix, nothing, nothing[..., 0]), drawn)
        # As large and within 0.3 dB of medium's, in 40 % of the time: drawn frames are larger than the video's.
        files["overlay"] = ("overlay.mp4", encode(drawn, "mp4", spec.fps, preset="veryfast"), MEDIA_TYPES["mp4"])
    if spec.output.frames:
        files["frames"] = ("frames.zip", frames_zip(whole), MEDIA_TYPES["zip"])
    return files


def _join(prefix: Frames | None, frames: Frames) -> Frames:
    """The earlier frames, then the new ones but the first, which shows the last of those again."""
    return frames if prefix is None else np.concatenate([prefix, frames[1:]])


def _upload(files: Files, storage: Storage, attempt: Attempt) -> dict[str, Artifact]:
    prefix = attempt_prefix(attempt.job_id, attempt.id)

    def put(name: str) -> Artifact:
        filename, data, media_type = files[name]
        artifact = storage.put(prefix + filename, data, media_type)
        faults.reach("mid_upload")
        return artifact

    with ThreadPoolExecutor(max_workers=min(len(files), 8)) as pool:
        return dict(zip(files, pool.map(put, files), strict=True))
