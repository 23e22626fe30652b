"""Workers that are frozen for so long that they are taken for dead, and then wake up."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

from tests.chaos.audit import Auditor
from tests.chaos.driver import LONG, View
from tests.chaos.rig import Event, Rig, say
from tests.chaos.row import Outcome, Scale
from tests.harness import until

POINTS = ("mid_step", "before_upload", "after_upload", "before_commit")
SETTLED_S = 10.0
CLOSED = ("job_succeeded", "job_interrupted", "job_failed", "job_abandoned")


def frozen_workers(rig: Rig, scale: Scale) -> Outcome:
    """Freeze a worker at several points of a job's way; wake it when another one has taken the job over.

    In short: in the middle of the steps, while the other renders; elsewhere, when the other has ended the job.
    """
    promises: dict[str, bool] = {}
    jobs = []
    with Auditor.of(rig.stack) as auditor:
        for point in POINTS:
            rig.await_workers()
            job, zombie, closing = _freeze_at(rig, point, scale)
            jobs.append(job)
            record = auditor.record(job)
            assert record.result
            decided = record.result.artifacts["video"].key.split("/")[2]
            loser = record.attempt_id or "" if zombie == decided else zombie
            with suppress(TimeoutError):  # the promise below says so
                until(lambda: not auditor.objects(job, loser), SETTLED_S)  # noqa: B023
            promises |= {
                f"{point}: the job succeeds in its second attempt": record.attempt == 2,
                f"{point}: the woken worker is told that it came too late": closing["event"] == "job_interrupted"
                and closing["by"] == "LeaseLost",
                f"{point}: the other attempt's objects are gone": not auditor.objects(job, loser),
            }
            say(f"  frozen at {point}: {'its' if zombie == decided else 'the other'} result was kept")
        findings = auditor.audit(jobs)
    return Outcome({**promises, **findings.promises}, {**findings.figures, "frozen_s": scale.frozen_s})


def _freeze_at(rig: Rig, point: str, scale: Scale) -> tuple[str, str, Event]:
    """A job that has ended, the id of its frozen attempt, and the last thing that attempt logged."""
    rig.faults.arm(point, "stop")
    size = LONG if point == "mid_step" else {}
    job = rig.submit(f"zombie-{time.time_ns()}", **size)["id"]
    rig.faults.await_taken(point)
    first = rig.events(job, "job_started")[0]
    zombie = first["attempt"]
    until(lambda: rig.stopped(first["worker"]))
    if scale.frozen_s is None:
        rig.driver.await_view(job, lambda shown: point == "mid_step" and _is_second(shown))
    else:
        time.sleep(scale.frozen_s)  # the freeze itself
    rig.stack.processes[first["worker"]].kill(signal.SIGCONT)
    rig.driver.await_end(job)
    until(lambda: _closing(rig, job, zombie), 60)
    return job, zombie, _closing(rig, job, zombie)[0]


def _is_second(shown: View) -> bool:
    return (shown["status"], shown["attempt"]) == ("running", 2)


def _closing(rig: Rig, job: str, attempt: str) -> list[Event]:
    return [event for event in rig.events(job, *CLOSED) if event["attempt"] == attempt]
