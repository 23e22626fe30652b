from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from draganything_client import AsyncClient, Client

from tests.unit.client.scripted import Service


class Clock:
    """Time that passes only in sleeps, and ``tick`` seconds at each look."""

    def __init__(self) -> None:
        self.now = 0.0
        self.tick = 0.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


class Blocking:
    """``AsyncClient`` with the calls of ``Client``: one test is for both."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._runner.run(_finished(getattr(self._client, name), args, kwargs))

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


async def _finished(call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    answer = call(*args, **kwargs)
    return [item async for item in answer] if hasattr(answer, "__aiter__") else await answer


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in ("DRAGANYTHING_URL", "DRAGANYTHING_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with Service() as running:
        yield running


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Callable[..., Any]]:
    """Makes clients of either kind, on the test's clock; closes them."""
    made: list[Any] = []

    def make(*args: Any, **kwargs: Any) -> Any:
        kind = httpx.HTTPTransport if request.param == "sync" else httpx.AsyncHTTPTransport
        kwargs.setdefault("transport", kind(verify=False))  # loading the certificates takes most of a test
        if request.param == "sync":
            made.append(Client(*args, sleep=clock.sleep, clock=clock, **kwargs))
        else:
            made.append(Blocking(*args, sleep=clock.asleep, clock=clock, **kwargs))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(connect: Callable[..., Any], service: Service) -> Any:
    return connect(service.url)
