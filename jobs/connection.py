"""Connections to Redis that outlast its restart, and a failover to its replica.

All that is known of its address is in this file. Behind Sentinel, each socket that is opened goes to the primary
of that moment; a command whose server went away, or is a replica now, is sent again over a new one.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio as aioredis
from redis import Connection, ConnectionPool, Redis, SSLConnection
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from jobs.settings import Settings

ASK_S = 2.0
"""A sentinel that has not answered for this long is passed over."""
NOT_PRIMARY = {"READONLY", "UNBLOCKED", "NOREPLICAS"}
"""Codes that a server answers with that was the primary, or is cut off from its replicas."""
URL_FORM = (
    "is not of the form redis://user:password@host:port/0 (rediss:// for TLS);"
    " percent-encode each of %:/?#[]@ in the user and the password"
)

Locate = Callable[[], tuple[str, int]]
Options = dict[str, Any]


class Misconfigured(RedisError):
    """A setting is wrong, so no retry can help. The message is one line, names the setting and holds no secret."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"DRAGANYTHING_{setting.upper()}: {problem}")


def connect_patiently(settings: Settings) -> Redis:
    """For workers: about two minutes of retries, so that an outage in mid-job costs time and no work.

    Raises:
        Misconfigured: now, for an address or a file; at the first command, for a password or a certificate.
    """
    retry = Retry(ExponentialBackoff(cap=2, base=0.05), 60)
    return _connect(settings, ASK_S, retry=retry, socket_timeout=15, socket_connect_timeout=2)


def connect_briefly(settings: Settings) -> Redis:
    """For doors: one quick retry, then an error that becomes a 503. All waits together stay below a second.

    Raises:
        Misconfigured: as :func:`connect_patiently`.
    """
    wait_s, ask_s = (0.3, 0.3 / len(settings.redis_sentinels)) if settings.redis_sentinels else (0.35, 0.0)
    retry = Retry(ExponentialBackoff(cap=0.1, base=0.02), 1)
    return _connect(settings, ask_s, retry=retry, socket_timeout=wait_s, socket_connect_timeout=wait_s)


def connect_asyncio(settings: Settings) -> aioredis.Redis:
    """For who listens to a channel, and connects again by itself.

    Raises:
        Misconfigured: an address or a file is wrong.
    """
    kind = AsyncTLSPrimary if _uses_tls(settings) else AsyncPrimary
    return aioredis.Redis.from_pool(aioredis.ConnectionPool(kind, **_options(settings, ASK_S)))


