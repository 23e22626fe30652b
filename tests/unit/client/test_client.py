import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from draganything_client import (
    APIError,
    BadRequest,
    Client,
    Conflict,
    ConnectionFailed,
    Forbidden,
    InvalidRequest,
    JobCanceled,
    JobError,
    JobExpired,
    JobFailed,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    WaitTimeout,
)

from tests.unit.client.conftest import Clock
from tests.unit.client.scripted import Answer, Drop, Service, Stream, event, job, problem, result, running

SPEC = {"image": {"base64": "aW1hZ2U="}, "entities": []}
QUEUED = Answer(job(), 202)
DONE = job("succeeded")
BUSY = problem(503, "queue_full", "Later.", headers={"Retry-After": "7"})


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


@pytest.mark.parametrize("failure", [Drop(), BUSY, problem(429, "rate_limited", ""), Answer(b"<html>", 502)])
def test_generate_is_repeated_with_the_same_key(client: Any, service: Service, failure: Any) -> None:
    service.on("POST", "/v1/generate", failure, failure, QUEUED)
    assert client.generate(SPEC).id == "j1"
    keys = [seen.headers["idempotency-key"] for seen in service.seen]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_each_generate_has_a_key_of_its_own_unless_told(client: Any, service: Service) -> None:
    service.on("POST", "/v1/generate", QUEUED)
    for key in (None, None, "mine"):
        client.generate(SPEC, idempotency_key=key)
    first, second, third = (seen.headers["idempotency-key"] for seen in service.seen)
    assert first != second
    assert len(first) >= 32
    assert third == "mine"


def test_a_key_still_in_flight_is_waited_for(client: Any, service: Service) -> None:
    service.on("POST", "/v1/generate", Drop(), problem(409, "idempotency_in_flight", ""), QUEUED)
    assert client.generate(SPEC).id == "j1"


def test_retry_after_is_honoured(client: Any, service: Service, clock: Clock) -> None:
    service.on("POST", "/v1/generate", BUSY, QUEUED)
    client.generate(SPEC)
    assert clock.sleeps == [7.0]


def test_retry_after_may_be_a_date(client: Any, service: Service, clock: Clock) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    service.on("GET", "/v1/jobs/j1", problem(503, "unavailable", "", headers={"Retry-After": date}), Answer(DONE))
    client.job("j1")
    assert 20 < clock.sleeps[0] <= 40


def test_without_retry_after_the_pauses_grow(client: Any, service: Service, clock: Clock) -> None:
    service.on("GET", "/v1/jobs/j1", Drop(), Drop(), Drop(), Drop(), Answer(DONE))
    client.job("j1")
    bounds = [(0.25, 0.5), (0.5, 1), (1, 2), (2, 4)]
    assert [low <= pause <= high for pause, (low, high) in zip(clock.sleeps, bounds, strict=True)] == [True] * 4


def test_retries_end(connect: Callable[..., Any], service: Service, clock: Clock) -> None:
    service.on("GET", "/v1/jobs/j1", BUSY)
    with pytest.raises(Unavailable, match=r"Later\. \(503 queue_full\)"):
        connect(service.url, retries=2).job("j1")
    assert len(service.seen) == 3
    assert len(clock.sleeps) == 2


def test_a_retry_after_of_hours_is_not_slept(client: Any, service: Service, clock: Clock) -> None:
    service.on("GET", "/v1/jobs/j1", problem(429, "rate_limited", "", headers={"Retry-After": "7200"}))
    with pytest.raises(RateLimited) as caught:
        client.job("j1")
    assert caught.value.retry_after_s == 7200
    assert clock.sleeps == []


def test_nobody_there(connect: Callable[..., Any], service: Service) -> None:
    service.on("GET", "/v1/jobs/j1", Drop())
    with pytest.raises(ConnectionFailed, match=f"no answer from {service.url}"):
        connect(service.url, retries=1).job("j1")
    assert len(service.seen) == 2


@pytest.mark.parametrize("body", [b"<html>login</html>", b"{}", b"[1]", b'{"id": "j1", "status": "dancing"}'])
def test_somebody_else_there(client: Any, service: Service, body: bytes) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(body))
    with pytest.raises(ConnectionFailed, match="not the answer of a DragAnything service"):
        client.job("j1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (415, UnsupportedMediaType),
        (422, InvalidRequest),
        (429, RateLimited),
        (500, APIError),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
def test_errors_mirror_the_problem_types(
    connect: Callable[..., Any], service: Service, status: int, kind: type[APIError]
) -> None:
    service.on("GET", "/v1/jobs/j1", problem(status, "some_code", "Some detail."))
    with pytest.raises(APIError) as caught:
        connect(service.url, retries=0).job("j1")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.title, error.detail) == (
        status,
        "some_code",
        "some code",
        "Some detail.",
    )


