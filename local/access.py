"""How the commands that work on Redis reach it, and what they say where that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.markup import escape

from jobs.connection import Misconfigured, connect_briefly
from jobs.errors import DragAnythingError
from jobs.settings import Settings
from local.errors import StateDamaged
from local.state import State
from local.valkey import Valkey

REFUSED, AWAY = 2, 3
"""The command line's exit codes."""

DataDir = Annotated[
    Path,
    typer.Option(
        envvar="DATA_DIR", help="Of a stack that runs here; asked where $DRAGANYTHING_REDIS_URL is not set."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]

console = Console()
errors = Console(stderr=True)


@contextmanager
def open_redis(data_dir: Path) -> Iterator[Redis]:
    """The service's Redis; what goes wrong becomes a message and an exit code."""
    try:
        with connect_briefly(_settings(data_dir)) as redis:
            yield redis
    except ValidationError as error:
        fail("; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()), REFUSED)
    except DragAnythingError as error:
        fail(error.detail, REFUSED)
    except (Misconfigured, StateDamaged) as error:
        fail(str(error), REFUSED)
    except RedisError:
        fail("Redis does not answer; its address comes from $DRAGANYTHING_REDIS_URL.", AWAY)


def fail(message: str, code: int) -> NoReturn:
    """End the command."""
    errors.print(f"[red]{escape(message)}[/red]", soft_wrap=True)
    raise typer.Exit(code)


def _settings(data_dir: Path) -> Settings:
    settings = Settings()
    path = data_dir / "state.json"
    if "DRAGANYTHING_REDIS_URL" in os.environ or not path.exists():
        return settings
    state = State.load(path)
    url = Valkey(data_dir / "valkey", state.valkey_port, state.valkey_password).url
    return settings.model_copy(update={"redis_url": url})
