"""What Redis and S3 say about jobs when everything has ended."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from redis import Redis

from jobs.errors import NotFound
from jobs.state import Record, Result, Status
from jobs.storage import Storage, attempt_prefix, decision_key, inputs_prefix, job_prefix
from jobs.store import Store
from local.stack import Stack
from tests.harness import settings_of


@dataclass
class Findings:
    """Ids of jobs. A job may be in several lists."""

    audited: int = 0
    lost: list[str] = field(default_factory=list)
    """Accepted and not succeeded."""
    duplicated: list[str] = field(default_factory=list)
    """The decision in S3 is not the record's result, or a second attempt has left objects."""
    wrong: list[str] = field(default_factory=list)
    """A file is missing or altered, or the frames are not those of the other jobs with that seed."""
    lingering: list[str] = field(default_factory=list)
    """Ended, but still on a list of active jobs."""

    @property
    def promises(self) -> dict[str, bool]:
        """What holds for every job, whatever happened."""
        return {
            "no accepted job is lost": not self.lost,
            "each job has exactly one result": not self.duplicated,
            "each result is the right one": not self.wrong,
            "no ended job is still listed as active": not self.lingering,
        }

    @property
    def figures(self) -> dict[str, Any]:
        """Counts."""
        return {
            "jobs": self.audited,
            "lost": len(self.lost),
            "duplicated": len(self.duplicated),
            "wrong": len(self.wrong),
        }


class Auditor:
    """Reads the records and the objects of a stack, as the operator's tools would."""

    def __init__(self, redis: Redis, storage: Storage, store: Store) -> None:
        self.redis = redis
        self.storage = storage
        self.store = store

    @classmethod
    @contextmanager
    def of(cls, stack: Stack) -> Iterator[Auditor]:
        """An auditor for as long as the block lasts."""
        settings = settings_of(stack)
        with Redis.from_url(settings.redis_url) as redis:
            yield cls(redis, Storage(settings), Store(redis, settings))

    def record(self, job_id: str) -> Record:
        """The truth."""
        return self.store.get(job_id)

    def count(self) -> int:
        """How many jobs have a record."""
        return sum(1 for _ in self.redis.scan_iter("da:job:*", count=1000))

    def objects(self, job_id: str, attempt_id: str) -> list[str]:
        """What an attempt has stored and not deleted."""
        return self.storage.list(attempt_prefix(job_id, attempt_id))

    def audit(self, job_ids: Iterable[str], report: Callable[[int], None] = lambda _: None) -> Findings:
        """Look at every record, object and byte of these jobs."""
        findings = Findings()
        frames: dict[tuple[int, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        ended: set[str] = set()
        for job_id in job_ids:
            findings.audited += 1
            report(findings.audited)
            record = self._recorded(job_id)
            if record is None or record.result is None or record.status is not Status.SUCCEEDED:
                findings.lost.append(job_id)
                continue
            ended.add(job_id)
            if not self._is_single(record, record.result):
                findings.duplicated.append(job_id)
            rendered = self._rendered(record.result)
            if rendered is None:
                findings.wrong.append(job_id)
                continue
            result = record.result
            steps = int(record.spec["num_inference_steps"])
            frames[result.seed, result.width, result.height, result.num_frames, steps][rendered].append(job_id)
        findings.lingering = sorted(ended & self._active())
        for hashes in frames.values():
            *others, _ = sorted(hashes.values(), key=len)
            findings.wrong += [job_id for job_ids in others for job_id in job_ids]
        return findings

    def _recorded(self, job_id: str) -> Record | None:
        try:
            return self.store.get(job_id)
        except NotFound:
            return None

    def _active(self) -> set[str]:
        names = ["da:running", *self.redis.scan_iter("da:queued:*", count=1000)]
        return {
            job_id.decode() for name in names for job_id in cast("list[bytes]", self.redis.zrange(name, 0, -1))
        }

    def _is_single(self, record: Record, result: Result) -> bool:
        prefix = result.artifacts["video"].key.rpartition("/")[0] + "/"
        known = (inputs_prefix(record.id), prefix, decision_key(record.id))
        try:
            decided = Result.model_validate_json(self.storage.get(decision_key(record.id)))
        except NotFound:
            return False
        return decided == result and all(key.startswith(known) for key in self.storage.list(job_prefix(record.id)))

    def _rendered(self, result: Result) -> str | None:
        """The hash of a result's frames, where each file is what the record says."""
        files: dict[str, bytes] = {}
        try:
            for name, artifact in result.artifacts.items():
                files[name] = self.storage.get(artifact.key)
                if hashlib.sha256(files[name]).hexdigest() != artifact.sha256:
                    return None
        except NotFound:
            return None
        return str(json.loads(files["manifest"])["frames_sha256"])
