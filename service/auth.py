"""Who sends a call of ``/v1``, and whether they may: ``Authorization: Bearer da_…`` (RFC 6750).

Without any key in Redis the header is ignored and all callers are one, which is for loopback; from the first key
on, each call needs one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from redis.exceptions import RedisError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs import keys
from jobs.errors import DragAnythingError, Forbidden, LengthRequired, TooLarge, Unauthorized
from jobs.settings import Settings
from jobs.store import Quota
from service import limits, problems
from service.links import base_url
from service.state import Doors

PREFIX = "/v1"
RATERS = re.compile(r"/v1/studies/[^/]+/(next|votes|raters/.+)")
"""Calls that need no key: who has a study's link may vote."""
MAX_VOTE_BYTES = 4096
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
READING = {"GET", "HEAD", "OPTIONS"}
_CREDENTIALS = re.compile(r"bearer +(\S+)", re.IGNORECASE)  # RFC 9110, 11.1 and 11.4


@dataclass(frozen=True)
class Caller:
    """The owner of what a request makes, and how much of it there may be. Without keys, all are one.

    ``base_url`` is where the request reached us; left out where that was at another door than HTTP.
    """

    owner: str = ""
    quota: Quota = field(default_factory=Quota)
    bytes_per_day: int | None = None
    base_url: str | None = None


def has_key(scope: Scope) -> bool:
    """Whether ``Gate`` saw a valid key."""
    return "caller" in scope.get("state", {}) and bool(scope["state"]["caller"].owner)


def caller(request: Request) -> Caller:
    """The sender of the request that is being handled, as ``Gate`` let it in."""
    held: Caller = request.state.caller
    return replace(held, base_url=base_url(request, request.app.state.doors.settings))


Sender = Annotated[Caller, Depends(caller)]


@dataclass(frozen=True)
class Verdict:
    """Who sends a request, what its answer tells about it, and why it is refused, if it is."""

    caller: Caller = Caller()
    fields: dict[str, str] = field(default_factory=dict)
    refusal: DragAnythingError | None = None


def is_public(settings: Settings) -> bool:
    """Whether others than this machine are served, and nobody has named the hosts: then it takes a key."""
    return settings.host not in LOOPBACK and "allowed_hosts" not in settings.model_fields_set


def admit(services: Doors, credentials: Sequence[str], need: keys.Scope, length: int | None) -> Verdict:
    """Judge a call by its ``Authorization`` fields; ``length`` is that of its body, None where nobody knows.

    Raises:
        RedisError: nobody can be asked.
    """
    match = _CREDENTIALS.fullmatch(credentials[0]) if len(credentials) == 1 else None
    key = services.keys.verify(match[1]) if match else None
    if key is None:
        needed = services.settings.require_keys or is_public(services.settings)
        return _stranger(credentials) if needed or services.keys.exist() else Verdict()
    drawn = limits.draw(services.keys, key, length)
    quota = Quota(key.limits.max_queued, key.limits.max_running)
    known = Caller(key.id, quota, key.limits.bytes_per_day)
    if drawn.refusal or need in key.scopes:
        return Verdict(known, drawn.fields, drawn.refusal)
    challenge = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{need}"'}
    return Verdict(known, drawn.fields | challenge, Forbidden(f"This key lacks the scope {need}."))


def _stranger(credentials: Sequence[str]) -> Verdict:
    if not credentials:
        refusal = Unauthorized("Send a key as Authorization: Bearer da_…; `draganything keys create` makes one.")
        return Verdict(fields={"WWW-Authenticate": "Bearer"}, refusal=refusal)
    refusal = Unauthorized("The key is unknown, revoked or mistyped; send one, as Authorization: Bearer da_….")
    return Verdict(fields={"WWW-Authenticate": 'Bearer error="invalid_token"'}, refusal=refusal)


class Gate:
    """Lets a call of ``/v1`` in, before any of its body is read, or answers it. A rater's need no key."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the call unless its sender may not make it."""
        if scope["type"] != "http" or not _is_call(scope):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if RATERS.fullmatch(_path(scope)):
            refusal = _unread(_length(headers))
            await (self.app if refusal is None else problems.answer(refusal))(scope, receive, send)
            return
        need = keys.Scope.READ if scope["method"] in READING else keys.Scope.WRITE
        try:
            verdict = await run_in_threadpool(
                admit, scope["app"].state.doors, headers.getlist("authorization"), need, _length(headers)
            )
        except RedisError as error:
            await problems.answer(problems.as_ours(error))(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(verdict.fields)
            await send(message)

        scope.setdefault("state", {})["caller"] = verdict.caller
        inner = self.app if verdict.refusal is None else problems.answer(verdict.refusal)
        await inner(scope, receive, told)


def _is_call(scope: Scope) -> bool:
    return (_path(scope) + "/").startswith(PREFIX + "/")


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _unread(length: int | None) -> DragAnythingError | None:
    """Why a rater's body is not read: of somebody whom nobody knows, it is not to fill the memory."""
    if length is None:
        return LengthRequired("Send Content-Length, not chunks.")
    return TooLarge(f"A vote may have {MAX_VOTE_BYTES} bytes.") if length > MAX_VOTE_BYTES else None


def _length(headers: Headers) -> int | None:
    if "transfer-encoding" in headers:
        return None
    announced = headers.get("content-length", "0")
    return int(announced) if announced.isdecimal() else None


def document(app: FastAPI) -> None:
    """Say in the application's OpenAPI document what the gate asks and answers."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            document["components"]["securitySchemes"] = {"key": _SCHEME}
            for path, operations in document["paths"].items():
                if path.startswith(PREFIX + "/") and not RATERS.fullmatch(path):
                    for method, operation in operations.items():
                        _document(operation, method.upper())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI documents it


def _document(operation: dict[str, Any], method: str) -> None:
    need = keys.Scope.READ if method in READING else keys.Scope.WRITE
    operation["security"] = [{}, {"key": [need.value]}]
    error = operation["responses"]["default"]["content"]
    for status, (description, headers) in _ANSWERS.items():
        response = operation["responses"].setdefault(status, {"description": description, "content": error})
        response["headers"] = response.get("headers", {}) | headers
    for status, response in operation["responses"].items():
        if status != "401":
            response["headers"] = response.get("headers", {}) | _LIMITS


def _header(description: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}, **more}


_SCHEME = {"type": "http", "scheme": "bearer", "description": "Needed as soon as the service has a key."}
_CHALLENGE = {"WWW-Authenticate": _header("what is missing (RFC 6750)", example='Bearer error="invalid_token"')}
_ANSWERS = {
    "401": ("No valid key", _CHALLENGE),
    "403": ("Not allowed: the key lacks the scope, or the host is not served", _CHALLENGE),
    "429": ("Over a limit of the key", {"Retry-After": _header("seconds", "integer")}),
}
_LIMITS = {
    "RateLimit": _header("what a key has left", example='"requests";r=599;t=1'),
    "RateLimit-Policy": _header("the limits of a key", example='"requests";q=600;w=60'),
}
