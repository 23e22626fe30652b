"""A request for a video as OpenAI's SDKs write it, with the fields of ours beside."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, FiniteFloat, Strict, field_validator, model_validator

from jobs.errors import InvalidRequest
from jobs.registry import Registry
from jobs.spec import GenerateRequest, ImageSource, Schema
from service.forms import JSON_FIELDS

PLACES = {
    "/image/base64": "/input_reference",
    "/image/url": "/input_reference",
    "/image/upload": "/input_reference",
}
"""Where a user finds what a part of the request was made from."""
_SCHEMAS = "#/components/schemas/{model}"
_JSON_TEXT = {"type": "string", "contentMediaType": "application/json"}


class Reference(Schema):
    """The image, by address (``https:`` or ``data:``) or by the id of an upload."""

    image_url: str | None = None
    file_id: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.image_url is None) == (self.file_id is None):
            raise ValueError("give exactly one of image_url, file_id")
        return self


class VideoRequest(GenerateRequest):
    """What ``/v1/generate`` takes, with the image as ``input_reference``, and size and length in OpenAI's way."""

    prompt: str | None = None
    input_reference: Reference | None = None
    seconds: Annotated[FiniteFloat, Field(gt=0), Strict(False)] | None = None
    size: Annotated[str, Field(pattern=r"^[1-9]\d{1,4}x[1-9]\d{1,4}$", examples=["576x320"])] | None = None

    @field_validator("image")
    @classmethod
    def _one_beginning(cls, image: ImageSource | None) -> ImageSource | None:  # type: ignore[override]
        return image  # see below

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if sum(each is not None for each in (self.image, self.input_reference, self.extends)) != 1:
            raise ValueError("give the image as input_reference, or as image, or extends: exactly one of them")
        if self.size is not None and (self.width, self.height) != (None, None):
            raise ValueError("give size, or width and height, and not both")
        if self.seconds is not None and self.num_frames is not None:
            raise ValueError("give seconds, or num_frames, and not both")
        return self


def to_generate(body: VideoRequest, registry: Registry) -> GenerateRequest:
    """The same request for ``/v1/generate``; ``seconds`` count at the frame rate of the output.

    Raises:
        InvalidRequest: the size is not one that a model renders, the video is too long, or there is no such model.
        ModelUnavailable: there is no model yet.
    """
    fields = {name: getattr(body, name) for name in body.model_fields_set & GenerateRequest.model_fields.keys()}
    if body.input_reference is not None:
        fields["image"] = _image(body.input_reference)
    if body.size is not None:
        fields["width"], fields["height"] = _sides(body.size)
    if body.seconds is not None:
        card = registry.card(body.model)
        fps = body.output.fps or card.fps
        frames = max(round(body.seconds * fps), 1)
        if frames > card.max_frames:
            longest = f"{card.max_frames / fps:.3g}"
            raise InvalidRequest.at("/seconds", f"The model {card.name!r} makes at most {longest} s at {fps} fps.")
        fields["num_frames"] = frames
    return GenerateRequest(**fields)


def _image(reference: Reference) -> ImageSource:
    if reference.image_url is None:
        return ImageSource(upload=reference.file_id)
    scheme, _, rest = reference.image_url.partition(":")
    if scheme.lower() != "data":
        return ImageSource(url=reference.image_url)
    kind, comma, data = rest.partition(",")
    if not comma or not data or not kind.endswith(";base64"):
        raise InvalidRequest.at(
            "/input_reference/image_url", "A data: address has base64: data:image/png;base64,…."
        )
    return ImageSource(base64=data)


def _sides(size: str) -> tuple[int, int]:
    width, height = map(int, size.split("x"))
    if width % 64 or height % 64:
        nearest = "x".join(str(max(64, round(side / 64) * 64)) for side in (width, height))
        raise InvalidRequest.at("/size", f"Both sides are multiples of 64; the nearest is {nearest}.")
    return width, height


def json_schema() -> dict[str, Any]:
    """Of a JSON body. What it refers to is a part of the application's document, thanks to ``/v1/generate``."""
    schema = VideoRequest.model_json_schema(ref_template=_SCHEMAS)
    definitions = schema.pop("$defs")
    schema["properties"]["input_reference"] = definitions["Reference"]
    return schema


def multipart_schema() -> dict[str, Any]:
    """Of a multipart body: a file, texts, and JSON in texts."""
    schema = json_schema()
    for name in JSON_FIELDS:
        schema["properties"][name] = _JSON_TEXT
    schema["properties"]["input_reference"] = {"type": "string", "contentMediaType": "application/octet-stream"}
    return schema
