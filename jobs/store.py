"""The record of every job in Redis: the truth that queue, workers and doors follow.

Each transition is one Lua script (``lua/``), so it happens wholly or not at all. Keys: ``da:job:{id}`` (hash, the
record), ``da:queued:{model}`` (what waits, in order), ``da:running`` (lease ends), ``da:work:{model}`` (the sizes
of what waits or runs), ``da:owned:{owner}`` (listing), ``da:owner-queued:{owner}``, ``da:owner-running:{owner}``
(limits), ``da:group:{id}``, ``da:deadlines``, ``da:expiring``, ``da:idempotency:{owner}:{key}``,
``da:counts:{model}`` (how often each transition was made, for the metrics). A call that the client repeats,
because its answer was lost, changes nothing more. Needs Redis 6.2 or later, or Valkey.

A queue is in order of arrival after head starts: a job of one priority more counts as if it had come
``priority_head_start_s`` earlier, so it overtakes at most that much waiting and nothing starves.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

from redis import Redis

from jobs import tracing
from jobs.errors import IdempotencyInFlight, IdempotencyMismatch, NotFound, QueueFull, RateLimited
from jobs.scripts import Scripts
from jobs.settings import Settings
from jobs.spec import SCHEMA, JobSpec
from jobs.state import Failure, JobWarning, Record, Result, Status
from jobs.webhooks import Subscription

HEAD_STARTS = {"high": 2, "normal": 1, "low": 0}
IDEMPOTENCY_TTL_S = 24 * 3600
ACCEPTING_TTL_S = 60
PAGE = 50
"""Ids that a listing reads at a time."""
Verdict = Literal["ok", "cancel", "lost"]


@dataclass(frozen=True)
class NewJob:
    """A job that is about to be accepted."""

    id: str
    spec: JobSpec
    warnings: tuple[JobWarning, ...] = ()
    webhook: Subscription | None = None


@dataclass(frozen=True)
class Quota:
    """How many jobs of an owner may wait and run at the same time; None is no limit."""

    queued: int | None = None
    running: int | None = None


def new_id() -> str:
    """A job id: 32 hexadecimal digits, sortable by time, unguessable."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def born(job_id: str) -> datetime:
    """When a job's id was made; what is no id counts as made just now."""
    if not re.fullmatch("[0-9a-f]{32}", job_id):
        return datetime.now(UTC)
    return datetime.fromtimestamp(int(job_id[:12], 16) / 1000 % 1e11, UTC)


def new_attempt_id() -> str:
    """A fencing token."""
    return secrets.token_hex(8)


