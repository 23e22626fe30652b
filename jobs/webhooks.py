"""Telling a user's server that a job has ended, signed as Standard Webhooks 1.0 says (standardwebhooks.com).

An owner has one secret, in Redis under ``da:webhook-secrets``. It is kept as it is, for whoever signs needs it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import cast

from pydantic import BaseModel, ConfigDict
from redis import Redis

from jobs.errors import Conflict
from jobs.outbound import Dialer
from jobs.settings import Settings
from jobs.spec import WebhookEvent
from jobs.state import Record
from jobs.storage import Storage
from jobs.view import JobView, view

TIMEOUT_S = 15.0
"""For one try, from the name to the answer's head."""
SECRET_BYTES = 32
_PREFIX = "whsec_"
_SECRETS = "da:webhook-secrets"


class Subscription(BaseModel):
    """Who is to be told of a job's end. ``host`` has the port; links in what is sent begin with ``base_url``."""

    model_config = ConfigDict(frozen=True)

    url: str
    host: str
    events: tuple[WebhookEvent, ...]
    base_url: str


class Message(BaseModel):
    """What is sent: the time at which the job ended, and the job as ``GET /v1/jobs/{id}`` answers it now."""

    type: str
    timestamp: datetime
    data: JobView


@dataclass(frozen=True)
class Answer:
    """What a receiver says; ``retry_after_s`` where it asks for a pause."""

    status: int
    retry_after_s: float | None = None

    @property
    def accepted(self) -> bool:
        """Whether the message has arrived."""
        return 200 <= self.status < 300


def dialer(settings: Settings) -> Dialer:
    """Reaches the receivers that the settings allow."""
    return Dialer(settings.webhooks_ports, private=settings.webhooks_private)


class Secrets:
    """What the messages of each owner are signed with; the owner ``""`` is everybody while there is no key."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def create(self, owner: str, *, replace: bool = False) -> str:
        """A new secret; what is sent from now on is signed with it.

        Raises:
            Conflict: there is one already, and it is not to be replaced.
        """
        secret = _PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        if replace:
            self._redis.hset(_SECRETS, owner, secret)
        elif not self._redis.hsetnx(_SECRETS, owner, secret):
            raise Conflict("There is a webhook secret already; --replace makes it void.")
        return secret

    def get(self, owner: str) -> str | None:
        """The owner's secret; None where there is none."""
        held = cast("bytes | None", self._redis.hget(_SECRETS, owner))
        return held.decode() if held else None


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature of a message; ``timestamp`` in seconds since the epoch."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def word(record: Record, base_url: str, storage: Storage | None) -> bytes:
    """The message about a job that has ended; ``storage`` as for ``jobs.view``."""
    ended = record.finished_at or datetime.now(UTC)
    message = Message(
        type=f"job.{record.status}", timestamp=ended, data=view(record, base_url, storage, eta_s=None)
    )
    return message.model_dump_json().encode()


def post(caller: Dialer, url: str, secret: str, message_id: str, body: bytes, ends: float) -> Answer:
    """Send a signed message. Redirects are not followed, and of the answer nothing but its head is read.

    Raises:
        OutboundError: the address is not allowed, or does not answer until ``ends`` (on the monotonic clock).
    """
    now = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "DragAnything",
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(secret, message_id, now, body),
    }
    with caller.ask("POST", url, ends, headers, body) as answer:
        return Answer(answer.status, _pause_s(answer.headers.get("Retry-After", "")))


def _pause_s(asked: str) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3); one that can not be read counts as none."""
    if re.fullmatch("[0-9]{1,9}", asked):
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
