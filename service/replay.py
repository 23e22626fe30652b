"""``/v1/replay``: the same video again, out of its manifest. A manifest is user input like any other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import FieldError, InvalidRequest
from jobs.manifest import Manifest
from jobs.models import ModelCard
from jobs.spec import MAX_ENTITIES, EntityTrack, GenerateRequest, ImageSource, JobSpec, MaskSource
from jobs.state import JobWarning, Record
from jobs.store import NewJob, new_id
from jobs.view import JobView
from model.conditioning import Entity
from service import problems
from service.auth import Caller, Sender
from service.bodies import JsonRoute
from service.bounds import beyond_limits, output_size, refuse
from service.inputs import Inputs, Put, moved
from service.intake import admit, find_room, pointed
from service.layout import look_over
from service.links import base_url
from service.replay_inputs import SPEC, Finder, Scene, holds_background
from service.rest import json_only
from service.snapshots import present
from service.state import Doors, Services

router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=problems.RESPONSES)

_HEADERS = {"Location": "string", "Retry-After": "integer"}


class ReplayRequest(BaseModel):
    """A manifest and, where its inputs are not stored any more, their files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: Manifest
    image: ImageSource | None = None
    masks: Annotated[list[MaskSource | None], Field(max_length=MAX_ENTITIES + 1)] = Field(
        default=[], description="one for each entity, in the manifest's order; null: use the stored one"
    )


