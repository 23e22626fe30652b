"""Traces of jobs, by OpenTelemetry, where ``OTEL_EXPORTER_OTLP_ENDPOINT`` names a collector. Where it does not,
nothing is imported for it and every call here returns at once.

One trace holds the life of a job: the request that made it and, as children of that, its wait in the queue, each
attempt with its stages, and each try to deliver its webhook. The record carries the context from one process to
the next (``traceparent``, W3C Trace Context).
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import structlog

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context

REST_S = 2.0
"""For what is still to be sent when the process ends."""
log = structlog.get_logger()
_tracer: trace.Tracer | None = None


def configure_traces(process: str) -> None:
    """Send what this process does for jobs to the collector, as the standard ``OTEL_*`` variables say.

    Where the SDK is not installed, that is logged, and there are no traces.
    """
    global _tracer
    named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not any(map(os.environ.get, named)) or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("traces_off", missing="opentelemetry-sdk opentelemetry-exporter-otlp-proto-http")
        return
    name = os.environ.get("OTEL_SERVICE_NAME") or f"draganything-{process}"
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    atexit.register(_send_rest, provider.shutdown)
    trace.set_tracer_provider(provider)
    _tracer = provider.get_tracer("draganything")


def _send_rest(shutdown: Callable[[], None]) -> None:
    """A collector that is away must not keep the process from ending."""
    sending = threading.Thread(target=shutdown, daemon=True)
    sending.start()
    sending.join(REST_S)


class Span:
    """Something that has begun and is to be ended, by any thread; nothing where there are no traces.

    ``traceparent`` is the context of what happens within it.
    """

    def __init__(self, held: trace.Span | None = None) -> None:
        self._held = held
        self.traceparent = None if held is None else _written(held)

    def end(self, *, at: float | None = None, failed: bool = False, **attributes: str | int | float) -> None:
        """It has ended, now or ``at`` a time since the epoch."""
        if self._held is not None:
            from opentelemetry.trace import StatusCode

            self._held.set_attributes(attributes)
            if failed:
                self._held.set_status(StatusCode.ERROR)
            self._held.end(_nanoseconds(at))


NOTHING = Span()
Kind = Literal["INTERNAL", "CONSUMER", "CLIENT"]


def begin(
    name: str,
    parent: str | None,
    *,
    kind: Kind = "INTERNAL",
    at: float | None = None,
    **attributes: str | int | float,
) -> Span:
    """Begin something within ``parent``, now or ``at`` a time since the epoch; nothing without a parent."""
    if _tracer is None or parent is None:
        return NOTHING
    from opentelemetry.trace import SpanKind

    return Span(
        _tracer.start_span(
            name,
            context=_read(parent),
            kind=SpanKind[kind],
            start_time=_nanoseconds(at),
            attributes=attributes,
        )
    )


@contextmanager
def serving(name: str, parent: str | None) -> Iterator[None]:
    """Serve a call within what its client is doing, if it says so; what is written meanwhile belongs to it."""
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import SpanKind

    context = None if parent is None else _read(parent)
    with _tracer.start_as_current_span(
        name, context=context, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
    ):
        yield


def current() -> str | None:
    """The context of the call that is being served; None where there is no trace of it."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    span = trace.get_current_span()
    return _written(span) if span.get_span_context().is_valid else None


def trace_id(traceparent: str) -> str:
    """The trace that a context belongs to."""
    return traceparent.split("-")[1]


def note_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the trace of the call that is being served into a line of the log."""
    if "trace" not in event and (traceparent := current()):
        event["trace"] = trace_id(traceparent)
    return event


def _written(span: trace.Span) -> str:
    held = span.get_span_context()
    return f"00-{held.trace_id:032x}-{held.span_id:016x}-{held.trace_flags:02x}"


def _read(traceparent: str) -> Context:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def _nanoseconds(at: float | None) -> int | None:
    return None if at is None else int(at * 1e9)