class Store:
    """Reads and transitions of job records. Safe to share between threads."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self.redis = redis
        self.settings = settings
        self._run = Scripts(redis).run
        self._retention_ms = settings.retention_s * 1000
        self._lease_ms = int(settings.lease_s * 1000)

    # -- accepting ---------------------------------------------------------------------------------------------

    def reserve(self, owner: str, key: str, fingerprint: str) -> str | None:
        """Reserve an idempotency key. None: it is ours to create; else the id of the job that it made before.

        Raises:
            IdempotencyMismatch: the key was used with another body.
            IdempotencyInFlight: the request that uses it has not been answered yet.
        """
        pending = json.dumps([fingerprint, None, secrets.token_hex(8)])
        before = self._run("reserve", _idempotency(owner, key), pending, ACCEPTING_TTL_S)
        if before is None:
            return None
        earlier_fingerprint, job_id, *_ = json.loads(before)
        if earlier_fingerprint != fingerprint:
            raise IdempotencyMismatch("Use a new Idempotency-Key for another request.")
        if job_id is None:
            raise IdempotencyInFlight("Send it again in a moment.", retry_after_s=1)
        return str(job_id)

    def release(self, owner: str, key: str) -> None:
        """Give a reserved key back after a refused request; one that means a job by now stays."""
        self._run("release", _idempotency(owner, key))

    def create(
        self,
        owner: str,
        jobs: Sequence[NewJob],
        *,
        key: str | None = None,
        fingerprint: str = "",
        quota: Quota = Quota(),
        group: str | None = None,
    ) -> list[Record]:
        """Write the records of new jobs, all or none.

        ``key`` and ``fingerprint`` as reserved, from now on they mean the ``group``, or else the first job.

        Raises:
            QueueFull: the model's queue would hold more than ``max_queued`` jobs.
            RateLimited: more jobs of this owner would wait than ``quota`` allows.
        """
        limits = (self.settings.max_queued, _or_nothing(quota.queued), _or_nothing(quota.running))
        name = "" if key is None else _idempotency(owner, key)
        kept = (name, json.dumps([fingerprint, group or jobs[0].id]), IDEMPOTENCY_TTL_S)
        written = [item for job in jobs for item in self._written(job)]
        match self._run("create", owner, *limits, *kept, group or "", *written):
            case "full":
                raise QueueFull("Send the job again later.", retry_after_s=10)
            case "limited":
                told = f"{quota.queued} jobs of this key may wait at a time; send it again when one has started."
                raise RateLimited(told, retry_after_s=10)
        return [self.get(job.id) for job in jobs]

    def _written(self, job: NewJob) -> list[object]:
        spec = job.spec
        deadline = "" if spec.deadline_s is None else int(spec.deadline_s * 1000)
        head_start = int(HEAD_STARTS[spec.priority] * self.settings.priority_head_start_s * 1000)
        work = f"{spec.width} {spec.height} {spec.num_frames} {spec.num_inference_steps} {spec.best_of}"
        fields = _pairs(
            {
                "spec": spec.model_dump_json(),
                "schema": SCHEMA,
                "priority": spec.priority,
                "steps": spec.num_inference_steps * spec.best_of,
                "warnings": json.dumps([w.model_dump() for w in job.warnings]),
                **({"webhook": job.webhook.model_dump_json()} if job.webhook else {}),
                **({"traceparent": traceparent} if (traceparent := tracing.current()) else {}),
            }
        )
        return [job.id, spec.model, head_start, deadline, work, len(fields), *fields]

    # -- reading -----------------------------------------------------------------------------------------------

    def get(self, job_id: str, owner: str | None = None) -> Record:
        """The record.

        Raises:
            NotFound: there is no such job, or it belongs to someone else than ``owner``.
        """
        fields = cast("dict[bytes, bytes]", self.redis.hgetall(f"da:job:{job_id}"))
        record = Record.of({k.decode(): v.decode() for k, v in fields.items()}) if fields else None
        if record is None or owner not in (None, record.owner):
            raise NotFound(f"There is no job {job_id[:64]!r}; it may have expired.")
        if record.status is Status.QUEUED:
            place = cast("int | None", self.redis.zrank(f"da:queued:{record.model}", job_id))
            return record.model_copy(update={"queue_position": None if place is None else place + 1})
        return record

    def exists(self, job_id: str) -> bool:
        """Whether there is such a job."""
        return bool(self.redis.exists(f"da:job:{job_id}"))

    def page(
        self, owner: str, *, status: Status | None = None, after: str | None = None, limit: int = 20
    ) -> tuple[list[Record], str | None]:
        """An owner's jobs, newest first, from behind the job ``after``; and the cursor of the next page.

        Raises:
            NotFound: ``after`` is none of the owner's jobs, or no longer.
        """
        start = 0
        if after is not None:
            place = cast("int | None", self.redis.zrevrank(f"da:owned:{owner}", after))
            if place is None:
                raise NotFound("The job that this page follows is gone; start from the first page.")
            start = place + 1
        found: list[Record] = []
        while ids := cast("list[bytes]", self.redis.zrevrange(f"da:owned:{owner}", start, start + PAGE - 1)):
            for job_id in ids:
                if len(found) == limit:
                    return found, found[-1].id
                with suppress(NotFound):  # it ended its retention between the two reads
                    record = self.get(job_id.decode())
                    if status in (None, record.status):
                        found.append(record)
            start += len(ids)
        return found, None

    def group(self, group_id: str, owner: str | None = None) -> list[Record]:
        """The jobs of a group, in the order given, without those that are forgotten.

        Raises:
            NotFound: there is none, or it belongs to someone else than ``owner``.
        """
        found: list[Record] = []
        for job_id in cast("list[bytes]", self.redis.lrange(f"da:group:{group_id}", 0, -1)):
            with suppress(NotFound):
                found.append(self.get(job_id.decode(), owner))
        if not found:
            raise NotFound(f"There is no batch {group_id[:64]!r}; it may have expired.")
        return found

    def count_queued(self, model: str) -> int:
        """How many jobs wait for a model."""
        return self.redis.zcard(f"da:queued:{model}")

    def count_running(self) -> int:
        """How many jobs a worker holds."""
        return self.redis.zcard("da:running")

    def counts(self, model: str) -> dict[str, int]:
        """How often each transition was made: ``attempt``, ``interrupted lease_lost``, ``interrupted drained``,
        and each end: ``succeeded``, ``canceled``, ``expired``, or ``failed`` and the code."""
        held = cast("dict[bytes, bytes]", self.redis.hgetall(f"da:counts:{model}"))
        return {name.decode(): int(times) for name, times in held.items()}

    def queued(self, model: str) -> list[str]:
        """The ids that wait for a model, in order."""
        return [i.decode() for i in cast("list[bytes]", self.redis.zrange(f"da:queued:{model}", 0, -1))]

    def due(self, index: Literal["running", "deadlines", "expiring"]) -> list[str]:
        """The ids whose lease, deadline or retention has run out."""
        seconds, micros = self.redis.time()
        now = seconds * 1000 + micros // 1000
        return [i.decode() for i in cast("list[bytes]", self.redis.zrangebyscore(f"da:{index}", 0, now))]

    # -- running -----------------------------------------------------------------------------------------------

    def next(self, models: Iterable[str], count: int = 1) -> list[str]:
        """The ids that a worker with these models may claim now, in order: of jobs that this release can read."""
        return [i.decode() for i in cast("list[bytes]", self._run("next", count, SCHEMA, *models))]

    def claim(self, job_id: str, attempt_id: str) -> bool:
        """Take a queued job for one attempt; False where there is nothing to do."""
        return bool(self._run("claim", job_id, attempt_id, self._lease_ms, self._retention_ms) == "claimed")

    def beat(self, job_id: str, attempt_id: str, progress: Mapping[str, object] | None = None) -> Verdict:
        """Renew the lease, with fields of ``Progress`` where given, and learn whether to go on."""
        return cast("Verdict", self._run("beat", job_id, attempt_id, self._lease_ms, *_pairs(progress or {})))

    def succeed(self, job_id: str, attempt_id: str, result: Result) -> Verdict:
        """Commit a result, once."""
        return self._commit(job_id, attempt_id, Status.SUCCEEDED, {"result": result.model_dump_json()})

    def fail(self, job_id: str, attempt_id: str, error: Failure) -> Verdict:
        """End a job whose attempt met an error that another attempt would meet too."""
        return self._commit(job_id, attempt_id, Status.FAILED, {"error": error.model_dump_json()})

    def end_canceled(self, job_id: str, attempt_id: str) -> Verdict:
        """End a running job whose cancel was asked for, now that the attempt has stopped."""
        return self._commit(job_id, attempt_id, Status.CANCELED, {})

    def _commit(self, job_id: str, attempt_id: str, status: Status, fields: Mapping[str, object]) -> Verdict:
        head = (job_id, attempt_id, status.value, self._retention_ms)
        return cast("Verdict", self._run("commit", *head, *_pairs(fields)))

    def hand_back(self, job_id: str, attempt_id: str) -> bool:
        """Put a held job back in its old place without spending an attempt; True where it is queued again."""
        return self._requeue(job_id, attempt_id)

    def reclaim(self, job_id: str) -> bool:
        """Put a job whose lease ran out back in its old place; True where it is queued again."""
        return self._requeue(job_id, "")

    def _requeue(self, job_id: str, attempt_id: str) -> bool:
        limits = (self.settings.max_attempts, self._retention_ms)
        return bool(self._run("requeue", job_id, attempt_id, *limits) == "queued")

    # -- ending ------------------------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> Literal["canceled", "requested", "ended"]:
        """Ask a job to stop.

        Raises:
            NotFound: there is no such job.
        """
        answer = self._run("cancel", job_id, self._retention_ms)
        if answer is None:
            raise NotFound(f"There is no job {job_id[:64]!r}.")
        return cast("Literal['canceled', 'requested', 'ended']", answer)

    def expire(self, job_id: str) -> bool:
        """End a queued job whose deadline has passed."""
        return bool(self._run("expire", job_id, self._retention_ms))

    def forget(self, job_id: str) -> bool:
        """Drop the record of an ended job; False while it has not ended.

        Raises:
            NotFound: there is no such job.
        """
        answer = self._run("forget", job_id)
        if answer is None:
            raise NotFound(f"There is no job {job_id[:64]!r}.")
        return bool(answer == "forgotten")


def _idempotency(owner: str, key: str) -> str:
    return f"da:idempotency:{owner}:{key}"


def _pairs(fields: Mapping[str, object]) -> list[object]:
    return [item for pair in fields.items() for item in pair]


def _or_nothing(limit: int | None) -> object:
    return "" if limit is None else limit
