"""``draganything``: the service from a terminal. Other packages add commands through entry points."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from ._bar import Bar, err
from ._client import DEFAULT_URL, Client
from ._errors import APIError, ConnectionFailed, DragAnythingError, JobCanceled, JobError, JobExpired
from ._request import request
from ._types import Job, JobWarning, Models, Status

COMMANDS = "draganything.commands"
"""Entry-point group: each entry is a ``typer.Typer`` whose commands join the others, or, where the entry is named
after one of our groups, the commands of that group."""

EPILOG = (
    "**Exit codes:** 0 done · 1 the job failed · 2 wrong usage, or the service refuses the request · "
    "3 the service cannot be reached or is out of order · 4 the job was canceled or expired · 130 Ctrl-C"
)
FAILED, REFUSED, AWAY, STOPPED, INTERRUPTED = 1, 2, 3, 4, 130

out = Console()


class _Group(TyperGroup):
    """Turns the client's errors, of whichever command, into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DragAnythingError as error:
            _complain(error)
            raise typer.Exit(exit_code(error)) from error


def exit_code(error: DragAnythingError) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, APIError):
        return AWAY if error.status >= 500 or error.status == 429 else REFUSED
    if isinstance(error, JobCanceled | JobExpired):
        return STOPPED
    return AWAY if isinstance(error, ConnectionFailed) else FAILED


def _complain(error: DragAnythingError) -> None:
    err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
    if isinstance(error, ConnectionFailed):
        err.print("Is the service running? Its address comes from --url or $DRAGANYTHING_URL.", style="dim")
    if isinstance(error, APIError) and error.status == 401:
        err.print("The key comes from --api-key or $DRAGANYTHING_API_KEY.", style="dim")


app = typer.Typer(
    cls=_Group,
    help="A picture, masks and paths in; a video in which each entity moves along its path out.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)


@dataclass(frozen=True)
class _Service:
    url: str
    api_key: str | None

    def client(self) -> Client:
        return Client(self.url, self.api_key, retries=2)


@app.callback()
def service(
    ctx: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="DRAGANYTHING_URL", metavar="URL", help="Address of the service.")
    ] = DEFAULT_URL,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="DRAGANYTHING_API_KEY", metavar="KEY", help="Key, where the service wants one."),
    ] = None,
) -> None:
    """Which service to talk to."""
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter("must start with http:// or https://", param_hint="--url")
    ctx.obj = _Service(url, api_key)


def _option(*names: str, help: str, metavar: str | None = None, panel: str | None = None) -> Any:  # noqa: A002
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel, show_default=False)


_REQUEST, _FIELDS = "The request", "Fields of the request"
JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the job.", show_default=False)]
JsonFlag = Annotated[bool, _option("--json", help="Print JSON only; progress still goes to stderr.")]
SpecFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="SPEC.json",
        help="The whole request as JSON; - reads stdin. Options override its fields.",
        show_default=False,
    ),
]
Image = Annotated[
    Path | None, _option("--image", metavar="FILE", panel=_REQUEST, help="First frame: PNG, JPEG, WebP.")
]
Masks = Annotated[
    list[Path] | None,
    _option(
        "--mask", metavar="FILE", panel=_REQUEST, help="Mask of an entity; without any, the service segments."
    ),
]
Paths = Annotated[
    list[str] | None,
    _option(
        "--path",
        metavar='"X,Y X,Y …"',
        panel=_REQUEST,
        help="Path of an entity in pixels. Repeat it, with its --mask and --label, for more entities.",
    ),
]
Labels = Annotated[list[str] | None, _option("--label", metavar="NAME", panel=_REQUEST, help="Name of an entity.")]
Sets = Annotated[
    list[str] | None,
    _option(
        "--set",
        metavar="FIELD=VALUE",
        panel=_FIELDS,
        help="Any other field, such as max_guidance_scale=2.5 or output.fps=12.",
    ),
]
Output = Annotated[
    Path | None,
    _option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="A video (.mp4, .webm, .gif, .webp), or a folder for video, overlay and manifest.",
    ),
]
Overlay = Annotated[
    Path | None, _option("--overlay", metavar="FILE", help="Save the video with the paths drawn over it, too.")
]
Animation = Annotated[
    Path | None, _option("--output", "-o", metavar="FILE", help="Where the animation goes: preview.webp here.")
]


