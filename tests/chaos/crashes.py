"""Workers that die: once at each point of a job's way, and at random."""

from __future__ import annotations

import json
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.chaos.audit import Auditor
from tests.chaos.driver import TERMINAL
from tests.chaos.faults import POINTS
from tests.chaos.rig import Event, Rig, say
from tests.chaos.row import Outcome, Scale, spread

SEED = 1
STUCK_S = 600.0
"""A job that is next and has not ended after so long will not: kills make a loaded machine slow."""


def random_and_armed_kills(rig: Rig, scale: Scale) -> Outcome:
    """Kill a worker once at each point, then at random while many jobs run.

    Recovery is the time from a worker's death to the start of the next attempt at a job that it held.
    """
    journal = Journal(rig.stack.data_dir.parent / "recoveries.jsonl")
    armed = [_kill_at(rig, point, scale, journal) for point in scale.points]
    jobs = [rig.submit(f"crashes-{number}", number)["id"] for number in range(scale.jobs)]
    say(f"  {len(jobs)} jobs accepted")
    with Killer(rig, scale, random.Random(SEED)) as killer:
        try:
            ended = _await_all(rig, jobs)
        finally:  # also where it is interrupted, to go on later
            journal.add("random", recoveries(rig, jobs))
            journal.add("kills", [float(killer.kills)])
    with Auditor.of(rig.stack) as auditor:
        findings = auditor.audit([*armed, *jobs], _reporter("audited", len(jobs)))
    measured = journal.read()
    return Outcome(
        {"all jobs end": ended == len(jobs), **findings.promises},
        {
            **findings.figures,
            "points": len(armed),
            "random_kills": int(sum(measured.get("kills", []))),
            "recovery_s": spread(measured.get("random", [])),
            "recovery_at_points_s": spread(measured.get("points", [])),
        },
    )


class Journal:
    """Measurements that outlive the run, since the row can be resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, name: str, values: list[float]) -> None:
        """Keep them."""
        with self.path.open("a") as file:
            file.write(json.dumps([name, values]) + "\n")

    def read(self) -> dict[str, list[float]]:
        """All that was kept, by name."""
        kept: dict[str, list[float]] = {}
        for line in self.path.read_text().splitlines():
            name, values = json.loads(line)
            kept.setdefault(name, []).extend(values)
        return kept


class Killer:
    """Kills one worker after the other while the block lasts."""

    def __init__(self, rig: Rig, scale: Scale, dice: random.Random) -> None:
        self.kills = 0
        self._rig = rig
        self._scale = scale
        self._dice = dice
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while self.kills != self._scale.most_kills:
            if self._done.wait(self._dice.uniform(*self._scale.between_kills_s)):
                return
            name = self._dice.choice(self._rig.workers)
            if self._rig.ready(name):
                with suppress(ProcessLookupError):
                    self._rig.stack.processes[name].kill(signal.SIGKILL)
                    self.kills += 1


def recoveries(rig: Rig, job_ids: list[str]) -> list[float]:
    """Seconds from the death of each worker that held one of the jobs to the start of the job's next attempt."""
    wanted = set(job_ids)
    starts: dict[str, Event] = {}
    measured: list[float] = []
    for event in rig.log():
        job_id = event.get("job")
        if event["event"] != "job_started" or job_id not in wanted:
            continue
        if job_id in starts:
            before = starts[job_id]
            deaths = [d.at for d in rig.deaths if d.name == before["worker"] and before["at"] < d.at < event["at"]]
            measured += [event["at"] - death for death in deaths[:1]]
        starts[job_id] = event
    return measured


def _kill_at(rig: Rig, point: str, scale: Scale, journal: Journal) -> str:
    """Have a worker die at a point of a job's way; the job's id, when it has ended."""
    key, number = f"crashes-{point}", POINTS.index(point)
    rig.await_workers(None if scale.spare else 1)
    killed = len(rig.deaths)
    rig.faults.arm(point, "kill")
    job = rig.submit(key, number)
    if job["status"] in TERMINAL:  # of an earlier run
        rig.faults.disarm()
        return str(job["id"])
    rig.faults.await_taken(point)
    death = rig.await_death(killed + 1)
    end = rig.driver.await_end(job["id"])
    again = [event for event in rig.events(job["id"], "job_started") if event["number"] > 1]
    started = [event["at"] for event in again if event["at"] > death.at]
    journal.add("points", [started[0] - death.at] if started else [])
    say(f"  killed at {point}: {end['status']} in attempt {end['attempt']}")
    return str(job["id"])


def _await_all(rig: Rig, jobs: list[str]) -> int:
    """How many end; gives up where nothing ends for long."""
    report = _reporter("ended", len(jobs))
    for ended, job in enumerate(jobs):
        try:
            rig.driver.await_end(job, STUCK_S)
        except TimeoutError as error:
            say(f"  {error}")
            return ended
        report(ended + 1)
    return len(jobs)


def _reporter(verb: str, total: int) -> Callable[[int], None]:
    def report(count: int) -> None:
        if count % 50 == 0:
            say(f"  {count} of {total} {verb}")

    return report
