"""The loop that this project is measured against: diffusers' own modules, called as diffusers' own pipeline does.

Nothing of `model.blocks` is in it. The conditions are embedded in every step and for both halves, as the published
code does, unless `hoisted`; that code runs in float32, this loop in whatever is asked for.
"""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from model import Conditions, DragAnythingPipeline
from model.entity import tabulate
from model.sampler import euler_step, guidance_weights, guide, noise_levels

SHARED = ("conv_in", "time_embedding", "add_embedding", "down_blocks", "mid_block")


class Plain:
    """The same weights as a pipeline's, in stock modules."""

    def __init__(self, pipeline: DragAnythingPipeline, dtype: torch.dtype) -> None:
        self.dtype, self.device = dtype, pipeline.device
        self.scheduler_config = pipeline.scheduler_config
        control, unet = pipeline.controlnet, pipeline.unet
        self.unet = _stock(UNetSpatioTemporalConditionModel, unet, {}, pipeline.device, dtype)
        extra = {"up_block_types": ("UpBlockSpatioTemporal",) * len(control.config.down_block_types)}
        self.trunk = _stock(UNetSpatioTemporalConditionModel, control, extra, pipeline.device, dtype)
        self.vae = _stock(AutoencoderKLTemporalDecoder, pipeline.vae, {}, pipeline.device, pipeline.vae.dtype)
        convs: Any = (
            control.controlnet_cond_embedding,
            control.controlnet_down_blocks,
            control.controlnet_mid_block,
        )
        copies: Any = [_contiguous(copy.deepcopy(conv)).to(dtype) for conv in convs]
        self.embedding, self.outputs, self.middle = copies
        self.control: Callable[..., tuple[list[Tensor], Tensor]] = self._control
        self.predict: Callable[..., Tensor] = self._predict

    def compile(self) -> None:
        """Compile both networks with torch's defaults; the first call takes minutes."""
        self.control, self.predict = torch.compile(self._control), torch.compile(self._predict)

    def denoise(self, c: Conditions, steps: int, high: float, *, hoisted: bool = False) -> Tensor:
        """The reference's sampler with guidance from 1 to `high`: latents [1, F, C, h, w]."""
        sigmas, timesteps = noise_levels(self.scheduler_config, steps)
        weights = guidance_weights(1.0, high, c.noise.shape[1])
        halves = 1 if weights is None else 2
        context = _guided(c.context, halves).to(self.dtype)
        image = _guided(c.image_latents, halves)[:, None].expand(-1, c.noise.shape[1], -1, -1, -1)
        ids = c.added_time_ids.expand(halves, -1)
        heat, features = (torch.cat([x] * halves) for x in self.paint(c))
        once = self.embed(heat, features) if hoisted else None
        latents = c.noise * (sigmas[0] ** 2 + 1) ** 0.5
        for timestep, sigma, following in zip(timesteps, sigmas, sigmas[1:], strict=False):
            t = timestep.to(self.device)
            x = (latents / (sigma**2 + 1) ** 0.5).expand(halves, -1, -1, -1, -1)
            x = torch.cat([x, image], dim=2).to(self.dtype)
            condition = self.embed(heat, features) if once is None else once
            down, mid = self.control(x, t, context, ids, condition)
            v = self.predict(x, t, context, ids, down, mid)
            latents = euler_step(latents, guide(v, weights), sigma, following)
        return latents

    def decode(self, latents: Tensor, chunk: int) -> Tensor:
        """Pixels [F, 3, H, W]."""
        parts = (latents[0] / self.vae.config.scaling_factor).to(self.vae.dtype).split(chunk)
        return torch.cat([self.vae.decode(part, num_frames=len(part)).sample for part in parts])

    def paint(self, c: Conditions) -> tuple[Tensor, Tensor]:
        """The heat maps as pictures [F, 3, H, W], and every pixel's entity vector [F, C, H, W]."""
        heat, labels = (torch.from_numpy(x).to(self.device) for x in (c.conditioning.heat, c.conditioning.labels))
        table = tabulate(c.entity_features, "vector").to(self.dtype)
        table = torch.cat([torch.zeros_like(table[:1]), table])
        return heat[:, None].expand(-1, 3, -1, -1).to(self.dtype), table[labels.long()].permute(0, 3, 1, 2)

    def embed(self, heat: Tensor, features: Tensor) -> Tensor:
        """Both branches: [N, C0, h, w]."""
        net = self.embedding
        x, y = F.silu(net.conv_in(heat)), features
        for conv in net.blocks:
            x = F.silu(conv(x))
        for conv in net.blocks_feature:
            y = F.silu(conv(y))
        out: Tensor = net.conv_out(x) + net.conv_out_feature(y)
        return out

    def _control(self, x: Tensor, t: Tensor, context: Tensor, ids: Tensor, condition: Tensor) -> Any:
        hidden, skips, _ = _trunk(self.trunk, x, t, context, ids, condition)
        return [conv(skip) for conv, skip in zip(self.outputs, skips, strict=True)], self.middle(hidden)

    def _predict(
        self, x: Tensor, t: Tensor, context: Tensor, ids: Tensor, down: list[Tensor], mid: Tensor
    ) -> Tensor:
        hidden, skips, options = _trunk(self.unet, x, t, context, ids, None, down)
        hidden = hidden + mid
        context = options.pop("encoder_hidden_states")
        for block in self.unet.up_blocks:
            count = len(block.resnets)
            taken, skips = tuple(skips[-count:]), skips[:-count]
            cross = {"encoder_hidden_states": context} if hasattr(block, "attentions") else {}
            size = skips[-1].shape[2:] if skips else None
            hidden = block(hidden, res_hidden_states_tuple=taken, upsample_size=size, **options, **cross)
        hidden = self.unet.conv_out(self.unet.conv_act(self.unet.conv_norm_out(hidden)))
        predicted: Tensor = hidden.reshape(*x.shape[:2], *hidden.shape[1:])
        return predicted


