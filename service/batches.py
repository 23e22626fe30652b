"""``/v1/batches``: up to 64 jobs under one id, accepted all or none."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Header, Request, Response
from pydantic import BaseModel, Field

from jobs.spec import BatchRequest
from jobs.state import Record, Status
from jobs.store import new_id
from jobs.view import JobView
from service import problems, rest
from service.auth import Caller, Sender
from service.bodies import JsonRoute
from service.intake import Draft, take_in_all
from service.links import base_url
from service.snapshots import present
from service.state import Doors, Services

router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=problems.RESPONSES)


class BatchUrls(BaseModel):
    """Where to go from here."""

    self: str
    cancel: str


class BatchView(BaseModel):
    """Jobs that were sent together, in the order given, without those that are forgotten."""

    id: str
    object: Literal["batch"] = "batch"
    status: Literal["queued", "running", "ended"]
    created_at: datetime
    counts: dict[Status, int] = Field(description="jobs by status; every status is named")
    fraction: float = Field(description="mean over the jobs; one that has ended counts as 1, whatever its end")
    eta_s: float | None = Field(description="until the last job ends; null where that can not be told")
    jobs: list[JobView]
    urls: BatchUrls


def take_in_batch(body: BatchRequest, sender: Caller, key: str | None, services: Doors) -> list[Record]:
    """The jobs of a batch, all or none, or those that it made before under the same key. They share ``group``.

    Raises:
        DragAnythingError: it is refused; nothing of it is kept. Pointers lead into ``/requests/3``, say.
    """
    if body.request is not None:
        drafts = [Draft(body.request, "/request", body.seeds or ())]
    else:
        drafts = [Draft(request, f"/requests/{index}") for index, request in enumerate(body.requests or ())]
    return take_in_all(body, drafts, new_id(), sender, key, services)


_LOCATION: dict[str, Any] = {"Location": {"schema": {"type": "string"}}}
_RETRY: dict[str, Any] = {"Retry-After": {"schema": {"type": "integer"}}}
_EXAMPLES: Any = {
    "Three seeds": {"value": {"request": {k: rest.EXAMPLE[k] for k in ("image", "entities")}, "seeds": [1, 2, 3]}},
    "Two requests": {"value": {"requests": [rest.EXAMPLE, {**rest.EXAMPLE, "hold_background": True}]}},
}


@router.post(
    "/batches",
    status_code=202,
    dependencies=[Depends(rest.json_only)],
    responses={
        202: {"description": "Accepted", "headers": _LOCATION | _RETRY},
        **problems.responses(400, 403, 409, 413, 415, 422, 503),
    },
    summary="Queue several videos",
)
def create(
    body: Annotated[BatchRequest, Body(openapi_examples=_EXAMPLES)],
    request: Request,
    response: Response,
    services: Services,
    sender: Sender,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> BatchView:
    """All of them or none. Give ``requests``, or one ``request`` and the ``seeds`` to render it with."""
    records = take_in_batch(body, sender, idempotency_key, services)
    answer = present_batch(records, base_url(request, services.settings), services)
    response.headers["Location"] = answer.urls.self
    response.headers["Retry-After"] = "1"
    return answer


@router.get("/batches/{batch_id}", responses=problems.responses(404, 503), summary="A batch")
def read(batch_id: str, request: Request, services: Services, sender: Sender) -> BatchView:
    """Its jobs as they are now, and how far they are together."""
    records = services.store.group(batch_id, sender.owner)
    return present_batch(records, base_url(request, services.settings), services)


@router.post(
    "/batches/{batch_id}/cancel",
    status_code=202,
    responses={
        200: {"model": BatchView, "description": "All of its jobs had ended already"},
        **problems.responses(404, 503),
    },
    summary="Cancel a batch",
)
def cancel(batch_id: str, request: Request, response: Response, services: Services, sender: Sender) -> BatchView:
    """Its waiting jobs end at once, its running ones within one denoising step."""
    if stop(batch_id, services, sender):
        response.status_code = 200
    return read(batch_id, request, services, sender)


def stop(batch_id: str, services: Doors, sender: Caller) -> bool:
    """Cancel the jobs of a batch: whether all of them had ended already."""
    going = [record for record in services.store.group(batch_id, sender.owner) if not record.status.terminal]
    for record in reversed(going):  # the last first, so that none of them starts meanwhile
        services.store.cancel(record.id)
    return not going


def present_batch(records: list[Record], base: str, services: Doors) -> BatchView:
    """What a client sees of the jobs of one batch; links begin with ``base``."""
    jobs = [present(record, base, services) for record in records]
    counts = Counter(job.status for job in jobs)
    going = [job for job in jobs if not job.status.terminal]
    etas = [job.eta_s for job in going]
    address = f"{base}/v1/batches/{records[0].group}"
    return BatchView(
        id=str(records[0].group),
        status="ended" if not going else "queued" if counts[Status.QUEUED] == len(jobs) else "running",
        created_at=min(job.created_at for job in jobs),
        counts={status: counts[status] for status in Status},
        fraction=round(1 - sum(1 - job.progress.fraction for job in going) / len(jobs), 4),
        eta_s=max((eta for eta in etas if eta is not None), default=None) if None not in etas else None,
        jobs=jobs,
        urls=BatchUrls(self=address, cancel=f"{address}/cancel"),
    )
