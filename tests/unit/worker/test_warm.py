"""The worker's loop in a process of its own, as signals meet it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from redis import Redis
from rq import Worker

from jobs import queue
from local.ports import choose
from local.process import Process
from local.valkey import Valkey
from tests.harness import until
from tests.unit.worker.scenes import ROOT

GUARD_S = 20
"""The longest that a test waits for what should come at once."""


@contextmanager
def worker(redis_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """``tests.unit.worker.served`` as a process, once it has begun."""
    command = [sys.executable, "-m", "tests.unit.worker.served"]
    with (
        Redis.from_url(redis_url) as redis,
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, "REDIS_URL": redis_url}) as process,
    ):
        try:
            until(lambda: Worker.count(connection=redis) or process.poll() is not None)
            yield process
        finally:
            process.kill()


def ids(redis: Redis, name: str) -> list[str]:
    return [item.decode() for item in cast("list[bytes]", redis.lrange(name, 0, -1))]


def test_one_job_after_the_other_until_none_is_left(redis: Redis, redis_url: str) -> None:
    redis.rpush("jobs", "a", "b", "c")
    with worker(redis_url):
        until(lambda: ids(redis, "ended") == ["a", "b", "c"])


def test_a_message_wakes_it(redis: Redis, redis_url: str) -> None:
    with worker(redis_url):
        until(lambda: redis.exists("looked"))
        redis.rpush("jobs", "a")
        queue.wake(redis, "other")
        until(lambda: ids(redis, "ended") == ["a"])
        until(lambda: redis.keys("rq:job:*") == [])


def test_it_looks_by_itself_where_a_message_is_lost(redis: Redis, redis_url: str) -> None:
    with worker(redis_url):
        until(lambda: redis.exists("looked"))
        redis.rpush("jobs", "a")
        until(lambda: ids(redis, "ended") == ["a"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_worker(redis_url: str, number: signal.Signals) -> None:
    with worker(redis_url) as process:
        process.send_signal(number)
        assert process.wait(GUARD_S) == 0


def test_a_signal_lets_the_running_job_end_and_takes_no_other(redis: Redis, redis_url: str) -> None:
    redis.set("hold", 1)
    redis.rpush("jobs", "a")
    with worker(redis_url) as process:
        until(lambda: ids(redis, "started") == ["a"])
        redis.rpush("jobs", "b")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        redis.rpush("go", 1)
        assert process.wait(GUARD_S) == 0
    assert ids(redis, "ended") == ["a"]
    assert ids(redis, "jobs") == ["b"]
    assert Worker.count(connection=redis) == 0


def test_a_worker_outlives_valkey(tmp_path: Path) -> None:
    valkey = Valkey(tmp_path / "valkey", choose(1)[0], "secret")
    server = Process("valkey", valkey.prepare(), log=tmp_path / "log", env={})
    server.start()
    try:
        server.wait_ready(valkey.ready, GUARD_S)
        with worker(valkey.url) as process, Redis.from_url(valkey.url) as redis:
            server.kill()
            server.wait_starts(2)
            until(valkey.ready)
            redis.rpush("jobs", "a")
            until(lambda: ids(redis, "ended") == ["a"] or process.poll() is not None)
            assert process.poll() is None
    finally:
        server.stop()
