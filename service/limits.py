"""What a key may send: requests a minute, bytes a day. Told in the header fields of
draft-ietf-httpapi-ratelimit-headers-11."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.errors import DragAnythingError, LengthRequired, RateLimited, TooLarge
from jobs.keys import Draw, Key, Keys, Level

REQUESTS, BYTES = "requests", "bytes"
MINUTE_S, DAY_S = 60, 24 * 3600


@dataclass(frozen=True)
class Draft:
    """The outcome of a request's draws: what its answer tells, and why it is refused, if it is."""

    fields: dict[str, str] = field(default_factory=dict)
    refusal: DragAnythingError | None = None


def draw(keys: Keys, key: Key, length: int | None) -> Draft:
    """Count a request, and its body of ``length`` bytes (None where that is not announced), against its key."""
    limits = key.limits
    refusal: DragAnythingError | None = None
    draws = []
    if limits.requests_per_minute:
        draws.append(Draw(REQUESTS, limits.requests_per_minute, MINUTE_S, 1))
    if limits.bytes_per_day:
        refusal = _unpayable(limits.bytes_per_day, length)
        draws.append(Draw(BYTES, limits.bytes_per_day, DAY_S, 0 if refusal else length or 0))
    levels = keys.draw(key.id, draws)
    for drawn, level in zip(draws, levels, strict=False):
        if not level.taken:
            refusal = _refusal(drawn, level)
    return Draft(_fields(draws, levels), refusal)


def charge(keys: Keys, owner: str, quota: int | None, count: int) -> None:
    """Count bytes that are not in a body, but on their way to S3, against their owner's ``quota`` a day.

    Raises:
        TooLarge: there are more than a day's.
        RateLimited: not now.
    """
    if quota is None:
        return
    if refusal := _unpayable(quota, count):
        raise refusal
    drawn = Draw(BYTES, quota, DAY_S, count)
    (level,) = keys.draw(owner, [drawn])
    if not level.taken:
        raise _refusal(drawn, level)


def _unpayable(quota: int, length: int | None) -> DragAnythingError | None:
    """Why no wait would help."""
    if length is None:
        return LengthRequired("This key has a limit of bytes a day; send Content-Length, not chunks.")
    return TooLarge(f"This key may send {quota} bytes a day, in all.") if length > quota else None


def _refusal(drawn: Draw, level: Level) -> RateLimited:
    told = f"This key may send {drawn.quota} {drawn.name} in {drawn.window_s} s; see Retry-After."
    return RateLimited(told, retry_after_s=_whole(level))


def _fields(draws: Sequence[Draw], levels: Sequence[Level]) -> dict[str, str]:
    if not draws:
        return {}
    unit = {BYTES: ';qu="content-bytes"'}
    return {
        "RateLimit-Policy": ", ".join(
            f'"{d.name}";q={d.quota}{unit.get(d.name, "")};w={d.window_s}' for d in draws
        ),
        "RateLimit": ", ".join(
            f'"{d.name}";r={level.left};t={_whole(level)}' for d, level in zip(draws, levels, strict=False)
        ),
    }


def _whole(level: Level) -> int:
    return max(1, math.ceil(level.wait_s))