def _trunk(
    net: Any,
    x: Tensor,
    t: Tensor,
    context: Tensor,
    ids: Tensor,
    condition: Tensor | None,
    residuals: list[Tensor] | None = None,
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """Input to middle, after `UNetSpatioTemporalConditionModel.forward`; residuals join after every down block."""
    batch, frames = x.shape[:2]
    time = net.time_embedding(net.time_proj(t.expand(batch)).to(x.dtype))
    time = time + net.add_embedding(net.add_time_proj(ids.flatten()).reshape(batch, -1).to(x.dtype))
    options = {
        "temb": time.repeat_interleave(frames, dim=0),
        "image_only_indicator": torch.zeros(batch, frames, dtype=x.dtype, device=x.device),
    }
    context = context.repeat_interleave(frames, dim=0)
    hidden = net.conv_in(x.flatten(0, 1))
    if condition is not None:
        hidden = hidden + condition
    skips = [hidden]
    for block in net.down_blocks:
        cross = {"encoder_hidden_states": context} if hasattr(block, "attentions") else {}
        hidden, taken = block(hidden, **options, **cross)
        skips += taken
        if residuals is not None:  # zip: to all skips so far
            skips = [skip + residual for skip, residual in zip(skips, residuals, strict=False)]
    options["encoder_hidden_states"] = context
    return net.mid_block(hidden, **options), skips, options


def _stock(cls: Any, ours: Any, extra: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A stock network with our weights in the stock memory layout; the number of groups is our only setting."""
    known = inspect.signature(cls.__init__).parameters
    config = {key: value for key, value in ours.config.items() if key in known}
    with torch.device("meta"):
        net = cls(**{**config, **extra})
    state = {key: value.contiguous() for key, value in ours.state_dict().items()}
    missing = [key for key in net.state_dict() if key not in state]
    if not all(key.startswith(("up_blocks.", "conv_norm_out.", "conv_out.")) for key in missing):
        raise ValueError(f"{cls.__name__} wants {missing[0]}, which our network does not have")
    net.load_state_dict({k: v.to(dtype) for k, v in state.items()}, strict=False, assign=True)
    if missing:  # a ControlNet has no way up
        net.up_blocks, net.conv_norm_out, net.conv_out = nn.ModuleList(), None, None
    for module in net.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = ours.config.norm_num_groups
    return nn.Module.to(net.eval().requires_grad_(False), device)


def _contiguous(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()
    return module


def _guided(x: Tensor, halves: int) -> Tensor:
    return x if halves == 1 else torch.cat([torch.zeros_like(x), x])
