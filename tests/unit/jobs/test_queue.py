from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs import queue
from jobs.queue import RenderMessage


def messages(redis: Redis, model: str = "tiny") -> list[str]:
    """The jobs of a model's messages, in the order in which workers take them."""
    return [name.partition("_")[0] for waiting in queue.queues(redis, model) for name in waiting.job_ids]


def test_messages_by_priority_then_age(redis: Redis) -> None:
    for job_id, priority in [("a", "low"), ("b", "normal"), ("c", "high"), ("d", "normal"), ("e", "high")]:
        queue.enqueue(redis, job_id, "tiny", priority)
    assert messages(redis) == ["c", "e", "b", "d", "a"]


def test_at_front_of_its_priority(redis: Redis) -> None:
    queue.enqueue(redis, "a", "tiny", "normal")
    queue.enqueue(redis, "b", "tiny", "high")
    queue.enqueue(redis, "c", "tiny", "normal", at_front=True)
    assert messages(redis) == ["b", "c", "a"]


def test_waiting(redis: Redis) -> None:
    assert queue.waiting(redis, "tiny") == set()
    queue.enqueue(redis, "a", "tiny", "low")
    queue.enqueue(redis, "a", "tiny", "low")
    queue.enqueue(redis, "b", "tiny", "high")
    queue.enqueue(redis, "c", "other", "high")
    assert queue.waiting(redis, "tiny") == {"a", "b"}
    assert len(messages(redis)) == 3


def test_the_job_of_a_message(redis: Redis) -> None:
    queue.enqueue(redis, "0193a", "tiny", "normal")
    (message,) = queue.queues(redis, "tiny")[1].jobs
    assert isinstance(message, RenderMessage)
    assert queue.job_id_of(message) == "0193a"


@pytest.mark.parametrize("guarded", [True, False], ids=["our message", "a plain RQ job"])
def test_a_rewritten_message_runs_nothing(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """Even a stock RQ worker that is given our message class calls nothing; the plain job shows the danger."""
    queue.enqueue(redis, "a", "tiny", "normal")
    (message_id,) = queue.queues(redis, "tiny")[1].job_ids
    proof = tmp_path / "proof"
    call = JSONSerializer.dumps(("os.mkdir", None, [str(proof)], {}))  # type: ignore[no-untyped-call]
    redis.hset(Job.key_for(message_id), mapping={"data": call})

    kind = RenderMessage if guarded else Job
    source = Queue("tiny-normal", connection=redis, job_class=kind, serializer=JSONSerializer)
    worker = SimpleWorker([source], connection=redis, job_class=kind, serializer=JSONSerializer)
    monkeypatch.setattr(worker, "_install_signal_handlers", lambda: None)
    worker.work(burst=True)
    assert source.is_empty()
    assert proof.exists() is not guarded
