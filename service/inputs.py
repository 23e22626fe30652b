"""From a request to a job: every default filled in, every picture checked, every track laid out per frame.

Nothing is written here: pictures are handed to ``put`` as soon as they are known to be good.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.errors import FieldError, InvalidRequest
from jobs.models import ModelCard, snap
from jobs.settings import Settings
from jobs.spec import Blob, EntityRequest, EntityTrack, GenerateRequest, ImageSource, JobSpec
from jobs.state import JobWarning
from jobs.storage import inputs_prefix
from model import trajectory
from model.advice import advise
from model.conditioning import ConditionError, Entity, build
from service.images import Mask, Picture, encode_mask, read_mask, read_picture
from service.segmenter import ENGINE, open_segmenter

BACKGROUND = "background"
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


def tiered(request: GenerateRequest, card: ModelCard) -> GenerateRequest:
    """The request with what its tier means: ``fast`` takes few steps, at noise levels that were chosen for few
    ("Align Your Steps"), unless the request says otherwise."""
    if request.tier != "fast":
        return request
    sampler = request.sampler if "sampler" in request.model_fields_set else "ays"
    steps = request.num_inference_steps or card.fast_num_inference_steps
    return request.model_copy(update={"sampler": sampler, "num_inference_steps": steps})


def read_checked(request: GenerateRequest, card: ModelCard, settings: Settings, read: Read) -> Picture:
    """The image of a request that keeps within a model's limits.

    Raises:
        InvalidRequest: with one entry for each field that is wrong.
    """
    refuse([*beyond_limits(request, card)])
    assert request.image is not None  # or the schema refuses it
    return read_image(request.image, settings, read)


@dataclass(frozen=True)
class Layout:
    """What is to be drawn: entities by their labels, in the order in which they are painted, a held background
    first; the size (width, height) and the frames of the video."""

    entities: list[tuple[str, Entity]]
    size: tuple[int, int]
    num_frames: int
    warnings: list[JobWarning]


def lay_out(request: GenerateRequest, card: ModelCard, picture: Picture, settings: Settings) -> Layout:
    """Read the masks of a request, or find them, and lay its tracks out.

    Raises:
        InvalidRequest: with one entry for each field that is wrong.
    """
    size = (picture.width, picture.height)
    output = output_size(request, card, size)
    num_frames = request.num_frames or card.num_frames
    warnings = warn_of_weights(card)
    entities = _read_entities(request, picture, num_frames, settings, warnings)
    warnings += look_over([entity for _, entity in entities], size, output, num_frames)
    if request.hold_background:
        background = _background(entities, request, size, num_frames)
        if background is None:
            warnings.append(_NO_BACKGROUND)
        else:  # drawn first, so that every entity covers it
            entities.insert(0, background)
    return Layout(entities, output, num_frames, warnings)


def moved(spec: JobSpec, job_id: str) -> JobSpec:
    """The spec of a job that has the same inputs under its own address."""

    def move(blob: Blob) -> Blob:
        return blob.model_copy(update={"key": inputs_prefix(job_id) + blob.sha256})

    tracks = [track.model_copy(update={"mask": move(track.mask)}) for track in spec.entities]
    prefix = None if spec.prefix is None else move(spec.prefix)
    return spec.model_copy(update={"image": move(spec.image), "entities": tracks, "prefix": prefix})


def refuse(errors: Sequence[FieldError]) -> None:
    """Raise InvalidRequest where there is anything wrong."""
    if errors:
        raise InvalidRequest(" ".join(error.detail for error in errors), errors=tuple(errors))


def beyond_limits(request: GenerateRequest, card: ModelCard) -> Iterator[FieldError]:
    """What a request asks for and the model does not do."""
    for pointer, value, limit in (
        ("/num_frames", request.num_frames, card.max_frames),
        ("/num_inference_steps", request.num_inference_steps, card.max_inference_steps),
    ):
        if value is not None and value > limit:
            yield FieldError(pointer, f"The model {card.name!r} allows at most {limit}.")
    for name, offered in (("sampler", card.samplers), ("tier", card.tiers)):
        if getattr(request, name) not in offered:
            yield FieldError(f"/{name}", f"The model {card.name!r} offers {', '.join(offered)}.")
    num_frames = request.num_frames or card.num_frames
    for index, entity in enumerate(request.entities):
        for name in ("start_frame", "end_frame"):
            frame = getattr(entity.trajectory, name)
            if frame is not None and frame >= num_frames:
                pointer = f"/entities/{index}/trajectory/{name}"
                yield FieldError(pointer, f"The video has {num_frames} frames, 0 to {num_frames - 1}.")


def output_size(request: GenerateRequest, card: ModelCard, size: tuple[int, int]) -> tuple[int, int]:
    """What was asked for; what was left open follows the image's aspect ratio."""
    width, height = request.width, request.height
    if width is None and height is None:
        return card.fit(*size)
    ratio = size[0] / size[1]
    output = (width or snap((height or 0) * ratio), height or snap((width or 0) / ratio))
    if output[0] * output[1] > card.max_pixels:
        pointer = "/height" if width is None else "/width"
        detail = f"The model {card.name!r} allows at most {card.max_pixels} pixels per frame, not {output[0]} x"
        raise InvalidRequest.at(pointer, f"{detail} {output[1]}.")
    return output


