"""Redis and S3 that die or go away."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from tests.chaos.audit import Auditor
from tests.chaos.driver import LONG, body
from tests.chaos.rig import Rig, say
from tests.chaos.row import Outcome, Scale, spread
from tests.harness import restart, until

SEED = 2
SUBMITTERS = 4
POLL_S = 0.5
FSYNCS = ("everysec", "always")


def redis_away(rig: Rig, scale: Scale) -> Outcome:
    """Kill Redis while jobs are submitted and run, under both ways of syncing its log; then freeze it."""
    rig.await_workers()
    lives = _lives(rig)
    run = str(time.time_ns())
    with Auditor.of(rig.stack) as auditor:
        recorded = auditor.count()
        jobs = [
            job
            for fsync in FSYNCS
            for kill in range(scale.redis_kills)
            for job in _submitted_around_a_kill(rig, auditor, f"{run}-{fsync}-{kill}", fsync, scale.redis_jobs)
        ]
        rendering = rig.submit(f"{run}-long", 0, **LONG)["id"]
        rig.driver.await_step(rendering)
        jobs += [rendering, *(rig.submit(f"{run}-{number}", number)["id"] for number in range(scale.redis_jobs))]
        with _frozen(rig, "valkey"):
            answers = list(_asked(rig, f"{run}-away", scale.away_s))
        for job in jobs:
            rig.driver.await_end(job)
        findings = auditor.audit(jobs)
        recorded = auditor.count() - recorded
    attempts = [len(rig.events(job, "job_started")) for job in jobs]
    seconds = [seconds for _, seconds in answers]
    return Outcome(
        {
            **findings.promises,
            "a repeated request makes no second job": recorded == len(set(jobs)) == len(jobs),
            "no process ends, no worker loads its model again": _lives(rig) == lives,
            "the API answers 503 while Redis is away": {status for status, _ in answers} == {503},
            "it does so within a second": scale.answer_s is None or max(seconds) <= scale.answer_s,
        },
        {
            **findings.figures,
            "kills": scale.redis_kills * len(FSYNCS),
            "away_s": scale.away_s,
            "answer_503_s": spread(seconds),
            "jobs_started_twice": sum(count > 1 for count in attempts),
        },
    )


def s3_away(rig: Rig, scale: Scale) -> Outcome:
    """Freeze S3 when a worker is about to upload."""
    rig.await_workers()
    lives = _lives(rig)
    rig.faults.arm("before_upload", "stop")
    job = rig.submit(f"s3-{time.time_ns()}")["id"]
    rig.faults.await_taken("before_upload")
    holder = rig.holder(job)
    assert holder
    until(lambda: rig.stopped(holder))
    with _frozen(rig, "s3"):
        rig.stack.processes[holder].kill(signal.SIGCONT)
        time.sleep(scale.away_s)  # the outage itself
        during = rig.driver.view(job)
    end = rig.driver.await_end(job)
    with Auditor.of(rig.stack) as auditor:
        findings = auditor.audit([job])
    return Outcome(
        {
            "the job succeeds in its first attempt": (end["status"], end["attempt"]) == ("succeeded", 1),
            "nothing is rendered twice": len(rig.events(job, "job_started")) == 1,
            "it waits meanwhile": (during["status"], during["progress"]["stage"]) == ("running", "uploading"),
            "no process ends": _lives(rig) == lives,
            **findings.promises,
        },
        {**findings.figures, "away_s": scale.away_s, "attempts": end["attempt"]},
    )


def _submitted_around_a_kill(rig: Rig, auditor: Auditor, key: str, fsync: str, count: int) -> list[str]:
    """Jobs that several clients submit while Redis is killed."""
    auditor.redis.config_set("appendfsync", fsync)
    dice = random.Random(f"{SEED} {fsync}")
    with ThreadPoolExecutor(SUBMITTERS) as pool:
        futures = [pool.submit(rig.submit, f"{key}-{number}", number) for number in range(count)]
        futures[dice.randrange(count // 2)].result()
        restart(rig.stack, "valkey")
        jobs = [future.result()["id"] for future in futures]
    for job in jobs:
        rig.driver.await_end(job)
    say(f"  killed Redis under {fsync}: {count} jobs ended")
    return jobs


def _asked(rig: Rig, key: str, seconds: float) -> Iterator[tuple[int, float]]:
    """Statuses and latencies of requests that come in for a while."""
    end = time.monotonic() + seconds
    with httpx.Client(base_url=rig.stack.base_url, timeout=10) as http:
        while time.monotonic() < end:
            started = time.monotonic()
            status = http.post("/v1/generate", json=body(0), headers={"Idempotency-Key": key}).status_code
            yield status, time.monotonic() - started
            time.sleep(POLL_S)  # the pace of the requests


@contextmanager
def _frozen(rig: Rig, name: str) -> Iterator[None]:
    """A server that takes connections and says nothing."""
    process = rig.stack.processes[name]
    process.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        process.kill(signal.SIGCONT)


def _lives(rig: Rig) -> dict[str, tuple[int, int]]:
    """Process ids, and how many times each has been started."""
    return {
        name: (rig.stack.processes[name].pid, rig.stack.processes[name].starts)
        for name in ("api", "janitor", *rig.workers)
    }
