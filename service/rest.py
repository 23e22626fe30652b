"""``/v1``: generate, jobs, models. Whatever waits for Redis or S3 is a plain function that runs in a thread."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from jobs import queue
from jobs.errors import Conflict, DragAnythingError, NotFound, QueueFull, UnsupportedMediaType
from jobs.models import ModelCard
from jobs.spec import GenerateRequest
from jobs.state import Record
from jobs.storage import job_prefix
from jobs.store import new_id
from service.inputs import Accepted, accept
from service.links import JobView, base_url, filename, view
from service.problems import Problem
from service.state import Doors, doors

router = APIRouter(prefix="/v1")

Artifact = Literal["video", "overlay", "poster", "manifest", "frames"]
OWNER = ""
"""Everybody shares one owner until keys exist."""

MAX_WAIT_S = 60.0
MAX_EVENTS_PER_S = 5.0
KEEP_POLLING_S = 5.0
"""Between two reads of a record that nothing was heard of: bounds what a lost message can cost."""


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "content": content} for status in statuses}


def _json_only(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not re.fullmatch(r"application/[\w.+-]+\+json", media_type):
        raise UnsupportedMediaType("Send the body as application/json.")


@router.post(
    "/generate",
    status_code=202,
    response_model=JobView,
    dependencies=[Depends(_json_only)],
    responses=_problems(400, 409, 413, 415, 422, 503),
    summary="Queue a video",
)
async def generate(
    body: GenerateRequest,
    request: Request,
    response: Response,
    services: Annotated[Doors, Depends(doors)],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    prefer: Annotated[str | None, Header(description="wait=N: answer when the job ends, N ≤ 60 s")] = None,
) -> JobView:
    """Validate, store the inputs, queue. With ``Prefer: wait=N`` the answer is 200 if the job ends in time."""
    record = await run_in_threadpool(_create, body, idempotency_key, services)
    wait_s = _wait_s(prefer)
    if wait_s is not None:
        record = await _await_end(record, wait_s, services)
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
        response.status_code = 200 if record.status.terminal else 202
    answer = _view(record, request, services)
    response.headers["Location"] = answer.urls.self
    if not record.status.terminal:
        response.headers["Retry-After"] = "1"
    return answer


def _create(body: GenerateRequest, key: str | None, services: Doors) -> Record:
    if key is None:
        return _admit(body, services)
    fingerprint = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    earlier = services.store.reserve(OWNER, key, fingerprint)
    if earlier is not None:
        return services.store.get(earlier)
    with _released_on_error(services, key):
        record = _admit(body, services)
        services.store.settle(OWNER, key, fingerprint, record.id)
    return record


@contextmanager
def _released_on_error(services: Doors, key: str) -> Iterator[None]:
    try:
        yield
    except DragAnythingError:
        services.store.release(OWNER, key)
        raise


def _admit(body: GenerateRequest, services: Doors) -> Record:
    card = services.registry.card(body.model)
    if services.store.count_queued(card.name) >= services.settings.max_queued:
        raise QueueFull("Send the job again later.", retry_after_s=10)
    job_id = new_id()
    accepted = accept(body, card, job_id, services.settings)
    try:
        _store_inputs(accepted, services)
        record = services.store.create(job_id, OWNER, accepted.spec, accepted.warnings)
    except Exception:
        services.storage.delete(job_prefix(job_id))
        raise
    queue.enqueue(services.redis, job_id, card.name, record.priority)
    return record


def _store_inputs(accepted: Accepted, services: Doors) -> None:
    with ThreadPoolExecutor(max_workers=min(len(accepted.objects), 8)) as pool:
        for put in [
            pool.submit(services.storage.put, key, data, media_type)
            for key, (data, media_type) in accepted.objects.items()
        ]:
            put.result()


def _wait_s(prefer: str | None) -> float | None:
    found = re.search(r"(?:^|[,;\s])wait=(\d+(?:\.\d+)?)", prefer or "")
    return min(float(found.group(1)), MAX_WAIT_S) if found else None


async def _await_end(record: Record, wait_s: float, services: Doors) -> Record:
    try:
        async with asyncio.timeout(wait_s):
            async for snapshot in _snapshots(record.id, services):
                record = snapshot
    except TimeoutError:
        pass
    return record


async def _snapshots(job_id: str, services: Doors) -> AsyncIterator[Record]:
    """The record at once, then at every change (at most five a second), until it has ended."""
    async with services.feed.listen(job_id) as changed:
        shown: Record | None = None
        while True:
            changed.clear()
            record = await run_in_threadpool(services.store.get, job_id, OWNER)
            if record != shown:
                yield record
                shown = record
            if record.status.terminal:
                return
            try:
                async with asyncio.timeout(KEEP_POLLING_S):
                    await changed.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(1 / MAX_EVENTS_PER_S)


def _view(record: Record, request: Request, services: Doors) -> JobView:
    return view(record, base_url(request, services.settings), services.storage, datetime.now(UTC))


@router.get("/jobs/{job_id}", response_model=JobView, responses=_problems(404, 503), summary="A job")
def job(job_id: str, request: Request, services: Annotated[Doors, Depends(doors)]) -> JobView:
    """The job as it is now."""
    return _view(services.store.get(job_id, OWNER), request, services)


def _known(job_id: str, services: Annotated[Doors, Depends(doors)]) -> Record:
    """The record, looked up before a stream starts, while the answer can still be 404."""
    return services.store.get(job_id, OWNER)


@router.get(
    "/jobs/{job_id}/events",
    response_class=EventSourceResponse,
    responses=_problems(404, 503),
    summary="Follow a job",
)
async def events(
    request: Request,
    record: Annotated[Record, Depends(_known)],
    services: Annotated[Doors, Depends(doors)],
) -> AsyncIterator[ServerSentEvent]:
    """``event: snapshot`` with the job as data: at once, at every change, and last when it has ended."""
    async for snapshot in _snapshots(record.id, services):
        yield ServerSentEvent(event="snapshot", data=_view(snapshot, request, services))


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    response_model=JobView,
    responses={200: {"model": JobView, "description": "The job had ended already"}, **_problems(404, 503)},
    summary="Cancel a job",
)
def cancel(
    job_id: str, request: Request, response: Response, services: Annotated[Doors, Depends(doors)]
) -> JobView:
    """A waiting job ends at once, a running one within one denoising step."""
    services.store.get(job_id, OWNER)
    if services.store.cancel(job_id) == "ended":
        response.status_code = 200
    return job(job_id, request, services)


@router.get(
    "/jobs/{job_id}/result",
    responses={
        200: {"description": "The bytes, where S3 is private", "content": {"*/*": {}}},
        206: {"description": "The asked range of them"},
        302: {"description": "To a presigned address"},
        **_problems(404, 409, 503),
    },
    response_class=Response,
    summary="The video, or another artifact",
)
def result(
    job_id: str,
    services: Annotated[Doors, Depends(doors)],
    artifact: Artifact = "video",
    byte_range: Annotated[str | None, Header(alias="range")] = None,
) -> Response:
    """Redirects to the object; where S3 is private, streams it."""
    record = services.store.get(job_id, OWNER)
    if record.result is None:
        raise (NotFound if record.status.terminal else Conflict)(f"The job is {record.status}: it has no result.")
    held = record.result.artifacts.get(artifact)
    if held is None:
        raise NotFound(f"This job has no {artifact}; it has {', '.join(record.result.artifacts)}.")
    name = filename(job_id, artifact, held.media_type)
    if not services.settings.s3_private:
        return RedirectResponse(services.storage.link(held.key, name), 302, {"Cache-Control": "no-store"})
    headers, chunks = services.storage.open(held.key, byte_range)
    headers["content-disposition"] = f'inline; filename="{name}"'
    return StreamingResponse(chunks, 206 if "content-range" in headers else 200, headers)


@router.get("/models", responses=_problems(503), summary="The models")
def models(services: Annotated[Doors, Depends(doors)]) -> dict[Literal["models"], list[ModelCard]]:
    """Every installed model with its native size, defaults, limits, licence and the hash of its weights."""
    return {"models": services.registry.cards()}
