"""The networks of a run: fresh ones by a folder of configs, or published ones; and how a run hands them on."""

import copy
import json
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from model import weights
from model.controlnet import ControlNet
from model.entity import EntityEncoder
from model.hub import fetch
from model.pipeline import DragAnythingPipeline
from model.presets import TINY, Defaults, ModelCard, find_preset
from model.unet import UNet
from model.vae import VideoVAE
from training.config import ConfigError, Networks
from training.data.seeds import seed_of

PROMPT_TOKENS = 8  # of the constant that stands in for the empty prompt's embedding
OUTPUT_SCALE = (
    0.3  # of the ControlNet's output layers where everything starts together; zero would hide all control
)
SPATIAL_ONLY = 100.0  # a mixing factor whose sigmoid is 1, and has no gradient
HEAT_SCALE = 1 / 64  # the heat maps come as 0..255


@dataclass(frozen=True, eq=False)
class Parts:
    """All networks of a model, with what a pipeline needs besides."""

    unet: Any
    controlnet: Any
    vae: Any
    image_encoder: Any
    entity_encoder: EntityEncoder
    scheduler_config: dict[str, Any]
    defaults: Defaults

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What can be trained, by name; the entity encoder's VAE is another's or frozen."""
        names = ("unet", "controlnet", "vae", "image_encoder")
        return {**{name: getattr(self, name) for name in names}, "entity_encoder": self.entity_encoder.unet}


def build(options: Networks, seed: int, device: torch.device, frozen_dtype: torch.dtype) -> Parts:
    """The networks that a run starts with, on `device`; what is published comes in `frozen_dtype`."""
    if not options.scratch:
        parts = _published(options, device, frozen_dtype)
    elif options.init is not None:
        folder = options.init
        places: dict[str, Any] = {
            "svd": folder,
            "controlnet": folder / "controlnet",
            "entity_encoder": folder / "entity_encoder",
        }
        pipeline = weights.load(**places, device=device, dtype=torch.float32, local_files_only=True)
        parts = _of_pipeline(pipeline, find_preset("tiny").defaults)
        if options.restart:
            fresh = _fresh(options, seed, device)
            parts = replace(parts, **{name: getattr(fresh, name) for name in options.restart})
    else:
        parts = _fresh(options, seed, device)
    for module in parts.modules.values():
        module.requires_grad_(False).eval()
        use_2d_time_convolutions(module)
        if device.type == "cpu":
            use_channels_last(module)
    return parts


def _fresh(options: Networks, seed: int, device: torch.device) -> Parts:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, 1))
        vae = VideoVAE.from_config(_config(options, "vae"))
        unet = UNet.from_config(_config(options, "unet"))
        controlnet = ControlNet.from_config(_config(options, "controlnet"))
        entity_unet = UNet2DConditionModel.from_config(_config(options, "entity_encoder/unet"))
        image_config = CLIPVisionConfig.from_dict(_config(options, "image_encoder"))
        image_encoder = CLIPVisionModelWithProjection(image_config)
        prompt = torch.randn(1, PROMPT_TOKENS, entity_unet.config.cross_attention_dim)
        for conv in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
            nn.init.normal_(conv.weight, std=OUTPUT_SCALE * conv.in_channels**-0.5)
        _let_through(controlnet.controlnet_cond_embedding)
    encoder = EntityEncoder(vae, entity_unet, prompt)
    weights.check_fit(unet, controlnet, vae, image_encoder, encoder)
    scheduler = json.loads(((options.configs or TINY) / "scheduler" / "scheduler_config.json").read_text())
    modules: tuple[Any, ...] = (unet, controlnet, vae, image_encoder, encoder)
    return Parts(*(module.to(device) for module in modules), scheduler, find_preset("tiny").defaults)  # type: ignore[call-arg]


def _let_through(embedding: Any) -> None:
    """Start the stacks of the control signal so that it passes: PyTorch's own start leaves 0.03 % of it."""
    for module in embedding.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        embedding.conv_in.weight.mul_(HEAT_SCALE)


def _config(options: Networks, part: str) -> dict[str, Any]:
    folder = options.configs or TINY
    config: dict[str, Any] = json.loads((folder / part / "config.json").read_text())
    changes = options.overrides.get(part, {})
    if unknown := sorted(set(changes) - set(config)):
        raise ConfigError(f"networks.overrides.{part}: no such key in {folder / part}: {', '.join(unknown)}")
    return {**config, **changes}


def _published(options: Networks, device: torch.device, dtype: torch.dtype) -> Parts:
    given = {"svd": options.svd, "entity_encoder": options.entity_encoder}
    choice: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    choice |= {"device": device, "dtype": dtype, "allow_pickle": options.allow_pickle}
    if options.controlnet is not None:
        pipeline = weights.load(options.preset, controlnet=options.controlnet, **choice)
    else:
        preset = find_preset(options.preset)
        svd = fetch("svd", options.svd or preset.sources["svd"].location, half=dtype != torch.float32)
        config = json.loads((svd / "unet" / "config.json").read_text())
        with TemporaryDirectory() as folder:  # a loader of whole models wants files
            ControlNet.from_config(_shared(config)).to(dtype).save_pretrained(folder)
            pipeline = weights.load(options.preset, controlnet=folder, **choice)
        start_from_unet(pipeline.controlnet, pipeline.unet)
    parts = _of_pipeline(pipeline, pipeline.card.defaults)
    return replace(parts, controlnet=parts.controlnet.float())


