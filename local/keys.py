"""``keys create``, ``list`` and ``revoke``: API keys, by way of Redis itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.connection import Misconfigured, connect_briefly
from jobs.errors import NotFound
from jobs.keys import Grant, Key, Keys, Limits, Scope
from jobs.settings import Settings
from local.errors import StateDamaged
from local.state import State
from local.valkey import Valkey

REFUSED, AWAY = 2, 3
"""The command line's exit codes."""
DEFAULTS = Limits()

commands = typer.Typer(no_args_is_help=True, help="API keys, kept in Redis: $DRAGANYTHING_REDIS_URL.")
console = Console()
errors = Console(stderr=True)


def _limit(help: str) -> Any:  # noqa: A002
    return typer.Option(min=0, metavar="N", help=f"{help}; 0: no limit.")


DataDir = Annotated[
    Path,
    typer.Option(
        envvar="DATA_DIR", help="Of a stack that runs here; asked where $DRAGANYTHING_REDIS_URL is not set."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]


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
    """Make a key and print it, this once: only its hash is kept.

    From the first key on, the service answers no call without one.
    """
    with _keys(data_dir) as keys:
        limits = Limits(
            max_queued=max_queued or None,
            max_running=max_running or None,
            requests_per_minute=requests_per_minute or None,
            bytes_per_day=bytes_per_day or None,
        )
        key, text = keys.create(Grant(name=name, scopes=frozenset(scope or Scope), limits=limits))
    if as_json:
        typer.echo(json.dumps(_as_json(key) | {"key": text}))
        return
    errors.print(
        "This is the only time that the key is shown. Clients send it as $DRAGANYTHING_API_KEY.", style="dim"
    )
    typer.echo(text)


@commands.command(name="list")
def list_(data_dir: DataDir = Path("data"), as_json: AsJson = False) -> None:
    """Every key that was ever made, without the secrets."""
    with _keys(data_dir) as keys:
        found = keys.all()
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
    with _keys(data_dir) as keys:
        key = keys.revoke(key_id.removeprefix("da_").partition("_")[0])
    typer.echo(json.dumps(_as_json(key)) if as_json else f"{key.id} revoked")


@contextmanager
def _keys(data_dir: Path) -> Iterator[Keys]:
    """The keys; what goes wrong with them becomes a message and an exit code."""
    try:
        with connect_briefly(_settings(data_dir)) as redis:
            yield Keys(redis)
    except ValidationError as error:
        _fail("; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()), REFUSED)
    except NotFound as error:
        _fail(error.detail, REFUSED)
    except (Misconfigured, StateDamaged) as error:
        _fail(str(error), REFUSED)
    except RedisError:
        _fail("Redis does not answer; its address comes from $DRAGANYTHING_REDIS_URL.", AWAY)


def _settings(data_dir: Path) -> Settings:
    settings = Settings()
    path = data_dir / "state.json"
    if "DRAGANYTHING_REDIS_URL" in os.environ or not path.exists():
        return settings
    state = State.load(path)
    url = Valkey(data_dir / "valkey", state.valkey_port, state.valkey_password).url
    return settings.model_copy(update={"redis_url": url})


def _as_json(key: Key) -> dict[str, Any]:
    return key.model_dump(mode="json") | {"scopes": sorted(key.scopes)}


def _state(key: Key) -> str:
    if key.revoked_at:
        return f"revoked {_shown(key.revoked_at)}"
    return f"used {_shown(key.last_used_at)}" if key.last_used_at else f"new {_shown(key.created_at)}"


def _shown(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


def _fail(message: str, code: int) -> NoReturn:
    errors.print(f"[red]{escape(message)}[/red]", soft_wrap=True)
    raise typer.Exit(code)
