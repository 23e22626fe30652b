"""The video UNet and the ControlNet, or the ControlNet alone."""

import torch
from torch import Tensor

from model.clip import shrink
from training.conditions import FeatureCache, embed, entity_features, pool
from training.config import Config, VideoStage
from training.data.clips import Clips
from training.data.seeds import Draw
from training.data.signal import Signal
from training.networks import Parts, checkpoint_gradients
from training.objective import add_noise, draw_sigmas, latent_weights, weighted_error
from training.stages.base import Metrics, Stage, normal, to_pixels


class VideoTraining(Stage):
    """The paper's training: noise prediction on clips, conditioned on the first frame and the control signal."""

    needs_signal = True

    def __init__(self, options: VideoStage, parts: Parts, config: Config) -> None:
        super().__init__()
        self.options = options
        self.unet, self.controlnet = parts.unet, parts.controlnet
        self.vae, self.image_encoder, self.entity_encoder = parts.vae, parts.image_encoder, parts.entity_encoder
        self.trained = options.train
        self.cache = FeatureCache(config.cache, parts.entity_encoder, options.ensemble)
        if options.gradient_checkpointing:
            checkpoint_gradients([self.unet, self.controlnet])

    def frames(self, progress: float) -> int:  # noqa: ARG002
        """As configured."""
        return self.options.frames

    def forward(
        self, clips: Clips, signal: Signal, random: torch.Generator, _progress: float
    ) -> tuple[Tensor, Metrics]:
        """The loss; `loss_small` and `loss_large` are its halves by noise level, unweighted."""
        options, draw = self.options, Draw(random)
        count, frames = clips.frames.shape[:2]
        first = clips.frames[:, 0].float() / 255
        pixel_noise = normal(first.shape, random)
        flat = self._encode(to_pixels(clips.frames.flatten(0, 1))) * self.vae.config.scaling_factor
        latents = flat.reshape(count, frames, *flat.shape[1:])
        image = self._encode(first * 2 - 1 + options.noise_augmentation * pixel_noise)
        table = pool(self._features(clips.names, first * 2 - 1, random), signal.latent_masks)
        context = self._context(first)

        seen = (~draw.flag((count,), options.image_dropout)).float()
        context, image = context * seen[:, None, None], image * seen[:, None, None, None]
        steered = (~draw.flag((count, 1, 1, 1), options.control_dropout)).to(torch.uint8)
        sigmas = draw_sigmas(draw.normal((count,)), *options.log_sigma, options.sigmas)
        noised = add_noise(latents, normal(latents.shape, random), sigmas)
        inputs = torch.cat([noised.inputs, image[:, None].expand(-1, frames, -1, -1, -1)], dim=2)

        values = [options.fps - 1, options.motion_bucket_id, options.noise_augmentation]
        ids = torch.tensor(values, device=inputs.device).expand(count, -1)
        embedding, again = self.controlnet.controlnet_cond_embedding, options.gradient_checkpointing
        condition = embed(embedding, signal.heat * steered, signal.labels * steered, table, again=again)
        inputs, context = inputs.to(self.unet.dtype), context.to(self.unet.dtype)
        residuals = self.controlnet(inputs, noised.timesteps, context, ids, condition)
        found = self.unet(inputs, noised.timesteps, context, ids, residuals)
        weights = latent_weights(clips.weighted, options.loss_mask, options.mask_weight)
        return weighted_error(found, noised.target, weights), _by_level(found.detach(), noised.target, sigmas)

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        chunks = torch.split(pixels, self.options.encode_at_once)
        return torch.cat([self.vae.encode(part.to(self.vae.dtype)).latent_dist.mode().float() for part in chunks])

    def _context(self, first: Tensor) -> Tensor:
        with torch.set_grad_enabled("image_encoder" in self.trained and torch.is_grad_enabled()):
            embeds: Tensor = self.image_encoder(shrink(first).to(self.image_encoder.dtype)).image_embeds
        return embeds[:, None].float()

    def _features(self, names: tuple[str, ...], pixels: Tensor, random: torch.Generator) -> Tensor:
        known = self.cache.read(names)
        if known is not None:
            return known.to(pixels.device)
        features = entity_features(self.entity_encoder, pixels, self.options.ensemble, random)
        self.cache.write(names, features)
        return features


def _by_level(found: Tensor, target: Tensor, sigmas: Tensor) -> Metrics:
    error = ((found.float() - target) ** 2).flatten(1).mean(dim=1)
    small = sigmas < 2
    return {
        name: (error * part).sum() / part.sum().clamp(min=1)
        for name, part in (("loss_small", small), ("loss_large", ~small))
    }
