"""What is still to be told to receivers, and when. In Redis: ``da:outbox:{host}`` (a receiver's deliveries, by the
time at which each is due), ``da:outbox`` (receivers, by the time of their first), ``da:dead-letters`` (given up).

The transition that ends a job writes its delivery in the same step. A delivery is named like its job, lives as
long as that, and its state is in the job's record. Who takes one holds it for a lease: if that runs out it is due
again, so each is sent at least once, and never by two at a time.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Literal, cast

from redis import Redis

from jobs.errors import NotFound
from jobs.scripts import Scripts
from jobs.webhooks import TIMEOUT_S, Subscription

MINUTE, HOUR = 60.0, 3600.0
PAUSES_S = (5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""Before each further try, as Standard Webhooks suggests; more than three days in all."""
JITTER = 0.2
"""Share by which a pause is longer or shorter, so that a receiver that comes back is not met by all at once."""
MAX_PAUSE_S = 24 * HOUR
"""A receiver that asks for a longer one is not obeyed."""
LEASE_S = 2 * TIMEOUT_S
_DEAD = "da:dead-letters"

Clock = Callable[[], int]
"""Milliseconds since the epoch."""


@dataclass(frozen=True)
class Delivery:
    """A message that is held by ``token``; ``tries`` have failed before."""

    job_id: str
    token: str
    owner: str
    subscription: Subscription
    tries: int

    @property
    def message_id(self) -> str:
        """The same in every try."""
        return f"msg_{self.job_id}"

    @property
    def host(self) -> str:
        """The receiver."""
        return self.subscription.host


@dataclass(frozen=True)
class DeadLetter:
    """A message that was given up."""

    job_id: str
    host: str
    died_at: datetime
    tries: int
    note: str
    """What the last try met."""


@dataclass(frozen=True)
class Backlog:
    """``overdue_s``: for how long the delivery that is due first has been so, in nobody's hands."""

    pending: int
    overdue_s: float
    dead: int


class Outbox:
    """Deliveries, taken and settled. Safe to share between threads. ``clock``, left out, is Redis's own."""

    def __init__(self, redis: Redis, clock: Clock | None = None, dice: Random | None = None) -> None:
        self._redis = redis
        self._run = Scripts(redis).run
        self._clock = clock
        self._dice = dice or Random()  # noqa: S311 - a jitter, no secret

    def take(self, passed_over: Iterable[str] = ()) -> Delivery | None:
        """The delivery that is due first, but of receivers that are passed over; None where none is due.

        Where the answer of this call is lost, the delivery comes back when its lease has run out.
        """
        token = secrets.token_hex(8)
        found = self._run("take", self._now(), token, int(LEASE_S * 1000), *passed_over)
        if found is None:
            return None
        job_id, owner, subscription, tries = (part.decode() for part in cast("list[bytes]", found))
        return Delivery(job_id, token, owner, Subscription.model_validate_json(subscription), int(tries))

    def deliver(self, delivery: Delivery) -> bool:
        """It has arrived; False where the lease was lost before this was said."""
        return self._settle(delivery, "delivered")

    def fail(self, delivery: Delivery, note: str, retry_after_s: float | None = None) -> float | None:
        """It has not arrived: seconds until the next try; None where that was the last one, and it is given up."""
        if delivery.tries >= len(PAUSES_S):
            self.bury(delivery, note)
            return None
        pause_s = PAUSES_S[delivery.tries] * self._dice.uniform(1 - JITTER, 1 + JITTER)
        pause_s = max(pause_s, min(retry_after_s or 0.0, MAX_PAUSE_S))
        self._settle(delivery, "failed", note, pause_s)
        return pause_s

    def bury(self, delivery: Delivery, note: str) -> None:
        """Give it up."""
        self._settle(delivery, "dead", note)

    def backlog(self) -> Backlog:
        """What is still to be delivered, and what was given up."""
        seconds, micros = self._redis.time()
        now = self._clock() if self._clock else seconds * 1000 + micros // 1000
        receivers = cast("list[tuple[bytes, float]]", self._redis.zrange("da:outbox", 0, -1, withscores=True))
        with self._redis.pipeline(transaction=False) as pipe:
            for host, _ in receivers:
                pipe.zcard(f"da:outbox:{host.decode()}")
            pipe.zcard(_DEAD)
            *waiting, dead = pipe.execute()
        overdue_ms = now - receivers[0][1] if receivers else 0.0
        return Backlog(sum(waiting), max(overdue_ms, 0.0) / 1000, dead)

    def dead(self) -> list[DeadLetter]:
        """What was given up, oldest first."""
        pairs = cast("list[tuple[bytes, float]]", self._redis.zrange(_DEAD, 0, -1, withscores=True))
        letters = []
        for job_id, died_ms in pairs:
            fields = cast(
                "list[bytes | None]",
                self._redis.hmget(f"da:job:{job_id.decode()}", ["webhook", "delivery_tries", "delivery_note"]),
            )
            webhook, tries, note = (b"" if field is None else field for field in fields)
            if webhook:  # forgotten between the two reads
                host = Subscription.model_validate_json(webhook).host
                died_at = datetime.fromtimestamp(died_ms / 1000, UTC)
                letters.append(DeadLetter(job_id.decode(), host, died_at, int(tries or 0), note.decode()))
        return letters

    def retry(self, job_id: str) -> None:
        """Send what was given up again, now, with all of its tries ahead.

        Raises:
            NotFound: it was not given up, or its job is gone.
        """
        if not self._run("revive", self._now(), job_id):
            raise NotFound(f"No message about a job {job_id[:64]!r} was given up.")

    def _settle(
        self,
        delivery: Delivery,
        outcome: Literal["delivered", "failed", "dead"],
        note: str = "",
        pause_s: float = 0,
    ) -> bool:
        said = (delivery.job_id, delivery.token, outcome, int(pause_s * 1000), note)
        return bool(self._run("settle", self._now(), *said))

    def _now(self) -> object:
        return "" if self._clock is None else self._clock()
