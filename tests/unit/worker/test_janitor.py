from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from jobs import queue
from jobs.errors import NotFound
from jobs.settings import Settings
from jobs.state import Failure, Status
from jobs.storage import Storage, job_prefix
from jobs.store import Store
from local.ports import HOST, choose
from tests.harness import until
from tests.unit.jobs.specs import make_result
from tests.unit.worker.scenes import ROOT, environ, lapse, submit
from worker.janitor import Janitor

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def janitor(redis: Redis, storage: Storage, settings: Settings) -> Janitor:
    return Janitor(redis, storage, settings)


def end(store: Store, job_id: str) -> None:
    assert store.claim(job_id, "a")
    assert store.succeed(job_id, "a", make_result()) == "ok"


def test_a_dead_workers_job_runs_again(janitor: Janitor, store: Store, storage: Storage) -> None:
    job_id = submit(store, storage)
    assert store.claim(job_id, "first")
    janitor.sweep()
    assert store.queued("tiny") == [], "its worker still beats"

    lapse(store, job_id)
    later = submit(store, storage)
    janitor.sweep()
    assert store.queued("tiny") == [job_id, later], "at the front"
    assert queue.sleep(store.redis, ["tiny"], 1), "somebody is woken"
    assert store.claim(job_id, "second")
    record = store.get(job_id)
    assert (record.status, record.attempt, record.attempt_id) == (Status.RUNNING, 2, "second")
    assert store.beat(job_id, "first") == "lost"


def test_a_job_that_kills_its_workers_is_given_up(
    janitor: Janitor, store: Store, storage: Storage, settings: Settings
) -> None:
    job_id = submit(store, storage)
    for number in range(settings.max_attempts):
        assert store.queued("tiny") == [job_id]
        assert store.claim(job_id, f"attempt{number}")
        lapse(store, job_id)
        janitor.sweep()
    assert store.queued("tiny") == []
    error = store.get(job_id).error
    assert error is not None
    assert error.code == "worker_crashed"


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
    janitors = [Janitor(redis, Storage(settings), settings) for _ in range(4)]
    dead, late, old = ([submit(store, storage, deadline_s=1000) for _ in range(4)] for _ in range(3))
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
    assert set(store.queued("tiny")) == set(dead)
    for job_id in dead:
        store.claim(job_id, "b")
    assert {store.get(job_id).attempt for job_id in dead} == {2}, "one crash, however many saw it"


def test_orphans(janitor: Janitor, store: Store, storage: Storage, settings: Settings) -> None:
    """Inputs whose request died before it wrote the record, and an upload in parts that nobody finished."""
    kept = submit(store, storage)
    age_ms = int(settings.orphan_s * 1000)
    orphan, young = (
        f"{time.time_ns() // 10**6 - age:012x}{'0' * 20}" for age in (age_ms + 60_000, age_ms - 60_000)
    )
    foreign = "not-a-job"
    for job_id in (orphan, young, foreign):
        storage.put(job_prefix(job_id) + "inputs/image.png", b"", "image/png")
    janitor.sweep_orphans()
    left = {job_id for job_id in (kept, orphan, young, foreign) if storage.list(job_prefix(job_id))}
    assert left == {kept, young, foreign}


def test_unfinished_uploads(redis: Redis, storage: Storage, settings: Settings, s3: S3Client) -> None:
    s3.create_multipart_upload(Bucket=storage.bucket, Key="uploads/a")
    Janitor(redis, storage, settings).sweep_orphans()
    assert len(s3.list_multipart_uploads(Bucket=storage.bucket).get("Uploads", [])) == 1, "it may still go on"
    Janitor(redis, storage, settings.model_copy(update={"orphan_s": -60.0})).sweep_orphans()
    assert s3.list_multipart_uploads(Bucket=storage.bucket).get("Uploads", []) == []


def test_the_process(store: Store, storage: Storage, settings: Settings) -> None:
    job_id = submit(store, storage)
    store.claim(job_id, "a")
    lapse(store, job_id)
    command = [sys.executable, "-m", "worker.janitor"]
    with subprocess.Popen(command, cwd=ROOT, env=environ(settings, heartbeat_s=0.05)) as process:
        until(lambda: store.get(job_id).status is Status.QUEUED)
        process.terminate()
        assert process.wait(20) == 0