@app.command()
def generate(
    ctx: typer.Context,
    spec_file: SpecFile = None,
    image: Image = None,
    mask: Masks = None,
    path: Paths = None,
    label: Labels = None,
    model: Annotated[
        str | None, _option(metavar="NAME", panel=_FIELDS, help="Model; see `draganything models`.")
    ] = None,
    frames: Annotated[int | None, _option(metavar="N", panel=_FIELDS, help="Number of frames.")] = None,
    steps: Annotated[int | None, _option(metavar="N", panel=_FIELDS, help="Denoising steps.")] = None,
    seed: Annotated[int | None, _option(metavar="N", panel=_FIELDS, help="Seed of the random draws.")] = None,
    hold_background: Annotated[
        bool | None,
        _option("--hold-background/--no-hold-background", panel=_FIELDS, help="Hold everything else still."),
    ] = None,
    set_: Sets = None,
    output: Output = None,
    overlay: Overlay = None,
    detach: Annotated[bool, _option("--detach", help="Queue the job, print its id, do not wait.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a video and save it: as ID.mp4 here, if -o says nothing else.

    `draganything generate SPEC.json`

    `draganything generate --image bird.png --mask bird-mask.png --path "120,80 260,90" -o bird.mp4`
    """
    fields = {
        "model": model,
        "num_frames": frames,
        "num_inference_steps": steps,
        "seed": seed,
        "output.format": _format(output),
        "hold_background": hold_background,
    }
    body = request(spec_file, image, mask or (), path or (), label or (), set_ or (), fields)
    with ctx.obj.client() as client:
        job = client.generate(body)
        if detach:
            typer.echo(job.model_dump_json() if as_json else job.id)
        else:
            _finish(client, job.id, output, overlay, as_json)


@app.command()
def watch(
    ctx: typer.Context, job: JobId, output: Output = None, overlay: Overlay = None, as_json: JsonFlag = False
) -> None:
    """Follow a job; save its video if -o or --overlay say where."""
    with ctx.obj.client() as client:
        _finish(client, job, output, overlay, as_json, save=bool(output or overlay))


@app.command()
def cancel(ctx: typer.Context, job: JobId, as_json: JsonFlag = False) -> None:
    """Stop a job; one that has ended stays as it is."""
    with ctx.obj.client() as client:
        answer = client.cancel(job)
    typer.echo(answer.model_dump_json() if as_json else f"{answer.id} {answer.status}")


@app.command()
def jobs(
    ctx: typer.Context,
    status: Annotated[
        Status | None,
        _option(
            "--status", metavar="STATUS", help="Only queued, running, succeeded, failed, canceled or expired."
        ),
    ] = None,
    limit: Annotated[int | None, _option("--limit", metavar="N", help="At most this many.")] = None,
    after: Annotated[str | None, _option("--after", metavar="CURSOR", help="Go on behind the last page.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List your jobs, newest first."""
    with ctx.obj.client() as client:
        page = client.jobs(status=status, limit=limit, after=after)
    if as_json:
        typer.echo(page.model_dump_json())
        return
    table = _table("id", "status", "progress", "model", "created")
    for job in page.jobs:
        created = f"{job.created_at.astimezone():%Y-%m-%d %H:%M}" if job.created_at else ""
        table.add_row(job.id, _colored(job), f"{job.progress.fraction:.0%}", job.model, created)
    out.print(table if page.jobs else "No jobs.")
    if page.next:
        err.print(f"More: --after {page.next}", style="dim")


models_app = typer.Typer(invoke_without_command=True)
app.add_typer(models_app, name="models")


@models_app.callback()
def models(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """List the service's models with their defaults and limits."""
    if ctx.invoked_subcommand is not None:
        return
    with ctx.obj.client() as client:
        installed = client.models()
    if as_json:
        typer.echo(Models(models=installed).model_dump_json())
        return
    table = _table("name", "size", "frames", "steps", "fps", "licence", "weights")
    for model in installed:
        table.add_row(
            model.name,
            f"{model.width}x{model.height}",
            f"{model.num_frames} (≤ {model.max_frames})",
            f"{model.num_inference_steps} (≤ {model.max_inference_steps})",
            f"{model.fps:g}",
            ", ".join(model.licences),
            model.weights_sha256[:12],
        )
    out.print(table)


@app.command()
def preview(
    ctx: typer.Context,
    spec_file: SpecFile = None,
    image: Image = None,
    mask: Masks = None,
    path: Paths = None,
    label: Labels = None,
    set_: Sets = None,
    output: Animation = None,
    as_json: JsonFlag = False,
) -> None:
    """See what the network would be told, without making a video."""
    body = request(spec_file, image, mask or (), path or (), label or (), set_ or ())
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
    _warn(seen.warnings)
    takes = f", about {seen.estimate.seconds:.0f} s to make" if seen.estimate.seconds is not None else ""
    out.print(f"{escape(str(target))}: {seen.num_frames} frames{takes}", soft_wrap=True)


def _finish(
    client: Client, job_id: str, output: Path | None, overlay: Path | None, as_json: bool, *, save: bool = True
) -> None:
    """Wait with a progress bar, save the files, print where they are."""
    try:
        with Bar() as bar:
            job = client.wait(job_id, bar.update)
    except JobError as error:
        if as_json:
            typer.echo(error.job.model_dump_json())
        raise
    except KeyboardInterrupt:
        err.print(f"\nThe job goes on: draganything watch {job_id} | draganything cancel {job_id}")
        raise typer.Exit(INTERRUPTED) from None
    _warn(job.warnings)
    saved = _saved(client, job, output, overlay) if save else {}
    if as_json:
        typer.echo(
            json.dumps({**job.model_dump(mode="json"), "files": {name: str(path) for name, path in saved.items()}})
        )
    else:
        for path in saved.values() if save else ():
            out.print(escape(str(path)), soft_wrap=True)


def _saved(client: Client, job: Job, output: Path | None, overlay: Path | None) -> dict[str, Path]:
    saved = {}
    if output is not None or overlay is None:
        saved = client.download(job, output or _video_name(job))
    if overlay is not None:
        saved |= client.download(job, overlay, ["overlay"])
    return saved


def _format(output: Path | None) -> str | None:
    """What the name of the wanted file says."""
    suffix = output.suffix[1:].lower() if output else ""
    return suffix if suffix in ("mp4", "webm", "gif", "webp") else None


def _video_name(job: Job) -> Path:
    suffix = Path(urlsplit(job.result.video_url or "").path).suffix if job.result else ""
    return Path(f"{job.id}{suffix or '.mp4'}")


def _warn(warnings: Iterable[JobWarning]) -> None:
    for warning in warnings:
        where = f" ({warning.pointer})" if warning.pointer else ""
        err.print(f"[yellow]warning:[/] {escape(warning.detail or warning.code)}{escape(where)}", soft_wrap=True)


_COLORS = {"succeeded": "green", "failed": "red", "running": "cyan", "canceled": "yellow", "expired": "yellow"}


def _colored(job: Job) -> str:
    color = _COLORS.get(job.status)
    return f"[{color}]{job.status}[/]" if color else job.status


def _table(*names: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=name in ("id", "name", "created"))
    return table


def main() -> None:
    """The console script: our commands, and those of packages in the group ``draganything.commands``."""
    groups = {"models": models_app}
    for entry in entry_points(group=COMMANDS):
        groups.get(entry.name, app).add_typer(entry.load())
    app()
