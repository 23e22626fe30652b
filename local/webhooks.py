"""``webhooks secret``, ``test``, ``dead`` and ``retry``: what an operator does about webhooks, by way of Redis."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from redis import Redis
from rich.markup import escape
from rich.table import Table

from jobs.keys import Keys
from jobs.outbound import OutboundError
from jobs.outbox import Outbox
from jobs.settings import Settings
from jobs.state import Artifact, Progress, Record, Result, Stage, Status
from jobs.store import new_id
from jobs.webhooks import TIMEOUT_S, Answer, Secrets, dialer, post, word
from local.access import REFUSED, AsJson, DataDir, console, errors, fail, open_redis

UNDELIVERED = 1

commands = typer.Typer(no_args_is_help=True, help="Webhooks, kept in Redis: $DRAGANYTHING_REDIS_URL.")

OfKey = Annotated[
    str,
    typer.Option("--key", metavar="ID", help="Of this key; left out, of callers without one.", show_default=False),
]


@commands.command()
def secret(
    key: OfKey = "",
    replace: Annotated[bool, typer.Option(help="Make the secret that there is void, at once.")] = False,
    data_dir: DataDir = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Make the secret that webhooks are signed with, and print it, this once."""
    with open_redis(data_dir) as redis:
        made = Secrets(redis).create(_owner(redis, key), replace=replace)
    if as_json:
        typer.echo(json.dumps({"webhook_secret": made}))
        return
    errors.print("This is the only time that the secret is shown. Receivers verify with it.", style="dim")
    typer.echo(made)


@commands.command(name="test")
def try_out(
    url: Annotated[str, typer.Argument(help="Where to.", show_default=False)],
    key: OfKey = "",
    data_dir: DataDir = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Send a signed example of job.succeeded, now and once, and print the answer's status.

    Exit code 0: a status of 200 to 299. 1: another one, or none. 2: refused. 3: Redis is away.
    """
    with open_redis(data_dir) as redis:
        held = Secrets(redis).get(_owner(redis, key))
    if held is None:
        fail("There is no secret to sign with; `draganything webhooks secret` makes one.", REFUSED)
    started = time.monotonic()
    answer = _send_example(url, held, Settings())
    status, problem = (None, answer) if isinstance(answer, str) else (answer.status, None)
    delivered = isinstance(answer, Answer) and answer.accepted
    seconds = round(time.monotonic() - started, 3)
    if as_json:
        told = {"delivered": delivered, "status": status, "problem": problem, "seconds": seconds}
        typer.echo(json.dumps(told))
    else:
        style = "green" if delivered else "red"
        console.print(f"{problem or status} ({seconds:g} s)", style=style, markup=False, highlight=False)
    raise typer.Exit(0 if delivered else UNDELIVERED)


def _send_example(url: str, key: str, config: Settings) -> Answer | str:
    """What the receiver answers, or why it does not."""
    caller, job = dialer(config), _example()
    try:
        caller.read(url)
    except OutboundError as error:
        fail(str(error), REFUSED)
    body = word(job, config.public_url or "http://127.0.0.1:8000", storage=None)
    try:
        return post(caller, url, key, f"msg_{job.id}", body, time.monotonic() + TIMEOUT_S)
    except OutboundError as error:
        return str(error)


@commands.command()
def dead(data_dir: DataDir = Path("data"), as_json: AsJson = False) -> None:
    """What was given up after the last try, for as long as its job is kept."""
    with open_redis(data_dir) as redis:
        letters = Outbox(redis).dead()
    if as_json:
        shown = [
            {
                "job": letter.job_id,
                "host": letter.host,
                "died_at": letter.died_at.isoformat(),
                "tries": letter.tries,
                "note": letter.note,
            }
            for letter in letters
        ]
        typer.echo(json.dumps({"dead": shown}))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("job", no_wrap=True)
    for column in ("host", "given up", "tries", "last answer"):
        table.add_column(column, overflow="fold")
    for letter in letters:
        died = f"{letter.died_at.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(letter.job_id, escape(letter.host), died, str(letter.tries), escape(letter.note))
    console.print(table if letters else "Nothing was given up.")


@commands.command()
def retry(
    job_id: Annotated[str | None, typer.Argument(metavar="ID", help="Of the job.", show_default=False)] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything that was given up.")] = False,
    data_dir: DataDir = Path("data"),
) -> None:
    """Send what was given up again, with all of its tries ahead."""
    if (job_id is None) != all_:
        fail("Give either the id of a job, or --all.", REFUSED)
    with open_redis(data_dir) as redis:
        outbox = Outbox(redis)
        job_ids = [job_id] if job_id else [letter.job_id for letter in outbox.dead()]
        for each in job_ids:
            outbox.retry(each)
    typer.echo(f"{len(job_ids)} to be sent again")


def _owner(redis: Redis, key_id: str) -> str:
    """The owner that a key's id stands for; ``""`` for none.

    Raises:
        NotFound: there is no such key.
    """
    return Keys(redis).get(key_id.removeprefix("da_").partition("_")[0]).id if key_id else ""


def _example() -> Record:
    """A job as one that has succeeded looks."""
    now = datetime.now(UTC)
    files = {"video": "video/mp4", "poster": "image/jpeg", "manifest": "application/json"}
    return Record(
        id=new_id(),
        status=Status.SUCCEEDED,
        model="tiny",
        spec={},
        created_at=now - timedelta(seconds=9),
        started_at=now - timedelta(seconds=8),
        finished_at=now,
        expires_at=now + timedelta(days=7),
        progress=Progress(stage=Stage.DONE, step=10, steps=10, fraction=1.0),
        attempt=1,
        result=Result(
            artifacts={
                name: Artifact(key=name, media_type=media_type, bytes=0, sha256="")
                for name, media_type in files.items()
            },
            width=192,
            height=128,
            num_frames=14,
            fps=7,
            duration_s=2.0,
            seed=7,
            timings_s={"denoising": 6.0},
        ),
    )
