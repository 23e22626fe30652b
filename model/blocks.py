"""The stock blocks of the video networks, computed with what a job leaves constant.

`adopt` turns a network's stock residual blocks and transformers into these. Given a `Step`, they compute the same
as the stock ones, with less work; without one (training) they are the stock ones. Weights, keys and shapes stay.

B = guidance halves, F = frames, N = B*F, S = steps, C = channels, L = h*w.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.resnet import AlphaBlender, SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import Tensor, nn

from model import linear

SMALL = 1024  # pixels; with fewer, PyTorch normalizes bfloat16 groups far more slowly channels last than it copies


@dataclass(frozen=True)
class Savings:
    """Which exact savings a step makes. All of them, unless a bench or a test wants to see one."""

    attention: bool = True  # cross-attention to the one image token: a vector per block and job
    blend: bool = True  # mixing space and time: one pass over memory instead of four
    layout: bool = True  # channels last; temporal convolutions as 2-D ones over (frames, pixels)
    halves: bool = True  # a feed-forward's values and gates apart: each is contiguous, and half as large
    fusion: bool = True  # linear layers with what follows them in one pass, on processors


@dataclass(frozen=True, eq=False)
class Step:
    """A step of a job as one network sees it: a row of what was computed when the job began."""

    batch: int
    frames: int
    context: Tensor  # [B, 1, X]
    biases: dict[nn.Module, tuple[Tensor, Tensor]]  # residual block: of its two first convolutions, [S, C] each
    crossed: dict[nn.Module, Tensor] = field(default_factory=dict)  # cross-attention: its output, [B, 1, 1, C]
    places: dict[nn.Module, Tensor] = field(default_factory=dict)  # transformer: embedded frame numbers, [F, 1, C]
    shares: dict[nn.Module, Tensor] = field(default_factory=dict)  # block: the weight of time in its mixture, [1]
    savings: Savings = Savings()
    index: int = 0

    def at(self, index: int) -> "Step":
        """Another step of the same job."""
        return replace(self, index=index)


def prepare(
    net: Any,
    timesteps: Tensor,  # [S]
    context: Tensor,  # [B, T, X]
    added_time_ids: Tensor,  # [1, 3], the same for every half
    frames: int,
    savings: Savings | None = None,
) -> Step:
    """Compute what a network needs to know of a job only once; the first of its steps."""
    savings = savings or Savings()
    step = Step(len(context), frames, context, {}, savings=savings)
    time = embed_time(net, timesteps, added_time_ids.expand(len(timesteps), -1), context.dtype)
    for module in net.modules():
        if isinstance(module, ResBlock | Transformer):
            step.shares[module] = temporal_share(module.time_mixer, context.dtype)
        if isinstance(module, ResBlock):
            step.biases[module] = module.first_biases(time)
        elif isinstance(module, Transformer):
            step.places[module] = module.embed_places(frames, time)
            if savings.attention and context.shape[1] == 1:
                for block in (*module.transformer_blocks, *module.temporal_transformer_blocks):
                    step.crossed[block.attn2] = block.attn2.to_out[0](block.attn2.to_v(context))[:, None]
    return step


def embed_time(net: Any, timesteps: Tensor, added_time_ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Embedding of timesteps [S] and time ids [S, 3]: [S, D]."""
    time = net.time_embedding(net.time_proj(timesteps).to(dtype))
    ids = net.add_time_proj(added_time_ids.flatten()).reshape(len(timesteps), -1)
    embedded: Tensor = time + net.add_embedding(ids.to(dtype))
    return embedded


def adopt(net: nn.Module) -> None:
    """Make the stock blocks of a network ours, in place."""
    for module in net.modules():
        for kind in (ResBlock, Transformer):
            if type(module) is kind.__base__:
                module.__class__ = kind


def lay_out(net: nn.Module) -> None:
    """Store the weights of convolutions channels last, as `Savings.layout` reads them; values stay."""
    for parameter in net.parameters():
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


