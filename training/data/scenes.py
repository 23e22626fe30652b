"""Synthetic scenes: a background and up to a few sprites with known motion, drawn in batches on any device.

B scenes, E sprites, F frames. A scene is only numbers; `render` turns it into frames and exact covers.
"""

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training.config import Synthetic
from training.data.bank import SIDE, Bank
from training.data.motion import KINDS, STATIC, ramp, walk
from training.data.seeds import Draw
from training.data.shapes import Outlines, cover, draw_outlines

Layers = TypeVar("Layers", "Cut", Outlines)

MARGIN = 0.12  # of the frame: sprites start this far inside, and most end there
SHADOW_BLUR = 6.0  # pixels


@dataclass(frozen=True, eq=False)
class Cut:
    """What is taken from the bank, with a leading shape [...]: rgb' = colour (rgb - 0.5) + 0.5 + tint."""

    index: Tensor  # [...] int64
    step: Tensor  # [...], pixels of the square per pixel of the layer
    angle: Tensor  # [...], radians
    middle: Tensor  # [..., 2], in -1..1
    colour: Tensor  # [..., 3, 3]
    tint: Tensor  # [..., 3]


@dataclass(frozen=True, eq=False)
class Scene:
    """All numbers of B scenes; positions in pixels of the output."""

    size: tuple[int, int]  # width, height
    backdrop: Cut  # [B]
    sprites: Cut  # [B, E]
    outlines: Outlines  # [B, E]
    present: Tensor  # bool [B, E]
    controlled: Tensor  # bool [B, 1 + E], the background first
    discs: Tensor  # bool [B, 1 + E]
    centres: Tensor  # [B, E, F, 2]
    angles: Tensor  # [B, E, F]
    scales: Tensor  # [B, E, F]
    anchors: (
        Tensor  # [B, E, 2], the point that a track follows, relative to the sprite's centre in the first frame
    )
    pan: Tensor  # [B, F, 2], of the background
    zoom: Tensor  # [B, F]
    shadows: Tensor  # [B, E], strength
    shadow_offsets: Tensor  # [B, E, 2]
    light: Tensor  # [B, F]

    def tracks(self) -> Tensor:
        """Where the anchors are, [B, E, F, 2]."""
        return self.centres + self.scales[..., None] * _turn(self.anchors[:, :, None], self.angles)

    def camera(self, points: Tensor) -> Tensor:
        """Where the background takes points [B, ..., 2] of the first frame: [B, ..., F, 2]."""
        return _project(points[..., None, :], self.pan, self.zoom, self.size)


def draw_scene(
    draw: Draw, bank: Bank, options: Synthetic, size: tuple[int, int], count: int, frames: int
) -> Scene:
    """Draw `count` scenes; everything comes from `draw`."""
    width, height = size
    sprites = (count, options.max_entities)
    extent = torch.tensor(size, device=draw.device, dtype=torch.float32)

    number = draw.choice((count, 1), options.entities) + 1
    present = torch.arange(options.max_entities, device=draw.device) < number
    steered = draw.flag(sprites, options.control_share)
    moving = draw.flag(sprites, options.moving_share)
    steered = torch.where(moving, steered, draw.flag(sprites, 0.5))  # a still one that nobody holds stays too
    steered[:, 0] |= moving[:, 0]

    fraction = options.smallest * (options.largest / options.smallest) ** draw.uniform(sprites) ** 1.3
    fraction = torch.where(number > 1, fraction.clamp(max=0.5 / number), fraction)
    outlines = draw_outlines(draw, (fraction * width * height / math.pi).sqrt(), options.stretch)
    start = draw.uniform((*sprites, 2), MARGIN, 1 - MARGIN) * extent
    direction, reach = draw.uniform(sprites, 0, 2 * math.pi), draw.uniform(sprites, 0.08, 0.8) * min(size)
    travel = reach[..., None] * torch.stack([direction.cos(), direction.sin()], dim=-1)
    inside = (start + travel).clamp(extent * MARGIN, extent * (1 - MARGIN)) - start
    travel = torch.where(draw.flag((*sprites, 1), options.leaving_share), travel, inside)
    kind = torch.where(moving & steered, draw.choice(sprites, KINDS), STATIC)
    centres = start[..., None, :] + walk(draw, sprites, frames, travel, kind)
    turns = (moving & steered)[..., None]
    angles = ramp(draw, sprites, frames, -0.35, 0.35, options.turning_share) * turns
    scales = torch.exp2(ramp(draw, sprites, frames, -0.5, 0.5, options.growing_share) * turns)

    camera = draw.choice((count,), options.camera)  # 0 still, 1 pan, 2 zoom, 3 the background alone moves
    heading = draw.uniform((count, 2), -0.35, 0.35) * extent * (camera % 2 == 1)[:, None]
    pan = walk(draw, (count,), frames, heading, draw.choice((count,), KINDS))
    zoom = torch.exp2(ramp(draw, (count,), frames, -0.35, 0.45, 1.0) * (camera == 2)[:, None])
    carried = (camera != 3)[:, None, None]
    follows = _project(centres, pan[:, None], zoom[:, None], size)
    centres = torch.where(carried[..., None], follows, centres)
    scales = scales * torch.where(carried, zoom[:, None], 1.0)

    held = draw.flag((count, 1), options.hold_share) | ((camera > 0)[:, None] & draw.flag((count, 1), 0.9))
    spread = draw.uniform((*sprites, 2), -1, 1) * options.anchor_jitter * outlines.radius[..., None]
    return Scene(
        size=size,
        backdrop=_draw_cut(draw, bank, (count,), options.natural_share),
        sprites=_draw_cut(draw, bank, sprites, options.natural_share),
        outlines=outlines,
        present=present,
        controlled=torch.cat([held, present & steered], dim=1),
        discs=~torch.cat([torch.zeros_like(held), draw.flag(sprites, options.point_share)], dim=1),
        centres=centres,
        angles=angles,
        scales=scales,
        anchors=spread,
        pan=pan,
        zoom=zoom,
        shadows=draw.uniform(sprites, 0.2, 0.6) * draw.flag(sprites, options.shadow_share),
        shadow_offsets=draw.uniform((*sprites, 2), -0.25, 0.25) * outlines.radius[..., None],
        light=1 + ramp(draw, (count,), frames, -0.25, 0.25, options.light_share),
    )


