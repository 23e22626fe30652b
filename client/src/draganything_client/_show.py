"""What people see of answers."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ._bar import err
from ._types import Job, JobWarning

out = Console()

_COLORS = {"succeeded": "green", "failed": "red", "running": "cyan", "canceled": "yellow", "expired": "yellow"}


def say(text: object) -> None:
    """A line on stdout, as it is."""
    out.print(escape(str(text)), soft_wrap=True)


def warn(warnings: Iterable[JobWarning]) -> None:
    """What the service wants known, on stderr."""
    for warning in warnings:
        where = f" ({warning.pointer})" if warning.pointer else ""
        err.print(f"[yellow]warning:[/] {escape(warning.detail or warning.code)}{escape(where)}", soft_wrap=True)


def colored(job: Job) -> str:
    """The status of a job, as markup."""
    color = _COLORS.get(job.status)
    return f"[{color}]{job.status}[/]" if color else job.status


def table(*names: str) -> Table:
    """A table without lines."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        made.add_column(name, no_wrap=name in ("id", "name", "created"))
    return made
