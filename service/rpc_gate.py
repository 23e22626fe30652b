"""The entrance of the gRPC door: who may make a call, and how errors are told (google.rpc.Status)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from draganything.v1 import draganything_pb2 as pb
from fastapi.concurrency import run_in_threadpool
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from jobs import tracing
from jobs.errors import BadRequest as Malformed
from jobs.errors import (
    Conflict,
    DragAnythingError,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from jobs.errors import Forbidden as Denied
from jobs.keys import Scope
from service import limits, telemetry
from service.auth import Caller, Verdict, admit
from service.problems import as_ours
from service.rpc_messages import pointer_of
from service.state import Doors

SERVICE = pb.DESCRIPTOR.services_by_name["DragAnything"].full_name
DOMAIN = "draganything"
READING = {"GetJob", "ListJobs", "WatchJob", "GetBatch", "ListModels"}
CODES: dict[type[DragAnythingError], grpc.StatusCode] = {
    Malformed: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthorized: grpc.StatusCode.UNAUTHENTICATED,
    Denied: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    IdempotencyInFlight: grpc.StatusCode.ABORTED,
    Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    IdempotencyMismatch: grpc.StatusCode.ALREADY_EXISTS,
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}
"""The nearest class counts; what is not here is INTERNAL."""
MAX_TEXT = 500
MAX_DETAILS_BYTES = 3000
"""Clients refuse more than 8 kB of metadata, where the details are in base64 and the message is sent twice."""

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
sender: ContextVar[Caller] = ContextVar("sender")
"""Of the call that is being handled, as ``Gate`` let it in."""


class Gate(grpc.aio.ServerInterceptor):
    """Lets a call of our service in, or refuses it, before its message is read; health and reflection stay open.

    Browsers can not send gRPC, so there is no Host or Origin to check.
    """

    def __init__(self, services: Doors) -> None:
        self._services = services

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of the call, or one that refuses it."""
        handler = await continuation(handler_call_details)
        service, _, name = handler_call_details.method.removeprefix("/").partition("/")
        if handler is None or service != SERVICE:
            return handler
        need = Scope.READ if name in READING else Scope.WRITE
        credentials = [
            str(value) for key, value in handler_call_details.invocation_metadata if key == "authorization"
        ]
        try:
            verdict = await run_in_threadpool(admit, self._services, credentials, need, 0)
        except Exception as error:  # noqa: BLE001 - it becomes the answer
            verdict = Verdict(refusal=as_ours(error))
        if verdict.refusal:  # a handler that streams reads nothing unless it wants to
            refuse = telemetry.timed(name, partial(_turn_away, verdict=verdict))
            return grpc.stream_stream_rpc_method_handler(refuse)
        kind = (
            grpc.unary_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        serve = telemetry.timed(name, partial(self._serve, name=name, handler=handler, verdict=verdict))
        return kind(serve, None, handler.response_serializer)

    async def _serve(
        self, data: bytes, context: Context, *, name: str, handler: Handler, verdict: Verdict
    ) -> Message | None:
        behave: Any = handler.unary_unary or handler.unary_stream
        await _tell_limits(context, verdict)
        try:
            caller = verdict.caller
            await run_in_threadpool(
                limits.charge, self._services.keys, caller.owner, caller.bytes_per_day, len(data)
            )
            sender.set(caller)
            with tracing.serving(name, _traceparent(context)):
                answer: Message | None = await behave(_parse(data, handler), context)
        except Exception as error:  # noqa: BLE001 - it becomes the answer
            await _abort(context, as_ours(error))
        return answer


def _traceparent(context: Context) -> str | None:
    given = [str(value) for key, value in context.invocation_metadata() or () if key == "traceparent"]
    return given[0] if len(given) == 1 else None


async def _turn_away(_: object, context: Context, *, verdict: Verdict) -> None:
    assert verdict.refusal
    await _tell_limits(context, verdict)
    await _abort(context, verdict.refusal)


async def _abort(context: Context, error: DragAnythingError) -> NoReturn:
    status = rpc_status.to_status(status_of(error))
    context.set_code(status.code)  # for the metrics: abort does not keep it
    await context.abort_with_status(status)
    raise AssertionError("unreachable")


async def _tell_limits(context: Context, verdict: Verdict) -> None:
    await context.send_initial_metadata(tuple((name.lower(), value) for name, value in verdict.fields.items()))


def _parse(data: bytes, handler: Handler) -> Message:
    assert handler.request_deserializer
    try:
        message: Message = handler.request_deserializer(data)
    except DecodeError:
        raise Malformed("The message is not of the type that this call takes.") from None
    return message


def status_of(error: DragAnythingError) -> Status:
    """An error as google.rpc.Status, with as many field violations as clients take."""
    telemetry.note_refusal(error.code)
    code = next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), grpc.StatusCode.INTERNAL)
    status = Status(code=code.value[0], message=_short(error.detail))
    _attach(status, ErrorInfo(reason=error.code, domain=DOMAIN))
    if error.retry_after_s is not None:
        _attach(status, RetryInfo(retry_delay=Duration(seconds=error.retry_after_s)))
    violations = BadRequest()
    for each in error.errors:
        violations.field_violations.add(field=pointer_of(each.pointer), description=_short(each.detail))
        if violations.ByteSize() > MAX_DETAILS_BYTES:
            del violations.field_violations[-1]
            break
    if error.errors:
        _attach(status, violations)
    return status


def _attach(status: Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
