"""The bank of pictures that backgrounds and sprites are cut from: natural squares and procedural textures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from training.data.seeds import Draw, generator

FOLDER = Path(__file__).parent / "pictures"
HELD_OUT = ("brick", "camera", "coffee")  # the evaluation's, never trained on
SIDE = 320  # pixels of a square
Split = Literal["train", "held_out"]


@dataclass(frozen=True, eq=False)
class Bank:
    """Squares to cut from, float32 [N, 3, SIDE, SIDE] in 0..1; the first `natural` of them are photographs."""

    squares: Tensor
    natural: int


@cache
def load(split: Split, device: torch.device | str, textures: int = 64) -> Bank:
    """The photographs of a split, as one or two overlapping squares each, and `textures` procedural ones."""
    names = sorted(path.stem for path in FOLDER.glob("*.jpg"))
    if not names:
        raise FileNotFoundError(f"no pictures in {FOLDER}")
    chosen = [name for name in names if (name in HELD_OUT) == (split == "held_out")]
    squares = [square for name in chosen for square in _cut(Image.open(FOLDER / f"{name}.jpg").convert("RGB"))]
    natural = torch.stack(squares)
    draw = Draw(generator("cpu", 0, 1 if split == "held_out" else 0, 7))
    return Bank(torch.cat([natural, procedural(draw, textures)]).to(device), len(natural))


def procedural(draw: Draw, count: int) -> Tensor:
    """Cloud-like, striped, checkered and smooth textures in random colours, [count, 3, SIDE, SIDE]."""
    octaves = torch.zeros(count, 1, SIDE, SIDE)
    for cells in (3, 6, 12, 24, 48):
        noise = draw.uniform((count, 1, cells, cells), -1, 1)
        octaves += F.interpolate(noise, size=(SIDE, SIDE), mode="bicubic") * cells**-0.6
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    angle = draw.uniform((count, 1, 1, 1), 0, np.pi)
    waves = draw.uniform((count, 1, 1, 1), 4, 24) * 2 * np.pi
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    stripes = torch.sin(waves * along + octaves)
    checks = torch.sin(waves * along) * torch.sin(waves * across)
    kind = draw.choice((count, 1, 1, 1), (4, 2, 2, 2))
    smooth = F.interpolate(octaves, scale_factor=0.02, mode="area")
    smooth = F.interpolate(smooth, size=(SIDE, SIDE), mode="bicubic")
    value = torch.where(
        kind == 0, octaves, torch.where(kind == 1, stripes, torch.where(kind == 2, 4 * checks, smooth))
    )
    share = torch.sigmoid(3 * value)
    first, second = draw.uniform((2, count, 3, 1, 1))
    return torch.lerp(first, second, share).clamp(0, 1)


def _cut(picture: Image.Image) -> Sequence[Tensor]:
    width, height = picture.size
    side = min(width, height)
    starts = {(0, 0), (width - side, height - side)}
    squares = [
        picture.crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        for x, y in sorted(starts)
    ]
    return [torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255 for square in squares]
