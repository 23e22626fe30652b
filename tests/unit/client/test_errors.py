"""What the service refuses, and how that is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from draganything_client import (
    APIError,
    BadRequest,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)

from tests.unit.client.conftest import Clock
from tests.unit.client.scripted import (
    SPEC,
    Answer,
    Service,
    problem,
)


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
