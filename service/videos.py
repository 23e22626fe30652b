"""``/v1/videos``: the video API that OpenAI's SDKs speak. A video is a job, by the same id.

Requests are JSON or multipart; the fields of ``/v1/generate`` go in ``extra_body``. Errors have OpenAI's form.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.errors import UnsupportedMediaType
from jobs.state import JobWarning, Record, Status
from service import problems, rest
from service.auth import Caller, Sender
from service.bodies import JsonRoute, parse_json
from service.forms import read_form
from service.intake import take_in
from service.state import Doors, Services
from service.video_request import PLACES, VideoRequest, json_schema, multipart_schema, to_generate

PATH = "/v1/videos"

Artifact = Literal["video", "thumbnail", "overlay", "manifest"]


class ErrorView(BaseModel):
    """What went wrong; ``param`` is the first wrong field."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(BaseModel):
    """OpenAI's form of an error."""

    error: ErrorView


class VideoFailure(BaseModel):
    """Why there will be no video."""

    code: str
    message: str


class VideoView(BaseModel):
    """A job as a video. Instants are seconds since 1970; ``warnings`` are ours."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    size: str
    seconds: str
    prompt: None = None
    remixed_from_video_id: None = None
    error: VideoFailure | None
    warnings: list[JobWarning]


class VideoPage(BaseModel):
    """A part of a listing; ``last_id`` is the ``after`` of the part that follows."""

    object: Literal["list"] = "list"
    data: list[VideoView]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """What is gone."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return {
        status: {"model": ErrorAnswer} | ({"headers": retry} if status in (429, 503) else {})
        for status in (401, 403, 429, 503, *statuses)
    }


router = APIRouter(
    prefix="/v1",
    route_class=JsonRoute,
    responses={"default": {"model": ErrorAnswer, "description": "Any other error"}},
)
_STATUSES: dict[Status, Literal["queued", "in_progress", "completed", "failed"]] = {
    Status.QUEUED: "queued",
    Status.RUNNING: "in_progress",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELED: "failed",
    Status.EXPIRED: "failed",
}
_ENDS = {Status.CANCELED: "The job was canceled.", Status.EXPIRED: "The deadline passed before the job started."}
_SENT: dict[str, Any] = rest.EXAMPLE
_EXAMPLE = {
    "input_reference": {"image_url": f"data:image/png;base64,{_SENT['image']['base64']}"},
    "entities": _SENT["entities"],
    "seconds": "2",
    "seed": 7,
}
_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": json_schema(), "examples": {"A box moves": {"value": _EXAMPLE}}},
        "multipart/form-data": {"schema": multipart_schema()},
    },
}
_IGNORED = JobWarning(
    code="prompt_ignored",
    detail="The model has no text input: the prompt changes nothing, entities say what moves.",
    pointer="/prompt",
)


@router.post(
    "/videos",
    openapi_extra={"requestBody": _BODY},
    responses=_errors(400, 409, 413, 415, 422),
    summary="Queue a video, as OpenAI's SDKs do",
)
async def create(
    request: Request,
    services: Services,
    sender: Sender,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> VideoView:
    """JSON or multipart. ``input_reference`` is the image, ``entities`` (in ``extra_body``) says what moves."""
    body = await _read(request, services)
    return _view(await run_in_threadpool(_take_in, body, sender, idempotency_key, services))


async def _read(request: Request, services: Doors) -> VideoRequest:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    match media_type:
        case "application/json":
            raw, strict = parse_json(await request.body()), None
        case "multipart/form-data":
            raw, strict = await read_form(request, services.settings), False
        case _:
            raise UnsupportedMediaType("Send the body as application/json or multipart/form-data.")
    try:
        return VideoRequest.model_validate(raw, strict=strict)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found, body=raw) from None


def _take_in(body: VideoRequest, sender: Caller, key: str | None, services: Doors) -> Record:
    notes = [_IGNORED] if body.prompt and body.prompt.strip() else []
    return take_in(to_generate(body, services.registry), sender, key, services, notes)


