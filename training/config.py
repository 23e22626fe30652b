"""What a training run is: one YAML file; an unknown key, or a value out of range, is an error."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Size = tuple[int, int]  # width, height


class ConfigError(ValueError):
    """A config that cannot be used; the message names file and key."""


class Strict(BaseModel):
    """No unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Synthetic(Strict):
    """Synthetic clips; shares are probabilities."""

    kind: Literal["synthetic"] = "synthetic"
    sizes: tuple[Size, ...] = ((192, 128),)  # one of them per step, all equally often
    max_entities: Count = 4
    entities: tuple[float, ...] = (0.3, 0.35, 0.2, 0.15)  # how often there are 1, 2, ... of them
    smallest: Share = 0.03  # of the frame's area; small ones are more frequent
    largest: Share = 0.6
    stretch: float = Field(2.0, ge=1)  # of their outlines: at most so much wider than high, or higher than wide
    moving_share: Share = 0.75
    control_share: Share = 0.9  # of the moving ones; the others stay where they are
    leaving_share: Share = 0.15
    turning_share: Share = 0.15
    growing_share: Share = 0.25
    anchor_jitter: Share = 0.35  # of the radius: where in the entity its track starts
    point_share: Share = 0.08  # drag-pixel control
    hold_share: Share = 0.4  # of the clips with a still camera: the background is an entity that holds still
    camera: tuple[float, float, float, float] = (0.6, 0.2, 0.1, 0.1)  # still, pan, zoom, only the background moves
    natural_share: Share = 0.7  # photographs among what layers are cut from
    shadow_share: Share = 0.3
    light_share: Share = 0.1

    @model_validator(mode="after")
    def _check(self) -> "Synthetic":
        if len(self.entities) != self.max_entities:
            raise ValueError(f"entities needs {self.max_entities} numbers, one per count")
        if not 0 < self.smallest <= self.largest:
            raise ValueError("smallest must be above 0 and at most largest")
        return self


class Folder(Strict):
    """A data set on disk, in its own folder layout."""

    kind: Literal["vipseg", "youtube_vos"]
    root: Path
    split: str = "train"
    size: Size = (576, 320)
    stride: Count = 1  # frames of the video per frame of the clip
    max_entities: Count = 16
    smallest: Share = 0.002  # of the frame's area; smaller entities are left out
    things_only: bool = False  # VIPSeg: no stuff such as sky and road
    tracks: Path | None = (
        None  # folder of CoTracker tracks, <video>.json; None: centres of the masks' largest discs
    )


Data = Annotated[Synthetic | Folder, Field(discriminator="kind")]


class Networks(Strict):
    """What is trained: fresh networks by the configs of a folder, or published ones."""

    scratch: bool
    configs: Path | None = None  # scratch: folder in the layout of `model.weights`; None: those of the preset tiny
    overrides: dict[str, dict[str, Any]] = {}  # scratch: per part, config values that differ
    init: Path | None = None  # scratch: start from weights that an earlier run exported
    restart: tuple[Literal["unet", "controlnet", "image_encoder"], ...] = ()  # init: parts that begin anew
    preset: str = "draganything"
    svd: str | None = None  # directories or hub ids that replace the preset's
    controlnet: str | None = None  # None: start from the video UNet's encoder
    entity_encoder: str | None = None
    allow_pickle: bool = False


class Stage(Strict):
    """What all stages share: how long, how large, how fast."""

    steps: Count
    minutes: Positive | None = None  # ends the stage, and anneals, by the clock where that is sooner
    batch: Count  # clips per process and micro-step
    accumulate: Count = 1
    lr: Positive
    warmup: int = Field(100, ge=0)  # steps
    decay_from: Share = 0.5  # of the stage; from there the rate falls linearly to 0. 1: never
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(0.01, ge=0)
    clip: Positive = 1.0
    ema: Share = 0.998  # 0: none
    data: Data | None = None  # None: the run's


