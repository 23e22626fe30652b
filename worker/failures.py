"""Errors as the user of a job sees them."""

from __future__ import annotations

import torch

from jobs.errors import NotFound
from jobs.state import Failure
from worker.inputs import DamagedInput
from worker.render import NotFinite


def explain(error: Exception) -> Failure:
    """What a user may know of an error: a stable code and what to do, never a traceback."""
    match error:
        case torch.OutOfMemoryError():
            detail = (
                "The device has too little memory for this job, twice; ask for fewer frames or a smaller size."
            )
            return Failure(code="out_of_memory", detail=detail)
        case NotFound() | DamagedInput():
            return Failure(code="input_lost", detail="An input is gone or can not be decoded; submit it again.")
        case NotFinite():
            return Failure(code="not_finite", detail="The model produced no finite numbers; try another seed.")
        case ValueError():
            return Failure(code="invalid_job", detail=str(error))
        case _:
            return Failure(
                code="render_failed", detail=f"Rendering failed ({type(error).__name__}); it was logged."
            )
