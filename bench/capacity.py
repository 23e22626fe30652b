"""``python -m bench.capacity``: how long jobs would wait, and what the GPUs would cost, for any fleet.

A discrete-event simulation of the engine's own rules: a queue in order of arrival, workers that take one job at a
time, an autoscaler that looks at the queue now and then, cold starts, spot machines that go away, leases that run
out, and jobs that go back to their old place. Everything that is random comes from the seed. ``--redis`` measures
instead what one Valkey carries (``bench.store``).
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

import numpy as np

HOUR, DAY = 3600.0, 24 * 3600.0


@dataclass(frozen=True)
class Fleet:
    """What is simulated; times in seconds. Where a default comes from: ``SOURCES``."""

    gpus: int = 1
    """At most."""
    resting: int | None = None
    """Workers that are kept though nothing is to do; left out, all of them, always."""
    render_s: float = 20.0
    """For which a job keeps its worker from the next one."""
    spread: float = 0.2
    """Standard deviation of that, as a share of it (lognormal)."""
    poll_s: float = 30.0
    """Between two looks of the autoscaler."""
    start_s: float = 180.0
    """From asking for a worker until it takes its first job: machine, image, weights."""
    cooldown_s: float = 300.0
    """A worker that has idled for this long is given back."""
    losses_per_h: float = 0.0
    """Of one worker: how often its machine is taken away without a word."""
    lease_s: float = 7.0
    """Until its job is queued again: ``lease_s`` and a round of the janitor."""
    max_attempts: int = 3
    price_per_h: float = 3.0
    """Of a GPU, paid from asking for it until it is given back."""


SOURCES = {
    "render_s": "assumed: nothing was measured on a GPU",
    "spread": "assumed",
    "poll_s": "KEDA's default",
    "start_s": "assumed",
    "cooldown_s": "the default of KEDA and of Kubernetes' autoscaler",
    "losses_per_h": "assumed: 0 unless the scenario says spot, then 0.05",
    "lease_s": "the settings' defaults",
    "max_attempts": "the settings' default",
    "price_per_h": "assumed, in any currency",
}


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    jobs: int
    failed: int
    lost_attempts: int
    wait_p50_s: float
    wait_p95_s: float
    wait_mean_s: float
    gpu_hours: float
    busy_share: float
    cost_per_1000: float


@dataclass
class _Worker:
    asked_at: float
    idle_since: float | None = None
    job: int | None = None
    lost_at: float = math.inf


class Simulation:
    """One run. ``arrivals`` in order of time; ``seconds`` draws how long a job takes."""

    def __init__(
        self, fleet: Fleet, arrivals: list[float], dice: Random, seconds: Callable[[], float] | None = None
    ) -> None:
        self._fleet = fleet
        self._arrivals = arrivals
        self._dice = dice
        self._seconds = seconds or (lambda: _lognormal(dice, fleet.render_s, fleet.spread))
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self._waiting: list[int] = []
        self._workers: set[int] = set()
        self._state: dict[int, _Worker] = {}
        self._idle: list[int] = []
        self._began: dict[int, float] = {}
        self._attempts = [0] * len(arrivals)
        self._left = len(arrivals)
        self._lost = self._failed = 0
        self._paid_s = self._busy_s = 0.0

    def run(self) -> Outcome:
        """Until the last job has ended."""
        resting = self._fleet.gpus if self._fleet.resting is None else self._fleet.resting
        for _ in range(resting):
            self._ready(self._ask(0.0), 0.0)
        for job, at in enumerate(self._arrivals):
            self._at(at, lambda now, job=job: self._queue(job, now))  # type: ignore[misc]
        if resting < self._fleet.gpus or self._fleet.losses_per_h:
            self._at(0.0, self._scale)
        now = 0.0
        while self._left:
            now, _, act = heapq.heappop(self._events)
            act(now)
        self._paid_s += sum(now - worker.asked_at for worker in self._state.values())
        waits = np.array([self._began[job] - self._arrivals[job] for job in range(len(self._arrivals))])
        hours = self._paid_s / HOUR
        return Outcome(
            jobs=len(waits),
            failed=self._failed,
            lost_attempts=self._lost,
            wait_p50_s=round(float(np.quantile(waits, 0.5)), 1),
            wait_p95_s=round(float(np.quantile(waits, 0.95)), 1),
            wait_mean_s=round(float(waits.mean()), 3),
            gpu_hours=round(hours, 3),
            busy_share=round(self._busy_s / self._paid_s, 3),
            cost_per_1000=round(1000 * hours * self._fleet.price_per_h / len(waits), 2),
        )

    def _at(self, time: float, act: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, act))

    def _queue(self, job: int, now: float) -> None:
        heapq.heappush(self._waiting, job)  # a job's number is its place: one that comes back has its old one
        self._assign(now)

    def _assign(self, now: float) -> None:
        while self._waiting and self._idle:
            name, job = self._idle.pop(), heapq.heappop(self._waiting)
            worker = self._state[name]
            worker.idle_since, worker.job = None, job
            self._began.setdefault(job, now)
            self._attempts[job] += 1
            ends = now + self._seconds()
            if worker.lost_at >= ends:
                self._at(ends, lambda at, name=name, began=now: self._finish(name, began, at))  # type: ignore[misc]

    def _finish(self, name: int, began: float, now: float) -> None:
        self._busy_s += now - began
        self._left -= 1
        self._ready(name, now)

    def _ask(self, now: float) -> int:
        self._count += 1
        self._state[self._count] = _Worker(now)
        return self._count

    def _ready(self, name: int, now: float) -> None:
        worker = self._state[name]
        if self._fleet.losses_per_h and worker.lost_at == math.inf:
            worker.lost_at = now + self._dice.expovariate(self._fleet.losses_per_h) * HOUR
            self._at(worker.lost_at, lambda at: self._lose(name, at))
        worker.idle_since, worker.job = now, None
        self._idle.append(name)
        self._assign(now)

    def _lose(self, name: int, now: float) -> None:
        worker = self._state.get(name)
        if worker is None:  # it was given back before
            return
        self._drop(name, now)
        if worker.job is None:
            self._idle.remove(name)
            return
        self._lost += 1
        if self._attempts[worker.job] < self._fleet.max_attempts:
            self._at(now + self._fleet.lease_s, lambda at, job=worker.job: self._queue(job, at))  # type: ignore[misc]
        else:
            self._failed += 1
            self._left -= 1

    def _drop(self, name: int, now: float) -> None:
        self._paid_s += now - self._state.pop(name).asked_at

    def _scale(self, now: float) -> None:
        """One worker for each job that waits or runs, within the limits; what has idled too long goes."""
        fleet = self._fleet
        least = fleet.gpus if fleet.resting is None else fleet.resting
        busy = sum(worker.job is not None for worker in self._state.values())
        wanted = min(max(len(self._waiting) + busy, least), fleet.gpus)
        for _ in range(wanted - len(self._state)):
            name = self._ask(now)
            self._at(now + fleet.start_s, lambda at, name=name: self._ready(name, at))  # type: ignore[misc]
        for name in sorted(self._idle):
            since = self._state[name].idle_since
            if len(self._state) > wanted and since is not None and now - since >= fleet.cooldown_s:
                self._idle.remove(name)
                self._drop(name, now)
        self._at(now + fleet.poll_s, self._scale)


def _lognormal(dice: Random, mean: float, spread: float) -> float:
    sigma = math.sqrt(math.log1p(spread**2))
    return dice.lognormvariate(math.log(mean) - sigma**2 / 2, sigma) if spread else mean


def poisson(rate_per_s: float, until_s: float, dice: Random, peak: float = 1.0) -> Iterator[float]:
    """Times of arrival; with a ``peak`` (1 to 2) the rate swings over a day, up to so many times its mean."""
    now = 0.0
    while (now := now + dice.expovariate(rate_per_s * peak)) < until_s:
        swing = 1 - (peak - 1) * math.cos(2 * math.pi * now / DAY)
        if dice.random() < swing / peak:  # thinning (Lewis and Shedler, 1979)
            yield now


def erlang_c(servers: int, load: float) -> float:
    """The share of jobs that wait in M/M/c (Erlang, 1917). ``load``: arrivals times service."""
    blocked = 1.0
    for number in range(1, servers + 1):  # Erlang B, by its recursion
        blocked = load * blocked / (number + load * blocked)
    return servers * blocked / (servers - load * (1 - blocked))


def scenarios(fleet: Fleet, use: float, hours: float, seed: int) -> Iterator[tuple[str, Outcome]]:
    """A fleet under several kinds of load, all from one seed. ``use``: the mean load, as a share of the fleet."""
    rate = use * fleet.gpus / fleet.render_s
    few = max(1, fleet.gpus // 10)
    day = list(poisson(rate / 2, hours * HOUR, _dice(seed), peak=2.0))
    yield "steady, fixed fleet", _run(fleet, list(poisson(rate, hours * HOUR, _dice(seed))), seed)
    yield "daily peak, fixed fleet", _run(fleet, day, seed)
    yield "daily peak, scaled", _run(replace(fleet, resting=few), day, seed)
    spot = replace(fleet, resting=few, losses_per_h=fleet.losses_per_h or 0.05)
    yield "daily peak, scaled, spot", _run(spot, day, seed)
    burst = [0.0] * (10 * fleet.gpus)
    yield "10 jobs per GPU at once, from 0", _run(replace(fleet, resting=0), burst, seed)


def _run(fleet: Fleet, arrivals: list[float], seed: int) -> Outcome:
    return Simulation(fleet, arrivals, _dice(seed + 1)).run()


def _dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - chance, no secret


def main() -> None:
    """Simulate and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument(
        "--use", type=float, default=0.7, help="mean load of the fixed fleet; half of it on the day"
    )
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--redis", action="store_true", help="measure what one Valkey carries instead")
    for name in SOURCES:
        default = getattr(Fleet(), name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=SOURCES[name])
    given = parser.parse_args()
    if given.redis:
        from bench.store import report

        print(report(given.json))
        return
    base = Fleet(**{name: getattr(given, name) for name in SOURCES})
    rows = [
        {"gpus": gpus, "load": load, **asdict(outcome)}
        for gpus in given.gpus
        for load, outcome in scenarios(replace(base, gpus=gpus), given.use, given.hours, given.seed)
    ]
    inputs = {name: getattr(base, name) for name in SOURCES}
    print(json.dumps({"inputs": inputs, "rows": rows}, indent=2) if given.json else table(inputs, rows))


def table(inputs: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """In Markdown."""
    told = [f"| `{name}` | {value:g} | {SOURCES[name]} |" for name, value in inputs.items()]
    names = (
        "GPUs",
        "load",
        "jobs",
        "wait p50",
        "wait p95",
        "GPU hours",
        "busy",
        "lost attempts",
        "per 1,000 videos",
    )
    lines = [
        f"| {row['gpus']} | {row['load']} | {row['jobs']:,} | {row['wait_p50_s']:g} s | {row['wait_p95_s']:g} s"
        f" | {row['gpu_hours']:,.1f} | {row['busy_share']:.0%} | {row['lost_attempts']}"
        f" | {row['cost_per_1000']:.2f} |"
        for row in rows
    ]
    heads = [_head("input", "value", "where from"), _head(*names)]
    return "\n".join([heads[0], *told, "", heads[1], *lines])


def _head(*names: str) -> str:
    return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}"


if __name__ == "__main__":
    main()
