"""Workers that are told to stop, by SIGTERM, in the middle of a job."""

from __future__ import annotations

import signal
import time

from tests.chaos.audit import Auditor
from tests.chaos.driver import LONG, TERMINAL
from tests.chaos.rig import Death, Rig, say
from tests.chaos.row import Outcome, Scale, spread


def drained_workers(rig: Rig, scale: Scale) -> Outcome:
    """Drain whichever worker holds the job, again and again: the job moves on and loses nothing but time."""
    deaths: list[Death] = []
    exits_s: list[float] = []
    jobs: list[str] = []
    while len(deaths) < scale.drains:
        if not jobs or rig.driver.view(jobs[-1])["status"] in TERMINAL:
            jobs.append(rig.submit(f"drains-{time.time_ns()}", 0, **LONG)["id"])
        if rig.driver.await_step(jobs[-1])["status"] in TERMINAL:
            continue  # it was faster than we
        holder = rig.holder(jobs[-1])
        assert holder
        buried, told = len(rig.deaths), time.time()
        rig.stack.processes[holder].kill(signal.SIGTERM)
        deaths.append(rig.await_death(buried + 1))
        exits_s.append(deaths[-1].at - told)
        if len(deaths) % 10 == 0:
            say(f"  {len(deaths)} of {scale.drains} drains")
    ends = [rig.driver.await_end(job) for job in jobs]
    handed_back = sum(len(rig.events(job, "job_interrupted")) for job in jobs)
    with Auditor.of(rig.stack) as auditor:
        findings = auditor.audit(jobs)
    return Outcome(
        {
            "each worker exits with 0": {death.how for death in deaths} == {"exit code 0"},
            "no attempt is spent": {end["attempt"] for end in ends} == {1},
            **findings.promises,
        },
        {
            **findings.figures,
            "drains": len(deaths),
            "handed_back": handed_back,
            "attempts_spent": sum(end["attempt"] - 1 for end in ends),
            "exit_s": spread(exits_s),
        },
    )
