"""When a job will be ready: learned from the stages of finished jobs, and from who waits before it.

``da:pace:{model}`` keeps, for each size that was rendered, the seconds of a denoising step, of what comes before
the steps, and of what comes after them, as moving averages.
"""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from redis import Redis

from jobs.registry import Registry
from jobs.state import Record, Stage, Status

BEFORE = (Stage.LOADING, Stage.CONDITIONING)
AFTER = (Stage.DECODING, Stage.ENCODING, Stage.UPLOADING)
NEWEST = 0.3
"""The weight of the newest measurement."""
KNOWN_FROM = 0.05
"""The share of the first job of all from which on what is left of it can be told."""
FRESH_S = 0.5
"""A schedule is good for this long."""


@dataclass(frozen=True)
class Size:
    """What the time of a job depends on."""

    width: int
    height: int
    num_frames: int
    steps: int
    videos: int = 1

    @classmethod
    def of(cls, record: Record) -> Size:
        """The size of a job."""
        spec = {"best_of": 1} | record.spec
        return cls(*(spec[name] for name in ("width", "height", "num_frames", "num_inference_steps", "best_of")))

    @property
    def pixels(self) -> int:
        """Of one whole video."""
        return self.width * self.height * self.num_frames


@dataclass(frozen=True)
class Cost:
    """Seconds of a job: what comes before the steps, the steps, what comes after them."""

    before: float
    denoising: float
    after: float

    @property
    def occupied(self) -> float:
        """How long it keeps the next job from starting: its end runs beside the next one's steps."""
        return max(self.before + self.denoising, self.after)

    @property
    def total(self) -> float:
        """From start to end."""
        return self.before + self.denoising + self.after

    def left(self, record: Record, elapsed: float) -> float:
        """What is left of a running job that started ``elapsed`` seconds ago."""
        stage = record.progress.stage
        if stage in BEFORE:
            return max(self.total - elapsed, self.denoising + self.after)
        if stage is Stage.DENOISING:
            return self.denoising * (1 - record.progress.step / max(record.progress.steps, 1)) + self.after
        return max(self.total - elapsed, 0.1 * self.after)


class Pace:
    """How fast a model renders here."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def learn(self, record: Record, timings_s: Mapping[str, float]) -> None:
        """Take the stages of a finished job into account."""
        size = Size.of(record)
        name, key = f"{size.width} {size.height} {size.num_frames}", f"da:pace:{record.model}"
        measured = [
            sum(timings_s.get(stage, 0.0) for stage in BEFORE),
            timings_s.get(Stage.DENOISING, 0.0) / size.steps / size.videos,
            sum(timings_s.get(stage, 0.0) for stage in AFTER) / size.videos,
        ]
        if (held := cast("bytes | None", self.redis.hget(key, name))) is not None:
            earlier = json.loads(held)
            measured = [old + NEWEST * (new - old) for old, new in zip(earlier, measured, strict=True)]
        self.redis.hset(key, name, json.dumps([round(seconds, 5) for seconds in measured]))

    def costs(self, model: str, sizes: Sequence[Size]) -> list[Cost] | None:
        """The expected seconds of jobs; None where nothing was rendered yet. An unknown size costs as much as the
        known one whose number of pixels is nearest, in proportion."""
        held = cast("dict[bytes, bytes]", self.redis.hgetall(f"da:pace:{model}"))
        if not held:
            return None
        known: dict[tuple[int, ...], tuple[float, float, float]] = {
            tuple(map(int, name.split())): json.loads(seconds) for name, seconds in held.items()
        }
        return [_cost(size, known) for size in sizes]


def _cost(size: Size, known: Mapping[tuple[int, ...], tuple[float, float, float]]) -> Cost:
    width, height, frames = min(known, key=lambda other: abs(other[0] * other[1] * other[2] - size.pixels))
    before, step, after = known[width, height, frames]
    share = size.pixels / (width * height * frames)
    return Cost(before * share, step * share * size.steps * size.videos, after * share * size.videos)


class Schedule:
    """Expected ends of a model's jobs. Asking often is cheap: what was read is used for a moment."""

    def __init__(self, redis: Redis, registry: Registry) -> None:
        self.redis = redis
        self.pace = Pace(redis)
        self.registry = registry
        self._read: dict[str, tuple[float, dict[str, float]]] = {}

    def eta_s(self, record: Record) -> float | None:
        """Seconds until the job ends. None: it has, or no live worker holds its model, or nothing is known."""
        if record.status is Status.QUEUED:
            waiting = self._waiting(record).get(record.id)
            return None if waiting is None else round(waiting, 1)
        if record.status is not Status.RUNNING or record.started_at is None:
            return None
        costs = self.pace.costs(record.model, [Size.of(record)])
        elapsed = (datetime.now(UTC) - record.started_at).total_seconds()
        if costs:
            return round(costs[0].left(record, elapsed), 1)
        done = record.progress.fraction
        return round(elapsed * (1 - done) / done, 1) if done > KNOWN_FROM else None

    def _waiting(self, record: Record) -> dict[str, float]:
        read_at, ends = self._read.get(record.model, (0.0, {}))
        if time.monotonic() - read_at > FRESH_S or record.id not in ends:
            ends = self._plan(record.model)
            self._read[record.model] = time.monotonic(), ends
        return ends

    def _plan(self, model: str) -> dict[str, float]:
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(f"da:work:{model}")
            pipe.zrange(f"da:queued:{model}", 0, -1)
            held, order = pipe.execute()
        sizes = {job_id: Size(*map(int, work.split())) for job_id, work in held.items()}
        costs, workers = self.pace.costs(model, list(sizes.values())), self.registry.alive(model)
        if costs is None or not workers:
            return {}
        running = dict(zip(sizes, costs, strict=True))
        waiting = {job_id: running.pop(job_id) for job_id in order if job_id in running}
        # on average, half of what runs is still to be done
        busy = [cost.occupied / 2 for cost in running.values()]
        ends = finish(busy, waiting.values(), workers)
        return {job_id.decode(): end for job_id, end in zip(waiting, ends, strict=True)}


def finish(running: Iterable[float], waiting: Iterable[Cost], workers: int) -> list[float]:
    """Seconds until each waiting job has ended, where ``workers`` take them in order.

    ``running``: seconds for which what runs now still occupies its worker.
    """
    free = [0.0] * max(workers, 1)
    for seconds in running:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    ends = []
    for cost in waiting:
        start = heapq.heappop(free)
        ends.append(start + cost.total)
        heapq.heappush(free, start + cost.occupied)
    return ends
