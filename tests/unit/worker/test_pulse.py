from __future__ import annotations

import threading

from redis import Redis

from jobs.registry import Registry
from jobs.store import Store
from tests.harness import until
from tests.unit.jobs.specs import make_card, record_one
from tests.unit.worker.scenes import lapse
from worker.attempt import Attempt
from worker.pulse import Pulse
from worker.watchdog import Watchdog


def test_a_long_step_keeps_its_lease(store: Store) -> None:
    job_id = record_one(store).id
    attempt = Attempt(store, job_id, timeout_s=1000.0, drained=threading.Event(), watchdog=Watchdog(1000.0))
    with Pulse(Registry(store.redis, 1000.0), "w", [], 0.01) as pulse:
        assert attempt.claim()
        pulse.attempts.add(attempt)
        lapse(store, job_id)
        until(lambda: store.due("running") == [])


def test_a_worker_is_alive_while_it_beats(redis: Redis) -> None:
    registry = Registry(redis, 1000.0)
    with Pulse(registry, "w", [make_card("tiny"), make_card("other")], 0.01):
        until(lambda: registry.alive("tiny") and registry.alive("other"))
    assert registry.alive() == 0


def test_a_missed_beat_is_not_the_last(redis: Redis) -> None:
    registry = Registry(redis, 1000.0)
    with Pulse(registry, "w", [make_card("tiny")], 0.01):
        until(registry.alive)
        redis.config_set("min-replicas-to-write", 1)  # every write is refused now
        missed = redis.info("errorstats")
        until(lambda: redis.info("errorstats") != missed)
        redis.config_set("min-replicas-to-write", 0)
        redis.flushall()
        until(registry.alive)
        assert registry.cards() == [make_card("tiny")], "what Redis lost is said again"
