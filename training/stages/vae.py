"""The video VAE alone."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training import linear_code
from training.config import VAEStage
from training.data.clips import Clips, Source
from training.networks import Parts
from training.stages.base import Metrics, Stage, measured, normal, to_pixels


class VAETraining(Stage):
    """Reconstruction, a little KL; at first also towards the best linear code, which saves the slow start."""

    trained = ("vae",)

    def __init__(self, options: VAEStage, parts: Parts) -> None:
        super().__init__()
        self.options = options
        self.vae = parts.vae
        self.code: linear_code.LinearCode | None = None

    def frames(self, progress: float) -> int:
        """Single frames, then clips."""
        return self.options.clip_frames if progress >= 1 - self.options.clip_share else 1

    def prepare(self, source: Source, index: int) -> None:
        """Fit the linear code."""
        pixels = torch.cat(measured(source, index, 16))
        self.code = linear_code.fit(pixels, self.vae.config.latent_channels)

    def forward(
        self, clips: Clips, _signal: None, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """The loss and what it is made of."""
        pixels = to_pixels(clips.frames.flatten(0, 1))
        posterior = self.vae.encode(pixels).latent_dist
        mean, deviation = posterior.mean.float(), posterior.std.float()
        latents = mean + deviation * normal(mean.shape, random)
        found = self.vae.decode(latents, num_frames=clips.frames.shape[1]).sample.float()
        error = F.mse_loss(found, pixels)
        divergence = 0.5 * (mean**2 + deviation**2 - 1 - 2 * deviation.log()).mean()
        loss = error + self.options.kl_weight * divergence
        if self.options.edge_weight:
            loss = loss + self.options.edge_weight * sum(_edges(found, pixels, axis) for axis in (2, 3))
        if self.code is not None and progress < self.options.linear_start:
            loss = loss + (1 - progress / self.options.linear_start) * F.mse_loss(mean, self.code.encode(pixels))
        return loss, {"psnr": linear_code.psnr(found.detach(), pixels)}

    @torch.no_grad()
    def finish(self, source: Source, index: int) -> None:
        """Give every latent channel unit deviation; exact, since the layers on either side are linear."""
        codes = [self.vae.encode(pixels).latent_dist.mode() for pixels in measured(source, index, 8)]
        deviation = torch.cat(codes).float().std(dim=(0, 2, 3)).clamp(min=1e-6)
        channels, conv = len(deviation), self.vae.quant_conv
        conv.weight[:channels] /= deviation[:, None, None, None]
        conv.bias[:channels] /= deviation
        conv.bias[channels:] -= 2 * deviation.log()
        self.vae.decoder.conv_in.weight.mul_(deviation[None, :, None, None])


def _edges(found: Tensor, truth: Tensor, axis: int) -> Tensor:
    return F.l1_loss(found.diff(dim=axis), truth.diff(dim=axis))
