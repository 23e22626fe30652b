"""The worker's pulse: a thread that says it is alive, and keeps the leases of what it is rendering."""

from __future__ import annotations

import threading

import structlog
from redis.exceptions import RedisError

from jobs.models import ModelCard
from jobs.registry import Registry
from worker.attempt import Attempt

log = structlog.get_logger()


class Pulse:
    """Beats every ``interval_s`` while the block lasts."""

    def __init__(self, registry: Registry, worker: str, cards: list[ModelCard], interval_s: float) -> None:
        self.attempts: set[Attempt] = set()
        self._registry = registry
        self._worker = worker
        self._cards = cards
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        for card in self._cards:
            self._registry.retire(self._worker, card.name)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            try:
                for card in self._cards:
                    self._registry.announce(self._worker, card)
                for attempt in self.attempts.copy():
                    attempt.beat()
            except RedisError as error:
                log.warning("beat_missed", error=str(error))
