"""A row of the table in docs/reliability.md: what is done to the service, what it promises, what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.chaos.faults import POINTS
from tests.chaos.rig import Rig


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    jobs: int = 1000
    points: Sequence[str] = POINTS
    """Each of them kills one worker."""
    spare: bool = True
    """Before each armed death, wait for all workers, so that recovery does not include the start of one."""
    between_kills_s: tuple[float, float] = (5.0, 15.0)
    most_kills: int | None = None
    redis_kills: int = 5
    redis_jobs: int = 20
    """Submitted around each of these deaths."""
    away_s: float = 30.0
    answer_s: float | None = 1.0
    """The longest that a request may wait while Redis is away. None: not judged, only measured."""
    frozen_s: float | None = 60.0
    """None: until the lease has been taken over."""
    drains: int = 100
    cancels: int = 30
    posts: int = 100
    webhooks: int = 300
    webhook_kills: int = 10
    outlast_leases: bool = True
    """What a killed sender held is left until its lease runs out."""
    examples: int = 2000
    soak: int = 500
    window: int = 8
    """Jobs in flight during the soak."""
    most_mb_per_100_jobs: float | None = 1.0
    """None: too few jobs to tell."""


@dataclass(frozen=True)
class Outcome:
    """What came of a row."""

    promises: Mapping[str, bool]
    """Each in words, with whether it was kept."""
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept."""
        return [promise for promise, kept in self.promises.items() if not kept]


Run = Callable[[Rig, Scale], Outcome]


@dataclass(frozen=True)
class Row:
    """``run`` is given a rig with ``knobs`` on top of the defaults."""

    number: int
    name: str
    run: Run
    knobs: Mapping[str, str] = field(default_factory=dict)
    workers: int = 2
    resumable: bool = False
    """Its data directory is kept, and a second call goes on where the first one ended."""


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Number, median, 99th percentile and maximum; an empty one has only the number."""
    if not values:
        return {"n": 0}
    p50, p99 = np.percentile(values, [50, 99])
    measured = {"p50": p50, "p99": p99, "max": max(values)}
    return {"n": len(values)} | {name: round(float(value), digits) for name, value in measured.items()}
