"""What every handler needs, made once per process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from redis import Redis

from jobs.connection import connect_briefly
from jobs.eta import Schedule
from jobs.events import Feed
from jobs.keys import Keys
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store
from jobs.studies import Studies

PUTS = 16
"""Objects that are stored at the same time."""


@dataclass(frozen=True)
class Doors:
    """The neighbours of the API."""

    settings: Settings
    redis: Redis
    store: Store
    storage: Storage
    registry: Registry
    keys: Keys
    studies: Studies
    schedule: Schedule
    feed: Feed
    pool: ThreadPoolExecutor
    """For puts that go on beside something else."""


@asynccontextmanager
async def open_doors(settings: Settings) -> AsyncIterator[Doors]:
    """Connect, and close again at the end of the block. Nothing needs to answer yet: readiness says what does."""
    redis = connect_briefly(settings)
    feed = Feed(settings)
    registry = Registry(redis, settings.lease_s)
    pool = ThreadPoolExecutor(PUTS, thread_name_prefix="put")
    async with feed.running():
        yield Doors(
            settings=settings,
            redis=redis,
            store=Store(redis, settings),
            storage=Storage(settings),
            registry=registry,
            keys=Keys(redis),
            studies=Studies(redis),
            schedule=Schedule(redis, registry),
            feed=feed,
            pool=pool,
        )
    pool.shutdown(wait=False)
    redis.close()


def doors(request: Request) -> Doors:
    """The neighbours, for a handler."""
    held: Doors = request.app.state.doors
    return held


Services = Annotated[Doors, Depends(doors)]
