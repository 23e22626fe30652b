"""What the client does, without doing it: each call is a generator of the input and output that it needs.

A flow yields ``Send``, ``Read`` and ``Sleep``, is sent their results (or thrown ``httpx.RequestError``) and
hands its own results out as ``Emit``. ``Client`` and ``AsyncClient`` perform the same flows.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import BaseModel, ValidationError

from ._errors import (
    APIError,
    ConnectionFailed,
    JobCanceled,
    JobError,
    JobExpired,
    JobFailed,
    RateLimited,
    Unavailable,
    WaitTimeout,
)
from ._types import Job, Json, Problem

T = TypeVar("T")
A = TypeVar("A", bound=BaseModel)

IDLE_S = 30.0
"""Silence after which a stream of events counts as dropped: twice the usual keep-alive."""
MAX_PREFER_WAIT_S = 60
LONGEST_RETRY_AFTER_S = 60.0
OUTAGE_RETRIES = 20
"""Retries of a wait that has already heard of its job: about two minutes."""
MAX_BARREN_STREAMS = 3
ARTIFACTS = ("video", "overlay", "manifest")

_SUFFIXES = {
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/jpeg": ".jpg",
    "application/json": ".json",
    "application/zip": ".zip",
}


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; answered by its response, whose body is read unless ``stream`` is set."""

    method: str
    path: str
    body: Json | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str | int] = field(default_factory=dict)
    read_timeout_s: float | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Read on from the last streamed response; answered by some bytes, none at the end."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit(Generic[T]):
    """A result for the caller."""

    value: T


Effect = Send | Read | Sleep
Flow = Generator[Effect | Emit[T], Any, None]
Steps = Generator[Effect, Any, T]


def call(request: Send, retries: int) -> Steps[httpx.Response]:
    """Send until the service says yes, no, or has been away for too long."""
    attempt = 0
    while True:
        try:
            response: httpx.Response = yield request
        except httpx.RequestError as failure:
            if attempt >= retries:
                raise _unreachable(failure) from failure
            pause = 0.0
        else:
            if response.is_success:
                return response
            error = _refusal(response)
            pause = error.retry_after_s or 0.0
            if not error.temporary or attempt >= retries or pause > LONGEST_RETRY_AFTER_S:
                raise error
        yield Sleep(max(pause, backoff_s(attempt)))
        attempt += 1


def fetch(request: Send, kind: type[A], retries: int) -> Flow[A]:
    """One call and its answer."""
    response = yield from call(request, retries)
    yield Emit(_parsed(kind, response.content))


def generate(spec: Json, key: str | None, wait_s: float | None, timeout_s: float, retries: int) -> Flow[Job]:
    """Queue a job; every retry carries the same key, so that the job exists once."""
    headers = {"Idempotency-Key": key or uuid4().hex}
    if wait_s is not None:
        wait_s = min(wait_s, MAX_PREFER_WAIT_S)
        headers["Prefer"] = f"wait={wait_s:g}"
    request = Send("POST", "/v1/generate", spec, headers, read_timeout_s=timeout_s + (wait_s or 0))
    return fetch(request, Job, retries)


@dataclass(slots=True)
class _Seen:
    """What a wait knows: the last snapshot, and for how many turns nothing new came."""

    last: Job | None = None
    quiet: int = 0
    failures: int = 0

    @property
    def ended(self) -> bool:
        return self.last is not None and self.last.ended

    def take(self, data: str | bytes) -> Iterator[Emit[Job]]:
        job = _parsed(Job, data)
        if self.last is None or job != self.last:
            self.last, self.quiet = job, 0
            yield Emit(job)


def follow(job_id: str, timeout_s: float | None, clock: Callable[[], float], retries: int) -> Flow[Job]:
    """Snapshots of a job, each one different, until it has ended: from the event stream, else by polling.

    The last half minute before the time is up is polled, since nothing ends a silent stream early.
    """
    deadline = math.inf if timeout_s is None else clock() + timeout_s
    seen, barren = _Seen(), 0
    while True:
        if barren < MAX_BARREN_STREAMS and deadline - clock() > IDLE_S:
            heard = yield from _stream(job_id, seen, deadline - IDLE_S, clock)
            barren = 0 if heard else barren + 1
        pause = 0.0 if seen.ended else (yield from _poll(job_id, seen, retries))
        if seen.ended:
            return
        if (left := deadline - clock()) <= 0:
            raise WaitTimeout(job_id, seen.last)
        yield Sleep(min(max(pause, backoff_s(seen.quiet)), left))
        seen.quiet += 1


