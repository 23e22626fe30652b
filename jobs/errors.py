"""Everything that can go wrong with a job, as one tree. Each leaf is one problem type (RFC 9457).

DragAnythingError
├── BadRequest                 400  malformed_json
├── Unauthorized               401  unauthorized
├── Forbidden                  403  forbidden
├── NotFound                   404  not_found
├── MethodNotAllowed           405  method_not_allowed
├── Conflict                   409  conflict
│   └── IdempotencyInFlight    409  idempotency_in_flight
├── LengthRequired             411  length_required
├── TooLarge                   413  body_too_large
├── UnsupportedMediaType       415  unsupported_media_type
├── InvalidRequest             422  invalid_request
│   └── IdempotencyMismatch    422  idempotency_mismatch
├── RateLimited                429  rate_limited
└── Unavailable                503  unavailable
    ├── QueueFull              503  queue_full
    └── ModelUnavailable       503  model_unavailable

Interruption (never leaves the worker)
├── Canceled
├── LeaseLost
├── DeadlinePassed
└── Drained
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: an RFC 6901 pointer into the request body and what to do about it."""

    pointer: str
    detail: str


class DragAnythingError(Exception):
    """Base of the errors that a caller can meet. By itself it is a fault of the service; its log says which."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self, detail: str, *, errors: tuple[FieldError, ...] = (), retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s


class BadRequest(DragAnythingError):
    """Send one JSON object in UTF-8, with each name once in an object."""

    status, code, title = 400, "malformed_json", "The body is not JSON"


class Unauthorized(DragAnythingError):
    """Send a key as ``Authorization: Bearer …``; the operator makes one with ``draganything keys create``."""

    status, code, title = 401, "unauthorized", "No valid key"


class Forbidden(DragAnythingError):
    """The key lacks a scope, or the host that was asked for is not served; ``detail`` says which."""

    status, code, title = 403, "forbidden", "Not allowed"


class NotFound(DragAnythingError):
    """Look at the id: it may be mistyped, another key's, or of a job that has expired."""

    status, code, title = 404, "not_found", "There is no such thing"


class MethodNotAllowed(DragAnythingError):
    """Use a method of the Allow header."""

    status, code, title = 405, "method_not_allowed", "This address does not take this method"


class Conflict(DragAnythingError):
    """The job is not in a state for this; ``detail`` says what has to happen first."""

    status, code, title = 409, "conflict", "Not in this state"


class IdempotencyInFlight(Conflict):
    """Wait a moment and send the same request again."""

    code, title = "idempotency_in_flight", "A request with this Idempotency-Key is still being accepted"


class LengthRequired(DragAnythingError):
    """Send a Content-Length with the body."""

    status, code, title = 411, "length_required", "The length of the body is not announced"


class TooLarge(DragAnythingError):
    """Send a smaller picture, or upload it first: ``POST /v1/uploads``."""

    status, code, title = 413, "body_too_large", "The body is too large"


class UnsupportedMediaType(DragAnythingError):
    """Send the body as ``application/json``."""

    status, code, title = 415, "unsupported_media_type", "The media type is not supported"


class InvalidRequest(DragAnythingError):
    """One or more fields are wrong; ``errors`` names each."""

    status, code, title = 422, "invalid_request", "The request is not valid"

    @classmethod
    def at(cls, pointer: str, detail: str) -> InvalidRequest:
        """An error of one field."""
        return cls(detail, errors=(FieldError(pointer, detail),))


class IdempotencyMismatch(InvalidRequest):
    """Use a new key for a new request."""

    code, title = "idempotency_mismatch", "The Idempotency-Key was used with another body"


class RateLimited(DragAnythingError):
    """Wait for the seconds of Retry-After and send it again."""

    status, code, title = 429, "rate_limited", "Too many requests"


class Unavailable(DragAnythingError):
    """Wait for the seconds of Retry-After and send it again; ``/readyz`` names what is away."""

    status, code, title = 503, "unavailable", "A part of the service is away"


class QueueFull(Unavailable):
    """Wait for the seconds of Retry-After and send it again."""

    code, title = "queue_full", "The queue is full"


class ModelUnavailable(Unavailable):
    """Wait until a worker has loaded the model; ``GET /v1/models`` lists those that are there."""

    code, title = "model_unavailable", "No worker has announced this model yet"


class Interruption(Exception):
    """Raised between two denoising steps to end an attempt early."""


class Canceled(Interruption):
    """The client asked for it."""


class LeaseLost(Interruption):
    """Another attempt has taken over, or the job is gone: this attempt must not write anything more."""


class DeadlinePassed(Interruption):
    """The job ran longer than it may."""


class Drained(Interruption):
    """The worker is going away: the job goes back to the queue without spending an attempt."""
