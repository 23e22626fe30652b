"""Deliveries: written with the end of their job, held by one at a time, tried again by a clock of the test's."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from redis import Redis

from jobs.errors import NotFound
from jobs.outbox import JITTER, LEASE_S, MAX_PAUSE_S, PAUSES_S, Delivery, Outbox
from jobs.state import Failure, Status
from jobs.store import NewJob, Store, new_id
from jobs.webhooks import TIMEOUT_S, Subscription
from tests.unit.jobs.specs import make_result, make_spec

ALL = ("job.succeeded", "job.failed", "job.canceled")
HOST = "hooks.example.com:443"


class Clock:
    """Ahead of the time by as much as it was told."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def __call__(self) -> int:
        return int((time.time() + self._ahead_s) * 1000)

    def pass_by(self, seconds: float) -> None:
        self._ahead_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(redis: Redis, clock: Clock) -> Outbox:
    return Outbox(redis, clock, Random(7))


def submit(store: Store, *, host: str = HOST, events: Any = ALL, **changes: Any) -> str:
    """A job whose end somebody wants to know."""
    webhook = Subscription(url=f"https://{host}/", host=host, events=events, base_url="http://localhost")
    (record,) = store.create("alice", [NewJob(new_id(), make_spec(**changes), webhook=webhook)])
    return record.id


def canceled(store: Store, **changes: Any) -> str:
    job_id = submit(store, **changes)
    store.cancel(job_id)
    return job_id


def take(outbox: Outbox, *passed_over: str) -> Delivery:
    delivery = outbox.take(passed_over)
    assert delivery is not None
    return delivery


def succeed(store: Store, job_id: str) -> None:
    assert store.claim(job_id, "a")
    assert store.succeed(job_id, "a", make_result()) == "ok"
    assert store.succeed(job_id, "a", make_result()) == "ok", "again, after its answer was lost"


def fail(store: Store, job_id: str) -> None:
    store.claim(job_id, "a")
    store.fail(job_id, "a", Failure(code="render_failed", detail=""))


def cancel_running(store: Store, job_id: str) -> None:
    store.claim(job_id, "a")
    store.cancel(job_id)
    store.end_canceled(job_id, "a")


def crash(store: Store, job_id: str) -> None:
    for number in range(store.settings.max_attempts):
        store.claim(job_id, f"a{number}")
        store.redis.zadd("da:running", {job_id: 0})
        store.reclaim(job_id)


def cancel_queued(store: Store, job_id: str) -> None:
    store.cancel(job_id)


@pytest.mark.parametrize(
    ("end", "event"),
    [
        (succeed, "job.succeeded"),
        (fail, "job.failed"),
        (crash, "job.failed"),
        (cancel_running, "job.canceled"),
        (cancel_queued, "job.canceled"),
    ],
)
def test_every_end_is_told_once_to_who_asked_for_it(
    store: Store, outbox: Outbox, end: Callable[[Store, str], None], event: str
) -> None:
    job_id, unasked = submit(store, events=(event,)), submit(store, events=tuple({*ALL} - {event}))
    assert outbox.take() is None, "nothing has ended"
    for each in (job_id, unasked):
        end(store, each)
    delivery = take(outbox)
    assert (delivery.job_id, delivery.owner, delivery.tries) == (job_id, "alice", 0)
    assert f"job.{store.get(job_id).status}" == event
    assert outbox.deliver(delivery)
    assert outbox.take() is None


def test_an_expired_job_is_no_event(store: Store, outbox: Outbox) -> None:
    job_id = submit(store, deadline_s=1000)
    store.redis.zadd("da:deadlines", {job_id: 0})
    assert store.expire(job_id)
    assert outbox.take() is None


def test_a_lost_attempt_tells_nothing(store: Store, outbox: Outbox) -> None:
    """The delivery is written by the transition, so where there is none there is no delivery."""
    job_id = submit(store)
    store.claim(job_id, "a")
    assert store.succeed(job_id, "b", make_result()) == "lost"
    assert outbox.take() is None


def test_a_job_without_a_webhook_leaves_nothing(store: Store, redis: Redis) -> None:
    (record,) = store.create("alice", [NewJob(new_id(), make_spec())])
    store.cancel(record.id)
    assert redis.keys("da:outbox*") == []


def test_one_at_a_time_holds_a_delivery(store: Store, redis: Redis) -> None:
    job_ids = {canceled(store) for _ in range(6)}
    boxes = [Outbox(redis) for _ in range(12)]
    with ThreadPoolExecutor(len(boxes)) as pool:
        taken = [delivery.job_id for delivery in pool.map(lambda box: box.take(), boxes) if delivery]
    assert sorted(taken) == sorted(job_ids)


