"""What Prometheus is told: the metrics that docs/observe.md lists, and nothing that a stranger chose."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import grpc
import httpx
import pytest
from draganything.v1 import draganything_pb2 as pb
from draganything.v1.draganything_pb2_grpc import DragAnythingStub
from fastapi import FastAPI
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from starlette.testclient import TestClient

from jobs.settings import Settings
from jobs.state import Failure
from jobs.storage import Storage
from jobs.store import NewJob, Store, new_id
from jobs.webhooks import Subscription
from service import telemetry
from tests import doors, rpc
from tests.harness import until
from tests.unit.jobs.specs import make_spec
from tests.unit.worker.scenes import lapse
from worker.telemetry import REGISTRY

PAGE = Path(__file__).parents[2] / "docs/observe.md"
ROW = re.compile(r"^\| `(draganything_\w+)` \| (\w+) \| (.*?) \|", re.MULTILINE)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is emptied between tests, which no Redis that jobs depend on is."""
    monkeypatch.setattr(telemetry, "_seen", {})


def measured(client: TestClient | httpx.Client) -> dict[str, float]:
    """Every sample by its name and the values of its labels, in the order of their names."""
    return {
        " ".join(filter(None, [sample.name, *dict(sorted(sample.labels.items())).values()])): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def labels_of(text: str) -> dict[str, set[str]]:
    """The labels of each family that has samples."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(family.name, set()).update(set(sample.labels) - {"le"})
    return found


def queue_one(store: Store) -> str:
    (record,) = store.create("", [NewJob(new_id(), make_spec())])
    return record.id


def test_the_page_lists_what_is_exposed(client: TestClient) -> None:
    client.post("/v1/generate", json=doors.request())
    texts = client.get("/metrics").text, generate_latest(REGISTRY).decode()
    exposed = {pair for text in texts for pair in re.findall(r"# TYPE (draganything_\w+) (\w+)", text)}
    listed = ROW.findall(PAGE.read_text())
    assert sorted((name, kind) for name, kind, _ in listed) == sorted(exposed)
    found = labels_of("".join(texts))
    for name, _, labels in listed:
        held = found.get(name.removesuffix("_total"))
        assert held in (None, set(re.findall(r"`(\w+)`", labels))), name


def test_each_transition_is_counted_once(client: TestClient, store: Store) -> None:
    succeeded, failed, canceled, crashed = (queue_one(store) for _ in range(4))
    doors.finish(succeeded, store, Storage(store.settings))
    assert store.claim(failed, "a")
    for _ in range(2):  # the second time as if the first answer had been lost
        store.fail(failed, "a", Failure(code="out_of_memory", detail=""))
    store.cancel(canceled)
    assert store.claim(crashed, "a")
    assert store.hand_back(crashed, "a")
    for attempt in range(store.settings.max_attempts):
        assert store.claim(crashed, f"b{attempt}")
        lapse(store, crashed)
        store.reclaim(crashed)
    found = measured(client)
    ended = "draganything_jobs_ended_total"
    assert {name: value for name, value in found.items() if name.startswith(ended) and value} == {
        f"{ended} tiny succeeded": 1,
        f"{ended} out_of_memory tiny failed": 1,
        f"{ended} tiny canceled": 1,
        f"{ended} worker_crashed tiny failed": 1,
    }
    assert found["draganything_attempts_total tiny"] == 3 + store.settings.max_attempts
    interrupted = "draganything_attempts_interrupted_total tiny"
    assert found[f"{interrupted} lease_lost"] == store.settings.max_attempts
    assert found[f"{interrupted} drained"] == 1


def test_a_counter_does_not_fall_with_what_redis_lost(client: TestClient, redis: Redis) -> None:
    shown = []
    for count in (100, 97, 101, 3):  # 97: it lost its last second; 3: it is another Redis
        redis.hset("da:counts:tiny", "succeeded", count)
        shown.append(measured(client)["draganything_jobs_ended_total tiny succeeded"])
    assert shown == [100, 100, 101, 3]


def test_webhooks_that_wait_and_that_were_given_up(client: TestClient, store: Store, redis: Redis) -> None:
    for host in ("a.example:443", "b.example:443"):
        webhook = Subscription(
            url=f"https://{host}/", host=host, events=("job.canceled",), base_url="http://localhost"
        )
        (record,) = store.create("", [NewJob(new_id(), make_spec(), webhook=webhook)])
        store.cancel(record.id)
    redis.zadd("da:dead-letters", {"x": 1})
    found = measured(client)
    assert (found["draganything_webhooks_pending"], found["draganything_webhooks_dead"]) == (2, 1)
    assert found["draganything_webhooks_overdue_seconds"] >= 0
    redis.zincrby("da:outbox", -60_000, "b.example:443")
    assert measured(client)["draganything_webhooks_overdue_seconds"] >= 60


def test_accepted_and_refused(client: TestClient) -> None:
    def counted() -> tuple[float, ...]:
        found = measured(client)
        names = (
            "jobs_accepted_total tiny",
            "calls_refused_total invalid_request",
            "calls_refused_total not_found",
        )
        return tuple(found.get(f"draganything_{name}", 0) for name in names)

    before = counted()
    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        client.post("/v1/generate", json=doors.request(), headers=key)
    client.post("/v1/generate", json=doors.request(seed=-1))
    client.get("/v1/jobs/nothing")
    assert [after - held for after, held in zip(counted(), before, strict=True)] == [1, 1, 1]


def test_no_label_is_a_strangers(client: TestClient) -> None:
    client.request("BREW", "/v1/jobs/teapot")
    client.get("/v1/jobs/teapot")
    text = client.get("/metrics").text
    assert "BREW" not in text
    assert "teapot" not in text


def test_streams_are_counted_while_they_are_open(app: FastAPI, store: Store) -> None:
    job_id = queue_one(store)
    with doors.serving(app) as (host, port), httpx.Client(base_url=f"http://{host}:{port}") as client:

        def streams() -> float:
            return measured(client).get("draganything_streams_open sse", 0)

        with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            lines = answer.iter_lines()  # dropping it would close the stream
            next(lines)
            assert streams() == 1
        until(lambda: streams() == 0)


@pytest.fixture
def app(client: TestClient) -> FastAPI:
    """The application that ``client`` speaks to."""
    assert isinstance(client.app, FastAPI)
    return client.app


def test_grpc_calls_are_timed_by_name_and_code(settings: Settings, redis: Redis) -> None:
    doors.announce(redis)
    with rpc.opened(settings) as door, door.channel() as channel:
        stub = DragAnythingStub(channel)
        before = measured(door.web)
        stub.ListModels(pb.ListModelsRequest())
        with pytest.raises(grpc.RpcError):
            stub.GetJob(pb.GetJobRequest(id="none"))
        job = stub.Generate(rpc.request())
        watching = stub.WatchJob(pb.WatchJobRequest(id=job.id))
        next(watching)
        assert measured(door.web)["draganything_streams_open grpc"] == 1
        watching.cancel()
        until(lambda: measured(door.web)["draganything_streams_open grpc"] == 0)
        after = measured(door.web)
    calls = "draganything_rpc_duration_seconds_count"
    for call in ("OK ListModels", "NOT_FOUND GetJob", "OK Generate", "CANCELLED WatchJob"):
        assert after[f"{calls} {call}"] == before.get(f"{calls} {call}", 0) + 1
    refused = "draganything_calls_refused_total not_found"
    assert after[refused] == before.get(refused, 0) + 1


def test_an_object_store_that_hangs_does_not_hold_up_the_scrape(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured(client)["draganything_s3_up"] == 1
    answered = threading.Event()
    monkeypatch.setattr(app.state.doors.storage, "check", lambda: answered.wait(30))
    monkeypatch.setattr(telemetry, "PROBE_S", 0.1)
    try:
        assert [measured(client)["draganything_s3_up"] for _ in range(2)] == [0, 0]
    finally:
        answered.set()
