"""A video UNet that starts as a still picture: its first prediction is linear in the noised clip and the picture.

The best such prediction, one pair of numbers per latent channel, is found by least squares and written into the
first convolution. The skip from there to the last block, the last norm and SiLU pass it on to the output as
`training.linear_start` does it in the VAE: every value with both signs, beside large constants.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from training.config import ConfigError
from training.linear_start import hold


def fit(examples: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Coefficients [C, 2] of inputs [B, F, 2C, h, w] (noised clip, picture) for targets [B, F, C, h, w]."""
    gram: Any = 0
    moment: Any = 0
    for inputs, target in examples:
        given = torch.stack(inputs.double().chunk(2, dim=2))  # [2, B, F, C, h, w]
        gram = gram + torch.einsum("ibfchw,jbfchw->cij", given, given)
        moment = moment + torch.einsum("ibfchw,bfchw->ci", given, target.double())
    found: Tensor = torch.linalg.solve(gram, moment).float()
    return found


@torch.no_grad()
def install(unet: Any, controlnet: Any, coefficients: Tensor, example: tuple[Any, ...]) -> None:
    """Write coefficients [C, 2] into a UNet; `example` are arguments that it can be called with.

    Raises ConfigError where its last norm's groups are too narrow.
    """
    latents, width, groups = len(coefficients), unet.config.block_out_channels[0], unet.conv_norm_out.num_groups
    plus, minus = places(latents, width, groups)
    for rows, sign in ((plus, 1), (minus, -1)):
        unet.conv_in.weight[rows] = 0
        unet.conv_in.weight[rows, range(latents), 1, 1] = sign * coefficients[:, 0]
        unet.conv_in.weight[rows, range(latents, 2 * latents), 1, 1] = sign * coefficients[:, 1]
        unet.conv_in.bias[rows] = 0
    constant = [
        g * (width // groups) + i for g in range(groups) for i in (width // groups - 2, width // groups - 1)
    ]
    last = unet.up_blocks[-1].resnets[-1]
    shortcut, kept = last.spatial_res_block.conv_shortcut, [*plus, *minus, *constant]
    shortcut.weight[kept] = 0
    shortcut.bias[kept] = 0
    skip = shortcut.in_channels - width  # where the skip from the first convolution begins
    for row in (*plus, *minus):
        shortcut.weight[row, skip + row] = 1
    attentions = [block.proj_out for block in getattr(unet.up_blocks[-1], "attentions", [])[-1:]]
    for conv in (last.spatial_res_block.conv2, last.temporal_res_block.conv2, unet.conv_out, *attentions):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    unet.conv_out.weight[range(latents), plus, 1, 1] = 1
    unet.conv_out.weight[range(latents), minus, 1, 1] = -1
    guide = controlnet.controlnet_down_blocks[0]
    guide.weight[[*plus, *minus]] = 0
    share = 1 - float(torch.sigmoid(last.time_mixer.mix_factor))
    hold(unet.conv_norm_out, last.temporal_res_block.conv2, share, lambda: unet(*example))


def places(latents: int, width: int, groups: int) -> tuple[list[int], list[int]]:
    """Channels for values and their negatives, evenly over the groups: a group's mean stays 0."""
    each, room = -(-latents // groups), width // groups
    if 2 * each + 2 > room:
        raise ConfigError(f"a still start wants groups of {2 * each + 2} channels, not {room}")
    plus = [(i // each) * room + i % each for i in range(latents)]
    return plus, [channel + each for channel in plus]
