"""An RQ worker that keeps its models: no fork, no reload, our record instead of RQ's bookkeeping.

RQ delivers the message and lists the worker; claiming, retrying, cancelling and ending are the record's
(``jobs.store``). A message that is lost between pop and claim is sent again by the janitor, so the plain pop over
several queues is enough.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.exceptions import DequeueTimeout
from rq.serializers import JSONSerializer

from jobs import queue

log = structlog.get_logger()

POLL_S = 1
"""The longest block on an empty queue: what a stop waits for at most."""
LISTED_S = 30
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class WarmWorker(SimpleWorker):
    """Hands the id of each job that may be ready to ``serve``, one after the other, until told to stop."""

    def __init__(self, redis: Redis, name: str, models: list[str], serve: Callable[[str], None]) -> None:
        queues = [item for model in models for item in queue.queues(redis, model)]
        queues.sort(key=lambda item: queue.PRIORITIES.index(item.name.rpartition("-")[2]))
        super().__init__(
            queues,
            name=name,
            connection=redis,
            job_class=queue.RenderMessage,
            serializer=JSONSerializer,
            worker_ttl=LISTED_S,
        )
        self._serve = serve
        self.stopping = threading.Event()

    def run(self) -> None:
        """Serve until a signal comes. The handler only sets a flag: nothing is ever torn in the middle."""
        for number in SIGNALS:
            signal.signal(number, self._stop)
        self.register_birth()  # type: ignore[no-untyped-call]
        try:
            while not self.stopping.is_set():
                job_id = self._next()
                if job_id is not None:
                    self._serve(job_id)
        finally:
            self.register_death()  # type: ignore[no-untyped-call]

    def _next(self) -> str | None:
        try:
            self.heartbeat()
            found = self.queue_class.dequeue_any(
                self.queues,
                POLL_S,
                connection=self.connection,
                job_class=self.job_class,
                serializer=self.serializer,
            )
            if found is None:
                return None
            message, _ = found
            message.delete(remove_from_queue=False)
            return queue.job_id_of(message)
        except DequeueTimeout:
            return None
        except RedisError as error:
            log.warning("redis_away", error=str(error))
            time.sleep(POLL_S)  # not stopping.wait, whose lock the handler could meet
            return None
        except Exception as error:  # noqa: BLE001 - whatever a message holds, it must not end the worker
            log.warning("message_unreadable", error=str(error))
            return None

    def _stop(self, *_: object) -> None:
        for number in SIGNALS:  # setting an event is not reentrant
            signal.signal(number, signal.SIG_IGN)
        self.stopping.set()
