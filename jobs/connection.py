"""Connections to Redis that outlast its restart."""

from __future__ import annotations

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError
from redis.retry import Retry

from jobs.settings import Settings

_AWAY = [ConnectionError, TimeoutError, BusyLoadingError]


def connect_patiently(settings: Settings) -> Redis:
    """For workers: about two minutes of retries, so that an outage in mid-job costs time and no work."""
    return Redis.from_url(
        settings.redis_url,
        retry=Retry(ExponentialBackoff(cap=2, base=0.05), 60),
        retry_on_error=_AWAY,
        socket_timeout=15,
        socket_connect_timeout=2,
        health_check_interval=15,
    )


def connect_briefly(settings: Settings) -> Redis:
    """For doors: one quick retry, then an error that becomes a 503."""
    return Redis.from_url(
        settings.redis_url,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.02), 1),
        retry_on_error=_AWAY,
        socket_timeout=0.45,
        socket_connect_timeout=0.4,
        health_check_interval=15,
    )
