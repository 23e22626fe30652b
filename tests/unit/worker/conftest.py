from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis import Redis

from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store

if TYPE_CHECKING:
    from model import DragAnythingPipeline


@pytest.fixture
def store(redis: Redis, settings: Settings) -> Store:
    """A store on an empty Valkey."""
    return Store(redis, settings)


@pytest.fixture
def storage(settings: Settings) -> Storage:
    """An empty bucket; its client gives up within seconds."""
    return Storage(settings)


@pytest.fixture(scope="session")
def pipeline() -> DragAnythingPipeline:
    """The tiny model on the CPU, on one thread: at this size, threads on shared cores wait for each other."""
    import torch

    from model import DragAnythingPipeline

    torch.set_num_threads(1)
    return DragAnythingPipeline.from_pretrained("tiny", device="cpu", dtype="float32")
