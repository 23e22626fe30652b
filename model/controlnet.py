"""The ControlNet: the video UNet's trunk, fed with where each entity is (heat) and what it is (its features)."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_3d_blocks import UNetMidBlockSpatioTemporal, get_down_block
from torch import Tensor, nn

from model.blocks import Step
from model.unet import CROSS_DOWN, encode, specialize

FRAMES_AT_ONCE = (
    4  # the embedding works at full resolution: 118 MB per frame and 160-channel map in float32 at 320x576
)


class ConditionEmbedding(nn.Module):
    """Two stacks of 3x3 convolutions (÷8), summed: one for the Gaussian heat maps, one for the entity discs.

    It depends on neither the timestep nor the guidance half, so a job needs it once.
    """

    def __init__(self, out: int, inputs: int, heat: tuple[int, ...], entity: tuple[int, ...]) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(inputs, heat[0], 3, padding=1)
        self.blocks = _stack(heat)
        self.conv_out = nn.Conv2d(heat[-1], out, 3, padding=1)
        self.blocks_feature = _stack(entity)
        self.conv_out_feature = nn.Conv2d(entity[-1], out, 3, padding=1)

    def forward(self, heat: Tensor, labels: Tensor, table: Tensor) -> Tensor:
        """Embed frames.

        heat: uint8 [F, H, W], used as 0..255 (reference behaviour). labels: uint8 [F, H, W], 0 = none,
        k = k-th entity. table: [E, C], row k-1 = features of entity k. Returns [F, C0, H/8, W/8].
        """
        parts = [slice(i, i + FRAMES_AT_ONCE) for i in range(0, len(heat), FRAMES_AT_ONCE)]
        return torch.cat([self._heat(heat[part]) + self._entities(labels[part], table) for part in parts])

    def _heat(self, heat: Tensor) -> Tensor:
        channels = self.conv_in.in_channels
        x = heat[:, None].to(self.conv_in.weight.dtype).expand(-1, channels, -1, -1)
        x = F.silu(self.conv_in(x))
        return _run(self.blocks, x, self.conv_out)

    def _entities(self, labels: Tensor, table: Tensor) -> Tensor:
        # The map of features is piecewise constant, so the first convolution acts on E indicator maps, with the
        # table folded into its weights: [F, C, H, W] is never made.
        first = cast("nn.Conv2d", self.blocks_feature[0])
        kinds = torch.arange(1, len(table) + 1, device=labels.device)
        indicators = (labels[:, None] == kinds[:, None, None]).to(first.weight.dtype)  # [F, E, H, W]
        weight = torch.einsum("oikl,ei->oekl", first.weight.float(), table.float()).to(first.weight.dtype)
        x = F.silu(F.conv2d(indicators, weight, first.bias, padding=1))
        return _run(self.blocks_feature[1:], x, self.conv_out_feature)


def _run(convs: Iterable[nn.Module], x: Tensor, last: nn.Module) -> Tensor:
    for conv in convs:
        x = F.silu(conv(x))
    output: Tensor = last(x)
    return output


def _stack(widths: tuple[int, ...]) -> nn.ModuleList:
    """Per step one convolution that keeps the width and one of stride 2 that leads to the next."""
    convs = []
    for here, after in pairwise(widths):
        convs += [nn.Conv2d(here, here, 3, padding=1), nn.Conv2d(here, after, 3, padding=1, stride=2)]
    return nn.ModuleList(convs)


class ControlNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """DragAnything's ControlNet, with the published checkpoint's keys, shapes and config.

    `num_attention_heads` has the reference class's own default, which is not SVD's: it matters for a config
    that leaves it out. `entity_embedding_channels` and `norm_num_groups` are not in the published config.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: int | None = None,  # noqa: ARG002 - this one and three more: only kept in the config
        in_channels: int = 8,
        out_channels: int = 4,  # noqa: ARG002
        down_block_types: tuple[str, ...] = (CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, "DownBlockSpatioTemporal"),
        up_block_types: tuple[str, ...] = (),  # noqa: ARG002
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int = 2,
        cross_attention_dim: int = 1024,
        transformer_layers_per_block: int = 1,
        num_attention_heads: tuple[int, ...] = (5, 10, 10, 20),
        num_frames: int = 25,  # noqa: ARG002
        conditioning_channels: int = 3,
        conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256),
        entity_embedding_channels: tuple[int, ...] = (160, 160, 256, 256),
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        first, last = block_out_channels[0], block_out_channels[-1]
        time = 4 * first
        self.conv_in = nn.Conv2d(in_channels, first, 3, padding=1)
        self.time_proj = Timesteps(first, True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, time)
        self.add_time_proj = Timesteps(addition_time_embed_dim, True, downscale_freq_shift=0)
        self.add_embedding = TimestepEmbedding(projection_class_embeddings_input_dim, time)
        self.controlnet_cond_embedding = ConditionEmbedding(
            first,
            conditioning_channels,
            tuple(conditioning_embedding_out_channels),
            tuple(entity_embedding_channels),
        )
        shared: dict[str, Any] = {
            "temb_channels": time,
            "cross_attention_dim": cross_attention_dim,
            "transformer_layers_per_block": transformer_layers_per_block,
        }
        self.down_blocks = nn.ModuleList()
        self.controlnet_down_blocks = nn.ModuleList([nn.Conv2d(first, first, 1)])
        width = first
        for i, kind in enumerate(down_block_types):
            downsamples = i + 1 < len(down_block_types)
            self.down_blocks.append(
                get_down_block(
                    kind,
                    num_layers=layers_per_block,
                    in_channels=width,
                    out_channels=block_out_channels[i],
                    add_downsample=downsamples,
                    num_attention_heads=num_attention_heads[i],
                    resnet_eps=1e-5,
                    resnet_act_fn="silu",
                    **shared,
                )
            )
            width = block_out_channels[i]
            outputs = layers_per_block + downsamples
            self.controlnet_down_blocks.extend(nn.Conv2d(width, width, 1) for _ in range(outputs))
        self.mid_block = UNetMidBlockSpatioTemporal(last, num_attention_heads=num_attention_heads[-1], **shared)
        self.controlnet_mid_block = nn.Conv2d(last, last, 1)
        specialize(self, norm_num_groups)
        for conv in (*self.controlnet_down_blocks, self.controlnet_mid_block):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(
        self,
        sample: Tensor,  # [B, F, 2C, h, w]
        timestep: Tensor,
        context: Tensor,  # [B, 1, X]
        added_time_ids: Tensor,  # [B, 3]
        condition: Tensor,  # [F, C0, h, w] of `controlnet_cond_embedding`
        scale: float = 1.0,
        step: Step | None = None,
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The residuals of the UNet's skips and of its mid block, times `scale`; `step` as in the UNet."""
        encoded = encode(self, sample, timestep, context, added_time_ids, condition, step)
        pairs = zip(self.controlnet_down_blocks, encoded.skips, strict=True)
        down, mid = tuple(conv(skip) for conv, skip in pairs), self.controlnet_mid_block(encoded.hidden)
        return (down, mid) if scale == 1 else (tuple(scale * residual for residual in down), scale * mid)
