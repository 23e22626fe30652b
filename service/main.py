"""``python -m service.main``: serve the API."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from socket import socket

import uvicorn
from redis import Redis
from redis.exceptions import RedisError

from jobs.connection import Misconfigured, connect_briefly
from jobs.keys import Keys
from jobs.logs import configure_logs
from jobs.settings import settings
from jobs.tracing import configure_traces
from service.app import create_app
from service.auth import is_public
from service.rpc import DRAIN_S, credentials

NOT_STARTED = 3
"""uvicorn's own code."""
REMEDY = (
    "Make one with `draganything keys create`. To publish the service without any (behind a proxy of yours), name"
    " the hosts that it is called by: DRAGANYTHING_ALLOWED_HOSTS='[\"127.0.0.1\"]'."
)


def main() -> None:
    """Listen where the settings say; without keys only on loopback, unless the hosts are named."""
    config = settings()
    configure_logs(config)
    configure_traces("api")
    try:
        with connect_briefly(config) as redis:
            if is_public(config) and not config.require_keys and not _has_keys(redis):
                sys.exit(f"No keys are configured, so {config.host} is not served. {REMEDY}")
        credentials(config)
    except Misconfigured as error:
        sys.exit(str(error))
    server = Server(
        uvicorn.Config(
            create_app(config),
            host=config.host,
            port=config.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_S,
        )
    )
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(NOT_STARTED)


class Server(uvicorn.Server):
    """Closes both doors at the same time: the grace of one must not wait for that of the other."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """As uvicorn calls it after a signal."""
        async with asyncio.TaskGroup() as both:
            both.create_task(super().shutdown(sockets))
            both.create_task(self.config.app.state.stop_rpc())  # type: ignore[union-attr] # FastAPI's


def _has_keys(redis: Redis) -> bool:
    try:
        return Keys(redis).exist()
    except Misconfigured:
        raise
    except RedisError:  # nobody knows
        return False


if __name__ == "__main__":
    main()
