"""The API as its clients meet it: on real servers, with a valid request and a worker's moves at hand."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from redis import Redis
from starlette.testclient import TestClient

from jobs.models import ModelCard
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.state import Artifact, Result
from jobs.storage import Storage, attempt_prefix
from jobs.store import Store
from local.seaweed import BUCKET
from local.stack import Stack
from service.app import create_app
from tests.harness import settings_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CARD = ModelCard(
    name="tiny",
    width=192,
    height=128,
    max_pixels=4 * 192 * 128,
    num_frames=14,
    max_frames=25,
    num_inference_steps=10,
    max_inference_steps=50,
    min_guidance_scale=1.0,
    max_guidance_scale=1.0,
    fps=7,
    decode_chunk_size=8,
    motion_bucket_id=128,
    noise_aug_strength=0.02,
    samplers=("euler", "ays"),
    licences=("Apache-2.0",),
    weights_sha256="0" * 64,
)
WIDTH, HEIGHT = 96, 64
"""Of the submitted image."""
WORKER = "worker-of-the-tests"


def announce(redis: Redis, card: ModelCard = CARD, lease_s: float = 600) -> None:
    """Play a worker that has loaded a model."""
    Registry(redis, lease_s).announce(WORKER, card)


def text(data: bytes) -> str:
    """Base64, as it goes into a body."""
    return base64.b64encode(data).decode()


def picture(width: int = WIDTH, height: int = HEIGHT, kind: str = ".png") -> bytes:
    """An image file of coloured noise."""
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(kind, pixels)[1].tobytes()


def square(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A mask of zeros and ones, [height, width]: a square around (32, 32)."""
    mask = np.zeros((height, width), np.uint8)
    mask[20:45, 20:45] = 1
    return mask


def file_of(pixels: np.ndarray[Any, Any], kind: str = ".png") -> bytes:
    """An image file of these pixels."""
    return cv2.imencode(kind, pixels)[1].tobytes()


def request(**changes: Any) -> dict[str, Any]:
    """A request that is accepted, with ``changes`` at its top level."""
    entity = {
        "label": "square",
        "mask": {"base64": text(file_of(square() * 255))},
        "trajectory": {"points": [[32, 32], [60, 32]]},
    }
    return {"model": CARD.name, "image": {"base64": text(picture())}, "entities": [entity], **changes}


def objects(s3: S3Client) -> set[str]:
    """Every key in the bucket."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {item["Key"] for page in pages for item in page.get("Contents", [])}


def keys(redis: Redis) -> set[bytes]:
    """Every key in Redis."""
    return set(redis.scan_iter(count=1000))


def finish(
    job_id: str,
    store: Store,
    storage: Storage,
    video: bytes = b"0123456789",
    ending: bytes | None = None,
    frames: bytes | None = None,
    num_frames: int = 14,
) -> None:
    """Play the worker: take a queued job, upload its files, commit."""
    assert store.claim(job_id, "attempt")
    prefix = attempt_prefix(job_id, "attempt")
    artifacts: dict[str, Artifact] = {
        name: storage.put(prefix + name, video, media_type)
        for name, media_type in (
            ("video", "video/mp4"),
            ("overlay", "video/mp4"),
            ("poster", "image/jpeg"),
            ("manifest", "application/json"),
        )
    }
    for name, data in (("ending", ending), ("frames", frames)):
        if data is not None:
            artifacts[name] = storage.put(prefix + name, data, "application/zip")
    result = Result(
        artifacts=artifacts,
        width=192,
        height=128,
        num_frames=num_frames,
        fps=7,
        duration_s=2.0,
        seed=1,
        timings_s={"denoising": 1.0},
    )
    assert store.succeed(job_id, "attempt", result) == "ok"


@contextmanager
def serving(app: FastAPI) -> Iterator[tuple[str, int]]:
    """The application behind a real socket, for what only a socket can show: its host and port."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@pytest.fixture(scope="module")
def api(servers: Stack) -> Iterator[TestClient]:
    """The application, alive for a module's tests."""
    with TestClient(create_app(settings_of(servers)), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def client(api: TestClient, settings: Settings, redis: Redis) -> TestClient:  # noqa: ARG001 - all is empty
    """A client of the application with one model announced and nothing else in Redis and S3."""
    announce(redis)
    return api


@pytest.fixture
def private(settings: Settings, redis: Redis) -> Iterator[TestClient]:
    """As ``client``, of an application whose clients can not reach S3."""
    announce(redis)
    app = create_app(settings.model_copy(update={"s3_private": True}))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


@pytest.fixture
def store(settings: Settings, redis: Redis) -> Store:
    """The records, as the worker reaches them."""
    return Store(redis, settings)


@pytest.fixture
def storage(settings: Settings) -> Storage:
    """The objects, as the worker reaches them."""
    return Storage(settings)
