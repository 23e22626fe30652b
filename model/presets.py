"""The models that can be had by name, what they are made of, and their defaults. Imports no torch."""

from dataclasses import dataclass, field
from pathlib import Path

TINY = Path(__file__).parent / "tiny"


@dataclass(frozen=True)
class Defaults:
    """What a job gets that does not ask for something else, and how far it may ask."""

    width: int = 576
    height: int = 320
    num_frames: int = 14
    max_frames: int = 25
    num_inference_steps: int = 25
    max_inference_steps: int = 100
    min_guidance_scale: float = 1.0
    max_guidance_scale: float = 3.0
    fps: int = 7
    motion_bucket_id: int = 128  # the reference's constant, whatever its caller passes
    noise_aug_strength: float = 0.02
    decode_chunk_size: int = 8
    samplers: tuple[str, ...] = ("euler", "ays")
    fast_num_inference_steps: int = 10  # those that "ays" was made for


@dataclass(frozen=True)
class Source:
    """Where a component comes from: a directory or a hub id, and under which licence."""

    location: str
    licence: str


@dataclass(frozen=True)
class Preset:
    """A named set of components (`svd`, `controlnet`, `entity_encoder`) with defaults."""

    name: str
    summary: str
    sources: dict[str, Source]
    defaults: Defaults = field(default_factory=Defaults)


@dataclass(frozen=True)
class ModelCard:
    """A loaded model, as a service lists it; every field is plain data (`dataclasses.asdict` is JSON)."""

    name: str
    defaults: Defaults
    licences: dict[str, str]
    weights_sha256: dict[str, str]  # per component, and "combined"
    parameters: int
    dtype: str
    device: str


_SVD_LICENCE = "Stability AI Community License"
_CONTROLNET = Source(
    "weijiawu/DragAnything", "Apache-2.0 as tagged on the hub (the reference code has no licence file)"
)
_SD15 = Source("stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML Open RAIL-M")

# The reference's own entity encoder. It comes as pickles and names no licence, so no preset uses it: pass
# entity_encoder=REFERENCE_ENTITY_ENCODER together with allow_pickle=True.
REFERENCE_ENTITY_ENCODER = "windwhinny/chilloutmix"

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "tiny",
            "The same networks at a size that runs on two CPU cores.",
            {
                "svd": Source(str(TINY), "Apache-2.0"),
                "controlnet": Source(str(TINY / "controlnet"), "Apache-2.0"),
                "entity_encoder": Source(str(TINY / "entity_encoder"), "Apache-2.0"),
            },
            Defaults(
                width=192,
                height=128,
                num_inference_steps=2,
                max_inference_steps=50,
                max_guidance_scale=1.0,
                fast_num_inference_steps=1,
            ),
        ),
        Preset(
            "draganything",
            "The paper's model on SVD img2vid (14 frames).",
            {
                "svd": Source("stabilityai/stable-video-diffusion-img2vid", _SVD_LICENCE),
                "controlnet": _CONTROLNET,
                "entity_encoder": _SD15,
            },
        ),
        Preset(
            "draganything-xt",
            "The paper's ControlNet on SVD img2vid-xt (25 frames).",
            {
                "svd": Source("stabilityai/stable-video-diffusion-img2vid-xt", _SVD_LICENCE),
                "controlnet": _CONTROLNET,
                "entity_encoder": _SD15,
            },
            Defaults(num_frames=25),
        ),
    )
}


def find_preset(name: str) -> Preset:
    """The preset of that name; ValueError lists the names there are."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}") from None
