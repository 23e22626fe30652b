"""Many jobs through the same processes: memory, open descriptors, and how good the predictions are."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from tests.chaos.audit import Auditor
from tests.chaos.driver import View
from tests.chaos.rig import Rig, say
from tests.chaos.row import Outcome, Scale

EVERY = 10
"""Jobs between two samples, at most."""
WARM_UP = 0.2
"""The share of the jobs after which a process should have all that it keeps."""
MOST_NEW_DESCRIPTORS = 8


@dataclass(frozen=True)
class Sample:
    """What a process holds after so many jobs."""

    jobs: int
    resident_mb: float
    descriptors: int


def soak(rig: Rig, scale: Scale) -> Outcome:
    """Keep a few jobs in flight until many have gone through."""
    rig.await_workers()
    names = ("api", "janitor", *rig.workers)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    flight: deque[View] = deque()
    ended: list[View] = []
    errors: list[float] = []
    run = time.time_ns()
    for number in range(scale.soak + scale.window):
        if number < scale.soak:
            flight.append(rig.submit(f"soak-{run}-{number}", number))
        if number < scale.window:
            continue
        accepted = flight.popleft()
        ended.append(rig.driver.await_end(accepted["id"]))
        errors += _relative_error(accepted, ended[-1])
        if len(ended) % min(EVERY, scale.window) == 0:
            for name in names:
                samples[name].append(_sample(len(ended), rig.stack.processes[name].pid))
        if len(ended) % 100 == 0:
            say(f"  {len(ended)} of {scale.soak} jobs")
    with Auditor.of(rig.stack) as auditor:
        findings = auditor.audit(job["id"] for job in ended)
    warm = {name: [s for s in taken if s.jobs >= WARM_UP * scale.soak] for name, taken in samples.items()}
    slopes = {name: _mb_per_100_jobs(taken) for name, taken in warm.items()}
    opened = {name: taken[-1].descriptors - taken[0].descriptors for name, taken in warm.items()}
    limit = scale.most_mb_per_100_jobs
    return Outcome(
        {
            "no descriptor leaks": max(opened.values()) <= MOST_NEW_DESCRIPTORS,
            "memory does not grow": limit is None or max(slopes.values()) <= limit,
            **findings.promises,
        },
        {
            **findings.figures,
            "mb_per_100_jobs": slopes,
            "resident_mb": {name: round(taken[-1].resident_mb, 1) for name, taken in warm.items()},
            "new_descriptors": opened,
            "descriptors": {name: taken[-1].descriptors for name, taken in warm.items()},
            "eta_median_relative_error": round(float(np.median(errors)), 3) if errors else None,
            "eta_predictions": len(errors),
        },
    )


def _relative_error(accepted: View, ended: View) -> list[float]:
    """How far off the end was that was predicted on acceptance; empty where none was."""
    if accepted["eta_s"] is None:
        return []
    took = datetime.fromisoformat(ended["finished_at"]) - datetime.fromisoformat(ended["created_at"])
    return [abs(accepted["eta_s"] - took.total_seconds()) / took.total_seconds()]


def _sample(jobs: int, pid: int) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    resident_kb = int(status.partition("VmRSS:")[2].split()[0])
    return Sample(jobs, resident_kb / 1024, len([*Path(f"/proc/{pid}/fd").iterdir()]))


def _mb_per_100_jobs(samples: list[Sample]) -> float:
    """Least squares; 0 where there are too few."""
    if len(samples) < 3:
        return 0.0
    slope = np.polyfit([s.jobs for s in samples], [s.resident_mb for s in samples], 1)[0]
    return round(100 * float(slope), 3)
