"""The commands that run a stack on this machine, ``up`` and ``demo``, and its operator's, ``keys`` and so on."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from local import demo as quickstart
from local import keys, webhooks
from local.errors import LocalError
from local.ports import HOST, bypass_proxies
from local.stack import ROOT, Stack

commands = typer.Typer(no_args_is_help=True, add_completion=False)
commands.add_typer(keys.commands, name="keys")
commands.add_typer(webhooks.commands, name="webhooks")
console = Console()
errors = Console(stderr=True)


@commands.command()
def up(
    port: Annotated[int, typer.Option(envvar="PORT", help="Port of the REST API.")] = 8000,
    grpc_port: Annotated[int, typer.Option(envvar="GRPC_PORT", help="Port of the gRPC API.")] = 50051,
    data_dir: Annotated[Path, typer.Option(envvar="DATA_DIR", help="Jobs, objects, logs.")] = Path("data"),
) -> None:
    """Run the whole service on this machine until Ctrl-C. Data outlive a restart; a dead process starts again."""
    _prepare()
    try:
        with (
            console.status("Starting Valkey, S3, the API and a worker …") as status,
            Stack(data_dir, port=port, grpc_port=grpc_port, report=_warn) as stack,
        ):
            status.stop()
            console.print(_summary(stack))
            try:
                threading.Event().wait()
            finally:
                status.update("Stopping …")
                status.start()
    except KeyboardInterrupt:
        console.print("Stopped.")
    except (LocalError, OSError) as error:
        _fail(str(error))


@commands.command()
def demo(
    spec: Annotated[Path, typer.Argument(help="A job request.")] = ROOT / "examples" / "quickstart.json",
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("out/demo"),
) -> None:
    """Start a stack of its own with the tiny model, render one job, save the results, stop everything."""
    _prepare()
    try:
        quickstart.run(spec, out, console)
    except KeyboardInterrupt:
        _fail("interrupted", code=130)
    except (LocalError, OSError) as error:
        _fail(str(error))


def _summary(stack: Stack) -> Panel:
    table = Table.grid(padding=(0, 2))
    table.add_row("REST", f"[link={stack.base_url}]{stack.base_url}[/link]")
    table.add_row("gRPC", f"{HOST}:{stack.grpc_port}")
    table.add_row("Docs", f"{stack.base_url}/docs")
    table.add_row("Data", escape(str(stack.data_dir)))
    table.add_row("Logs", escape(str(stack.logs)))
    table.add_row("Stop", "Ctrl-C")
    return Panel(table, title="[bold green]DragAnything is up", expand=False, padding=(1, 3))


def _prepare() -> None:
    bypass_proxies()
    for sign in (signal.SIGTERM, signal.SIGHUP):  # they stop the stack as Ctrl-C does
        signal.signal(sign, signal.default_int_handler)


def _warn(message: str) -> None:
    errors.print(f"[yellow]{escape(message)}[/yellow]", soft_wrap=True)


def _fail(message: str, code: int = 1) -> None:
    errors.print(f"[red]{escape(message)}[/red]", soft_wrap=True)
    raise typer.Exit(code)
