"""``/v1``: generate, jobs, models. Whatever waits for Redis or S3 is a plain function that runs in a thread."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from jobs.errors import Conflict, NotFound, UnsupportedMediaType
from jobs.models import ModelCard
from jobs.spec import GenerateRequest
from jobs.state import Record, Status
from jobs.storage import job_prefix
from jobs.view import JobView, filename
from service import problems, telemetry
from service.auth import Caller, Sender
from service.bodies import JsonRoute
from service.intake import take_in
from service.links import base_url
from service.snapshots import present, snapshots
from service.state import Doors, Services

router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=problems.RESPONSES)

Artifact = Annotated[
    str, Query(pattern=r"^(video|overlay|poster|manifest|frames|ending|candidate-([2-9]|1[0-6]))$")
]
MAX_WAIT_S = 60.0
_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)")


EXAMPLE = {
    "image": {
        "base64": "iVBORw0KGgoAAAANSUhEUgAAAGAAAABACAAAAADAXy3SAAAARUlEQVRYw+3XoQ0AIAwEwJYwMmMwGGORIOsRhHvXNy"
        "eqPlfcTQsAAAAAAACAJ4Bei1Hu6QcAAADwA5B2MgAAAAAAAMDJBlmpAxE478JxAAAAAElFTkSuQmCC"
    },
    "entities": [
        {
            "label": "square",
            "mask": {"box": [16, 24, 32, 40]},
            "trajectory": {"points": [[24, 32], [60, 32]], "easing": "ease_in_out"},
        }
    ],
    "seed": 7,
}
"""The smallest request that says something: a grey picture of 96 x 64 pixels with a dark square in it."""


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"schema": {"type": "integer" if name == "Retry-After" else "string"}} for name in names}


ARTIFACT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes, where S3 is private", "content": {"*/*": {}}},
    206: {"description": "The asked range of them"},
    302: {"description": "To a presigned address", "headers": _headers("Location")},
}


def json_only(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not re.fullmatch(r"application/[\w.+-]+\+json", media_type):
        raise UnsupportedMediaType("Send the body as application/json.")


@router.post(
    "/generate",
    status_code=202,
    response_model=JobView,
    dependencies=[Depends(json_only)],
    responses={
        200: {
            "model": JobView,
            "description": "It ended in time (Prefer: wait=N)",
            "headers": _headers("Location"),
        },
        202: {"description": "Accepted", "headers": _headers("Location", "Retry-After", "Preference-Applied")},
        **problems.responses(400, 403, 409, 413, 415, 422, 503),
    },
    summary="Queue a video",
)
async def generate(
    body: Annotated[GenerateRequest, Body(openapi_examples={"A box moves": {"value": EXAMPLE}})],
    request: Request,
    response: Response,
    services: Services,
    sender: Sender,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    prefer: Annotated[str | None, Header(description="wait=N: answer when the job ends, N ≤ 60 s")] = None,
) -> JobView:
    """Validate, store the inputs, queue. With ``Prefer: wait=N`` the answer is 200 if the job ends in time."""
    record = await run_in_threadpool(take_in, body, sender, idempotency_key, services)
    wait_s = _wait_s(prefer)
    if wait_s is not None:
        record = await _await_end(record, wait_s, services)
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
        response.status_code = 200 if record.status.terminal else 202
    answer = await run_in_threadpool(present, record, base_url(request, services.settings), services)
    response.headers["Location"] = answer.urls.self
    if not record.status.terminal:
        response.headers["Retry-After"] = "1"
    return answer


def _wait_s(prefer: str | None) -> float | None:
    found = re.search(r"(?:^|[,;\s])wait=(\d+(?:\.\d+)?)", prefer or "")
    return min(float(found.group(1)), MAX_WAIT_S) if found else None


async def _await_end(record: Record, wait_s: float, services: Doors) -> Record:
    try:
        async with asyncio.timeout(wait_s):
            async for snapshot in snapshots(record, services):
                record = snapshot
    except TimeoutError:
        pass
    return record


class JobPage(BaseModel):
    """A part of a listing; ``next`` is the ``after`` of the part that follows, null at the end."""

    jobs: list[JobView]
    next: str | None


@router.get("/jobs", response_model=JobPage, responses=problems.responses(404, 422, 503), summary="Your jobs")
def jobs(
    request: Request,
    services: Services,
    sender: Sender,
    status: Status | None = None,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JobPage:
    """Newest first."""
    records, following = services.store.page(sender.owner, status=status, after=after, limit=limit)
    base = base_url(request, services.settings)
    return JobPage(jobs=[present(record, base, services) for record in records], next=following)


@router.get(
    "/jobs/{job_id}",
    response_model=JobView,
    responses={
        200: {"headers": _headers("ETag")},
        304: {"description": "Nothing has changed since the answer with this ETag (If-None-Match)"},
        **problems.responses(404, 503),
    },
    summary="A job",
)
def job(
    job_id: str,
    request: Request,
    response: Response,
    services: Services,
    sender: Sender,
    if_none_match: Annotated[str | None, Header()] = None,
) -> JobView | Response:
    """The job as it is now; with If-None-Match, 304 and no body while it is as it was."""
    record = services.store.get(job_id, sender.owner)
    tag = _etag(record, services.settings.link_ttl_s)
    if tag in re.split(r"\s*,\s*", if_none_match or ""):
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return present(record, base_url(request, services.settings), services)


def _etag(record: Record, link_ttl_s: int) -> str:
    """Weak, since each answer has fresh links; they are half used up at most when an answer is called current."""
    fresh = int(time.time() / (link_ttl_s / 2)) if record.result else 0
    return f'W/"{hashlib.sha256(f"{fresh} {record.model_dump_json()}".encode()).hexdigest()[:32]}"'


_EVENT = 'event: snapshot\ndata: {"id": "01a2…", "object": "job", "status": "running", …}\n\n: ping\n\n'

_EVENTS = {
    "type": "object",
    "description": "one event",
    "properties": {
        "event": {"type": "string", "const": "snapshot"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": f"#/components/schemas/{JobView.__name__}"},
        },
    },
}


def _known(job_id: str, services: Services, sender: Sender) -> Record:
    """The record, looked up before a stream starts, while the answer can still be 404."""
    return services.store.get(job_id, sender.owner)


@router.get(
    "/jobs/{job_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "`event: snapshot` with a job as data, and comments that keep the connection alive",
            "content": {"text/event-stream": {"schema": _EVENTS, "example": _EVENT}},
        },
        **problems.responses(404, 503),
    },
    summary="Follow a job",
)
async def events(
    request: Request,
    record: Annotated[Record, Depends(_known)],
    services: Services,
) -> AsyncIterator[ServerSentEvent]:
    """``event: snapshot`` with the job as data: at once, at every change, and last when it has ended."""
    base = base_url(request, services.settings)
    with telemetry.stream_open("sse"):
        async for snapshot in snapshots(record, services):
            shown = await run_in_threadpool(present, snapshot, base, services)
            yield ServerSentEvent(event="snapshot", data=shown)


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    response_model=JobView,
    responses={
        200: {"model": JobView, "description": "The job had ended already"},
        **problems.responses(404, 503),
    },
    summary="Cancel a job",
)
def cancel(job_id: str, request: Request, response: Response, services: Services, sender: Sender) -> JobView:
    """A waiting job ends at once, a running one within one denoising step."""
    record, ended = stop(job_id, services, sender)
    if ended:
        response.status_code = 200
    return present(record, base_url(request, services.settings), services)


def stop(job_id: str, services: Doors, sender: Caller) -> tuple[Record, bool]:
    """Cancel a job: it as it is then, and whether it had ended already."""
    services.store.get(job_id, sender.owner)
    ended = services.store.cancel(job_id) == "ended"
    return services.store.get(job_id, sender.owner), ended


@router.delete(
    "/jobs/{job_id}", status_code=204, responses=problems.responses(404, 409, 503), summary="Forget a job"
)
def delete(job_id: str, services: Services, sender: Sender) -> None:
    """Drops an ended job and all of its objects."""
    services.store.get(job_id, sender.owner)
    if not services.store.forget(job_id):
        raise Conflict("The job has not ended; cancel it first.")
    services.storage.delete(job_prefix(job_id))


@router.get(
    "/jobs/{job_id}/result",
    responses={**ARTIFACT_RESPONSES, **problems.responses(404, 409, 422, 503)},
    response_class=Response,
    summary="The video, or another artifact",
)
def result(
    job_id: str,
    services: Services,
    sender: Sender,
    artifact: Artifact = "video",
    byte_range: Annotated[str | None, Header(alias="range")] = None,
) -> Response:
    """Redirects to the object; where S3 is private, streams it."""
    record = services.store.get(job_id, sender.owner)
    if record.result is None:
        raise (NotFound if record.status.terminal else Conflict)(f"The job is {record.status}: it has no result.")
    held = record.result.artifacts.get(artifact)
    if held is None:
        raise NotFound(f"This job has no {artifact}; it has {', '.join(record.result.artifacts)}.")
    name = filename(job_id, artifact, held.media_type)
    if not services.settings.s3_private:
        return RedirectResponse(services.storage.link(held.key, name), 302, {"Cache-Control": "no-store"})
    return stream(held.key, name, byte_range, services)


def stream(key: str, name: str, byte_range: str | None, services: Doors) -> StreamingResponse:
    """The bytes of an object, or a range of them, under the name that a browser saves them as.

    Raises:
        NotFound: the object is gone.
    """
    asked = byte_range if _RANGE.fullmatch(byte_range or "") else None  # RFC 9110, 14.2: others are ignored
    try:
        headers, chunks = services.storage.open(key, asked)
    except NotFound:
        raise NotFound("The file is gone; the job may have expired.") from None
    headers["content-disposition"] = f'inline; filename="{name}"'
    return StreamingResponse(chunks, 206 if "content-range" in headers else 200, headers)


@router.get("/models", responses=problems.responses(503), summary="The models")
def models(services: Services) -> dict[Literal["models"], list[ModelCard]]:
    """Every installed model with its native size, defaults, limits, licence and the hash of its weights."""
    return {"models": services.registry.cards()}
