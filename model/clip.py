"""What the image encoder sees of the first frame.

Reference behaviour, kept because the published weights were used this way: no mean and deviation normalisation.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SIDE = 224


def embed_image(image_encoder: Any, pixels: Tensor) -> Tensor:
    """Projected CLIP embedding of a picture [1, 3, H, W] in 0..1: [1, 1, X]."""
    embeds: Tensor = image_encoder(shrink(pixels).to(image_encoder.dtype)).image_embeds
    return embeds[:, None]


def shrink(pixels: Tensor, side: int = SIDE) -> Tensor:
    """Antialiased resize of [1, C, H, W] to a square: Gaussian blur by the reduction, then bicubic, unclamped."""
    rows, columns = (_kernel(size / side, pixels) for size in pixels.shape[-2:])
    channels = pixels.shape[1]
    for kernel, shape in ((columns, (1, -1)), (rows, (-1, 1))):
        half = len(kernel) // 2
        padding = (half, half, 0, 0) if shape == (1, -1) else (0, 0, half, half)
        weight = kernel.view(1, 1, *shape).expand(channels, -1, -1, -1)
        pixels = F.conv2d(F.pad(pixels, padding, mode="reflect"), weight, groups=channels)
    return F.interpolate(pixels, size=(side, side), mode="bicubic", align_corners=True)


def _kernel(factor: float, like: Tensor) -> Tensor:
    """Gaussian, normalised: sigma (factor-1)/2, four sigmas wide, at least 3 and odd."""
    sigma = max((factor - 1) / 2, 0.001)
    width = int(max(4 * sigma, 3))
    width += width % 2 == 0
    x = torch.arange(width, device=like.device, dtype=like.dtype) - width // 2
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    return kernel / kernel.sum()
