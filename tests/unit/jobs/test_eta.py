"""When a job will be ready: the plan as a pure function, and what is learned and read from real records."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from jobs.eta import Cost, Pace, Schedule, Size, finish
from jobs.registry import Registry
from jobs.state import Progress, Record, Stage, Status
from jobs.store import Store, new_attempt_id
from tests.unit.jobs.specs import make_card, record_one

SECONDS = st.floats(0.01, 1000)
COSTS = st.builds(Cost, SECONDS, SECONDS, SECONDS)
TIMINGS = {
    "loading": 0.5,
    "conditioning": 0.5,
    "denoising": 4.0,
    "decoding": 1.0,
    "encoding": 0.5,
    "uploading": 0.5,
}
"""Of a job with two steps: 1 s before, 2 s a step, 2 s after."""


@given(st.lists(SECONDS, max_size=4), st.lists(COSTS, min_size=1, max_size=20), st.integers(1, 5))
def test_a_plan(running: list[float], waiting: list[Cost], workers: int) -> None:
    ends = finish(running, waiting, workers)
    assert len(ends) == len(waiting)
    assert all(end >= cost.total for end, cost in zip(ends, waiting, strict=True))
    busy = sum(running) + sum(cost.occupied for cost in waiting[:-1])
    assert ends[-1] <= busy + waiting[-1].total + 1e-6, "never later than one after the other on one worker"
    fewer = finish(running, waiting[:-1], workers)
    assert fewer == ends[:-1], "who comes later delays nobody"


def test_a_plan_by_hand() -> None:
    cost = Cost(before=1, denoising=4, after=2)
    assert finish([], [cost, cost, cost], 1) == [7, 12, 17], "the end of one runs beside the steps of the next"
    assert finish([], [cost, cost, cost], 2) == [7, 7, 12]
    assert finish([3], [cost, cost], 2) == [7, 10]
    slow_end = Cost(before=1, denoising=1, after=10)
    assert finish([], [slow_end, slow_end], 1) == [12, 22], "at most one end at a time"


def test_nothing_is_known_at_first(redis: Redis, store: Store) -> None:
    registry = Registry(redis, 1000)
    registry.announce("w", make_card())
    record = record_one(store)
    schedule = Schedule(redis, registry)
    assert schedule.eta_s(record) is None
    store.claim(record.id, new_attempt_id())
    assert schedule.eta_s(store.get(record.id)) is None


def test_the_first_job_of_all_is_judged_by_its_own_progress(redis: Redis, store: Store) -> None:
    record, attempt = record_one(store), new_attempt_id()
    store.claim(record.id, attempt)
    store.beat(record.id, attempt, {"stage": "denoising", "step": 1, "steps": 2, "fraction": 0.5})
    redis.hincrby(f"da:job:{record.id}", "started_ms", -20_000)
    assert Schedule(redis, Registry(redis, 1000)).eta_s(store.get(record.id)) == pytest.approx(20, abs=5)


def test_who_waits_and_who_runs(redis: Redis, store: Store) -> None:
    registry, pace = Registry(redis, 1000), Pace(redis)
    registry.announce("w", make_card())
    running, first, second = (record_one(store, num_inference_steps=2) for _ in range(3))
    pace.learn(running, TIMINGS)
    attempt = new_attempt_id()
    store.claim(running.id, attempt)
    schedule = Schedule(redis, registry)
    # half of the running job's 5 s, then 7 s; the second starts 5 s after the first
    assert [schedule.eta_s(record) for record in (first, second)] == [9.5, 14.5]

    store.beat(running.id, attempt, {"stage": "denoising", "step": 1, "steps": 2, "fraction": 0.5})
    assert schedule.eta_s(store.get(running.id)) == 4.0
    store.cancel(running.id)
    store.end_canceled(running.id, attempt)
    assert schedule.eta_s(store.get(running.id)) is None


def test_no_worker_no_promise(redis: Redis, store: Store) -> None:
    registry = Registry(redis, 1000)
    record = record_one(store)
    Pace(redis).learn(record, TIMINGS)
    assert Schedule(redis, registry).eta_s(record) is None
    registry.announce("w", make_card("other"))
    assert Schedule(redis, registry).eta_s(record) is None
    registry.announce("w", make_card())
    assert Schedule(redis, registry).eta_s(record) == 7.0  # it has one step, which took 4 s


def test_what_is_learned(redis: Redis, store: Store) -> None:
    pace, record = Pace(redis), record_one(store, num_inference_steps=2)
    size = Size.of(record)
    pace.learn(record, TIMINGS)
    assert pace.costs("tiny", [size]) == [Cost(1.0, 4.0, 2.0)]
    pace.learn(record, {**TIMINGS, "denoising": 8.0})
    (cost,) = pace.costs("tiny", [size]) or []
    assert 4.0 < cost.denoising < 8.0, "one slow job does not change everything"
    double = Size(size.width * 2, size.height, size.num_frames, 3)
    (other,) = pace.costs("tiny", [double]) or []
    assert other.denoising == pytest.approx(3 * cost.denoising), "twice the pixels, three steps instead of two"
    assert pace.costs("other", [size]) is None
    (all_four,) = pace.costs("tiny", [replace(size, videos=4)]) or []
    assert (all_four.denoising, all_four.after) == (4 * cost.denoising, 4 * cost.after)


def test_the_best_of_several_teaches_what_one_takes(redis: Redis, store: Store) -> None:
    pace, record = Pace(redis), record_one(store, num_inference_steps=2, best_of=4)
    assert record.progress.steps == 8
    pace.learn(record, TIMINGS)
    assert pace.costs("tiny", [Size.of(record)]) == [Cost(1.0, 4.0, 2.0)]
    assert pace.costs("tiny", [replace(Size.of(record), videos=1)]) == [Cost(1.0, 1.0, 0.5)]


def test_a_running_job_is_never_overdue() -> None:
    cost = Cost(1, 4, 2)
    for stage in (Stage.LOADING, Stage.DECODING, Stage.UPLOADING):
        record = at(stage)
        assert cost.left(record, 1e6) > 0
        assert cost.left(record, 0) <= cost.total


def at(stage: Stage) -> Record:
    """A running job in a stage."""
    began = datetime.now(UTC)
    progress = Progress(stage=stage)
    return Record(id="a", status=Status.RUNNING, model="tiny", spec={}, created_at=began, progress=progress)
