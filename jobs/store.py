"""The record of every job in Redis: the truth that queue, workers and doors follow.

Each transition is one Lua script (``lua/``), so it happens wholly or not at all. Keys: ``da:job:{id}`` (hash, the
record), ``da:queued:{model}`` (what waits, in order), ``da:running`` (lease ends), ``da:owned:{owner}`` (listing),
``da:deadlines``, ``da:expiring``, ``da:idempotency:{owner}:{key}``. A call that the client repeats, because its
answer was lost, changes nothing more. Needs Redis 6.2 or later, or Valkey.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from importlib import resources
from typing import Any, Literal, cast

from redis import Redis
from redis.commands.core import Script

from jobs.errors import IdempotencyInFlight, IdempotencyMismatch, NotFound, QueueFull
from jobs.settings import Settings
from jobs.spec import JobSpec
from jobs.state import Failure, JobWarning, Progress, Record, Result, Stage, Status

RANKS = {"high": 0, "normal": 1, "low": 2}
IDEMPOTENCY_TTL_S = 24 * 3600
ACCEPTING_TTL_S = 60
PAGE = 50
"""Ids that a listing reads at a time."""
Verdict = Literal["ok", "cancel", "lost"]


def new_id() -> str:
    """A job id: 32 hexadecimal digits, sortable by time, unguessable."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def new_attempt_id() -> str:
    """A fencing token."""
    return secrets.token_hex(8)


class Store:
    """Reads and transitions of job records. Safe to share between threads."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self.redis = redis
        self.settings = settings
        self._retention_ms = settings.retention_s * 1000
        self._lease_ms = int(settings.lease_s * 1000)

    @cached_property
    def _scripts(self) -> dict[str, Script]:
        folder = resources.files("jobs") / "lua"
        prelude = (folder / "prelude.lua").read_text()
        names = ("reserve", "create", "claim", "beat", "commit", "cancel", "requeue", "expire", "forget")
        return {name: self.redis.register_script(prelude + (folder / f"{name}.lua").read_text()) for name in names}

    def _run(self, name: str, *args: object) -> Any:
        reply = self._scripts[name](args=[cast("str", arg) for arg in args])
        return reply.decode() if isinstance(reply, bytes) else reply

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
        """Give a reserved key back after a refused request."""
        self.redis.delete(_idempotency(owner, key))

    def create(
        self,
        job_id: str,
        owner: str,
        spec: JobSpec,
        warnings: Iterable[JobWarning] = (),
        *,
        key: str | None = None,
        fingerprint: str = "",
    ) -> Record:
        """Write the record of a new job; ``key`` and ``fingerprint`` as reserved, from now on they mean this job.

        Raises:
            QueueFull: the model's queue holds ``max_queued`` jobs.
        """
        deadline = "" if spec.deadline_s is None else int(spec.deadline_s * 1000)
        fields = {
            "spec": spec.model_dump_json(),
            "priority": spec.priority,
            "steps": spec.num_inference_steps,
            "warnings": json.dumps([w.model_dump() for w in warnings]),
        }
        head = (job_id, owner, spec.model, RANKS[spec.priority], self.settings.max_queued, deadline)
        name = "" if key is None else _idempotency(owner, key)
        kept = (name, json.dumps([fingerprint, job_id]), IDEMPOTENCY_TTL_S)
        if not self._run("create", *head, *kept, *_pairs(fields)):
            raise QueueFull("Send the job again later.", retry_after_s=10)
        return self.get(job_id)

    # -- reading -----------------------------------------------------------------------------------------------

    def get(self, job_id: str, owner: str | None = None) -> Record:
        """The record.

        Raises:
            NotFound: there is no such job, or it belongs to someone else than ``owner``.
        """
        fields = cast("dict[bytes, bytes]", self.redis.hgetall(f"da:job:{job_id}"))
        record = _record({k.decode(): v.decode() for k, v in fields.items()}) if fields else None
        if record is None or owner not in (None, record.owner):
            raise NotFound(f"There is no job {job_id[:64]!r}; it may have expired.")
        if record.status is Status.QUEUED:
            place = cast("int | None", self.redis.zrank(f"da:queued:{record.model}", job_id))
            return record.model_copy(update={"queue_position": None if place is None else place + 1})
        return record

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

    def count_queued(self, model: str) -> int:
        """How many jobs wait for a model."""
        return self.redis.zcard(f"da:queued:{model}")

    def queued(self, model: str) -> list[str]:
        """The ids that wait for a model, in order."""
        return [i.decode() for i in cast("list[bytes]", self.redis.zrange(f"da:queued:{model}", 0, -1))]

    def due(self, index: Literal["running", "deadlines", "expiring"]) -> list[str]:
        """The ids whose lease, deadline or retention has run out."""
        seconds, micros = self.redis.time()
        now = seconds * 1000 + micros // 1000
        return [i.decode() for i in cast("list[bytes]", self.redis.zrangebyscore(f"da:{index}", 0, now))]

    # -- running -----------------------------------------------------------------------------------------------

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


def _instant(fields: Mapping[str, str], name: str) -> datetime | None:
    return datetime.fromtimestamp(int(fields[name]) / 1000, UTC) if fields.get(name) else None


def _record(fields: dict[str, str]) -> Record:
    progress = Progress(
        stage=Stage(fields.get("stage", "queued")),
        step=int(fields.get("step", 0)),
        steps=int(fields.get("steps", 0)),
        fraction=float(fields.get("fraction", 0)),
    )
    created = _instant(fields, "created_ms")
    assert created is not None
    return Record(
        id=fields["id"],
        owner=fields["owner"],
        status=Status(fields["status"]),
        model=fields["model"],
        priority=fields["priority"],
        spec=json.loads(fields["spec"]),
        created_at=created,
        started_at=_instant(fields, "started_ms"),
        finished_at=_instant(fields, "finished_ms"),
        expires_at=_instant(fields, "expires_ms"),
        progress=progress,
        attempt=int(fields.get("attempt", 0)),
        attempt_id=fields.get("attempt_id") or None,
        cancel_requested=fields.get("cancel_requested") == "1",
        result=Result.model_validate_json(fields["result"]) if "result" in fields else None,
        error=Failure.model_validate_json(fields["error"]) if "error" in fields else None,
        warnings=[JobWarning.model_validate(w) for w in json.loads(fields["warnings"])],
    )
