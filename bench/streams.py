"""``python -m bench.streams``: many open event streams on one API process, and what each of them costs.

Opens the streams on jobs that wait (their worker is stopped), weighs the process before and after, then cancels
the jobs one by one and times how long each cancel takes to reach each stream that follows it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.service import JSON, milliseconds, photograph, request, resident_mb
from local.stack import Stack


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=50, help="that the streams are spread over")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "DRAGANYTHING_MAX_QUEUED": "100000"}
        with Stack(Path(folder), environ=environ) as stack:
            os.kill(stack.processes["worker"].pid, signal.SIGSTOP)
            record = asyncio.run(measure(stack, arguments.streams, arguments.jobs))
            os.kill(stack.processes["worker"].pid, signal.SIGCONT)
    print(json.dumps(record, indent=2))


async def measure(stack: Stack, streams: int, jobs: int) -> dict[str, Any]:
    """All figures of one run."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=300, limits=limits) as client:
        body = request(photograph())
        accepted = [await client.post("/v1/generate", content=body, headers=JSON) for _ in range(jobs)]
        urls = [answer.raise_for_status().json()["urls"] for answer in accepted]
        before = resident_mb(stack.processes["api"].pid)
        ended: dict[int, float] = {}
        opened = [asyncio.Event() for _ in range(streams)]

        async def follow(index: int) -> None:
            async with _events(client, urls[index % jobs]["events"]) as events:
                async for snapshot in events:
                    opened[index].set()
                    if snapshot["status"] == "canceled":
                        ended[index] = time.perf_counter()

        started = time.perf_counter()
        async with asyncio.TaskGroup() as followers:
            for index in range(streams):
                followers.create_task(follow(index))
            await asyncio.gather(*(each.wait() for each in opened))
            opening_s = time.perf_counter() - started
            after = resident_mb(stack.processes["api"].pid)
            canceled = []
            for address in urls:
                (await client.post(address["cancel"])).raise_for_status()
                canceled.append(time.perf_counter())
        delays = [ended[index] - canceled[index % jobs] for index in range(streams)]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "streams": streams,
        "jobs": jobs,
        "opened_per_s": round(streams / opening_s, 1),
        "api_mb_before": before,
        "api_mb_with_streams": after,
        "kb_per_stream": round((after - before) * 1024 / streams, 1),
        "cancel_to_event_p50_ms": milliseconds(float(np.median(delays))),
        "cancel_to_event_p99_ms": milliseconds(float(np.quantile(delays, 0.99))),
    }


@asynccontextmanager
async def _events(client: httpx.AsyncClient, address: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    async with client.stream("GET", address) as answer:
        answer.raise_for_status()

        async def snapshots() -> AsyncIterator[dict[str, Any]]:
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

        yield snapshots()


if __name__ == "__main__":
    main()
