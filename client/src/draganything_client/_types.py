"""What the service answers. Fields that this version does not know yet are kept, never an error."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from ._errors import FieldError

Json = Mapping[str, Any]
Status = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
Choice = Literal["left", "right", "tie"]
Point = tuple[float, float]
LOST = 0.5  # a score of an entity that is seen in fewer frames says so first


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


class EntityScores(_Answer):
    """How well an entity kept to its path, in pixels of the video, means over frames."""

    label: str = ""
    objmc_px: float | None = None
    objmc_px_still: float | None = None
    anchor_drift_px: float | None = None
    visibility: float = 0.0
    motion_spread: float = 0.0


class Scores(EntityScores):
    """How well a video did what was asked; ``objmc_px_still`` is what a video in which nothing moves scores."""

    tracker: str = ""
    entities: tuple[EntityScores, ...] = ()

    def __str__(self) -> str:
        """One line."""
        parts = []
        if self.objmc_px is not None and self.objmc_px_still is not None:
            parts.append(f"ObjMC {self.objmc_px:.1f} px (a still video: {self.objmc_px_still:.1f} px)")
        if self.anchor_drift_px is not None:
            parts.append(f"anchor drift {self.anchor_drift_px:.1f} px")
        if self.visibility < LOST:
            what = ", ".join([*parts, f"tracker {self.tracker}"])
            return f"lost in {1 - self.visibility:.0%} of the frames; in the others {what}"
        return ", ".join([*parts, f"seen in {self.visibility:.0%} of the frames", f"tracker {self.tracker}"])


class Candidate(_Answer):
    """One of the videos of a job with ``best_of``."""

    seed: int
    scores: Scores | None = None
    video_url: str


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
    scores: Scores | None = None
    candidates: tuple[Candidate, ...] = ()


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


class Batch(_Answer):
    """Jobs that were sent together, as they were when they were read; ``fraction`` is the mean over them."""

    id: str
    status: Literal["queued", "running", "ended"]
    created_at: datetime | None = None
    counts: dict[Status, int] = {}
    fraction: float = 0.0
    eta_s: float | None = None
    jobs: tuple[Job, ...]

    @property
    def ended(self) -> bool:
        """True where all of its jobs have ended, whatever their ends."""
        return self.status == "ended"


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
    fast_num_inference_steps: int | None = None
    licences: tuple[str, ...] = ()
    weights_sha256: str = ""


class Models(_Answer):
    """The answer of ``GET /v1/models``."""

    models: list[Model]


class Upload(_Answer):
    """An image that was put beside the requests which use it: ``spec(upload, …)``, for a day."""

    upload: str
    put_url: str = Field(repr=False)
    headers: dict[str, str] = {}
    expires_at: datetime | None = None

    @property
    def source(self) -> dict[str, str]:
        """As ``image`` of a request wants it."""
        return {"upload": self.upload}


class ManifestModel(_Answer):
    """The model of a manifest; ``weights_sha256`` has a hash for each component and ``combined``."""

    name: str
    weights_sha256: dict[str, str]
    device: str = ""
    dtype: str = ""


class Manifest(_Answer):
    """All that it takes to make a video again; ``frames_sha256`` says whether it is the same one."""

    format: str
    request: dict[str, Any] = Field(repr=False)
    model: ManifestModel
    versions: dict[str, str]
    frames_sha256: str


class Animation(_Answer):
    """An animated picture in ``format``, such as ``webp``."""

    content: Base64Bytes = Field(alias="base64", repr=False)
    format: str


class Estimate(_Answer):
    """What a video would cost."""

    seconds: float | None = None


class Preview(_Answer):
    """What the network would be told, in pixels of the video: ``points`` [entity][frame] (x, y) and ``radii``
    [entity][frame]."""

    animation: Animation
    width: int = 0
    height: int = 0
    num_frames: int
    points: tuple[tuple[Point, ...], ...] = Field(repr=False)
    radii: tuple[tuple[float, ...], ...] = Field(default=(), repr=False)
    warnings: tuple[JobWarning, ...] = ()
    estimate: Estimate = Estimate()


class Mask(_Answer):
    """A PNG."""

    content: Base64Bytes = Field(alias="base64", repr=False)


class Rle(_Answer):
    """COCO run lengths, column by column; ``size`` is (height, width)."""

    size: tuple[int, int]
    counts: tuple[int, ...] = Field(repr=False)


class Segment(_Answer):
    """A mask found by points or a box: a PNG, and the same as COCO run lengths; ``score`` estimates its IoU."""

    mask: Mask
    rle: Rle | None = Field(default=None, repr=False)
    score: float | None = None
    engine: str = ""


class Preference(_Answer):
    """Answers to one question: for a, for b, for neither; the share of a among the first two."""

    a: int = 0
    b: int = 0
    tie: int = 0
    share: float | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    """Of the share, with 95 % confidence."""


class StudyPair(_Answer):
    """Two jobs that are compared, and what was said of them."""

    a: str
    b: str
    motion: Preference = Preference()
    quality: Preference = Preference()


class Study(_Answer):
    """A blind comparison of pairs of videos, with its results. ``urls["link"]`` is for those who vote."""

    id: str
    title: str = ""
    names: tuple[str, str] = ("a", "b")
    created_at: datetime | None = None
    closes_at: datetime | None = None
    expires_at: datetime | None = None
    raters: int = 0
    votes: int = 0
    motion: Preference = Preference()
    quality: Preference = Preference()
    pairs: tuple[StudyPair, ...] = ()
    urls: dict[str, str] = {}


class BallotSide(_Answer):
    """One of two videos."""

    media_type: str = ""
    video_url: str
    overlay_url: str | None = None


class Ballot(_Answer):
    """The next pair of a rater; ``place`` and both sides are None where there is none left."""

    title: str = ""
    rater: str
    place: int | None = None
    done: int = 0
    total: int = 0
    left: BallotSide | None = None
    right: BallotSide | None = None
