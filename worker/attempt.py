"""One attempt at a job: it reports progress, keeps the lease alive and learns when to stop."""

from __future__ import annotations

import threading
import time

from jobs import tracing
from jobs.errors import Canceled, DeadlinePassed, Drained, LeaseLost
from jobs.state import Progress, Record, Result, Stage, fraction
from jobs.store import Store, Verdict, new_attempt_id
from worker.watchdog import Watchdog

ON_DEVICE = (Stage.CONDITIONING, Stage.DENOISING, Stage.DECODING)
PAUSE_S = 1.0


class Attempt:
    """The right to render a job, until it ends or is lost. ``report`` raises where the work must stop."""

    def __init__(
        self, store: Store, job_id: str, *, timeout_s: float, drained: threading.Event, watchdog: Watchdog
    ) -> None:
        self.job_id = job_id
        self.id = new_attempt_id()
        self.timings_s: dict[str, float] = {}
        self._store = store
        self._drained = drained
        self._watchdog = watchdog
        self._verdict: Verdict = "ok"
        self._stage = Stage.LOADING
        self._rests = False
        self._span = tracing.NOTHING
        self._since = time.monotonic()
        self._epoch = time.time() - self._since
        self._ends = self._since + timeout_s

    def claim(self) -> bool:
        """Take the job; False where there is nothing to do."""
        return self._store.claim(self.job_id, self.id)

    def begin(self, record: Record) -> None:
        """Begin the trace of this attempt: its job has been claimed, and has waited until then."""
        parent, at = record.traceparent, self._epoch + self._since
        if record.attempt == 1 and record.started_at is not None:
            waited_s = (record.started_at - record.created_at).total_seconds()
            tracing.begin("queue", parent, at=at - waited_s, job=record.id).end(at=at)
        self._span = tracing.begin(
            "attempt", parent, kind="CONSUMER", at=at, job=record.id, attempt=self.id, number=record.attempt
        )

    def end(self, outcome: str, *, failed: bool = False) -> None:
        """Leave the device for good; ``outcome`` is for the trace."""
        self.rest()
        self._span.end(failed=failed, outcome=outcome)

    def beat(self) -> None:
        """Renew the lease from another thread, so that a long step does not lose it."""
        verdict = self._store.beat(self.job_id, self.id)
        if verdict != "ok":
            self._verdict = verdict

    def report(self, stage: Stage, done: int = 0, total: int = 0) -> None:
        """Publish progress, then stop if someone asked for it.

        Raises:
            Canceled, LeaseLost, DeadlinePassed, Drained: the work must end here.
        """
        self._enter(stage)
        if stage in ON_DEVICE:
            self._watchdog.watch(self.id)
        else:
            self._watchdog.release(self.id)
        progress = Progress(stage=stage, fraction=fraction(stage, done / total if total else 0.0))
        fields = {"stage", "fraction"}
        if stage is Stage.DENOISING:
            progress = progress.model_copy(update={"step": done, "steps": total})
            fields |= {"step", "steps"}
        verdict = self._store.beat(self.job_id, self.id, progress.model_dump(include=fields, mode="json"))
        if verdict != "ok":
            self._verdict = verdict
        self.check()

    def pause(self) -> None:
        """Wait a moment before something is tried again; a drain ends it."""
        self._drained.wait(PAUSE_S)

    def rest(self) -> None:
        """Leave the device; the clock stands until the next stage is reported."""
        self._watchdog.release(self.id)
        self._tally()
        self._rests = True

    def commit(self, result: Result) -> None:
        """Make the result the job's.

        Raises:
            Canceled, LeaseLost: it came too late.
        """
        verdict = self._store.succeed(self.job_id, self.id, result)
        if verdict != "ok":
            self._verdict = verdict
            self.check()

    def finish(self) -> dict[str, float]:
        """Stop the clock: seconds per stage."""
        self._enter(Stage.DONE)
        return {stage: round(seconds, 4) for stage, seconds in self.timings_s.items()}

    def check(self) -> None:
        """Stop if someone asked for it; as ``report``, without a word to Redis."""
        if self._verdict == "lost":
            raise LeaseLost(self.job_id)
        if self._verdict == "cancel":
            raise Canceled(self.job_id)
        if time.monotonic() > self._ends:
            raise DeadlinePassed(self.job_id)
        if self._drained.is_set():
            raise Drained(self.job_id)

    def _enter(self, stage: Stage) -> None:
        if stage is not self._stage:
            self._tally()
            self._stage = stage
            self._rests = False

    def _tally(self) -> None:
        now = time.monotonic()
        if not self._rests:
            seconds = now - self._since
            self.timings_s[self._stage] = self.timings_s.get(self._stage, 0.0) + seconds
            lap = tracing.begin(self._stage, self._span.traceparent, at=self._epoch + self._since)
            lap.end(at=self._epoch + now)
        self._since = now
