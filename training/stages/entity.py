"""The entity encoder's UNet alone."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from model.entity import alpha_bar
from training import entity_start
from training.conditions import entity_features
from training.config import EntityStage
from training.data.clips import Clips, Source
from training.data.seeds import Draw
from training.networks import Parts
from training.stages.base import Metrics, Stage, measured, normal, to_pixels

START_CLIPS = 32  # per batch that a linear start is fitted to


class EntityTraining(Stage):
    """Noise prediction on the VAE's latents of single frames, Stable Diffusion's way."""

    trained = ("entity_encoder",)
    levels: Tensor

    def __init__(self, options: EntityStage, parts: Parts) -> None:
        super().__init__()
        self.options = options
        self.encoder = parts.entity_encoder
        levels = torch.tensor([alpha_bar(t) for t in range(1000)])
        self.register_buffer("levels", levels.to(parts.entity_encoder.prompt_embeds.device))

    def forward(
        self, clips: Clips, _signal: None, random: torch.Generator, _progress: float
    ) -> tuple[Tensor, Metrics]:
        """The loss; no other figure."""
        latents = self._latents(to_pixels(clips.frames[:, 0]))
        steps = Draw(random).integer((len(latents),), len(self.levels))
        signal = self.levels[steps][:, None, None, None]
        noise = normal(latents.shape, random)
        noised = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        context = self.encoder.prompt_embeds.expand(len(latents), -1, -1)
        found = self.encoder.unet(noised, steps, context).sample
        return F.mse_loss(found.float(), noise), {}

    def begin(self, source: Source, index: int) -> None:
        """Let a fresh UNet begin with features that are colours."""
        if self.options.linear_start:
            latents = [self._latents(pixels) for pixels in measured(source, index, START_CLIPS)]
            entity_start.install(self.encoder.unet, torch.cat(latents))

    @torch.no_grad()
    def _latents(self, pixels: Tensor) -> Tensor:
        mean: Tensor = self.encoder.vae.encode(pixels).latent_dist.mode()
        scale: float = self.encoder.vae.config.scaling_factor
        return mean.float() * scale

    @torch.no_grad()
    def finish(self, source: Source, index: int) -> None:
        """Give every feature zero mean and unit deviation.

        The layers before them are linear, and the head behind them is not used any more.
        """
        random = torch.Generator(self.levels.device).manual_seed(index)
        found = [entity_features(self.encoder, pixels, 1, random) for pixels in measured(source, index, 8)]
        features = torch.cat(found)
        mean, deviation = features.mean(dim=(0, 2, 3)), features.std(dim=(0, 2, 3)).clamp(min=1e-6)
        last = self.encoder.unet.up_blocks[-1].resnets[-1]
        for conv, shift in ((last.conv2, mean), (last.conv_shortcut, torch.zeros_like(mean))):
            conv.weight.div_(deviation[:, None, None, None])
            conv.bias.sub_(shift * last.output_scale_factor).div_(deviation)
