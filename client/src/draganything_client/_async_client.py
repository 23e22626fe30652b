"""The client that waits in the event loop: ``_client``'s twin."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Self, TypeVar

import httpx

from . import _following as following
from ._calls import Calls, Click, Image
from ._flows import Emit, Flow, Read, Send, Sleep
from ._spec import Mask
from ._types import (
    Ballot,
    Batch,
    Choice,
    Job,
    Json,
    Manifest,
    Model,
    Page,
    Preview,
    Segment,
    Status,
    Study,
    Upload,
)

T = TypeVar("T")


class AsyncClient:
    """The asynchronous twin of ``Client``: the same calls with the same arguments, results and errors."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = Calls(base_url, api_key, timeout, retries, clock)
        self._http = httpx.AsyncClient(**self._calls.options, transport=transport)
        self._sleep = sleep

    async def generate(self, spec: Json, *, idempotency_key: str | None = None, wait: float | None = None) -> Job:
        """As ``Client.generate``."""
        return await self._one(self._calls.generate(spec, idempotency_key, wait))

    async def generate_batch(
        self,
        specs: Json | Sequence[Json],
        *,
        seeds: Sequence[int] | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """As ``Client.generate_batch``."""
        return await self._one(self._calls.generate_batch(specs, seeds, idempotency_key))

    async def job(self, job: Job | str) -> Job:
        """As ``Client.job``."""
        return await self._one(self._calls.job(job))

    async def replay(
        self,
        manifest: Json | str | Path,
        image: Image | None = None,
        masks: Sequence[Mask | None] = (),
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """As ``Client.replay``."""
        return await self._one(self._calls.replay(manifest, image, masks, idempotency_key))

    async def batch(self, batch: Batch | str) -> Batch:
        """As ``Client.batch``."""
        return await self._one(self._calls.batch(batch))

    async def wait(
        self, job: Job | str, on_update: Callable[[Job], object] | None = None, timeout: float | None = None
    ) -> Job:
        """As ``Client.wait``; what ``on_update`` returns is awaited if it can be."""
        return following.succeeded(await self._last(self._calls.follow(job, timeout), on_update))

    async def wait_batch(
        self, batch: Batch | str, on_update: Callable[[Batch], object] | None = None, timeout: float | None = None
    ) -> Batch:
        """As ``Client.wait_batch``; what ``on_update`` returns is awaited if it can be."""
        return await self._last(self._calls.follow_batch(batch, timeout), on_update)

    def events(self, job: Job | str) -> AsyncIterator[Job]:
        """As ``Client.events``."""
        return self._run(self._calls.follow(job, None))

    async def cancel(self, job: Job | str) -> Job:
        """As ``Client.cancel``."""
        return await self._one(self._calls.cancel(job))

    async def cancel_batch(self, batch: Batch | str) -> Batch:
        """As ``Client.cancel_batch``."""
        return await self._one(self._calls.cancel_batch(batch))

    async def delete(self, job: Job | str) -> None:
        """As ``Client.delete``."""
        return await self._one(self._calls.delete(job))

    async def jobs(
        self, *, status: Status | None = None, limit: int | None = None, after: str | None = None
    ) -> Page:
        """As ``Client.jobs``."""
        return await self._one(self._calls.jobs(status, limit, after))

    async def models(self) -> list[Model]:
        """As ``Client.models``."""
        return (await self._one(self._calls.models())).models

    async def download(
        self, job: Job | str, destination: str | Path, artifacts: Sequence[str] | None = None
    ) -> dict[str, Path]:
        """As ``Client.download``; the pieces are written to disk in the event loop's own thread."""
        return await self._one(self._calls.download(job, destination, artifacts))

    async def manifest(self, job: Job | str) -> Manifest:
        """As ``Client.manifest``."""
        return await self._one(self._calls.manifest(job))

    async def upload(self, image: str | Path | bytes) -> Upload:
        """As ``Client.upload``; the pieces are read from disk in the event loop's own thread."""
        return await self._one(self._calls.upload(image))

    async def preview(self, spec: Json) -> Preview:
        """As ``Client.preview``."""
        return await self._one(self._calls.preview(spec))

    async def segment(
        self, image: Image, points: Sequence[Click] = (), box: Sequence[float] | None = None
    ) -> Segment:
        """As ``Client.segment``."""
        return await self._one(self._calls.segment(image, points, box))

    async def create_study(
        self,
        pairs: Sequence[tuple[Job | str, Job | str]],
        *,
        names: tuple[str, str] = ("a", "b"),
        title: str = "",
    ) -> Study:
        """As ``Client.create_study``."""
        return await self._one(self._calls.create_study(pairs, names, title))

    async def study(self, study: Study | str) -> Study:
        """As ``Client.study``."""
        return await self._one(self._calls.study(study))

    async def ballot(self, link: Study | str, rater: str | None = None) -> Ballot:
        """As ``Client.ballot``."""
        return await self._one(self._calls.ballot(link, rater))

    async def download_ballot(self, link: Study | str, ballot: Ballot, folder: str | Path) -> dict[str, Path]:
        """As ``Client.download_ballot``."""
        return await self._one(self._calls.download_ballot(link, ballot, folder))

    async def vote(self, link: Study | str, ballot: Ballot, *, motion: Choice, quality: Choice) -> Ballot:
        """As ``Client.vote``."""
        return await self._one(self._calls.vote(link, ballot, motion, quality))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _last(self, flow: Flow[T], on_update: Callable[[T], object] | None) -> T:
        async with aclosing(self._run(flow)) as snapshots:
            async for snapshot in snapshots:
                if on_update and inspect.isawaitable(told := on_update(snapshot)):
                    await told
        return snapshot

    async def _one(self, flow: Flow[T]) -> T:
        [result] = [value async for value in self._run(flow)]
        return result

    async def _run(self, flow: Flow[T]) -> AsyncGenerator[T, None]:
        response: httpx.Response | None = None
        chunks: AsyncIterator[bytes] | None = None
        answer: object = None
        failure: httpx.RequestError | None = None
        with closing(flow):
            try:
                while True:
                    effect = flow.throw(failure) if failure else flow.send(answer)
                    answer = failure = None
                    try:
                        match effect:
                            case Send():
                                if response is not None:
                                    await response.aclose()
                                request = self._calls.build(self._http, effect)
                                answer = response = await self._http.send(request, stream=True)
                                if not effect.stream or response.is_error:
                                    await response.aread()
                                chunks = response.aiter_bytes()
                            case Read():
                                answer = await anext(chunks, b"") if chunks else b""
                            case Sleep(seconds):
                                await self._sleep(seconds)
                    except httpx.RequestError as error:
                        failure = error
                    if isinstance(effect, Emit):
                        yield effect.value
            except StopIteration:
                return
            finally:
                if response is not None:
                    await response.aclose()
