"""The objective of Stable Video Diffusion: EDM preconditioning, v-prediction, and the paper's loss mask.

B = clips, F = frames, C = latent channels. A noised latent is x = latent + sigma * noise; the network sees
x / sqrt(sigma^2 + 1) at time ln(sigma) / 4 and predicts v = (noise - sigma * latent) / sqrt(sigma^2 + 1).
EDM's weight (sigma^2 + 1) / sigma^2 of the denoised latent's squared error is exactly 1 on v.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Noised:
    """What the networks get, and what they should answer."""

    inputs: Tensor  # [B, F, C, h, w], scaled to unit variance
    timesteps: Tensor  # [B]
    target: Tensor  # [B, F, C, h, w]


def draw_sigmas(normal: Tensor, mean: float, deviation: float, bounds: tuple[float, float]) -> Tensor:
    """Noise levels of standard normal draws [B]: ln sigma ~ N(mean, deviation), clipped to the bounds."""
    return (normal * deviation + mean).exp().clamp(*bounds)


def add_noise(latents: Tensor, noise: Tensor, sigmas: Tensor) -> Noised:
    """Noise latents [B, F, C, h, w] to levels [B], in float32."""
    sigma = sigmas.float().reshape(-1, *[1] * (latents.dim() - 1))
    root = (sigma**2 + 1).sqrt()
    return Noised((latents + sigma * noise) / root, sigmas.float().log() / 4, (noise - sigma * latents) / root)


def latent_weights(masks: Tensor, kind: str, weight: float) -> Tensor:
    """The loss's weight per latent cell, [B, F, 1, h, w], of pixel masks bool [B, F, H, W].

    kind: "entity" is the cell's share of masked pixels (the paper's loss mask); "weighted" is 1 + weight times
    that share, where pixels that were masked in the first frame count too: what an entity leaves behind has to be
    painted; "none" is 1 everywhere.
    """
    if kind == "weighted":
        masks = masks | masks[:, :1]
    share = F.avg_pool2d(masks.float(), 8)[:, :, None]
    if kind == "entity":
        return share
    if kind == "weighted":
        return 1 + weight * share
    if kind == "none":
        return torch.ones_like(share)
    raise ValueError(f"a loss mask is 'entity', 'weighted' or 'none', not {kind!r}")


def weighted_error(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Squared error times weight, averaged over all cells (masked ones count in the average)."""
    return ((prediction.float() - target) ** 2 * weights).mean()


def coarse_error(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """The same of means over 2 x 2 cells: colours and places, without the texture that nothing can foretell."""
    error, share = (F.avg_pool2d(part.flatten(0, 1), 2) for part in (prediction.float() - target, weights))
    return (error**2 * share).mean()
