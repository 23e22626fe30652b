"""Jobs as small as they can be."""

from __future__ import annotations

from typing import Any

from jobs.models import ModelCard
from jobs.spec import Blob, EntityTrack, JobSpec, Output
from jobs.state import Artifact, Record, Result
from jobs.store import NewJob, Store, new_id

BLOB = Blob(key="inputs/none", sha256="0" * 64, width=64, height=64)


def make_spec(**changes: Any) -> JobSpec:
    """64x64, two frames, one step, one entity; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "model": "tiny",
        "weights_sha256": "0" * 64,
        "image": BLOB,
        "entities": [EntityTrack(label="a", mask=BLOB, points=[(24.0, 24.0), (40.0, 40.0)])],
        "width": 64,
        "height": 64,
        "num_frames": 2,
        "num_inference_steps": 1,
        "seed": 7,
        "min_guidance_scale": 1.0,
        "max_guidance_scale": 1.0,
        "control_scale": 1.0,
        "control_start": 0.0,
        "control_end": 1.0,
        "motion_bucket_id": 127,
        "noise_aug_strength": 0.02,
        "decode_chunk_size": 2,
        "tier": "exact",
        "sampler": "euler",
        "output": Output(),
        "fps": 7,
        "priority": "normal",
        "deadline_s": None,
    }
    return JobSpec.model_validate(fields | changes)


def make_card(name: str = "tiny") -> ModelCard:
    """The card of a model that nobody holds."""
    return ModelCard(
        name=name,
        width=192,
        height=128,
        max_pixels=192 * 128,
        num_frames=14,
        max_frames=25,
        num_inference_steps=10,
        max_inference_steps=50,
        min_guidance_scale=1.0,
        max_guidance_scale=1.0,
        fps=7,
        decode_chunk_size=8,
        motion_bucket_id=128,
        noise_aug_strength=0.02,
        weights_sha256="0" * 64,
    )


def make_result(key: str = "jobs/none/video.mp4") -> Result:
    """What a job that made one file would commit."""
    video = Artifact(key=key, media_type="video/mp4", bytes=1, sha256="0" * 64)
    return Result(
        artifacts={"video": video},
        width=64,
        height=64,
        num_frames=2,
        fps=7,
        duration_s=0.2857,
        seed=7,
        timings_s={"denoising": 0.1},
    )


def record_one(store: Store, job_id: str | None = None, owner: str = "alice", **changes: Any) -> Record:
    """The record of a new job; ``changes`` as in ``make_spec``."""
    (record,) = store.create(owner, [NewJob(job_id or new_id(), make_spec(**changes))])
    return record
