"""What the record promises, call by call. ``test_store_machine`` mixes the calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from redis import Connection, ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from jobs.errors import IdempotencyInFlight, IdempotencyMismatch, NotFound, QueueFull, RateLimited
from jobs.settings import Settings
from jobs.state import Failure, JobWarning, Stage, Status
from jobs.store import NewJob, Quota, Store, new_attempt_id, new_id
from tests.harness import until
from tests.unit.jobs.specs import make_result, make_spec, record_one

Answer = TypeVar("Answer")


def queue_one(store: Store, **changes: Any) -> str:
    return record_one(store, **changes).id


def start(store: Store, job_id: str) -> str:
    attempt = new_attempt_id()
    assert store.claim(job_id, attempt)
    return attempt


def lapse(store: Store, job_id: str) -> None:
    """Let a lease run out."""
    assert store.redis.zadd("da:running", {job_id: 0}, xx=True, ch=True) == 1


def next_millisecond(store: Store) -> None:
    """Wait until the server's clock, which gives out the places, has moved on."""
    now = store.redis.time()[1] // 1000
    until(lambda: store.redis.time()[1] // 1000 != now)


# -- the record -----------------------------------------------------------------------------------------------


def test_a_new_record(store: Store) -> None:
    spec = make_spec(priority="high", num_inference_steps=9)
    warning = JobWarning(code="trajectory_leaves_image", detail="…", pointer="/entities/0")
    (record,) = store.create("alice", [NewJob(new_id(), spec, (warning,))])

    assert record == store.get(record.id, "alice")
    assert make_spec(**record.spec) == spec
    assert (record.status, record.owner, record.model, record.priority) == (Status.QUEUED, "alice", "tiny", "high")
    assert (record.progress.stage, record.progress.steps, record.progress.fraction) == (Stage.QUEUED, 9, 0.0)
    assert (record.queue_position, record.attempt, record.warnings) == (1, 0, [warning])
    assert abs(datetime.now(UTC) - record.created_at) < timedelta(minutes=1)
    assert {record.started_at, record.finished_at, record.expires_at} == {None}
    assert (record.result, record.error) == (None, None)


def test_ids_sort_by_time_and_differ() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [i[:12] for i in ids] == sorted(i[:12] for i in ids)


def test_unknown_and_foreign_jobs_look_the_same(store: Store) -> None:
    job_id = queue_one(store)
    with pytest.raises(NotFound):
        store.get(new_id())
    with pytest.raises(NotFound):
        store.get(job_id, "mallory")
    for call in (store.cancel, store.forget):
        with pytest.raises(NotFound):
            call(new_id())


def test_a_success(store: Store, settings: Settings) -> None:
    job_id = queue_one(store)
    attempt = start(store, job_id)
    running = store.get(job_id)
    assert (running.status, running.attempt, running.attempt_id) == (Status.RUNNING, 1, attempt)
    assert running.queue_position is None

    assert store.beat(job_id, attempt, {"stage": "denoising", "step": 3, "steps": 5, "fraction": 0.5}) == "ok"
    progress = store.get(job_id).progress
    assert (progress.stage, progress.step, progress.steps, progress.fraction) == (Stage.DENOISING, 3, 5, 0.5)

    assert store.succeed(job_id, attempt, make_result()) == "ok"
    record = store.get(job_id)
    assert (record.status, record.result) == (Status.SUCCEEDED, make_result())
    assert (record.progress.stage, record.progress.fraction) == (Stage.DONE, 1.0)
    assert record.started_at is not None
    assert record.finished_at is not None
    assert record.created_at <= record.started_at <= record.finished_at
    assert record.expires_at == record.finished_at + timedelta(seconds=settings.retention_s)


def test_a_failure(store: Store) -> None:
    job_id = queue_one(store)
    error = Failure(code="not_finite", detail="…")
    assert store.fail(job_id, start(store, job_id), error) == "ok"
    record = store.get(job_id)
    assert (record.status, record.error, record.result) == (Status.FAILED, error, None)


def test_another_attempt_changes_nothing(store: Store) -> None:
    job_id = queue_one(store)
    start(store, job_id)
    before = store.get(job_id)
    stale = new_attempt_id()
    assert not store.claim(job_id, stale)
    assert store.beat(job_id, stale, {"stage": "denoising"}) == "lost"
    assert store.succeed(job_id, stale, make_result()) == "lost"
    assert store.fail(job_id, stale, Failure(code="x", detail="")) == "lost"
    assert store.end_canceled(job_id, stale) == "lost"
    assert not store.hand_back(job_id, stale)
    assert store.get(job_id) == before


def test_concurrent_claims_have_one_winner(store: Store) -> None:
    job_id = queue_one(store)
    with ThreadPoolExecutor(16) as pool:
        claimed = list(pool.map(lambda _: store.claim(job_id, new_attempt_id()), range(16)))
    assert sum(claimed) == 1
    assert store.get(job_id).attempt == 1


def test_an_accepted_cancel_beats_a_success(store: Store) -> None:
    job_id = queue_one(store)
    attempt = start(store, job_id)
    assert store.cancel(job_id) == "requested"
    assert store.get(job_id).cancel_requested
    assert store.beat(job_id, attempt) == "cancel"
    assert store.succeed(job_id, attempt, make_result()) == "cancel"
    assert store.end_canceled(job_id, attempt) == "ok"
    record = store.get(job_id)
    assert (record.status, record.result) == (Status.CANCELED, None)
    assert store.cancel(job_id) == "ended"


def test_cancel_while_it_waits(store: Store) -> None:
    job_id = queue_one(store)
    assert store.cancel(job_id) == "canceled"
    assert store.get(job_id).status is Status.CANCELED
    assert not store.claim(job_id, new_attempt_id())


# -- the order ------------------------------------------------------------------------------------------------


def test_priority_then_age(store: Store) -> None:
    ids = {}
    for priority in ("low", "normal", "high", "low", "normal", "high"):
        ids[queue_one(store, priority=priority)] = priority
        next_millisecond(store)
    low, normal, high, low2, normal2, high2 = ids
    expected = [high, high2, normal, normal2, low, low2]
    assert store.queued("tiny") == expected
    assert [store.get(job_id).queue_position for job_id in expected] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("way", ["handed back", "crashed"])
def test_a_job_returns_to_its_old_place(store: Store, way: str) -> None:
    before = queue_one(store)
    next_millisecond(store)
    job_id = queue_one(store)
    next_millisecond(store)
    after = queue_one(store)
    attempt = start(store, job_id)
    if way == "crashed":
        lapse(store, job_id)
        assert store.reclaim(job_id)
    else:
        assert store.hand_back(job_id, attempt)
    assert store.queued("tiny") == [before, job_id, after]
    record = store.get(job_id)
    assert (record.status, record.attempt_id, record.progress.stage) == (Status.QUEUED, None, Stage.QUEUED)


def test_nothing_starves(redis: Redis, settings: Settings) -> None:
    """Whoever came a head start earlier is served first, whatever the priorities."""
    store = Store(redis, settings.model_copy(update={"priority_head_start_s": 0.02}))
    low = queue_one(store, priority="low")
    overtakes = queue_one(store, priority="high")
    came = store.redis.time()
    until(lambda: _ms(store.redis.time()) - _ms(came) > 50)
    assert store.queued("tiny") == [overtakes, low]
    too_late = queue_one(store, priority="high")
    assert store.queued("tiny") == [overtakes, low, too_late]


def _ms(server_time: tuple[int, int]) -> float:
    return server_time[0] * 1000 + server_time[1] / 1000


def test_models_have_queues_of_their_own(store: Store) -> None:
    tiny, other = queue_one(store), queue_one(store, model="other")
    assert (store.queued("tiny"), store.queued("other")) == ([tiny], [other])
    assert store.get(other).queue_position == 1


def test_a_full_queue_refuses_and_keeps_what_it_has(redis: Redis, settings: Settings) -> None:
    store = Store(redis, settings.model_copy(update={"max_queued": 2}))
    first, second = queue_one(store), queue_one(store)
    refused = new_id()
    with pytest.raises(QueueFull) as caught:
        record_one(store, refused)
    assert caught.value.retry_after_s
    with pytest.raises(NotFound):
        store.get(refused)
    queue_one(store, model="other")
    attempt = start(store, first)
    queue_one(store)
    assert store.hand_back(first, attempt), "what was accepted is never dropped"
    assert store.count_queued("tiny") == 3
    assert second in store.queued("tiny")


# -- several at once, limits ------------------------------------------------------------------------------------


def test_all_or_none(redis: Redis, settings: Settings) -> None:
    store = Store(redis, settings.model_copy(update={"max_queued": 3}))
    first = [NewJob(new_id(), make_spec()) for _ in range(2)]
    records = store.create("alice", first, group="g")
    assert [record.id for record in records] == store.queued("tiny") == [job.id for job in first], "in order"
    assert {record.group for record in records} == {"g"}
    with pytest.raises(QueueFull):
        store.create("alice", [NewJob(new_id(), make_spec()) for _ in range(2)], group="h", key="k")
    assert store.count_queued("tiny") == 2
    for unknown in ("h", "other"):
        with pytest.raises(NotFound):
            store.group(unknown)
    assert store.reserve("alice", "k", "body") is None, "a refused batch keeps no key"


def test_a_group(store: Store) -> None:
    store.reserve("alice", "k", "body")
    jobs = [NewJob(new_id(), make_spec(seed=seed)) for seed in range(3)]
    store.create("alice", jobs, group="g", key="k", fingerprint="body")
    assert store.reserve("alice", "k", "body") == "g", "the key means the whole group"
    with pytest.raises(NotFound):
        store.group("g", "mallory")
    assert [record.spec["seed"] for record in store.group("g", "alice")] == [0, 1, 2]
    for job in jobs:
        store.cancel(job.id)
    store.forget(jobs[1].id)
    assert [record.id for record in store.group("g")] == [jobs[0].id, jobs[2].id]
    store.forget(jobs[0].id)
    store.forget(jobs[2].id)
    assert store.redis.keys("da:*") == [b"da:counts:tiny"]


def test_a_quota_on_waiting_jobs(store: Store) -> None:
    def accept(owner: str) -> str:
        (record,) = store.create(owner, [NewJob(new_id(), make_spec())], quota=Quota(queued=2))
        return record.id

    first, second = accept("alice"), accept("alice")
    with pytest.raises(RateLimited) as caught:
        accept("alice")
    assert caught.value.retry_after_s
    accept("bob")
    start(store, first)
    third = accept("alice")
    store.cancel(second)
    store.cancel(third)
    accept("alice")
    accept("alice")
    with pytest.raises(RateLimited):
        accept("alice")


def test_a_quota_on_running_jobs(store: Store) -> None:
    """What is over it waits without holding anybody else up."""
    greedy = [
        store.create("alice", [NewJob(new_id(), make_spec())], quota=Quota(running=1))[0].id for _ in range(60)
    ]
    polite = record_one(store, owner="bob").id
    assert store.next(["tiny"], 2) == greedy[:2]
    attempt = start(store, greedy[0])
    assert store.next(["tiny"], 2) == [polite]
    assert not store.claim(greedy[1], new_attempt_id())
    assert store.get(greedy[1]).queue_position == 1
    store.hand_back(greedy[0], attempt)
    assert store.next(["tiny"], 1) == [greedy[0]]
    store.succeed(greedy[0], start(store, greedy[0]), make_result())
    assert store.next(["tiny"], 1) == [greedy[1]]


def test_what_a_worker_may_take(store: Store) -> None:
    assert store.next(["tiny", "other"], 5) == []
    ids = [queue_one(store, model=model) for model in ("tiny", "other", "third", "tiny")]
    assert store.next(["tiny", "other"], 5) == [ids[0], ids[1], ids[3]], "in one order over its models"
    assert store.next(["other"], 5) == [ids[1]]
    assert store.next(["tiny", "other"]) == [ids[0]]


# -- leases, deadlines, retention -----------------------------------------------------------------------------


def test_a_beat_renews_the_lease(store: Store) -> None:
    job_id = queue_one(store)
    attempt = start(store, job_id)
    lapse(store, job_id)
    assert store.due("running") == [job_id]
    store.beat(job_id, attempt)
    assert store.due("running") == []
    assert not store.reclaim(job_id)
    assert store.get(job_id).status is Status.RUNNING


def test_crashes_are_counted_and_drains_are_not(store: Store, settings: Settings) -> None:
    job_id = queue_one(store)
    for crash in range(1, settings.max_attempts + 1):
        for _ in range(4):
            assert store.hand_back(job_id, start(store, job_id))
        assert store.get(job_id).attempt == crash - 1
        start(store, job_id)
        lapse(store, job_id)
        assert store.reclaim(job_id) is (crash < settings.max_attempts)
    record = store.get(job_id)
    assert record.status is Status.FAILED
    assert record.error is not None
    assert record.error.code == "worker_crashed"
    assert (record.attempt, store.queued("tiny"), store.due("running")) == (settings.max_attempts, [], [])


@pytest.mark.parametrize("way", ["handed back", "crashed"])
def test_a_cancel_that_nobody_was_left_to_notice(store: Store, way: str) -> None:
    job_id = queue_one(store)
    attempt = start(store, job_id)
    store.cancel(job_id)
    lapse(store, job_id)
    assert not (store.reclaim(job_id) if way == "crashed" else store.hand_back(job_id, attempt))
    assert store.get(job_id).status is Status.CANCELED


def test_a_deadline_ends_a_job_that_waits(store: Store) -> None:
    early, late = queue_one(store, deadline_s=600), queue_one(store, deadline_s=600)
    assert store.due("deadlines") == []
    assert not store.expire(early)
    store.redis.zadd("da:deadlines", {early: 0, late: 0})
    assert set(store.due("deadlines")) == {early, late}
    assert store.expire(early)
    assert not store.claim(late, new_attempt_id()), "the claim notices by itself"
    assert [store.get(i).status for i in (early, late)] == [Status.EXPIRED, Status.EXPIRED]


def test_a_deadline_spares_a_job_that_has_started(store: Store) -> None:
    job_id = queue_one(store, deadline_s=600)
    attempt = start(store, job_id)
    assert store.redis.zcard("da:deadlines") == 0
    store.redis.zadd("da:deadlines", {job_id: 0})
    assert not store.expire(job_id)
    assert store.beat(job_id, attempt) == "ok"


def test_forget(store: Store) -> None:
    job_id = queue_one(store)
    assert not store.forget(job_id)
    attempt = start(store, job_id)
    assert not store.forget(job_id)
    store.succeed(job_id, attempt, make_result())
    assert store.forget(job_id)
    with pytest.raises(NotFound):
        store.get(job_id)
    assert store.redis.keys("da:*") == [b"da:counts:tiny"]


# -- idempotency ----------------------------------------------------------------------------------------------


def test_an_idempotency_key(store: Store) -> None:
    assert store.reserve("alice", "k", "body") is None
    with pytest.raises(IdempotencyInFlight) as in_flight:
        store.reserve("alice", "k", "body")
    assert in_flight.value.retry_after_s
    with pytest.raises(IdempotencyMismatch):
        store.reserve("alice", "k", "another body")
    with pytest.raises(IdempotencyInFlight):
        store.reserve("alice", "k", "body")
    job_id = new_id()
    store.create("alice", [NewJob(job_id, make_spec())], key="k", fingerprint="body")
    for _ in range(2):
        assert store.reserve("alice", "k", "body") == job_id
        with pytest.raises(IdempotencyMismatch):
            store.reserve("alice", "k", "another body")
    assert store.reserve("bob", "k", "another body") is None


def test_a_refused_request_gives_its_key_back(store: Store) -> None:
    store.reserve("alice", "k", "body")
    store.release("alice", "k")
    assert store.reserve("alice", "k", "another body") is None


def test_a_key_whose_request_died_comes_back(store: Store) -> None:
    store.reserve("alice", "k", "body")
    (name,) = store.redis.keys("da:idempotency:*")
    assert 0 < store.redis.ttl(name) <= 60
    store.create("alice", [NewJob(new_id(), make_spec())], key="k", fingerprint="body")
    assert store.redis.ttl(name) > 3600


def test_a_key_ends_with_its_job(store: Store) -> None:
    """Else the same request would be answered with a job that is gone."""
    store.reserve("alice", "k", "body")
    job_id = new_id()
    store.create("alice", [NewJob(job_id, make_spec())], key="k", fingerprint="body")
    store.cancel(job_id)
    store.forget(job_id)
    assert store.reserve("alice", "k", "body") is None


def test_twenty_requests_with_one_key(store: Store) -> None:
    together = threading.Barrier(20)

    def request(_: int) -> str | None:
        together.wait()
        try:
            return store.reserve("alice", "k", "body")
        except IdempotencyInFlight:
            return "in flight"

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(request, range(20)))
    assert sorted(answers, key=str) == [None] + ["in flight"] * 19