def render(scene: Scene, bank: Bank, *, skip: int | None = None) -> tuple[Tensor, Tensor]:
    """Frames, float32 [B, F, 3, H, W] in 0..1, and how much of each sprite is seen, [B, E, F, H, W] in 0..1.

    A later sprite covers an earlier one. `skip` leaves one sprite (and its shadow) out.
    """
    width, height = scene.size
    axes = [torch.arange(n, device=scene.pan.device, dtype=torch.float32) + 0.5 for n in (height, width)]
    y, x = torch.meshgrid(*axes, indexing="ij")
    pixels = torch.stack([x, y], dim=-1)  # [H, W, 2]
    middle = torch.tensor(scene.size, device=pixels.device) / 2

    world = (pixels - middle - scene.pan[:, :, None, None]) / scene.zoom[:, :, None, None, None]
    canvas = _sample(bank, scene.backdrop, world)  # [B, F, 3, H, W]
    seen: list[Tensor] = []
    for e in range(scene.present.shape[1]):
        scale = scene.scales[:, e, :, None, None]
        offset = pixels - scene.centres[:, e, :, None, None]
        local = _turn(offset, -scene.angles[:, e, :, None, None]) / scale[..., None]
        outline = _pick(scene.outlines, e)
        here = scene.present[:, e, None, None, None].float() * (e != skip)
        shifted = local - scene.shadow_offsets[:, e, None, None, None]
        shadow = cover(outline, shifted, scale, SHADOW_BLUR) * scene.shadows[:, e, None, None, None] * here
        alpha = cover(outline, local, scale) * here
        sprite = _sample(bank, _pick(scene.sprites, e), local)
        canvas = torch.lerp(canvas * (1 - shadow[:, :, None]), sprite, alpha[:, :, None])
        seen = [*(earlier * (1 - alpha) for earlier in seen), alpha]
    return (canvas * scene.light[:, :, None, None, None]).clamp(0, 1), torch.stack(seen, dim=1)


def _sample(bank: Bank, cut: Cut, local: Tensor) -> Tensor:
    """Colours at places [B, F, H, W, 2], in pixels from the layer's middle: [B, F, 3, H, W]."""
    batch, frames, height, width, _ = local.shape
    place = _turn(local, cut.angle[:, None, None, None]) * (cut.step[:, None, None, None, None] * 2 / SIDE)
    grid = (place + cut.middle[:, None, None, None]).reshape(batch, frames * height, width, 2)
    squares = torch.einsum("bij,bjhw->bihw", cut.colour, bank.squares[cut.index] - 0.5)
    squares = squares + 0.5 + cut.tint[..., None, None]
    sampled = F.grid_sample(squares, grid, padding_mode="reflection", align_corners=False)
    return sampled.reshape(batch, 3, frames, height, width).transpose(1, 2).clamp(0, 1)


def _draw_cut(draw: Draw, bank: Bank, shape: tuple[int, ...], natural_share: float) -> Cut:
    textures = len(bank.squares) - bank.natural
    photograph = draw.integer(shape, bank.natural)
    texture = bank.natural + draw.integer(shape, textures)
    hue = torch.where(draw.flag(shape, 0.75), 0.2 * draw.normal(shape), draw.uniform(shape, 0, 2 * math.pi))
    return Cut(
        index=torch.where(draw.flag(shape, natural_share), photograph, texture),
        step=draw.uniform(shape, 0.7, 1.5),
        angle=draw.normal(shape) * 0.3,
        middle=draw.uniform((*shape, 2), -0.5, 0.5),
        colour=_colour(draw, shape, hue),
        tint=draw.uniform((*shape, 3), -0.12, 0.12),
    )


def _colour(draw: Draw, shape: tuple[int, ...], hue: Tensor) -> Tensor:
    """Contrast, saturation, a turn of the hue; for some, brightness becomes a colour of its own: [..., 3, 3]."""
    grey = torch.full((3, 3), 1 / 3, device=draw.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=draw.device) / 3**0.5
    cosine, sine = hue.cos()[..., None, None], hue.sin()[..., None, None]
    turned = cosine * (torch.eye(3, device=draw.device) - grey) + sine * cross
    saturation, contrast = draw.uniform((*shape, 1, 1), 0.5, 1.3), draw.uniform((*shape, 1, 1), 0.6, 1.15)
    duotone = draw.uniform((*shape, 3, 1), -0.5, 0.5) * draw.flag((*shape, 1, 1), 0.25)
    return contrast * (grey + saturation * turned) + duotone * grey[:1]


def _turn(vectors: Tensor, angle: Tensor) -> Tensor:
    """Turn [..., 2] by angles [...] (clockwise on the screen, since y points down)."""
    x, y = vectors.unbind(-1)
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([x * cosine - y * sine, x * sine + y * cosine], dim=-1)


def _project(points: Tensor, pan: Tensor, zoom: Tensor, size: tuple[int, int]) -> Tensor:
    middle = torch.tensor(size, device=points.device) / 2
    return (points - middle) * zoom[..., None] + middle + pan


def _pick(layers: Layers, e: int) -> Layers:
    return type(layers)(**{name: value[:, e] for name, value in vars(layers).items()})
