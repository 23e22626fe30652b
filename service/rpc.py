"""The gRPC door: the calls of ``/v1`` as ``draganything.v1.DragAnything``, with health and reflection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import wraps
from typing import Any, TypeVar

import grpc
import grpc.aio
import structlog
from draganything.v1 import draganything_pb2 as pb
from draganything.v1.draganything_pb2_grpc import DragAnythingServicer, add_DragAnythingServicer_to_server
from fastapi.concurrency import run_in_threadpool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from jobs.connection import Misconfigured
from jobs.errors import InvalidRequest, Unavailable
from jobs.settings import Settings
from jobs.spec import BatchRequest, GenerateRequest
from jobs.state import Record, Status
from service import batches, rest, telemetry
from service.health import readiness
from service.intake import take_in
from service.links import own_url
from service.preview import preview
from service.rpc_gate import SERVICE, Context, Gate, sender
from service.rpc_messages import TEXTS, read, write
from service.segment import SegmentRequest, segment
from service.snapshots import present, snapshots
from service.state import Doors

DRAIN_S = 5
"""Calls that are under way when the server stops may go on for this long."""
MAX_CALLS = 1000
"""At once, over all connections; more are RESOURCE_EXHAUSTED."""
MAX_STREAMS = 200
"""At once, of one connection; more wait."""
HEALTH_S = 5.0
"""How often those who watch the health are told of a change."""
MAX_KEY = 255

log = structlog.get_logger()
Given = TypeVar("Given")
Request = TypeVar("Request")


def threaded(
    call: Callable[[DragAnything, Request, Context], Given],
) -> Callable[[DragAnything, Request, Context], Awaitable[Given]]:
    """A call that waits for Redis or S3, in a thread."""

    @wraps(call)
    async def answer(self: DragAnything, request: Request, context: Context) -> Given:
        return await run_in_threadpool(call, self, request, context)

    return answer


class DragAnything(DragAnythingServicer):
    """Each call reads its message, does what the route of REST does, and writes its view."""

    def __init__(self, services: Doors) -> None:
        self._services = services
        self._base = own_url(services.settings)
        self._watching: set[asyncio.Task[Any]] = set()

    @threaded
    def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.Job:
        """Queue a video."""
        body = read(GenerateRequest, request)
        return self._job(take_in(body, sender.get(), _idempotency_key(context), self._services))

    @threaded
    def GetJob(self, request: pb.GetJobRequest, _: Context) -> pb.Job:
        """The job as it is now."""
        return self._job(self._find(request.id))

    @threaded
    def ListJobs(self, request: pb.ListJobsRequest, _: Context) -> pb.ListJobsResponse:
        """One's jobs, newest first."""
        limit = request.limit if request.HasField("limit") else 20
        if not 1 <= limit <= 100:
            raise InvalidRequest.at("/limit", "Ask for 1 to 100 jobs.")
        if request.status not in TEXTS["Status"]:
            raise InvalidRequest.at("/status", "There is no such status.")
        status = Status(TEXTS["Status"][request.status]) if request.status else None
        after = request.after if request.HasField("after") else None
        records, following = self._services.store.page(sender.get().owner, status=status, after=after, limit=limit)
        return pb.ListJobsResponse(jobs=map(self._job, records), next=following)

    @threaded
    def CancelJob(self, request: pb.CancelJobRequest, _: Context) -> pb.Job:
        """Cancel a job that has not ended."""
        return self._job(rest.stop(request.id, self._services, sender.get())[0])

    @threaded
    def DeleteJob(self, request: pb.DeleteJobRequest, _: Context) -> pb.DeleteJobResponse:
        """Drop an ended job and all of its objects."""
        rest.delete(request.id, self._services, sender.get())
        return pb.DeleteJobResponse()

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> None:
        """The job at once, at every change, and last when it has ended."""
        task = asyncio.current_task()
        assert task
        self._watching.add(task)
        try:
            record = await run_in_threadpool(self._find, request.id)
            with telemetry.stream_open("grpc"):
                async with aclosing(snapshots(record, self._services)) as changes:  # type: ignore[type-var]
                    async for snapshot in changes:
                        await context.write(await run_in_threadpool(self._job, snapshot))
        except asyncio.CancelledError:
            if task in self._watching:  # the client has gone
                raise
            raise Unavailable("This server is going away; watch the job again.", retry_after_s=1) from None
        finally:
            self._watching.discard(task)

    @threaded
    def CreateBatch(self, request: pb.CreateBatchRequest, context: Context) -> pb.Batch:
        """Queue several videos, all or none."""
        body, key = read(BatchRequest, request), _idempotency_key(context)
        return self._batch(batches.take_in_batch(body, sender.get(), key, self._services))

    @threaded
    def GetBatch(self, request: pb.GetBatchRequest, _: Context) -> pb.Batch:
        """The jobs of a batch as they are now."""
        return self._batch(self._services.store.group(request.id, sender.get().owner))

    @threaded
    def CancelBatch(self, request: pb.CancelBatchRequest, _: Context) -> pb.Batch:
        """Cancel the jobs of a batch that have not ended."""
        batches.stop(request.id, self._services, sender.get())
        return self._batch(self._services.store.group(request.id, sender.get().owner))

    @threaded
    def Preview(self, request: pb.GenerateRequest, _: Context) -> pb.PreviewResponse:
        """What the network would be told."""
        return write(pb.PreviewResponse, preview(read(GenerateRequest, request), self._services, sender.get()))

    @threaded
    def Segment(self, request: pb.SegmentRequest, _: Context) -> pb.SegmentResponse:
        """The mask that clicks or a box mean."""
        return write(pb.SegmentResponse, segment(read(SegmentRequest, request), self._services, sender.get()))

    @threaded
    def ListModels(self, _: pb.ListModelsRequest, __: Context) -> pb.ListModelsResponse:
        """Every installed model."""
        return write(pb.ListModelsResponse, rest.models(self._services))

    def dismiss(self) -> None:
        """End every watch: its client is told to come again."""
        while self._watching:
            self._watching.pop().cancel()

    def _find(self, job_id: str) -> Record:
        return self._services.store.get(job_id, sender.get().owner)

    def _job(self, record: Record) -> pb.Job:
        return write(pb.Job, present(record, self._base, self._services))

    def _batch(self, records: list[Record]) -> pb.Batch:
        return write(pb.Batch, batches.present_batch(records, self._base, self._services))


