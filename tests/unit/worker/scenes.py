"""Stored inputs and jobs on them, as small as they can be."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.settings import Settings
from jobs.spec import Blob, EntityTrack
from jobs.storage import Storage, job_prefix
from jobs.store import NewJob, Store, new_id
from tests.harness import clean_environ
from tests.unit.jobs.specs import make_spec

ROOT = Path(__file__).resolve().parents[3]
SIZE = 64
Pixels = NDArray[np.uint8]


def scene() -> tuple[Pixels, Pixels]:
    """A picture [64, 64, 3] and a mask [64, 64] of zeros and 255."""
    picture = np.random.default_rng(5).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[16:40, 16:40] = 255
    return picture, mask


def submit(store: Store, storage: Storage, **changes: Any) -> str:
    """Store a picture and a mask and write the record; the job's id."""
    job_id = new_id()
    picture, mask = scene()
    image_blob, mask_blob = _store(job_id, "image", picture, storage), _store(job_id, "mask", mask, storage)
    entity = EntityTrack(label="square", mask=mask_blob, points=[(28.0, 28.0), (40.0, 36.0)])
    spec = make_spec(**({"image": image_blob, "entities": [entity]} | changes))
    store.create("alice", [NewJob(job_id, spec)])
    return job_id


def _store(job_id: str, name: str, pixels: Pixels, storage: Storage) -> Blob:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = file.getvalue()
    key = f"{job_prefix(job_id)}inputs/{name}.png"
    storage.put(key, data, "image/png")
    return Blob(key=key, sha256=hashlib.sha256(data).hexdigest(), width=SIZE, height=SIZE)


def environ(settings: Settings, **knobs: object) -> dict[str, str]:
    """The environment of a process that is to use the same servers."""
    fields = {**settings.model_dump(exclude_defaults=True), **knobs}
    return clean_environ({f"DRAGANYTHING_{name.upper()}": str(value) for name, value in fields.items()})


def lapse(store: Store, job_id: str) -> None:
    """Let the lease on a job run out."""
    assert store.redis.zadd("da:running", {job_id: 0}, xx=True, ch=True) == 1
