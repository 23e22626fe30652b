"""Waiting for a job: by its events, else by polling."""

from __future__ import annotations

import json
from typing import Any

import pytest
from draganything_client import (
    Client,
    ConnectionFailed,
    JobCanceled,
    JobError,
    JobExpired,
    JobFailed,
    NotFound,
    WaitTimeout,
)

from tests.unit.client.conftest import Clock
from tests.unit.client.scripted import (
    BUSY,
    DONE,
    Answer,
    Drop,
    Service,
    Stream,
    event,
    job,
    problem,
    running,
)


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
