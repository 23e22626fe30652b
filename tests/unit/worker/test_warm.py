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
from rq.job import Job
from rq.serializers import JSONSerializer

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


def test_jobs_by_priority_over_all_models(redis: Redis, redis_url: str) -> None:
    queue.enqueue(redis, "a", "tiny", "low")
    queue.enqueue(redis, "b", "tiny", "normal")
    queue.enqueue(redis, "c", "other", "high")
    queue.enqueue(redis, "d", "tiny", "high")
    with worker(redis_url):
        until(lambda: len(ids(redis, "ended")) == 4)
    assert ids(redis, "ended") == ["d", "c", "b", "a"]
    assert redis.keys("rq:job:*") == [], "messages leave nothing behind"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_worker(redis_url: str, number: signal.Signals) -> None:
    with worker(redis_url) as process:
        process.send_signal(number)
        assert process.wait(GUARD_S) == 0


def test_a_signal_lets_the_running_job_end_and_takes_no_other(redis: Redis, redis_url: str) -> None:
    redis.set("hold", 1)
    queue.enqueue(redis, "a", "tiny", "normal")
    with worker(redis_url) as process:
        until(lambda: ids(redis, "started") == ["a"])
        queue.enqueue(redis, "b", "tiny", "normal")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        redis.rpush("go", 1)
        assert process.wait(GUARD_S) == 0
    assert ids(redis, "ended") == ["a"]
    assert queue.waiting(redis, "tiny") == {"b"}
    assert Worker.count(connection=redis) == 0


def test_a_rewritten_message_runs_nothing(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    queue.enqueue(redis, "a", "tiny", "normal")
    (message,) = queue.queues(redis, "tiny")[1].job_ids
    call = JSONSerializer.dumps(("os.mkdir", None, [str(proof)], {}))  # type: ignore[no-untyped-call]
    redis.hset(Job.key_for(message), mapping={"data": call, "success_callback_name": "os.abort"})
    with worker(redis_url) as process:
        until(lambda: ids(redis, "ended") == ["a"])
        assert process.poll() is None
    assert not proof.exists()


def test_damaged_messages_do_not_end_the_worker(redis: Redis, redis_url: str) -> None:
    for field in ("timeout", "created_at", "group_id", "status", "result_ttl", "dependency_ids"):
        queue.enqueue(redis, field, "tiny", "high")
        message = queue.queues(redis, "tiny")[0].job_ids[-1]
        redis.hset(Job.key_for(message), field, "odd")
    queue.enqueue(redis, "good", "tiny", "low")
    with worker(redis_url) as process:
        until(lambda: "good" in ids(redis, "ended") or process.poll() is not None)
        assert process.poll() is None


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
            queue.enqueue(redis, "a", "tiny", "normal")
            until(lambda: ids(redis, "ended") == ["a"] or process.poll() is not None)
            assert process.poll() is None
    finally:
        server.stop()