class ResBlock(SpatioTemporalResBlock):
    """A spatial residual block followed by a temporal one, mixed."""

    def forward(
        self, hidden_states: Tensor, temb: Step | Tensor | None = None, image_only_indicator: Any = None
    ) -> Tensor:
        """[N, C, h, w] of both; the VAE's blocks know no time and get no step."""
        if isinstance(temb, Tensor) or (temb is None and torch.is_grad_enabled()):
            return super().forward(hidden_states, temb, image_only_indicator)
        frames = image_only_indicator.shape[-1]
        if temb is None:
            x = self._through_space(_channels_last(hidden_states), None)
            return self._through_time(x, None, temporal_share(self.time_mixer, x.dtype), frames, Savings())
        spatial, temporal = (bias[temb.index] for bias in temb.biases[self])
        x = _channels_last(hidden_states) if temb.savings.layout else hidden_states
        x = self._through_space(x, spatial)
        return self._through_time(x, temporal, temb.shares[self], frames, temb.savings)

    def first_biases(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Time embedding [S, D] as it is added behind the first convolutions, their own biases included."""
        time = F.silu(time)
        parts: tuple[Any, Any] = (self.spatial_res_block, self.temporal_res_block)
        spatial, temporal = (part.time_emb_proj(time) + part.conv1.bias for part in parts)
        return spatial, temporal

    def _through_space(self, x: Tensor, bias: Tensor | None) -> Tensor:
        block: Any = self.spatial_res_block
        h = _convolve(_activate(block.norm1, x), block.conv1, bias)
        h = _convolve(_activate(block.norm2, h), block.conv2)
        return h.add_(x if block.conv_shortcut is None else block.conv_shortcut(x))

    def _through_time(
        self, x: Tensor, bias: Tensor | None, share: Tensor, frames: int, savings: Savings
    ) -> Tensor:
        block = self.temporal_res_block
        if savings.layout:  # [B, C, F, h*w], channels last also where B is 1
            clips = x.permute(0, 2, 3, 1).reshape(-1, frames, x.shape[2:].numel(), x.shape[1]).permute(0, 3, 1, 2)
        else:
            clips = x.reshape(-1, frames, *x.shape[1:]).transpose(1, 2)  # [B, C, F, h, w]
        h = _convolve(_activate(block.norm1, clips), block.conv1, bias)
        h = _convolve(_activate(block.norm2, h), block.conv2)
        clips = torch.addcmul(clips, h, share) if savings.blend else _mix(clips, clips + h, share)
        return clips.transpose(1, 2).reshape(x.shape)


class Transformer(TransformerSpatioTemporalModel):
    """Spatial and temporal transformer blocks in turn, mixed."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Step | Tensor | None = None,
        image_only_indicator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """[N, C, h, w] in a tuple."""
        if not isinstance(encoder_hidden_states, Step):
            return super().forward(hidden_states, encoder_hidden_states, image_only_indicator, return_dict)
        step, x = encoder_hidden_states, hidden_states
        tokens = self.proj_in(self.norm(x).permute(0, 2, 3, 1).flatten(1, 2))  # [N, L, C]
        tokens = tokens.unflatten(0, (step.batch, step.frames))
        for spatial, temporal in zip(self.transformer_blocks, self.temporal_transformer_blocks, strict=True):
            tokens = _through_space(spatial, tokens, step)
            moved = _through_time(temporal, tokens + step.places[self], step)
            blend = torch.lerp if step.savings.blend else _mix
            tokens = blend(tokens, moved, step.shares[self])
        out = self.proj_out(tokens).reshape(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
        return (out.add_(x),)

    def embed_places(self, frames: int, like: Tensor) -> Tensor:
        """The embedded frame numbers, [F, 1, C]."""
        numbers = torch.arange(frames, device=like.device)
        embedded: Tensor = self.time_pos_embed(self.time_proj(numbers).to(like.dtype))
        return embedded[:, None]


def temporal_share(mixer: AlphaBlender, dtype: torch.dtype) -> Tensor:
    """The weight of time in a mixture, [1]; space has the rest."""
    factor: Any = mixer.mix_factor
    share = torch.sigmoid(factor).to(dtype)
    return share if mixer.switch_spatial_to_temporal_mix else 1 - share


def _mix(spatial: Tensor, temporal: Tensor, share: Tensor) -> Tensor:
    """The mixture as the stock block computes it."""
    return (1 - share) * spatial + share * temporal


def _through_space(block: Any, x: Tensor, step: Step) -> Tensor:
    """A transformer block over the pixels of each frame: [B, F, L, C]."""
    x = _leave(block.attn1.to_out[0], _attend_pixels(block.attn1, block.norm1(x), step.savings), x, step.savings)
    return _feed_forward(block.ff, block.norm3, _cross(block, x, step), step.savings)


def _through_time(block: Any, x: Tensor, step: Step) -> Tensor:
    """A transformer block over the frames of each pixel: [B, F, L, C]. Only attention looks at other frames."""
    x = _feed_forward(block.ff_in, block.norm_in, x, step.savings)
    x = _leave(block.attn1.to_out[0], _attend_frames(block.attn1, block.norm1(x), step.savings), x, step.savings)
    return _feed_forward(block.ff, block.norm3, _cross(block, x, step), step.savings)


def _cross(block: Any, x: Tensor, step: Step) -> Tensor:
    if (constant := step.crossed.get(block.attn2)) is not None:
        return x.add_(constant)
    queries = block.norm2(x).flatten(1, 2)  # all pixels and frames of a half see the same tokens
    crossed: Tensor = block.attn2(queries, encoder_hidden_states=step.context)
    return x.add_(crossed.expand_as(queries).reshape(x.shape))


def _attend_pixels(attention: Any, x: Tensor, savings: Savings) -> Tensor:
    """Self-attention over the pixels of each frame, [B, F, L, C], without its last layer."""
    parts = _project(attention, x, savings)
    q, k, v = (part.flatten(0, 1).transpose(1, 2) for part in parts)  # [N, heads, L, C/heads]
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)


def _attend_frames(attention: Any, x: Tensor, savings: Savings) -> Tensor:
    """Self-attention over the frames of each pixel, likewise; queries, keys and values are views."""
    halves = zip(*(part.permute(0, 2, 3, 1, 4) for part in _project(attention, x, savings)), strict=True)
    seen = torch.stack([F.scaled_dot_product_attention(*half) for half in halves])  # [B, L, heads, F, C/heads]
    return seen.permute(0, 3, 1, 2, 4).reshape(x.shape)


def _project(attention: Any, x: Tensor, savings: Savings) -> list[Tensor]:
    """Queries, keys and values, [B, F, L, heads, C/heads]."""
    layers = (attention.to_q, attention.to_k, attention.to_v)
    compute = linear.fused if savings.fusion else F.linear
    parts: list[Tensor] = [compute(x, layer.weight, layer.bias) for layer in layers]
    return [part.reshape(*x.shape[:-1], attention.heads, -1) for part in parts]


def _feed_forward(net: Any, norm: nn.Module, x: Tensor, savings: Savings) -> Tensor:
    enter, leave, seen = net.net[0].proj, net.net[2], norm(x)
    if not savings.halves:
        value, gate = enter(seen).chunk(2, dim=-1)
        gated = F.gelu(gate).mul_(value)
    else:
        (value_weight, gate_weight), (value_bias, gate_bias) = enter.weight.chunk(2), enter.bias.chunk(2)
        if savings.fusion:
            gate = linear.fused_gelu(seen, gate_weight, gate_bias)
            gated = linear.fused_times(seen, value_weight, value_bias, gate)
        else:
            gated = F.gelu(F.linear(seen, gate_weight, gate_bias)).mul_(F.linear(seen, value_weight, value_bias))
    return _leave(leave, gated, x, savings)


def _leave(layer: Any, x: Tensor, residual: Tensor, savings: Savings) -> Tensor:
    """The last layer of a residual branch, and the sum."""
    if savings.fusion:
        return linear.fused_plus(x, layer.weight, layer.bias, residual)
    out: Tensor = layer(x)
    return out.add_(residual)


def _activate(norm: nn.Module, x: Tensor) -> Tensor:
    slow = x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.shape[2:].numel() < SMALL
    if slow and x.is_contiguous(memory_format=torch.channels_last):
        return _channels_last(F.silu(norm(x.contiguous()), inplace=True))
    return F.silu(norm(x), inplace=True)


def _convolve(x: Tensor, conv: Any, bias: Tensor | None = None) -> Tensor:
    """A temporal convolution over [B, C, F, L] is a 2-D one; everything else is what it is."""
    bias = conv.bias if bias is None else bias
    if conv.weight.ndim == 5 and x.ndim == 4:
        return F.conv2d(x, conv.weight.squeeze(-1), bias, padding=(1, 0))
    convolve = F.conv3d if conv.weight.ndim == 5 else F.conv2d
    return convolve(x, conv.weight, bias, padding=conv.padding)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
