"""The inputs of jobs: fetched, checked, decoded; those of the next job beside the steps of this one."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import structlog
from PIL import Image, ImageOps

from jobs.spec import Blob, JobSpec
from jobs.storage import Storage
from jobs.store import Store
from model import Entity
from worker.decode import decode
from worker.encode import Frames

log = structlog.get_logger()


class DamagedInput(Exception):
    """A stored input is not what its hash says, or no picture."""


@dataclass(frozen=True)
class Scene:
    """A picture and what is to move in it."""

    image: Image.Image
    entities: list[Entity]
    prefix: Frames | None = None
    """The video that this one extends."""


class Inputs:
    """Fetches scenes; ``look_ahead`` guesses which is wanted next. A wrong guess costs a fetch, never a job."""

    def __init__(self, store: Store, storage: Storage, models: list[str]) -> None:
        self._store = store
        self._storage = storage
        self._models = models
        self._ahead: tuple[str, Scene] | None = None
        self._pool = ThreadPoolExecutor(1, "look-ahead")
        self._looking: Future[None] | None = None

    def scene(self, job_id: str, spec: JobSpec) -> Scene:
        """The scene of a job.

        Raises:
            NotFound, Unavailable, DamagedInput: an input could not be read.
        """
        if self._looking is not None:
            self._looking.result()
        ahead, self._ahead = self._ahead, None
        return ahead[1] if ahead is not None and ahead[0] == job_id else fetch(spec, self._storage)

    def look_ahead(self) -> None:
        """Begin to fetch the scene of the job that is next by now, unless one is on its way; returns at once."""
        if self._looking is None or self._looking.done():
            self._looking = self._pool.submit(self._look)

    def _look(self) -> None:
        try:
            following = self._store.next(self._models)
            if not following or (self._ahead is not None and self._ahead[0] == following[0]):
                return
            spec = JobSpec.model_validate(self._store.get(following[0]).spec)
            self._ahead = following[0], fetch(spec, self._storage)
        except Exception as error:  # noqa: BLE001 - only a guess: whoever claims the job meets the error itself
            log.debug("look_ahead_failed", error=str(error))


def fetch(spec: JobSpec, storage: Storage) -> Scene:
    """Read and decode the inputs of a job, side by side.

    Raises:
        NotFound, Unavailable, DamagedInput: an input could not be read.
    """
    blobs = [spec.image, *(track.mask for track in spec.entities)]
    with ThreadPoolExecutor(max_workers=min(len(blobs), 8)) as pool:
        prefix = pool.submit(_read_prefix, spec, storage)
        image, *masks = pool.map(lambda blob: _read_image(blob, storage), blobs)
    entities = [
        Entity(
            mask=np.asarray(mask.convert("L")) > 0,
            points=np.asarray(track.points, np.float64),
            scale=None if track.scale is None else np.asarray(track.scale, np.float64),
            control=track.control,
        )
        for mask, track in zip(masks, spec.entities, strict=True)
    ]
    return Scene(ImageOps.exif_transpose(image).convert("RGB"), entities, prefix.result())


def _read(blob: Blob, storage: Storage) -> bytes:
    data = storage.get(blob.key)
    if hashlib.sha256(data).hexdigest() != blob.sha256:
        raise DamagedInput(blob.key)
    return data


def _read_prefix(spec: JobSpec, storage: Storage) -> Frames | None:
    if spec.prefix is None:
        return None
    try:
        return decode(_read(spec.prefix, storage), (spec.width, spec.height))
    except ValueError as error:
        raise DamagedInput(spec.prefix.key) from error


def _read_image(blob: Blob, storage: Storage) -> Image.Image:
    data = _read(blob, storage)
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise DamagedInput(blob.key) from error
    return image
