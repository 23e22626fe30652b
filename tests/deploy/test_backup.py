"""A backup as docs/deploy.md makes it: everything stops, the data directories of Valkey and S3 are copied."""

from __future__ import annotations

import shutil
from pathlib import Path

from redis import Redis

from jobs.keys import Grant, Keys, Limits, Scope
from jobs.state import Status
from jobs.storage import Storage, job_prefix
from jobs.store import Store
from local.stack import Stack
from tests.harness import settings_of
from tests.unit.jobs.specs import make_result, record_one


def test_jobs_objects_and_keys_are_there_after_a_restore(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with Stack(source, commands={}) as stack, Redis.from_url(stack.valkey.url) as redis:
        store, storage = Store(redis, settings_of(stack)), Storage(settings_of(stack))
        ended, first, second = (record_one(store, owner="me").id for _ in range(3))
        files = {f"{job_prefix(ended)}{name}": name.encode() * 1000 for name in ("a.mp4", "b.json")}
        for key, body in files.items():
            storage.put(key, body, "application/octet-stream")
        assert store.claim(ended, "attempt")
        assert store.succeed(ended, "attempt", make_result()) == "ok"
        made, text = Keys(redis).create(Grant(name="me", scopes=frozenset(Scope), limits=Limits()))
        before = store.get(ended, "me")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("lock", "logs", "*.sock"))
    shutil.rmtree(source)
    with Stack(target, commands={}) as stack, Redis.from_url(stack.valkey.url) as redis:
        store, storage = Store(redis, settings_of(stack)), Storage(settings_of(stack))
        assert store.get(ended, "me") == before
        assert before.status is Status.SUCCEEDED
        assert {key: storage.get(key) for key in files} == files
        assert store.queued("tiny") == [first, second]
        assert store.next(["tiny"]) == [first]
        found = Keys(redis).verify(text)
        assert found is not None
        assert found.id == made.id
