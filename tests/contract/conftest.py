"""The fixtures of the API's tests."""

from tests.doors import api, client, storage, store

__all__ = ["api", "client", "storage", "store"]
