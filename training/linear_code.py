"""The best linear code of patches (PCA): what a VAE of the same size must beat, and where it starts from."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

PATCH = 8  # pixels, the VAE's reduction


@dataclass(frozen=True, eq=False)
class LinearCode:
    """Principal components of patches, whitened: each code channel has unit variance on what it was fitted to."""

    mean: Tensor  # [3 * PATCH^2]
    analysis: Tensor  # [C, 3 * PATCH^2]
    synthesis: Tensor  # [3 * PATCH^2, C]

    def encode(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] in -1..1 to [N, C, H/8, W/8]."""
        patches = F.unfold(pixels, PATCH, stride=PATCH) - self.mean[:, None]
        size = (pixels.shape[2] // PATCH, pixels.shape[3] // PATCH)
        return (self.analysis @ patches).reshape(len(pixels), -1, *size)

    def decode(self, code: Tensor) -> Tensor:
        """[N, C, h, w] to [N, 3, 8h, 8w]."""
        patches = self.synthesis @ code.flatten(2) + self.mean[:, None]
        return F.fold(patches, (code.shape[2] * PATCH, code.shape[3] * PATCH), PATCH, stride=PATCH)


def fit(pixels: Tensor, channels: int) -> LinearCode:
    """Fit to pictures [N, 3, H, W] in -1..1."""
    patches = F.unfold(pixels.double().cpu(), PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(dim=0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    deviation = values[-channels:].clamp(min=1e-12).sqrt()
    basis = vectors[:, -channels:]
    code = (mean, (basis / deviation).T, basis * deviation)
    return LinearCode(*(part.float().contiguous().to(pixels.device) for part in code))


def psnr(found: Tensor, truth: Tensor) -> Tensor:
    """Mean over pictures [N, 3, H, W] in -1..1 of the peak signal-to-noise ratio, dB."""
    error = ((found.clamp(-1, 1) - truth) ** 2).flatten(1).mean(dim=1).clamp(min=1e-10)
    return (10 * torch.log10(4 / error)).mean()
