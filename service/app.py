"""The application: doors open, guards at the entrance, every error a problem."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from jobs.settings import Settings
from jobs.settings import settings as process_settings
from service import (
    auth,
    ballots,
    batches,
    health,
    pages,
    preview,
    problems,
    replay,
    rest,
    segment,
    study,
    telemetry,
    uploads,
    videos,
)
from service.guards import BodyLimit, LoopbackGuard
from service.rpc import open_rpc
from service.state import open_doors


def create_app(settings: Settings | None = None) -> FastAPI:
    """The API. ``uvicorn service.app:create_app --factory`` serves it too."""
    settings = settings or process_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_doors(settings) as app.state.doors, open_rpc(app.state.doors) as app.state.stop_rpc:
            yield

    app = FastAPI(
        title="DragAnything",
        version=version("draganything"),
        summary="A picture, masks and polylines in; a video in which each entity moves along its line out.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        redoc_url=None,
        telemetry=telemetry.TRACES,
    )
    app.include_router(health.router)
    app.include_router(pages.router)
    app.include_router(telemetry.router)
    app.include_router(rest.router)
    app.include_router(preview.router)
    app.include_router(segment.router)
    app.include_router(batches.router)
    app.include_router(replay.router)
    app.include_router(study.router)
    app.include_router(ballots.router)
    app.include_router(uploads.router)
    app.include_router(videos.router)
    problems.install(app)
    auth.document(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(
        LoopbackGuard,
        allowed_hosts=("*",) if auth.is_public(settings) else settings.allowed_hosts,
        spare_keys="allowed_hosts" not in settings.model_fields_set,
    )
    app.add_middleware(auth.Gate)
    app.add_middleware(videos.ErrorForm)  # it words the answers of the others
    app.add_middleware(telemetry.Stopwatch)
    return app
