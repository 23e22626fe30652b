"""What one Valkey carries: the life of a job, step by step, by the real store against a real server.

Several client processes go through whole lives as fast as they can. Beside the rate that they reach together,
which on a small machine is theirs and not the server's, the server tells how much of its thread's time it spent.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from redis import Redis

from jobs import queue
from jobs.settings import Settings
from jobs.spec import Blob, EntityTrack, JobSpec, Output
from jobs.state import Artifact, Result, Stage
from jobs.store import NewJob, Store, new_attempt_id, new_id
from local.stack import Stack

LIVES = 60
"""Of each client."""
STEPS = 25
BLOB = Blob(key="jobs/0/inputs/" + "0" * 64, sha256="0" * 64, width=576, height=320)
SPEC = JobSpec(
    model="tiny",
    weights_sha256="0" * 64,
    image=BLOB,
    entities=[EntityTrack(label="a", mask=BLOB, points=[(float(x), 160.0) for x in range(100, 125)])] * 2,
    width=576,
    height=320,
    num_frames=25,
    num_inference_steps=STEPS,
    seed=7,
    min_guidance_scale=1.0,
    max_guidance_scale=3.0,
    control_scale=1.0,
    control_start=0.0,
    control_end=1.0,
    motion_bucket_id=127,
    noise_aug_strength=0.02,
    decode_chunk_size=8,
    tier="exact",
    sampler="euler",
    output=Output(),
    fps=7,
    priority="normal",
    deadline_s=None,
)
FILE = Artifact(key="jobs/0/0/video.mp4", media_type="video/mp4", bytes=10**6, sha256="0" * 64)
RESULT = Result(
    artifacts=dict.fromkeys(("video", "overlay", "poster", "ending", "manifest"), FILE),
    width=576,
    height=320,
    num_frames=25,
    fps=7,
    duration_s=3.5,
    seed=7,
    timings_s=dict.fromkeys(map(str, Stage), 1.0),
)


def report(as_json: bool) -> str:
    """All figures of a run, as a table in Markdown or one JSON object."""
    record = measure(clients=(1, 4))
    if as_json:
        return json.dumps(record, indent=2)
    runs = [
        f"| {run['clients']} | {run['lives_per_s']:g} | {run['server_us_per_life']:g} "
        f"| {run['lives_per_s_of_server']:g} |"
        for run in record["runs"]
    ]
    steps = [f"| {name} | {each:g} |" for name, each in record["client_us"].items()]
    return "\n".join(
        [
            f"{record['date']}, {record['machine']}, load {record['load']}; {record['bytes_per_job']} bytes a job",
            "",
            "| clients | lives/s | µs of the server's thread per life | lives/s if it did nothing else |",
            "| --- | --- | --- | --- |",
            *runs,
            "",
            "| step, one client | µs |",
            "| --- | --- |",
            *steps,
        ]
    )


def measure(clients: tuple[int, ...]) -> dict[str, Any]:
    """All figures of a run on a server of its own."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), commands={}) as stack:
        url = stack.valkey.url
        live(url, 50)  # warm
        runs = [_together(url, count) for count in clients]
        with Redis.from_url(url) as redis:
            store = Store(redis, Settings(redis_url=url))
            job_id = _enqueue(store)
            bytes_per_job = cast("int", redis.memory_usage(f"da:job:{job_id}", samples=0))
            return {
                "date": datetime.now(UTC).isoformat(timespec="minutes"),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
                "load": round(os.getloadavg()[0], 1),
                "steps": STEPS,
                "bytes_per_job": bytes_per_job,
                "runs": runs,
                "client_us": _steps(store),
            }


def _together(url: str, clients: int) -> dict[str, float]:
    with Redis.from_url(url) as redis, ProcessPoolExecutor(clients) as pool:
        list(pool.map(_ready, range(clients)))
        used, began = _cpu_s(redis), time.perf_counter()
        list(pool.map(live, [url] * clients, [LIVES] * clients))
        seconds, server_s = time.perf_counter() - began, _cpu_s(redis) - used
    lives = clients * LIVES
    return {
        "clients": clients,
        "lives_per_s": round(lives / seconds, 1),
        "server_us_per_life": round(1e6 * server_s / lives),
        "lives_per_s_of_server": round(lives / server_s),
    }


def live(url: str, lives: int) -> None:
    """Take jobs through their whole lives, one after the other."""
    with Redis.from_url(url) as redis:
        store = Store(redis, Settings(redis_url=url))
        for _ in range(lives):
            job_id = _enqueue(store)
            attempt_id = _claim(store, job_id)
            for step in range(STEPS):
                _beat(store, job_id, attempt_id, step)
                store.get(job_id)  # one client that follows it
            store.succeed(job_id, attempt_id, RESULT)


def _enqueue(store: Store) -> str:
    (record,) = store.create("bench", [NewJob(new_id(), SPEC)])
    queue.wake(store.redis, SPEC.model)
    return record.id


def _claim(store: Store, job_id: str) -> str:
    attempt_id = new_attempt_id()
    store.next([SPEC.model], 1)
    queue.sleep(store.redis, [SPEC.model], 1)
    if not store.claim(job_id, attempt_id):
        raise RuntimeError("somebody else took the job")
    return attempt_id


def _beat(store: Store, job_id: str, attempt_id: str, step: int) -> None:
    store.beat(job_id, attempt_id, {"stage": Stage.DENOISING, "step": step, "steps": STEPS, "fraction": 0.5})


def _steps(store: Store) -> dict[str, float]:
    """Microseconds that a client waits for each step of a life: medians of 300."""
    taken: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        given = call()
        taken.setdefault(name, []).append(time.perf_counter() - began)
        return given

    for _ in range(300):
        job_id = timed("enqueue", partial(_enqueue, store))
        attempt_id = timed("claim", partial(_claim, store, job_id))
        timed("beat and event", partial(_beat, store, job_id, attempt_id, 1))
        timed("read", partial(store.get, job_id))
        timed("commit", partial(store.succeed, job_id, attempt_id, RESULT))
    return {name: round(1e6 * sorted(times)[len(times) // 2]) for name, times in taken.items()}


def _ready(_: int) -> None:
    """A client that has started."""


def _cpu_s(redis: Redis) -> float:
    told = redis.info("cpu")
    return float(told["used_cpu_user_main_thread"]) + float(told["used_cpu_sys_main_thread"])
