"""Where a moved entity came from, taught to one attention layer directly: this trainer's own addition.

The UNet can paint an entity at a new place once one of its attentions looks, from there, at the place in the
picture that the entity had. By the pixels' error alone it finds that out late: the look is worth nothing until
what it brings is used, and the other way round. Tracks and masks say where to look, so the attention's entropy
against that answer is a loss of its own. `training.copy_start` lets the rest begin with using what it brings.

B = clips, K = entities, the background first, F = frames, N = h * w latent cells.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.data.clips import Clips

CELL = 8  # pixels of a latent cell
INSIDE = 0.5  # share of a cell that belongs to the entity
MOVED = 0.7  # cells: what came from less far counts as background, which is easily taught
SMALL = 6.0  # cells: from here up, all entities weigh about the same, however large
EASY = 0.4  # weight of the background, and of what is uncovered, beside the entities'
REACH = 1.5  # per cell: how quickly cells that may fill a gap count less with their distance from it
WHOLE = 0.99  # share of a cell, from which on the background can fill a gap with it
FAR = 1000.0  # cells: where all others are put
SPAN = 6.0  # cells that a channel's 1 stands for
NONE, GROUND, GAP, ENTITY = range(4)  # kinds of cells
NAMES = {GROUND: "ground", GAP: "gap", ENTITY: "entity"}


@dataclass(frozen=True, eq=False)
class Origins:
    """For each latent cell of each frame, the cells of the first frame whose content belongs there."""

    places: Tensor  # float32 [B, F, N, N], weights that sum to 1, or all 0 where nobody knows
    kinds: Tensor  # int64 [B, F, N]
    owners: Tensor  # int64 [B, F, N], the entity that is seen there


class Look:
    """Queries and keys of the first spatial self-attention in a UNet's last block, as each call leaves them."""

    def __init__(self, unet: Any) -> None:
        attention = unet.up_blocks[-1].attentions[0].transformer_blocks[0].attn1
        self.heads = attention.heads
        self.queries, self.keys = torch.empty(0), torch.empty(0)
        attention.to_q.register_forward_hook(lambda _module, _inputs, output: setattr(self, "queries", output))
        attention.to_k.register_forward_hook(lambda _module, _inputs, output: setattr(self, "keys", output))

    def loss(self, origins: Origins) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of the first head against the origins, in nats, weighted by `weights`.

        With it, by kind of cell, how far the look is from the best one: the mean divergence, in nats.
        """
        width = self.queries.shape[-1] // self.heads
        queries, keys = self.queries[..., :width].float(), self.keys[..., :width].float()
        logits = queries @ keys.transpose(1, 2) * width**-0.5
        wanted, kinds = origins.places.flatten(0, 1), origins.kinds.flatten(0, 1)
        entropy = -(wanted * logits.log_softmax(dim=-1)).sum(dim=-1)
        least = torch.special.entr(wanted).sum(dim=-1)
        apart = (entropy - least).detach()
        found = {f"look_{name}": _mean(apart, kinds == kind) for kind, name in NAMES.items()}
        return (entropy * weights(origins).flatten(0, 1)).sum(), found


class Places:
    """Where each cell is and how far its content has come, as channels of the coarser blocks say it.

    Nothing tells the networks positions but the zeros that convolutions pad with; by the look alone they learn
    them late. The first four channels of both middle blocks, and of what the last block gets, are taught to.
    """

    def __init__(self, unet: Any, controlnet: Any) -> None:
        self.said: dict[nn.Module, Tensor] = {}
        for block in (controlnet.mid_block, unet.mid_block, unet.up_blocks[-2]):
            block.register_forward_hook(lambda module, _inputs, output: self.said.update({module: output}))

    def loss(self, origins: Origins, size: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean distances in cells, of places and of displacements, summed over blocks; `size` is (w, h) in cells.

        With it, those of the last block.
        """
        cells = grid(size).to(origins.places)
        shift = cells - origins.places @ cells
        known, moved = ((part[..., None]).float() for part in (origins.kinds != NONE, origins.kinds == ENTITY))
        middle = cells.mean(dim=0)
        wanted = [_pool(part, size) for part in ((cells - middle).expand(1, 1, -1, -1), shift * known)]
        known, moved = _pool(known, size), _pool(moved, size)
        way = wanted[1] / known.clamp(min=1e-3)
        total = shift.new_zeros(())
        for output in self.said.values():
            said = SPAN * F.interpolate(output[:, :4].float(), way.shape[2:])
            place = (said[:, :2] - wanted[0]).norm(dim=1).mean()
            apart = (said[:, 2:] - way).norm(dim=1, keepdim=True)
            moving, still = _mean(apart, moved > INSIDE), _mean(apart, (moved == 0) & (known > INSIDE))
            total = total + place + 2 * (moving + still)
        return total, {"place": place.detach(), "shift": moving.detach()}


