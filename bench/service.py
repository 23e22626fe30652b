"""``python -m bench.service``: what the service costs on top of the model.

Runs the real stack (Valkey, S3, API, worker) on free ports and reports, from a client's side: how long a job with
a 1 MB picture takes to be accepted, alone and among eight clients; how much longer a job takes than the bare
pipeline call, the two interleaved in one run; which share of the time the device idles while jobs wait; and the
memory of the idle API.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import platform
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image

from local.stack import Stack
from model import DragAnythingPipeline, Entity
from model.memory import keep_freed_memory

SIZE = (1500, 1000)
JSON = {"Content-Type": "application/json"}
MASK = (500, 300, 900, 700)
POINTS = [(700.0, 500.0), (1000.0, 400.0)]


def main() -> None:
    """Measure and print: a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    record = measure(arguments.submissions, arguments.jobs)
    if arguments.json:
        print(json.dumps(record, indent=2))
    else:
        print("\n".join(f"{name:32} {value}" for name, value in record.items()))


def measure(submissions: int, jobs: int) -> dict[str, Any]:
    """All figures of one run."""
    picture = photograph()
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "DRAGANYTHING_MAX_QUEUED": "100000", "DRAGANYTHING_LOG_JSON": "1"}
        with (
            Stack(Path(folder), environ=environ) as stack,
            httpx.Client(base_url=stack.base_url, timeout=60) as client,
        ):
            memory = resident_mb(stack.processes["api"].pid)
            overhead = measure_overhead(client, picture, jobs)
            throughput = measure_throughput(client, stack, picture, jobs)
            os.kill(stack.processes["worker"].pid, signal.SIGSTOP)  # rendering must not compete with accepting
            body = request(picture)
            alone = [submit(client, body) for _ in range(submissions)]
            eight, seconds = among_eight(stack.base_url, body, submissions)
            os.kill(stack.processes["worker"].pid, signal.SIGCONT)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "picture_mb": round(len(picture) / 2**20, 2),
        "accept_p50_ms_1_client": milliseconds(statistics.median(alone)),
        "accept_p99_ms_1_client": milliseconds(np.quantile(alone, 0.99)),
        "accept_p50_ms_8_clients": milliseconds(statistics.median(eight)),
        "accept_p99_ms_8_clients": milliseconds(np.quantile(eight, 0.99)),
        "accepted_per_s_8_clients": round(len(eight) / seconds, 1),
        "idle_api_mb": memory,
        **overhead,
        **throughput,
    }


def photograph() -> bytes:
    """A JPEG of about 1 MB: seeded noise with a photograph's falling spectrum."""
    noise = np.random.default_rng(0).normal(size=(SIZE[1], SIZE[0], 3))
    frequencies = np.hypot(np.fft.fftfreq(SIZE[1])[:, None], np.fft.rfftfreq(SIZE[0]))[..., None] + 1e-3
    smooth = np.fft.irfft2(np.fft.rfft2(noise, axes=(0, 1)) / frequencies, s=SIZE[::-1], axes=(0, 1))
    pixels = np.clip(128 + 48 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=93)
    return file.getvalue()


def request(picture: bytes, seed: int = 1) -> bytes:
    """A job with that picture and one mask; with a seed of its own it takes nothing over from an earlier job."""
    mask = Image.new("1", SIZE)
    mask.paste(1, MASK)
    file = io.BytesIO()
    mask.save(file, "PNG")
    entity = {"mask": {"base64": base64.b64encode(file.getvalue()).decode()}, "trajectory": {"points": POINTS}}
    body = {"image": {"base64": base64.b64encode(picture).decode()}, "entities": [entity], "seed": seed}
    return json.dumps(body).encode()


def submit(client: httpx.Client, body: bytes) -> float:
    """Seconds until a job is accepted."""
    started = time.perf_counter()
    client.post("/v1/generate", content=body, headers=JSON).raise_for_status()
    return time.perf_counter() - started


