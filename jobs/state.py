"""The life of a job: its states, the legal transitions, and the snapshot that every door shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

ENDING_FRAME = "frame.png"
"""In a result's zip ``ending``: the last frame of the video; beside it, as ``0.png``, ``1.png``, …, the masks of
those entities of the spec that are seen in it."""


class Status(StrEnum):
    """``queued → running → succeeded | failed | canceled``; ``expired`` is a deadline missed in the queue."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """True where no transition leads out."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[Status, frozenset[Status]] = {
    # queued → failed: the last allowed attempt died with its worker
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELED, Status.EXPIRED, Status.FAILED}),
    # running → queued: the worker died or was drained, and the job runs again
    Status.RUNNING: frozenset({Status.QUEUED, Status.SUCCEEDED, Status.FAILED, Status.CANCELED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
    Status.EXPIRED: frozenset(),
}


class Stage(StrEnum):
    """What a running job is doing."""

    QUEUED = "queued"
    LOADING = "loading"
    CONDITIONING = "conditioning"
    DENOISING = "denoising"
    DECODING = "decoding"
    ENCODING = "encoding"
    UPLOADING = "uploading"
    DONE = "done"


STAGE_SPANS: dict[Stage, tuple[float, float]] = {
    Stage.QUEUED: (0.0, 0.0),
    Stage.LOADING: (0.0, 0.01),
    Stage.CONDITIONING: (0.01, 0.05),
    Stage.DENOISING: (0.05, 0.85),
    Stage.DECODING: (0.85, 0.95),
    Stage.ENCODING: (0.95, 0.98),
    Stage.UPLOADING: (0.98, 1.0),
    Stage.DONE: (1.0, 1.0),
}


def fraction(stage: Stage, done: float = 0.0) -> float:
    """The share of a job that is behind it when ``done`` (0..1) of ``stage`` is."""
    start, end = STAGE_SPANS[stage]
    return round(start + (end - start) * min(max(done, 0.0), 1.0), 4)


class JobWarning(BaseModel):
    """Something that the user should know before looking at the video."""

    code: str
    detail: str
    pointer: str | None = None


class Failure(BaseModel):
    """Why a job failed."""

    code: str
    detail: str


class Progress(BaseModel):
    """Where a job is."""

    stage: Stage = Stage.QUEUED
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    preview_url: str | None = None


class Artifact(BaseModel):
    """One object of a finished job."""

    key: str
    media_type: str
    bytes: int
    sha256: str


class EntityScores(BaseModel):
    """How well an entity kept to its path, in pixels of the video, means over frames."""

    label: str
    objmc_px: float | None = Field(
        description="Distance of the tracked point to the asked one, over frames in which the entity is seen;"
        " null where it never is after the first, which is given and does not count."
    )
    objmc_px_still: float = Field(description="The same in a video in which nothing moves.")
    anchor_drift_px: float | None = Field(
        description="The same distance where the entity was asked to hold still; null for one asked to move."
    )
    visibility: float = Field(description="The share of frames in which the tracker sees the entity.")
    motion_spread: float = Field(
        description="Standard deviation of the optical flow inside the entity, pixels per frame; 0: it shifts."
    )


class Scores(BaseModel):
    """How well a video did what was asked: ``objmc_px`` is the mean over the entities that were asked to move,
    ``anchor_drift_px`` over those asked to hold still, null where there are none; the rest over all."""

    tracker: str
    objmc_px: float | None
    objmc_px_still: float | None
    anchor_drift_px: float | None
    visibility: float
    motion_spread: float
    entities: list[EntityScores]


class Ranked(BaseModel):
    """One of the videos of a job with ``best_of``."""

    seed: int = Field(description="A job with this seed and without best_of renders the same video.")
    scores: Scores | None


class Video(BaseModel):
    """The facts of a finished video; ``timings_s`` has the seconds of each stage."""

    width: int
    height: int
    num_frames: int
    fps: int
    duration_s: float
    seed: int
    timings_s: dict[str, float]
    scores: Scores | None = Field(None, description="Null where the tracker failed.")


class Candidate(Ranked):
    """With the name of its artifact."""

    artifact: str


class Result(Video):
    """What a succeeded attempt committed. ``artifacts`` always has ``video``, ``poster``, ``ending`` and
    ``manifest``."""

    artifacts: dict[str, Artifact]
    candidates: list[Candidate] = []


class Record(BaseModel):
    """A job as it is stored: the truth. Doors add links to it, never facts."""

    model_config = ConfigDict(extra="ignore")

    id: str
    owner: str = ""
    group: str | None = None
    status: Status
    model: str
    priority: str = "normal"
    spec: dict[str, Any] = Field(repr=False)
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    progress: Progress = Progress()
    queue_position: int | None = None
    attempt: int = 0
    attempt_id: str | None = None
    traceparent: str | None = Field(None, repr=False)
    cancel_requested: bool = False
    result: Result | None = None
    error: Failure | None = None
    warnings: list[JobWarning] = []

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Self:
        """The record that the fields of a Redis hash hold; what is not there has its default."""

        def instant(name: str) -> datetime | None:
            return datetime.fromtimestamp(int(fields[name]) / 1000, UTC) if name in fields else None

        held = {name: fields[name] for name in ("attempt", "cancel_requested") if name in fields}
        held |= {name: fields[name] for name in ("group", "attempt_id", "traceparent") if fields.get(name)}
        documents = [name for name in ("spec", "warnings", "result", "error") if name in fields]
        return cls.model_validate(
            {
                **{name: fields[name] for name in ("id", "owner", "status", "model", "priority")},
                **held,
                **{name: json.loads(fields[name]) for name in documents},
                **{f"{name}_at": instant(f"{name}_ms") for name in ("created", "started", "finished", "expires")},
                "progress": {name: fields[name] for name in Progress.model_fields if name in fields},
            }
        )
