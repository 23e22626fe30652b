"""One set of real servers for each test process, started when the first test asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from jobs.settings import Settings
from local.ports import bypass_proxies
from local.seaweed import BUCKET
from local.stack import Stack
from tests.harness import LIVE_KNOBS, clean_environ, empty_bucket, flush, settings_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

for name in [name for name in os.environ if name.startswith("DRAGANYTHING_")]:
    del os.environ[name]
bypass_proxies()
# Before torch is imported: two test processes share two cores, so neither may spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Valkey and S3 of this test process; for tests that stop or pause them, ``live_stack`` or one's own."""
    with Stack(tmp_path_factory.mktemp("servers") / "data", commands={}) as stack:
        yield stack


@pytest.fixture
def redis_url(servers: Stack) -> str:
    """An empty Valkey."""
    flush(servers.valkey.url)
    return servers.valkey.url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of an empty Valkey; answers are bytes."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def bucket(servers: Stack) -> str:
    """The name of an empty bucket."""
    empty_bucket(servers)
    return BUCKET


@pytest.fixture
def s3(servers: Stack, bucket: str) -> Iterator[S3Client]:  # noqa: ARG001 - it is emptied
    """A client of the S3 server, whose bucket is empty."""
    client = servers.seaweed.client()
    yield client
    client.close()


@pytest.fixture
def settings(servers: Stack, redis_url: str, bucket: str) -> Settings:  # noqa: ARG001 - they are emptied
    """Settings that lead to an empty Valkey and an empty bucket."""
    return settings_of(servers)


@pytest.fixture(scope="session")
def live_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """API and worker as real processes with servers of their own; ``harness.restart`` kills one of them.

    Shared by the tests of a process: one that breaks something waits until it serves again (``harness.until``).
    """
    environ = clean_environ(LIVE_KNOBS)
    with Stack(tmp_path_factory.mktemp("live"), environ=environ, ready_s=120) as stack:
        yield stack


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:  # noqa: ARG001
    """A failed test on the live stack shows what its processes wrote."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("live_stack")
    if report.failed and stack:
        for process in stack.processes.values():
            report.sections.append((f"{process.name} log", process.tail(40)))
    return report