def _stream(
    job_id: str, seen: _Seen, until: float, clock: Callable[[], float]
) -> Generator[Effect | Emit[Job], Any, bool]:
    """One connection to the event stream; True if it brought a snapshot."""
    heard = False
    headers = {"Accept": "text/event-stream"}
    try:
        response = yield Send(
            "GET", job_path(job_id, "events"), headers=headers, read_timeout_s=IDLE_S, stream=True
        )
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            return False  # the poll that follows says what is wrong
        events = Events()
        while chunk := (yield Read()):
            for data in events.feed(chunk):
                heard = True
                yield from seen.take(data)
            if seen.ended or clock() > until:
                break
    except httpx.RequestError:
        pass
    return heard


def _poll(job_id: str, seen: _Seen, retries: int) -> Generator[Effect | Emit[Job], Any, float]:
    """One look at the job; the seconds that the service asks to leave it alone."""
    try:
        response = yield from call(Send("GET", job_path(job_id)), retries=0)
    except (ConnectionFailed, RateLimited, Unavailable) as error:
        seen.failures += 1
        if seen.failures > (OUTAGE_RETRIES if seen.last else retries):
            raise
        return getattr(error, "retry_after_s", None) or 0.0
    seen.failures = 0
    yield from seen.take(response.content)
    return 0.0


class Events:
    """The data of ``snapshot`` events out of the bytes of a stream (WHATWG HTML, 9.2.6), lines ending in LF."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Take some bytes, give the events that they complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.removesuffix(b"\r").decode().partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                self._name = value
            elif name == "data":
                self._data.append(value)
            elif not name and not value and not line.startswith(b":"):
                if self._name == "snapshot" and self._data:
                    yield "\n".join(self._data)
                self._name, self._data = "", []


def succeeded(job: Job) -> Job:
    """The job itself, if it has a video.

    Raises:
        JobFailed, JobCanceled, JobExpired: it has none.
    """
    errors: dict[str, type[JobError]] = {
        "failed": JobFailed,
        "canceled": JobCanceled,
        "expired": JobExpired,
    }
    if job.status in errors:
        raise errors[job.status](job)
    return job


def download(
    job: Job | str, destination: Path, artifacts: Sequence[str] | None, retries: int
) -> Flow[dict[str, Path]]:
    """Save artifacts into a folder under their own names, or one of them as a file."""
    folder = destination.is_dir() or not destination.suffix
    if artifacts is None:
        artifacts = (yield from _available(job, retries)) if folder else ("video",)
    if not folder and len(artifacts) != 1:
        raise ValueError(f"{destination} is one file: name a folder for {', '.join(artifacts) or 'nothing'}")
    saved = {}
    for artifact in artifacts:
        saved[artifact] = yield from _save(job_path(job, "result"), artifact, destination, folder, retries)
    yield Emit(saved)


def _available(job: Job | str, retries: int) -> Steps[Sequence[str]]:
    if isinstance(job, str):
        response = yield from call(Send("GET", job_path(job)), retries)
        job = _parsed(Job, response.content)
    links = job.result
    return [name for name in ARTIFACTS if name == "video" or getattr(links, f"{name}_url", None)]


def _save(url: str, artifact: str, destination: Path, folder: bool, retries: int) -> Steps[Path]:
    attempt = 0
    while True:
        response = yield from call(Send("GET", url, params={"artifact": artifact}, stream=True), retries)
        media_type = response.headers.get("Content-Type", "").partition(";")[0]
        path = destination / (artifact + _SUFFIXES.get(media_type, ".bin")) if folder else destination
        try:
            yield from _write(path)
        except httpx.RequestError as failure:
            if attempt >= retries:
                raise _unreachable(failure) from failure
        else:
            return path
        yield Sleep(backoff_s(attempt))
        attempt += 1


def _write(path: Path) -> Steps[None]:
    """Write what is read beside ``path`` first: a broken download leaves nothing half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            while chunk := (yield Read()):
                file.write(chunk)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def job_path(job: Job | str, *rest: str) -> str:
    """``/v1/jobs/{id}/…``."""
    return "/".join(["/v1/jobs", quote(job if isinstance(job, str) else job.id, safe=""), *rest])


def backoff_s(attempt: int) -> float:
    """Half a second, doubled at each attempt up to eight, less up to a half, so that clients spread out."""
    return min(8.0, 0.5 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _parsed(kind: type[A], data: str | bytes) -> A:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise ConnectionFailed(f"this is not the answer of a DragAnything service: {data[:80]!r}") from error


def _refusal(response: httpx.Response) -> APIError:
    """The error that an answer stands for, even if it is not ours: a proxy's page, or an object store's XML."""
    status = response.status_code
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = Problem(title=response.reason_phrase, detail=response.text[:200], code=f"http_{status}")
    kind = APIError.by_status.get(status, APIError)
    return kind(problem.model_copy(update={"status": status}), _retry_after(response.headers))


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds, from either form of the header (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _unreachable(error: httpx.RequestError) -> ConnectionFailed:
    url = error.request.url.copy_with(path="/", query=None)
    return ConnectionFailed(f"no answer from {url}: {str(error) or type(error).__name__}")
