"""JSON bodies, read more strictly than Python does by itself: what is ambiguous or absurd is not accepted."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from jobs.errors import BadRequest

MAX_MEMBERS = 64
"""Of one object; the schema has none with half as many."""


class JsonRoute(APIRoute):
    """A route whose body is parsed by ``parse``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI documents it for custom requests."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        return parse(await self.body())


def parse(body: bytes) -> Any:
    """The value of a JSON text in UTF-8 (RFC 8259).

    Raises:
        json.JSONDecodeError: it is none, an object says a name twice or has too many, or it is too deep.
    """
    gc.disable()  # it would search a million fresh lists for cycles, again and again: three times the time
    try:
        return json.loads(body.decode(), object_pairs_hook=_as_object)
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError("Not UTF-8", "", error.start) from None
    except RecursionError:
        raise json.JSONDecodeError("Nested too deeply", "", 0) from None
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python's limit against quadratic time
        raise json.JSONDecodeError("A number with too many digits", "", 0) from None
    finally:
        gc.enable()


def parse_json(body: bytes) -> Any:
    """As ``parse``, for a body that FastAPI does not read.

    Raises:
        BadRequest: it is not JSON.
    """
    try:
        return parse(body)
    except json.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error.msg}, at character {error.pos}.") from None


def _as_object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members) > MAX_MEMBERS:
        raise json.JSONDecodeError(f"An object with more than {MAX_MEMBERS} members", "", 0)
    made = dict(members)
    if len(made) < len(members):
        raise json.JSONDecodeError("An object names a member twice", "", 0)
    return made
