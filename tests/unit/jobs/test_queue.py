from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs import queue
from jobs.queue import WakeMessage


def test_whoever_holds_the_model_is_woken(redis: Redis) -> None:
    queue.wake(redis, "tiny")
    assert not queue.sleep(redis, ["other"], 1)
    assert queue.sleep(redis, ["other", "tiny"], 1)
    assert not queue.sleep(redis, ["other", "tiny"], 1)


def test_a_message_leaves_nothing_behind(redis: Redis) -> None:
    queue.wake(redis, "tiny")
    assert queue.sleep(redis, ["tiny"], 1)
    assert redis.keys("rq:job:*") == []
    assert redis.llen(queue.queue(redis, "tiny").key) == 0


def test_a_message_that_nobody_can_read_wakes_all_the_same(redis: Redis) -> None:
    redis.rpush(queue.queue(redis, "tiny").key, b"\xff\x00 odd")
    assert queue.sleep(redis, ["tiny"], 1)


@pytest.mark.parametrize("guarded", [True, False], ids=["our message", "a plain RQ job"])
def test_a_rewritten_message_runs_nothing(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """Even a stock RQ worker that is given our message class calls nothing; the plain job shows the danger."""
    queue.wake(redis, "tiny")
    (message_id,) = queue.queue(redis, "tiny").job_ids
    proof = tmp_path / "proof"
    call = JSONSerializer.dumps(("os.mkdir", None, [str(proof)], {}))  # type: ignore[no-untyped-call]
    redis.hset(Job.key_for(message_id), mapping={"data": call})

    kind = WakeMessage if guarded else Job
    source = Queue("tiny", connection=redis, job_class=kind, serializer=JSONSerializer)
    worker = SimpleWorker([source], connection=redis, job_class=kind, serializer=JSONSerializer)
    monkeypatch.setattr(worker, "_install_signal_handlers", lambda: None)
    worker.work(burst=True)
    assert source.is_empty()
    assert proof.exists() is not guarded
