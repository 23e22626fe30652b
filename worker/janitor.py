"""``python -m worker.janitor``: put right what a death left behind. Needs no model and no torch.

Every sweep takes back jobs whose worker has stopped beating, ends jobs whose deadline passed in the queue, and
forgets jobs, with their objects, whose retention has ended. Once an hour it looks for objects that no record has,
and for old uploads. Sweeps of several janitors do not harm each other: each step is a transition that only one of
them can win.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from botocore.exceptions import ClientError
from redis import Redis
from redis.exceptions import RedisError

from jobs import queue
from jobs.connection import Misconfigured, connect_patiently
from jobs.errors import DragAnythingError, NotFound
from jobs.logs import configure_logs
from jobs.settings import Settings, settings
from jobs.storage import Storage, job_prefix
from jobs.store import Store, born
from worker.telemetry import note_sweep, serve_metrics

log = structlog.get_logger()

ORPHANS_EVERY_S = 3600.0


class Janitor:
    """Sweeps."""

    def __init__(self, redis: Redis, storage: Storage, config: Settings) -> None:
        self.redis = redis
        self.store = Store(redis, config)
        self.storage = storage
        self._orphan_s = config.orphan_s

    def sweep(self) -> None:
        """One round."""
        for job_id in self.store.due("running"):
            self._reclaim(job_id)
        for job_id in self.store.due("deadlines"):
            if self.store.expire(job_id):
                log.info("job_expired", job=job_id)
        for job_id in self.store.due("expiring"):
            self.storage.delete(job_prefix(job_id))
            with suppress(NotFound):  # another janitor, or the owner, was faster
                self.store.forget(job_id)

    def sweep_orphans(self) -> None:
        """Delete objects that no record speaks of: of requests that died between storing and recording, say."""
        oldest = datetime.now(UTC) - timedelta(seconds=self._orphan_s)
        for job_id in self.storage.job_ids():
            if born(job_id) < oldest and not self.store.exists(job_id):
                self.storage.delete(job_prefix(job_id))
                log.info("orphan_deleted", job=job_id)
        self.storage.abort_uploads(oldest)
        self.storage.delete_uploads(oldest)

    def _reclaim(self, job_id: str) -> None:
        if self.store.reclaim(job_id):
            log.warning("job_reclaimed", job=job_id)
            with suppress(NotFound):  # canceled and deleted in the meantime
                queue.wake(self.redis, self.store.get(job_id).model)


def main() -> None:
    """Sweep every ``heartbeat_s`` until told to stop."""
    config = settings()
    configure_logs(config)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        serve_metrics(config)
        # no patience with S3: while it is away, jobs still need to be taken back
        janitor = Janitor(connect_patiently(config), Storage(config), config)
    except Misconfigured as error:
        sys.exit(str(error))
    orphans_due = time.monotonic()
    while not stopping.is_set():
        try:
            janitor.sweep()
            if time.monotonic() >= orphans_due:
                janitor.sweep_orphans()
                orphans_due = time.monotonic() + ORPHANS_EVERY_S
            note_sweep("done")
        except Misconfigured as error:
            sys.exit(str(error))
        except (RedisError, DragAnythingError, ClientError) as error:
            log.warning("sweep_failed", error=str(error))
            note_sweep("failed")
        time.sleep(config.heartbeat_s)  # not stopping.wait, whose lock the handler could meet


if __name__ == "__main__":
    main()