def test_wrong_fields_are_named(client: Any, service: Service, clock: Clock) -> None:
    errors = [
        {"pointer": "/num_frames", "detail": "At most 25."},
        {"pointer": "", "detail": "An object."},
    ]
    service.on("POST", "/v1/generate", problem(422, "invalid_request", "2 fields are wrong.", errors=errors))
    with pytest.raises(InvalidRequest) as caught:
        client.generate(SPEC)
    assert [(error.pointer, error.detail) for error in caught.value.errors] == [
        ("/num_frames", "At most 25."),
        ("", "An object."),
    ]
    assert str(caught.value).splitlines() == [
        "2 fields are wrong. (422 invalid_request)",
        "  /num_frames: At most 25.",
        "  /: An object.",
    ]
    assert clock.sleeps == []


def test_an_error_that_is_no_problem_document(client: Any, service: Service) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(b"<Error>AccessDenied</Error>", 403))
    with pytest.raises(Forbidden, match="AccessDenied"):
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


CARD = {
    "name": "tiny",
    "width": 192,
    "height": 128,
    "num_frames": 14,
    "max_frames": 25,
    "num_inference_steps": 8,
    "max_inference_steps": 50,
    "fps": 7,
    "licences": ["Apache-2.0"],
    "weights_sha256": "ab" * 32,
    "max_pixels": 331776,
}


def test_models(client: Any, service: Service) -> None:
    service.on("GET", "/v1/models", Answer({"models": [CARD]}))
    [model] = client.models()
    assert (model.name, model.max_frames, model.licences, model.max_pixels) == (
        "tiny",
        25,
        ("Apache-2.0",),
        331776,
    )


def test_preview_and_segment_decode_their_pictures(client: Any, service: Service) -> None:
    picture = {"base64": base64.b64encode(b"picture" * 30).decode(), "format": "webp"}
    answer = {"animation": picture, "num_frames": 2, "points": [[[1, 2], [3.5, 4]]], "radii": [5], "warnings": []}
    service.on("POST", "/v1/preview", Answer(answer | {"estimate": {"seconds": 3.5}}))
    service.on("POST", "/v1/segment", Answer({"mask": picture, "rle": {}, "score": 0.9, "engine": "grabcut"}))
    preview = client.preview(SPEC)
    assert (preview.animation.content, preview.animation.format) == (b"picture" * 30, "webp")
    assert (preview.points, preview.estimate.seconds) == ((((1, 2), (3.5, 4)),), 3.5)
    segment = client.segment(b"png", [(1, 2), (3, 4, 0)], box=(0, 0, 9, 9))
    assert (segment.mask.content, segment.score) == (b"picture" * 30, 0.9)
    assert service.seen[-1].body == {
        "image": {"base64": base64.b64encode(b"png").decode()},
        "points": [{"x": 1, "y": 2}, {"x": 3, "y": 4, "label": 0}],
        "box": [0, 0, 9, 9],
    }


# Following a job


def steps(snapshots: list[Any]) -> list[int | str]:
    return [made.progress.step if made.status == "running" else made.status for made in snapshots]


def test_wait_follows_the_event_stream(client: Any, service: Service, clock: Clock) -> None:
    service.on(
        "GET",
        "/v1/jobs/j1/events",
        Stream([event(job()), b": keep-alive\n\n", event(running(1)), event(running(2)), event(DONE)]),
    )
    told: list[Any] = []
    ended = client.wait("j1", on_update=told.append)
    assert steps(told) == ["queued", 1, 2, "succeeded"]
    assert ended == told[-1]
    assert ended.result.video_url.startswith("http://s3/video")
    assert (len(service.seen), clock.sleeps) == (1, [])


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_events_may_arrive_in_any_pieces(client: Any, service: Service, size: int, ending: bytes) -> None:
    whole = event(job("queued", model="mödel")) + b"retry: 5\nevent: other\ndata: {}\n\nid: 3\n" + event(DONE)
    whole = whole.replace(b"\n", ending)
    chunks = [whole[at : at + size] for at in range(0, len(whole), size)]
    service.on("GET", "/v1/jobs/j1/events", Stream(chunks))
    assert [(made.status, made.model) for made in client.events("j1")] == [
        ("queued", "mödel"),
        ("succeeded", "tiny"),
    ]


def test_an_event_of_many_data_lines_is_one(client: Any, service: Service) -> None:
    lines = json.dumps(DONE, indent=1).splitlines()
    data = "".join(f"data: {line}\n" for line in lines)
    service.on("GET", "/v1/jobs/j1/events", Stream([f"event: snapshot\n{data}\n".encode()]))
    assert client.wait("j1").ended


