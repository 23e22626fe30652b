"""Calls are repeated where that can help, and only there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from draganything_client import (
    ConnectionFailed,
    RateLimited,
    Unavailable,
)

from tests.unit.client.conftest import Clock
from tests.unit.client.scripted import (
    BUSY,
    DONE,
    QUEUED,
    SPEC,
    Answer,
    Drop,
    Service,
    problem,
)


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
