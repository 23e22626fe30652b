"""Progress for people: a bar on a terminal, a line for each stage elsewhere; always on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ._types import Batch, Job

err = Console(stderr=True, highlight=False)


class Bar:
    """A context; ``update`` is an ``on_update`` of ``Client.wait``, ``update_batch`` of ``Client.wait_batch``."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}", style="dim"),
            console=err,
            disable=not err.is_terminal,
        )
        self._task = self._progress.add_task("waiting".ljust(20), total=1.0, eta="")
        self._stage = ""

    def update(self, job: Job) -> None:
        """Show a snapshot."""
        now = job.progress
        stage = f"{job.status}" if job.ended else now.stage
        place = f", place {job.queue_position}" if job.status == "queued" and job.queue_position else ""
        step = f" {now.step}/{now.steps}" if now.stage == "denoising" and now.steps else ""
        self._show(f"{stage}{place}{step}", now.fraction, job.eta_s)
        self._tell(job.id, stage, place)

    def update_batch(self, batch: Batch) -> None:
        """Show a snapshot."""
        counts = ", ".join(f"{count} {status}" for status, count in batch.counts.items() if count)
        self._show(counts, batch.fraction, None if batch.ended else batch.eta_s)
        self._tell(batch.id, counts)

    def _show(self, text: str, fraction: float, eta_s: float | None) -> None:
        eta = f"about {eta_s:.0f} s left" if eta_s is not None else ""
        self._progress.update(self._task, description=text.ljust(20), completed=fraction, eta=eta)

    def _tell(self, of: str, stage: str, more: str = "") -> None:
        """A line where there is no bar, once for each stage."""
        if self._progress.disable and stage != self._stage:
            err.print(f"{of}: {stage}{more}", soft_wrap=True)
        self._stage = stage

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
