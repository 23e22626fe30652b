"""``draganything``: the service from a terminal. Other packages add commands through entry points."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from ._bar import err
from ._calls import DEFAULT_URL
from ._client import Client
from ._commands.generate import batch, generate, preview
from ._commands.importing import import_
from ._commands.jobs import cancel, jobs, models, watch
from ._commands.replay import replay
from ._commands.segment import segment
from ._errors import APIError, ConnectionFailed, DragAnythingError, JobCanceled, JobExpired
from ._outcome import AWAY, FAILED, REFUSED, STOPPED

COMMANDS = "draganything.commands"
"""Entry-point group: each entry is a ``typer.Typer`` whose commands join the others, or, where the entry is named
after one of our groups, the commands of that group."""

EPILOG = (
    "**Exit codes:** 0 done · 1 the job failed · 2 wrong usage, or the service refuses the request · "
    "3 the service cannot be reached or is out of order · 4 the job was canceled or expired · "
    "5 the frames differ (`replay --strict`) · 130 Ctrl-C"
)


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


for command in (generate, preview, segment, batch, replay, watch, cancel, jobs):
    app.command()(command)
app.command("import")(import_)

models_app = typer.Typer(invoke_without_command=True)
models_app.callback()(models)
app.add_typer(models_app, name="models")


def main() -> None:
    """The console script: our commands, and those of packages in the group ``draganything.commands``."""
    groups = {"models": models_app}
    for entry in entry_points(group=COMMANDS):
        groups.get(entry.name, app).add_typer(entry.load())
    app()
