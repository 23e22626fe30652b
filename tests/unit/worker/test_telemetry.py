"""The port on which the processes without a door answer Prometheus."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from jobs.settings import Settings
from local.ports import HOST, choose
from tests.harness import until
from tests.unit.worker.scenes import ROOT, environ

GUARD_S = 120
"""The longest that a process may take to start on a busy machine."""


@contextmanager
def running(module: str, settings: Settings, **knobs: object) -> Iterator[subprocess.Popen[str]]:
    """A process of the service."""
    with subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=environ(settings, heartbeat_s=0.1, **knobs),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def scrape(port: int) -> str:
    try:
        with urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
    except URLError:
        return ""
    return text


@pytest.mark.parametrize(
    ("module", "sample"),
    [
        ("worker.janitor", 'draganything_sweeps_total{outcome="done"}'),
        ("worker.webhooks", "process_resident_memory_bytes"),
    ],
)
def test_a_process_answers_on_its_port(module: str, sample: str, settings: Settings) -> None:
    (port,) = choose(1)
    with running(module, settings, metrics_port=port):
        until(lambda: sample in scrape(port), GUARD_S)
        text = scrape(port)
    assert "draganything_build_info" in text
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert not any("gpu" in line for line in samples)


def test_a_taken_port_is_told_in_one_line(settings: Settings) -> None:
    with closing(socket.create_server((HOST, 0))) as taken:
        port = taken.getsockname()[1]
        with running("worker.janitor", settings, metrics_port=port) as process:
            _, told = process.communicate(timeout=GUARD_S)
    assert process.returncode == 1
    assert told.startswith(f"DRAGANYTHING_METRICS_PORT: {HOST}:{port}: ")
    assert told.count("\n") == 1
