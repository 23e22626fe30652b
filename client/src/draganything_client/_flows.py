"""What the client does, without doing it: each call is a generator of the input and output that it needs.

A flow yields ``Send``, ``Read`` and ``Sleep``, is sent their results (or thrown ``httpx.RequestError``) and
hands its own results out as ``Emit``. ``Client`` and ``AsyncClient`` perform the same flows.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import BaseModel, ValidationError

from ._errors import APIError, ConnectionFailed
from ._types import Batch, Job, Json, Problem, Study

T = TypeVar("T")
A = TypeVar("A", bound=BaseModel)

MAX_PREFER_WAIT_S = 60
LONGEST_RETRY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; answered by its response, whose body is read unless ``stream`` is set.

    The body is ``body`` as JSON, or the bytes of ``content``, a file's piece by piece. A ``path`` that is a whole
    address is another server's, which is not shown the key.
    """

    method: str
    path: str
    body: Json | None = None
    content: Path | bytes | None = None
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
                raise unreachable(failure) from failure
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
    yield Emit(parsed(kind, response.content))


def create(
    path: str, body: Json, kind: type[A], key: str | None, wait_s: float | None, timeout_s: float, retries: int
) -> Flow[A]:
    """Queue jobs; every retry carries the same key, so that they exist once."""
    headers = {"Idempotency-Key": key or uuid4().hex}
    if wait_s is not None:
        wait_s = min(wait_s, MAX_PREFER_WAIT_S)
        headers["Prefer"] = f"wait={wait_s:g}"
    return fetch(
        Send("POST", path, body, headers=headers, read_timeout_s=timeout_s + (wait_s or 0)), kind, retries
    )


def job_path(job: Job | str, *rest: str) -> str:
    """``/v1/jobs/{id}/…``."""
    return _path("jobs", job, *rest)


def batch_path(batch: Batch | str, *rest: str) -> str:
    """``/v1/batches/{id}/…``."""
    return _path("batches", batch, *rest)


def study_path(study: Study | str, *rest: str) -> str:
    """``/v1/studies/{id}/…``."""
    return _path("studies", study, *rest)


def rater_path(link: Study | str, *rest: str) -> str:
    """``/v1/studies/{link}/…``: what stands behind the ``#`` of a study's link, or all of it."""
    address = link if isinstance(link, str) else link.urls["link"]
    return study_path(address.rpartition("#")[2], *rest)


def _path(noun: str, of: Job | Batch | Study | str, *rest: str) -> str:
    return "/".join(["/v1", noun, quote(of if isinstance(of, str) else of.id, safe=""), *rest])


def backoff_s(attempt: int) -> float:
    """Half a second, doubled at each attempt up to eight, less up to a half, so that clients spread out."""
    return min(8.0, 0.5 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def parsed(kind: type[A], data: str | bytes) -> A:
    """An answer.

    Raises:
        ConnectionFailed: it is somebody else's.
    """
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


def unreachable(error: httpx.RequestError) -> ConnectionFailed:
    """The error for a server that does not answer; of its address it tells no more than needed."""
    url = error.request.url.copy_with(path="/", query=None)
    return ConnectionFailed(f"no answer from {url}: {str(error) or type(error).__name__}")