def read_image(source: ImageSource, settings: Settings, read: Read) -> Picture:
    """The image of a request, found whole."""
    pointer = image_pointer(source)
    return read_picture(read(source, pointer), pointer, settings)


def image_pointer(source: ImageSource) -> str:
    """Where a request has its image."""
    return "/image/" + next(name for name in ("base64", "url", "upload") if getattr(source, name) is not None)


def _read_entities(
    request: GenerateRequest, picture: Picture, num_frames: int, settings: Settings, warnings: list[JobWarning]
) -> list[tuple[str, Entity]]:
    """Every entity with its label; all masks are read before the first error is raised, so all are named. Masks
    that are left out are found once everything else is known to be good."""
    size = (picture.width, picture.height)
    entities: list[tuple[str, Entity]] = []
    errors: list[FieldError] = []
    for index, item in enumerate(request.entities):
        try:
            points = _lay_out_track(item, f"/entities/{index}/trajectory", request, size, num_frames)
            mask = _read_entity_mask(item, points, f"/entities/{index}/mask", size, settings)
        except InvalidRequest as error:
            errors += error.errors
        else:
            scale = _lay_out_scale(item, request, num_frames)
            entity = Entity(mask, points, scale=scale, control=item.control)
            entities.append((item.label or f"entity {index + 1}", entity))
    refuse(errors)
    return _find_masks(entities, request, picture, warnings)


def _find_masks(
    entities: list[tuple[str, Entity]], request: GenerateRequest, picture: Picture, warnings: list[JobWarning]
) -> list[tuple[str, Entity]]:
    """Give each entity without a mask the one that is found where its track starts, and a warning that says so."""
    left_out = [index for index, item in enumerate(request.entities) if item.mask is None]
    if not left_out:
        return entities
    assert request.image is not None
    segmenter = open_segmenter(picture, image_pointer(request.image))
    for index in left_out:
        label, entity = entities[index]
        x, y = entity.points[0].tolist()
        found = segmenter.segment([(x, y)])
        entities[index] = label, replace(entity, mask=found.mask)
        detail = (
            f"No mask was given: {ENGINE} found one at the track's start, ({x:.0f}, {y:.0f}), and expects it to be"
            f" right by {found.score:.0%} (IoU). Check it with a preview, or give a mask."
        )
        warnings.append(JobWarning(code="mask_segmented", detail=detail, pointer=f"/entities/{index}/mask"))
    return entities


def _read_entity_mask(
    item: EntityRequest, points: trajectory.Floats, pointer: str, size: tuple[int, int], settings: Settings
) -> Mask:
    """The mask that was given; an empty one where it was left out and can be looked for."""
    if item.mask is not None:
        return read_mask(item.mask, pointer, size, settings)
    if (points[0] < 0).any() or (points[0] >= size).any():
        detail = f"The track starts outside of the {size[0]} x {size[1]} image, where no mask is found; give one."
        raise InvalidRequest.at(pointer, detail)
    return np.zeros(size[::-1], np.uint8)


