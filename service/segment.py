"""``/v1/segment``: clicks or a box in, a mask out. Nothing is stored."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

import numpy as np
from fastapi import APIRouter, Body, Depends
from pydantic import BaseModel, Field, FiniteFloat, model_validator

from jobs.errors import FieldError
from jobs.spec import Box, ImageSource, Rle, Schema
from service import problems, rest
from service.auth import Sender
from service.bodies import JsonRoute
from service.bounds import refuse
from service.images import Mask, encode_mask, image_pointer
from service.inputs import read_image
from service.segmenter import ENGINE, open_segmenter
from service.sources import Sources
from service.state import Services

router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=problems.RESPONSES)

MAX_CLICKS = 100
EXAMPLE: dict[str, Any] = {"image": rest.EXAMPLE["image"], "points": [{"x": 24, "y": 32}]}
"""The dark square of a grey picture."""


class Click(Schema):
    """A pixel of the submitted image that belongs to what is meant (1), or does not (0)."""

    x: FiniteFloat
    y: FiniteFloat
    label: Literal[0, 1] = 1


class SegmentRequest(Schema):
    """What is meant: clicks, a box [x0, y0, x1, y1] that it fills, or both."""

    image: ImageSource
    points: Annotated[list[Click], Field(max_length=MAX_CLICKS, default_factory=list)]
    box: Box | None = None

    @model_validator(mode="after")
    def _something_is_meant(self) -> Self:
        if self.box is None and not any(click.label for click in self.points):
            raise ValueError("give at least one point with label 1, or a box")
        return self


class MaskFile(BaseModel):
    """A black and white PNG of the image's size."""

    base64: str


class SegmentView(BaseModel):
    """A mask twice, each as ``entities[].mask`` takes it."""

    mask: MaskFile
    rle: Rle = Field(description="COCO, not compressed")
    score: float = Field(ge=0, le=1, description="an estimate of the mask's IoU with what was meant")
    engine: str


@router.post(
    "/segment",
    dependencies=[Depends(rest.json_only)],
    responses=problems.responses(400, 403, 413, 415, 422, 503),
    summary="Find a mask",
)
def segment(
    body: Annotated[SegmentRequest, Body(openapi_examples={"A click into a box": {"value": EXAMPLE}})],
    services: Services,
    sender: Sender,
) -> SegmentView:
    """Segment what clicks and a box mean, by colours and edges; the same for the same input."""
    picture = read_image(body.image, services.settings, Sources(sender, services).read)
    size = (picture.width, picture.height)
    refuse([*_misplaced(body, size)])
    box = None if body.box is None else np.clip(body.box, 0, [*size, *size]).tolist()
    inside, outside = ([(click.x, click.y) for click in body.points if click.label == label] for label in (1, 0))
    found = open_segmenter(picture, image_pointer(body.image)).segment(inside, outside, box)
    return SegmentView(
        mask=MaskFile(base64=base64.b64encode(encode_mask(found.mask)).decode()),
        rle=encode_rle(found.mask),
        score=round(found.score, 3),
        engine=ENGINE,
    )


def _misplaced(body: SegmentRequest, size: tuple[int, int]) -> Iterator[FieldError]:
    """Clicks and boxes that mean nothing in an image of this size (width, height)."""
    image = f"the {size[0]} x {size[1]} image"
    for index, click in enumerate(body.points):
        pointer = f"/points/{index}"
        if not (0 <= click.x < size[0] and 0 <= click.y < size[1]):
            yield FieldError(pointer, f"The point lies outside of {image}.")
        elif click.label and body.box is not None and not _holds(body.box, click):
            yield FieldError(pointer, "The point lies outside of the box, which holds all that is meant.")
    if body.box is None:
        return
    x0, y0, x1, y1 = body.box
    if x0 >= x1 or y0 >= y1:
        yield FieldError("/box", "A box is [x0, y0, x1, y1] with x0 < x1 and y0 < y1.")
    elif x0 >= size[0] or y0 >= size[1] or x1 <= 0 or y1 <= 0:
        yield FieldError("/box", f"The box lies outside of {image}.")


def _holds(box: tuple[float, float, float, float], click: Click) -> bool:
    return box[0] <= click.x <= box[2] and box[1] <= click.y <= box[3]


def encode_rle(mask: Mask) -> Rle:
    """A mask of zeros and ones as COCO's plain runs: of zeros and ones in turn, column by column."""
    changes = np.diff(mask.T.ravel(), prepend=np.uint8(0))
    ends = np.append(np.flatnonzero(changes), mask.size)
    return Rle(size=(mask.shape[0], mask.shape[1]), counts=np.diff(ends, prepend=0).tolist())
