"""The control signal of a batch of clips: the one that inference builds, from the same measures.

On the CPU `model.painting` paints it; on another device `Painter` does, with tables made by the same OpenCV calls.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from model.conditioning import CELL, MAX_SIDE
from model.painting import paint, template
from training.data.clips import Clips
from training.data.masks import measure_all

_ROOM = 16  # sides that a larger table is made for at once
_SHORTEST_BOX = 3  # boxes of this many pixels or fewer hold no Gaussian


@dataclass(frozen=True, eq=False)
class Signal:
    """What the networks see of where the entities go."""

    heat: Tensor  # uint8 [B, F, H, W]
    labels: Tensor  # uint8 [B, F, H, W], 0 none, k + 1 the entity in row k
    latent_masks: Tensor  # bool [B, K, H/8, W/8]


def build(clips: Clips) -> Signal:
    """Measure the masks of the first frame and paint their discs along the tracks."""
    width, height = clips.size
    device = clips.frames.device
    wanted = clips.controlled.cpu().nonzero().tolist()
    masks = clips.masks.cpu().numpy()
    shapes = measure_all([masks[b, k] for b, k in wanted], clips.size)
    radii = torch.zeros(clips.controlled.shape, dtype=torch.float64)
    latent = torch.zeros(*clips.controlled.shape, height // CELL, width // CELL, dtype=torch.bool)
    for (b, k), shape in zip(wanted, shapes, strict=True):
        radii[b, k] = shape.side
        latent[b, k] = torch.from_numpy(shape.latent).bool()

    sides = (radii[..., None] * clips.scales.cpu().double()).trunc()
    sides = torch.minimum(
        torch.maximum(sides, radii[..., None].clamp(max=1)), torch.tensor(float(max(clips.size)))
    )
    points = clips.points.double().trunc().long()
    visible = clips.visible & clips.controlled[..., None]
    if device.type == "cpu":
        heat, labels = _paint_on_cpu(points, sides.int(), clips.size, visible, clips.discs)
    else:
        painter = _painter(device, -(-max(int(sides.max()), MAX_SIDE) // _ROOM) * _ROOM)
        heat, labels = painter.paint(points, sides.long().to(device), clips.size, visible, clips.discs)
    return Signal(heat, labels, latent.to(device))


def _paint_on_cpu(
    points: Tensor, sides: Tensor, size: tuple[int, int], visible: Tensor, discs: Tensor
) -> tuple[Tensor, Tensor]:
    painted = [
        paint(p.int().numpy(), s.numpy(), size, visible=v.numpy(), discs=d.tolist())
        for p, s, v, d in zip(points, sides, visible, discs, strict=True)
    ]
    heat, labels = (torch.from_numpy(np.stack(maps)) for maps in zip(*painted, strict=True))
    return heat, labels


@lru_cache(maxsize=2)
def _painter(device: torch.device, largest: int) -> "Painter":
    return Painter(device, largest)


class Painter:
    """`model.painting.paint` for batches and whole pixels: the same OpenCV results, looked up on the device."""

    def __init__(self, device: torch.device, largest: int) -> None:
        """`largest` is the largest side; the table of stamps takes about 4 side^4 bytes (27 MB for 50)."""
        lengths = range(_SHORTEST_BOX + 1, 2 * largest + 1)
        self.largest = largest
        self.starts = torch.zeros(2 * largest + 1, 2 * largest + 1, dtype=torch.int64)  # [width, height]
        stamps, start = [], 0
        for width in lengths:
            for height in lengths:
                stamps.append(cv2.resize(template(), (width, height), interpolation=cv2.INTER_LINEAR).ravel())
                self.starts[width, height] = start
                start += width * height
        self.starts = self.starts.to(device)
        self.stamps = torch.from_numpy(np.concatenate(stamps).astype(np.uint8)).to(device)
        self.half = torch.from_numpy(_half_widths(largest)).to(device)

    def paint(
        self, points: Tensor, sides: Tensor, size: tuple[int, int], visible: Tensor, discs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Heat and labels, uint8 [B, F, H, W], of int64 points [B, K, F, 2] and sides [B, K, F]."""
        width, height = size
        batch, entities, frames = sides.shape
        heat = torch.zeros(batch, frames, height, width, dtype=torch.uint8, device=sides.device)
        labels = torch.zeros_like(heat)
        x = torch.arange(width, device=sides.device)
        y = torch.arange(height, device=sides.device)[:, None]
        for k in range(entities):
            side, shown = sides[:, k, :, None, None], visible[:, k, :, None, None]
            cx, cy = points[:, k, :, 0, None, None], points[:, k, :, 1, None, None]
            x0, x1 = (cx - side).clamp(min=0), (cx + side).clamp(max=width - 1)
            y0, y1 = (cy - side).clamp(min=0), (cy + side).clamp(max=height - 1)
            wide, high = x1 - x0, y1 - y0
            large = shown & (wide > _SHORTEST_BOX) & (high > _SHORTEST_BOX)
            inside = large & (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
            start = self.starts[wide.clamp(0, 2 * self.largest), high.clamp(0, 2 * self.largest)]
            place = torch.where(inside, start + (y - y0) * wide + (x - x0), 0)
            heat = torch.where(inside, self.stamps[place], heat)
            dx, dy = (x - cx).abs(), (y - cy).abs()
            near = shown & discs[:, k, None, None, None] & (dy <= side)
            reach = self.half[side.expand_as(dy), dy.clamp(max=self.largest)]
            labels = torch.where(near & (dx <= reach), torch.full_like(labels, k + 1), labels)
        return heat, labels


def _half_widths(largest: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Per radius and distance from the centre's row, how far OpenCV's filled circle reaches; -1 beyond it."""
    reach = np.full((largest + 1, largest + 1), -1, np.int64)
    for radius in range(largest + 1):
        disc = np.zeros((2 * radius + 3, 2 * radius + 3), np.uint8)
        cv2.circle(disc, (radius + 1, radius + 1), radius, 1, -1)
        reach[radius, : radius + 1] = (
            disc[radius + 1 : 2 * radius + 2, radius + 1 :].sum(axis=1, dtype=np.int64) - 1
        )
    return reach
