"""The calls, one by one."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from draganything_client import (
    Client,
    ConnectionFailed,
    NotFound,
    WaitTimeout,
)

from tests.unit.client.conftest import Clock
from tests.unit.client.scripted import (
    BUSY,
    CARD,
    DONE,
    MANIFEST,
    SPEC,
    Answer,
    Drop,
    Service,
    job,
    running,
)


def test_generate_sends_the_request_and_reads_the_job(client: Any, service: Service) -> None:
    service.on("POST", "/v1/generate", Answer(job(brand_new_field=1), 202))
    made = client.generate(SPEC)
    assert (made.id, made.status, made.ended, made.progress.steps) == ("j1", "queued", False, 25)
    assert made.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert made.brand_new_field == 1
    assert service.seen[0].body == SPEC
    assert "prefer" not in service.seen[0].headers


def test_wait_of_generate_is_a_preference_of_at_most_a_minute(client: Any, service: Service) -> None:
    service.on("POST", "/v1/generate", Answer(DONE))
    assert client.generate(SPEC, wait=300).ended
    assert service.seen[0].headers["prefer"] == "wait=60"


def test_a_preferred_wait_is_not_taken_for_silence() -> None:
    timeouts: list[float] = []

    def handle(request: httpx.Request) -> httpx.Response:
        timeouts.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json=DONE)

    with Client(timeout=10, transport=httpx.MockTransport(handle)) as client:
        client.generate(SPEC)
        client.generate(SPEC, wait=45)
    assert timeouts == [10, 55]


@pytest.mark.parametrize("body", [b"<html>login</html>", b"{}", b"[1]", b'{"id": "j1", "status": "dancing"}'])
def test_somebody_else_there(client: Any, service: Service, body: bytes) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(body))
    with pytest.raises(ConnectionFailed, match="not the answer of a DragAnything service"):
        client.job("j1")


def test_the_key_travels_as_a_bearer(
    connect: Callable[..., Any], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(DONE))
    connect(service.url).job("j1")
    connect(service.url, "secret").job("j1")
    monkeypatch.setenv("DRAGANYTHING_API_KEY", "from-env")
    monkeypatch.setenv("DRAGANYTHING_URL", service.url + "/")
    connect().job("j1")
    sent = [seen.headers.get("authorization") for seen in service.seen]
    assert sent == [None, "Bearer secret", "Bearer from-env"]


def test_a_loopback_service_is_reached_past_any_proxy(
    connect: Callable[..., Any], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    service.on("GET", "/v1/jobs/j1", Answer(DONE))
    assert connect(service.url, transport=None).job("j1").ended


def test_an_address_without_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="http://"):
        Client("localhost:8000")


def test_ids_are_quoted(client: Any, service: Service) -> None:
    with pytest.raises(NotFound):
        client.job("../models?x")
    assert service.seen[0].path == "/v1/jobs/..%2Fmodels%3Fx"


def test_cancel_delete_and_job_take_ids_and_jobs(client: Any, service: Service) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(job("running")))
    service.on("POST", "/v1/jobs/j1/cancel", Answer(job("canceled"), 202))
    service.on("DELETE", "/v1/jobs/j1", Answer(status=204))
    seen = client.job("j1")
    assert client.cancel(seen).status == client.cancel("j1").status == "canceled"
    assert client.delete(seen) is None


def test_jobs_are_listed_by_page(client: Any, service: Service) -> None:
    service.on("GET", "/v1/jobs", Answer({"jobs": [job(), DONE], "next": "c2"}))
    page = client.jobs(status="queued", limit=2, after="c1")
    assert ([made.status for made in page.jobs], page.next) == (["queued", "succeeded"], "c2")
    client.jobs()
    assert [seen.query for seen in service.seen] == [{"status": "queued", "limit": "2", "after": "c1"}, {}]


def test_models(client: Any, service: Service) -> None:
    service.on("GET", "/v1/models", Answer({"models": [CARD]}))
    [model] = client.models()
    assert (model.name, model.max_frames, model.licences, model.max_pixels) == (
        "tiny",
        25,
        ("Apache-2.0",),
        331776,
    )


RLE = {"size": [1, 3], "counts": [1, 2]}


def test_preview_and_segment_decode_their_pictures(client: Any, service: Service) -> None:
    picture = {"base64": base64.b64encode(b"picture" * 30).decode(), "format": "webp"}
    answer = {
        "animation": picture,
        "num_frames": 2,
        "points": [[[1, 2], [3.5, 4]]],
        "radii": [[5, 6]],
        "warnings": [],
    }
    service.on("POST", "/v1/preview", Answer(answer | {"estimate": {"seconds": 3.5}}))
    service.on("POST", "/v1/segment", Answer({"mask": picture, "rle": RLE, "score": 0.9, "engine": "grabcut"}))
    preview = client.preview(SPEC)
    assert (preview.animation.content, preview.animation.format) == (b"picture" * 30, "webp")
    assert (preview.points, preview.radii, preview.estimate.seconds) == ((((1, 2), (3.5, 4)),), ((5, 6),), 3.5)
    segment = client.segment(b"png", [(1, 2), (3, 4, 0)], box=(0, 0, 9, 9))
    assert (segment.mask.content, segment.score) == (b"picture" * 30, 0.9)
    assert (segment.rle.size, segment.rle.counts) == ((1, 3), (1, 2))
    assert service.seen[-1].body == {
        "image": {"base64": base64.b64encode(b"png").decode()},
        "points": [{"x": 1, "y": 2}, {"x": 3, "y": 4, "label": 0}],
        "box": [0, 0, 9, 9],
    }


def test_the_manifest_of_a_job(client: Any, service: Service) -> None:
    service.on("GET", "/v1/jobs/j1/result", Answer(MANIFEST))
    manifest = client.manifest(DONE["id"])
    assert service.seen[0].query == {"artifact": "manifest"}
    assert (manifest.frames_sha256, manifest.model.device, manifest.request["seed"]) == ("ef" * 32, "cpu", 7)


# Batches


def batch(status: str = "queued", *jobs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    counts = {made["status"]: 1 for made in jobs}
    urls = {"self": "http://x/v1/batches/b1", "cancel": "http://x/v1/batches/b1/cancel"}
    made = {"id": "b1", "object": "batch", "status": status, "counts": counts, "fraction": 0.5, "eta_s": None}
    return made | {"jobs": list(jobs), "urls": urls} | fields


def test_a_batch_of_requests_and_one_of_seeds(client: Any, service: Service) -> None:
    service.on("POST", "/v1/batches", BUSY, Answer(batch("queued", job()), 202))
    made = client.generate_batch([SPEC, SPEC])
    assert (made.id, made.status, made.ended, made.counts, made.jobs[0].id) == (
        "b1",
        "queued",
        False,
        {"queued": 1},
        "j1",
    )
    client.generate_batch(SPEC, seeds=[1, 2])
    client.generate_batch([SPEC], seeds=[3], idempotency_key="mine")
    assert [seen.body for seen in service.seen[1:]] == [
        {"requests": [SPEC, SPEC]},
        {"request": SPEC, "seeds": [1, 2]},
        {"request": SPEC, "seeds": [3]},
    ]
    first, again, other, mine = (seen.headers["idempotency-key"] for seen in service.seen)
    assert first == again != other
    assert mine == "mine"


def test_seeds_vary_one_request(client: Any) -> None:
    with pytest.raises(ValueError, match="seeds vary one request"):
        client.generate_batch([SPEC, SPEC], seeds=[1])


def test_a_batch_is_read_and_canceled_by_its_id_or_itself(client: Any, service: Service) -> None:
    service.on("GET", "/v1/batches/b1", Answer(batch("running", running(1))))
    service.on("POST", "/v1/batches/b1/cancel", Answer(batch("ended", job("canceled"))))
    seen = client.batch("b1")
    assert client.cancel_batch(seen).ended
    assert client.cancel_batch("b1").jobs[0].status == "canceled"


def test_waiting_for_a_batch_polls_and_tells_what_is_new(client: Any, service: Service, clock: Clock) -> None:
    going = [Answer(batch("running", running(step))) for step in (1, 1, 2)]
    service.on("GET", "/v1/batches/b1", going[0], Drop(), *going[1:], Answer(batch("ended", job("failed"))))
    told: list[Any] = []
    ended = client.wait_batch("b1", on_update=told.append)
    assert [made.jobs[0].progress.step for made in told[:2]] == [1, 2]
    assert (told[-1], len(told)) == (ended, 3)
    assert ended.jobs[0].error.code == "worker_crashed"
    assert all(pause >= 1 for pause in clock.sleeps)


def test_a_wait_for_a_batch_ends_on_time(client: Any, service: Service, clock: Clock) -> None:
    service.on("GET", "/v1/batches/b1", Answer(batch("running", running(1))))
    with pytest.raises(WaitTimeout, match="batch b1 is not done yet: running") as caught:
        client.wait_batch("b1", timeout=20)
    assert caught.value.batch is not None
    assert caught.value.job is None
    assert sum(clock.sleeps) == pytest.approx(20)
