"""Following jobs and batches until they have ended: by the event stream where there is one, else by polling."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from ._errors import (
    ConnectionFailed,
    JobCanceled,
    JobError,
    JobExpired,
    JobFailed,
    RateLimited,
    Unavailable,
    WaitTimeout,
)
from ._flows import Effect, Emit, Flow, Read, Send, Sleep, backoff_s, batch_path, call, job_path, parsed
from ._types import Batch, Job

F = TypeVar("F", Job, Batch)

IDLE_S = 30.0
"""Silence after which a stream of events counts as dropped: twice the usual keep-alive."""
OUTAGE_RETRIES = 20
"""Retries of a wait that has already heard of its job: about two minutes."""
MAX_BARREN_STREAMS = 3
BATCH_POLL_S = 1.0


@dataclass(slots=True)
class _Seen(Generic[F]):
    """What a wait knows: the last snapshot, and for how many turns nothing new came."""

    kind: type[F]
    last: F | None = None
    quiet: int = 0
    failures: int = 0

    @property
    def ended(self) -> bool:
        return self.last is not None and self.last.ended

    def take(self, data: str | bytes) -> Iterator[Emit[F]]:
        snapshot = parsed(self.kind, data)
        if self.last is None or snapshot != self.last:
            self.last, self.quiet = snapshot, 0
            yield Emit(snapshot)


def follow(job_id: str, timeout_s: float | None, clock: Callable[[], float], retries: int) -> Flow[Job]:
    """Snapshots of a job, each one different, until it has ended: from the event stream, else by polling.

    The last half minute before the time is up is polled, since nothing ends a silent stream early.
    """
    deadline = math.inf if timeout_s is None else clock() + timeout_s
    seen, barren = _Seen(Job), 0
    while True:
        if barren < MAX_BARREN_STREAMS and deadline - clock() > IDLE_S:
            heard = yield from _stream(job_id, seen, deadline - IDLE_S, clock)
            barren = 0 if heard else barren + 1
        pause = 0.0 if seen.ended else (yield from _poll(job_path(job_id), seen, retries))
        if seen.ended:
            return
        if (left := deadline - clock()) <= 0:
            raise WaitTimeout(f"job {job_id}", job=seen.last)
        yield Sleep(min(max(pause, backoff_s(seen.quiet)), left))
        seen.quiet += 1


def _stream(
    job_id: str, seen: _Seen[Job], until: float, clock: Callable[[], float]
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


def follow_batch(batch_id: str, timeout_s: float | None, clock: Callable[[], float], retries: int) -> Flow[Batch]:
    """Snapshots of a batch, each one different, until all of its jobs have ended."""
    deadline = math.inf if timeout_s is None else clock() + timeout_s
    seen = _Seen(Batch)
    while True:
        pause = yield from _poll(batch_path(batch_id), seen, retries)
        if seen.ended:
            return
        if (left := deadline - clock()) <= 0:
            raise WaitTimeout(f"batch {batch_id}", batch=seen.last)
        yield Sleep(min(max(pause, BATCH_POLL_S, backoff_s(seen.quiet)), left))
        seen.quiet += 1


def _poll(path: str, seen: _Seen[F], retries: int) -> Generator[Effect | Emit[F], Any, float]:
    """One look; the seconds that the service asks to leave it alone."""
    try:
        response = yield from call(Send("GET", path), retries=0)
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
