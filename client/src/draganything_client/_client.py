"""The client, twice: ``Client`` waits in the thread, ``AsyncClient`` in the event loop; the flows are the same."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from . import _flows as flows
from ._flows import A, Emit, Flow, Read, Send, Sleep, job_path
from ._spec import picture
from ._types import Job, Json, Model, Models, Page, Preview, Segment, Status

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8000"


class _Calls:
    """The flows of all calls, and what both clients are configured with."""

    def __init__(
        self, base_url: str | None, api_key: str | None, timeout: float, retries: int, clock: Callable[[], float]
    ) -> None:
        self.base_url = (base_url or os.environ.get("DRAGANYTHING_URL") or DEFAULT_URL).rstrip("/")
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must start with http:// or https://, not {self.base_url!r}")
        key = api_key or os.environ.get("DRAGANYTHING_API_KEY")
        self.timeout, self.retries, self.clock = timeout, retries, clock
        self.options: dict[str, Any] = {
            "base_url": self.base_url,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": timeout,
            "follow_redirects": True,
            "mounts": dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]")),  # by no proxy
        }

    def build(self, http: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
        timeout = httpx.Timeout(self.timeout, read=send.read_timeout_s or self.timeout)
        return http.build_request(
            send.method, send.path, json=send.body, params=send.params, headers=send.headers, timeout=timeout
        )

    def generate(self, spec: Json, key: str | None, wait: float | None) -> Flow[Job]:
        return flows.generate(spec, key, wait, self.timeout, self.retries)

    def job(self, job: Job | str) -> Flow[Job]:
        return self._fetch(Send("GET", job_path(job)), Job)

    def follow(self, job: Job | str, timeout: float | None) -> Flow[Job]:
        return flows.follow(job if isinstance(job, str) else job.id, timeout, self.clock, self.retries)

    def cancel(self, job: Job | str) -> Flow[Job]:
        return self._fetch(Send("POST", job_path(job, "cancel")), Job)

    def delete(self, job: Job | str) -> Flow[None]:
        yield from flows.call(Send("DELETE", job_path(job)), self.retries)
        yield Emit(None)

    def jobs(self, status: Status | None, limit: int | None, after: str | None) -> Flow[Page]:
        given = {"status": status, "limit": limit, "after": after}
        params = {name: value for name, value in given.items() if value is not None}
        return self._fetch(Send("GET", "/v1/jobs", params=params), Page)

    def models(self) -> Flow[Models]:
        return self._fetch(Send("GET", "/v1/models"), Models)

    def download(
        self, job: Job | str, destination: str | Path, artifacts: Sequence[str] | None
    ) -> Flow[dict[str, Path]]:
        return flows.download(job, Path(destination), artifacts, self.retries)

    def preview(self, spec: Json) -> Flow[Preview]:
        return self._fetch(Send("POST", "/v1/preview", spec), Preview)

    def segment(
        self,
        image: str | Path | bytes,
        points: Sequence[tuple[float, float] | tuple[float, float, int]],
        box: Sequence[float] | None,
    ) -> Flow[Segment]:
        body: dict[str, Any] = {"image": picture(image)}
        if points:
            body["points"] = [dict(zip(("x", "y", "label"), point, strict=False)) for point in points]
        if box is not None:
            body["box"] = list(box)
        return self._fetch(Send("POST", "/v1/segment", body), Segment)

    def _fetch(self, request: Send, kind: type[A]) -> Flow[A]:
        return flows.fetch(request, kind, self.retries)


class Client:
    """A synchronous client; may be shared between threads.

    Args:
        base_url: left out, ``$DRAGANYTHING_URL`` or ``http://127.0.0.1:8000``.
        api_key: left out, ``$DRAGANYTHING_API_KEY`` or none.
        timeout: seconds for a connection, and between two pieces of an answer.
        retries: how often a call is repeated after a connection error, 429, 502, 503 or 504.
        transport: how to speak HTTP; for tests and proxies.
        sleep, clock: what time is; for tests.

    Every call raises ``APIError`` where the service says no and ``ConnectionFailed`` where it says nothing.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = _Calls(base_url, api_key, timeout, retries, clock)
        self._http = httpx.Client(**self._calls.options, transport=transport)
        self._sleep = sleep

    def generate(self, spec: Json, *, idempotency_key: str | None = None, wait: float | None = None) -> Job:
        """Queue a job; with ``wait`` the service answers when it ends, at most 60 s later.

        Without an ``idempotency_key`` of yours one is made: retries never queue the job twice.
        """
        return self._one(self._calls.generate(spec, idempotency_key, wait))

    def job(self, job: Job | str) -> Job:
        """The job as it is now."""
        return self._one(self._calls.job(job))

    def wait(
        self, job: Job | str, on_update: Callable[[Job], object] | None = None, timeout: float | None = None
    ) -> Job:
        """Wait for the video, calling ``on_update`` with each snapshot; outages of the service are sat out.

        Raises:
            JobFailed, JobCanceled, JobExpired: there will be none.
            WaitTimeout: not within ``timeout`` seconds.
        """
        for snapshot in self._run(self._calls.follow(job, timeout)):
            if on_update:
                on_update(snapshot)
        return flows.succeeded(snapshot)

    def events(self, job: Job | str) -> Iterator[Job]:
        """Snapshots of the job, at once and at each change, until it has ended."""
        return self._run(self._calls.follow(job, None))

    def cancel(self, job: Job | str) -> Job:
        """Ask the job to stop; one that has ended stays as it is."""
        return self._one(self._calls.cancel(job))

    def delete(self, job: Job | str) -> None:
        """Forget an ended job and its files."""
        return self._one(self._calls.delete(job))

    def jobs(self, *, status: Status | None = None, limit: int | None = None, after: str | None = None) -> Page:
        """One's own jobs, newest first."""
        return self._one(self._calls.jobs(status, limit, after))

    def models(self) -> list[Model]:
        """The installed models with their defaults and limits."""
        return self._one(self._calls.models()).models

    def download(
        self, job: Job | str, destination: str | Path, artifacts: Sequence[str] | None = None
    ) -> dict[str, Path]:
        """Save a job's files; a path that exists is replaced, and only by a whole file.

        Args:
            job: a succeeded job or its id.
            destination: a folder (it exists, or has no suffix) for ``video.mp4``, ``overlay.mp4``, …, or a file.
            artifacts: of ``video``, ``overlay``, ``manifest``, ``poster``, ``frames``. Left out: the first three,
                as far as the job has them, into a folder; the video into a file.

        Returns:
            Where each artifact is.
        """
        return self._one(self._calls.download(job, destination, artifacts))

    def preview(self, spec: Json) -> Preview:
        """What the network would be told, without queueing anything."""
        return self._one(self._calls.preview(spec))

    def segment(
        self,
        image: str | Path | bytes,
        points: Sequence[tuple[float, float] | tuple[float, float, int]] = (),
        box: Sequence[float] | None = None,
    ) -> Segment:
        """A mask from points (x, y) or (x, y, 0 for "not this"), and from a box (x0, y0, x1, y1)."""
        return self._one(self._calls.segment(image, points, box))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _one(self, flow: Flow[T]) -> T:
        [result] = self._run(flow)
        return result

    def _run(self, flow: Flow[T]) -> Iterator[T]:
        response: httpx.Response | None = None
        chunks: Iterator[bytes] = iter(())
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
                                    response.close()
                                request = self._calls.build(self._http, effect)
                                answer = response = self._http.send(request, stream=True)
                                if not effect.stream or response.is_error:
                                    response.read()
                                chunks = response.iter_bytes()
                            case Read():
                                answer = next(chunks, b"")
                            case Sleep(seconds):
                                self._sleep(seconds)
                    except httpx.RequestError as error:
                        failure = error
                    if isinstance(effect, Emit):
                        yield effect.value
            except StopIteration:
                return
            finally:
                if response is not None:
                    response.close()


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
        self._calls = _Calls(base_url, api_key, timeout, retries, clock)
        self._http = httpx.AsyncClient(**self._calls.options, transport=transport)
        self._sleep = sleep

    async def generate(self, spec: Json, *, idempotency_key: str | None = None, wait: float | None = None) -> Job:
        """As ``Client.generate``."""
        return await self._one(self._calls.generate(spec, idempotency_key, wait))

    async def job(self, job: Job | str) -> Job:
        """As ``Client.job``."""
        return await self._one(self._calls.job(job))

    async def wait(
        self, job: Job | str, on_update: Callable[[Job], object] | None = None, timeout: float | None = None
    ) -> Job:
        """As ``Client.wait``; what ``on_update`` returns is awaited if it can be."""
        async with aclosing(self._run(self._calls.follow(job, timeout))) as snapshots:
            async for snapshot in snapshots:
                if on_update and inspect.isawaitable(told := on_update(snapshot)):
                    await told
        return flows.succeeded(snapshot)

    def events(self, job: Job | str) -> AsyncIterator[Job]:
        """As ``Client.events``."""
        return self._run(self._calls.follow(job, None))

    async def cancel(self, job: Job | str) -> Job:
        """As ``Client.cancel``."""
        return await self._one(self._calls.cancel(job))

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

    async def preview(self, spec: Json) -> Preview:
        """As ``Client.preview``."""
        return await self._one(self._calls.preview(spec))

    async def segment(
        self,
        image: str | Path | bytes,
        points: Sequence[tuple[float, float] | tuple[float, float, int]] = (),
        box: Sequence[float] | None = None,
    ) -> Segment:
        """As ``Client.segment``."""
        return await self._one(self._calls.segment(image, points, box))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

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
