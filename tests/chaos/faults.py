"""Deaths at chosen moments: a file named after a point tells the first process that reaches it what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from jobs.faults import Point
from tests.harness import until

Action = Literal["kill", "stop", "hang"]

POINTS: tuple[Point, ...] = get_args(Point)
"""The way of a job through a worker, in order."""


class Faults:
    """The directory that ``DRAGANYTHING_FAULTS`` names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.disarm()

    def arm(self, point: str, action: Action) -> None:
        """One process, once, does this at the point."""
        draft = self.directory / f".{point}"
        draft.write_text(action)
        draft.rename(self.directory / point)  # nobody reads half of it

    def await_taken(self, point: str, timeout_s: float = 60.0) -> None:
        """Wait until a process has reached the armed point.

        Raises:
            TimeoutError: none did.
        """
        until(lambda: not (self.directory / point).exists(), timeout_s)

    def disarm(self) -> None:
        """Nothing more happens."""
        for path in self.directory.iterdir():
            path.unlink(missing_ok=True)
