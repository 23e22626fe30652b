"""``python -m worker.health``: exit code 0 if a worker of this host has beaten within a lease, for the checks of
containers. A worker beats once it holds its models. While Redis is away nobody can tell: that is a no."""

from __future__ import annotations

import socket
import sys

from redis.exceptions import RedisError

from jobs.connection import connect_briefly
from jobs.registry import Registry
from jobs.settings import settings


def main() -> None:
    """Ask Redis."""
    config = settings()
    try:
        with connect_briefly(config) as redis:
            if not Registry(redis, config.lease_s).beats(socket.gethostname()):
                sys.exit("No worker of this host has beaten lately.")
    except RedisError as error:
        sys.exit(f"Redis does not answer: {error}")


if __name__ == "__main__":
    main()
