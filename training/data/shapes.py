"""Outlines of sprites: star-shaped, a radius by direction, so that masks are exact at any place and size."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.seeds import Draw

HARMONICS = 4  # of the outline, from the second on


@dataclass(frozen=True, eq=False)
class Outlines:
    """Superellipses, bent by harmonics; every field has a leading shape [...]."""

    radius: Tensor  # [...], pixels, in the first frame
    aspect: Tensor  # [...], width by height
    power: Tensor  # [...], 2 is an ellipse, 8 nearly a rectangle, 1 a rhombus
    bends: Tensor  # [..., HARMONICS] complex, amplitude and phase
    softness: Tensor  # [...], pixels from inside to outside


def draw_outlines(draw: Draw, radius: Tensor, stretch: float) -> Outlines:
    """Random outlines with the given mean radii [...], at most `stretch` times as long one way as the other."""
    shape = radius.shape
    amplitude = draw.uniform((*shape, HARMONICS), 0, 0.16) * draw.flag((*shape, 1), 0.6)
    phase = draw.uniform((*shape, HARMONICS), 0, 2 * torch.pi)
    return Outlines(
        radius=radius,
        aspect=torch.exp2(draw.uniform(shape, -1, 1) * math.log2(stretch)),
        power=torch.exp2(draw.uniform(shape, 0.2, 3)),
        bends=torch.polar(amplitude, phase),
        softness=draw.uniform(shape, 0.7, 2.5),
    )


def cover(outlines: Outlines, offset: Tensor, scale: Tensor, softer: float = 0.0) -> Tensor:
    """How much each pixel is covered, 0..1, of the shape of offset[..., 0].

    offset: [*shape, ..., 2], pixel centres relative to the sprite's centre, turned back and divided by its scale.
    scale: broadcastable to the result; the edge is `softness + softer` output pixels wide whatever the scale.
    """

    def lift(x: Tensor) -> Tensor:
        return x.reshape(*x.shape, *[1] * (offset.dim() - 1 - x.dim()))

    stretch = lift(outlines.aspect).sqrt()
    x, y = offset[..., 0] / stretch, offset[..., 1] * stretch
    distance = torch.hypot(x, y).clamp(min=1e-4)
    cosine, sine = x / distance, y / distance
    power = lift(outlines.power)
    edge = (cosine.abs() ** power + sine.abs() ** power) ** (-1 / power)
    real, imaginary = cosine, sine
    bend = torch.ones_like(edge)
    for k in range(HARMONICS):
        real, imaginary = real * cosine - imaginary * sine, real * sine + imaginary * cosine
        amplitude = outlines.bends[..., k]
        bend = bend + lift(amplitude.real) * real - lift(amplitude.imag) * imaginary
    inside = (lift(outlines.radius) * edge * bend - distance) * scale
    return (inside / (lift(outlines.softness) + softer) + 0.5).clamp(0, 1)
