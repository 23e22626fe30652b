"""Who sends a request."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.store import Quota


@dataclass(frozen=True)
class Caller:
    """The owner of what a request makes, and how many of their jobs there may be. Without keys, everybody is one."""

    owner: str = ""
    quota: Quota = Quota()


def caller() -> Caller:
    """The sender of the request that is being handled."""
    return Caller()
