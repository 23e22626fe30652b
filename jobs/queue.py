"""RQ as transport: messages that only wake an idle worker. Which job is next is the record's to say.

A message can be lost, come twice or come late, and nothing depends on it: a worker looks at the records before it
sleeps, and at least once a second. This is the one module that knows RQ's queues.
"""

from __future__ import annotations

from typing import cast

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

TTL_S = 3600
"""Nobody is waiting for older messages."""


class WakeMessage(Job):
    """A message that can do only one thing. RQ would import and call whatever ``func_name`` says in Redis; here
    it is never looked at, so whoever can write to Redis still can not run code in a worker."""

    def perform(self) -> None:
        """Refuse: a worker is woken by a message and never performs it."""
        raise NotImplementedError("a wake message is not callable")


def queue(redis: Redis, model: str) -> Queue:
    """The queue of those who wait for work for a model."""
    return Queue(model, connection=redis, job_class=WakeMessage, serializer=JSONSerializer)


def wake(redis: Redis, model: str) -> None:
    """Wake one idle worker that holds the model."""
    queue(redis, model).enqueue_call("render", ttl=TTL_S, result_ttl=0, failure_ttl=0, timeout=-1)


def sleep(redis: Redis, models: list[str], timeout_s: int) -> bool:
    """Wait for a message of one of the models; False where none came. What it says is not looked at."""
    popped = cast(
        "tuple[bytes, bytes] | None", redis.blpop([queue(redis, model).key for model in models], timeout_s)
    )
    if popped is not None:
        redis.delete(Job.key_for(popped[1].decode(errors="replace")))
    return popped is not None
