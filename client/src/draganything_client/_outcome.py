"""From a queued job or batch to files on disk, with progress, messages and an exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import typer

from ._bar import Bar, err
from ._client import Client
from ._errors import DragAnythingError, JobError
from ._following import succeeded
from ._show import say, warn
from ._types import Batch, Job

FAILED, REFUSED, AWAY, STOPPED, DIFFERENT, INTERRUPTED = 1, 2, 3, 4, 5, 130
"""Exit codes."""
FORMATS = ("mp4", "webm", "gif", "webp")


def wait(client: Client, job: Job | str, as_json: bool) -> Job:
    """The finished job.

    Raises:
        JobError: it brought no video; with ``as_json`` the job has been printed.
        typer.Exit: the user did not want to wait any longer.
    """
    job_id = job if isinstance(job, str) else job.id
    try:
        with Bar() as bar, _left(job_id, "job"):
            ended = client.wait(job_id, bar.update)
    except JobError as error:
        if as_json:
            typer.echo(error.job.model_dump_json())
        raise
    warn(ended.warnings)
    if ended.result and ended.result.scores:
        err.print(f"score: {ended.result.scores}", soft_wrap=True)
    return ended


def save(client: Client, job: Job, output: Path | None, overlay: Path | None = None) -> dict[str, Path]:
    """Save a finished job's files: where each is."""
    saved = {}
    if output is not None or overlay is None:
        saved = client.download(job, output or Path(video_name(job, job.id)))
    if overlay is not None:
        saved |= client.download(job, overlay, ["overlay"])
    return saved


def report(job: Job, saved: dict[str, Path], as_json: bool, **more: object) -> None:
    """Print where a finished job's files are, or the whole job, with ``more``."""
    if as_json:
        files = {name: str(path) for name, path in saved.items()}
        typer.echo(json.dumps({**job.model_dump(mode="json"), "files": files, **more}))
    else:
        for path in saved.values():
            say(path)


def wait_batch(client: Client, batch: str) -> Batch:
    """The batch when all of its jobs have ended.

    Raises:
        typer.Exit: the user did not want to wait any longer.
    """
    with Bar() as bar, _left(batch, "batch"):
        return client.wait_batch(batch, bar.update_batch)


def deliver_batch(client: Client, batch: Batch, folder: Path | None, as_json: bool) -> None:
    """Save the videos of an ended batch by their seeds, tell why others are missing.

    Raises:
        DragAnythingError: some job brought no video: the first one's error, after all others have been told.
    """
    folder = folder or Path(batch.id)
    files: dict[str, str] = {}
    first: DragAnythingError | None = None
    for index, job in enumerate(batch.jobs):
        warn(job.warnings if index == 0 else ())  # the others are the same request's, mostly
        try:
            path = folder / _numbered(succeeded(job), batch)
            files[job.id] = str(client.download(job, path)["video"])
        except JobError as error:
            if first is not None:
                err.print(f"error: {error}", markup=False, soft_wrap=True)
            first = first or error
        else:
            if not as_json:
                say(path)
    if as_json:
        typer.echo(json.dumps({**batch.model_dump(mode="json"), "files": files}))
    if first is not None:
        raise first


def video_name(job: Job, stem: str) -> str:
    """What a finished job's video is saved as."""
    suffix = Path(urlsplit(job.result.video_url).path).suffix if job.result else ""
    return stem + (suffix or ".mp4")


def _numbered(job: Job, batch: Batch) -> str:
    """By the seed where that tells the jobs apart, else by the place in the batch."""
    seeds = [other.result.seed if other.result else other.id for other in batch.jobs]
    place = [other.id for other in batch.jobs].index(job.id)
    stem = f"seed-{seeds[place]}" if len(set(seeds)) == len(seeds) else f"{place + 1:02}"
    return video_name(job, stem)


@contextmanager
def _left(of: str, noun: str) -> Iterator[None]:
    """Ctrl-C ends the wait and says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        more = " --batch" if noun == "batch" else ""
        err.print(f"\nThe {noun} goes on: draganything watch {of}{more} | draganything cancel {of}{more}")
        raise typer.Exit(INTERRUPTED) from None
