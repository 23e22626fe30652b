"""Loopback ports for the embedded servers."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Collection

HOST = "127.0.0.1"
GRPC_OFFSET = 10_000
"""SeaweedFS dials some of its own gRPC ports at this distance from the HTTP port, whatever its flags say."""

# Below Linux's ephemeral range (32768 and up), so that no outgoing connection sits on one of them.
_CANDIDATES = range(12_000, 32_000 - GRPC_OFFSET)


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen on ``host:port`` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def choose(count: int, without: Collection[int] = ()) -> list[int]:
    """``count`` different free ports, each with its ``+ GRPC_OFFSET`` neighbour free as well; none ``without``.

    They are drawn at random, so that stacks which start side by side hardly ever meet; the one that loses a
    race anyway finds its port taken and starts again with others (``Stack.start``).

    Raises:
        RuntimeError: the machine has too few free ports.
    """
    ports: list[int] = []
    for port in random.SystemRandom().sample(_CANDIDATES, len(_CANDIDATES)):
        if all(each not in without and is_free(each) for each in (port, port + GRPC_OFFSET)):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError(f"fewer than {count} free ports between {_CANDIDATES.start} and {_CANDIDATES.stop}")


def bypass_proxies() -> None:
    """Keep the proxies that the environment names away from this process's and its children's loopback calls."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST, "localhost"]))
