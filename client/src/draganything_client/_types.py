"""What the service answers. Fields that this version does not know yet are kept, never an error."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from ._errors import FieldError

Json = Mapping[str, Any]
Status = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
Point = tuple[float, float]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Problem(_Answer):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    code: str = ""
    errors: tuple[FieldError, ...] | None = None


class Progress(_Answer):
    """Where a job is; ``fraction`` is 0..1 over all stages."""

    stage: str = "queued"
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    preview_url: str | None = None


class JobWarning(_Answer):
    """Something to know before looking at the video."""

    code: str
    detail: str = ""
    pointer: str | None = None


class Failure(_Answer):
    """Why a job failed."""

    code: str
    detail: str = ""


class Result(_Answer):
    """A finished video; the links are signed, and fresh at each read."""

    video_url: str
    overlay_url: str | None = None
    poster_url: str | None = None
    manifest_url: str | None = None
    frames_url: str | None = None
    width: int
    height: int
    num_frames: int
    fps: float
    duration_s: float
    seed: int
    timings_s: dict[str, float] = {}
    scores: dict[str, Any] | None = None


class Job(_Answer):
    """A job as it was when it was read."""

    id: str
    status: Status
    model: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    progress: Progress = Progress()
    queue_position: int | None = None
    eta_s: float | None = None
    attempt: int = 0
    result: Result | None = None
    error: Failure | None = None
    warnings: tuple[JobWarning, ...] = ()
    urls: dict[str, str] = {}

    @property
    def ended(self) -> bool:
        """True where the status is final."""
        return self.status not in ("queued", "running")


class Page(_Answer):
    """Jobs, newest first; ``next`` goes to ``after`` and is None on the last page."""

    jobs: tuple[Job, ...]
    next: str | None = None


class Model(_Answer):
    """An installed model: its native size, defaults and limits."""

    name: str
    width: int
    height: int
    num_frames: int
    max_frames: int
    num_inference_steps: int
    max_inference_steps: int
    fps: float
    samplers: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    weights_sha256: str = ""


class Models(_Answer):
    """The answer of ``GET /v1/models``."""

    models: list[Model]


class Animation(_Answer):
    """An animated picture in ``format``, such as ``webp``."""

    content: Base64Bytes = Field(alias="base64", repr=False)
    format: str


class Estimate(_Answer):
    """What a video would cost."""

    seconds: float | None = None


class Preview(_Answer):
    """What the network would be told: ``points`` [entity][frame] (x, y) and ``radii``, in pixels."""

    animation: Animation
    num_frames: int
    points: tuple[tuple[Point, ...], ...] = Field(repr=False)
    radii: Any = None
    warnings: tuple[JobWarning, ...] = ()
    estimate: Estimate = Estimate()


class Mask(_Answer):
    """A PNG."""

    content: Base64Bytes = Field(alias="base64", repr=False)


class Segment(_Answer):
    """A mask found by points or a box: a PNG, and the same as COCO run lengths."""

    mask: Mask
    rle: Any = Field(default=None, repr=False)
    score: float | None = None
    engine: str = ""
