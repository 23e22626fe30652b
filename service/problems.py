"""Errors on the wire: ``application/problem+json`` (RFC 9457) with a stable ``code`` and, for fields, pointers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from jobs.errors import BadRequest, DragAnythingError, FieldError, InvalidRequest, NotFound, Unavailable

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "/problems#"

log = structlog.get_logger()


class FieldProblem(BaseModel):
    """One wrong field."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request body")
    detail: str


class Problem(BaseModel):
    """What went wrong and what to do about it."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="stable and machine-readable")
    errors: list[FieldProblem] | None = None


def answer(error: DragAnythingError) -> JSONResponse:
    """An error as a response."""
    body: dict[str, Any] = {
        "type": TYPE_BASE + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    if error.errors:
        body["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in error.errors]
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return JSONResponse(body, error.status, headers, media_type=MEDIA_TYPE)


def from_validation(problems: Sequence[Any]) -> DragAnythingError:
    """Pydantic's findings as one of our errors."""
    if any(problem["type"] == "json_invalid" for problem in problems):
        where = problems[0].get("ctx", {}).get("error", "")
        return BadRequest(f"The body is not valid JSON. {where}".strip())
    if any(tuple(problem["loc"]) == ("body",) and problem["type"] != "missing" for problem in problems):
        return InvalidRequest.at("", "The body must be a JSON object.")
    errors = tuple(FieldError(pointer_to(problem["loc"]), _explain(problem)) for problem in problems)
    count = f"{len(errors)} fields are" if len(errors) > 1 else "One field is"
    return InvalidRequest(f"{count} wrong; see errors.", errors=errors)


def pointer_to(loc: Sequence[int | str]) -> str:
    """The JSON pointer of a place in the body: pydantic's path without the names that it gives to variants."""
    steps = [step for step in loc if step != "body" and not str(step).startswith(("list[", "function-"))]
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def _explain(problem: dict[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return "There is no such field."
    if problem["type"] == "missing":
        return "This field is required."
    return str(problem["msg"]).removeprefix("Value error, ").rstrip(".") + "."


_BY_STATUS: dict[int, DragAnythingError] = {
    404: NotFound("There is nothing at this address."),
    400: BadRequest("The body is not valid JSON."),
}


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""

    @app.exception_handler(DragAnythingError)
    async def _ours(_: Request, error: DragAnythingError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(from_validation(error.errors()))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        known = _BY_STATUS.get(error.status_code)
        if known is not None:
            return answer(known)
        body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code}
        body |= {"detail": str(error.detail), "code": str(error.detail).lower().replace(" ", "_")}
        return JSONResponse(body, error.status_code, error.headers, media_type=MEDIA_TYPE)

    @app.exception_handler(RedisError)
    async def _redis(_: Request, error: RedisError) -> JSONResponse:
        log.warning("redis_away", error=type(error).__name__)
        return answer(Unavailable("The job store does not answer; try again.", retry_after_s=2))

    @app.exception_handler(BotoCoreError)
    @app.exception_handler(ClientError)
    async def _s3(_: Request, error: Exception) -> JSONResponse:
        log.warning("s3_away", error=type(error).__name__)
        return answer(Unavailable("The object store does not answer; try again.", retry_after_s=5))

    @app.exception_handler(Exception)
    async def _unexpected(_: Request, error: Exception) -> JSONResponse:
        log.error("unexpected", exc_info=error)
        return answer(DragAnythingError("Something went wrong on our side; it has been logged."))