@pytest.mark.parametrize("whole", [True, False])
def test_a_dropped_stream_is_taken_up_again(client: Any, service: Service, whole: bool) -> None:
    service.on(
        "GET",
        "/v1/jobs/j1/events",
        Stream([event(running(1))], whole),
        Drop(),
        Stream([event(running(3)), event(DONE)], whole),
    )
    service.on("GET", "/v1/jobs/j1", Answer(running(1)), Answer(running(2)), Answer(running(3)))
    told: list[Any] = []
    client.wait("j1", on_update=told.append)
    assert steps(told) == [1, 2, 3, "succeeded"]


def test_half_an_event_is_no_event(client: Any, service: Service) -> None:
    service.on("GET", "/v1/jobs/j1/events", Stream([event(running(1)), event(running(9))[:-1]], whole=False))
    service.on("GET", "/v1/jobs/j1", Answer(DONE))
    assert steps(client.events("j1")) == [1, "succeeded"]


@pytest.mark.parametrize(
    "no_stream",
    [
        problem(503, "unavailable", ""),
        Answer({"not": "a stream"}),
        Stream([b": nothing but comments\n\n"]),
        Drop(),
    ],
)
def test_without_a_stream_it_polls_more_and_more_rarely(
    client: Any, service: Service, clock: Clock, no_stream: Any
) -> None:
    service.on("GET", "/v1/jobs/j1/events", no_stream)
    service.on("GET", "/v1/jobs/j1", *[Answer(running(1))] * 8, Answer(DONE))
    told: list[Any] = []
    client.wait("j1", on_update=told.append)
    assert steps(told) == [1, "succeeded"]
    assert service.count("GET", "/v1/jobs/j1/events") == 3
    assert clock.sleeps[0] < 1
    assert all(4 <= pause <= 8 for pause in clock.sleeps[-3:])


def test_news_make_the_polls_frequent_again(client: Any, service: Service, clock: Clock) -> None:
    service.on("GET", "/v1/jobs/j1/events", Drop())
    service.on("GET", "/v1/jobs/j1", *[Answer(running(1))] * 6, Answer(running(2)), Answer(DONE))
    client.wait("j1")
    assert clock.sleeps[-2] >= 4
    assert clock.sleeps[-1] <= 0.5


def test_a_wait_sits_out_an_outage(client: Any, service: Service, clock: Clock) -> None:
    service.on("GET", "/v1/jobs/j1/events", Stream([event(running(1))], whole=False), Drop())
    outage: list[Any] = [Drop(), BUSY] * 8
    service.on("GET", "/v1/jobs/j1", *outage, Answer(DONE))
    assert client.wait("j1").ended
    assert sum(pause >= 7 for pause in clock.sleeps) >= 8


def test_a_wait_gives_up_at_last(client: Any, service: Service) -> None:
    service.on("GET", "/v1/jobs/j1/events", Stream([event(running(1))], whole=False), Drop())
    service.on("GET", "/v1/jobs/j1", Drop())
    with pytest.raises(ConnectionFailed):
        client.wait("j1")


def test_a_wait_for_a_service_never_heard_of_gives_up_soon(client: Any, service: Service) -> None:
    service.on("GET", "/v1/jobs/j1/events", Drop())
    service.on("GET", "/v1/jobs/j1", Drop())
    with pytest.raises(ConnectionFailed):
        client.wait("j1")
    assert service.count("GET", "/v1/jobs/j1") == 5


def test_a_job_that_is_not_there(client: Any, service: Service) -> None:
    with pytest.raises(NotFound):
        client.wait("j1")
    assert [seen.path for seen in service.seen] == ["/v1/jobs/j1/events", "/v1/jobs/j1"]


@pytest.mark.parametrize(
    ("status", "kind"), [("failed", JobFailed), ("canceled", JobCanceled), ("expired", JobExpired)]
)
def test_a_job_without_a_video_is_an_error(
    client: Any, service: Service, status: str, kind: type[JobError]
) -> None:
    service.on("GET", "/v1/jobs/j1/events", Stream([event(job(status))]))
    with pytest.raises(kind, match=f"job j1 {status}") as caught:
        client.wait("j1")
    assert caught.value.job.status == status
    assert ("The worker died. (worker_crashed)" in str(caught.value)) == (status == "failed")


def test_a_short_wait_ends_on_time(client: Any, service: Service, clock: Clock) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(running(4)))
    with pytest.raises(WaitTimeout, match="job j1 is not done yet: running") as caught:
        client.wait("j1", timeout=20)
    assert caught.value.job is not None
    assert caught.value.job.progress.step == 4
    assert sum(clock.sleeps) == pytest.approx(20)


