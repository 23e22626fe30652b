"""An RQ worker that keeps its models: no fork, no reload, our record instead of RQ's bookkeeping.

RQ wakes the worker and lists it; which job is next, claiming, retrying, cancelling and ending are the record's
(``jobs.store``).
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
from rq.serializers import JSONSerializer

from jobs import faults, queue

log = structlog.get_logger()

POLL_S = 1
"""The longest sleep: what a stop, or a message that was lost, waits for at most."""
LISTED_S = 30
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class WarmWorker(SimpleWorker):
    """Calls ``serve`` for one job after the other until told to stop, and sleeps while it finds none."""

    def __init__(self, redis: Redis, name: str, models: list[str], serve: Callable[[], bool]) -> None:
        super().__init__(
            [queue.queue(redis, model) for model in models],
            name=name,
            connection=redis,
            job_class=queue.WakeMessage,
            serializer=JSONSerializer,
            worker_ttl=LISTED_S,
        )
        self._models = models
        self._serve = serve
        self.stopping = threading.Event()

    def run(self) -> None:
        """Serve until a signal comes. The handler only sets a flag: nothing is ever torn in the middle."""
        for number in SIGNALS:
            signal.signal(number, self._stop)
        self.register_birth()  # type: ignore[no-untyped-call]
        try:
            while not self.stopping.is_set():
                self._turn()
        finally:
            self.register_death()  # type: ignore[no-untyped-call]

    def _turn(self) -> None:
        try:
            if not self._serve():
                self.heartbeat()
                if queue.sleep(self.connection, self._models, POLL_S):
                    faults.reach("after_pop")
        except RedisError as error:
            log.warning("redis_away", error=str(error))
            time.sleep(POLL_S)  # not stopping.wait, whose lock the handler could meet

    def _stop(self, *_: object) -> None:
        for number in SIGNALS:  # setting an event is not reentrant
            signal.signal(number, signal.SIG_IGN)
        self.stopping.set()
