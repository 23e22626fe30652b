"""The video VAE alone."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training import linear_code, linear_start
from training.config import VAEStage
from training.data.clips import Clips, Source
from training.data.seeds import Draw
from training.networks import Parts
from training.stages.base import Metrics, Stage, measured, normal, to_pixels

START_CROP = 64  # pixels of the pieces that a linear start is fitted to


class VAETraining(Stage):
    """Reconstruction and a little KL, from a linear autoencoder on."""

    trained = ("vae",)

    def __init__(self, options: VAEStage, parts: Parts) -> None:
        super().__init__()
        self.options = options
        self.vae = parts.vae

    def frames(self, progress: float) -> int:
        """Single frames, then clips."""
        return self.options.clip_frames if progress >= 1 - self.options.clip_share else 1

    def begin(self, source: Source, index: int) -> None:
        """Write the best linear autoencoder into the VAE."""
        if self.options.linear_start and not self.options.decoder_only:
            pixels = torch.cat(measured(source, index, 32))
            pixels = pixels.unfold(2, START_CROP, START_CROP).unfold(3, START_CROP, START_CROP)
            pixels = pixels.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
            random = torch.Generator(pixels.device).manual_seed(index)
            path = linear_start.fit(pixels, linear_start.widths_of(self.vae), self.options.linear_start, random)
            linear_start.install(path, self.vae, pixels[:64])

    def forward(
        self, clips: Clips, _signal: None, random: torch.Generator, _progress: float
    ) -> tuple[Tensor, Metrics]:
        """The loss and what it is made of."""
        frames = self._crop(clips.frames, random)
        pixels = to_pixels(frames.flatten(0, 1))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.options.decoder_only):
            posterior = self.vae.encode(pixels).latent_dist
            mean, deviation = posterior.mean.float(), posterior.std.float()
        latents = mean + deviation * normal(mean.shape, random)
        found = self.vae.decode(latents, num_frames=frames.shape[1]).sample.float()
        error = F.mse_loss(found, pixels)
        divergence = 0.5 * (mean**2 + deviation**2 - 1 - 2 * deviation.log()).mean()
        loss = error + self.options.kl_weight * divergence
        if self.options.edge_weight:
            loss = loss + self.options.edge_weight * sum(_edges(found, pixels, axis) for axis in (2, 3))
        return loss, {"psnr": linear_code.psnr(found.detach(), pixels)}

    def _crop(self, frames: Tensor, random: torch.Generator) -> Tensor:
        """Windows of clips [B, F, 3, H, W], `crops` of each, all frames at the same place."""
        side = self.options.crop
        if side is None:
            return frames
        repeated = frames.repeat_interleave(self.options.crops, dim=0)
        height, width = frames.shape[-2:]
        draw = Draw(random)
        rows = draw.integer((len(repeated),), height - side + 1).tolist()
        columns = draw.integer((len(repeated),), width - side + 1).tolist()
        return torch.stack(
            [clip[..., y : y + side, x : x + side] for clip, y, x in zip(repeated, rows, columns, strict=True)]
        )

    @torch.no_grad()
    def finish(self, source: Source, index: int) -> None:
        """Turn the latents to their principal components, as measured in pixels, and scale these.

        Exact for the mean, as the layers on either side are linear; the posterior's deviation becomes a constant.
        """
        if self.options.decoder_only:
            return
        pixels = torch.cat(measured(source, index, 8))
        posteriors = [self.vae.encode(part).latent_dist for part in torch.split(pixels, 8)]
        codes = torch.cat([posterior.mode() for posterior in posteriors]).double()
        variance = torch.cat([posterior.var for posterior in posteriors]).double().mean(dim=(0, 2, 3))
        turn = _turn(codes, F.unfold(pixels.double(), 8, stride=8), self.options.whitening)
        back = torch.linalg.inv(turn)
        quant, start, channels = self.vae.quant_conv, self.vae.decoder.conv_in, len(turn)
        quant.weight[:channels] = torch.einsum("ij,jklm->iklm", turn, quant.weight[:channels].double()).float()
        quant.bias[:channels] = (turn @ quant.bias[:channels].double()).float()
        quant.weight[channels:] = 0
        quant.bias[channels:] = (turn**2 @ variance).log().float()
        start.weight.copy_(torch.einsum("oikl,ij->ojkl", start.weight.double(), back).float())


def _turn(codes: Tensor, patches: Tensor, whitening: float) -> Tensor:
    """The matrix [C, C] for codes [N, C, h, w], given the pixels [N, P, h w] of each cell.

    Component i explains the energy s_i^2 of the pixels; its deviation becomes s_i^(1 - whitening) times a factor
    that makes the mean variance 1.
    """
    z = codes.transpose(0, 1).flatten(1)
    z = z - z.mean(dim=1, keepdim=True)
    p = patches.transpose(0, 1).flatten(1)
    p = p - p.mean(dim=1, keepdim=True)
    root = torch.linalg.cholesky(z @ z.T / z.shape[1])
    white = torch.linalg.solve_triangular(root, z, upper=False)
    _, strength, axes = torch.linalg.svd(p @ white.T / z.shape[1], full_matrices=False)
    scale = strength.clamp(min=1e-6) ** (1 - whitening)
    scale = scale / scale.square().mean().sqrt()
    turn: Tensor = scale[:, None] * torch.linalg.solve_triangular(root, axes, upper=False, left=False)
    return turn


def _edges(found: Tensor, truth: Tensor, axis: int) -> Tensor:
    return F.l1_loss(found.diff(dim=axis), truth.diff(dim=axis))
