"""``draganything`` as a person runs it, against a scripted service."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from draganything_client import cli
from typer.testing import CliRunner

from tests.unit.client.scripted import Answer, Service, Stream, event, job

MAIN = [sys.executable, "-c", "from draganything_client.cli import main; main()"]


class Run(NamedTuple):
    code: int
    out: str
    err: str


def run(service: Service | None, *arguments: str, stdin: str = "") -> Run:
    url = ["--url", service.url] if service else []
    got = CliRunner().invoke(cli.app, [*url, *arguments], input=stdin)
    return Run(got.exit_code, got.stdout, got.stderr)


def scripted(service: Service, *snapshots: dict[str, Any]) -> None:
    """Any job that is queued goes through ``snapshots``; its files are there."""
    service.on("POST", "/v1/generate", Answer(job(), 202))
    service.on("GET", "/v1/jobs/j1/events", Stream([event(data) for data in snapshots]))
    service.on("GET", "/v1/jobs/j1/result", Answer(b"VIDEO", headers={"Content-Type": "video/mp4"}))
