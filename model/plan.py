"""How much GPU memory a job takes, computed before anything is bought or downloaded.

The networks are built without storage (meta device) and run once; live bytes are counted operation by operation,
attention as a fused kernel. What the count does not see is assumed: `CONTEXT` and `SLACK`. Nothing is measured.
"""

import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from model.clip import embed_image
from model.controlnet import ControlNet
from model.entity import ENSEMBLE, EntityEncoder
from model.presets import TINY, Defaults, find_preset
from model.unet import UNet
from model.vae import VideoVAE

CONTEXT = 0.6  # GB: CUDA context, cuDNN and cuBLAS workspaces; assumed
SLACK = 0.10  # of the activations: fragmentation; assumed
GB = 1e9


@dataclass(frozen=True)
class Stage:
    """One stage of a job: bytes of the weights that it uses, and the most bytes of other tensors alive in it."""

    name: str
    weights: int
    activations: int


@dataclass(frozen=True)
class Plan:
    """The memory of a job by stages; `weights` are all networks together, in bytes."""

    name: str
    width: int
    height: int
    num_frames: int
    decode_chunk_size: int
    dtype: str
    weights: int
    parameters: dict[str, int]
    stages: tuple[Stage, ...]

    @property
    def peak(self) -> float:
        """GB with all networks on the GPU."""
        return CONTEXT + (self.weights + (1 + SLACK) * max(s.activations for s in self.stages)) / GB

    @property
    def peak_offload(self) -> float:
        """GB with `offload=True`: only the networks of the current stage are on the GPU."""
        return CONTEXT + max(s.weights + (1 + SLACK) * s.activations for s in self.stages) / GB

    def __str__(self) -> str:
        """The plan as a table in plain text."""
        lines = [
            f"{self.name}: {self.width}x{self.height}, {self.num_frames} frames, {self.dtype}, "
            f"decode chunks of {self.decode_chunk_size} (computed, not measured)",
            "",
            f"{'network':<20}{'parameters':>14}",
            *(f"{name:<20}{count / 1e6:>12.1f} M" for name, count in self.parameters.items()),
            "",
            f"{'stage':<20}{'weights':>11}{'activations':>14}",
            *(f"{s.name:<20}{s.weights / GB:>8.2f} GB{s.activations / GB:>11.2f} GB" for s in self.stages),
            "",
            f"all networks on the GPU: {self.peak:.1f} GB; offload=True: {self.peak_offload:.1f} GB",
            f"(with {CONTEXT} GB for the CUDA context and {SLACK:.0%} slack on activations, both assumed)",
        ]
        return "\n".join(lines)