@router.post(
    "/replay",
    status_code=202,
    dependencies=[Depends(json_only)],
    responses={
        202: {
            "description": "Accepted",
            "headers": {
                "Location": {"schema": {"type": "string"}},
                "Retry-After": {"schema": {"type": "integer"}},
            },
        },
        **problems.responses(400, 403, 404, 409, 413, 415, 422, 503),
    },
    summary="Queue a video again",
)
def replay(
    body: ReplayRequest,
    request: Request,
    response: Response,
    services: Services,
    sender: Sender,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> JobView:
    """Queue exactly what a manifest describes. Its inputs are read from the job that it came with while that is
    kept and is the caller's own, else from ``image`` and ``masks``, which must be the same."""
    record = take_in_replay(body, sender, idempotency_key, services)
    answer = present(record, base_url(request, services.settings), services)
    response.headers["Location"] = answer.urls.self
    response.headers["Retry-After"] = "1"
    return answer


def take_in_replay(body: ReplayRequest, sender: Caller, key: str | None, services: Doors) -> Record:
    """The job that repeats what a manifest describes, or the one that it made before under the same key.

    Raises:
        DragAnythingError: it is refused; nothing of it is kept.
    """
    spec = body.manifest.request
    cards: list[ModelCard] = []
    job_id = new_id()

    def prepare() -> list[str]:
        with pointed(SPEC):
            cards.append(_check(spec, services))
        find_room(spec.model, 1, services)
        return [job_id]

    def draw_up(put: Put) -> list[NewJob]:
        scene = Finder(spec, body.image, body.masks, sender, services).find()
        warnings = [*_differences(body.manifest, cards[0]), *_look_over(spec, scene)]
        inputs = Inputs(job_id, put)
        inputs.add(scene.picture.data, scene.picture.media_type, (spec.image.width, spec.image.height))
        if scene.prefix is not None:
            inputs.add(scene.prefix, "application/octet-stream", (spec.width, spec.height))
        for data in scene.mask_files:
            inputs.add(data, "image/png", (spec.image.width, spec.image.height))
        return [NewJob(job_id, moved(spec, job_id), tuple(warnings))]

    (record,) = admit(body, prepare, draw_up, None, sender, key, services)
    return record


# -- the spec ----------------------------------------------------------------------------------------------------


def _check(spec: JobSpec, services: Doors) -> ModelCard:
    """The model that a spec needs; every rule of a request holds for a spec too."""
    card = services.registry.card(spec.model)
    if spec.weights_sha256 != card.weights_sha256:
        detail = f"The manifest's video was made by {spec.model!r} with the weights {spec.weights_sha256[:64]};"
        raise InvalidRequest.at("/weights_sha256", f"{detail} this server has {card.weights_sha256}.")
    refuse([*_uneven(spec)])
    request = _as_request(spec)
    refuse([*beyond_limits(request, card)])
    output_size(request, card, (spec.image.width, spec.image.height))
    return card


def _uneven(spec: JobSpec) -> Iterator[FieldError]:
    if not 1 <= len(_moving(spec)) <= MAX_ENTITIES:
        yield FieldError("/entities", f"There must be 1 to {MAX_ENTITIES}, and perhaps a background.")
        return
    for index, track in enumerate(spec.entities):
        place = f"/entities/{index}"
        if len(track.points) != spec.num_frames:
            yield FieldError(f"{place}/points", f"There must be one for each of {spec.num_frames} frames.")
        if track.scale is not None and (
            len(track.scale) != spec.num_frames or not all(0 < factor <= 10 for factor in track.scale)
        ):
            detail = f"There must be one factor above 0 and up to 10 for each of {spec.num_frames} frames."
            yield FieldError(f"{place}/scale", detail)


def _moving(spec: JobSpec) -> list[EntityTrack]:
    """The entities that a user asked for."""
    return spec.entities[1:] if holds_background(spec) else spec.entities


def _as_request(spec: JobSpec) -> GenerateRequest:
    """A request that resolves to this spec, checked by the rules of requests."""
    common = spec.model_dump(include=set(GenerateRequest.model_fields) - {"image", "entities", "output"})
    entities = [
        {
            "label": track.label,
            "trajectory": {"points": track.points, "timing": "per_point"},
            "control": track.control,
        }
        for track in _moving(spec)
    ]
    output = {**spec.output.model_dump(), "fps": spec.fps}
    try:
        return GenerateRequest.model_validate(
            {**common, "image": {"base64": "-"}, "entities": entities, "output": output}
        )
    except ValidationError as error:
        found = problems.from_validation([{**each, "loc": _in_spec(each, spec)} for each in error.errors()], {})
        raise found from None


def _in_spec(problem: Any, spec: JobSpec) -> tuple[int | str, ...]:
    """The place of a problem in the spec that a request was made of, as if it was in a body."""
    place = [step for step in problem["loc"] if step != "trajectory"]
    if len(place) > 1 and place[0] == "entities":
        place[1] += holds_background(spec)
    if place == ["output", "fps"]:
        place = ["fps"]
    return ("body", *place)


# -- what to know besides ----------------------------------------------------------------------------------------


def _look_over(spec: JobSpec, scene: Scene) -> Iterator[JobWarning]:
    """What the control signal says about itself, pointing into the manifest."""
    first = len(spec.entities) - len(_moving(spec))
    entities = [
        Entity(
            mask,
            np.asarray(track.points, np.float64),
            scale=None if track.scale is None else np.asarray(track.scale),
            control=track.control,
        )
        for track, mask in zip(spec.entities[first:], scene.masks[first:], strict=True)
    ]
    size = (spec.image.width, spec.image.height)
    with pointed(SPEC):
        warnings = look_over(entities, size, (spec.width, spec.height), spec.num_frames)
    for warning in warnings:
        _, noun, index, *rest = (warning.pointer or "").split("/")
        pointer = "/".join([SPEC, noun, str(int(index) + first), *rest]).replace("trajectory", "points")
        yield warning.model_copy(update={"pointer": pointer})


def _differences(manifest: Manifest, card: ModelCard) -> Iterator[JobWarning]:
    """What decides the frames and is another thing here than it was there, as far as both say."""
    there = {"device": manifest.model.device, "dtype": manifest.model.dtype, **manifest.versions}
    here = {"device": card.device, "dtype": card.dtype, **card.versions}
    differ = [
        f"{name} {there[name]} then, {here[name]} now"
        for name in here
        if here[name] and there.get(name) and here[name] != there[name]
    ]
    if differ:
        yield JobWarning(
            code="replay_versions_differ",
            detail=f"The frames may differ: {'; '.join(differ)}.",
            pointer="/manifest/versions",
        )