def test_a_long_wait_leaves_the_stream_to_end_on_time(client: Any, service: Service, clock: Clock) -> None:
    clock.tick = 10.0
    service.on("GET", "/v1/jobs/j1/events", Stream([event(running(n)) for n in range(25)]))
    service.on("GET", "/v1/jobs/j1", Answer(running(9)))
    told: list[Any] = []
    with pytest.raises(WaitTimeout):
        client.wait("j1", on_update=told.append, timeout=120)
    assert service.count("GET", "/v1/jobs/j1/events") == 1
    assert service.count("GET", "/v1/jobs/j1") >= 1
    assert clock.now < 120 + 3 * clock.tick


def test_the_async_wait_awaits_its_callback(service: Service) -> None:
    import asyncio

    from draganything_client import AsyncClient

    service.on("GET", "/v1/jobs/j1/events", Stream([event(job()), event(DONE)]))
    told: list[str] = []

    async def tell(made: Any) -> None:
        await asyncio.sleep(0)
        told.append(made.status)

    async def main() -> None:
        async with AsyncClient(service.url) as client:
            await client.wait("j1", on_update=tell)

    asyncio.run(main())
    assert told == ["queued", "succeeded"]


def test_leaving_the_events_early_closes_the_connection(service: Service) -> None:
    service.on("GET", "/v1/jobs/j1/events", Stream([event(job()), event(DONE)]))
    with Client(service.url) as client:
        assert next(iter(client.events("j1"))).status == "queued"


# Downloads


def artifact(content: bytes, media_type: str) -> Answer:
    return Answer(content, headers={"Content-Type": media_type})


def test_a_folder_gets_the_files_under_their_names(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(DONE))
    service.on(
        "GET",
        "/v1/jobs/j1/result",
        artifact(b"V" * 100_000, "video/webm"),
        artifact(b"O", "video/mp4"),
        artifact(b"{}", "application/json; charset=utf-8"),
    )
    saved = client.download("j1", tmp_path / "out" / "demo")
    assert {name: path.name for name, path in saved.items()} == {
        "video": "video.webm",
        "overlay": "overlay.mp4",
        "manifest": "manifest.json",
    }
    assert saved["video"].read_bytes() == b"V" * 100_000
    asked = [seen.query["artifact"] for seen in service.seen if seen.query]
    assert asked == ["video", "overlay", "manifest"]
    assert len(list((tmp_path / "out" / "demo").iterdir())) == 3


def test_only_what_the_job_has_is_fetched(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(job("succeeded", result=result(overlay_url=None, manifest_url=None))))
    service.on("GET", "/v1/jobs/j1/result", artifact(b"V", "video/mp4"))
    assert list(client.download(client.job("j1"), tmp_path)) == ["video"]


def test_a_file_gets_the_video_and_replaces_what_was_there(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1/result", artifact(b"new", "video/mp4"))
    target = tmp_path / "bird.mp4"
    target.write_bytes(b"old and longer")
    (tmp_path / "same-inode.mp4").hardlink_to(target)
    assert client.download("j1", target) == {"video": target}
    assert target.read_bytes() == b"new"
    assert (tmp_path / "same-inode.mp4").read_bytes() == b"old and longer"


def test_one_file_cannot_take_two_artifacts(client: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder"):
        client.download("j1", tmp_path / "a.mp4", ["video", "overlay"])


def test_a_broken_download_starts_again(client: Any, service: Service, clock: Clock, tmp_path: Path) -> None:
    service.on(
        "GET",
        "/v1/jobs/j1/result",
        Stream([b"half"], whole=False, media_type="video/mp4"),
        Drop(),
        artifact(b"whole", "video/mp4"),
    )
    client.download("j1", tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == b"whole"
    assert len(clock.sleeps) == 2


def test_a_download_that_never_ends_well_leaves_nothing(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1/result", Stream([b"half"], whole=False, media_type="video/mp4"))
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(ConnectionFailed):
        client.download("j1", tmp_path / "a.mp4")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_missing_artifact_is_not_found(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1/result", problem(404, "not_found", "This job has no frames."))
    with pytest.raises(NotFound, match="no frames"):
        client.download("j1", tmp_path, ["frames"])
    assert list(tmp_path.iterdir()) == []


def test_the_key_never_goes_to_the_object_store(
    connect: Callable[..., Any], service: Service, tmp_path: Path
) -> None:
    with Service() as store:
        store.on("GET", "/bucket/video", artifact(b"V", "video/mp4"))
        link = {"Location": f"{store.url}/bucket/video?signature=s"}
        service.on("GET", "/v1/jobs/j1/result", Answer(status=302, headers=link))
        connect(service.url, "secret").download("j1", tmp_path / "a.mp4")
    assert service.seen[0].headers["authorization"] == "Bearer secret"
    assert "authorization" not in store.seen[0].headers
