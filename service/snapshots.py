"""A job as it is shown: once, or whenever it changes. The same for every door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi.concurrency import run_in_threadpool
from redis.exceptions import RedisError

from jobs.errors import NotFound
from jobs.state import Record
from jobs.view import JobView, view
from service.state import Doors

MAX_EVENTS_PER_S = 5.0
KEEP_POLLING_S = 5.0
"""Between two reads of a record that nothing was heard of: bounds what a lost message can cost."""
RETRY_S = 1.0


async def snapshots(known: Record, services: Doors) -> AsyncIterator[Record]:
    """The record at once, then at every change (at most five a second), until it has ended."""
    async with services.feed.listen(known.id, f"queue:{known.model}") as changed:
        shown: Record | None = None
        while True:
            changed.clear()
            try:
                record = await run_in_threadpool(services.store.get, known.id, known.owner)
            except RedisError:  # a stream outlasts an outage
                await asyncio.sleep(RETRY_S)
                continue
            except NotFound:  # forgotten meanwhile
                return
            if record != shown:
                yield record
                shown = record
            if record.status.terminal:
                return
            try:
                async with asyncio.timeout(KEEP_POLLING_S):
                    await changed.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(1 / MAX_EVENTS_PER_S)


def present(record: Record, base: str, services: Doors) -> JobView:
    """What a client sees of a record; its links begin with ``base``."""
    storage = None if services.settings.s3_private else services.storage
    eta_s = None
    with suppress(RedisError):  # an estimate is not worth an error
        eta_s = services.schedule.eta_s(record)
    return view(record, base, storage, eta_s)
