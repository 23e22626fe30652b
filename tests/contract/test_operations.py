"""What operators and browsers meet: liveness, readiness, models, problem types, and who may call at all."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from starlette.testclient import TestClient

from jobs.errors import DragAnythingError
from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store
from local.ports import HOST, choose
from service.app import create_app
from tests import doors


def test_alive(api: TestClient) -> None:
    assert (api.get("/livez").status_code, api.get("/livez").json()) == (200, {"status": "ok"})


def test_ready_names_each_neighbour(client: TestClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    checks = {"redis": "ok", "s3": "ok", "workers": "ok"}
    assert answer.json() == {"status": "ok", "checks": checks, "models": {"tiny": 1}}


def test_not_ready_without_a_worker(client: TestClient, redis: Redis) -> None:
    redis.delete("da:workers:tiny")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert answer.json()["checks"] == {"redis": "ok", "s3": "ok", "workers": "no worker is alive"}
    assert answer.json()["models"] == {"tiny": 0}
    assert client.get("/v1/models").json()["models"]  # jobs are still accepted


def measured(client: TestClient) -> dict[str, float]:
    """Every sample that Prometheus would read, by its name and labels."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {
        f"{sample.name} {' '.join(sample.labels.values())}".strip(): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_count_jobs_workers_and_calls(client: TestClient, store: Store) -> None:
    before = measured(client)
    assert before["draganything_jobs_queued tiny"] == before["draganything_oldest_queued_job_seconds tiny"] == 0
    job_id = client.post("/v1/generate", json=doors.request()).json()["id"]
    client.get("/v1/jobs/anything")
    queued = measured(client)
    assert queued["draganything_redis_up"] == queued["draganything_workers tiny"] == 1
    assert queued["draganything_jobs_queued tiny"] == 1
    assert queued["draganything_oldest_queued_job_seconds tiny"] > 0
    calls = "draganything_http_request_duration_seconds_count"
    for call in ("POST /v1/generate 202", "GET /v1/jobs/{job_id} 404"):
        assert queued[f"{calls} {call}"] == before.get(f"{calls} {call}", 0) + 1
    assert store.claim(job_id, "attempt")
    running = measured(client)
    assert (running["draganything_jobs_queued tiny"], running["draganything_jobs_running"]) == (0, 1)


def test_a_call_to_nowhere_makes_no_label_of_its_own(client: TestClient) -> None:
    client.request("BREW", "/coffee")
    assert not any("coffee" in name or "BREW" in name for name in measured(client))


def test_metrics_say_that_redis_is_away(settings: Settings) -> None:
    dead = settings.model_copy(update={"redis_url": f"redis://{HOST}:{choose(1)[0]}/0"})
    with TestClient(create_app(dead), base_url="http://localhost") as client:
        found = measured(client)
    assert found["draganything_redis_up"] == 0
    assert "draganything_jobs_running" not in found


def test_not_ready_without_the_bucket(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    storage: Storage = client.app.state.doors.storage  # type: ignore[attr-defined]
    monkeypatch.setattr(storage, "bucket", "another")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["s3"] != "ok"


def test_models_are_the_announced_cards(client: TestClient) -> None:
    assert client.get("/v1/models").json() == {"models": [doors.CARD.model_dump(mode="json")]}


def kinds(kind: type[DragAnythingError] = DragAnythingError) -> list[type[DragAnythingError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in kinds(child))]


def test_every_problem_type_has_a_place(api: TestClient) -> None:
    page = api.get("/problems")
    assert page.headers["content-type"].startswith("text/html")
    codes = [kind.code for kind in kinds()]
    assert len(set(codes)) == len(codes) > 10
    for kind in kinds():
        assert f'<tr id="{kind.code}">' in page.text
        assert f"<td>{kind.status}</td>" in page.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/..%2f..%2fetc%2fpasswd", 404, "not_found"),
        ("PUT", "/v1/generate", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("DELETE", "/livez", 405, "method_not_allowed"),
    ],
)
def test_wrong_addresses_and_methods_are_problems(
    api: TestClient, method: str, path: str, status: int, code: str
) -> None:
    answer = api.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail", "code"}
    assert (answer.json()["code"], answer.json()["type"]) == (code, f"/problems#{code}")
    assert ("allow" in answer.headers) == (status == 405)


SERVED = ["localhost", "127.0.0.1", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:8000"]
FOREIGN = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example:8000",
    "evil.example:localhost",
    "[::2]",
]


@pytest.mark.parametrize("host", SERVED)
def test_loopback_is_served(api: TestClient, host: str) -> None:
    assert api.get("/livez", headers={"Host": host}).status_code == 200
    assert api.get("/livez", headers={"Origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize("host", [*FOREIGN, "", " ", "http://[", "a" * 5000])
def test_foreign_hosts_are_refused(api: TestClient, host: str) -> None:
    answer = api.get("/livez", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "origin", [*(f"https://{h}" for h in FOREIGN), "null", "http://[", "localhost", "http://"]
)
def test_foreign_origins_are_refused(client: TestClient, redis: Redis, origin: str) -> None:
    before = doors.keys(redis)
    answer = client.post("/v1/generate", json=doors.request(), headers={"Origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert doors.keys(redis) == before
    assert "access-control-allow-origin" not in answer.headers


def test_other_hosts_are_served_where_the_settings_name_them(settings: Settings) -> None:
    named = create_app(settings.model_copy(update={"allowed_hosts": ("video.example",)}))
    with TestClient(named, base_url="http://video.example") as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/livez", headers={"Host": "localhost"}).status_code == 403
    any_host = create_app(settings.model_copy(update={"allowed_hosts": ("*",)}))
    with TestClient(any_host, base_url="http://whatever.example") as client:
        assert client.get("/livez", headers={"Origin": "https://elsewhere.example"}).status_code == 200
