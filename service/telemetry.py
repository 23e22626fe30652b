"""``/metrics``: what Prometheus asks for.

Jobs and workers are counted in Redis, so every API process says the same of them: take the maximum. Calls are
counted in the process that answered them: add them up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.store import born
from service.state import Doors, Services

router = APIRouter()
_PROCESS = CollectorRegistry()
_ANSWERS = Histogram(
    "draganything_http_request_duration_seconds",
    "Time until the first byte of an answer.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
    registry=_PROCESS,
)


@router.get("/metrics", include_in_schema=False)
def metrics(services: Services) -> Response:
    """In Prometheus' text format."""
    shared = CollectorRegistry()
    shared.register(_Jobs(services))
    return Response(generate_latest(shared) + generate_latest(_PROCESS), media_type=CONTENT_TYPE_PLAIN_1_0_0)


class Stopwatch:
    """Times every call by its route, never by its address, which can be anything."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the call."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                labels = (scope["method"] if route != "none" else "none", route, str(message["status"]))
                _ANSWERS.labels(*labels).observe(time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, timed)


class _Jobs(Collector):
    """What is in Redis at the moment of asking."""

    def __init__(self, services: Doors) -> None:
        self._services = services

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges; ``draganything_redis_up`` alone where Redis is away."""
        try:
            held = list(self._gauges())
        except RedisError:
            held = []
        up = GaugeMetricFamily("draganything_redis_up", "Whether Redis answers.", value=float(bool(held)))
        yield from (up, *held)

    def _gauges(self) -> Iterator[GaugeMetricFamily]:
        services = self._services
        running = services.store.count_running()
        yield GaugeMetricFamily("draganything_jobs_running", "Jobs that a worker holds.", value=running)
        queued = GaugeMetricFamily("draganything_jobs_queued", "Jobs that wait.", labels=["model"])
        oldest = GaugeMetricFamily(
            "draganything_oldest_queued_job_seconds", "Since the oldest of them was accepted.", labels=["model"]
        )
        workers = GaugeMetricFamily("draganything_workers", "Workers that are alive.", labels=["model"])
        for card in services.registry.cards():
            waiting = services.store.queued(card.name)
            queued.add_metric([card.name], len(waiting))
            age_s = time.time() - born(min(waiting)).timestamp() if waiting else 0.0
            oldest.add_metric([card.name], max(age_s, 0.0))
            workers.add_metric([card.name], services.registry.alive(card.name))
        yield from (queued, oldest, workers)