class Primary(Connection):
    """A connection that asks where the primary is each time it opens a socket.

    ``redis.sentinel`` asks only when its pool hands a connection out: one that breaks within a command is opened
    again where it was. ``blame`` names the setting that holds the password.
    """

    def __init__(self, *, locate: Locate | None = None, blame: str = "redis_url", **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._locate = locate
        self._blame = blame

    def _connect(self) -> Any:
        if self._locate:
            self.host, self.port = self._locate()
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        except ssl.SSLCertVerificationError as error:
            problem = f"the certificate of {self.host}:{self.port} is not valid: {error.verify_message}"
            raise Misconfigured("redis_ca_file", problem) from None

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:  # noqa: ARG002
        """Open and log in, once: it is the command that is retried, and rounds within rounds would multiply."""
        try:
            super().connect_check_health(check_health, retry_socket_connect=False)
        except AuthenticationError as error:
            problem = f"{self.host}:{self.port} refuses the user or password: {error}"
            raise Misconfigured(self._blame, problem) from None

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer; one that no primary gives counts as a server that is away."""
        try:
            return super().read_response(*args, **options)
        except ResponseError as error:
            if (error.status_code or str(error).partition(" ")[0]) not in NOT_PRIMARY:
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            raise ConnectionError(f"{self.host}:{self.port} is not the primary: {error}") from error


class TLSPrimary(Primary, SSLConnection):
    """The same over TLS."""


class AsyncPrimary(aioredis.Connection):
    """The asyncio twin, as far as a subscription needs it."""

    def __init__(self, *, locate: Locate | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._locate = locate

    async def _connect(self) -> None:
        if self._locate:
            self.host, self.port = await asyncio.to_thread(self._locate)
        await super()._connect()  # type: ignore[no-untyped-call]


class AsyncTLSPrimary(AsyncPrimary, aioredis.SSLConnection):
    """The same over TLS."""


def _connect(settings: Settings, ask_s: float, **limits: Any) -> Redis:
    kind = TLSPrimary if _uses_tls(settings) else Primary
    return Redis.from_pool(ConnectionPool(kind, **_options(settings, ask_s), **limits))


def _uses_tls(settings: Settings) -> bool:
    return settings.redis_url.startswith("rediss://")


def _options(settings: Settings, ask_s: float) -> Options:
    """Options of a connection to the primary. What can be checked without a server is."""
    tls = _tls_options(settings)
    options = _parse_url(settings) | tls
    if settings.redis_sentinels:
        asked = tls | {
            "password": settings.redis_sentinel_password,
            "blame": "redis_sentinel_password",
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": ask_s,
            "socket_connect_timeout": ask_s,
        }
        addresses = [_parse_sentinel(n, address) for n, address in enumerate(settings.redis_sentinels, start=1)]
        options["locate"] = lambda: _ask(settings, addresses, asked)  # its repr, unlike partial's, holds no secret
    return options


def _ask(settings: Settings, addresses: list[tuple[str, int]], options: Options) -> tuple[str, int]:
    """The primary's host and port, from the first sentinel that knows it.

    Raises:
        MasterNotFoundError: a ``ConnectionError``; none knows it, for now.
        Misconfigured: one refuses the password, or its certificate is not valid.
    """
    kind = TLSPrimary if _uses_tls(settings) else Primary
    with Sentinel([]) as sentinel:  # type: ignore[no-untyped-call]
        sentinel.sentinels = [
            Redis.from_pool(ConnectionPool(kind, host=host, port=port, **options)) for host, port in addresses
        ]
        host, port = sentinel.discover_master(settings.redis_sentinel_service)
    return host, port


def _parse_url(settings: Settings) -> Options:
    with suppress(ValueError):  # its text may hold a part of the password
        url = urlsplit(settings.redis_url)
        options: Options = parse_url(settings.redis_url)  # type: ignore[no-untyped-call]
        options.pop("connection_class", None)
        addressed = url.scheme in {"redis", "rediss"} and (url.hostname or settings.redis_sentinels)
        if addressed and re.fullmatch(r"(/\d*)?", url.path) and not (url.query or url.fragment):
            return options
    raise Misconfigured("redis_url", URL_FORM)


def _parse_sentinel(number: int, address: str) -> tuple[str, int]:
    match = re.fullmatch(r"([^\s:/@\[\]]+|\[[^\s/@\[\]]+\]):(\d+)", address)
    if not match or not 0 < int(match[2]) < 2**16:
        raise Misconfigured("redis_sentinels", f'entry {number} is not of the form "host:port"')
    return match[1].strip("[]"), int(match[2])


def _tls_options(settings: Settings) -> Options:
    ca, cert, key = settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file
    if not _uses_tls(settings):
        for name, path in (("redis_ca_file", ca), ("redis_cert_file", cert), ("redis_key_file", key)):
            if path:
                raise Misconfigured(name, "is of use only if DRAGANYTHING_REDIS_URL starts with rediss://")
        return {}
    context = ssl.create_default_context()
    if ca:
        with _reading("redis_ca_file", ca):
            context.load_verify_locations(ca)
    if key:
        with _reading("redis_key_file", key):
            key.read_bytes()
        if not cert:
            raise Misconfigured("redis_key_file", "needs DRAGANYTHING_REDIS_CERT_FILE beside it")
    if cert:
        with _reading("redis_cert_file", cert):
            context.load_cert_chain(cert, key, password="")
    return {"ssl_ca_certs": ca, "ssl_certfile": cert, "ssl_keyfile": key}


@contextmanager
def _reading(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Misconfigured(name, f"{path} cannot be used: {error.strerror}") from None
