"""``python -m worker.janitor``: put right what a death left behind. Needs no model and no torch.

Every sweep takes back jobs whose worker has stopped beating, sends messages again that got lost, ends jobs whose
deadline passed in the queue, and forgets jobs, with their objects, whose retention has ended. Sweeps of several
janitors do not harm each other: each step is a transition that only one of them can win.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import structlog
from botocore.exceptions import ClientError
from redis import Redis
from redis.exceptions import RedisError

from jobs import queue
from jobs.connection import connect_patiently
from jobs.errors import DragAnythingError, NotFound
from jobs.logs import configure_logs
from jobs.registry import Registry
from jobs.settings import Settings, settings
from jobs.storage import Storage, job_prefix
from jobs.store import Store

log = structlog.get_logger()


class Janitor:
    """Sweeps; remembers only which messages were missing the last time."""

    def __init__(self, redis: Redis, storage: Storage, config: Settings) -> None:
        self.redis = redis
        self.store = Store(redis, config)
        self.storage = storage
        self.registry = Registry(redis, config.lease_s)
        self._missing: set[str] = set()

    def sweep(self) -> None:
        """One round."""
        for job_id in self.store.due("running"):
            self._reclaim(job_id)
        for job_id in self.store.due("deadlines"):
            if self.store.expire(job_id):
                log.info("job_expired", job=job_id)
        self._send_lost_messages()
        for job_id in self.store.due("expiring"):
            self.storage.delete(job_prefix(job_id))
            with suppress(NotFound):  # another janitor, or the owner, was faster
                self.store.forget(job_id)

    def _reclaim(self, job_id: str) -> None:
        if self.store.reclaim(job_id):
            self._send(job_id)
            log.warning("job_reclaimed", job=job_id)

    def _send_lost_messages(self) -> None:
        """A job that waits without a message in two sweeps has lost it: between the two, a worker may have
        popped the message of a job that it was about to claim."""
        missing: list[str] = []
        for card in self.registry.cards():
            queued = self.store.queued(card.name)  # read first: a new record comes before its message
            sent = queue.waiting(self.redis, card.name)
            missing += [job_id for job_id in queued if job_id not in sent]
        for job_id in reversed(missing):  # each goes to the front
            if job_id in self._missing:
                self._send(job_id)
                log.warning("message_sent_again", job=job_id)
        self._missing = set(missing) - self._missing

    def _send(self, job_id: str) -> None:
        with suppress(NotFound):  # canceled and deleted in the meantime
            record = self.store.get(job_id)
            queue.enqueue(self.redis, job_id, record.model, record.priority, at_front=True)


def main() -> None:
    """Sweep every ``heartbeat_s`` until told to stop."""
    config = settings()
    configure_logs(config)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    # no patience with S3: while it is away, jobs still need to be taken back
    janitor = Janitor(connect_patiently(config), Storage(config), config)
    while not stopping.is_set():
        try:
            janitor.sweep()
        except (RedisError, DragAnythingError, ClientError) as error:
            log.warning("sweep_failed", error=str(error))
        time.sleep(config.heartbeat_s)  # not stopping.wait, whose lock the handler could meet


if __name__ == "__main__":
    main()
