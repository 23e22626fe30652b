"""What every row runs on: a stack with workers that die, a client, and what the workers' logs say."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from local.stack import COMMANDS, Stack
from tests.chaos.driver import Driver, View, body
from tests.chaos.faults import Faults
from tests.harness import clean_environ, until

KNOBS = {
    "DRAGANYTHING_MODELS": '["tiny"]',
    "DRAGANYTHING_LOG_JSON": "1",
    "DRAGANYTHING_MAX_QUEUED": "100000",
    "DRAGANYTHING_WEBHOOKS_PRIVATE": "1",
    "OMP_NUM_THREADS": "1",
}
READY_S = 120.0
_DEATH = re.compile(r"(\w+) ended with (exit code \d+|signal \w+)")

Event = dict[str, Any]
"""A line of a worker's log."""


@dataclass(frozen=True)
class Death:
    """A process of the stack that ended without being told to by the stack."""

    name: str
    at: float
    """Seconds since the epoch."""
    how: str


@dataclass
class Rig:
    """A running stack and everything that a row does to it."""

    stack: Stack
    driver: Driver
    faults: Faults
    workers: tuple[str, ...]
    knobs: Mapping[str, str]
    deaths: list[Death] = field(default_factory=list)
    _seen_ready: set[tuple[str, int]] = field(default_factory=set)

    @classmethod
    @contextmanager
    def standing(cls, directory: Path, knobs: Mapping[str, str], workers: int = 2) -> Iterator[Self]:
        """A rig whose workers are all ready; without any, the servers alone. ``directory`` keeps the data."""
        names = tuple("worker" if number == 1 else f"worker{number}" for number in range(1, workers + 1))
        commands = {**COMMANDS, **dict.fromkeys(names, COMMANDS["worker"])} if names else {}
        faults = Faults(directory / "faults")
        deaths: list[Death] = []
        told = {**KNOBS, "DRAGANYTHING_FAULTS": str(faults.directory), **knobs}

        def bury(message: str) -> None:
            if found := _DEATH.match(message):
                deaths.append(Death(found[1], time.time(), found[2]))

        with (
            Stack(
                directory / "data", environ=clean_environ(told), commands=commands, ready_s=READY_S, report=bury
            ) as stack,
            Driver.connected(stack.base_url) as driver,
        ):
            rig = cls(stack, driver, faults, names, told, deaths)
            rig.await_workers()
            yield rig

    def submit(self, key: str, number: int = 0, **changes: Any) -> View:
        """Have a job accepted."""
        return self.driver.submit(key, body(number, **changes))

    def ready(self, worker: str) -> bool:
        """Whether the worker lives, and has loaded its model in this life."""
        process = self.stack.processes[worker]
        if process.starts - 1 != sum(death.name == worker for death in self.deaths):
            return False  # between two lives
        life = (worker, process.starts)
        if life not in self._seen_ready and any(
            event["event"] == "worker_ready" for event in _events(process.tail(10**6))
        ):
            self._seen_ready.add(life)
        return life in self._seen_ready

    def await_workers(self, count: int | None = None) -> None:
        """Wait until so many workers, left out: all, take jobs."""
        wanted = len(self.workers) if count is None else count
        until(lambda: sum(map(self.ready, self.workers)) >= wanted, READY_S)

    def events(self, job_id: str, *names: str) -> list[Event]:
        """What the workers logged about a job, in order; ``worker`` says which of them."""
        return [event for event in self.log() if event.get("job") == job_id and event["event"] in names]

    def log(self) -> list[Event]:
        """The lines of the workers' logs, in order, each with its ``worker`` and ``at``: epoch seconds."""
        events = [
            {**event, "worker": worker}
            for worker in self.workers
            for event in _events(self.stack.processes[worker].log.read_text())
        ]
        return sorted(events, key=lambda event: float(event["at"]))

    def holder(self, job_id: str) -> str | None:
        """The worker that started the job last."""
        started = self.events(job_id, "job_started")
        return str(started[-1]["worker"]) if started else None

    def await_death(self, count: int, timeout_s: float = 60.0) -> Death:
        """The ``count``-th death since the rig stands."""
        until(lambda: len(self.deaths) >= count, timeout_s)
        return self.deaths[count - 1]

    def stopped(self, name: str) -> bool:
        """Whether a signal has stopped the process."""
        stat = Path(f"/proc/{self.stack.processes[name].pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"


def _events(text: str) -> Iterator[Event]:
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                event = json.loads(line)
            except ValueError:  # cut off by a death
                continue
            event["at"] = datetime.fromisoformat(event["timestamp"]).timestamp()
            yield event


def say(message: str) -> None:
    """Progress, for who watches."""
    print(message, file=sys.stderr, flush=True)
