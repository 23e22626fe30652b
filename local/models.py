"""The commands about weights on this machine: ``models plan`` and ``models pull``. No service is needed."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

commands = typer.Typer()
errors = Console(stderr=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="tiny, draganything or draganything-xt.")]


@commands.command()
def plan(
    name: Name,
    frames: Annotated[int | None, typer.Option(help="Number of frames; left out, the model's own.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels, a multiple of 64.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels, a multiple of 64.")] = None,
    chunk: Annotated[int | None, typer.Option(help="Frames that the VAE decodes at once.")] = None,
) -> None:
    """How much GPU memory a job takes: computed from the networks' shapes, without any weights."""
    from model.plan import plan as compute

    try:
        typer.echo(str(compute(name, num_frames=frames, width=width, height=height, decode_chunk_size=chunk)))
    except ValueError as error:
        _fail(error)


@commands.command()
def pull(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept the licences without being asked.")] = False,
) -> None:
    """Download a model's weights into the hub's cache, after its licences."""
    from model.hub import pull as download

    def accept(licences: str) -> bool:
        typer.echo(licences)
        return yes or typer.confirm("Do you accept these licences?")

    try:
        folders = download(name, accept=accept)
    except ValueError as error:
        _fail(error)
    for component, folder in folders.items():
        typer.echo(f"{component}: {folder}")


def _fail(error: Exception) -> NoReturn:
    errors.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
    raise typer.Exit(2)