# -- lost answers ---------------------------------------------------------------------------------------------


class Forgetful(Connection):
    """Loses the answer to the next command that changes something, after the server has carried it out."""

    lose = False
    changes = False

    def send_command(self, *args: object, **kwargs: object) -> None:
        self.changes = args[0] in ("EVALSHA", "SET")
        super().send_command(*args, **kwargs)  # type: ignore[no-untyped-call]

    def read_response(self, *args: object, **kwargs: object) -> object:
        answer = super().read_response(*args, **kwargs)
        if Forgetful.lose and self.changes:
            Forgetful.lose = False
            raise RedisConnectionError("the answer was lost")
        return answer


@pytest.fixture
def forgetful(redis_url: str, settings: Settings) -> Iterator[Store]:
    pool = ConnectionPool.from_url(redis_url, connection_class=Forgetful, retry=Retry(NoBackoff(), 1))
    with Redis(connection_pool=pool) as client:
        yield Store(client, settings.model_copy(update={"lease_s": 1000.0, "max_queued": 1}))


def asked_twice(call: Callable[[], Answer]) -> Answer:
    """Make a call whose first answer is lost, so that the client asks again."""
    Forgetful.lose = True
    answer = call()
    assert not Forgetful.lose
    return answer


def test_lost_answer_to_create(forgetful: Store) -> None:
    job_id = new_id()
    record = asked_twice(lambda: record_one(forgetful, job_id))
    assert forgetful.queued("tiny") == [record.id], "its own place is not taken for another's"


