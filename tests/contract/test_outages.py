"""Redis or S3 away: an answer within about a second that says when to come back, and nothing left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError
from starlette.testclient import TestClient

from jobs import queue
from local.stack import Stack
from service.app import create_app
from tests import doors
from tests.harness import settings_of


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Servers that may be broken."""
    with Stack(tmp_path_factory.mktemp("own"), commands={}) as stack:
        yield stack


@pytest.fixture(scope="module")
def client(own: Stack) -> Iterator[TestClient]:
    with Redis.from_url(own.valkey.url) as redis:
        doors.announce(redis)
    with TestClient(create_app(settings_of(own)), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def frozen(own: Stack, request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that takes connections and says nothing."""
    process = own.processes[request.param]
    process.kill(signal.SIGSTOP)
    yield request.param
    process.kill(signal.SIGCONT)


def away(*_: object, **__: object) -> None:
    raise ConnectionError


def refused(client: TestClient, key: str) -> None:
    answer = client.post("/v1/generate", json=doors.request(), headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("frozen", ["valkey"], indirect=True)
@pytest.mark.usefixtures("frozen")
def test_redis_is_silent(client: TestClient) -> None:
    refused(client, "silent")
    assert client.get("/v1/jobs/x/events").status_code == 503
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {
        "redis": "does not answer (TimeoutError)",
        "s3": "ok",
        "workers": "does not answer (TimeoutError)",
    }
    assert client.get("/livez").status_code == 200


def test_s3_is_away_and_nothing_is_left(own: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(own).model_copy(update={"s3_endpoint": "http://127.0.0.1:1"})
    with (
        Redis.from_url(own.valkey.url) as redis,
        TestClient(create_app(settings), base_url="http://localhost") as client,
    ):
        doors.announce(redis)
        before = doors.keys(redis)
        refused(client, "s3")
        assert doors.keys(redis) == before
        checks = client.get("/readyz").json()["checks"]
        assert checks == {"redis": "ok", "s3": "The object store does not answer; try again.", "workers": "ok"}
        # refused, but not for ever: with S3 back, the same key makes a job
        monkeypatch.setattr(client.app.state.doors.storage, "_client", own.seaweed.client())  # type: ignore[attr-defined]
        answer = client.post("/v1/generate", json=doors.request(), headers={"Idempotency-Key": "s3"})
        assert answer.status_code == 202


def test_a_record_whose_answer_never_came(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis died after it had written the record: the job is there, with its inputs, and its key means it."""
    services = client.app.state.doors  # type: ignore[attr-defined]
    create = services.store.create
    before = set(services.store.queued("tiny"))

    def unheard(*args: Any, **options: Any) -> None:
        create(*args, **options)
        away()

    with monkeypatch.context() as patch:
        patch.setattr(services.store, "create", unheard)
        refused(client, "record")
    (job_id,) = set(services.store.queued("tiny")) - before
    answer = client.post("/v1/generate", json=doors.request(), headers={"Idempotency-Key": "record"})
    assert (answer.status_code, answer.json()["id"]) == (202, job_id)
    spec = services.store.get(job_id).spec
    for blob in (spec["image"], *(track["mask"] for track in spec["entities"])):
        assert services.storage.get(blob["key"])


def test_a_record_that_was_not_written_gives_its_key_back(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = client.app.state.doors  # type: ignore[attr-defined]
    before = services.store.queued("tiny")
    with monkeypatch.context() as patch:
        patch.setattr(services.store, "create", away)
        refused(client, "unwritten")
    assert services.store.queued("tiny") == before
    answer = client.post("/v1/generate", json=doors.request(), headers={"Idempotency-Key": "unwritten"})
    assert answer.status_code == 202


def test_a_message_that_can_not_be_sent_costs_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is the truth: a worker looks at it by itself."""
    monkeypatch.setattr(queue, "wake", away)
    answer = client.post("/v1/generate", json=doors.request())
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_redis_is_gone(own: Stack, client: TestClient) -> None:
    """Last: from here on there is none."""
    own.processes["valkey"].stop()
    refused(client, "gone")
    assert client.get("/readyz").json()["checks"]["redis"].startswith("does not answer")