@router.get("/videos", responses=_errors(404, 422), summary="Your videos")
def videos(
    services: Services,
    sender: Sender,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["desc"] = "desc",  # noqa: ARG001 - the only one there is
) -> VideoPage:
    """Every job is a video. Newest first."""
    records, following = services.store.page(sender.owner, after=after, limit=limit)
    data = [_view(record) for record in records]
    return VideoPage(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=following is not None,
    )


@router.get("/videos/{video_id}", responses=_errors(404), summary="A video")
def video(video_id: str, services: Services, sender: Sender) -> VideoView:
    """The job as it is now."""
    return _view(services.store.get(video_id, sender.owner))


@router.get(
    "/videos/{video_id}/content",
    responses={**rest.ARTIFACT_RESPONSES, **_errors(404, 409, 422)},
    response_class=Response,
    summary="The file of a video",
)
def content(
    video_id: str,
    services: Services,
    sender: Sender,
    variant: Artifact = "video",
    byte_range: Annotated[str | None, Header(alias="range")] = None,
) -> Response:
    """As ``/v1/jobs/{id}/result``."""
    return rest.result(video_id, services, sender, "poster" if variant == "thumbnail" else variant, byte_range)


@router.delete("/videos/{video_id}", responses=_errors(404, 409), summary="Forget a video")
def delete(video_id: str, services: Services, sender: Sender) -> VideoDeleted:
    """Drops an ended job and all of its objects."""
    rest.delete(video_id, services, sender)
    return VideoDeleted(id=video_id)


def _view(record: Record) -> VideoView:
    spec, result = record.spec, record.result
    seconds = result.duration_s if result else spec["num_frames"] / spec["fps"]
    failure = record.error and VideoFailure(code=record.error.code, message=record.error.detail)
    if record.status in _ENDS:
        failure = VideoFailure(code=record.status.value, message=_ENDS[record.status])
    return VideoView(
        id=record.id,
        model=record.model,
        status=_STATUSES[record.status],
        progress=int(record.progress.fraction * 100),
        created_at=int(record.created_at.timestamp()),
        completed_at=_seconds(record.finished_at),
        expires_at=_seconds(record.expires_at),
        size=f"{spec['width']}x{spec['height']}",
        seconds=f"{round(seconds, 3):g}",
        error=failure,
        warnings=record.warnings,
    )


def _seconds(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.timestamp())


class ErrorForm:
    """Answers what goes wrong on these paths, wherever that is noticed, in OpenAI's form."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request; a problem in the answer is put in other words."""
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if not (path + "/").startswith(PATH + "/"):
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        problem = b""

        async def translated(message: Message) -> None:
            nonlocal start, problem
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
            elif start is None:
                await send(message)
            else:
                problem += message.get("body", b"")
                if not message.get("more_body"):
                    body = as_openai(json.loads(problem)).model_dump_json().encode()
                    headers = MutableHeaders(raw=list(start["headers"]))
                    headers.update({"Content-Type": "application/json", "Content-Length": str(len(body))})
                    await send({**start, "headers": headers.raw})
                    await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, translated)


def _is_problem(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type") == problems.MEDIA_TYPE


def as_openai(problem: dict[str, Any]) -> ErrorAnswer:
    """A problem in OpenAI's form; fields that we derive are called by the names that they were derived from."""
    fields = [(_param(each["pointer"]), each["detail"]) for each in problem.get("errors", [])]
    message = " ".join(f"{param}: {detail}" if param else detail for param, detail in fields)
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = "server_error" if problem["status"] >= 500 else kinds.get(problem["status"], "invalid_request_error")
    view = ErrorView(
        message=message or problem["detail"],
        type=kind,
        param=fields[0][0] or None if fields else None,
        code=problem["code"],
    )
    return ErrorAnswer(error=view)


def _param(pointer: str) -> str:
    return PLACES.get(pointer, pointer).removeprefix("/").replace("/", ".")
