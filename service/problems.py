"""Errors on the wire: ``application/problem+json`` (RFC 9457) with a stable ``code`` and, for fields, pointers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from jobs.errors import (
    BadRequest,
    DragAnythingError,
    FieldError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Unavailable,
)
from jobs.spec import RLE_FORMS
from service import telemetry

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "/problems#"
MAX_ERRORS = 20
MAX_NAME = 64

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
    telemetry.note_refusal(error.code)
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


def as_ours(error: Exception) -> DragAnythingError:
    """Whatever was raised as one of our errors; what is our fault, or a neighbour's, is logged."""
    match error:
        case DragAnythingError():
            return error
        case RedisError():
            log.warning("redis_away", error=type(error).__name__)
            return Unavailable("The job store does not answer; try again.", retry_after_s=2)
        case BotoCoreError() | ClientError():
            log.warning("s3_away", error=type(error).__name__)
            return Unavailable("The object store does not answer; try again.", retry_after_s=5)
        case _:
            log.error("unexpected", exc_info=error)
            return DragAnythingError("Something went wrong on our side; it has been logged.")


def from_validation(problems: Sequence[Any], body: Any) -> DragAnythingError:
    """Pydantic's findings about a request as one of our errors; ``body`` is what was parsed."""
    first = problems[0]
    place, *path = first["loc"]
    if first["type"] == "json_invalid":
        where = f", at character {path[0]}" if path[0] else ""
        return BadRequest(f"The body is not valid JSON: {first['ctx']['error']}{where}.")
    if place != "body":
        return InvalidRequest(f"The {place} parameter {path[0]!r}: {_explain(first)}")
    if not path and first["type"] == "missing":
        return BadRequest("The body is empty; send a JSON object.")
    if not path and not isinstance(body, dict):
        return InvalidRequest.at("", "The body must be a JSON object.")
    errors = tuple(FieldError(pointer_to(problem["loc"]), _explain(problem)) for problem in problems[:MAX_ERRORS])
    count = f"{len(problems)} fields are" if len(problems) > 1 else "One field is"
    shown = f"the first {MAX_ERRORS} are in errors" if len(problems) > MAX_ERRORS else "see errors"
    return InvalidRequest(f"{count} wrong; {shown}.", errors=errors)


def pointer_to(loc: Sequence[int | str]) -> str:
    """The JSON pointer of pydantic's path, without the names that it gives to the two forms of run lengths."""
    steps = [step for before, step in pairwise(loc) if not (before == "counts" and step in RLE_FORMS)]
    return "".join("/" + _printable(str(step)).replace("~", "~0").replace("/", "~1") for step in steps)


def _printable(name: str) -> str:
    """A name out of a body: not long, and valid Unicode, which a JSON string need not be."""
    return name[:MAX_NAME].encode(errors="backslashreplace").decode()


def _explain(problem: dict[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return "There is no such field."
    if problem["type"] == "missing":
        return "This field is required."
    return str(problem["msg"]).removeprefix("Value error, ").rstrip(".") + "."


_BY_STATUS: dict[int, DragAnythingError] = {
    400: BadRequest("The body is not valid JSON."),
    404: NotFound("There is nothing at this address."),
    405: MethodNotAllowed("See the Allow header."),
}


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"model": Problem, "description": "Any other error", "content": {MEDIA_TYPE: {}}}
}
"""For the documentation of every route."""


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses, for the documentation of a route."""
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return {
        status: {"model": Problem, "content": {MEDIA_TYPE: {}}} | ({"headers": retry} if status == 503 else {})
        for status in statuses
    }


def _document(app: FastAPI) -> None:
    """Correct what FastAPI writes about problems (their media type) and events (a keyword of OpenAPI 3.2)."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for path in generate()["paths"].values():
                for operation in path.values():
                    for response in operation["responses"].values():
                        content = response.get("content", {})
                        if MEDIA_TYPE in content:
                            response["content"] = {MEDIA_TYPE: {"schema": _PROBLEM}}
                        content.get("text/event-stream", {}).pop("itemSchema", None)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI documents it


def _methods(request: Request) -> set[str]:
    """What an address takes, of all routes that match it: Starlette names those of the first one alone."""
    matching = (route for route in request.app.router.routes if route.matches(request.scope)[0] != Match.NONE)
    return {method for route in matching for method in getattr(route, "methods", ())}


_PROBLEM = {"$ref": f"#/components/schemas/{Problem.__name__}"}


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem, and say so in its documentation."""
    _document(app)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(from_validation(error.errors(), error.body))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        response = answer(_BY_STATUS[error.status_code])
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(sorted(_methods(request)))
        return response

    @app.exception_handler(DragAnythingError)
    @app.exception_handler(RedisError)
    @app.exception_handler(BotoCoreError)
    @app.exception_handler(ClientError)
    @app.exception_handler(Exception)
    async def _raised(_: Request, error: Exception) -> JSONResponse:
        return answer(as_ours(error))
