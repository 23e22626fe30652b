"""Who wants to know is told that a job changed, and reads the record itself.

One subscription per process serves any number of listeners: a thousand open streams cost one Redis connection.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.exceptions import RedisError

from jobs.connection import connect_asyncio
from jobs.settings import Settings

CHANNEL = "da:changed"
RECONNECT_S = 0.5


class Feed:
    """Wakes the listeners of a job when its record changes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Feed]:
        """Follow the channel for as long as the block lasts."""
        task = asyncio.create_task(self._follow())
        try:
            yield self
        finally:
            while not task.done():  # a client that is just connecting may swallow a cancellation
                task.cancel()
                await asyncio.wait([task], timeout=RECONNECT_S)

    @asynccontextmanager
    async def listen(self, *names: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set at each change of one of them; the listener clears it.

        A name is a job's id, or ``queue:{model}`` for the places in a model's queue.
        """
        event = asyncio.Event()
        for name in names:
            self._listeners[name].add(event)
        try:
            yield event
        finally:
            for name in names:
                self._listeners[name].discard(event)
                if not self._listeners[name]:
                    del self._listeners[name]

    def _wake(self, job_id: str) -> None:
        for event in self._listeners.get(job_id, ()):
            event.set()

    async def _follow(self) -> None:
        while True:
            with suppress(RedisError, OSError):
                async with connect_asyncio(self._settings) as client, client.pubsub() as subscription:
                    await subscription.subscribe(CHANNEL)
                    async for message in subscription.listen():
                        if message["type"] == "message":
                            self._wake(message["data"].decode(errors="replace"))
                        elif message["type"] == "subscribe":  # again, too, after the client has reconnected
                            for job_id in list(self._listeners):  # whatever changed while nobody listened
                                self._wake(job_id)
            await asyncio.sleep(RECONNECT_S)
