"""Every call of the store in any order, by any attempt, compared with a model of the record after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import cast

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from jobs.errors import NotFound, QueueFull
from jobs.settings import Settings
from jobs.state import TRANSITIONS, Failure, Status
from jobs.store import HEAD_STARTS, NewJob, Store
from tests.unit.jobs.specs import make_result, make_spec

IDS = ("job1", "job2", "job3")
ATTEMPTS = ("attempt1", "attempt2")
MAX_QUEUED = 2
MAX_CRASHES = 2
ERROR = Failure(code="render_failed", detail="…")
TERMINAL = tuple(status for status in Status if status.terminal)
CALLS: dict[str, tuple[Status, ...]] = {
    "claim": (Status.QUEUED,),
    "beat": (Status.RUNNING,),
    "succeed": (Status.RUNNING,),
    "fail": (Status.RUNNING,),
    "end_canceled": (Status.RUNNING,),
    "hand_back": (Status.RUNNING,),
    "reclaim": (Status.RUNNING,),
    "run_out": (Status.RUNNING,),
    "crash": (Status.RUNNING,),
    "cancel": (Status.RUNNING,),
    "expire": (Status.QUEUED,),
    "forget": TERMINAL,
}
"""Each call and the jobs that it is meant for."""


@dataclass
class Job:
    """What a record should say."""

    place: float
    status: Status = Status.QUEUED
    holder: str = ""
    attempt: int = 0
    crashes: int = 0
    cancel_requested: bool = False
    deadline: bool = False
    lapsed: bool = False
    """Its lease, its deadline or its retention has run out."""

    def held_by(self, attempt: str) -> bool:
        return self.status is Status.RUNNING and self.holder == attempt

    def end(self, status: Status) -> None:
        self.status, self.deadline, self.lapsed = status, False, False


class Life(RuleBasedStateMachine):
    """Several jobs, several attempts at each, and time that runs out when it is told to."""

    redis: Redis
    config: Settings

    @initialize(dice=st.randoms(use_true_random=True))
    def begin(self, dice: Random) -> None:
        self.dice = dice
        self.redis.flushall()
        self.store = Store(self.redis, self.config)
        self.jobs: dict[str, Job] = {}
        self.statuses: dict[str, Status] = {}
        self.successes: dict[str, int] = {}
        self.accepted_cancels: set[str] = set()

    @rule()
    def step(self) -> None:
        """One call, drawn from those that some job is in the state for, so that most of them do something.

        One rule with dice of its own: Hypothesis switches rules off for whole runs and favours small choices,
        and a long life needs them all.
        """
        statuses = {job.status for job in self.jobs.values()}
        calls = ["create"] * (len(self.jobs) < len(IDS)) + [c for c, meant in CALLS.items() if statuses & {*meant}]
        name = self.dice.choice(calls)
        if name == "create":
            deadline = self.dice.choice([None, 1000.0])
            return self.create(self.dice.choice(IDS), self.dice.choice(sorted(HEAD_STARTS)), deadline)
        job_id, job = self.choose(*CALLS[name])
        call: Callable[[str, Job | None, str], None] = getattr(self, name)
        return call(job_id, job, self.caller(job))

    def choose(self, *meant: Status) -> tuple[str, Job | None]:
        """Mostly a job that the call is meant for, now and then any other, or one that is not there."""
        apt = [job_id for job_id, job in self.jobs.items() if job.status in meant]
        job_id = self.dice.choice(apt if apt and self.dice.random() < 0.8 else IDS)
        return job_id, self.jobs.get(job_id)

    def caller(self, job: Job | None) -> str:
        """Mostly the attempt that holds the job, else any."""
        holder = job.holder if job else ""
        return holder if holder and self.dice.random() < 0.7 else self.dice.choice(ATTEMPTS)

    # -- accepting ---------------------------------------------------------------------------------------------

    def create(self, job_id: str, priority: str, deadline: float | None) -> None:
        spec = make_spec(priority=priority, deadline_s=deadline)
        full = sum(job.status is Status.QUEUED for job in self.jobs.values()) >= MAX_QUEUED
        known = job_id in self.jobs
        try:
            self.store.create("alice", [NewJob(job_id, spec)])
        except QueueFull:
            assert full
            assert not known
            return
        assert known or not full
        if not known:
            place = self.redis.zscore("da:queued:tiny", job_id)
            assert place is not None
            self.jobs[job_id] = Job(place=place, deadline=deadline is not None)

    # -- running -----------------------------------------------------------------------------------------------

    def claim(self, job_id: str, job: Job | None, attempt: str) -> None:
        claimed = self.store.claim(job_id, attempt)
        if job is None or (job.status is not Status.QUEUED and not job.held_by(attempt)):
            assert not claimed
        elif job.status is Status.QUEUED and job.deadline and job.lapsed:
            assert not claimed
            job.end(Status.EXPIRED)
        else:
            assert claimed
            if not job.held_by(attempt):
                job.status, job.holder, job.attempt = Status.RUNNING, attempt, job.attempt + 1
                job.deadline = job.lapsed = False

    def beat(self, job_id: str, job: Job | None, attempt: str) -> None:
        verdict = self.store.beat(job_id, attempt, {"step": 1})
        if job is None or not job.held_by(attempt):
            assert verdict == "lost"
        else:
            assert verdict == ("cancel" if job.cancel_requested else "ok")
            job.lapsed = False

    def succeed(self, job_id: str, job: Job | None, attempt: str) -> None:
        verdict = self.store.succeed(job_id, attempt, make_result())
        if job is not None and job.held_by(attempt):
            assert verdict == ("cancel" if job.cancel_requested else "ok")
            if verdict == "ok":
                self.successes[job_id] = self.successes.get(job_id, 0) + 1
                job.end(Status.SUCCEEDED)
        else:
            self.assert_late(job, attempt, Status.SUCCEEDED, verdict)

    def fail(self, job_id: str, job: Job | None, attempt: str) -> None:
        self.commit(job, attempt, Status.FAILED, self.store.fail(job_id, attempt, ERROR))

    def end_canceled(self, job_id: str, job: Job | None, attempt: str) -> None:
        self.commit(job, attempt, Status.CANCELED, self.store.end_canceled(job_id, attempt))

    def commit(self, job: Job | None, attempt: str, status: Status, verdict: str) -> None:
        if job is not None and job.held_by(attempt):
            assert verdict == "ok"
            job.end(status)
        else:
            self.assert_late(job, attempt, status, verdict)

    def assert_late(self, job: Job | None, attempt: str, status: Status, verdict: str) -> None:
        again = job is not None and job.status is status and job.holder == attempt
        assert verdict == ("ok" if again else "lost")

    def hand_back(self, job_id: str, job: Job | None, attempt: str) -> None:
        queued = self.store.hand_back(job_id, attempt)
        if job is None or not job.held_by(attempt):
            assert not queued
        else:
            job.attempt -= 1
            self.return_to_queue(job, queued)

    def reclaim(self, job_id: str, job: Job | None, _: str) -> None:
        queued = self.store.reclaim(job_id)
        if job is None or job.status is not Status.RUNNING or not job.lapsed:
            assert not queued
            return
        job.crashes += 1
        if job.crashes >= MAX_CRASHES:
            assert not queued
            job.end(Status.FAILED)
            error = self.store.get(job_id).error
            assert error is not None
            assert error.code == "worker_crashed"
        else:
            self.return_to_queue(job, queued)

    def crash(self, job_id: str, job: Job | None, attempt: str) -> None:
        self.run_out(job_id, job, attempt)
        self.reclaim(job_id, job, attempt)

    def return_to_queue(self, job: Job, queued: bool) -> None:
        assert queued is not job.cancel_requested
        if job.cancel_requested:
            job.end(Status.CANCELED)
        else:
            job.status, job.holder, job.lapsed = Status.QUEUED, "", False

    # -- ending ------------------------------------------------------------------------------------------------

    def cancel(self, job_id: str, job: Job | None, _: str) -> None:
        try:
            answer = self.store.cancel(job_id)
        except NotFound:
            assert job is None
            return
        assert job is not None
        if job.status is Status.QUEUED:
            assert answer == "canceled"
            job.end(Status.CANCELED)
        elif job.status is Status.RUNNING:
            assert answer == "requested"
            job.cancel_requested = True
        else:
            assert answer == "ended"
            return
        self.accepted_cancels.add(job_id)

    def expire(self, job_id: str, job: Job | None, _: str) -> None:
        late = job is not None and job.status is Status.QUEUED and job.deadline and job.lapsed
        assert self.store.expire(job_id) is late
        if job is not None and late:
            job.end(Status.EXPIRED)

    def forget(self, job_id: str, job: Job | None, _: str) -> None:
        try:
            forgotten = self.store.forget(job_id)
        except NotFound:
            assert job is None
            return
        assert job is not None
        assert forgotten is job.status.terminal
        if forgotten:
            del self.jobs[job_id], self.statuses[job_id]
            self.successes.pop(job_id, None)
            self.accepted_cancels.discard(job_id)

    def run_out(self, job_id: str, job: Job | None, _: str) -> None:
        """Move the moment at which a lease, a deadline or a retention ends into the past."""
        for index in ("running", "deadlines", "expiring"):
            self.redis.zadd(f"da:{index}", {job_id: 0}, xx=True)
        if job is not None:
            job.lapsed = job.deadline or job.status is not Status.QUEUED
        due = {*self.store.due("running"), *self.store.due("deadlines"), *self.store.due("expiring")}
        assert due == {other for other, job in self.jobs.items() if job.lapsed}

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def records_say_what_the_model_says(self) -> None:
        for job_id, job in self.jobs.items():
            record = self.store.get(job_id)
            said = (record.status, record.attempt_id or "", record.attempt, record.cancel_requested)
            assert said == (job.status, job.holder, job.attempt, job.cancel_requested)
            assert (record.result is not None) is (job.status is Status.SUCCEEDED)
            assert (record.error is not None) is (job.status is Status.FAILED)
            assert (record.finished_at is not None) is job.status.terminal
            before = self.statuses.get(job_id, record.status)
            assert before is record.status or record.status in TRANSITIONS[before]
            self.statuses[job_id] = record.status

    @invariant()
    def one_success_and_none_after_a_cancel(self) -> None:
        assert all(count == 1 for count in self.successes.values())
        assert not self.accepted_cancels & set(self.successes)

    @invariant()
    def every_job_is_in_its_one_list(self) -> None:
        def having(*statuses: Status) -> set[str]:
            return {job_id for job_id, job in self.jobs.items() if job.status in statuses}

        waiting = having(Status.QUEUED)
        queued, running, expiring, deadlines, owned = self.listed(
            "queued:tiny", "running", "expiring", "deadlines", "owned:alice"
        )
        members = {name: self.redis.smembers(f"da:owner-{name}:alice") for name in ("queued", "running")}
        assert members == {"queued": {i.encode() for i in queued}, "running": {i.encode() for i in running}}
        work = cast("list[bytes]", self.redis.hkeys("da:work:tiny"))
        assert {i.decode() for i in work} == waiting | having(Status.RUNNING)
        assert queued == sorted(waiting, key=lambda i: (self.jobs[i].place, i))
        assert self.store.next(["tiny"], len(IDS)) == queued
        assert set(running) == having(Status.RUNNING)
        assert set(expiring) == {i for i, job in self.jobs.items() if job.status.terminal}
        assert set(deadlines) == {i for i, job in self.jobs.items() if job.deadline}
        assert set(owned) == set(self.jobs)

    def listed(self, *names: str) -> Iterable[list[str]]:
        with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zrange(f"da:{name}", 0, -1)
            return [[i.decode() for i in cast("list[bytes]", ids)] for ids in pipe.execute()]


def test_any_order_of_calls(redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings.model_copy(update={"lease_s": 1000.0, "max_queued": MAX_QUEUED, "max_attempts": MAX_CRASHES})
    monkeypatch.setattr(Life, "redis", redis, raising=False)
    monkeypatch.setattr(Life, "config", config, raising=False)
    run_state_machine_as_test(
        Life,
        settings=hypothesis_settings(
            max_examples=60,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
