"""Client of the DragAnything service: a picture, masks and polylines in; a video out.

from draganything_client import Client, entity, spec

with Client() as client:
    job = client.generate(spec("bird.png", [entity("mask.png", path=[(120, 80), (260, 90)])], seed=7))
    client.wait(job, on_update=lambda job: print(job.progress.stage, job.progress.fraction))
    client.download(job, "video.mp4")
"""

from ._async_client import AsyncClient
from ._client import Client
from ._errors import (
    APIError,
    BadRequest,
    Conflict,
    ConnectionFailed,
    DragAnythingError,
    FieldError,
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
from ._spec import entity, spec
from ._types import (
    Ballot,
    Batch,
    Job,
    JobWarning,
    Manifest,
    Model,
    Page,
    Preview,
    Problem,
    Progress,
    Result,
    Scores,
    Segment,
    Study,
    Upload,
)

__all__ = [
    "APIError",
    "AsyncClient",
    "BadRequest",
    "Ballot",
    "Batch",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "DragAnythingError",
    "FieldError",
    "Forbidden",
    "InvalidRequest",
    "Job",
    "JobCanceled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobWarning",
    "Manifest",
    "Model",
    "NotFound",
    "Page",
    "Preview",
    "Problem",
    "Progress",
    "RateLimited",
    "Result",
    "Scores",
    "Segment",
    "Study",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMediaType",
    "Upload",
    "WaitTimeout",
    "entity",
    "spec",
]
