"""``/metrics``: what Prometheus asks the API for.

Jobs, workers and webhooks are counted in Redis, so every API process says the same of them: take the maximum.
Calls, refusals and streams are counted in the process that met them: add them up.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Hangs
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from fastapi import APIRouter, Response
from fastapi.telemetry import TelemetryConfig
from grpc import StatusCode
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.errors import DragAnythingError
from jobs.outbox import Outbox
from jobs.store import born
from jobs.telemetry import new_registry
from service.state import Doors, Services

router = APIRouter()
Given = TypeVar("Given")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
"""A label must not be whatever a stranger sends."""
PROBE_S = 2.0
"""An object store that has not answered for so long counts as away; a scrape must not wait for it."""
ALWAYS_TOLD = ("attempt", "interrupted lease_lost", "interrupted drained", "succeeded", "failed worker_crashed")
"""From zero on: an increase can not be seen of what is not there before."""

_PROCESS = new_registry()
_ANSWERS = Histogram(
    "draganything_http_request_duration_seconds",
    "Time until the first byte of an answer.",
    ["method", "route", "status"],
    buckets=BUCKETS,
    registry=_PROCESS,
)
_RPCS = Histogram(
    "draganything_rpc_duration_seconds",
    "Time until a gRPC call ended; WatchJob ends with its job.",
    ["method", "code"],
    buckets=BUCKETS,
    registry=_PROCESS,
)
_ACCEPTED = Counter("draganything_jobs_accepted", "Jobs that were accepted.", ["model"], registry=_PROCESS)
_REFUSED = Counter(
    "draganything_calls_refused",
    "Calls that were answered with an error, by its code.",
    ["code"],
    registry=_PROCESS,
)
_STREAMS = Gauge("draganything_streams_open", "Event streams that clients hold open.", ["door"], registry=_PROCESS)
TRACES: TelemetryConfig = {
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
    "exclude": lambda scope: not scope["path"].removeprefix(scope.get("root_path", "")).startswith("/v1/"),
}
"""Of FastAPI's own telemetry: a span for each call of ``/v1``, where ``jobs.tracing`` has found a collector."""
_asking = ThreadPoolExecutor(1, "probe")
_seen: dict[tuple[str, str], int] = {}


@router.get("/metrics", include_in_schema=False)
def metrics(services: Services) -> Response:
    """In Prometheus' text format."""
    shared = CollectorRegistry()
    shared.register(_Shared(services))
    return Response(generate_latest(shared) + generate_latest(_PROCESS), media_type=CONTENT_TYPE_PLAIN_1_0_0)


def note_accepted(model: str) -> None:
    """A job was accepted."""
    _ACCEPTED.labels(model).inc()


def note_refusal(code: str) -> None:
    """A call was answered with an error."""
    _REFUSED.labels(code).inc()


def stream_open(door: str) -> AbstractContextManager[object]:
    """A client holds a stream open for as long as the block lasts."""
    return _STREAMS.labels(door).track_inprogress()


def timed(method: str, behave: Callable[[Any, Any], Awaitable[Given]]) -> Callable[[Any, Any], Awaitable[Given]]:
    """The same gRPC behaviour; its calls are counted and timed."""

    async def answer(request: Any, context: Any) -> Given:
        began, code = time.perf_counter(), StatusCode.CANCELLED
        try:
            given = await behave(request, context)
            code = StatusCode.OK
        except Exception:
            code = context.code() or StatusCode.UNKNOWN
            raise
        else:
            return given
        finally:
            _RPCS.labels(method, code.name).observe(time.perf_counter() - began)

    return answer


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
                method = scope["method"] if scope["method"] in METHODS and route != "none" else "none"
                labels = (method, route, str(message["status"]))
                _ANSWERS.labels(*labels).observe(time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, timed)


class _Shared(Collector):
    """What is so for every process, at the moment of asking."""

    def __init__(self, services: Doors) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Where Redis is away, nothing but that."""
        s3 = _asking.submit(self._ask_s3)
        try:
            held = [*self._jobs(), *self._webhooks()]
        except RedisError:
            held = []
        yield GaugeMetricFamily("draganything_redis_up", "Whether Redis answers.", value=float(bool(held)))
        yield GaugeMetricFamily("draganything_s3_up", "Whether the object store answers.", value=_in_time(s3))
        yield from held

    def _ask_s3(self) -> bool:
        try:
            self._services.storage.check()
        except (DragAnythingError, BotoCoreError, ClientError):
            return False
        return True

    def _jobs(self) -> Iterator[Metric]:
        services = self._services
        running = services.store.count_running()
        yield GaugeMetricFamily("draganything_jobs_running", "Jobs that a worker holds.", value=running)
        queued = GaugeMetricFamily("draganything_jobs_queued", "Jobs that wait.", labels=["model"])
        oldest = GaugeMetricFamily(
            "draganything_oldest_queued_job_seconds", "Since the oldest of them was accepted.", labels=["model"]
        )
        workers = GaugeMetricFamily("draganything_workers", "Workers that are alive.", labels=["model"])
        transitions = _Transitions()
        for card in services.registry.cards():
            waiting = services.store.queued(card.name)
            queued.add_metric([card.name], len(waiting))
            age_s = time.time() - born(min(waiting)).timestamp() if waiting else 0.0
            oldest.add_metric([card.name], max(age_s, 0.0))
            workers.add_metric([card.name], services.registry.alive(card.name))
            transitions.add(card.name, services.store.counts(card.name))
        yield from (queued, oldest, workers, *transitions.families)

    def _webhooks(self) -> Iterator[Metric]:
        backlog = Outbox(self._services.redis).backlog()
        for name, told, value in (
            ("pending", "Webhooks that are still to be delivered.", backlog.pending),
            ("overdue_seconds", "Since the webhook was due that has been due longest.", backlog.overdue_s),
            ("dead", "Webhooks that were given up.", backlog.dead),
        ):
            yield GaugeMetricFamily(f"draganything_webhooks_{name}", told, value=value)


class _Transitions:
    """What Redis counted of the lives of jobs."""

    def __init__(self) -> None:
        self.attempts = CounterMetricFamily(
            "draganything_attempts", "Attempts that workers began.", labels=["model"]
        )
        self.interrupted = CounterMetricFamily(
            "draganything_attempts_interrupted",
            "Attempts that ended before their job did.",
            labels=["model", "reason"],
        )
        self.ended = CounterMetricFamily(
            "draganything_jobs_ended", "Jobs that have ended.", labels=["model", "outcome", "code"]
        )
        self.families = (self.attempts, self.interrupted, self.ended)

    def add(self, model: str, counts: dict[str, int]) -> None:
        """The counts of a model, as the store keeps them."""
        for what, times in (dict.fromkeys(ALWAYS_TOLD, 0) | counts).items():
            name, _, detail = what.partition(" ")
            value = _risen(model, what, times)
            if name == "attempt":
                self.attempts.add_metric([model], value)
            elif name == "interrupted":
                self.interrupted.add_metric([model, detail], value)
            else:
                self.ended.add_metric([model, name, detail], value)


def _risen(model: str, what: str, times: int) -> int:
    """A Redis that comes back may have lost its last second. Prometheus takes any fall for a start from zero and
    would count everything again, so a small one is not shown."""
    before = _seen.get((model, what), 0)
    _seen[model, what] = max(times, before) if times > before / 2 else times
    return _seen[model, what]


def _in_time(answer: Future[bool]) -> bool:
    try:
        return answer.result(PROBE_S)
    except Hangs:
        answer.cancel()
        return False
