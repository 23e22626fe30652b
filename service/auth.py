"""Who sends a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends

from jobs.store import Quota


@dataclass(frozen=True)
class Caller:
    """The owner of what a request makes, and how many of their jobs there may be. Without keys, all are one."""

    owner: str = ""
    quota: Quota = field(default_factory=Quota)


def caller() -> Caller:
    """The sender of the request that is being handled."""
    return Caller()


Sender = Annotated[Caller, Depends(caller)]
