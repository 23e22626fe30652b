"""Where entities and the camera go: paths in pixels, [..., F, 2], float32."""

import math

import torch
from torch import Tensor

from training.data.seeds import Draw

STATIC, STRAIGHT, EASED, CURVED, WANDERING, BOUNCING = range(6)
KINDS = (0.0, 3.0, 3.0, 3.0, 1.5, 1.0)  # how often a moving entity does what; static is decided elsewhere


def walk(draw: Draw, shape: tuple[int, ...], frames: int, travel: Tensor, kind: Tensor) -> Tensor:
    """Displacements from the first frame on, [*shape, F, 2]; zero in the first frame.

    travel: [*shape, 2], where a straight path ends, in pixels. kind: int64 [*shape], one of the constants above.
    """
    time = torch.linspace(0, 1, frames, device=draw.device)
    power = torch.exp2(draw.uniform((*shape, 1), -1.2, 1.2))
    slow_ends = time**2 * (3 - 2 * time)
    eased = torch.where(draw.flag((*shape, 1), 0.5), time**power, slow_ends)
    bounced = 1 - (1 - 2 * time).abs()
    kind = kind[..., None]
    progress = torch.where(kind == EASED, eased, torch.where(kind == BOUNCING, bounced, time))
    normal = torch.stack([-travel[..., 1], travel[..., 0]], dim=-1)
    bulge = draw.uniform((*shape, 1), -0.6, 0.6) * torch.sin(math.pi * time)
    bulge = torch.where(kind == CURVED, bulge, 0.0)
    waves = torch.arange(1, 4, device=draw.device)
    swing = draw.normal((*shape, 1, 3, 2)) / waves[:, None]
    wander = (torch.sin(math.pi * waves * time[:, None])[..., None] * swing).sum(dim=-2)  # [*shape, F, 2]
    wander = wander * 0.25 * travel.norm(dim=-1)[..., None, None]
    path = progress[..., None] * travel[..., None, :] + bulge[..., None] * normal[..., None, :]
    path = path + torch.where(kind[..., None] == WANDERING, wander, 0.0)
    return torch.where(kind[..., None] == STATIC, 0.0, path)


def ramp(draw: Draw, shape: tuple[int, ...], frames: int, low: float, high: float, share: float) -> Tensor:
    """Values that start at 0 and end anywhere in [low, high), [*shape, F]; all zero except for `share` of them."""
    time = torch.linspace(0, 1, frames, device=draw.device)
    end = draw.uniform(shape, low, high)
    return torch.where(draw.flag(shape, share), end, 0.0)[..., None] * time
