"""An entity encoder whose features begin as colours: its last block passes the noised latents on, turned.

Entity vectors are means of features over an entity and over neighbouring channels (reference behaviour), and what
has opposite signs in two neighbours is lost in the second mean. A short training leaves next to no colour in
them. So each pair starts as sum and difference of two principal directions of the latents, and its mean is the
one that varies more: nothing is lost to the UNet, and what distinguishes entities best stays in their vectors.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@torch.no_grad()
def install(unet: Any, latents: Tensor) -> None:
    """Write the turn into the `UNet2DConditionModel`, fitted to latents [N, C, h, w], C even.

    Raises ValueError where the first block's channels are not as many as the latents'.
    """
    channels = latents.shape[1]
    if unet.config.block_out_channels[0] != channels:
        raise ValueError(f"a linear start wants {channels} channels in the first block, as in the latents")
    nn.init.zeros_(unet.conv_in.weight)
    nn.init.zeros_(unet.conv_in.bias)
    unet.conv_in.weight[range(channels), range(channels), 1, 1] = 1
    last = unet.up_blocks[-1].resnets[-1]
    for conv in (last.conv2, last.conv_shortcut):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    last.conv_shortcut.weight[:, -channels:, 0, 0] = pairs(directions(latents))  # the skip comes last


def directions(latents: Tensor) -> Tensor:
    """Principal directions [C, C] of latents [N, C, h, w], those of most variance first.

    Of means over 2 x 2 cells: an entity's colour, not its texture.
    """
    cells = F.avg_pool2d(latents.double(), 2).transpose(0, 1).flatten(1)
    axes: Tensor = torch.linalg.eigh(torch.cov(cells)).eigenvectors.T.flip(0).to(latents)
    return axes


def pairs(axes: Tensor) -> Tensor:
    """Sums and differences, row by row, of the first half of axes [C, C] and the second."""
    first, second = axes.chunk(2)
    return torch.stack([first + second, first - second], dim=1).flatten(0, 1)
