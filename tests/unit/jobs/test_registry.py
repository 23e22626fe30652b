from __future__ import annotations

import pytest
from redis import Redis

from jobs.errors import InvalidRequest, ModelUnavailable
from jobs.registry import Registry
from tests.harness import until
from tests.unit.jobs.specs import make_card


def test_workers_come_and_go(redis: Redis) -> None:
    registry = Registry(redis, lease_s=1000)
    assert registry.alive() == 0
    registry.announce("one", make_card())
    registry.announce("two", make_card())
    registry.announce("two", make_card("other"))
    assert (registry.alive("tiny"), registry.alive("other"), registry.alive("missing")) == (2, 1, 0)
    assert registry.alive() == 3
    registry.retire("two", "tiny")
    assert (registry.alive("tiny"), registry.alive("other")) == (1, 1)


def test_who_does_not_beat_is_not_alive(redis: Redis) -> None:
    registry = Registry(redis, lease_s=0.05)
    registry.announce("one", make_card())
    until(lambda: registry.alive() == 0)
    Registry(redis, lease_s=1000).announce("one", make_card())
    assert registry.alive() == 1


def test_cards_stay_when_workers_go(redis: Redis) -> None:
    registry = Registry(redis, lease_s=1000)
    registry.announce("one", make_card())
    registry.announce("one", make_card("other"))
    registry.retire("one", "tiny")
    registry.retire("one", "other")
    assert registry.cards() == [make_card("other"), make_card("tiny")]
    assert registry.card("tiny") == make_card("tiny")


def test_no_card_at_all(redis: Redis) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        Registry(redis, lease_s=1).card("tiny")
    assert caught.value.retry_after_s


def test_no_such_card(redis: Redis) -> None:
    registry = Registry(redis, lease_s=1000)
    registry.announce("one", make_card())
    with pytest.raises(InvalidRequest) as caught:
        registry.card("huge")
    (error,) = caught.value.errors
    assert error.pointer == "/model"
    assert "tiny" in error.detail
