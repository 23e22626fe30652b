"""Is it alive, and can it do its work? Liveness asks nothing of the neighbours; readiness names each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Response
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
    found = readiness(services)
    response.status_code = 200 if found.status == "ok" else 503
    return found


def readiness(services: Doors) -> Readiness:
    """What is there and what is missing, as it is now."""
    checks = {
        "redis": _check(services.redis.ping),
        "s3": _check(services.storage.check),
        "workers": _check(lambda: _require_worker(services)),
    }
    ready = all(outcome == "ok" for outcome in checks.values())
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
