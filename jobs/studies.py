"""Blind comparisons of pairs of videos. In Redis: ``da:study:{id}`` (the study), ``da:study-link:{link}`` (its
id), ``da:study-votes:{id}`` (hash, a vote for each rater and pair), ``da:studies:{owner}`` (ids by their end).

Owners know a study by its id, raters by its link: who has the link can vote, but learns neither the results nor
which video is which. Order and sides are drawn from a hash of id and rater, so nothing of a ballot is kept until
the vote.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict
from redis import Redis

from jobs.errors import Conflict, NotFound, RateLimited
from jobs.scripts import Scripts

MAX_PAIRS = 200
MAX_VOTES = 20_000
"""Of one study."""
MAX_STUDIES = 100
"""Of one owner, at a time."""
QUESTIONS = ("motion", "quality")
"""The paper's two."""
CONFIDENCE_Z = 1.959964
"""Standard deviations of a normal distribution that hold 95 % of it."""
RATER = "^[0-9a-f]{32}$"

Letter = Literal["a", "b"]
Side = Literal["left", "right"]
Choice = Literal["left", "right", "tie"]
Preferred = Literal["a", "b", "tie"]


class Pair(BaseModel):
    """Two jobs that made a video each."""

    model_config = ConfigDict(frozen=True)

    a: str
    b: str


class Study(BaseModel):
    """Pairs to be compared. Votes are taken until ``closes_at``, when the first of the videos is gone."""

    model_config = ConfigDict(frozen=True)

    id: str
    owner: str
    link: str
    title: str
    names: tuple[str, str]
    pairs: tuple[Pair, ...]
    created_at: datetime
    closes_at: datetime
    expires_at: datetime


class Vote(BaseModel):
    """What a rater says of a pair; ``left`` is the video that stood there."""

    model_config = ConfigDict(frozen=True)

    rater: str
    pair: int
    left: Letter
    motion: Preferred
    quality: Preferred
    at: datetime


@dataclass(frozen=True)
class Ballot:
    """A pair as one rater is shown it."""

    pair: int
    left: Letter

    def letter(self, side: Side) -> Letter:
        """Which video stands on a side."""
        return self.left if side == "left" else _other(self.left)

    def preferred(self, choice: Choice) -> Preferred:
        """Which video a choice means."""
        return "tie" if choice == "tie" else self.letter(choice)


def _other(letter: Letter) -> Letter:
    return "b" if letter == "a" else "a"


def new_link() -> str:
    """128 random bits, for a study's link or a rater."""
    return secrets.token_hex(16)


def ballots(study: Study, rater: str) -> list[Ballot]:
    """The pairs in a rater's order, on a rater's sides; nobody can tell them without the study's id."""
    drawn = [_draw(study, rater, pair) for pair in range(len(study.pairs))]
    order = sorted(range(len(drawn)), key=lambda pair: drawn[pair])
    return [Ballot(pair, "a" if drawn[pair][-1] & 1 else "b") for pair in order]


def _draw(study: Study, rater: str, pair: int) -> bytes:
    return hmac.digest(study.id.encode(), f"{rater} {pair}".encode(), hashlib.sha256)


@dataclass(frozen=True)
class Preference:
    """Votes on one question. ``share`` is that of ``a`` among those that prefer one video, ``low`` to ``high`` its
    95 % confidence interval (Wilson 1927)."""

    a: int
    b: int
    tie: int
    share: float | None
    low: float
    high: float


def preference(answers: Iterable[Preferred]) -> Preference:
    """Count answers to one question."""
    given = list(answers)
    a, b, tie = (given.count(letter) for letter in ("a", "b", "tie"))
    low, high = wilson(a, a + b)
    return Preference(a, b, tie, a / (a + b) if a + b else None, low, high)


def wilson(successes: int, trials: int, z: float = CONFIDENCE_Z) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927); 0 to 1 where nothing was tried."""
    if not trials:
        return 0.0, 1.0
    share, weight = successes / trials, z * z / trials
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


class Studies:
    """The studies of a deployment. Safe to share between threads."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._run = Scripts(redis).run

    def create(self, study: Study) -> None:
        """Keep a study until it expires.

        Raises:
            RateLimited: its owner has too many.
        """
        owned, now = f"da:studies:{study.owner}", datetime.now(UTC).timestamp()
        self._redis.zremrangebyscore(owned, "-inf", now)
        if self._redis.zcard(owned) >= MAX_STUDIES:
            first = cast("list[tuple[bytes, float]]", self._redis.zrange(owned, 0, 0, withscores=True))[0][1]
            told = f"There are {MAX_STUDIES} studies; there can be another when one has expired."
            raise RateLimited(told, retry_after_s=max(1, int(first - now)))
        with self._redis.pipeline() as all_of_it:
            all_of_it.set(f"da:study:{study.id}", study.model_dump_json(), exat=study.expires_at)
            all_of_it.set(f"da:study-link:{study.link}", study.id, exat=study.expires_at)
            all_of_it.zadd(owned, {study.id: study.expires_at.timestamp()})
            all_of_it.execute()

    def get(self, study_id: str, owner: str | None = None) -> Study:
        """The study.

        Raises:
            NotFound: there is none, or it belongs to someone else than ``owner``.
        """
        held = cast("bytes | None", self._redis.get(f"da:study:{study_id}"))
        study = Study.model_validate_json(held) if held else None
        if study is None or owner not in (None, study.owner):
            raise NotFound(f"There is no study {study_id[:64]!r}; it may have expired.")
        return study

    def linked(self, link: str) -> Study:
        """The study that a link leads to.

        Raises:
            NotFound: it leads nowhere.
        """
        held = cast("bytes | None", self._redis.get(f"da:study-link:{link}"))
        if held is None:
            raise NotFound("This link leads to no study; it may be mistyped, or the study is over.")
        return self.get(held.decode())

    def votes(self, study: Study) -> list[Vote]:
        """Every vote, the first one first."""
        kept = cast("list[bytes]", self._redis.hvals(f"da:study-votes:{study.id}"))
        return sorted((Vote.model_validate_json(vote) for vote in kept), key=lambda vote: (vote.at, vote.rater))

    def voted(self, study: Study, rater: str) -> set[int]:
        """The pairs that a rater has voted on."""
        fields = [_field(rater, pair) for pair in range(len(study.pairs))]
        kept = cast("list[bytes | None]", self._redis.hmget(f"da:study-votes:{study.id}", fields))
        return {pair for pair, vote in enumerate(kept) if vote is not None}

    def vote(self, study: Study, vote: Vote) -> None:
        """Keep a vote; the same one again changes nothing.

        Raises:
            Conflict: the rater has voted otherwise on this pair, or the study has all the votes that it can hold.
            NotFound: the study is gone.
        """
        answer = self._run("vote", study.id, _field(vote.rater, vote.pair), vote.model_dump_json(), MAX_VOTES)
        if answer is None:
            raise NotFound("The study is over.")
        if answer == "full":
            raise Conflict(f"This study has {MAX_VOTES} votes; it takes no more.")
        if answer != "kept":
            before = Vote.model_validate_json(answer)
            if (before.motion, before.quality) != (vote.motion, vote.quality):
                raise Conflict("You have voted on this pair already, otherwise.")


def _field(rater: str, pair: int) -> str:
    return f"{rater}:{pair}"


def raters(votes: Sequence[Vote]) -> dict[str, int]:
    """Raters, numbered from 1 in the order in which they came."""
    return {rater: number for number, rater in enumerate(dict.fromkeys(vote.rater for vote in votes), 1)}
