"""``watch``, ``cancel``, ``jobs`` and ``models``: what is there and how it goes."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import _outcome as outcome
from .._bar import err
from .._options import JobId, JsonFlag, OfBatch, Output, Overlay, option
from .._show import colored, out, say, table
from .._types import Models, Status


def watch(
    ctx: typer.Context,
    job: JobId,
    of_batch: OfBatch = False,
    output: Output = None,
    overlay: Overlay = None,
    as_json: JsonFlag = False,
) -> None:
    """Follow a job; save its video if -o or --overlay say where.

    With --batch: follow all of its jobs, and save their videos in the folder -o.
    """
    with ctx.obj.client() as client:
        if of_batch:
            ended = outcome.wait_batch(client, job)
            if output is not None:
                outcome.deliver_batch(client, ended, output, as_json)
            elif as_json:
                typer.echo(ended.model_dump_json())
            return
        done = outcome.wait(client, job, as_json)
        saved = outcome.save(client, done, output, overlay) if output or overlay else {}
        outcome.report(done, saved, as_json)


def cancel(ctx: typer.Context, job: JobId, of_batch: OfBatch = False, as_json: JsonFlag = False) -> None:
    """Stop a job; one that has ended stays as it is."""
    with ctx.obj.client() as client:
        answer = client.cancel_batch(job) if of_batch else client.cancel(job)
    typer.echo(answer.model_dump_json() if as_json else f"{answer.id} {answer.status}")


def jobs(
    ctx: typer.Context,
    status: Annotated[
        Status | None,
        option("--status", metavar="STATUS", help="Only queued, running, succeeded, failed, canceled or expired."),
    ] = None,
    limit: Annotated[int | None, option("--limit", metavar="N", help="At most this many.")] = None,
    after: Annotated[str | None, option("--after", metavar="CURSOR", help="Go on behind the last page.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List your jobs, newest first."""
    with ctx.obj.client() as client:
        page = client.jobs(status=status, limit=limit, after=after)
    if as_json:
        typer.echo(page.model_dump_json())
        return
    shown = table("id", "status", "progress", "model", "created")
    for job in page.jobs:
        created = f"{job.created_at.astimezone():%Y-%m-%d %H:%M}" if job.created_at else ""
        shown.add_row(job.id, colored(job), f"{job.progress.fraction:.0%}", job.model, created)
    out.print(shown if page.jobs else "No jobs.")
    if page.next:
        err.print(f"More: --after {page.next}", style="dim")


def models(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """List the service's models with their defaults and limits."""
    if ctx.invoked_subcommand is not None:
        return
    with ctx.obj.client() as client:
        installed = client.models()
    if as_json:
        typer.echo(Models(models=installed).model_dump_json())
        return
    if not installed:
        say("No models: no worker has announced one yet.")
        return
    shown = table("name", "size", "frames", "steps", "fps", "licence", "weights")
    for model in installed:
        shown.add_row(
            model.name,
            f"{model.width}x{model.height}",
            f"{model.num_frames} (≤ {model.max_frames})",
            f"{model.num_inference_steps} (≤ {model.max_inference_steps})",
            f"{model.fps:g}",
            ", ".join(model.licences),
            model.weights_sha256[:12],
        )
    out.print(shown)
