from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from redis import Redis

from jobs.events import CHANNEL, Feed
from jobs.settings import Settings
from jobs.store import Store, new_attempt_id, new_id
from local.ports import choose
from local.process import Process
from local.valkey import Valkey
from tests.unit.jobs.specs import make_result, record_one


async def subscribed(redis: Redis) -> None:
    """Wait until the feed follows the channel."""
    while not dict(redis.pubsub_numsub(CHANNEL))[CHANNEL.encode()]:
        await asyncio.sleep(0.01)


async def rings(event: asyncio.Event) -> None:
    """Wait for a wake-up and get ready for the next."""
    await asyncio.wait_for(event.wait(), 20)
    event.clear()


def follow(redis_url: str, scenario: Callable[[Feed], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Feed(Settings(redis_url=redis_url)).running() as feed:
            await scenario(feed)

    asyncio.run(run())


def test_every_transition_wakes_the_listener(store: Store, redis_url: str) -> None:
    async def scenario(feed: Feed) -> None:
        await subscribed(store.redis)
        job_id, attempt = new_id(), new_attempt_id()
        async with feed.listen(job_id) as changed:
            for change in (
                lambda: record_one(store, job_id, ""),
                lambda: store.claim(job_id, attempt),
                lambda: store.beat(job_id, attempt, {"step": 1}),
                lambda: store.hand_back(job_id, attempt),
                lambda: store.claim(job_id, attempt),
                lambda: store.cancel(job_id),
                lambda: store.end_canceled(job_id, attempt),
            ):
                change()
                await rings(changed)

    follow(redis_url, scenario)


def test_others_sleep_on(store: Store, redis_url: str) -> None:
    async def scenario(feed: Feed) -> None:
        await subscribed(store.redis)
        mine, other = (record_one(store, owner="").id for _ in range(2))
        async with feed.listen(mine) as changed, feed.listen(other) as other_changed:
            await asyncio.sleep(0)
            changed.clear()
            other_changed.clear()
            store.cancel(mine)
            store.redis.publish(CHANNEL, b"\xff not an id")
            await rings(changed)
            attempt = new_attempt_id()
            store.claim(other, attempt)
            await rings(other_changed)
            store.succeed(other, attempt, make_result())
            await rings(other_changed)
            assert not changed.is_set()

    follow(redis_url, scenario)


def test_a_hundred_listeners_share_one_connection(redis: Redis, redis_url: str) -> None:
    async def scenario(feed: Feed) -> None:
        await subscribed(redis)
        async with AsyncExitStack() as stack:
            events = [await stack.enter_async_context(feed.listen(f"job{n % 50}")) for n in range(100)]
            for n in range(50):
                redis.publish(CHANNEL, f"job{n}")
            await asyncio.gather(*map(rings, events))
            assert len(redis.client_list(_type="pubsub")) == 1
        redis.publish(CHANNEL, "job1")

    follow(redis_url, scenario)


def test_a_cut_connection_wakes_everyone(redis: Redis, redis_url: str) -> None:
    """Whatever changed in between was heard by nobody."""

    async def scenario(feed: Feed) -> None:
        await subscribed(redis)
        async with feed.listen("a") as changed:
            redis.client_kill_filter(_type="pubsub")
            await rings(changed)
            await subscribed(redis)
            redis.publish(CHANNEL, "a")
            await rings(changed)

    follow(redis_url, scenario)


@contextmanager
def own_valkey(directory: Path) -> Iterator[tuple[Valkey, Process]]:
    """A Valkey that a test may kill; it is started again at once."""
    valkey = Valkey(directory / "valkey", choose(1)[0], "secret")
    process = Process("valkey", valkey.prepare(), log=directory / "log", env={})
    process.start()
    try:
        process.wait_ready(valkey.ready, 30)
        yield valkey, process
    finally:
        process.stop()


def test_the_feed_outlives_valkey(tmp_path: Path) -> None:
    with own_valkey(tmp_path) as (valkey, process), Redis.from_url(valkey.url) as redis:

        async def scenario(feed: Feed) -> None:
            await subscribed(redis)
            async with feed.listen("a") as changed:
                process.kill()
                await rings(changed)
                redis.close()  # its connection led to the process that is dead
                redis.publish(CHANNEL, "a")
                await rings(changed)

        follow(valkey.url, scenario)


def test_a_feed_waits_for_its_server(tmp_path: Path) -> None:
    valkey = Valkey(tmp_path / "valkey", choose(1)[0], "secret")

    async def scenario(feed: Feed) -> None:
        async with feed.listen("a") as changed:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(changed.wait(), 0.1)
            process = Process("valkey", valkey.prepare(), log=tmp_path / "log", env={})
            process.start()
            try:
                await rings(changed)
            finally:
                process.stop()

    follow(valkey.url, scenario)
