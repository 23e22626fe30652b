"""A record as a client sees it, at every door: the same facts, with absolute links."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from jobs.state import Failure, JobWarning, Progress, Ranked, Record, Result, Status, Video
from jobs.storage import Storage


class JobUrls(BaseModel):
    """Where to go from here."""

    self: str
    events: str
    cancel: str
    result: str


class CandidateView(Ranked):
    """One of the videos of a job with ``best_of``."""

    video_url: str


class JobResult(Video):
    """A finished video. The links are presigned and fresh at each read."""

    video_url: str
    overlay_url: str | None = None
    poster_url: str
    manifest_url: str
    frames_url: str | None = None
    candidates: list[CandidateView] = Field([], description="All videos of best_of, the best first; else empty.")


class JobView(BaseModel):
    """A job."""

    id: str
    object: Literal["job"] = "job"
    status: Status
    model: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    progress: Progress
    queue_position: int | None
    eta_s: float | None
    attempt: int
    result: JobResult | None
    error: Failure | None
    warnings: list[JobWarning]
    urls: JobUrls


def view(record: Record, base: str, storage: Storage | None, eta_s: float | None) -> JobView:
    """What a client sees of a record. Without ``storage``, the links to artifacts lead through the API."""
    job = f"{base}/v1/jobs/{record.id}"
    return JobView(
        id=record.id,
        status=record.status,
        model=record.model,
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        expires_at=record.expires_at,
        progress=record.progress,
        queue_position=record.queue_position,
        eta_s=eta_s,
        attempt=record.attempt,
        result=record.result and _result(record.id, record.result, job, storage),
        error=record.error,
        warnings=record.warnings,
        urls=JobUrls(self=job, events=f"{job}/events", cancel=f"{job}/cancel", result=f"{job}/result"),
    )


def filename(job_id: str, name: str, media_type: str) -> str:
    """What a browser saves an artifact as."""
    return f"{job_id[:12]}-{name}.{EXTENSIONS.get(media_type, 'bin')}"


EXTENSIONS = {
    "video/mp4": "mp4",
    "video/webm": "webm",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/jpeg": "jpg",
    "application/json": "json",
    "application/zip": "zip",
}


def _result(job_id: str, result: Result, job_url: str, storage: Storage | None) -> JobResult:
    links = {
        name: f"{job_url}/result?artifact={name}"
        if storage is None
        else storage.link(artifact.key, filename(job_id, name, artifact.media_type))
        for name, artifact in result.artifacts.items()
    }
    facts = result.model_dump(exclude={"artifacts", "candidates"})
    candidates = [
        CandidateView(seed=one.seed, scores=one.scores, video_url=links[one.artifact]) for one in result.candidates
    ]
    return JobResult(**{f"{name}_url": link for name, link in links.items()}, **facts, candidates=candidates)
