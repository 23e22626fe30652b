"""``/v1/uploads``: images that are put beside the request that uses them, straight into S3 where clients can."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from jobs.errors import InvalidRequest, NotFound, TooLarge, UnsupportedMediaType
from jobs.spec import Schema
from jobs.storage import upload_key
from jobs.store import new_id
from service import limits, problems
from service.auth import Sender
from service.bodies import JsonRoute
from service.links import base_url
from service.rest import json_only
from service.state import Doors, Services

router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=problems.RESPONSES)

MediaType = Literal["image/png", "image/jpeg", "image/webp"]


class UploadRequest(Schema):
    """The file that is going to be put."""

    content_type: MediaType
    bytes: Annotated[int, Field(gt=0, description="the file's exact length")]


class UploadView(BaseModel):
    """``upload`` is what ``image.upload`` takes, until a day after the file was put."""

    upload: str
    put_url: str = Field(description="PUT the file here, with exactly these headers")
    headers: dict[str, str]
    expires_at: datetime = Field(description="until then put_url works")


@router.post(
    "/uploads",
    status_code=201,
    dependencies=[Depends(json_only)],
    responses=problems.responses(400, 403, 413, 415, 422, 503),
    summary="Announce an image",
)
def create(body: UploadRequest, request: Request, services: Services, sender: Sender) -> UploadView:
    """An address that the announced file can be put to: one of S3's, or one of ours where S3 is private."""
    settings = services.settings
    if body.bytes > settings.max_image_bytes:
        raise InvalidRequest.at("/bytes", f"An image may have {settings.max_image_bytes} bytes at most.")
    upload_id = new_id()
    expires_at = datetime.now(UTC) + timedelta(seconds=settings.link_ttl_s)
    if settings.s3_private:
        services.redis.set(_announced(sender.owner, upload_id), body.model_dump_json(), ex=settings.link_ttl_s)
        put_url = f"{base_url(request, settings)}/v1/uploads/{upload_id}"
    else:
        limits.charge(services.keys, sender.owner, sender.bytes_per_day, body.bytes)
        put_url = services.storage.link_put(upload_key(sender.owner, upload_id), body.content_type, body.bytes)
    headers = {"Content-Type": body.content_type, "Content-Length": str(body.bytes)}
    return UploadView(upload=upload_id, put_url=put_url, headers=headers, expires_at=expires_at)


_FILE: dict[str, Any] = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}


@router.put(
    "/uploads/{upload_id}",
    status_code=204,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": dict.fromkeys(("image/png", "image/jpeg", "image/webp"), _FILE),
        }
    },
    responses=problems.responses(403, 404, 413, 415, 422, 503),
    summary="Put an announced image, where S3 is private",
)
async def put(upload_id: str, request: Request, services: Services, sender: Sender) -> Response:
    """The file, as it was announced."""
    announced = await run_in_threadpool(_find, sender.owner, upload_id, services)
    if request.headers.get("content-type") != announced.content_type:
        raise UnsupportedMediaType(f"This upload was announced as {announced.content_type}.")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > announced.bytes:
            raise TooLarge(f"This upload was announced to have {announced.bytes} bytes.")
    if len(data) < announced.bytes:
        raise InvalidRequest(f"This upload was announced to have {announced.bytes} bytes, not {len(data)}.")
    key = upload_key(sender.owner, upload_id)
    await run_in_threadpool(services.storage.put, key, bytes(data), announced.content_type)
    return Response(status_code=204)


def _find(owner: str, upload_id: str, services: Doors) -> UploadRequest:
    held = cast("bytes | None", services.redis.get(_announced(owner, upload_id)))
    if held is None:
        raise NotFound("There is no such upload to put a file to; it may have expired.")
    return UploadRequest.model_validate_json(held)


def _announced(owner: str, upload_id: str) -> str:
    return f"da:upload:{owner}:{upload_id}"
