"""The command ``evaluate``: ``evaluation.benchmark`` under one roof with the others."""

from __future__ import annotations

import typer

commands = typer.Typer()


@commands.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def evaluate(ctx: typer.Context) -> None:
    """Score a set of videos: ObjMC, FID, FVD, mask IoU, beside the truth and a still picture."""
    from evaluation.benchmark import main  # torch is slow to load

    raise typer.Exit(main(ctx.args))
