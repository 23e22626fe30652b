"""One job on a stack of its own: the quickest proof that everything works together."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from draganything_client import Client, DragAnythingError, Job
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from local.errors import LocalError
from local.stack import Stack

READY_S = 180.0
RENDERED_S = 600.0


class DemoFailed(LocalError):
    """The job brought no video; the message ends with the logs of those who worked on it."""


def run(spec: Path, out: Path, console: Console) -> None:
    """Start a stack in a temporary directory, render ``spec`` with the tiny model, save its files to ``out``.

    Raises:
        DemoFailed: ``spec`` is not a JSON file, or brings no video.
        LocalError: the stack did not start.
    """
    request = _read(spec)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DRAGANYTHING_")}
    environ["DRAGANYTHING_MODELS"] = '["tiny"]'
    with (
        TemporaryDirectory(prefix="draganything-demo-") as directory,
        console.status("Starting Valkey, S3, the API and a worker …") as status,
        Stack(Path(directory), environ=environ, ready_s=READY_S) as stack,
    ):
        status.stop()
        try:
            job, files = _render(stack.base_url, request, out, console)
        except DragAnythingError as error:
            logs = "".join(f"\n{name}{stack.processes[name].tail()}" for name in ("api", "worker"))
            raise DemoFailed(f"{error}{logs}") from error
        finally:
            status.update("Stopping …")
            status.start()
    _show(job, files, console)


def _read(spec: Path) -> dict[str, Any]:
    try:
        request = json.loads(spec.read_bytes())
    except (OSError, ValueError) as error:
        raise DemoFailed(f"{spec} is not a job request: {error}") from error
    if not isinstance(request, dict):
        raise DemoFailed(f"{spec} is not a job request: a JSON object is expected")
    return request


def _render(base_url: str, request: dict[str, Any], out: Path, console: Console) -> tuple[Job, dict[str, Path]]:
    columns = (TextColumn("{task.description:13}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Client(base_url) as client, Progress(*columns, console=console) as progress:
        bar = progress.add_task("submitting", total=1.0)

        def update(job: Job) -> None:
            progress.update(bar, description=job.progress.stage, completed=job.progress.fraction)

        job = client.wait(client.generate(request), on_update=update, timeout=RENDERED_S)
        out.mkdir(parents=True, exist_ok=True)
        return job, client.download(job, out)


def _show(job: Job, files: dict[str, Path], console: Console) -> None:
    for name, path in files.items():
        console.print(f"[green]{name:9}[/green] {escape(str(path))}", soft_wrap=True)
    for warning in job.warnings:
        console.print(
            f"[yellow]warning[/yellow]   {escape(warning.code)}: {escape(warning.detail)}", soft_wrap=True
        )
    if job.result and job.result.scores:
        console.print(f"[cyan]score[/cyan]     {escape(str(job.result.scores))}", soft_wrap=True)
    timings = job.result.timings_s if job.result else {}
    seconds = ", ".join(f"{stage} {took:.2f}" for stage, took in timings.items())
    console.print(f"[dim]seconds   {seconds}", soft_wrap=True)
