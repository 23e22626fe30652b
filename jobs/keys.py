"""API keys, and what each of them has used. In Redis: ``da:key:{id}`` (hash), ``da:keys`` (every id, by time),
``da:bucket:{id}:{name}`` (what is used up of a limit).

A key reads ``da_<id>_<secret>``. The id is public and owns jobs; the secret is 256 random bits, of which only the
SHA-256 is kept. A slow hash (bcrypt, Argon2) is for passwords, since those can be guessed: 2^256 values can not,
and it would make each request slow. A revoked key stays on the list, so that revoking the last one opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from redis import Redis

from jobs.errors import NotFound
from jobs.scripts import Scripts

FORM = re.compile(r"da_(?P<id>[0-9a-f]{12})_(?P<secret>[0-9a-f]{64})")
LAST_USED_MS = 60_000
"""How coarse ``last_used_at`` is."""


class Scope(StrEnum):
    """What a key may do."""

    READ = "jobs:read"
    WRITE = "jobs:write"


class Limits(BaseModel):
    """How much a key may do; None is no limit."""

    model_config = ConfigDict(frozen=True)

    max_queued: PositiveInt | None = 100
    max_running: PositiveInt | None = None
    requests_per_minute: PositiveInt | None = 600
    bytes_per_day: PositiveInt | None = None


class Grant(BaseModel):
    """What a key was made with."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: frozenset[Scope] = frozenset(Scope)
    limits: Limits = Limits()


class Key(Grant):
    """A key without its secret."""

    id: str
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True)
class Draw:
    """``cost`` units out of a bucket that holds ``quota`` and refills evenly within ``window_s``."""

    name: str
    quota: int
    window_s: int
    cost: int


@dataclass(frozen=True)
class Level:
    """A bucket after a draw: whole units left, and seconds until there is one more or, where the draw was refused,
    until it would not be."""

    taken: bool
    left: int
    wait_s: float


class Keys:
    """The keys of a deployment. Safe to share between threads."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._run = Scripts(redis).run

    def create(self, grant: Grant) -> tuple[Key, str]:
        """A new key, and its text, which is kept nowhere."""
        key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
        now = self._now_ms()
        kept = {
            "grant": grant.model_dump_json(),
            "hash": _hash(secret),
            "created_ms": str(now),
            "last_used_ms": "0",
        }
        with self._redis.pipeline() as both:
            both.hset(_record(key_id), mapping=cast("Any", kept))
            both.zadd("da:keys", {key_id: now})
            both.execute()
        return self.get(key_id), f"da_{key_id}_{secret}"

    def all(self) -> list[Key]:
        """Every key that was ever made, oldest first."""
        return [self.get(key_id.decode()) for key_id in cast("list[bytes]", self._redis.zrange("da:keys", 0, -1))]

    def exist(self) -> bool:
        """Whether a key was ever made."""
        return bool(self._redis.exists("da:keys"))

    def get(self, key_id: str) -> Key:
        """The key.

        Raises:
            NotFound: there is none with this id.
        """
        fields = self._read(key_id)
        if not fields:
            raise NotFound(f"There is no key {key_id[:64]!r}.")
        return _key(key_id, fields)

    def revoke(self, key_id: str) -> Key:
        """Make a key void, from the next request on; again does nothing more. Its jobs stay.

        Raises:
            NotFound: there is none with this id.
        """
        self.get(key_id)
        self._redis.hsetnx(_record(key_id), "revoked_ms", str(self._now_ms()))
        return self.get(key_id)

    def verify(self, text: str) -> Key | None:
        """The key that this is the text of; None where it is none, or void. Writes nothing."""
        form = FORM.fullmatch(text)
        fields = self._read(form["id"]) if form else {}
        if form is None or not hmac.compare_digest(_hash(form["secret"]), fields.get("hash", "")):
            return None
        return None if "revoked_ms" in fields else _key(form["id"], fields)

    def draw(self, key_id: str, draws: Sequence[Draw]) -> list[Level]:
        """Note a use and draw in the order given, until one is refused: what comes behind it is left out."""
        flat = [item for draw in draws for item in (draw.name, draw.quota, draw.window_s * 1000, draw.cost)]
        reply = cast("list[list[int]]", self._run("draw", key_id, LAST_USED_MS, *flat))
        return [Level(bool(taken), left, wait_ms / 1000) for taken, left, wait_ms in reply]

    def _read(self, key_id: str) -> dict[str, str]:
        fields = cast("dict[bytes, bytes]", self._redis.hgetall(_record(key_id)))
        return {name.decode(): value.decode() for name, value in fields.items()}

    def _now_ms(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def _record(key_id: str) -> str:
    return f"da:key:{key_id}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(key_id: str, fields: dict[str, str]) -> Key:
    times = {f"{name}_at": _time(fields.get(f"{name}_ms", "0")) for name in ("created", "last_used", "revoked")}
    return Key.model_validate({**Grant.model_validate_json(fields["grant"]).model_dump(), "id": key_id, **times})


def _time(ms: str) -> datetime | None:
    return datetime.fromtimestamp(int(ms) / 1000, UTC) if int(ms) else None
