"""Studies: fair draws, votes that count once, and intervals as the books have them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from jobs import studies
from jobs.errors import Conflict, NotFound, RateLimited
from jobs.studies import Pair, Studies, Study, Vote, ballots, new_link, preference, wilson

NOW = datetime.now(UTC)


def study(pairs: int = 3, **changes: Any) -> Study:
    return Study.model_validate(
        {
            "id": new_link(),
            "owner": "me",
            "link": new_link(),
            "title": "",
            "names": ("x", "y"),
            "pairs": [Pair(a=f"{k}a", b=f"{k}b") for k in range(pairs)],
            "created_at": NOW,
            "closes_at": NOW + timedelta(hours=1),
            "expires_at": NOW + timedelta(hours=2),
            **changes,
        }
    )


def vote(rater: str = "r", pair: int = 0, **changes: Any) -> Vote:
    given: dict[str, Any] = {"left": "a", "motion": "a", "quality": "tie", "at": NOW, **changes}
    return Vote(rater=rater, pair=pair, **given)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998 (doi 10.1002/(SICI)1097-0258(19980430)17:8<857), table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilson_s(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_ties_are_counted_and_prefer_nothing() -> None:
    found = preference(["a", "tie", "a", "b", "tie", "a"])
    assert (found.a, found.b, found.tie, found.share) == (3, 1, 2, 0.75)
    assert (found.low, found.high) == wilson(3, 4)
    nothing = preference(["tie"])
    assert (nothing.share, nothing.low, nothing.high) == (None, 0, 1)


def test_every_rater_sees_every_pair_once_in_an_order_and_on_sides_of_their_own() -> None:
    many = study(pairs=4)
    drawn = [ballots(many, new_link()) for _ in range(400)]
    assert all(sorted(one.pair for one in each) == [0, 1, 2, 3] for each in drawn)
    firsts = Counter(each[0].pair for each in drawn)
    assert all(60 < firsts[pair] < 140 for pair in range(4)), "100 each, sigma 9"
    for pair in range(4):
        left = sum(one.left == "a" for each in drawn for one in each if one.pair == pair)
        assert 150 < left < 250, "200, sigma 10"
    assert len({tuple((one.pair, one.left) for one in each) for each in drawn}) > 150
    rater = new_link()
    assert ballots(many, rater) == ballots(many, rater)
    assert ballots(many, rater) != ballots(study(pairs=4), rater), "who has the link alone can not tell"


def test_a_choice_means_what_stands_there() -> None:
    (one,) = ballots(study(pairs=1), "0" * 32)
    other = "b" if one.left == "a" else "a"
    assert (one.letter("left"), one.letter("right")) == (one.left, other)
    assert [one.preferred(choice) for choice in ("left", "right", "tie")] == [one.left, other, "tie"]


def test_a_study_is_found_by_its_owner_s_id_and_the_raters_link(redis: Redis) -> None:
    held, made = Studies(redis), study()
    held.create(made)
    assert held.get(made.id) == held.get(made.id, "me") == held.linked(made.link) == made
    with pytest.raises(NotFound):
        held.get(made.id, "you")
    with pytest.raises(NotFound):
        held.get(made.link)
    with pytest.raises(NotFound):
        held.linked(made.id)


def test_a_vote_counts_once(redis: Redis) -> None:
    held, made = Studies(redis), study()
    held.create(made)
    held.vote(made, vote())
    held.vote(made, vote(at=NOW + timedelta(seconds=5)))  # sent again, as its answer was lost
    held.vote(made, vote(pair=2))
    held.vote(made, vote("s", at=NOW - timedelta(seconds=5)))
    with pytest.raises(Conflict, match="otherwise"):
        held.vote(made, vote(motion="b"))
    with pytest.raises(Conflict, match="otherwise"):
        held.vote(made, vote(quality="b"))
    assert held.votes(made) == [vote("s", at=NOW - timedelta(seconds=5)), vote(), vote(pair=2)]
    assert (held.voted(made, "r"), held.voted(made, "s"), held.voted(made, "t")) == ({0, 2}, {0}, set())
    assert studies.raters(held.votes(made)) == {"s": 1, "r": 2}


def test_votes_are_kept_as_long_as_their_study(redis: Redis) -> None:
    held, made = Studies(redis), study()
    held.create(made)
    held.vote(made, vote())
    lives = [redis.pexpiretime(key) for key in (f"da:study:{made.id}", f"da:study-link:{made.link}")]
    assert all(abs(life / 1000 - made.expires_at.timestamp()) <= 1 for life in lives)
    assert abs(redis.pexpiretime(f"da:study-votes:{made.id}") - lives[0]) <= 1000
    redis.delete(f"da:study:{made.id}", f"da:study-votes:{made.id}")
    with pytest.raises(NotFound):
        held.vote(made, vote())
    assert not redis.exists(f"da:study-votes:{made.id}")


def test_there_are_limits(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "MAX_VOTES", 2)
    monkeypatch.setattr(studies, "MAX_STUDIES", 2)
    held, made = Studies(redis), study()
    held.create(made)
    held.vote(made, vote())
    held.vote(made, vote(pair=1))
    with pytest.raises(Conflict, match="no more"):
        held.vote(made, vote(pair=2))
    held.vote(made, vote())
    held.create(study())
    with pytest.raises(RateLimited) as full:
        held.create(study())
    assert full.value.retry_after_s is not None
    assert 3600 < full.value.retry_after_s <= 7200
    held.create(study(owner="you"))
    redis.zadd("da:studies:me", {made.id: NOW.timestamp() - 1})  # it has expired
    held.create(study())
