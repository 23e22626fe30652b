from __future__ import annotations

import threading

from redis import Redis

from jobs.registry import Registry
from jobs.store import Store, new_id
from tests.harness import until
from tests.unit.jobs.specs import make_spec
from tests.unit.worker.scenes import lapse
from worker.attempt import Attempt
from worker.pulse import Pulse


def test_a_long_step_keeps_its_lease(store: Store) -> None:
    job_id = store.create(new_id(), "alice", make_spec()).id
    attempt = Attempt(store, job_id, timeout_s=1000.0, drained=threading.Event())
    with Pulse(Registry(store.redis, 1000.0), "w", [], 0.01) as pulse:
        assert attempt.claim()
        pulse.attempt = attempt
        lapse(store, job_id)
        until(lambda: store.due("running") == [])
        pulse.attempt = None


def test_a_worker_is_alive_while_it_beats(redis: Redis) -> None:
    registry = Registry(redis, 1000.0)
    with Pulse(registry, "w", ["tiny", "other"], 0.01):
        until(lambda: registry.alive("tiny") and registry.alive("other"))
    assert registry.alive() == 0


def test_a_missed_beat_is_not_the_last(redis: Redis) -> None:
    registry = Registry(redis, 1000.0)
    with Pulse(registry, "w", ["tiny"], 0.01):
        until(registry.alive)
        redis.config_set("min-replicas-to-write", 1)  # every write is refused now
        missed = redis.info("errorstats")
        until(lambda: redis.info("errorstats") != missed)
        redis.config_set("min-replicas-to-write", 0)
        redis.flushall()
        until(registry.alive)
