"""The one schema of a job, shared by REST, gRPC, client and worker.

``GenerateRequest`` is what a user sends: only ``image`` and ``entities`` are required, everything else has a
default of the model's. ``JobSpec`` is the same job resolved: every value set, every track laid out per frame,
every picture replaced by the object it is stored in. Workers only ever see a ``JobSpec``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Strict,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticKnownError

AnyList = Strict(False)
"""On a tuple: JSON has lists."""
Point = Annotated[tuple[FiniteFloat, FiniteFloat], AnyList]
Box = Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat], AnyList]
Shift = Annotated[FiniteFloat, Field(ge=-1e6, le=1e6)]
Easing = Literal["linear", "ease_in", "ease_out", "ease_in_out"]
Control = Literal["entity", "point"]
Format = Literal["mp4", "webm", "gif", "webp"]
Priority = Literal["high", "normal", "low"]
Sampler = Literal["euler", "ays"]
Tier = Literal["exact", "fast"]
WebhookEvent = Literal["job.succeeded", "job.failed", "job.canceled"]

SCHEMA = 1
"""Of ``JobSpec``. A change that a worker of the last release can not read raises it: such a worker then leaves the
job in the queue, to one that can. New fields have defaults, so that what an earlier release wrote can be read."""
MAX_ENTITIES = 16
MAX_CANDIDATES = 16
MAX_BATCH = 64
MAX_VIDEO_FRAMES = 250
"""Of a video that extends others, for all of its frames are in memory at once."""
MAX_POINTS = 1000
MAX_RUNS = 1_000_000
"""Also the most characters of the compressed form."""
RLE_FORMS = ("plain", "compressed")
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""Of ``best_of`` candidates, those behind the last number go on at 0."""
Base64 = Annotated[str, Field(min_length=1, description="standard base64, without a data: prefix")]


class Schema(BaseModel):
    """What comes from outside: no field that is not known, no text for a number, no number for a truth value."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _exactly_one(model: BaseModel, *names: str) -> None:
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(names)}" + (f", not {given}" if given else ""))


class ImageSource(Schema):
    """The first frame: PNG, JPEG or WebP, at most 20 MB and 40 megapixels; EXIF orientation is applied."""

    base64: Base64 | None = None
    url: str | None = None
    upload: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        _exactly_one(self, "base64", "url", "upload")
        return self


class Rle(Schema):
    """A COCO run-length mask, column-major: ``counts`` plain or in COCO's compressed text form."""

    size: Annotated[tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]], AnyList]
    counts: Annotated[
        Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MAX_RUNS, fail_fast=True), Tag(RLE_FORMS[0])]
        | Annotated[str, Field(max_length=MAX_RUNS), Tag(RLE_FORMS[1])],
        Discriminator(lambda counts: RLE_FORMS[isinstance(counts, str)]),
    ]


class MaskSource(Schema):
    """Where an entity is in the submitted image; a mask has the image's own size."""

    base64: Base64 | None = None
    rle: Rle | None = None
    polygon: Annotated[list[Point], Field(min_length=3, max_length=MAX_POINTS, fail_fast=True)] | None = None
    box: Box | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        _exactly_one(self, "base64", "rle", "polygon", "box")
        return self


class Trajectory(Schema):
    """The path of an entity's disc, in pixels of the submitted image (x right, y down) or normalized 0..1."""

    points: Annotated[list[Point], Field(min_length=1, max_length=MAX_POINTS, fail_fast=True)]
    space: Literal["pixel", "normalized"] = "pixel"
    timing: Literal["arc_length", "per_point"] = "arc_length"
    easing: Easing = "linear"
    easings: list[Easing] | None = None
    start_frame: Annotated[int, Field(ge=0)] | None = None
    end_frame: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.easings is not None and len(self.easings) != len(self.points) - 1:
            raise ValueError(f"easings needs one entry per segment: {len(self.points) - 1}")
        if self.start_frame is not None and self.end_frame is not None and self.start_frame >= self.end_frame:
            raise ValueError("start_frame must come before end_frame")
        return self


class Scale(Schema):
    """The factor on the disc's radius at the first and the last frame."""

    start: Annotated[FiniteFloat, Field(gt=0, le=10)] = 1.0
    end: Annotated[FiniteFloat, Field(gt=0, le=10)] = 1.0


class EntityRequest(Schema):
    """One thing that moves, or holds still."""

    label: Annotated[str, Field(max_length=100)] | None = None
    mask: MaskSource | None = None
    trajectory: Trajectory
    scale: Scale | None = None
    control: Control = "entity"


class Camera(Schema):
    """A move of the whole picture, reached at the last frame: pixels, factor and degrees."""

    pan: Annotated[tuple[Shift, Shift], AnyList] = (0.0, 0.0)
    zoom: Annotated[FiniteFloat, Field(gt=0, le=10)] = 1.0
    roll: Annotated[FiniteFloat, Field(ge=-360, le=360)] = 0.0
    easing: Easing = "linear"


class Output(Schema):
    """The files wanted."""

    format: Format = "mp4"
    fps: Annotated[int, Field(ge=1, le=60)] | None = None
    overlay: bool = True
    frames: bool = False


