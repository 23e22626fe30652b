"""Where a moved entity came from, taught to one attention layer directly: this trainer's own addition.

The UNet can paint an entity at a new place once one of its attentions looks, from there, at the place in the
picture that the entity had. By the pixels' error alone it finds that out late: the look is worth nothing until
what it brings is used, and the other way round. Tracks and masks say where to look, so the attention's entropy
against that answer is a loss of its own.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training.data.clips import Clips

CELL = 8  # pixels of a latent cell
INSIDE = 0.5  # share of a cell that belongs to the entity


class Look:
    """Queries and keys of the first spatial self-attention in a UNet's last block, as each call leaves them."""

    def __init__(self, unet: Any) -> None:
        attention = unet.up_blocks[-1].attentions[0].transformer_blocks[0].attn1
        self.heads = attention.heads
        self.queries, self.keys = torch.empty(0), torch.empty(0)
        attention.to_q.register_forward_hook(lambda _module, _inputs, output: setattr(self, "queries", output))
        attention.to_k.register_forward_hook(lambda _module, _inputs, output: setattr(self, "keys", output))

    def loss(self, origins: Tensor) -> Tensor:
        """Cross-entropy of the first head against origins [B, F, N, N], over the cells that have one."""
        width = self.queries.shape[-1] // self.heads
        queries, keys = self.queries[..., :width].float(), self.keys[..., :width].float()
        logits = queries @ keys.transpose(1, 2) * width**-0.5
        wanted = origins.flatten(0, 1)
        entropy: Tensor = -(wanted * logits.log_softmax(dim=-1)).sum(dim=-1)
        known: Tensor = (wanted.sum(dim=-1) > 0).sum()
        return entropy.sum() / known.clamp(min=1)


@torch.no_grad()
def origins(clips: Clips) -> Tensor:
    """For each latent cell of each frame, the cells of the first frame whose content belongs there.

    float32 [B, F, N, N], N = h * w: bilinear weights that sum to 1 where a controlled entity or the background is,
    and all 0 where another entity is, what it uncovers, or what came from outside of the picture.
    """
    count, _, height, width = clips.masks.shape
    h, w = height // CELL, width // CELL
    shares = F.avg_pool2d(clips.masks.float(), CELL)  # [B, 1 + E, h, w]
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    cells = torch.stack([x, y], dim=-1).to(shares).flatten(0, 1)  # [N, 2]
    points = clips.points / CELL - 0.5  # in cells
    frames = points.shape[2]
    found = shares.new_full((count, frames, h * w, 2), -1.0)
    for k in range(points.shape[1]):  # from the background to the front
        growth = (clips.scales[:, k] / clips.scales[:, k, :1])[:, :, None, None]
        start = points[:, k, :1, None] + (cells - points[:, k, :, None]) / growth  # [B, F, N, 2]
        inside = _sample(shares[:, k], start) >= INSIDE
        known = clips.controlled[:, k] | (k == 0)
        found = torch.where(inside[..., None], torch.where(known[:, None, None, None], start, -1.0), found)
    return _bilinear(found, h, w)


def _sample(shares: Tensor, places: Tensor) -> Tensor:
    """Values of maps [B, h, w] at places [B, F, N, 2], in cells; 0 outside."""
    size = torch.tensor([shares.shape[2], shares.shape[1]]).to(places)
    grid = (places + 0.5) / size * 2 - 1
    return F.grid_sample(shares[:, None], grid, align_corners=False)[:, 0]


def _bilinear(places: Tensor, h: int, w: int) -> Tensor:
    """Weights over N = h * w cells of places [B, F, N, 2]; all 0 for places outside."""
    corner, part = places.floor(), places - places.floor()
    total = places.new_zeros((*places.shape[:3], h * w))
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = (corner[..., 0] + dx).long(), (corner[..., 1] + dy).long()
            weight = (part[..., 0] - (1 - dx)).abs() * (part[..., 1] - (1 - dy)).abs()
            weight = torch.where((x >= 0) & (x < w) & (y >= 0) & (y < h), weight, 0.0)
            cell = y.clamp(0, h - 1) * w + x.clamp(0, w - 1)
            total.scatter_add_(3, cell[..., None], weight[..., None])
    outside = (places < 0).any(dim=-1, keepdim=True)
    total = torch.where(outside, 0.0, total)
    return total / total.sum(dim=-1, keepdim=True).clamp(min=1e-6)
