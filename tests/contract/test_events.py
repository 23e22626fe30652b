"""GET /v1/jobs/{id}/events, over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fastapi.routing
import httpx
import pytest
from fastapi import FastAPI
from redis import Redis
from redis.exceptions import ConnectionError

from jobs.events import Feed
from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store
from service import snapshots
from service.app import create_app
from tests import doors
from tests.harness import until


@pytest.fixture
def app(settings: Settings, redis: Redis) -> FastAPI:
    doors.announce(redis)
    return create_app(settings)


@pytest.fixture
def web(app: FastAPI) -> Iterator[httpx.Client]:
    with doors.serving(app) as (host, port), httpx.Client(base_url=f"http://{host}:{port}", timeout=20) as client:
        yield client


def created(web: httpx.Client) -> str:
    return str(web.post("/v1/generate", json=doors.request()).json()["id"])


def blocks(answer: httpx.Response) -> Iterator[list[str]]:
    """What stands between two empty lines."""
    block: list[str] = []
    for line in answer.iter_lines():
        if line:
            block.append(line)
        else:
            yield block
            block = []


def snapshot(block: list[str]) -> dict[str, Any]:
    event, data = block
    assert event == "event: snapshot"
    return dict(json.loads(data.removeprefix("data: ")))


def test_a_snapshot_at_once_then_one_per_change_and_an_end(web: httpx.Client, store: Store) -> None:
    job_id = created(web)
    with web.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        events = blocks(answer)
        first = snapshot(next(events))
        assert first == web.get(f"/v1/jobs/{job_id}").json()
        store.claim(job_id, "attempt")
        assert snapshot(next(events))["status"] == "running"
        store.beat(job_id, "attempt", {"stage": "denoising", "step": 3, "fraction": 0.29})
        assert snapshot(next(events))["progress"]["step"] == 3
        store.cancel(job_id)
        store.end_canceled(job_id, "attempt")
        assert [snapshot(block)["status"] for block in events][-1] == "canceled"


def test_an_ended_job_has_one_event(web: httpx.Client, store: Store, storage: Storage) -> None:
    job_id = created(web)
    doors.finish(job_id, store, storage)
    with web.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        shown = [snapshot(block) for block in blocks(answer)]
    assert [job["status"] for job in shown] == ["succeeded"]
    assert shown[0]["result"]["video_url"].startswith("http")


def test_at_most_five_a_second(web: httpx.Client, store: Store) -> None:
    job_id = created(web)
    store.claim(job_id, "attempt")
    with web.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        events = blocks(answer)
        next(events)
        for step in range(50):
            store.beat(job_id, "attempt", {"step": step})
        store.cancel(job_id)
        store.end_canceled(job_id, "attempt")
        # 50 changes in a burst: what is between the first and the last is merged
        assert len(list(events)) < 25


def test_an_idle_stream_is_kept_alive(web: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.05)
    with web.stream("GET", f"/v1/jobs/{created(web)}/events") as answer:
        events = blocks(answer)
        next(events)
        assert next(events) == [": ping"]
        assert next(events) == [": ping"]


def test_a_client_that_leaves_leaves_no_listener(app: FastAPI, web: httpx.Client) -> None:
    job_id = created(web)
    feed: Feed = app.state.doors.feed
    with web.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        events = blocks(answer)
        next(events)
        assert set(feed._listeners) == {job_id, "queue:tiny"}
    until(lambda: not feed._listeners, 10)


def test_a_forgotten_job_ends_its_stream(web: httpx.Client, redis: Redis) -> None:
    job_id = created(web)
    with web.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        events = blocks(answer)
        next(events)
        redis.delete(f"da:job:{job_id}")
        redis.publish("da:changed", job_id)
        assert list(events) == []


def test_a_stream_outlasts_an_outage(app: FastAPI, web: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = created(web)
    store: Store = app.state.doors.store
    get, failures = store.get, iter(range(3))

    def flaky(*args: str) -> Any:
        if next(failures, None) is not None:
            raise ConnectionError
        return get(*args)

    monkeypatch.setattr(snapshots, "RETRY_S", 0.01)
    with web.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        events = blocks(answer)
        next(events)
        monkeypatch.setattr(store, "get", flaky)
        store.cancel(job_id)
        assert [snapshot(block)["status"] for block in events] == ["canceled"]
    assert next(failures, None) is None
