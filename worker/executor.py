"""The way of a job through a worker: claim, render, end. Every claimed attempt ends in exactly one way."""

from __future__ import annotations

import threading

import structlog
import torch
from botocore.exceptions import ClientError
from redis import Redis
from redis.exceptions import RedisError

from jobs import queue
from jobs.errors import (
    Canceled,
    DeadlinePassed,
    DragAnythingError,
    Drained,
    Interruption,
    LeaseLost,
    NotFound,
    Unavailable,
)
from jobs.settings import Settings
from jobs.spec import JobSpec
from jobs.state import Failure, Result
from jobs.storage import Storage, attempt_prefix
from jobs.store import Store
from model import DragAnythingPipeline
from worker.attempt import Attempt
from worker.pulse import Pulse
from worker.render import DamagedInput, NotFinite, render

log = structlog.get_logger()


class Executor:
    """Renders jobs, one at a time, on the pipelines that this process holds."""

    def __init__(
        self,
        pipelines: dict[str, DragAnythingPipeline],
        redis: Redis,
        storage: Storage,
        settings: Settings,
        pulse: Pulse,
        drained: threading.Event,
    ) -> None:
        self._pipelines = pipelines
        self._redis = redis
        self._store = Store(redis, settings)
        self._storage = storage
        self._settings = settings
        self._pulse = pulse
        self._drained = drained

    def execute(self, job_id: str) -> None:
        """Render a job if it is still to be rendered. An error of the job is the job's end, not the worker's.

        Where Redis stays away, nobody here knows whether the record has moved on: nothing is touched, and the
        lease decides.
        """
        attempt = Attempt(self._store, job_id, timeout_s=self._settings.job_timeout_s, drained=self._drained)
        with structlog.contextvars.bound_contextvars(job=job_id, attempt=attempt.id):
            try:
                if attempt.claim():
                    self._attend(attempt)
            except (RedisError, NotFound) as error:
                log.warning("job_abandoned", error=str(error))

    def _attend(self, attempt: Attempt) -> None:
        self._pulse.attempt = attempt
        try:
            record = self._store.get(attempt.job_id)
            log.info("job_started", model=record.model, number=record.attempt)
            result = self._render(JobSpec.model_validate(record.spec), attempt)
            attempt.commit(result)
            log.info("job_succeeded", seconds=round(sum(result.timings_s.values()), 3))
        except RedisError:
            raise
        except Interruption as interruption:
            log.info("job_interrupted", by=type(interruption).__name__)
            self._stop(interruption, attempt)
            self._discard(attempt)
        except Exception as error:  # one job's failure must not end the worker
            log.exception("job_failed")
            self._store.fail(attempt.job_id, attempt.id, explain(error))
            self._discard(attempt)
        finally:
            self._pulse.attempt = None

    def _render(self, spec: JobSpec, attempt: Attempt) -> Result:
        pipeline = self._pipelines[spec.model]
        try:
            return render(spec, pipeline, self._storage, attempt)
        except torch.OutOfMemoryError:
            log.warning("out_of_memory_once")
        # not in the handler, where the traceback still holds the tensors of the first try
        torch.cuda.empty_cache()
        return render(spec, pipeline, self._storage, attempt)

    def _stop(self, interruption: Interruption, attempt: Attempt) -> None:
        match interruption:
            case Canceled():
                self._store.end_canceled(attempt.job_id, attempt.id)
            case DeadlinePassed():
                detail = f"The job ran longer than {self._settings.job_timeout_s:g} s."
                self._store.fail(attempt.job_id, attempt.id, Failure(code="timeout", detail=detail))
            case Drained():
                if self._store.hand_back(attempt.job_id, attempt.id):
                    record = self._store.get(attempt.job_id)
                    queue.enqueue(self._redis, record.id, record.model, record.priority, at_front=True)
            case LeaseLost():
                pass  # whoever holds the job now ends it

    def _discard(self, attempt: Attempt) -> None:
        """Delete what a fruitless attempt stored, after its end is on record; what stays goes with the job."""
        try:
            self._storage.delete(attempt_prefix(attempt.job_id, attempt.id))
        except (DragAnythingError, ClientError) as error:
            log.warning("objects_left", error=str(error))


def explain(error: Exception) -> Failure:
    """What a user may know of an error: a stable code and what to do, never a traceback."""
    match error:
        case torch.OutOfMemoryError():
            detail = (
                "The device has too little memory for this job, twice; ask for fewer frames or a smaller size."
            )
            return Failure(code="out_of_memory", detail=detail)
        case NotFound() | DamagedInput():
            return Failure(code="input_lost", detail="An input is gone or can not be decoded; submit it again.")
        case Unavailable():
            return Failure(code="storage_away", detail="The object store did not answer; submit the job again.")
        case NotFinite():
            return Failure(code="not_finite", detail="The model produced no finite numbers; try another seed.")
        case ValueError():
            return Failure(code="invalid_job", detail=str(error))
        case _:
            return Failure(
                code="render_failed", detail=f"Rendering failed ({type(error).__name__}); it was logged."
            )
