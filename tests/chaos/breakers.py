"""Jobs that break the worker that renders them: by killing it each time, or by a call that never returns."""

from __future__ import annotations

import time

from tests.chaos.audit import Auditor
from tests.chaos.rig import Rig
from tests.chaos.row import Outcome, Scale


def poison_pill(rig: Rig, scale: Scale) -> Outcome:  # noqa: ARG001
    """A job that kills each worker that touches it ends by itself, and the workers go on."""
    limit = int(rig.knobs["DRAGANYTHING_MAX_ATTEMPTS"])
    rig.await_workers(1)
    killed = len(rig.deaths)
    rig.faults.arm("mid_step", "kill")
    job = rig.submit(f"poison-{time.time_ns()}")["id"]
    for count in range(1, limit + 1):
        rig.await_death(killed + count)
        if count < limit:
            rig.faults.arm("mid_step", "kill")
    end = rig.driver.await_end(job)
    after = rig.driver.await_end(rig.submit(f"antidote-{time.time_ns()}")["id"])
    return Outcome(
        {
            "the job fails as worker_crashed": end["status"] == "failed"
            and end["error"]["code"] == "worker_crashed",
            "it costs the allowed number of deaths": len(rig.deaths) - killed == limit,
            "the next job succeeds": after["status"] == "succeeded",
        },
        {"deaths": len(rig.deaths) - killed, "limit": limit},
    )


def hung_device(rig: Rig, scale: Scale) -> Outcome:  # noqa: ARG001
    """A call that never returns ends its process, with a traceback, and the job runs elsewhere."""
    rig.await_workers(1)
    killed = len(rig.deaths)
    rig.faults.arm("mid_step", "hang")
    job = rig.submit(f"hung-{time.time_ns()}")["id"]
    rig.faults.await_taken("mid_step")
    hung = time.time()
    death = rig.await_death(killed + 1)
    end = rig.driver.await_end(job)
    log = rig.stack.processes[death.name].log.read_text()
    with Auditor.of(rig.stack) as auditor:
        findings = auditor.audit([job])
    return Outcome(
        {
            "the job succeeds in its second attempt": (end["status"], end["attempt"]) == ("succeeded", 2),
            "the log says where it hung": "Timeout (" in log and "faults.py" in log,
            **findings.promises,
        },
        {
            **findings.figures,
            "stall_s": float(rig.knobs["DRAGANYTHING_STALL_S"]),
            "ended_after_s": death.at - hung,
        },
    )
