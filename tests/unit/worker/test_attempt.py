from __future__ import annotations

import threading

import pytest

from jobs.errors import Canceled, DeadlinePassed, Drained, LeaseLost
from jobs.state import Stage, Status, fraction
from jobs.store import Store
from tests.unit.jobs.specs import make_result, record_one
from tests.unit.worker.scenes import lapse
from worker.attempt import Attempt
from worker.watchdog import Watchdog


def begin(store: Store, timeout_s: float = 1000.0) -> tuple[Attempt, threading.Event]:
    """An attempt that holds a new job, and the event that drains it."""
    drained = threading.Event()
    job_id = record_one(store, num_inference_steps=4).id
    attempt = Attempt(store, job_id, timeout_s=timeout_s, drained=drained, watchdog=Watchdog(1000.0))
    assert attempt.claim()
    return attempt, drained


def test_one_attempt_at_a_time(store: Store) -> None:
    attempt, drained = begin(store)
    assert not Attempt(store, attempt.job_id, timeout_s=1, drained=drained, watchdog=Watchdog(1000.0)).claim()


def test_what_is_reported_is_shown(store: Store) -> None:
    attempt, _ = begin(store)
    shown = []
    for stage, done, total in [
        (Stage.LOADING, 0, 0),
        (Stage.CONDITIONING, 1, 4),
        (Stage.DENOISING, 0, 4),
        (Stage.DENOISING, 3, 4),
        (Stage.DECODING, 1, 2),
        (Stage.UPLOADING, 0, 0),
    ]:
        attempt.report(stage, done, total)
        progress = store.get(attempt.job_id).progress
        assert progress.stage is stage
        assert progress.fraction == fraction(stage, done / total if total else 0.0)
        shown.append((progress.step, progress.steps))
    assert shown == [(0, 4), (0, 4), (0, 4), (3, 4), (3, 4), (3, 4)], "only denoising has steps"


def test_cancel(store: Store) -> None:
    attempt, _ = begin(store)
    store.cancel(attempt.job_id)
    attempt.check()  # it does not know yet
    with pytest.raises(Canceled):
        attempt.report(Stage.DENOISING, 1, 4)
    with pytest.raises(Canceled):
        attempt.check()


def test_a_beat_from_another_thread_carries_the_news(store: Store) -> None:
    attempt, _ = begin(store)
    store.cancel(attempt.job_id)
    beating = threading.Thread(target=attempt.beat)
    beating.start()
    beating.join()
    with pytest.raises(Canceled):
        attempt.check()


def test_a_beat_renews_the_lease(store: Store) -> None:
    attempt, _ = begin(store)
    lapse(store, attempt.job_id)
    attempt.beat()
    assert store.due("running") == []


def test_lost(store: Store) -> None:
    attempt, _ = begin(store)
    lapse(store, attempt.job_id)
    store.reclaim(attempt.job_id)
    with pytest.raises(LeaseLost):
        attempt.report(Stage.DENOISING, 1, 4)
    with pytest.raises(LeaseLost):
        attempt.commit(make_result())
    assert store.get(attempt.job_id).progress.stage is Stage.QUEUED


def test_too_long(store: Store) -> None:
    attempt, _ = begin(store, timeout_s=0.0)
    with pytest.raises(DeadlinePassed):
        attempt.report(Stage.LOADING)


def test_drained(store: Store) -> None:
    attempt, drained = begin(store)
    attempt.check()
    drained.set()
    with pytest.raises(Drained):
        attempt.check()


def test_a_client_comes_before_a_drain(store: Store) -> None:
    attempt, drained = begin(store, timeout_s=0.0)
    drained.set()
    store.cancel(attempt.job_id)
    with pytest.raises(Canceled):
        attempt.report(Stage.LOADING)


def test_commit(store: Store) -> None:
    attempt, drained = begin(store, timeout_s=0.0)
    drained.set()
    attempt.commit(make_result())  # what is done is done, however late
    assert store.get(attempt.job_id).status is Status.SUCCEEDED


def test_commit_after_a_cancel(store: Store) -> None:
    attempt, _ = begin(store)
    store.cancel(attempt.job_id)
    with pytest.raises(Canceled):
        attempt.commit(make_result())


def test_seconds_per_stage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("worker.attempt.time.monotonic", lambda: now)
    attempt, _ = begin(store)
    for now, stage in [(1.0, Stage.CONDITIONING), (3.0, Stage.DENOISING), (7.0, Stage.DENOISING)]:  # noqa: B007
        attempt.report(stage)
    now = 8.0
    attempt.rest()
    now = 20.0
    attempt.report(Stage.DECODING)
    now = 22.0
    seconds = {"loading": 1.0, "conditioning": 2.0, "denoising": 5.0, "decoding": 2.0}
    assert attempt.finish() == seconds, "a rest is no work"
