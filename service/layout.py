"""What is to be drawn: the masks of a request, its tracks per frame, and what they say about themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

import cv2
import numpy as np

from jobs.errors import FieldError, InvalidRequest
from jobs.models import ModelCard
from jobs.settings import Settings
from jobs.spec import EntityRequest, GenerateRequest
from jobs.state import JobWarning
from model import trajectory
from model.advice import advise
from model.conditioning import ConditionError, Entity, build
from service.bounds import output_size, refuse
from service.images import Mask, Picture, image_pointer, read_mask
from service.segmenter import ENGINE, open_segmenter
from service.tracks import follow_camera, lay_out_scale, lay_out_track

BACKGROUND = "background"
_NO_BACKGROUND = JobWarning(
    code="no_background",
    detail="the masks cover the whole image: there is no background to hold",
    pointer="/hold_background",
)


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
    warnings: list[JobWarning] = []
    entities = _read_entities(request, picture, num_frames, settings, warnings)
    warnings += look_over([entity for _, entity in entities], size, output, num_frames)
    if request.hold_background:
        background = _background(entities, request, size, num_frames)
        if background is None:
            warnings.append(_NO_BACKGROUND)
        else:  # drawn first, so that every entity covers it
            entities.insert(0, background)
    return Layout(entities, output, num_frames, warnings)


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
            points = lay_out_track(item, f"/entities/{index}/trajectory", request, size, num_frames)
            mask = _read_entity_mask(item, points, f"/entities/{index}/mask", size, settings)
        except InvalidRequest as error:
            errors += error.errors
        else:
            scale = lay_out_scale(item, request, num_frames)
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
    return BACKGROUND, Entity(mask, follow_camera(held, request, size))


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