def grid(size: tuple[int, int]) -> Tensor:
    """Positions (x, y) of (w, h) cells, row by row: [N, 2]."""
    x, y = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="xy")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def _pool(values: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, F, N, C] as [B F, C, h/2, w/2], means over 2 x 2 cells."""
    cells = values.flatten(0, 1).transpose(1, 2)
    return F.avg_pool2d(cells.reshape(*cells.shape[:2], size[1], size[0]), 2)


def weights(origins: Origins) -> Tensor:
    """What each cell counts, [B, F, N]: all entities' together 1, the background's and the gaps' `EASY` each."""
    entity = origins.kinds == ENTITY
    owners = origins.owners.flatten(1)
    cells = torch.zeros_like(owners).scatter_add_(1, owners, entity.flatten(1).long())  # [B, N F], K are used
    size = cells.gather(1, owners).reshape(entity.shape)
    total = _normalised(entity / (size + SMALL))
    for kind in (GROUND, GAP):
        total = total + EASY * _normalised((origins.kinds == kind).float())
    return total


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)


def _normalised(weight: Tensor) -> Tensor:
    return weight / weight.sum().clamp(min=1e-6)


@torch.no_grad()
def find_origins(clips: Clips) -> Origins:
    """Trace every cell back: controlled entities and the background, by their tracks, bilinearly.

    What an entity uncovers comes from the background nearby. Nothing is known where an entity is seen that nobody
    controls, and of what was outside of the picture.
    """
    height, width = clips.masks.shape[2:]
    shares = F.avg_pool2d(clips.masks.float(), CELL)  # [B, K, h, w]
    cells = grid((width // CELL, height // CELL)).to(shares)
    ground = found = _starts(clips, 0, cells)
    kinds = torch.where(_sample(shares[:, 0], ground) >= INSIDE, GROUND, GAP)
    owners = torch.zeros_like(kinds)
    for k in range(1, shares.shape[1]):  # from the back to the front
        start = _starts(clips, k, cells)
        inside = _sample(shares[:, k], start) >= INSIDE
        found = torch.where(inside[..., None], start, found)
        kinds = torch.where(inside, torch.where(clips.controlled[:, k], ENTITY, NONE)[:, None, None], kinds)
        owners = torch.where(inside, k, owners)
    kinds = torch.where((found < 0).any(dim=-1) | (found > cells.amax(dim=0)).any(dim=-1), NONE, kinds)
    kinds = torch.where((kinds == ENTITY) & ((found - cells).norm(dim=-1) < MOVED), GROUND, kinds)
    gap = (kinds == GAP)[..., None]
    places = torch.where(gap, _near(shares[:, 0], ground, cells), _bilinear(found, *shares.shape[2:]))
    return Origins(places * (kinds != NONE)[..., None], kinds, owners)


def _starts(clips: Clips, k: int, cells: Tensor) -> Tensor:
    """Where in the first frame what each cell shows was, if it belongs to entity k: [B, F, N, 2], in cells."""
    points = clips.points[:, k] / CELL - 0.5  # [B, F, 2]
    growth = (clips.scales[:, k] / clips.scales[:, k, :1])[:, :, None, None]
    return points[:, :1, None] + (cells - points[:, :, None]) / growth


def _sample(shares: Tensor, places: Tensor) -> Tensor:
    """Values of maps [B, h, w] at places [B, F, N, 2], in cells; 0 outside."""
    size = torch.tensor([shares.shape[2], shares.shape[1]]).to(places)
    grid = (places + 0.5) / size * 2 - 1
    return F.grid_sample(shares[:, None], grid, align_corners=False)[:, 0]


def _bilinear(places: Tensor, h: int, w: int) -> Tensor:
    """Weights over N = h * w cells of places [B, F, N, 2] inside of the picture."""
    corner, part = places.floor(), places - places.floor()
    total = places.new_zeros((*places.shape[:3], h * w))
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = (corner[..., 0] + dx).long().clamp(0, w - 1), (corner[..., 1] + dy).long().clamp(0, h - 1)
            weight = (part[..., 0] - (1 - dx)).abs() * (part[..., 1] - (1 - dy)).abs()
            total.scatter_add_(3, (y * w + x)[..., None], weight[..., None])
    return total


def _near(ground: Tensor, places: Tensor, cells: Tensor) -> Tensor:
    """Weights over the cells of the background, [B, h, w], around places [B, F, N, 2]: the nearest count most."""
    distance = torch.cdist(places, cells.expand(len(places), 1, -1, -1))
    covered = (ground.flatten(1) < WHOLE)[:, None, None]
    return torch.softmax(-REACH * distance - FAR * covered, dim=-1)
