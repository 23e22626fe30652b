"""``/v1/preview``: what the network would be told, without the network. Nothing is stored or queued."""

from __future__ import annotations

import base64
import io
from typing import Annotated, Literal

import cv2
import numpy as np
from fastapi import APIRouter, Body, Depends
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from jobs.eta import Size
from jobs.models import ModelCard
from jobs.spec import MAX_ENTITIES, GenerateRequest
from jobs.state import JobWarning
from model.conditioning import Conditioning, build
from service import problems
from service.auth import Sender
from service.bodies import JsonRoute
from service.bounds import tiered
from service.extension import find_earlier
from service.inputs import read_checked
from service.layout import Layout, lay_out
from service.rest import EXAMPLE, json_only
from service.sources import Sources
from service.state import Doors, Services

router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=problems.RESPONSES)

_BAR_ROWS = 4


class Animation(BaseModel):
    """One frame per frame of the video, without loss: on the left the heat map in grey, on the right the discs of
    the label map, each in a colour of its own on black; below them a bar of four rows that fills with time."""

    base64: str
    format: Literal["webp"] = "webp"


class Estimate(BaseModel):
    """How long rendering takes once it starts; null before this server has rendered with this model."""

    seconds: float | None


class PreviewView(BaseModel):
    """The control signal, in pixels of the video; ``points`` and ``radii`` have the entities of the request in its
    order, a held background is only painted."""

    animation: Animation
    width: int
    height: int
    num_frames: int
    points: list[list[tuple[int, int]]] = Field(description="per entity and frame the centre (x, y) of its disc")
    radii: list[list[int]] = Field(description="per entity and frame the radius of its disc")
    warnings: list[JobWarning]
    estimate: Estimate


@router.post(
    "/preview",
    dependencies=[Depends(json_only)],
    responses=problems.responses(400, 403, 413, 415, 422, 503),
    summary="Look at the control signal",
)
def preview(
    body: Annotated[GenerateRequest, Body(openapi_examples={"A box moves": {"value": EXAMPLE}})],
    services: Services,
    sender: Sender,
) -> PreviewView:
    """Takes the body of ``POST /v1/generate``, and refuses what that refuses."""
    settings = services.settings
    card = services.registry.card(body.model)
    if earlier := find_earlier(body, sender, services):
        body = earlier.begin(body, card)
    picture = read_checked(body, card, settings, Sources(sender, services).read)
    layout = lay_out(body, card, picture, settings)
    entities = [entity for _, entity in layout.entities]
    made = build(entities, (picture.width, picture.height), layout.size, layout.num_frames)
    asked = np.s_[len(entities) - len(body.entities) :]
    return PreviewView(
        animation=Animation(base64=base64.b64encode(animate(made, body.output.fps or card.fps)).decode()),
        width=layout.size[0],
        height=layout.size[1],
        num_frames=layout.num_frames,
        points=made.points[asked].tolist(),
        radii=made.sides[asked].tolist(),
        warnings=layout.warnings,
        estimate=_estimate(body, card, layout, services),
    )


def palette() -> NDArray[np.uint8]:
    """The colour of each label, RGB [18, 3]: black for none, then hues far from those of their neighbours."""
    labels = np.arange(MAX_ENTITIES + 1)
    hues = labels * 111 % 180  # OpenCV's degrees are two; the golden angle spreads them
    hsv = np.stack([hues, np.full_like(hues, 200), np.full_like(hues, 255)], axis=-1).astype(np.uint8)
    return np.vstack([np.zeros((1, 3), np.uint8), cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]])


def animate(made: Conditioning, fps: int) -> bytes:
    """A lossless WebP of heat and labels, side by side, and of a bar, [F, H + 4, 2 * W].

    The bar makes every frame another one: WebP would merge those that are equal.
    """
    num_frames, height, width = made.heat.shape
    frames = np.zeros((num_frames, height + _BAR_ROWS, 2 * width, 3), np.uint8)
    frames[:, :height, :width] = made.heat[..., None]
    frames[:, :height, width:] = palette()[made.labels]
    for index, frame in enumerate(frames):
        frame[height:, : 2 * width * (index + 1) // num_frames] = 255
    first, *others = map(Image.fromarray, frames)
    file = io.BytesIO()
    first.save(
        file,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=round(1000 / fps),
        loop=0,
        lossless=True,
        method=0,
    )
    return file.getvalue()


def _estimate(body: GenerateRequest, card: ModelCard, layout: Layout, services: Doors) -> Estimate:
    steps = tiered(body, card).num_inference_steps or card.num_inference_steps
    costs = services.schedule.pace.costs(card.name, [Size(*layout.size, layout.num_frames, steps, body.best_of)])
    return Estimate(seconds=round(costs[0].total, 1) if costs else None)