class Webhook(Schema):
    """An address that is told of the job's end."""

    url: str
    events: Annotated[list[WebhookEvent], Field(min_length=1)] | None = None


class GenerateRequest(Schema):
    """A job as a user writes it."""

    extends: Annotated[
        str | None,
        Field(
            description="In place of image: the id of a finished job of one's own. The video goes on from its last"
            " frame, and the result is the longer one, of the same size and frame rate. Entities are those of that"
            " job, by label or, without one, in its order; they need no mask. Positions are pixels of its video."
        ),
    ] = None
    image: Annotated[
        ImageSource | None,
        Field(validate_default=True, description="Required, but for a video that extends another."),
    ] = None
    entities: Annotated[list[EntityRequest], Field(min_length=1, max_length=MAX_ENTITIES)]
    model: str = "tiny"
    hold_background: bool = False
    camera: Camera | None = None
    num_frames: Annotated[int, Field(ge=1)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1)] | None = None
    seed: Seed | None = None
    width: Annotated[int, Field(ge=64, multiple_of=64)] | None = None
    height: Annotated[int, Field(ge=64, multiple_of=64)] | None = None
    min_guidance_scale: Annotated[FiniteFloat, Field(ge=0, le=30)] | None = None
    max_guidance_scale: Annotated[FiniteFloat, Field(ge=0, le=30)] | None = None
    control_scale: Annotated[FiniteFloat, Field(ge=0, le=10)] = 1.0
    control_start: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.0
    control_end: Annotated[FiniteFloat, Field(ge=0, le=1)] = 1.0
    motion_bucket_id: Annotated[int, Field(ge=0, le=1023)] | None = None
    noise_aug_strength: Annotated[FiniteFloat, Field(ge=0, le=10)] | None = None
    decode_chunk_size: Annotated[int, Field(ge=1, le=64)] | None = None
    tier: Tier = Field(
        "exact",
        description="fast: few steps (GET /v1/models says how many) of ays, unless asked otherwise",
    )
    sampler: Sampler = "euler"
    best_of: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_CANDIDATES,
            description="Render this many videos, with seed, seed + 1, ..., and return the one that keeps best to"
            " its paths: the lowest scores.objmc_px, then the lowest anchor_drift_px. All are in"
            " result.candidates. Takes as long as that many jobs.",
        ),
    ] = 1
    loop: Annotated[
        bool,
        Field(
            description="The video ends where it began: tracks, scales and camera go out in the first half and"
            " back in the second; a track that ends at its first point is gone once."
        ),
    ] = False
    output: Output = Output()
    webhook: Webhook | None = None
    priority: Priority = "normal"
    deadline_s: Annotated[FiniteFloat, Field(gt=0, le=7 * 24 * 3600)] | None = None

    @field_validator("image")
    @classmethod
    def _one_beginning(cls, image: ImageSource | None, info: ValidationInfo) -> ImageSource | None:
        if image is None and info.data.get("extends", "") is None:
            raise PydanticKnownError("missing")
        if image is not None and info.data.get("extends") is not None:
            raise ValueError("leave image or extends out: a video that extends another begins with its last frame")
        return image

    @model_validator(mode="after")
    def _control_window(self) -> Self:
        if self.control_start > self.control_end:
            raise ValueError("control_start must not come after control_end")
        return self


class BatchRequest(Schema):
    """Several jobs at once: ``requests`` as they are, or ``request`` once for each of ``seeds``."""

    requests: Annotated[list[GenerateRequest], Field(min_length=1, max_length=MAX_BATCH)] | None = None
    request: GenerateRequest | None = None
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MAX_BATCH)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        _exactly_one(self, "requests", "request")
        if (self.request is None) != (self.seeds is None):
            raise ValueError("request and seeds go together")
        if self.request is not None and self.request.seed is not None:
            raise ValueError("leave the request's own seed out, or make it one of seeds")
        return self


class Blob(Schema):
    """An input that is stored: its object key, the SHA-256 of its bytes, and the picture's size in pixels."""

    key: str
    sha256: str
    width: int
    height: int


class EntityTrack(Schema):
    """One entity resolved: ``points`` has one (x, y) per frame, in pixels of the submitted image."""

    label: str
    mask: Blob
    points: list[Point]
    scale: list[float] | None = None
    control: Control = "entity"


class JobSpec(Schema):
    """A job with every value set. ``prefix`` is an earlier video, or a zip of its frames, that this one extends;
    ``image`` is its last frame and the first of ``num_frames``."""

    model: str
    weights_sha256: str
    image: Blob
    prefix: Blob | None = None
    entities: list[EntityTrack]
    width: int
    height: int
    num_frames: int
    num_inference_steps: int
    seed: int
    min_guidance_scale: float
    max_guidance_scale: float
    control_scale: float
    control_start: float
    control_end: float
    motion_bucket_id: int
    noise_aug_strength: float
    decode_chunk_size: int
    tier: Tier
    sampler: Sampler
    best_of: int = 1
    output: Output
    fps: int
    priority: Priority
    deadline_s: float | None