class VAEStage(Stage):
    """The video VAE alone: single frames first, short clips towards the end."""

    kind: Literal["vae"]
    clip_frames: Count = 4
    clip_share: Share = 0.3  # of the stage, at its end
    linear_start: int = Field(400, ge=0)  # steps of fitting the linear autoencoder it starts from; 0: none
    crop: Count | None = Field(None, multiple_of=8)  # pixels; None: whole frames
    crops: Count = 1  # per clip
    decoder_only: bool = False  # the latents stay what they are, and so does everything trained on them
    whitening: Share = 0.5  # of the latents: 0, as large as what they mean in pixels; 1, all equal
    kl_weight: float = Field(1e-4, ge=0)
    edge_weight: float = Field(0.0, ge=0)


class EntityStage(Stage):
    """The entity encoder's UNet: noise prediction on single frames."""

    kind: Literal["entity"]
    linear_start: bool = False  # a fresh UNet's features begin as colours


class VideoStage(Stage):
    """The video UNet and the ControlNet, or the ControlNet alone."""

    kind: Literal["video"]
    frames: Count
    train: tuple[Literal["unet", "controlnet", "image_encoder"], ...]
    log_sigma: tuple[float, Positive] = (0.7, 1.6)  # mean and deviation of ln sigma
    sigmas: tuple[Positive, Positive] = (0.002, 700.0)
    loss_mask: Literal["entity", "weighted", "none"] = "entity"  # the paper's, 1 + weight * mask, or no mask
    mask_weight: float = Field(3.0, ge=0)
    still_start: bool = False  # a fresh UNet begins as a still picture
    look_weight: float = Field(0.0, ge=0)  # of the loss that tells an attention where entities came from
    place_weight: float = Field(0.0, ge=0)  # of the loss that tells channels where they are; wants look_weight
    coarse_weight: float = Field(0.0, ge=0)  # of the same error of means over 2 x 2 cells
    control: Literal["both", "gaussian", "entity", "none"] = "both"  # what the ControlNet sees of the entities
    temporal_guidance: bool = True  # False: the ControlNet's layers over time are passed by
    entities: Literal["diffusion", "classifier"] = "diffusion"  # what entity vectors are features of
    image_dropout: Share = 0.0
    control_dropout: Share = 0.0
    noise_augmentation: float = Field(0.02, ge=0)
    fps: Count = 7
    motion_bucket_id: int = 128
    ensemble: Count = 8  # noises that entity features are averaged over
    gradient_checkpointing: bool = False
    encode_at_once: Count = 8  # frames per call of the VAE's encoder
    clips: Count | None = None  # different ones, kept with their latents in the run's cache; None: always new ones

    @model_validator(mode="after")
    def _check(self) -> "VideoStage":
        if self.place_weight and not self.look_weight:
            raise ValueError("place_weight wants look_weight: both are taught from the same origins")
        return self


AnyStage = Annotated[VAEStage | EntityStage | VideoStage, Field(discriminator="kind")]


class Samples(Strict):
    """The sheets that a run leaves behind while it trains."""

    every: Count = 500  # steps
    count: Count = 4
    steps: Count = 10
    frames: Count = 14


class Config(Strict):
    """A whole run."""

    seed: int = Field(1, ge=0)
    out: Path
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    networks: Networks
    data: Data
    cache: Path | None = None  # folder for what does not change: kept clips, latents, entity features
    stages: tuple[AnyStage, ...] = Field(min_length=1)
    checkpoint_minutes: Positive = 3.0
    log_every: Count = 10
    samples: Samples = Samples()

    @model_validator(mode="after")
    def _check(self) -> "Config":
        if self.cache is None and any(isinstance(s, VideoStage) and s.clips for s in self.stages):
            raise ValueError("stages with clips: N keep them on disk: set cache to a folder")
        return self


def load(path: Path, changes: dict[str, Any] | None = None) -> Config:
    """Read a config; `changes` replaces values by dotted path ("stages.0.steps": 10). Raises ConfigError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values")
    for key, value in (changes or {}).items():
        _replace(content, key, value)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {faults}") from None


def _replace(content: Any, key: str, value: Any) -> None:
    *path, last = (int(part) if part.isdigit() else part for part in key.split("."))
    try:
        for part in path:
            content = content[part]
        content[last] = value
    except (KeyError, IndexError, TypeError):
        raise ConfigError(f"there is no {key} to replace") from None
