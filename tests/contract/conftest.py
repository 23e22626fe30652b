"""The fixtures of the API's tests."""

from tests.doors import api, client, private, storage, store

__all__ = ["api", "client", "private", "storage", "store"]
