from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from jobs import queue
from jobs.errors import NotFound
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.state import Failure, Status
from jobs.storage import Storage, job_prefix
from jobs.store import Store
from local.ports import HOST, choose
from tests.harness import until
from tests.unit.jobs.specs import make_card, make_result
from tests.unit.worker.scenes import ROOT, environ, lapse, submit
from worker.janitor import Janitor


@pytest.fixture
def janitor(redis: Redis, storage: Storage, settings: Settings) -> Janitor:
    Registry(redis, 1000.0).announce("w", make_card())
    return Janitor(redis, storage, settings)


def take_messages(redis: Redis) -> list[str]:
    """Pop every message, as workers do that die before they claim."""
    taken = [name for waiting in queue.queues(redis, "tiny") for name in waiting.job_ids]
    for waiting in queue.queues(redis, "tiny"):
        redis.delete(waiting.key)
    return [name.partition("_")[0] for name in taken]


def end(store: Store, job_id: str) -> None:
    assert store.claim(job_id, "a")
    assert store.succeed(job_id, "a", make_result()) == "ok"


def test_a_dead_workers_job_runs_again(janitor: Janitor, store: Store, storage: Storage) -> None:
    job_id = submit(store, storage)
    take_messages(store.redis)
    assert store.claim(job_id, "first")
    janitor.sweep()
    assert take_messages(store.redis) == [], "its worker still beats"

    lapse(store, job_id)
    later = submit(store, storage)
    janitor.sweep()
    assert take_messages(store.redis) == [job_id, later], "at the front"
    assert store.claim(job_id, "second")
    record = store.get(job_id)
    assert (record.status, record.attempt, record.attempt_id) == (Status.RUNNING, 2, "second")
    assert store.beat(job_id, "first") == "lost"


def test_a_job_that_kills_its_workers_is_given_up(
    janitor: Janitor, store: Store, storage: Storage, settings: Settings
) -> None:
    job_id = submit(store, storage)
    for number in range(settings.max_attempts):
        assert take_messages(store.redis) == [job_id]
        assert store.claim(job_id, f"attempt{number}")
        lapse(store, job_id)
        janitor.sweep()
    assert take_messages(store.redis) == []
    error = store.get(job_id).error
    assert error is not None
    assert error.code == "worker_crashed"


def test_a_lost_message_is_sent_again_after_two_sweeps(janitor: Janitor, store: Store, storage: Storage) -> None:
    job_id = submit(store, storage, priority="high")
    janitor.sweep()
    assert take_messages(store.redis) == [job_id], "there was nothing to send"
    janitor.sweep()
    assert take_messages(store.redis) == [], "a worker may be about to claim it"
    janitor.sweep()
    assert queue.queues(store.redis, "tiny")[0].count == 1, "with its priority"
    assert take_messages(store.redis) == [job_id]
    janitor.sweep()
    assert take_messages(store.redis) == [], "two sweeps each time"
    janitor.sweep()
    assert take_messages(store.redis) == [job_id]


def test_a_job_that_was_claimed_in_between_gets_no_message(
    janitor: Janitor, store: Store, storage: Storage
) -> None:
    job_id = submit(store, storage)
    take_messages(store.redis)
    janitor.sweep()
    assert store.claim(job_id, "a")
    janitor.sweep()
    janitor.sweep()
    assert take_messages(store.redis) == []


def test_lost_messages_come_back_in_order(janitor: Janitor, store: Store, storage: Storage) -> None:
    jobs = {submit(store, storage) for _ in range(6)}
    take_messages(store.redis)
    janitor.sweep()
    janitor.sweep()
    order = store.queued("tiny")
    assert set(order) == jobs
    assert take_messages(store.redis) == order


def test_a_passed_deadline(janitor: Janitor, store: Store, storage: Storage) -> None:
    late, early = submit(store, storage, deadline_s=1000), submit(store, storage, deadline_s=1000)
    store.redis.zadd("da:deadlines", {late: 0})
    janitor.sweep()
    assert store.get(late).status is Status.EXPIRED
    assert store.get(early).status is Status.QUEUED


def test_the_end_of_retention(janitor: Janitor, store: Store, storage: Storage) -> None:
    old, young = submit(store, storage), submit(store, storage)
    for job_id in (old, young):
        end(store, job_id)
    store.redis.zadd("da:expiring", {old: 0})
    janitor.sweep()
    with pytest.raises(NotFound):
        store.get(old)
    assert storage.list(job_prefix(old)) == []
    assert store.get(young).status is Status.SUCCEEDED
    assert storage.list(job_prefix(young))


def test_while_the_object_store_is_away(redis: Redis, store: Store, storage: Storage, settings: Settings) -> None:
    """Records outlive their objects, never the other way round, and jobs are taken back all the same."""
    (port,) = choose(1)
    away = Storage(settings.model_copy(update={"s3_endpoint": f"http://{HOST}:{port}"}))
    old, held = submit(store, storage), submit(store, storage)
    end(store, old)
    redis.zadd("da:expiring", {old: 0})
    store.claim(held, "a")
    lapse(store, held)
    with pytest.raises(Exception, match="object store"):
        Janitor(redis, away, settings).sweep()
    assert store.get(held).status is Status.QUEUED
    assert store.get(old).status is Status.SUCCEEDED


def test_janitors_do_not_harm_each_other(redis: Redis, store: Store, storage: Storage, settings: Settings) -> None:
    Registry(redis, 1000.0).announce("w", make_card())
    janitors = [Janitor(redis, Storage(settings), settings) for _ in range(4)]
    dead, late, old, lost = ([submit(store, storage, deadline_s=1000) for _ in range(4)] for _ in range(4))
    take_messages(redis)
    for job_id in dead:
        store.claim(job_id, "a")
        lapse(store, job_id)
    for job_id in old:
        store.claim(job_id, "a")
        store.fail(job_id, "a", Failure(code="x", detail=""))
        redis.zadd("da:expiring", {job_id: 0})
    redis.zadd("da:deadlines", dict.fromkeys(late, 0))
    together = threading.Barrier(len(janitors))

    def sweep(janitor: Janitor) -> None:
        for _ in range(2):
            together.wait()
            janitor.sweep()

    with ThreadPoolExecutor(len(janitors)) as pool:
        list(pool.map(sweep, janitors))
    assert {store.get(job_id).status for job_id in late} == {Status.EXPIRED}
    for job_id in old:
        with pytest.raises(NotFound):
            store.get(job_id)
        assert storage.list(job_prefix(job_id)) == []
    assert queue.waiting(redis, "tiny") == {*dead, *lost}
    for job_id in take_messages(redis):
        store.claim(job_id, "b")
    assert {store.get(job_id).attempt for job_id in dead} == {2}, "one crash, however many saw it"
    assert {store.get(job_id).attempt for job_id in lost} == {1}


def test_the_process(store: Store, storage: Storage, settings: Settings) -> None:
    job_id = submit(store, storage)
    store.claim(job_id, "a")
    lapse(store, job_id)
    command = [sys.executable, "-m", "worker.janitor"]
    with subprocess.Popen(command, cwd=ROOT, env=environ(settings, heartbeat_s=0.05)) as process:
        until(lambda: store.get(job_id).status is Status.QUEUED)
        process.terminate()
        assert process.wait(20) == 0