def _idempotency_key(context: Context) -> str | None:
    given = [str(value) for name, value in context.invocation_metadata() or () if name == "idempotency-key"]
    if not given:
        return None
    if len(given) > 1 or not 1 <= len(given[0]) <= MAX_KEY:
        raise InvalidRequest(f"The metadata 'idempotency-key': give one, of 1 to {MAX_KEY} characters.")
    return given[0]


class Health(health.aio.HealthServicer):
    """SERVING while ``/readyz`` says ok."""

    def __init__(self, services: Doors) -> None:
        super().__init__()
        self._services = services

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """As it is now."""
        await self.refresh()
        answer: health_pb2.HealthCheckResponse = await super().Check(request, context)
        return answer

    async def refresh(self) -> None:
        """Look, and tell those who watch."""
        found = await run_in_threadpool(readiness, self._services)
        kinds = health_pb2.HealthCheckResponse
        for name in ("", SERVICE):
            await self.set(name, kinds.SERVING if found.status == "ok" else kinds.NOT_SERVING)

    async def keep_fresh(self) -> None:
        """For as long as the task lives."""
        while True:
            await self.refresh()
            await asyncio.sleep(HEALTH_S)


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The server's certificate, and whose certificates clients must show; None is no TLS.

    Raises:
        Misconfigured: a file can not be used.
    """
    certificate, authority = settings.grpc_cert_file, settings.grpc_ca_file
    if certificate is None:
        for name in ("grpc_key_file", "grpc_ca_file"):
            if getattr(settings, name) is not None:
                raise Misconfigured(name, "needs DRAGANYTHING_GRPC_CERT_FILE as well")
        return None
    key = settings.grpc_key_file or certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or error
        raise Misconfigured("grpc_cert_file", f"{certificate} with the key of {key}: {reason}") from None
    try:
        if authority:
            context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured("grpc_ca_file", f"{authority}: {error.strerror or error}") from None
    root = authority.read_bytes() if authority else None
    return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())], root, authority is not None)


@asynccontextmanager
async def open_rpc(services: Doors) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Serve where the settings say for as long as the block lasts; gives the function that stops it earlier."""
    settings = services.settings
    if not settings.grpc_port:
        yield _nothing
        return
    tls = credentials(settings)
    server = grpc.aio.server(
        interceptors=[Gate(services)],
        options=_options(settings),
        maximum_concurrent_rpcs=MAX_CALLS,
    )
    ours, checks = DragAnything(services), Health(services)
    add_DragAnythingServicer_to_server(ours, server)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    server.add_insecure_port(address) if tls is None else server.add_secure_port(address, tls)
    await server.start()
    log.info("rpc_serves", address=address, tls=tls is not None)
    fresh = asyncio.create_task(checks.keep_fresh())

    async def stop() -> None:
        await checks.enter_graceful_shutdown()
        ours.dismiss()
        await server.stop(DRAIN_S)

    try:
        yield stop
    finally:
        fresh.cancel()
        await stop()


async def _nothing() -> None:
    pass


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.so_reuseport", 0),  # two servers on one port would share its calls
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: 32 MB could unpack to any size
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
