from __future__ import annotations

import subprocess
import sys

import pytest

from jobs import tracing
from local.stack import ROOT
from tests.harness import clean_environ

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROGRAM = """
import sys
import service.app, worker.janitor, worker.webhooks
from jobs import tracing
from local.stack import ROOT

tracing.configure_traces("test")
with tracing.serving("call", None):
    print(tracing.current(), tracing.begin("queue", "{client}").traceparent)
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))])
"""


def run(program: str, **environ: str) -> list[str]:
    inherited = {name: value for name, value in clean_environ().items() if not name.startswith("OTEL_")}
    command = [sys.executable, "-c", program.replace("{client}", CLIENT)]
    done = subprocess.run(command, env=inherited | environ, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_collector_nothing_is_imported_and_nothing_happens(environ: dict[str, str]) -> None:
    assert run(PROGRAM, **environ) == ["None None", "[]"]


def test_a_collector_without_the_sdk_is_told_and_nothing_breaks() -> None:
    missing = "import sys\nsys.modules['opentelemetry.sdk.trace'] = None\n"
    out = run(missing + PROGRAM, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert "traces_off" in out[0]
    assert out[1] == "None None"


def test_a_trace_that_is_not_sampled_stays_so() -> None:
    program = PROGRAM + 'print(tracing.begin("queue", "{client}"[:-1] + "0").traceparent[-2:])\n'
    out = run(
        program, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_TRACES_SAMPLER="parentbased_always_on"
    )
    call, queue = out[0].split()
    assert queue.startswith(CLIENT[:36])
    assert call.split("-")[1] != queue.split("-")[1], "a call without a context begins a trace"
    assert out[2] == "00"


def test_the_trace_of_a_context() -> None:
    assert tracing.trace_id(CLIENT) == "0af7651916cd43dd8448eb211c80319c"
