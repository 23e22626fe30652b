"""``keys create``, ``list`` and ``revoke``: API keys, by way of Redis itself."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from jobs.keys import Grant, Key, Keys, Limits, Scope
from jobs.webhooks import Secrets
from local.access import AsJson, DataDir, console, errors, open_redis

DEFAULTS = Limits()

commands = typer.Typer(no_args_is_help=True, help="API keys, kept in Redis: $DRAGANYTHING_REDIS_URL.")


def _limit(help: str) -> Any:  # noqa: A002
    return typer.Option(min=0, metavar="N", help=f"{help}; 0: no limit.")


@commands.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for, in at most 100 letters.", show_default=False)],
    scope: Annotated[list[Scope] | None, typer.Option(help="Repeat it for more; left out, all of them.")] = None,
    max_queued: Annotated[int, _limit("Jobs that may wait")] = DEFAULTS.max_queued or 0,
    max_running: Annotated[int, _limit("Jobs that may run at a time")] = DEFAULTS.max_running or 0,
    requests_per_minute: Annotated[int, _limit("Calls a minute")] = DEFAULTS.requests_per_minute or 0,
    bytes_per_day: Annotated[int, _limit("Bytes of bodies a day")] = DEFAULTS.bytes_per_day or 0,
    data_dir: DataDir = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Make a key, and a secret that its webhooks are signed with, and print both, this once.

    Of the key only the hash is kept. From the first key on, the service answers no call without one.
    """
    with open_redis(data_dir) as redis:
        limits = Limits(
            max_queued=max_queued or None,
            max_running=max_running or None,
            requests_per_minute=requests_per_minute or None,
            bytes_per_day=bytes_per_day or None,
        )
        key, text = Keys(redis).create(Grant(name=name, scopes=frozenset(scope or Scope), limits=limits))
        secret = Secrets(redis).create(key.id)
    if as_json:
        typer.echo(json.dumps(_as_json(key) | {"key": text, "webhook_secret": secret}))
        return
    errors.print(
        "This is the only time that the key is shown. Clients send it as $DRAGANYTHING_API_KEY.", style="dim"
    )
    typer.echo(text)
    errors.print(f"Its webhooks are signed with {secret}, shown this once too.", style="dim", soft_wrap=True)


@commands.command(name="list")
def list_(data_dir: DataDir = Path("data"), as_json: AsJson = False) -> None:
    """Every key that was ever made, without the secrets."""
    with open_redis(data_dir) as redis:
        found = Keys(redis).all()
    if as_json:
        typer.echo(json.dumps({"keys": [_as_json(key) for key in found]}))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("id", "name", "scopes", "limits", "state"):
        table.add_column(column, overflow="fold")
    for key in found:
        limits = "\n".join(f"{name} {limit}" for name, limit in key.limits if limit)
        table.add_row(key.id, escape(key.name), "\n".join(sorted(key.scopes)), limits, _state(key))
    console.print(table if found else "No keys: the service serves loopback only, to anyone there.")


@commands.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, or da_ID.", show_default=False)],
    data_dir: DataDir = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Make a key void from the next call on. Its jobs go on; no other key can see them."""
    with open_redis(data_dir) as redis:
        key = Keys(redis).revoke(key_id.removeprefix("da_").partition("_")[0])
    typer.echo(json.dumps(_as_json(key)) if as_json else f"{key.id} revoked")


def _as_json(key: Key) -> dict[str, Any]:
    return key.model_dump(mode="json") | {"scopes": sorted(key.scopes)}


def _state(key: Key) -> str:
    if key.revoked_at:
        return f"revoked {_shown(key.revoked_at)}"
    return f"used {_shown(key.last_used_at)}" if key.last_used_at else f"new {_shown(key.created_at)}"


def _shown(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"
