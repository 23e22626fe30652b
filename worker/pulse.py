"""The worker's pulse: a thread that says it is alive, and keeps the lease of what it is rendering."""

from __future__ import annotations

import threading

import structlog
from redis.exceptions import RedisError

from jobs.registry import Registry
from worker.attempt import Attempt

log = structlog.get_logger()


class Pulse:
    """Beats every ``interval_s`` while the block lasts."""

    def __init__(self, registry: Registry, worker: str, models: list[str], interval_s: float) -> None:
        self.attempt: Attempt | None = None
        self._registry = registry
        self._worker = worker
        self._models = models
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        for model in self._models:
            self._registry.retire(self._worker, model)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            try:
                for model in self._models:
                    self._registry.beat(self._worker, model)
                if (attempt := self.attempt) is not None:
                    attempt.beat()
            except RedisError as error:
                log.warning("beat_missed", error=str(error))
