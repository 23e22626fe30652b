"""From a request to a job: every default filled in, every picture checked, every track laid out per frame.

Nothing is written here: pictures are handed to ``put`` as soon as they are known to be good.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from jobs.models import ModelCard
from jobs.settings import Settings
from jobs.spec import Blob, EntityTrack, GenerateRequest, ImageSource, JobSpec
from jobs.state import JobWarning
from jobs.storage import inputs_prefix
from service.bounds import beyond_limits, refuse, tiered
from service.images import Picture, encode_mask, image_pointer, read_picture
from service.layout import Layout, lay_out

Put = Callable[[str, bytes, str], object]
"""Takes an object's key, bytes and media type."""
Read = Callable[[ImageSource, str], bytes]
"""Takes where an image is and the pointer to that; gives the file."""


@dataclass(frozen=True)
class Accepted:
    """A request that can be rendered: the job, and what its user should know."""

    spec: JobSpec
    warnings: list[JobWarning]


@dataclass(frozen=True)
class Inputs:
    """The objects of a job, each under its own hash."""

    job_id: str
    put: Put
    keys: set[str] = field(default_factory=set)

    def add(self, data: bytes, media_type: str, size: tuple[int, int]) -> Blob:
        digest = hashlib.sha256(data).hexdigest()
        key = f"{inputs_prefix(self.job_id)}{digest}"
        if key not in self.keys:
            self.put(key, data, media_type)
            self.keys.add(key)
        return Blob(key=key, sha256=digest, width=size[0], height=size[1])


def accept(
    request: GenerateRequest,
    card: ModelCard,
    job_id: str,
    settings: Settings,
    put: Put,
    read: Read,
    prefix: tuple[bytes, str] | None = None,
) -> Accepted:
    """Resolve a request against a model; ``put`` is called once for each object that the job needs. ``prefix`` is
    an earlier video, with its media type, that goes before this one; ``image`` is its last frame then.

    Raises:
        InvalidRequest: with one entry for each field that is wrong.
    """
    request = tiered(request, card)
    picture = read_checked(request, card, settings, read)
    inputs = Inputs(job_id, put)
    image = inputs.add(picture.data, picture.media_type, (picture.width, picture.height))
    layout = lay_out(request, card, picture, settings)
    spec = _resolve(request, card, image, layout, inputs)
    if prefix is not None:
        spec = spec.model_copy(update={"prefix": inputs.add(*prefix, layout.size)})
    return Accepted(spec, layout.warnings)


def read_checked(request: GenerateRequest, card: ModelCard, settings: Settings, read: Read) -> Picture:
    """The image of a request that keeps within a model's limits.

    Raises:
        InvalidRequest: with one entry for each field that is wrong.
    """
    refuse([*beyond_limits(request, card)])
    assert request.image is not None  # or the schema refuses it
    return read_image(request.image, settings, read)


def read_image(source: ImageSource, settings: Settings, read: Read) -> Picture:
    """The image of a request, found whole."""
    pointer = image_pointer(source)
    return read_picture(read(source, pointer), pointer, settings)


def moved(spec: JobSpec, job_id: str) -> JobSpec:
    """The spec of a job that has the same inputs under its own address."""

    def move(blob: Blob) -> Blob:
        return blob.model_copy(update={"key": inputs_prefix(job_id) + blob.sha256})

    tracks = [track.model_copy(update={"mask": move(track.mask)}) for track in spec.entities]
    prefix = None if spec.prefix is None else move(spec.prefix)
    return spec.model_copy(update={"image": move(spec.image), "entities": tracks, "prefix": prefix})


def _resolve(request: GenerateRequest, card: ModelCard, image: Blob, layout: Layout, inputs: Inputs) -> JobSpec:
    size = (image.width, image.height)
    tracks = [
        EntityTrack(
            label=label,
            mask=inputs.add(encode_mask(np.asarray(entity.mask, np.uint8)), "image/png", size),
            points=[(float(x), float(y)) for x, y in entity.points],
            scale=None if entity.scale is None else [float(factor) for factor in entity.scale],
            control=entity.control,
        )
        for label, entity in layout.entities
    ]
    asked_or_native = {
        name: getattr(card, name) if getattr(request, name) is None else getattr(request, name)
        for name in (
            "num_frames",
            "num_inference_steps",
            "min_guidance_scale",
            "max_guidance_scale",
            "motion_bucket_id",
            "noise_aug_strength",
            "decode_chunk_size",
        )
    }
    taken_over = request.model_dump(
        include={
            "control_scale", "control_start", "control_end", "tier", "sampler", "best_of", "output", "priority",
            "deadline_s",
        }
    )  # fmt: skip
    return JobSpec(
        model=card.name,
        weights_sha256=card.weights_sha256,
        image=image,
        entities=tracks,
        width=layout.size[0],
        height=layout.size[1],
        seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
        fps=request.output.fps or card.fps,
        **asked_or_native,
        **taken_over,
    )
