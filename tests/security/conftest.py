"""The fixtures of the API's tests."""

from tests.doors import api, client, storage, store
from tests.internet import network, server
from tests.rpc import door, served, stub

__all__ = ["api", "client", "door", "network", "served", "server", "storage", "store", "stub"]