def test_lost_answer_to_create_while_a_worker_is_quick(store: Store) -> None:
    job_id = queue_one(store)
    attempt = start(store, job_id)
    record_one(store, job_id)
    assert store.beat(job_id, attempt) == "ok"
    assert store.queued("tiny") == []


def test_lost_answer_to_a_reservation(forgetful: Store) -> None:
    assert asked_twice(lambda: forgetful.reserve("alice", "k", "body")) is None
    with pytest.raises(IdempotencyInFlight):
        forgetful.reserve("alice", "k", "body")


def test_lost_answer_to_claim(forgetful: Store) -> None:
    job_id, attempt = queue_one(forgetful), new_attempt_id()
    assert asked_twice(lambda: forgetful.claim(job_id, attempt))
    assert forgetful.get(job_id).attempt == 1


def test_lost_answer_to_beat(forgetful: Store) -> None:
    job_id = queue_one(forgetful)
    attempt = start(forgetful, job_id)
    assert asked_twice(lambda: forgetful.beat(job_id, attempt, {"step": 3})) == "ok"


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELED])
def test_lost_answer_to_commit(forgetful: Store, status: Status) -> None:
    job_id = queue_one(forgetful)
    attempt = start(forgetful, job_id)
    commits: dict[Status, Callable[[], str]] = {
        Status.SUCCEEDED: lambda: forgetful.succeed(job_id, attempt, make_result()),
        Status.FAILED: lambda: forgetful.fail(job_id, attempt, Failure(code="x", detail="")),
        Status.CANCELED: lambda: forgetful.end_canceled(job_id, attempt),
    }
    assert asked_twice(commits[status]) == "ok"
    assert forgetful.get(job_id).status is status


def test_lost_answer_to_reclaim(forgetful: Store) -> None:
    job_id = queue_one(forgetful)
    start(forgetful, job_id)
    lapse(forgetful, job_id)
    asked_twice(lambda: forgetful.reclaim(job_id))
    assert forgetful.queued("tiny") == [job_id]
    assert forgetful.redis.hget(f"da:job:{job_id}", "crashes") == b"1"


def test_lost_answer_to_hand_back(forgetful: Store) -> None:
    job_id = queue_one(forgetful)
    attempt = start(forgetful, job_id)
    asked_twice(lambda: forgetful.hand_back(job_id, attempt))
    record = forgetful.get(job_id)
    assert (record.status, record.attempt) == (Status.QUEUED, 0)