def _lay_out_track(
    item: EntityRequest, pointer: str, request: GenerateRequest, size: tuple[int, int], num_frames: int
) -> trajectory.Floats:
    """The track of one entity, float64 [F, 2] in pixels of the submitted image, the camera's move included."""
    asked = item.trajectory
    points = np.asarray(asked.points, np.float64)
    if asked.space == "normalized":
        points = points * np.array(size)
    closed = len(points) > 1 and (points[0] == points[-1]).all()
    there_and_back = _there_and_back(num_frames) if request.loop and not closed else np.arange(num_frames)
    try:
        track = trajectory.resample(
            points,
            int(there_and_back.max()) + 1,
            timing=asked.timing,
            easing=asked.easing,
            easings=asked.easings,
            start_frame=asked.start_frame or 0,
            end_frame=asked.end_frame,
        )
    except ValueError as error:
        raise InvalidRequest.at(pointer, f"{error}.") from None
    return _follow_camera(track[there_and_back], request, size)


def _lay_out_scale(item: EntityRequest, request: GenerateRequest, num_frames: int) -> trajectory.Floats | None:
    if item.scale is None:
        return None
    there_and_back = _there_and_back(num_frames) if request.loop else np.arange(num_frames)
    factors: trajectory.Floats = np.linspace(item.scale.start, item.scale.end, int(there_and_back.max()) + 1)
    return factors[there_and_back]


def _there_and_back(num_frames: int) -> NDArray[np.intp]:
    """The frame of the way out that each frame of a loop shows, int [F]; the last shows the first."""
    frames = np.arange(num_frames)
    return np.minimum(frames, num_frames - 1 - frames)


def _follow_camera(track: trajectory.Floats, request: GenerateRequest, size: tuple[int, int]) -> trajectory.Floats:
    move = request.camera
    if move is None:
        return track
    frames = np.arange(len(track))
    times = _there_and_back(len(track)) if request.loop else frames
    every = np.repeat(track[:, None], int(times.max()) + 1, axis=1)  # each point at each time of the camera
    moved = trajectory.camera(every, size, pan=move.pan, zoom=move.zoom, roll=move.roll, easing=move.easing)
    return np.asarray(moved[frames, times])


def _background(
    entities: list[tuple[str, Entity]], request: GenerateRequest, size: tuple[int, int], num_frames: int
) -> tuple[str, Entity] | None:
    """What no entity covers, held where it is (or where the camera takes it), or None where nothing is left.

    Its disc stands where it has most room: the centre of its largest inscribed circle.
    """
    covered = reduce(np.maximum, (entity.mask for _, entity in entities))
    mask = np.logical_not(covered).astype(np.uint8)
    if not mask.any():
        return None
    room = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(room.argmax()), room.shape)
    held = np.full((num_frames, 2), (float(x), float(y)))
    return BACKGROUND, Entity(mask, _follow_camera(held, request, size))


_NO_BACKGROUND = JobWarning(
    code="no_background",
    detail="the masks cover the whole image: there is no background to hold",
    pointer="/hold_background",
)


def warn_of_weights(card: ModelCard) -> list[JobWarning]:
    """What to know of the model itself."""
    if card.trained:
        return []
    detail = (
        f"The weights of {card.name!r} are random numbers, not trained ones: the video shows that every part"
        " works, and no motion."
    )
    return [JobWarning(code="untrained_weights", detail=detail, pointer="/model")]


def look_over(
    entities: list[Entity], size: tuple[int, int], output: tuple[int, int], num_frames: int
) -> list[JobWarning]:
    """What the control signal says about itself."""
    try:
        conditioning = build(entities, size, output, num_frames)
    except ConditionError as error:
        parent = {"points": "trajectory"}.get(error.field, error.field)
        pointer = f"/{parent}" if error.entity is None else f"/entities/{error.entity}/{parent}"
        raise InvalidRequest.at(pointer, f"{error}.") from None
    return [
        JobWarning(code=advice.code, detail=advice.detail, pointer=_pointer_of(advice.code, advice.entity))
        for advice in advise(entities, conditioning, size)
    ]


def _pointer_of(code: str, index: int) -> str:
    about_mask = code in {"radius_too_small", "mask_vanishes_at_latent_size"}
    return f"/entities/{index}/" + ("mask" if about_mask else "trajectory")


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
