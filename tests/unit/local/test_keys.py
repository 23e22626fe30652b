"""``draganything keys``, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from jobs.keys import Keys, Limits, Scope
from local.cli import commands
from local.stack import Stack


@pytest.fixture(autouse=True)
def address(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRAGANYTHING_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["keys", *arguments])


def told(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_a_new_key_is_printed_alone_and_works(redis: Redis) -> None:
    result = run("create", "--name", "studio")
    assert result.exit_code == 0
    key = Keys(redis).verify(result.stdout.removesuffix("\n"))
    assert key is not None
    assert (key.name, key.scopes, key.limits) == ("studio", frozenset(Scope), Limits())
    assert "only time" in result.stderr


def test_scopes_and_limits_are_given(redis: Redis) -> None:
    made = told(
        *("create", "--name", "n", "--scope", "jobs:read", "--max-queued", "3", "--max-running", "2"),
        *("--requests-per-minute", "0", "--bytes-per-day", "1000000"),
    )
    limits = {"max_queued": 3, "max_running": 2, "requests_per_minute": None, "bytes_per_day": 1_000_000}
    assert (made["scopes"], made["limits"]) == (["jobs:read"], limits)
    key = Keys(redis).verify(made["key"])
    assert key is not None
    assert key.limits.model_dump() == limits


def test_the_list_shows_all_but_the_secrets() -> None:
    made = [told("create", "--name", name) for name in ("one", "[bold]two")]
    told("revoke", made[0]["id"])
    listed = told("list")["keys"]
    assert [key["name"] for key in listed] == ["one", "[bold]two"]
    assert [key["revoked_at"] is None for key in listed] == [False, True]
    table = run("list").stdout
    for key in made:
        assert key["id"] in table
        assert key["key"][-64:] not in table + json.dumps(listed)
    assert "[bold]two" in table
    assert [table.count(word) for word in ("max_queued 100", "jobs:write", "revoked 20", "new 20")] == [2, 2, 1, 1]


def test_an_empty_list_says_what_that_means() -> None:
    assert "loopback" in run("list").stdout
    assert told("list") == {"keys": []}


@pytest.mark.parametrize("form", ["{id}", "da_{id}", "{key}"])
def test_a_key_is_revoked_by_its_id(redis: Redis, form: str) -> None:
    made = told("create", "--name", "n")
    result = run("revoke", form.format_map(made))
    assert (result.exit_code, result.stdout) == (0, f"{made['id']} revoked\n")
    assert Keys(redis).verify(made["key"]) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("revoke", "da_000000000000_" + "5" * 64), "There is no key '000000000000'.\n"),
        (("create", "--name", ""), "name: "),
        (("create", "--name", "n", "--scope", "all"), "jobs:write"),
        (("create", "--name", "n", "--max-queued", "-1"), "--max-queued"),
        (("create",), "--name"),
    ],
)
def test_wrong_usage_says_what_is_wrong(redis: Redis, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "5" * 64 not in result.stderr
    assert redis.keys("da:key*") == []


@pytest.mark.parametrize(("url", "code"), [("redis://:hunter2@127.0.0.1:1/0", 3), ("http://:hunter2@x", 2)])
def test_an_address_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, url: str, code: int) -> None:
    monkeypatch.setenv("DRAGANYTHING_REDIS_URL", url)
    result = run("list")
    assert (result.exit_code, result.stdout) == (code, "")
    assert "DRAGANYTHING_REDIS_URL" in result.stderr
    assert "hunter2" not in result.stderr


def test_a_stack_of_this_machine_is_found_by_its_directory(
    servers: Stack, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DRAGANYTHING_REDIS_URL")
    made = told("create", "--name", "n", "--data-dir", str(servers.data_dir))
    assert Keys(redis).verify(made["key"])
