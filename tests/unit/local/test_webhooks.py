"""``draganything webhooks``, as an operator meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from jobs.keys import Keys
from jobs.outbox import Outbox
from jobs.settings import Settings
from jobs.store import Store
from jobs.webhooks import Secrets
from local.cli import commands
from tests.inbox import Inbox, listening
from tests.unit.jobs.test_outbox import canceled, take


@pytest.fixture(autouse=True)
def address(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRAGANYTHING_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGANYTHING_WEBHOOKS_PRIVATE", "true")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["webhooks", *arguments])


def told(*arguments: str, code: int = 0) -> Any:
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (code, "")
    return json.loads(result.stdout)


def made_key() -> Any:
    return json.loads(CliRunner().invoke(commands, ["keys", "create", "--name", "n", "--json"]).stdout)


def test_a_secret_is_printed_alone_and_once(redis: Redis) -> None:
    result = run("secret")
    assert (result.exit_code, result.stdout) == (0, f"{Secrets(redis).get('')}\n")
    assert result.stdout.startswith("whsec_")
    assert "only time" in result.stderr
    again = run("secret")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "--replace" in again.stderr
    assert f"{Secrets(redis).get('')}\n" == result.stdout


def test_a_secret_is_replaced(redis: Redis) -> None:
    first, second = told("secret")["webhook_secret"], told("secret", "--replace")["webhook_secret"]
    assert first != second == Secrets(redis).get("")


def test_a_key_comes_with_a_secret(redis: Redis) -> None:
    key = made_key()
    assert key["webhook_secret"] == Secrets(redis).get(key["id"])
    assert run("secret", "--key", key["id"]).exit_code == 2
    replaced = told("secret", "--key", f"da_{key['id']}", "--replace")["webhook_secret"]
    assert replaced == Secrets(redis).get(key["id"]) != key["webhook_secret"]
    assert Secrets(redis).get("") is None
    unknown = run("secret", "--key", "000000000000")
    assert (unknown.exit_code, unknown.stderr) == (2, "There is no key '000000000000'.\n")


def test_a_new_key_prints_its_secret_beside_it(redis: Redis) -> None:
    result = CliRunner().invoke(commands, ["keys", "create", "--name", "n"])
    (owner,) = Keys(redis).all()
    assert str(Secrets(redis).get(owner.id)) in result.stderr
    assert "whsec_" not in result.stdout


@pytest.mark.usefixtures("lax")
@pytest.mark.parametrize(("status", "code"), [(204, 0), (500, 1), (307, 1)])
def test_an_example_is_sent(status: int, code: int) -> None:
    key = made_key()
    inbox = Inbox(key["webhook_secret"], lambda *_: status)
    with listening(inbox) as url:
        answer = told("test", url, "--key", key["id"], code=code)
    assert (answer["status"], answer["delivered"], answer["problem"]) == (status, code == 0, None)
    (event,) = inbox.events.values()
    assert (event["type"], event["data"]["status"]) == ("job.succeeded", "succeeded")
    assert inbox.forged == 0


@pytest.mark.usefixtures("lax")
def test_who_does_not_answer_is_told() -> None:
    told("secret")
    result = run("test", "http://127.0.0.1:1/hook?token=hunter2")
    assert result.exit_code == 1
    assert "could not be reached" in result.stdout
    assert "hunter2" not in result.output


def test_an_address_that_is_not_allowed_is_refused() -> None:
    assert "draganything webhooks secret" in run("test", "https://hooks.example.com/").stderr
    told("secret")
    result = run("test", "http://127.0.0.1:1/hook?token=hunter2")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "Only https:// addresses are allowed.\n")


def test_what_was_given_up_is_listed_and_sent_again(redis: Redis, settings: Settings) -> None:
    assert "Nothing" in run("dead").stdout
    store, outbox = Store(redis, settings), Outbox(redis)
    jobs = [canceled(store) for _ in range(3)]
    for _ in jobs:
        outbox.bury(take(outbox), "[bold]410")
    listed = told("dead")["dead"]
    assert [(letter["job"], letter["tries"], letter["note"]) for letter in listed] == [
        (job_id, 1, "[bold]410") for job_id in jobs
    ]
    table = run("dead").stdout
    assert all(job_id in table for job_id in jobs)
    assert "[bold]410" in table
    for wrong in ((), (jobs[0], "--all"), ("0" * 32,)):
        assert run("retry", *wrong).exit_code == 2
    assert run("retry", jobs[0]).stdout == "1 to be sent again\n"
    assert take(outbox).job_id == jobs[0]
    assert run("retry", "--all").stdout == "2 to be sent again\n"
    assert {take(outbox).job_id for _ in range(2)} == {*jobs[1:]}
    assert told("dead") == {"dead": []}
