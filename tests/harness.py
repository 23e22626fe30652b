"""The real servers and processes that tests run against."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping

from redis import Redis

from jobs.settings import Settings
from local.seaweed import BUCKET
from local.stack import Stack

# Faster than the defaults, so that a crash is noticed within a test; two workers share the machine's cores.
LIVE_KNOBS = {
    "DRAGANYTHING_MODELS": '["tiny"]',
    "DRAGANYTHING_HEARTBEAT_S": "0.3",
    "DRAGANYTHING_LEASE_S": "2",
    "OMP_NUM_THREADS": "1",
}


def clean_environ(knobs: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without any setting of the service, plus ``knobs``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DRAGANYTHING_")}
    return inherited | dict(knobs or {})


def settings_of(stack: Stack) -> Settings:
    """The settings that lead to the stack's servers, without its gRPC port; everything else at its default."""
    return Settings.model_validate({**stack.addresses, "grpc_port": 0})


def empty_bucket(stack: Stack) -> None:
    """Delete every object."""
    client = stack.seaweed.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for item in page.get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=item["Key"])
    client.close()


def flush(redis_url: str) -> None:
    """Delete every key."""
    with Redis.from_url(redis_url) as client:
        client.flushall()


def restart(stack: Stack, name: str, sign: signal.Signals = signal.SIGKILL) -> None:
    """Kill one of the stack's processes and wait until it has been started again (not: until it serves)."""
    process = stack.processes[name]
    starts = process.starts
    process.kill(sign)
    process.wait_starts(starts + 1)


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait for what nothing announces.

    Raises:
        TimeoutError: it did not come true.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout_s:g} s: {condition}")
        time.sleep(0.02)


def ends(pid: int, timeout_s: float = 10.0) -> bool:
    """Whether a process, of whatever parent, has ended within ``timeout_s``."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)
