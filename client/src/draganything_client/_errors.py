"""Everything that can go wrong, as one tree.

DragAnythingError
├── ConnectionFailed             no usable answer, after all retries
├── APIError                     the service says no: status, code, title, detail, errors
│   ├── BadRequest               400
│   ├── Unauthorized             401
│   ├── Forbidden                403
│   ├── NotFound                 404
│   ├── Conflict                 409
│   ├── TooLarge                 413
│   ├── UnsupportedMediaType     415
│   ├── InvalidRequest           422  errors names each wrong field
│   ├── RateLimited              429
│   └── Unavailable              502, 503, 504
├── JobError                     the job brings no video: job
│   ├── JobFailed
│   ├── JobCanceled
│   └── JobExpired               its deadline passed before it started
└── WaitTimeout                  the work goes on, the wait does not: job or batch (None before the first snapshot)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ._types import Batch, Job, Problem


class DragAnythingError(Exception):
    """Base of all errors of this package."""


class ConnectionFailed(DragAnythingError):
    """The service did not answer, or something else answered in its place."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: a JSON pointer (RFC 6901) into the request, and what to do about it."""

    pointer: str
    detail: str


class APIError(DragAnythingError):
    """A problem answer (RFC 9457)."""

    by_status: ClassVar[dict[int, type[APIError]]] = {}

    def __init_subclass__(cls, statuses: tuple[int, ...]) -> None:
        APIError.by_status |= dict.fromkeys(statuses, cls)

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(problem.detail or problem.title)
        self.status = problem.status
        self.code = problem.code
        self.title = problem.title
        self.detail = problem.detail
        self.errors = problem.errors or ()
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        first = f"{self.detail or self.title} ({self.status} {self.code})".strip()
        return "\n".join([first, *(f"  {error.pointer or '/'}: {error.detail}" for error in self.errors)])

    @property
    def temporary(self) -> bool:
        """True where the same request may succeed later."""
        return self.status in (429, 502, 503, 504) or self.code == "idempotency_in_flight"


class BadRequest(APIError, statuses=(400,)):
    """The body is not JSON."""


class Unauthorized(APIError, statuses=(401,)):
    """No key, or an unknown one."""


class Forbidden(APIError, statuses=(403,)):
    """The key may not do this."""


class NotFound(APIError, statuses=(404,)):
    """No such job of this key, or it has expired."""


class Conflict(APIError, statuses=(409,)):
    """Not possible in this state."""


class TooLarge(APIError, statuses=(413,)):
    """The body is too large."""


class UnsupportedMediaType(APIError, statuses=(415,)):
    """The body's media type is not supported."""


class InvalidRequest(APIError, statuses=(422,)):
    """Fields are wrong, or an idempotency key came with another body."""


class RateLimited(APIError, statuses=(429,)):
    """Over a limit of the key."""


class Unavailable(APIError, statuses=(502, 503, 504)):
    """A full queue, or a part of the service is away."""


class JobError(DragAnythingError):
    """A job that ended without a video."""

    def __init__(self, job: Job) -> None:
        because = f": {job.error.detail} ({job.error.code})" if job.error else ""
        super().__init__(f"job {job.id} {job.status}{because}")
        self.job = job


class JobFailed(JobError):
    """The job failed; ``job.error`` says why."""


class JobCanceled(JobError):
    """Somebody canceled the job."""


class JobExpired(JobError):
    """The job's deadline passed before it started."""


class WaitTimeout(DragAnythingError):
    """``timeout`` seconds were not enough."""

    def __init__(self, what: str, *, job: Job | None = None, batch: Batch | None = None) -> None:
        last = job or batch
        super().__init__(f"{what} is not done yet{f': {last.status}' if last else ''}")
        self.job, self.batch = job, batch
