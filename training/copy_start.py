"""A video UNet that starts by copying: what a still start shows at each place comes through an attention.

The attention is the one that `training.correspondence` teaches where things came from. Its first values begin as
the picture's latents, and what it brings is the picture's share of what `training.still_start` predicts, so that a
better look is a better video from the first step on. Norms on the way are held by large constants, as in
`training.linear_start`; behind the attention the constants are taken back. A channel that is 0 before a norm says
behind it what the norm has subtracted.
"""

from typing import Any

import torch
from torch import Tensor, nn

from training.config import ConfigError
from training.linear_start import hold
from training.still_start import places

SELF = 1.5  # times the usual scale of queries and keys
PILOT = 16.0  # the constants inside of the attention's block, in deviations of the values beside them


@torch.no_grad()
def install(unet: Any, controlnet: Any, coefficients: Tensor, example: tuple[Any, ...]) -> None:
    """Let the picture's share of a still start, coefficients [C, 2], go through the last block's first attention.

    Raises ConfigError where its norms' groups are too narrow.
    """
    latents, width, groups = len(coefficients), unet.config.block_out_channels[0], unet.conv_norm_out.num_groups
    copied, negative = places(latents, width, groups)
    each, room = -(-latents // groups), width // groups
    picture = [channel + 2 * each for channel in copied]
    constants = [g * room + room - i for g in range(groups) for i in (2, 1)]
    if set(picture) & set(constants):
        raise ConfigError(f"a copying start wants groups of {3 * each + 2} channels, not {room}")
    _enter(unet, controlnet, picture, {*copied, *negative}, latents)
    block = unet.up_blocks[-1]
    _carry(block.resnets[0], picture, [*copied, *constants], unet.conv_in.out_channels)
    attention = block.attentions[0]
    _silence(attention, copied)
    temporal = block.resnets[0].temporal_res_block.conv2
    share = 1 - float(torch.sigmoid(block.resnets[0].time_mixer.mix_factor))
    hold(attention.norm, temporal, share, lambda: unet(*example))
    empty = [copied[i // each * each] for i in range(latents)]  # one in each norm group
    _bring(attention, (picture, empty, copied, constants), lambda: unet(*example))
    attention.proj_out.bias[constants] = -share * temporal.bias[constants]
    _leave(unet, coefficients, copied)


def _enter(unet: Any, controlnet: Any, picture: list[int], noised: set[int], latents: int) -> None:
    """The first convolution and block hand the picture on, and the ControlNet adds nothing to it.

    The noised clip is in the channels that a still start gave it and nowhere else: at high levels it is noise
    alone, which makes everything harder to learn.
    """
    enter = unet.conv_in
    controlnet.conv_in.weight[:, :latents] = 0
    enter.weight[[row for row in range(enter.out_channels) if row not in noised], :latents] = 0
    enter.weight[picture] = 0
    enter.weight[picture, range(latents, 2 * latents), 1, 1] = 1
    enter.bias[picture] = 0
    first = unet.down_blocks[0]
    for conv in (
        first.resnets[0].spatial_res_block.conv2,
        first.resnets[0].temporal_res_block.conv2,
        *(attention.proj_out for attention in getattr(first, "attentions", [])),
        *controlnet.controlnet_down_blocks[:2],
    ):
        conv.weight[picture] = 0
        conv.bias[picture] = 0


def _carry(resnet: Any, picture: list[int], empty: list[int], skip: int) -> None:
    """The block before the attention: the picture from its skip, nothing in the channels that are wanted empty."""
    spatial, temporal = resnet.spatial_res_block, resnet.temporal_res_block
    shortcut = spatial.conv_shortcut
    for conv in (shortcut, spatial.conv2, temporal.conv2):
        conv.weight[[*picture, *empty]] = 0
        conv.bias[[*picture, *empty]] = 0
    start = shortcut.in_channels - skip
    for row in picture:
        shortcut.weight[row, start + row] = 1


def _silence(attention: Any, copied: list[int]) -> None:
    """Nothing but the attention itself writes what is copied."""
    spatial, temporal = attention.transformer_blocks[0], attention.temporal_transformer_blocks[0]
    layers = [attention.time_pos_embed.linear_2, spatial.attn2.to_out[0], spatial.ff.net[2]]
    layers += [temporal.ff_in.net[2], temporal.attn1.to_out[0], temporal.attn2.to_out[0], temporal.ff.net[2]]
    for layer in layers:
        layer.weight[copied] = 0
        if layer.bias is not None:
            layer.bias[copied] = 0


def _bring(attention: Any, channels: tuple[list[int], ...], run: Any) -> None:
    """Values that are the picture, exactly, and what is looked at written into the channels `copied`."""
    block = attention.transformer_blocks[0]
    look, norm, enter = block.attn1, block.norm1, attention.proj_in
    picture, empty, copied, constants = channels
    enter.weight[[*picture, *copied, *constants]] = 0
    enter.bias[[*picture, *copied, *constants]] = 0
    enter.weight[picture, picture] = 1
    enter.weight[picture, empty] = -1
    enter.weight[:, constants] = 0

    found: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _module, inputs: found.append(inputs[0]))
    try:
        run()
        level = PILOT * float(found[0].square().mean().sqrt())
        enter.bias[constants] = enter.bias.new_tensor([level, -level] * (len(constants) // 2))
        run()
    finally:
        handle.remove()
    norm.weight[:] = found[1].var(dim=-1, correction=0).sqrt().mean()
    norm.weight[constants] = 0
    nn.init.zeros_(norm.bias)

    look.to_q.weight *= SELF
    look.to_k.weight[:] = look.to_q.weight  # each cell is most like itself
    values, leave = look.to_v, look.to_out[0]
    values.weight[: len(picture)] = 0
    values.weight[range(len(picture)), picture] = 1
    values.weight[: len(picture), copied[0]] = -1
    leave.weight[[*copied, *constants]] = 0
    leave.bias[[*copied, *constants]] = 0
    leave.weight[copied, range(len(picture))] = 1
    leave.bias[constants] = -enter.bias[constants]
    attention.proj_out.weight[[*copied, *constants]] = 0
    attention.proj_out.bias[copied] = 0
    attention.proj_out.weight[copied, copied] = 1


def _leave(unet: Any, coefficients: Tensor, copied: list[int]) -> None:
    """The last block takes the picture's share from there, not from the first convolution."""
    latents, width, groups = len(coefficients), unet.config.block_out_channels[0], unet.conv_norm_out.num_groups
    shortcut = unet.up_blocks[-1].resnets[-1].spatial_res_block.conv_shortcut
    for rows, sign in zip(places(latents, width, groups), (1, -1), strict=True):
        unet.conv_in.weight[rows, range(latents, 2 * latents), 1, 1] = 0
        shortcut.weight[rows, copied, 0, 0] = sign * coefficients[:, 1]
