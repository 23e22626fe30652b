"""What is rendered: networks of three sizes, and one scene."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from model import Conditions, DragAnythingPipeline, Entity
from model.blocks import lay_out
from model.controlnet import ControlNet
from model.entity import EntityEncoder
from model.plan import networks
from model.presets import Defaults, ModelCard, find_preset
from model.unet import UNet
from model.vae import VideoVAE

SCHEDULER = {  # of Stable Video Diffusion
    "prediction_type": "v_prediction",
    "use_karras_sigmas": True,
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "timestep_type": "continuous",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
LEVELS = (160, 320, 640, 640)
TINY = find_preset("tiny").defaults


@dataclass(frozen=True)
class Subject:
    """A size of everything, and how often it is timed."""

    name: str
    width: int
    height: int
    frames: int
    steps: int
    fast_steps: int
    high: float  # the largest guidance weight; 1: one half
    rounds: int


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject(
            "tiny",
            TINY.width,
            TINY.height,
            TINY.num_frames,
            TINY.num_inference_steps,
            TINY.fast_num_inference_steps,
            TINY.max_guidance_scale,
            5,
        ),
        Subject("mid", 320, 192, 8, 5, 2, 3.0, 1),
        Subject("full", 576, 320, 20, 25, 10, 3.0, 5),
    )
}


def blank(name: str, dtype: torch.dtype) -> dict[str, Any]:
    """The networks of a subject on the meta device."""
    if name != "mid":
        return networks("tiny" if name == "tiny" else "draganything", dtype)
    vae = {"block_out_channels": (64, 128, 256, 256), "layers_per_block": 2}
    down = ("DownEncoderBlock2D",) * 4
    with torch.device("meta"):
        nets = {
            "unet": UNet(block_out_channels=LEVELS),
            "controlnet": ControlNet(block_out_channels=LEVELS, num_attention_heads=(5, 10, 20, 20)),
            "vae": VideoVAE(down_block_types=down, **vae),
            "image_encoder": CLIPVisionModelWithProjection(
                CLIPVisionConfig(num_hidden_layers=2, projection_dim=1024)
            ),
            "entity_encoder": EntityEncoder(
                AutoencoderKL(down_block_types=down, up_block_types=("UpDecoderBlock2D",) * 4, **vae),
                UNet2DConditionModel(
                    block_out_channels=(320, 160, 160, 160), layers_per_block=1, cross_attention_dim=64
                ),
                torch.empty(1, 77, 64),
            ),
        }
    return {key: nn.Module.to(net.eval(), "meta", dtype) for key, net in nets.items()}


def build(subject: Subject, device: str, dtype: torch.dtype) -> DragAnythingPipeline:
    """A pipeline: the embedded `tiny`, or networks of the right sizes whose weights depend on a seed alone."""
    if subject.name == "tiny":
        return DragAnythingPipeline.from_pretrained("tiny", device=device, dtype=dtype)
    nets = blank(subject.name, dtype)
    for seed, net in enumerate(nets.values()):
        fill(net.to_empty(device=device), seed)
        lay_out(net)
    return DragAnythingPipeline(
        **nets,
        scheduler_config=SCHEDULER,
        card=ModelCard(subject.name, Defaults(), {}, {}, 0, str(dtype).removeprefix("torch."), device),
        device=torch.device(device),
    )


@torch.no_grad()
def fill(net: nn.Module, seed: int) -> None:
    """Weights that keep activations near one: norms are 1, biases 0, the rest normal by fan-in."""
    generator = torch.Generator(next(net.parameters()).device).manual_seed(seed)
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=(parameter[0].numel()) ** -0.5, generator=generator)
        else:
            parameter.fill_(float(name.endswith("weight")))
    for name, buffer in net.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
        else:
            buffer.normal_(generator=generator)


def entities(subject: Subject, count: int = 1) -> list[Entity]:
    """Squares that move to the right, at equal distances above each other."""
    side, found = min(subject.width, subject.height) // (2 * count), []
    for top in np.linspace(0, subject.height - side, count + 2)[1:-1].astype(int):
        mask = np.zeros((subject.height, subject.width), np.uint8)
        mask[top : top + side, side : 2 * side] = 1
        x = np.linspace(1.5 * side, subject.width - 1.5 * side, subject.frames)
        found.append(Entity(mask, np.stack([x, np.full(subject.frames, top + side / 2)], axis=1)))
    return found


def condition(pipeline: DragAnythingPipeline, subject: Subject, count: int = 1) -> Conditions:
    """The scene's conditions: a picture of seeded noise, `count` entities."""
    picture = np.random.default_rng(0).integers(0, 256, (subject.height, subject.width, 3), np.uint8)
    return pipeline.condition(
        picture,
        entities(subject, count),
        num_frames=subject.frames,
        width=subject.width,
        height=subject.height,
        generator=torch.Generator().manual_seed(0),
    )