def among_eight(base_url: str, body: bytes, submissions: int) -> tuple[list[float], float]:
    """Latencies of eight clients that each submit as fast as they can, and the seconds that all of it took."""

    def work(share: int) -> list[float]:
        with httpx.Client(base_url=base_url, timeout=60) as client:
            return [submit(client, body) for _ in range(share)]

    started = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        latencies = [latency for each in pool.map(work, [submissions // 8] * 8) for latency in each]
    return latencies, time.perf_counter() - started


def measure_overhead(client: httpx.Client, picture: bytes, jobs: int) -> dict[str, Any]:
    """A job through the service against the bare pipeline call with the same inputs, in turn."""
    keep_freed_memory()  # as the worker does
    pipeline = DragAnythingPipeline.from_pretrained("tiny")
    bodies = [request(picture, seed) for seed in range(jobs + 1)]
    pairs = [
        (timed(partial(call, pipeline, picture, seed)), timed(partial(finish, client, body)))
        for seed, body in enumerate(bodies)
    ]
    bare, served = (statistics.median(times) for times in zip(*pairs[1:], strict=True))  # the first pair warms up
    return {
        "bare_call_s": round(bare, 3),
        "job_s": round(served, 3),
        "overhead_s": round(statistics.median(after - before for before, after in pairs[1:]), 3),
    }


def measure_throughput(client: httpx.Client, stack: Stack, picture: bytes, jobs: int) -> dict[str, Any]:
    """A queue that is full from the start: videos per hour, and how long the device waits between two jobs."""
    bodies, seen = [request(picture, 1000 + job) for job in range(jobs)], len(denoised(stack))
    accepted = [client.post("/v1/generate", content=body, headers=JSON).raise_for_status() for body in bodies]
    started = time.perf_counter()
    for answer in accepted:
        await_end(client, answer)
    seconds = time.perf_counter() - started
    steps = denoised(stack)[seen + 1 :]  # before the first one the queue was empty
    idle = sum(line["idle_s"] or 0.0 for line in steps)
    busy = sum(line["seconds"] for line in steps)
    return {
        "videos_per_hour": round(3600 * jobs / seconds, 1),
        "device_idle_ms_between_jobs": milliseconds(idle / len(steps)),
        "device_idle_share": round(idle / (idle + busy), 4),
    }


def denoised(stack: Stack) -> list[dict[str, Any]]:
    """What the worker wrote when it had denoised a job."""
    lines = (stack.logs / "worker.log").read_text().splitlines()
    return [json.loads(line) for line in lines if '"job_denoised"' in line]


def call(pipeline: DragAnythingPipeline, picture: bytes, seed: int) -> None:
    """The model alone, from the same file."""
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[MASK[1] : MASK[3], MASK[0] : MASK[2]] = 1
    start, end = (np.asarray(point) for point in POINTS)
    points = np.linspace(start, end, pipeline.card.defaults.num_frames)
    with Image.open(io.BytesIO(picture)) as image:
        pipeline(image, [Entity(mask, points)], generator=torch.Generator().manual_seed(seed))


def finish(client: httpx.Client, body: bytes) -> None:
    """A job, from submission to the end of its event stream."""
    await_end(client, client.post("/v1/generate", content=body, headers=JSON))


def await_end(client: httpx.Client, answer: httpx.Response) -> None:
    """Follow a job to the end of its event stream."""
    with client.stream("GET", answer.raise_for_status().json()["urls"]["events"]) as events:
        last = [line for line in events.iter_lines() if line.startswith("data:")][-1]
    status = json.loads(last.removeprefix("data:"))["status"]
    if status != "succeeded":
        raise RuntimeError(f"the job ended as {status}")


def timed(action: Callable[[], None]) -> float:
    """Seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1)


def milliseconds(seconds: float) -> float:
    """Rounded to a tenth."""
    return round(1000 * float(seconds), 1)


if __name__ == "__main__":
    main()
