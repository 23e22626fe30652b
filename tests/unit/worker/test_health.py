from __future__ import annotations

import socket

import pytest
from redis import Redis

from jobs.registry import Registry
from jobs.settings import Settings
from tests.harness import until
from tests.unit.jobs.specs import make_card
from worker import health

LEASE_S = 1000.0


@pytest.fixture
def asked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The check reads the settings of the test's servers."""
    monkeypatch.setattr(health, "settings", lambda: settings)
    return monkeypatch


@pytest.mark.usefixtures("asked")
def test_a_worker_of_this_host_that_beats_is_healthy(redis: Redis) -> None:
    Registry(redis, LEASE_S).announce(f"{socket.gethostname()}-0123abcd", make_card())
    health.main()


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("other", ["another-0123abcd", f"{socket.gethostname()}-1-0123abcd"])
def test_the_beats_of_another_host_do_not_count(redis: Redis, other: str) -> None:
    Registry(redis, LEASE_S).announce(other, make_card())
    with pytest.raises(SystemExit, match="No worker of this host"):
        health.main()


@pytest.mark.usefixtures("asked")
def test_a_worker_that_has_stopped_beating_is_not_healthy(redis: Redis) -> None:
    registry = Registry(redis, lease_s=0.05)
    registry.announce(f"{socket.gethostname()}-0123abcd", make_card())
    until(lambda: registry.alive() == 0)
    with pytest.raises(SystemExit, match="No worker of this host"):
        health.main()


def test_nobody_can_tell_while_redis_is_away(asked: pytest.MonkeyPatch) -> None:
    asked.setattr(health, "settings", lambda: Settings(redis_url="redis://127.0.0.1:1/0"))
    with pytest.raises(SystemExit, match="Redis does not answer"):
        health.main()
