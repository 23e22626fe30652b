"""What all commands have in common: exit codes, help, addresses, and other packages' commands."""

from __future__ import annotations

import json
import sys

import pytest
import typer
from draganything_client import NotFound, Problem, cli

from tests.unit.client.command import run, scripted
from tests.unit.client.scripted import (
    Answer,
    Drop,
    Service,
    job,
    problem,
)

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize(("status", "code"), [("failed", 1), ("canceled", 4), ("expired", 4)])
def test_how_a_job_ends_is_the_exit_code(service: Service, status: str, code: int) -> None:
    scripted(service, job(status))
    got = run(service, "watch", "j1", "--json")
    assert got.code == code
    assert json.loads(got.out)["status"] == status
    assert f"error: job j1 {status}" in got.err


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem(401, "unauthorized", ""), 2),
        (problem(404, "not_found", ""), 2),
        (problem(500, "internal_error", ""), 3),
        (problem(503, "queue_full", "", headers={"Retry-After": "999"}), 3),
        (problem(429, "rate_limited", "", headers={"Retry-After": "999"}), 3),
        (Answer(b"<html>"), 3),
    ],
)
def test_what_the_service_says_is_the_exit_code(service: Service, answer: Answer, code: int) -> None:
    service.on("GET", "/v1/models", answer)
    got = run(service, "models")
    assert (got.code, got.out) == (code, "")
    assert got.err.startswith("error: ")


def test_wrong_fields_are_named_for_people(service: Service) -> None:
    errors = [{"pointer": "/entities/0/trajectory/points", "detail": "Too few [points]."}]
    service.on("POST", "/v1/generate", problem(422, "invalid_request", "One field is wrong.", errors=errors))
    got = run(service, "generate", "-", stdin="{}")
    assert got.code == 2
    assert got.err.splitlines() == [
        "error: One field is wrong. (422 invalid_request)",
        "  /entities/0/trajectory/points: Too few [points].",
    ]


def test_nobody_there(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("draganything_client._flows.backoff_s", lambda _: 0.0)
    service.on("GET", "/v1/jobs", Drop())
    got = run(service, "jobs")
    assert got.code == 3
    assert f"error: no answer from {service.url}" in got.err
    assert "--url" in got.err


def test_an_address_without_scheme_is_wrong_usage() -> None:
    got = run(None, "--url", "localhost:8000", "jobs")
    assert got.code == 2
    assert "http://" in got.err


def test_the_key_comes_from_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGANYTHING_API_KEY", "k")
    monkeypatch.setenv("DRAGANYTHING_URL", service.url)
    service.on("GET", "/v1/jobs", Answer({"jobs": []}))
    assert run(None, "jobs").code == 0
    assert service.seen[0].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize(
    "command",
    ["", "generate", "preview", "segment", "batch", "replay", "import", "watch", "cancel", "jobs", "models"],
)
def test_help(command: str) -> None:
    got = run(None, *command.split(), "-h")
    assert got.code == 0
    assert ("Exit codes" in got.out) == (command == "")
    assert "[[" not in got.out
    assert ("--json" in got.out) == (command not in ("", "import"))


def test_other_packages_add_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    extra = typer.Typer()

    @extra.command()
    def hello(name: str) -> None:
        typer.echo(f"hello {name}")

    @extra.command()
    def fail() -> None:
        raise NotFound(Problem(status=404, detail="Gone."))

    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> typer.Typer:
            return extra

    entries = [Entry("local"), Entry("models")]
    monkeypatch.setattr(cli, "entry_points", lambda group: entries if group == "draganything.commands" else [])
    for group in (cli.app, cli.models_app):
        monkeypatch.setattr(group, "registered_groups", [*group.registered_groups])
    for arguments, code in ((["hello", "you"], 0), (["models", "hello", "you"], 0), (["fail"], 2)):
        monkeypatch.setattr(sys, "argv", ["draganything", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
    printed = capsys.readouterr()
    assert printed.out == "hello you\nhello you\n"
    assert "Gone." in printed.err
