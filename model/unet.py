"""The video UNet, and the trunk (input to mid block) that it shares with the ControlNet.

Both are Stable Video Diffusion's spatio-temporal UNet with its state-dict keys; only the forward pass is written
here, because this is where the control residuals enter.

B = guidance halves, F = frames, D = channels of the time embedding.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from model.blocks import Step, adopt, embed_time

CROSS_DOWN = "CrossAttnDownBlockSpatioTemporal"
CROSS_UP = "CrossAttnUpBlockSpatioTemporal"


class SingleTokenAttention:
    """Cross-attention to one token: softmax over one key is 1, so every query gets to_out(to_v(token))."""

    def __init__(self) -> None:
        self._general: Any = AttnProcessor2_0()  # type: ignore[no-untyped-call]

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """[N, L, C] attending to [N, T, X]; [N, 1, C], to be broadcast over the L queries, where T is 1."""
        if encoder_hidden_states is None or encoder_hidden_states.shape[1] != 1:
            output: Tensor = self._general(attn, hidden_states, encoder_hidden_states, **kwargs)
        else:
            output = attn.to_out[0](attn.to_v(encoder_hidden_states))
        return output


def specialize(net: nn.Module, norm_num_groups: int) -> None:
    """Set what the stock blocks hard-code: the groups of every GroupNorm, the attention to the image token.

    Residual blocks and transformers become those of `model.blocks`.
    """
    adopt(net)
    for name, module in net.named_modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = norm_num_groups
        elif isinstance(module, Attention) and name.endswith("attn2"):
            module.set_processor(SingleTokenAttention())  # type: ignore[arg-type]


@dataclass(frozen=True)
class Encoding:
    """What the trunk hands on: the mid block's output, the skips from `conv_in` on, the up blocks' inputs."""

    hidden: Tensor  # [B*F, C, h', w']
    skips: tuple[Tensor, ...]
    time: Tensor | Step  # [B*F, D]
    context: Tensor | Step  # [B*F, 1, X]
    indicator: Tensor  # [B, F], zeros: every item is a video


def encode(
    net: Any,
    sample: Tensor,  # [B, F, C, h, w]
    timestep: Tensor,  # [] or [B]
    context: Tensor,  # [B, 1, X]
    added_time_ids: Tensor,  # [B, 3]
    condition: Tensor | None = None,  # [F, C0, h, w], the same for every half
    step: Step | None = None,  # stands for timestep, context and ids, computed before
) -> Encoding:
    """Run `net`'s trunk; the condition joins behind `conv_in`, before the first skip is taken."""
    batch, frames = sample.shape[:2]
    time: Any = step
    seen: Any = step
    if step is None:
        time = embed_time(net, timestep.expand(batch), added_time_ids, sample.dtype)
        time, seen = (x.repeat_interleave(frames, dim=0) for x in (time, context))
    indicator = sample.new_zeros(batch, frames)

    x = net.conv_in(sample.flatten(0, 1))
    if condition is not None:
        x = (x.unflatten(0, (batch, frames)) + condition).flatten(0, 1)
    skips = (x,)
    for block in net.down_blocks:
        x, taken = block(x, time, image_only_indicator=indicator, **_cross(block, seen))
        skips += taken
    x = net.mid_block(x, time, encoder_hidden_states=seen, image_only_indicator=indicator)
    return Encoding(x, skips, time, seen, indicator)


def _cross(block: nn.Module, context: Tensor | Step) -> dict[str, Tensor | Step]:
    return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}


class UNet(UNetSpatioTemporalConditionModel):
    """SVD's UNet with control residuals. Keys and shapes are diffusers'; `norm_num_groups` is 32 there."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 8,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, "DownBlockSpatioTemporal"),
        up_block_types: tuple[str, ...] = ("UpBlockSpatioTemporal", CROSS_UP, CROSS_UP, CROSS_UP),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int = 2,
        cross_attention_dim: int = 1024,
        transformer_layers_per_block: int = 1,
        num_attention_heads: tuple[int, ...] = (5, 10, 20, 20),
        num_frames: int = 25,
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            addition_time_embed_dim=addition_time_embed_dim,
            projection_class_embeddings_input_dim=projection_class_embeddings_input_dim,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            transformer_layers_per_block=transformer_layers_per_block,
            num_attention_heads=num_attention_heads,
            num_frames=num_frames,
        )
        specialize(self, norm_num_groups)
        self.residual_repeats = residual_repeats(self.down_blocks)

    def forward(  # type: ignore[override,unused-ignore]
        self,
        sample: Tensor,  # [B, F, 2C, h, w]
        timestep: Tensor,
        context: Tensor,  # [B, 1, X]
        added_time_ids: Tensor,  # [B, 3]
        residuals: tuple[tuple[Tensor, ...], Tensor] | None = None,
        step: Step | None = None,
    ) -> Tensor:
        """Predict v, [B, F, C, h, w].

        `residuals` are the ControlNet's: one per skip, one for the mid block. `step`, of `blocks.prepare`, saves
        what the steps of a job have in common; without it everything is computed.
        """
        encoded = encode(self, sample, timestep, context, added_time_ids, step=step)
        x, skips = encoded.hidden, list(encoded.skips)
        if residuals is not None:
            down, mid = residuals
            x = x + mid
            for i, (skip, residual) in enumerate(zip(skips, down, strict=True)):
                skips[i] = torch.add(skip, residual, alpha=self.residual_repeats[i])
        block: Any
        for block in self.up_blocks:
            count = len(block.resnets)
            taken, skips = tuple(skips[-count:]), skips[:-count]
            cross = _cross(block, encoded.context)
            size = skips[-1].shape[2:] if skips else None
            x = block(x, taken, encoded.time, upsample_size=size, image_only_indicator=encoded.indicator, **cross)
        x = self.conv_out(self.conv_act(self.conv_norm_out(x)))
        predicted: Tensor = x.reshape(*sample.shape[:2], *x.shape[1:])
        return predicted


def residual_repeats(down_blocks: nn.ModuleList) -> tuple[int, ...]:
    """How often each skip receives its residual: 4,4,4,4, 3,3,3, 2,2,2, 1,1 for SVD.

    Reference behaviour: residuals are added to all skips collected so far after every down block, so one that
    belongs to block b is added (blocks - b) times. The released weights were trained with it.
    """
    blocks = len(down_blocks)
    repeats = [blocks]  # conv_in
    block: Any
    for b, block in enumerate(down_blocks):
        outputs = len(block.resnets) + (0 if block.downsamplers is None else 1)
        repeats += [blocks - b] * outputs
    return tuple(repeats)
