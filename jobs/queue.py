"""RQ as transport: messages that say no more than which job may be ready. The record decides.

A message can be lost (a worker dies between pop and claim: the janitor sends it again) or come twice (the second
claim finds nothing to take), and neither matters. This is the one module that knows RQ's queues.
"""

from __future__ import annotations

import secrets
from typing import cast

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

PRIORITIES = ("high", "normal", "low")


class RenderMessage(Job):
    """A message that can do only one thing. RQ would import and call whatever ``func_name`` says in Redis; here
    it is never looked at, so whoever can write to Redis still can not run code in a worker."""

    def perform(self) -> None:
        """Refuse: a worker renders by the job's id and never performs the message."""
        raise NotImplementedError("a render message is not callable")


def queues(redis: Redis, model: str) -> list[Queue]:
    """A model's queues, highest priority first."""
    return [
        Queue(f"{model}-{priority}", connection=redis, job_class=RenderMessage, serializer=JSONSerializer)
        for priority in PRIORITIES
    ]


def enqueue(redis: Redis, job_id: str, model: str, priority: str, *, at_front: bool = False) -> None:
    """Send a message for a job."""
    queue = queues(redis, model)[PRIORITIES.index(priority)]
    queue.enqueue_call(
        "render",
        job_id=f"{job_id}_{secrets.token_hex(4)}",
        result_ttl=0,
        failure_ttl=0,
        timeout=-1,
        at_front=at_front,
    )


def job_id_of(message: Job) -> str:
    """The id of the job that a message is about."""
    return str(message.id).partition("_")[0]


def waiting(redis: Redis, model: str) -> set[str]:
    """The ids of the jobs that have a message in a model's queues."""
    return {
        item.decode().partition("_")[0]
        for queue in queues(redis, model)
        for item in cast("list[bytes]", redis.lrange(queue.key, 0, -1))
    }
