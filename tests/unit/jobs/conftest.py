from __future__ import annotations

import pytest
from redis import Redis

from jobs.settings import Settings
from jobs.store import Store


@pytest.fixture
def store(redis: Redis, settings: Settings) -> Store:
    """A store on an empty Valkey, whose leases do not run out by themselves."""
    return Store(redis, settings.model_copy(update={"lease_s": 1000.0}))
