"""Random values at random places of a manifest are refused or accepted, never an error of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from starlette.testclient import TestClient

from jobs.storage import Storage
from jobs.store import Store
from local.stack import Stack
from tests import doors
from tests.contract.test_client import manifest_of
from tests.harness import empty_bucket, flush, settings_of
from tests.security.test_fuzz import JSON, RICH, places, replaced


@pytest.fixture(scope="module")
def body(api: TestClient, servers: Stack) -> dict[str, Any]:
    """A replay of a job with everything that a request can have, its files included."""
    flush(servers.valkey.url)
    empty_bucket(servers)
    with Redis.from_url(servers.valkey.url) as redis:
        doors.announce(redis)
        job = api.post("/v1/generate", json=RICH).json()
        store = Store(redis, settings_of(servers))
        doors.finish(job["id"], store, Storage(settings_of(servers)))
        manifest = manifest_of(job["id"], store) | {"versions": {"torch": "2.13.0"}}
    mask = {"base64": doors.text(doors.file_of(doors.square() * 255))}
    return {"manifest": manifest, "image": RICH["image"], "masks": [None, mask, None, None, None]}


def test_the_replay_is_accepted_as_it_is(api: TestClient, body: dict[str, Any]) -> None:
    answer = api.post("/v1/replay", json=body)
    assert answer.status_code == 202, answer.text


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), new=JSON)
def test_no_value_anywhere_is_an_error_of_ours(
    api: TestClient, body: dict[str, Any], data: st.DataObject, new: Any
) -> None:
    place = data.draw(st.sampled_from(places(body)))
    content = json.dumps(replaced(body, place, new))
    answer = api.post("/v1/replay", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (202, 400, 404, 422), answer.text
    if answer.status_code == 422:
        assert all(error["pointer"].startswith("/") or not error["pointer"] for error in answer.json()["errors"])