def plan(
    name: str,
    *,
    num_frames: int | None = None,
    width: int | None = None,
    height: int | None = None,
    decode_chunk_size: int | None = None,
    dtype: str = "bfloat16",
    guidance: bool = True,
) -> Plan:
    """Compute the memory of a job on a preset; what is None comes from the preset's defaults."""
    default: Defaults = find_preset(name).defaults
    frames, chunk = num_frames or default.num_frames, decode_chunk_size or default.decode_chunk_size
    w, h = (width or default.width), (height or default.height)
    kind: torch.dtype = getattr(torch, dtype)
    nets = networks(name, kind)
    halves = 2 if guidance else 1
    channels, tokens = nets["vae"].config.latent_channels, nets["image_encoder"].config.projection_dim
    control_width = nets["unet"].config.block_out_channels[0]

    def empty(*shape: int, like: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=like, device="meta")

    entity: Any = nets["entity_encoder"]
    latent = (h // 8, w // 8)
    ensemble = empty(ENSEMBLE, entity.vae.config.latent_channels, *latent)
    maps = empty(frames, h, w, like=torch.uint8)
    table = empty(2, nets["controlnet"].config.entity_embedding_channels[0])
    sample = empty(halves, frames, 2 * channels, *latent, like=kind)
    inputs = (sample, empty(), empty(halves, 1, tokens, like=kind), empty(halves, 3))
    control = empty(frames, control_width, *latent, like=kind)
    picture = empty(1, 3, h, w)
    part = empty(min(chunk, frames), channels, *latent, like=nets["vae"].dtype)

    def denoise() -> Any:
        return nets["unet"](*inputs, nets["controlnet"](*inputs, control))

    embedding = nets["controlnet"].controlnet_cond_embedding
    work: list[tuple[str, list[nn.Module], Callable[[], Any]]] = [
        ("image encoder", [nets["image_encoder"]], lambda: embed_image(nets["image_encoder"], picture)),
        (
            "VAE encode",
            [nets["vae"]],
            lambda: nets["vae"].encode(picture.to(nets["vae"].dtype)).latent_dist.mode(),
        ),
        ("entity encoder", [entity], lambda: entity(picture, ensemble, ensemble)),
        ("condition embedding", [embedding], lambda: embedding(maps, maps, table)),
        ("denoising step", [nets["unet"], nets["controlnet"]], denoise),
        ("VAE decode", [nets["vae"]], lambda: nets["vae"].decode(part, num_frames=len(part)).sample.float()),
    ]
    stages = tuple(Stage(stage, _bytes(*used), _peak_bytes(run)) for stage, used, run in work)
    counts = {key: sum(p.numel() for p in net.parameters()) for key, net in nets.items()}
    return Plan(name, w, h, frames, chunk, dtype, _bytes(*nets.values()), counts, stages)


def networks(name: str, dtype: torch.dtype) -> dict[str, Any]:
    """A preset's networks on the meta device; the published ones by their known sizes: nothing is fetched."""
    vae_dtype = torch.float32 if dtype == torch.float16 else dtype
    with torch.device("meta"):
        if name == "tiny":
            unet, controlnet, vae = (
                cls.from_config(_config(part))
                for cls, part in ((UNet, "unet"), (ControlNet, "controlnet"), (VideoVAE, "vae"))
            )
            clip = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(_config("image_encoder")))
            entity_unet, entity_vae = UNet2DConditionModel.from_config(_config("entity_encoder/unet")), vae
        else:
            levels = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
            down = ("DownEncoderBlock2D",) * 4
            unet, controlnet = UNet(), ControlNet(num_attention_heads=(5, 10, 20, 20))
            vae = VideoVAE(down_block_types=down, **levels)
            entity_vae = AutoencoderKL(down_block_types=down, up_block_types=("UpDecoderBlock2D",) * 4, **levels)
            entity_unet = UNet2DConditionModel(cross_attention_dim=768)
            clip = CLIPVisionModelWithProjection(
                CLIPVisionConfig(
                    hidden_size=1280,
                    intermediate_size=5120,
                    num_hidden_layers=32,
                    num_attention_heads=16,
                    patch_size=14,
                    projection_dim=1024,
                    hidden_act="gelu",
                )
            )
        prompt = torch.empty(1, 77, entity_unet.config.cross_attention_dim)
    for module, kind in (
        (unet, dtype),
        (controlnet, dtype),
        (clip, dtype),
        (entity_unet, dtype),
        (vae, vae_dtype),
        (entity_vae, vae_dtype),
    ):
        nn.Module.to(module.eval(), "meta", kind)  # some parameters ignore the default device
    return {
        "unet": unet,
        "controlnet": controlnet,
        "vae": vae,
        "image_encoder": clip,
        "entity_encoder": EntityEncoder(entity_vae, entity_unet, prompt),
    }


def _config(part: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((TINY / part / "config.json").read_text())
    return config


def _bytes(*modules: nn.Module) -> int:
    tensors = {
        id(t): t for module in modules for t in (*module.parameters(), *module.buffers())
    }  # some are shared
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _peak_bytes(run: Callable[[], Any]) -> int:
    with torch.no_grad(), _FusedAttention(), _LiveBytes() as live:
        run()
    return int(live.peak)


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operations make and that are still referenced."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(storage := tensor.untyped_storage()) not in inputs:
                self._add(storage)
        return result

    def _add(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, size)

    def _remove(self, size: int) -> None:
        self.now -= size


class _FusedAttention(TorchFunctionMode):
    """Attention as a fused kernel has it: no matrix of scores."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, value = (
                args[i] if len(args) > i else (kwargs or {})[k] for i, k in ((0, "query"), (2, "value"))
            )
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return func(*args, **(kwargs or {}))