def _shared(unet_config: dict[str, Any]) -> dict[str, Any]:
    """A UNet's config as one of its ControlNet."""
    return {
        key: value for key, value in unet_config.items() if not key.startswith("_") and key != "up_block_types"
    }


def start_from_unet(controlnet: nn.Module, unet: nn.Module) -> list[str]:
    """Copy everything that both have (input, embeddings, down blocks, middle); the keys that were copied."""
    ours = controlnet.state_dict()
    common = {
        key: value for key, value in unet.state_dict().items() if key in ours and ours[key].shape == value.shape
    }
    controlnet.load_state_dict(common, strict=False)
    return sorted(common)


def _of_pipeline(pipeline: DragAnythingPipeline, defaults: Defaults) -> Parts:
    components: dict[str, Any] = pipeline.components
    return Parts(**components, scheduler_config=pipeline.scheduler_config, defaults=defaults)


def pipeline_of(
    parts: Parts, averaged: dict[str, dict[str, Tensor]], device: torch.device
) -> DragAnythingPipeline:
    """A pipeline over copies of the networks, with averaged weights (by name of part) where there are some."""
    copies = {name: copy.deepcopy(module) for name, module in parts.modules.items() if name in averaged}
    for name, values in averaged.items():
        copies[name].load_state_dict(values, strict=False)
    modules: dict[str, Any] = {**parts.modules, **copies}
    encoder = parts.entity_encoder
    vae = modules["vae"] if encoder.vae is parts.vae else encoder.vae
    entity_encoder = EntityEncoder(vae, modules.pop("entity_encoder"), encoder.prompt_embeds)
    card = ModelCard(
        name="trained",
        defaults=parts.defaults,
        licences={},
        weights_sha256={},
        parameters=sum(p.numel() for module in parts.modules.values() for p in module.parameters()),
        dtype="float32",
        device=str(device),
    )
    return DragAnythingPipeline(
        **modules, entity_encoder=entity_encoder, scheduler_config=parts.scheduler_config, card=card, device=device
    )


def export(pipeline: DragAnythingPipeline, folder: Path, only: str | None = None) -> None:
    """Write half-precision weights in the layout of `model.weights`, or `only` the component of that name.

    A former export stays until this one is whole.
    """
    fresh, former = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for stale in (fresh, former):
        shutil.rmtree(stale, ignore_errors=True)
    if only is None:
        pipeline.save_pretrained(fresh, torch.float16)
    else:
        part: Any = copy.deepcopy(pipeline.components[only])
        part.half().save_pretrained(fresh / only)
    if folder.exists():
        folder.rename(former)
    fresh.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


class TimeConvolution(nn.Conv3d):
    """A (3, 1, 1) convolution over frames, computed as one in two dimensions.

    The same numbers; three-dimensional ones are slow on some builds of cuDNN, and their bfloat16 weight gradients
    contained NaN on the CPU (torch 2.13).
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the base class's name
        """[B, C, F, h, w] to [B, O, F, h, w]."""
        flat = F.conv2d(input.flatten(3), self.weight.flatten(3), self.bias, padding=(1, 0))
        return flat.reshape(*flat.shape[:3], *input.shape[3:])


def use_2d_time_convolutions(module: nn.Module) -> None:
    """Let every (3, 1, 1) convolution of a network be a `TimeConvolution`; keys and weights stay."""
    for conv in module.modules():
        if type(conv) is nn.Conv3d and conv.kernel_size == (3, 1, 1) and conv.padding == (1, 0, 0):
            conv.__class__ = TimeConvolution


def without_time(module: nn.Module) -> None:
    """Let the blend of every block take its spatial half alone; what is behind the other half learns nothing."""
    for name, parameter in module.named_parameters():
        if name.endswith("time_mixer.mix_factor"):
            nn.init.constant_(parameter, SPATIAL_ONLY)


def use_channels_last(module: nn.Module) -> None:
    """Lay out the weights of two-dimensional convolutions as bfloat16 ones are fast on a CPU."""
    for parameter in module.parameters():
        if parameter.dim() == 4 and parameter.shape[2:] != (1, 1):
            parameter.data = parameter.data.to(memory_format=torch.channels_last)


def plain_attention(device: torch.device) -> AbstractContextManager[object]:
    """Attention by matrix products on a CPU, whose fused kernel is many times slower for short sequences."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def checkpoint_gradients(modules: Iterable[nn.Module]) -> None:
    """Compute activations of the blocks twice instead of keeping them."""
    for module in modules:
        block: Any
        for block in module.modules():
            if hasattr(block, "gradient_checkpointing"):
                block.gradient_checkpointing = True
                block._gradient_checkpointing_func = _again


def _again(block: Any, *inputs: Any) -> Any:
    return checkpoint(block, *inputs, use_reentrant=False)
