"""``generate``, ``preview`` and ``batch``: what takes a request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import _outcome as outcome
from .._options import Detach, JsonFlag, Output, Overlay, option, takes_request
from .._request import assign
from .._show import say, warn

MAX_BATCH = 64

Animation = Annotated[
    Path | None, option("--output", "-o", metavar="FILE", help="Where the animation goes: preview.webp here.")
]
Seeds = Annotated[
    str | None,
    option("--seeds", metavar="1,2,3", help="A job for each of these seeds; 5-8 stands for 5,6,7,8. At most 64."),
]
Folder = Annotated[
    Path | None,
    option("--output", "-o", metavar="DIR", help="Where the videos go: a folder named after the batch."),
]


@takes_request
def generate(
    ctx: typer.Context,
    body: dict[str, Any],
    output: Output = None,
    overlay: Overlay = None,
    detach: Detach = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a video and save it: as ID.mp4 here, if -o says nothing else.

    `draganything generate SPEC.json`

    `draganything generate --image bird.png --mask bird-mask.png --path "120,80 260,90" -o bird.mp4`
    """
    suffix = output.suffix[1:].lower() if output else ""
    if suffix in outcome.FORMATS:
        assign(body, "output.format", suffix)
    with ctx.obj.client() as client:
        job = client.generate(body)
        if detach:
            typer.echo(job.model_dump_json() if as_json else job.id)
        else:
            done = outcome.wait(client, job, as_json)
            outcome.report(done, outcome.save(client, done, output, overlay), as_json)


@takes_request
def batch(
    ctx: typer.Context,
    body: dict[str, Any],
    seeds: Seeds = None,
    output: Folder = None,
    detach: Detach = False,
    as_json: JsonFlag = False,
) -> None:
    """Make one video for each of several seeds, queued all or none, and save them as seed-N.mp4.

    `draganything batch SPEC.json --seeds 1,2,3 -o takes`
    """
    if not seeds:
        raise typer.BadParameter("say which seeds: --seeds 1,2,3", param_hint="--seeds")
    with ctx.obj.client() as client:
        queued = client.generate_batch(body, seeds=_numbers(seeds))
        if detach:
            typer.echo(queued.model_dump_json() if as_json else queued.id)
        else:
            outcome.deliver_batch(client, outcome.wait_batch(client, queued.id), output, as_json)


def _numbers(text: str) -> list[int]:
    """``"1,2,5-8"``."""
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            numbers += range(int(first), (int(last) if dash else int(first)) + 1)[: MAX_BATCH + 1]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not of the form 1,2,5-8", param_hint="--seeds") from error
    if not 1 <= len(numbers) <= MAX_BATCH:
        raise typer.BadParameter(f"{text!r} are not 1 to {MAX_BATCH} seeds", param_hint="--seeds")
    return numbers


@takes_request
def preview(ctx: typer.Context, body: dict[str, Any], output: Animation = None, as_json: JsonFlag = False) -> None:
    """See what the network would be told, all warnings and an estimate, without making a video."""
    with ctx.obj.client() as client:
        seen = client.preview(body)
    if as_json:
        typer.echo(seen.model_dump_json(by_alias=True))
    if as_json and output is None:
        return
    target = output or Path(f"preview.{seen.animation.format}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(seen.animation.content)
    if as_json:
        return
    warn(seen.warnings)
    takes = f", about {seen.estimate.seconds:.0f} s to make" if seen.estimate.seconds is not None else ""
    say(f"{target}: {seen.num_frames} frames{takes}")
