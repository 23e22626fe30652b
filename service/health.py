"""Is it alive, and can it do its work? Liveness asks nothing of the neighbours; readiness names each of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from html import escape
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from redis.exceptions import RedisError

from jobs.errors import DragAnythingError, Unavailable
from service.state import Doors, doors

router = APIRouter()
log = structlog.get_logger()


class Readiness(BaseModel):
    """Whether the service can do its work, and what is missing."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str]
    models: dict[str, int]


@router.get("/livez", summary="Alive")
async def livez() -> dict[Literal["status"], Literal["ok"]]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "Something is missing; see checks"}}, summary="Ready")
def readyz(response: Response, services: Annotated[Doors, Depends(doors)]) -> Readiness:
    """Redis and S3 answer, and at least one worker is alive; each is named with ``ok`` or what is wrong.

    ``models`` says how many live workers hold each model.
    """
    checks = {
        "redis": _check(services.redis.ping),
        "s3": _check(services.storage.check),
        "workers": _check(lambda: _require_worker(services)),
    }
    ready = all(outcome == "ok" for outcome in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(status="ok" if ready else "unavailable", checks=checks, models=_workers(services))


def _check(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except DragAnythingError as error:
        return error.detail
    except Exception as error:  # noqa: BLE001 - whatever is wrong is the answer; its words may name hosts
        log.warning("not_ready", error=str(error))
        return f"does not answer ({type(error).__name__})"
    return "ok"


def _workers(services: Doors) -> dict[str, int]:
    try:
        return {card.name: services.registry.alive(card.name) for card in services.registry.cards()}
    except RedisError:  # it is named above
        return {}


def _require_worker(services: Doors) -> None:
    if not services.registry.alive():
        raise Unavailable("no worker is alive")


@router.get("/problems", response_class=HTMLResponse, include_in_schema=False)
async def problem_types() -> str:
    """The page that the ``type`` of every problem leads to."""
    rows = "".join(
        f'<tr id="{kind.code}"><th scope="row"><code>{kind.code}</code></th><td>{kind.status}</td>'
        f"<td>{escape(kind.title)}</td><td>{escape(_told(kind))}</td></tr>"
        for kind in sorted(_kinds(DragAnythingError), key=lambda kind: (kind.status, kind.code))
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Problem types</title>'
        "<style>body{font:1rem/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td,th{text-align:left;padding:.3rem .8rem;border-bottom:1px solid #ddd}"
        ":target{background:#fff3bf}</style>"
        "<h1>Problem types</h1><table><tr><th>code</th><th>status</th><th>title</th><th>meaning</th></tr>"
        f"{rows}</table></html>"
    )


def _told(kind: type[DragAnythingError]) -> str:
    return (inspect.getdoc(kind) or "") if "__doc__" in vars(kind) and kind.__doc__ else ""


def _kinds(kind: type[DragAnythingError]) -> list[type[DragAnythingError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _kinds(child))]