def test_who_dies_gives_it_back(store: Store, outbox: Outbox, clock: Clock) -> None:
    canceled(store)
    first = take(outbox)
    clock.pass_by(LEASE_S - 1)
    assert outbox.take() is None
    clock.pass_by(2)
    second = take(outbox)
    assert (second.message_id, second.tries) == (first.message_id, 0)
    assert not outbox.deliver(first), "its lease is lost"
    assert outbox.take() is None
    assert outbox.deliver(second)
    clock.pass_by(MAX_PAUSE_S)
    assert outbox.take() is None


def test_a_lease_outlasts_a_try() -> None:
    assert LEASE_S > TIMEOUT_S


def test_the_schedule(store: Store, outbox: Outbox, clock: Clock) -> None:
    """Standard Webhooks 1.0: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""
    job_id = canceled(store)
    ids, pauses = set(), []
    for number in range(1 + len(PAUSES_S)):
        delivery = take(outbox)
        ids.add(delivery.message_id)
        assert delivery.tries == number
        pause_s = outbox.fail(delivery, "503")
        if pause_s is not None:
            pauses.append(pause_s)
            clock.pass_by(pause_s - 1)
            assert outbox.take() is None
            clock.pass_by(1)
    assert ids == {f"msg_{job_id}"}
    suggested = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert pauses != suggested
    for pause_s, expected in zip(pauses, suggested, strict=True):
        assert abs(pause_s - expected) <= JITTER * expected
    assert outbox.take() is None
    (letter,) = outbox.dead()
    assert (letter.job_id, letter.host, letter.tries, letter.note) == (job_id, HOST, 10, "503")
    assert abs(letter.died_at.timestamp() * 1000 - clock()) < 5000


@pytest.mark.parametrize(
    ("asked_s", "least", "most"), [(1, 4, 6), (600, 600, 600), (1e9, MAX_PAUSE_S, MAX_PAUSE_S)]
)
def test_a_receiver_may_ask_for_a_longer_pause(
    store: Store, outbox: Outbox, asked_s: float, least: float, most: float
) -> None:
    canceled(store)
    pause_s = outbox.fail(take(outbox), "429", asked_s)
    assert pause_s is not None
    assert least <= pause_s <= most


def test_dead_letters_are_sent_again(store: Store, outbox: Outbox, clock: Clock) -> None:
    job_id = canceled(store)
    outbox.bury(take(outbox), "410")
    clock.pass_by(MAX_PAUSE_S)
    assert outbox.take() is None
    with pytest.raises(NotFound):
        outbox.retry(new_id())
    outbox.retry(job_id)
    assert outbox.dead() == []
    again = take(outbox)
    assert (again.job_id, again.tries) == (job_id, 0)
    with pytest.raises(NotFound):
        outbox.retry(job_id)


def test_a_receiver_can_be_passed_over(store: Store, outbox: Outbox) -> None:
    """One with much to be told keeps nobody else waiting."""
    many = [canceled(store) for _ in range(3)]
    other = canceled(store, host="other.example:443")
    assert take(outbox, HOST).job_id == other
    assert outbox.take([HOST]) is None
    assert [take(outbox).job_id for _ in many] == many


def test_a_forgotten_job_is_told_no_more(store: Store, outbox: Outbox, redis: Redis) -> None:
    waiting, dead, held = (canceled(store) for _ in range(3))
    first, second, third = (take(outbox) for _ in range(3))
    assert [first.job_id, second.job_id, third.job_id] == [waiting, dead, held]
    outbox.fail(first, "503")
    outbox.bury(second, "410")
    for job_id in (waiting, dead, held):
        assert store.forget(job_id)
    assert not outbox.deliver(third)
    assert redis.keys("da:outbox*") + redis.keys("da:dead*") + redis.keys("da:job:*") == []


def test_redis_own_clock(store: Store, redis: Redis) -> None:
    outbox = Outbox(redis)
    canceled(store)
    delivery = take(outbox)
    assert outbox.take() is None
    outbox.fail(delivery, "503")
    assert outbox.take() is None
    due_ms = redis.zscore(f"da:outbox:{HOST}", delivery.job_id)
    assert due_ms is not None
    assert 0 < due_ms / 1000 - time.time() < 7


def test_the_record_says_nothing_of_it(store: Store) -> None:
    job_id = canceled(store)
    record = store.get(job_id)
    assert record.status is Status.CANCELED
    assert "https" not in record.model_dump_json()
