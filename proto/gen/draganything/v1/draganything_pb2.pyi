import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Space(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPACE_UNSPECIFIED: _ClassVar[Space]
    SPACE_PIXEL: _ClassVar[Space]
    SPACE_NORMALIZED: _ClassVar[Space]

class Timing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIMING_UNSPECIFIED: _ClassVar[Timing]
    TIMING_ARC_LENGTH: _ClassVar[Timing]
    TIMING_PER_POINT: _ClassVar[Timing]

class Easing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EASING_UNSPECIFIED: _ClassVar[Easing]
    EASING_LINEAR: _ClassVar[Easing]
    EASING_EASE_IN: _ClassVar[Easing]
    EASING_EASE_OUT: _ClassVar[Easing]
    EASING_EASE_IN_OUT: _ClassVar[Easing]

class Control(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTROL_UNSPECIFIED: _ClassVar[Control]
    CONTROL_ENTITY: _ClassVar[Control]
    CONTROL_POINT: _ClassVar[Control]

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_EXACT: _ClassVar[Tier]
    TIER_FAST: _ClassVar[Tier]

class Sampler(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAMPLER_UNSPECIFIED: _ClassVar[Sampler]
    SAMPLER_EULER: _ClassVar[Sampler]
    SAMPLER_AYS: _ClassVar[Sampler]

class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORMAT_UNSPECIFIED: _ClassVar[Format]
    FORMAT_MP4: _ClassVar[Format]
    FORMAT_WEBM: _ClassVar[Format]
    FORMAT_GIF: _ClassVar[Format]
    FORMAT_WEBP: _ClassVar[Format]

class WebhookEvent(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WEBHOOK_EVENT_UNSPECIFIED: _ClassVar[WebhookEvent]
    WEBHOOK_EVENT_JOB_SUCCEEDED: _ClassVar[WebhookEvent]
    WEBHOOK_EVENT_JOB_FAILED: _ClassVar[WebhookEvent]
    WEBHOOK_EVENT_JOB_CANCELED: _ClassVar[WebhookEvent]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_QUEUED: _ClassVar[Status]
    STATUS_RUNNING: _ClassVar[Status]
    STATUS_SUCCEEDED: _ClassVar[Status]
    STATUS_FAILED: _ClassVar[Status]
    STATUS_CANCELED: _ClassVar[Status]
    STATUS_EXPIRED: _ClassVar[Status]

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_QUEUED: _ClassVar[Stage]
    STAGE_LOADING: _ClassVar[Stage]
    STAGE_CONDITIONING: _ClassVar[Stage]
    STAGE_DENOISING: _ClassVar[Stage]
    STAGE_DECODING: _ClassVar[Stage]
    STAGE_ENCODING: _ClassVar[Stage]
    STAGE_UPLOADING: _ClassVar[Stage]
    STAGE_DONE: _ClassVar[Stage]

class BatchStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCH_STATUS_UNSPECIFIED: _ClassVar[BatchStatus]
    BATCH_STATUS_QUEUED: _ClassVar[BatchStatus]
    BATCH_STATUS_RUNNING: _ClassVar[BatchStatus]
    BATCH_STATUS_ENDED: _ClassVar[BatchStatus]
SPACE_UNSPECIFIED: Space
SPACE_PIXEL: Space
SPACE_NORMALIZED: Space
TIMING_UNSPECIFIED: Timing
TIMING_ARC_LENGTH: Timing
TIMING_PER_POINT: Timing
EASING_UNSPECIFIED: Easing
EASING_LINEAR: Easing
EASING_EASE_IN: Easing
EASING_EASE_OUT: Easing
EASING_EASE_IN_OUT: Easing
CONTROL_UNSPECIFIED: Control
CONTROL_ENTITY: Control
CONTROL_POINT: Control
TIER_UNSPECIFIED: Tier
TIER_EXACT: Tier
TIER_FAST: Tier
SAMPLER_UNSPECIFIED: Sampler
SAMPLER_EULER: Sampler
SAMPLER_AYS: Sampler
FORMAT_UNSPECIFIED: Format
FORMAT_MP4: Format
FORMAT_WEBM: Format
FORMAT_GIF: Format
FORMAT_WEBP: Format
WEBHOOK_EVENT_UNSPECIFIED: WebhookEvent
WEBHOOK_EVENT_JOB_SUCCEEDED: WebhookEvent
WEBHOOK_EVENT_JOB_FAILED: WebhookEvent
WEBHOOK_EVENT_JOB_CANCELED: WebhookEvent
PRIORITY_UNSPECIFIED: Priority
PRIORITY_HIGH: Priority
PRIORITY_NORMAL: Priority
PRIORITY_LOW: Priority
STATUS_UNSPECIFIED: Status
STATUS_QUEUED: Status
STATUS_RUNNING: Status
STATUS_SUCCEEDED: Status
STATUS_FAILED: Status
STATUS_CANCELED: Status
STATUS_EXPIRED: Status
STAGE_UNSPECIFIED: Stage
STAGE_QUEUED: Stage
STAGE_LOADING: Stage
STAGE_CONDITIONING: Stage
STAGE_DENOISING: Stage
STAGE_DECODING: Stage
STAGE_ENCODING: Stage
STAGE_UPLOADING: Stage
STAGE_DONE: Stage
BATCH_STATUS_UNSPECIFIED: BatchStatus
BATCH_STATUS_QUEUED: BatchStatus
BATCH_STATUS_RUNNING: BatchStatus
BATCH_STATUS_ENDED: BatchStatus

class Point(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x0", "y0", "x1", "y1")
    X0_FIELD_NUMBER: _ClassVar[int]
    Y0_FIELD_NUMBER: _ClassVar[int]
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    x0: float
    y0: float
    x1: float
    y1: float
    def __init__(self, x0: _Optional[float] = ..., y0: _Optional[float] = ..., x1: _Optional[float] = ..., y1: _Optional[float] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("data", "url", "upload")
    DATA_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    url: str
    upload: str
    def __init__(self, data: _Optional[bytes] = ..., url: _Optional[str] = ..., upload: _Optional[str] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("data", "rle", "polygon", "box")
    DATA_FIELD_NUMBER: _ClassVar[int]
    RLE_FIELD_NUMBER: _ClassVar[int]
    POLYGON_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    rle: Rle
    polygon: Polygon
    box: Box
    def __init__(self, data: _Optional[bytes] = ..., rle: _Optional[_Union[Rle, _Mapping]] = ..., polygon: _Optional[_Union[Polygon, _Mapping]] = ..., box: _Optional[_Union[Box, _Mapping]] = ...) -> None: ...

class Rle(_message.Message):
    __slots__ = ("size", "plain", "compressed")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    COMPRESSED_FIELD_NUMBER: _ClassVar[int]
    size: Size
    plain: Runs
    compressed: str
    def __init__(self, size: _Optional[_Union[Size, _Mapping]] = ..., plain: _Optional[_Union[Runs, _Mapping]] = ..., compressed: _Optional[str] = ...) -> None: ...

class Size(_message.Message):
    __slots__ = ("height", "width")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class Runs(_message.Message):
    __slots__ = ("lengths",)
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, lengths: _Optional[_Iterable[int]] = ...) -> None: ...

class Polygon(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[Point]
    def __init__(self, points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ...) -> None: ...

class Trajectory(_message.Message):
    __slots__ = ("points", "space", "timing", "easing", "easings", "start_frame", "end_frame")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    EASING_FIELD_NUMBER: _ClassVar[int]
    EASINGS_FIELD_NUMBER: _ClassVar[int]
    START_FRAME_FIELD_NUMBER: _ClassVar[int]
    END_FRAME_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[Point]
    space: Space
    timing: Timing
    easing: Easing
    easings: _containers.RepeatedScalarFieldContainer[Easing]
    start_frame: int
    end_frame: int
    def __init__(self, points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., space: _Optional[_Union[Space, str]] = ..., timing: _Optional[_Union[Timing, str]] = ..., easing: _Optional[_Union[Easing, str]] = ..., easings: _Optional[_Iterable[_Union[Easing, str]]] = ..., start_frame: _Optional[int] = ..., end_frame: _Optional[int] = ...) -> None: ...

class Scale(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: float
    end: float
    def __init__(self, start: _Optional[float] = ..., end: _Optional[float] = ...) -> None: ...

class Entity(_message.Message):
    __slots__ = ("label", "mask", "trajectory", "scale", "control")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    TRAJECTORY_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    label: str
    mask: Mask
    trajectory: Trajectory
    scale: Scale
    control: Control
    def __init__(self, label: _Optional[str] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ..., trajectory: _Optional[_Union[Trajectory, _Mapping]] = ..., scale: _Optional[_Union[Scale, _Mapping]] = ..., control: _Optional[_Union[Control, str]] = ...) -> None: ...

class Camera(_message.Message):
    __slots__ = ("pan", "zoom", "roll", "easing")
    PAN_FIELD_NUMBER: _ClassVar[int]
    ZOOM_FIELD_NUMBER: _ClassVar[int]
    ROLL_FIELD_NUMBER: _ClassVar[int]
    EASING_FIELD_NUMBER: _ClassVar[int]
    pan: Point
    zoom: float
    roll: float
    easing: Easing
    def __init__(self, pan: _Optional[_Union[Point, _Mapping]] = ..., zoom: _Optional[float] = ..., roll: _Optional[float] = ..., easing: _Optional[_Union[Easing, str]] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("format", "fps", "overlay", "frames")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    format: Format
    fps: int
    overlay: bool
    frames: bool
    def __init__(self, format: _Optional[_Union[Format, str]] = ..., fps: _Optional[int] = ..., overlay: _Optional[bool] = ..., frames: _Optional[bool] = ...) -> None: ...

class Webhook(_message.Message):
    __slots__ = ("url", "events")
    URL_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    url: str
    events: _containers.RepeatedScalarFieldContainer[WebhookEvent]
    def __init__(self, url: _Optional[str] = ..., events: _Optional[_Iterable[_Union[WebhookEvent, str]]] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("image", "entities", "model", "hold_background", "camera", "num_frames", "num_inference_steps", "seed", "width", "height", "min_guidance_scale", "max_guidance_scale", "control_scale", "control_start", "control_end", "motion_bucket_id", "noise_aug_strength", "decode_chunk_size", "tier", "sampler", "best_of", "loop", "extends", "output", "webhook", "priority", "deadline_s")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    HOLD_BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MIN_GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    MAX_GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    CONTROL_SCALE_FIELD_NUMBER: _ClassVar[int]
    CONTROL_START_FIELD_NUMBER: _ClassVar[int]
    CONTROL_END_FIELD_NUMBER: _ClassVar[int]
    MOTION_BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    NOISE_AUG_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    DECODE_CHUNK_SIZE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    BEST_OF_FIELD_NUMBER: _ClassVar[int]
    LOOP_FIELD_NUMBER: _ClassVar[int]
    EXTENDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    image: Image
    entities: _containers.RepeatedCompositeFieldContainer[Entity]
    model: str
    hold_background: bool
    camera: Camera
    num_frames: int
    num_inference_steps: int
    seed: int
    width: int
    height: int
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
    best_of: int
    loop: bool
    extends: str
    output: Output
    webhook: Webhook
    priority: Priority
    deadline_s: float
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., entities: _Optional[_Iterable[_Union[Entity, _Mapping]]] = ..., model: _Optional[str] = ..., hold_background: _Optional[bool] = ..., camera: _Optional[_Union[Camera, _Mapping]] = ..., num_frames: _Optional[int] = ..., num_inference_steps: _Optional[int] = ..., seed: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., min_guidance_scale: _Optional[float] = ..., max_guidance_scale: _Optional[float] = ..., control_scale: _Optional[float] = ..., control_start: _Optional[float] = ..., control_end: _Optional[float] = ..., motion_bucket_id: _Optional[int] = ..., noise_aug_strength: _Optional[float] = ..., decode_chunk_size: _Optional[int] = ..., tier: _Optional[_Union[Tier, str]] = ..., sampler: _Optional[_Union[Sampler, str]] = ..., best_of: _Optional[int] = ..., loop: _Optional[bool] = ..., extends: _Optional[str] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., webhook: _Optional[_Union[Webhook, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., deadline_s: _Optional[float] = ...) -> None: ...

class CreateBatchRequest(_message.Message):
    __slots__ = ("requests", "request", "seeds")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[GenerateRequest]
    request: GenerateRequest
    seeds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, requests: _Optional[_Iterable[_Union[GenerateRequest, _Mapping]]] = ..., request: _Optional[_Union[GenerateRequest, _Mapping]] = ..., seeds: _Optional[_Iterable[int]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("status", "after", "limit")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    status: Status
    after: str
    limit: int
    def __init__(self, status: _Optional[_Union[Status, str]] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class DeleteJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class DeleteJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetBatchRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class CancelBatchRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Click(_message.Message):
    __slots__ = ("x", "y", "label")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    label: int
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., label: _Optional[int] = ...) -> None: ...

class SegmentRequest(_message.Message):
    __slots__ = ("image", "points", "box")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    image: Image
    points: _containers.RepeatedCompositeFieldContainer[Click]
    box: Box
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., points: _Optional[_Iterable[_Union[Click, _Mapping]]] = ..., box: _Optional[_Union[Box, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Progress(_message.Message):
    __slots__ = ("stage", "step", "steps", "fraction", "preview_url")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_URL_FIELD_NUMBER: _ClassVar[int]
    stage: Stage
    step: int
    steps: int
    fraction: float
    preview_url: str
    def __init__(self, stage: _Optional[_Union[Stage, str]] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., fraction: _Optional[float] = ..., preview_url: _Optional[str] = ...) -> None: ...

class Warning(_message.Message):
    __slots__ = ("code", "detail", "pointer")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    POINTER_FIELD_NUMBER: _ClassVar[int]
    code: str
    detail: str
    pointer: str
    def __init__(self, code: _Optional[str] = ..., detail: _Optional[str] = ..., pointer: _Optional[str] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "detail")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    code: str
    detail: str
    def __init__(self, code: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class JobUrls(_message.Message):
    __slots__ = ("self", "events", "cancel", "result")
    SELF_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    self: str
    events: str
    cancel: str
    result: str
    def __init__(self_, self: _Optional[str] = ..., events: _Optional[str] = ..., cancel: _Optional[str] = ..., result: _Optional[str] = ...) -> None: ...

class EntityScores(_message.Message):
    __slots__ = ("label", "objmc_px", "objmc_px_still", "anchor_drift_px", "visibility", "motion_spread")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    OBJMC_PX_FIELD_NUMBER: _ClassVar[int]
    OBJMC_PX_STILL_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_DRIFT_PX_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    MOTION_SPREAD_FIELD_NUMBER: _ClassVar[int]
    label: str
    objmc_px: float
    objmc_px_still: float
    anchor_drift_px: float
    visibility: float
    motion_spread: float
    def __init__(self, label: _Optional[str] = ..., objmc_px: _Optional[float] = ..., objmc_px_still: _Optional[float] = ..., anchor_drift_px: _Optional[float] = ..., visibility: _Optional[float] = ..., motion_spread: _Optional[float] = ...) -> None: ...

class Scores(_message.Message):
    __slots__ = ("tracker", "objmc_px", "objmc_px_still", "anchor_drift_px", "visibility", "motion_spread", "entities")
    TRACKER_FIELD_NUMBER: _ClassVar[int]
    OBJMC_PX_FIELD_NUMBER: _ClassVar[int]
    OBJMC_PX_STILL_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_DRIFT_PX_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    MOTION_SPREAD_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    tracker: str
    objmc_px: float
    objmc_px_still: float
    anchor_drift_px: float
    visibility: float
    motion_spread: float
    entities: _containers.RepeatedCompositeFieldContainer[EntityScores]
    def __init__(self, tracker: _Optional[str] = ..., objmc_px: _Optional[float] = ..., objmc_px_still: _Optional[float] = ..., anchor_drift_px: _Optional[float] = ..., visibility: _Optional[float] = ..., motion_spread: _Optional[float] = ..., entities: _Optional[_Iterable[_Union[EntityScores, _Mapping]]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("seed", "scores", "video_url")
    SEED_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    VIDEO_URL_FIELD_NUMBER: _ClassVar[int]
    seed: int
    scores: Scores
    video_url: str
    def __init__(self, seed: _Optional[int] = ..., scores: _Optional[_Union[Scores, _Mapping]] = ..., video_url: _Optional[str] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("width", "height", "num_frames", "fps", "duration_s", "seed", "timings_s", "scores", "video_url", "overlay_url", "poster_url", "manifest_url", "frames_url", "candidates")
    class TimingsSEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_S_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    VIDEO_URL_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_URL_FIELD_NUMBER: _ClassVar[int]
    POSTER_URL_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_URL_FIELD_NUMBER: _ClassVar[int]
    FRAMES_URL_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    num_frames: int
    fps: int
    duration_s: float
    seed: int
    timings_s: _containers.ScalarMap[str, float]
    scores: Scores
    video_url: str
    overlay_url: str
    poster_url: str
    manifest_url: str
    frames_url: str
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., num_frames: _Optional[int] = ..., fps: _Optional[int] = ..., duration_s: _Optional[float] = ..., seed: _Optional[int] = ..., timings_s: _Optional[_Mapping[str, float]] = ..., scores: _Optional[_Union[Scores, _Mapping]] = ..., video_url: _Optional[str] = ..., overlay_url: _Optional[str] = ..., poster_url: _Optional[str] = ..., manifest_url: _Optional[str] = ..., frames_url: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "status", "model", "created_at", "started_at", "finished_at", "expires_at", "progress", "queue_position", "eta_s", "attempt", "result", "error", "warnings", "urls")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    URLS_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: Status
    model: str
    created_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    finished_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    progress: Progress
    queue_position: int
    eta_s: float
    attempt: int
    result: Result
    error: Failure
    warnings: _containers.RepeatedCompositeFieldContainer[Warning]
    urls: JobUrls
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., model: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., queue_position: _Optional[int] = ..., eta_s: _Optional[float] = ..., attempt: _Optional[int] = ..., result: _Optional[_Union[Result, _Mapping]] = ..., error: _Optional[_Union[Failure, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[Warning, _Mapping]]] = ..., urls: _Optional[_Union[JobUrls, _Mapping]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class Counts(_message.Message):
    __slots__ = ("queued", "running", "succeeded", "failed", "canceled", "expired")
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELED_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    expired: int
    def __init__(self, queued: _Optional[int] = ..., running: _Optional[int] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ..., canceled: _Optional[int] = ..., expired: _Optional[int] = ...) -> None: ...

class BatchUrls(_message.Message):
    __slots__ = ("self", "cancel")
    SELF_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    self: str
    cancel: str
    def __init__(self_, self: _Optional[str] = ..., cancel: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("id", "status", "created_at", "counts", "fraction", "eta_s", "jobs", "urls")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    URLS_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: BatchStatus
    created_at: _timestamp_pb2.Timestamp
    counts: Counts
    fraction: float
    eta_s: float
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    urls: BatchUrls
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[BatchStatus, str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., counts: _Optional[_Union[Counts, _Mapping]] = ..., fraction: _Optional[float] = ..., eta_s: _Optional[float] = ..., jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., urls: _Optional[_Union[BatchUrls, _Mapping]] = ...) -> None: ...

class Pixel(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: int
    y: int
    def __init__(self, x: _Optional[int] = ..., y: _Optional[int] = ...) -> None: ...

class Centres(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[Pixel]
    def __init__(self, points: _Optional[_Iterable[_Union[Pixel, _Mapping]]] = ...) -> None: ...

class Radii(_message.Message):
    __slots__ = ("radii",)
    RADII_FIELD_NUMBER: _ClassVar[int]
    radii: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, radii: _Optional[_Iterable[int]] = ...) -> None: ...

class Animation(_message.Message):
    __slots__ = ("data", "format")
    DATA_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    format: Format
    def __init__(self, data: _Optional[bytes] = ..., format: _Optional[_Union[Format, str]] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("seconds",)
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    def __init__(self, seconds: _Optional[float] = ...) -> None: ...

class PreviewResponse(_message.Message):
    __slots__ = ("animation", "width", "height", "num_frames", "points", "radii", "warnings", "estimate")
    ANIMATION_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    RADII_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    animation: Animation
    width: int
    height: int
    num_frames: int
    points: _containers.RepeatedCompositeFieldContainer[Centres]
    radii: _containers.RepeatedCompositeFieldContainer[Radii]
    warnings: _containers.RepeatedCompositeFieldContainer[Warning]
    estimate: Estimate
    def __init__(self, animation: _Optional[_Union[Animation, _Mapping]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., num_frames: _Optional[int] = ..., points: _Optional[_Iterable[_Union[Centres, _Mapping]]] = ..., radii: _Optional[_Iterable[_Union[Radii, _Mapping]]] = ..., warnings: _Optional[_Iterable[_Union[Warning, _Mapping]]] = ..., estimate: _Optional[_Union[Estimate, _Mapping]] = ...) -> None: ...

class MaskFile(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class SegmentResponse(_message.Message):
    __slots__ = ("mask", "rle", "score", "engine")
    MASK_FIELD_NUMBER: _ClassVar[int]
    RLE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    mask: MaskFile
    rle: Rle
    score: float
    engine: str
    def __init__(self, mask: _Optional[_Union[MaskFile, _Mapping]] = ..., rle: _Optional[_Union[Rle, _Mapping]] = ..., score: _Optional[float] = ..., engine: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "width", "height", "max_pixels", "num_frames", "max_frames", "num_inference_steps", "max_inference_steps", "min_guidance_scale", "max_guidance_scale", "fps", "decode_chunk_size", "motion_bucket_id", "noise_aug_strength", "samplers", "tiers", "licences", "weights_sha256", "device", "dtype", "versions", "fast_num_inference_steps")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAMES_FIELD_NUMBER: _ClassVar[int]
    NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    MIN_GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    MAX_GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    DECODE_CHUNK_SIZE_FIELD_NUMBER: _ClassVar[int]
    MOTION_BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    NOISE_AUG_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    SAMPLERS_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    LICENCES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    FAST_NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    width: int
    height: int
    max_pixels: int
    num_frames: int
    max_frames: int
    num_inference_steps: int
    max_inference_steps: int
    min_guidance_scale: float
    max_guidance_scale: float
    fps: int
    decode_chunk_size: int
    motion_bucket_id: int
    noise_aug_strength: float
    samplers: _containers.RepeatedScalarFieldContainer[str]
    tiers: _containers.RepeatedScalarFieldContainer[str]
    licences: _containers.RepeatedScalarFieldContainer[str]
    weights_sha256: str
    device: str
    dtype: str
    versions: _containers.ScalarMap[str, str]
    fast_num_inference_steps: int
    def __init__(self, name: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., max_pixels: _Optional[int] = ..., num_frames: _Optional[int] = ..., max_frames: _Optional[int] = ..., num_inference_steps: _Optional[int] = ..., max_inference_steps: _Optional[int] = ..., min_guidance_scale: _Optional[float] = ..., max_guidance_scale: _Optional[float] = ..., fps: _Optional[int] = ..., decode_chunk_size: _Optional[int] = ..., motion_bucket_id: _Optional[int] = ..., noise_aug_strength: _Optional[float] = ..., samplers: _Optional[_Iterable[str]] = ..., tiers: _Optional[_Iterable[str]] = ..., licences: _Optional[_Iterable[str]] = ..., weights_sha256: _Optional[str] = ..., device: _Optional[str] = ..., dtype: _Optional[str] = ..., versions: _Optional[_Mapping[str, str]] = ..., fast_num_inference_steps: _Optional[int] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...
