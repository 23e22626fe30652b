"""The way of a job through a worker: claim, denoise, finish, end. Every claimed attempt ends in exactly one way.

The device is kept busy: while one job denoises, the job before it is decoded, encoded and uploaded in a thread of
its own (its tail), and the inputs of the job after it are fetched.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

import structlog
import torch
from botocore.exceptions import ClientError
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from evaluation.tracking import FlowTracker, Tracker
from jobs import faults
from jobs.errors import (
    Canceled,
    DeadlinePassed,
    DragAnythingError,
    Drained,
    Interruption,
    LeaseLost,
    NotFound,
)
from jobs.eta import Pace
from jobs.queue import wake
from jobs.settings import Settings
from jobs.spec import JobSpec
from jobs.state import Failure, Record, Result, Stage
from jobs.storage import Storage, attempt_prefix, decision_key, inputs_prefix, job_prefix
from jobs.store import Store
from jobs.tracing import trace_id
from model import DragAnythingPipeline
from worker import telemetry
from worker.attempt import Attempt
from worker.failures import explain
from worker.inputs import Inputs
from worker.pulse import Pulse
from worker.render import Denoised, denoise, finish, insist
from worker.watchdog import Watchdog

log = structlog.get_logger()

CANDIDATES = 8
"""Jobs to try when another worker takes the first."""
DEVICE_LOST = 70
"""The exit code: EX_SOFTWARE."""
UNREADABLE = Failure(
    code="invalid_job", detail="The workers can not read this job: another version wrote it. Submit it again."
)


@dataclass(frozen=True)
class _Work:
    """An attempt and what it renders; ``alone`` is the second try of one that ran out of memory."""

    attempt: Attempt
    record: Record
    spec: JobSpec
    alone: bool = False


class Executor:
    """Renders jobs on the pipelines that this process holds."""

    def __init__(
        self,
        pipelines: dict[str, DragAnythingPipeline],
        redis: Redis,
        storage: Storage,
        settings: Settings,
        pulse: Pulse,
        drained: threading.Event,
        tracker: Tracker | None = None,
    ) -> None:
        self._pipelines = pipelines
        self._tracker = tracker or FlowTracker()
        self._redis = redis
        self._store = Store(redis, settings)
        self._storage = storage
        self._settings = settings
        self._pulse = pulse
        self._drained = drained
        self._watchdog = Watchdog(settings.stall_s)
        self._pace = Pace(redis)
        self._inputs = Inputs(self._store, storage, list(pipelines))
        self._pool = ThreadPoolExecutor(1, "tail")
        self._tail: Future[None] | None = None
        self._again: deque[_Work] = deque()
        self._denoised_at: float | None = None

    def execute_next(self) -> bool:
        """Render the job that is next, up to its tail; False where none is waiting.

        An error of a job is that job's end, not the worker's. Where Redis stays away, nobody here knows whether
        the record has moved on: nothing is touched, and the lease decides.
        """
        work = self._again.popleft() if self._again else self._claim()
        if work is None:
            self._denoised_at = None
            return False
        with structlog.contextvars.bound_contextvars(**_told(work)):
            if work.alone:
                self.settle()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            denoised = self._denoise(work)
            if denoised is None:
                return True
            self.settle()
            context = contextvars.copy_context()
            self._tail = self._pool.submit(context.run, self._finish, work, denoised)
            if work.alone:
                self.settle()
        return True

    def settle(self) -> None:
        """Wait for the tail of the last job."""
        if self._tail is not None:
            self._tail.result()
            self._tail = None

    def close(self) -> None:
        """Bring what was begun to its end, or back to the queue where the worker is drained."""
        self.settle()
        while self._again:
            self.execute_next()
            self.settle()

    def _claim(self) -> _Work | None:
        for job_id in self._store.next(self._pipelines, CANDIDATES):
            attempt = Attempt(
                self._store,
                job_id,
                timeout_s=self._settings.job_timeout_s,
                drained=self._drained,
                watchdog=self._watchdog,
            )
            with suppress(NotFound):
                if attempt.claim():
                    self._pulse.attempts.add(attempt)
                    faults.reach("after_claim")
                    if work := self._read(attempt):
                        return work
        return None

    def _read(self, attempt: Attempt) -> _Work | None:
        """What an attempt renders; None where this version can not read the job, which ends it."""
        with ExitStack() as on_error:
            # or the pulse would keep its lease alive for ever
            on_error.callback(self._release, attempt, "unreadable", failed=True)
            try:
                record = self._store.get(attempt.job_id)
                attempt.begin(record)
                work = _Work(attempt, record, JobSpec.model_validate(record.spec))
            except ValidationError:
                log.exception("job_unreadable", job=attempt.job_id)
                self._store.fail(attempt.job_id, attempt.id, UNREADABLE)
                return None
            on_error.pop_all()
        return work

    def _denoise(self, work: _Work) -> Denoised | None:
        attempt, record = work.attempt, work.record
        with self._ended_on_error(work):
            log.info("job_started", model=record.model, number=record.attempt)
            if record.attempt > 1 and self._adopt(work):
                return None
            attempt.report(Stage.LOADING)
            scene = insist(lambda: self._inputs.scene(record.id, work.spec), attempt, Stage.LOADING)
            started = time.monotonic()
            pipeline = self._pipelines[record.model]
            denoised = denoise(work.spec, scene, pipeline, attempt, self._inputs.look_ahead)
            idle_s = None if self._denoised_at is None else round(started - self._denoised_at, 4)
            self._denoised_at = time.monotonic()
            log.info("job_denoised", seconds=round(self._denoised_at - started, 4), idle_s=idle_s)
            telemetry.note_denoised(self._denoised_at - started, idle_s)
            attempt.rest()
            return denoised
        return None

    def _finish(self, work: _Work, denoised: Denoised) -> None:
        attempt, record = work.attempt, work.record
        with self._ended_on_error(work):
            pipeline = self._pipelines[record.model]
            result = finish(work.spec, denoised, pipeline, self._storage, attempt, self._tracker)
            ours = result.model_dump_json().encode()
            decided = Result.model_validate_json(
                insist(
                    lambda: self._storage.put_once(decision_key(record.id), ours, "application/json"),
                    attempt,
                    Stage.UPLOADING,
                )
            )
            faults.reach("before_commit")
            self._commit(work, decided)
            telemetry.note_stages(record.model, result.timings_s)
            self._pace.learn(record, result.timings_s)

    def _adopt(self, work: _Work) -> bool:
        """Commit what an earlier attempt decided on before it died, if one did."""
        decided = insist(lambda: self._decided(work.record.id), work.attempt, Stage.LOADING)
        if decided is not None:
            self._commit(work, decided)
        return decided is not None

    def _commit(self, work: _Work, decided: Result) -> None:
        attempt = work.attempt
        attempt.commit(decided)
        faults.reach("after_commit")
        log.info("job_succeeded", seconds=round(sum(decided.timings_s.values()), 3))
        if work.record.attempt > 1 or _files_of(decided) != attempt_prefix(attempt.job_id, attempt.id):
            self._sweep(attempt.job_id, decided)
        self._release(attempt, "succeeded")

    def _release(self, attempt: Attempt, outcome: str, *, failed: bool = False) -> None:
        faults.reach("before_release")
        attempt.end(outcome, failed=failed)
        self._pulse.attempts.discard(attempt)

    @contextmanager
    def _ended_on_error(self, work: _Work) -> Iterator[None]:
        """Where a part of an attempt can not go on, the attempt ends here."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - one job's failure must not end the worker
            try:
                over = self._end(work, error)
            except RedisError as away:
                over = True
                log.warning("job_abandoned", error=str(away))
            if over:
                self._release(work.attempt, type(error).__name__, failed=not isinstance(error, Interruption))

    def _end(self, work: _Work, error: Exception) -> bool:
        """End an attempt for a reason; False where it is to be tried again."""
        attempt = work.attempt
        match error:
            case RedisError():
                raise error
            case Interruption():
                log.info("job_interrupted", by=type(error).__name__)
                self._stop(error, work)
            case torch.AcceleratorError():  # no later call on this device can succeed
                log.error("device_lost", exc_info=error)
                os._exit(DEVICE_LOST)
            case torch.OutOfMemoryError() if not work.alone:
                log.warning("out_of_memory_once")
                self._again.append(replace(work, alone=True))
                return False
            case _:
                log.error("job_failed", exc_info=error)
                self._store.fail(attempt.job_id, attempt.id, explain(error))
        self._discard(attempt)
        return True

    def _stop(self, interruption: Interruption, work: _Work) -> None:
        attempt = work.attempt
        match interruption:
            case Canceled():
                if self._store.end_canceled(attempt.job_id, attempt.id) == "ok":
                    self._delete(job_prefix(attempt.job_id), keep=[inputs_prefix(attempt.job_id)])
            case DeadlinePassed():
                detail = f"The job ran longer than {self._settings.job_timeout_s:g} s."
                self._store.fail(attempt.job_id, attempt.id, Failure(code="timeout", detail=detail))
            case Drained():
                if self._store.hand_back(attempt.job_id, attempt.id):
                    wake(self._redis, work.record.model)
            case LeaseLost():
                pass  # whoever holds the job now ends it

    def _discard(self, attempt: Attempt) -> None:
        """Delete what a fruitless attempt stored, after its end is on record; what stays goes with the job.

        An attempt whose files were decided on keeps them: the next attempt commits them.
        """
        mine = attempt_prefix(attempt.job_id, attempt.id)
        try:
            decided = self._decided(attempt.job_id)
        except (DragAnythingError, ClientError) as error:
            log.warning("objects_left", error=str(error))
            return
        if decided is None or _files_of(decided) != mine:
            self._delete(mine)

    def _sweep(self, job_id: str, decided: Result) -> None:
        """Delete what other attempts at a job have left behind."""
        self._delete(job_prefix(job_id), keep=[inputs_prefix(job_id), decision_key(job_id), _files_of(decided)])

    def _delete(self, prefix: str, keep: Sequence[str] = ()) -> None:
        try:
            self._storage.delete(prefix, keep=keep)
        except (DragAnythingError, ClientError) as error:
            log.warning("objects_left", error=str(error))

    def _decided(self, job_id: str) -> Result | None:
        try:
            return Result.model_validate_json(self._storage.get(decision_key(job_id)))
        except NotFound:
            return None


def _told(work: _Work) -> dict[str, str]:
    """What each line of the log says of the attempt that it belongs to."""
    told = {"job": work.record.id, "attempt": work.attempt.id}
    return told if work.record.traceparent is None else told | {"trace": trace_id(work.record.traceparent)}


def _files_of(result: Result) -> str:
    """The prefix under which the files of a result lie."""
    return result.artifacts["video"].key.rpartition("/")[0] + "/"
