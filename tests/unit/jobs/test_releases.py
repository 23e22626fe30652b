"""Records that one release writes and another reads: during a rollout both are at work, and a rollback goes back.

``fixtures/records/schema-N.json`` is the record of a job as the first release with that schema wrote it. It never
changes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis

from jobs import store as store_module
from jobs.models import ModelCard
from jobs.settings import Settings
from jobs.spec import SCHEMA, JobSpec
from jobs.state import Record, Status
from jobs.store import Store
from tests.unit.jobs.specs import make_card, make_spec, record_one

RECORDS = Path(__file__).parents[2] / "fixtures/records"
DOCUMENTS = ("spec", "result", "warnings")


@pytest.fixture
def store(redis: Redis, settings: Settings) -> Store:
    return Store(redis, settings)


def written(schema: int) -> dict[str, Any]:
    return dict(json.loads((RECORDS / f"schema-{schema}.json").read_text()))


def fields_of(record: dict[str, Any]) -> dict[str, str]:
    return {name: json.dumps(value) if name in DOCUMENTS else value for name, value in record.items()}


def shape(schema: dict[str, Any]) -> dict[str, Any]:
    """The names and types in a JSON schema, without its texts and defaults."""
    return {
        name: shape(value) if isinstance(value, dict) else value
        for name, value in schema.items()
        if not (name in ("description", "title", "default") and not isinstance(value, dict))
    }


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_what_every_earlier_release_wrote_is_read(schema: int) -> None:
    record = Record.of(fields_of(written(schema)))
    assert record.status is Status.SUCCEEDED
    assert record.result is not None
    assert JobSpec.model_validate(record.spec).num_frames == 2


def test_a_change_of_the_spec_raises_the_schema() -> None:
    """Where this fails: raise ``SCHEMA``, and add its record and its shape; those of earlier ones stay."""
    kept = json.loads((RECORDS / f"shape-{SCHEMA}.json").read_text())
    assert shape(JobSpec.model_json_schema()) == kept
    assert make_spec().model_dump().keys() == written(SCHEMA)["spec"].keys()


def test_a_later_release_s_record_is_shown_and_nothing_of_it_is_lost(redis: Redis, store: Store) -> None:
    record = written(SCHEMA) | {"schema": str(SCHEMA + 1), "something": "new"}
    for name in ("spec", "result"):
        record[name] = record[name] | {"something": {"new": [1]}}
    fields = fields_of(record)
    for name, value in fields.items():
        redis.hset(f"da:job:{record['id']}", name, value)
    shown = store.get(record["id"])
    assert shown.status is Status.SUCCEEDED
    assert shown.spec["something"] == {"new": [1]}
    kept = cast("dict[bytes, bytes]", redis.hgetall(f"da:job:{record['id']}"))
    assert {name.decode(): value.decode() for name, value in kept.items()} == fields


def test_a_later_release_s_card_is_read() -> None:
    later = make_card().model_dump(mode="json") | {"something": "new"}
    assert ModelCard.model_validate(later) == make_card()


def test_a_worker_leaves_what_it_can_not_read_to_a_later_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr(store_module, "SCHEMA", SCHEMA + 1)
        newer = record_one(store, priority="high").id
    ours = record_one(store).id
    assert store.next(["tiny"], count=8) == [ours]
    assert store.get(newer).status is Status.QUEUED
    with monkeypatch.context() as later:
        later.setattr(store_module, "SCHEMA", SCHEMA + 1)
        assert store.next(["tiny"], count=8) == [newer, ours]


def test_a_record_without_a_schema_is_of_the_first(redis: Redis, store: Store) -> None:
    job_id = record_one(store).id
    redis.hdel(f"da:job:{job_id}", "schema")
    assert store.next(["tiny"]) == [job_id]
