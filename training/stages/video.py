"""The video UNet and the ControlNet, or the ControlNet alone."""

import math

import torch
from torch import Tensor

from model.clip import shrink
from model.entity import EntityEncoder
from training import classifier, copy_start, still_start
from training.classifier import ClassifierEncoder
from training.conditions import Cache, embed, entity_features, pool
from training.config import Config, VideoStage
from training.correspondence import CELL, Look, Places, find_origins
from training.data.clips import Clips, Source
from training.data.kept import KeptClips
from training.data.seeds import Draw
from training.data.signal import Signal
from training.networks import Parts, checkpoint_gradients, without_time
from training.objective import Noised, add_noise, coarse_error, draw_sigmas, latent_weights, weighted_error
from training.stages.base import MEASURE, Metrics, Stage, normal, to_pixels

START_BATCHES, START_CLIPS = 6, 4  # that a still start is fitted to


class VideoTraining(Stage):
    """The paper's training: noise prediction on clips, conditioned on the first frame and the control signal."""

    needs_signal = True

    def __init__(self, options: VideoStage, parts: Parts, config: Config) -> None:
        super().__init__()
        self.options = options
        self.unet, self.controlnet = parts.unet, parts.controlnet
        self.vae, self.image_encoder = parts.vae, parts.image_encoder
        self.entity_encoder = entity_encoder(options, parts.entity_encoder)
        self.trained = options.train
        self.folder = config.cache
        self.features = Cache(config.cache, f"{options.entities}-{options.ensemble}", self.entity_encoder)
        self.latents = Cache(config.cache, "latents", self.vae.encoder, self.vae.quant_conv)
        self.contexts = (
            None if "image_encoder" in self.trained else Cache(config.cache, "context", self.image_encoder)
        )
        self.look = Look(self.unet) if options.look_weight else None
        self.places = Places(self.unet, self.controlnet) if options.place_weight else None
        if not options.temporal_guidance:
            without_time(self.controlnet)
        if options.gradient_checkpointing:
            checkpoint_gradients([self.unet, self.controlnet])

    def frames(self, progress: float) -> int:  # noqa: ARG002
        """As configured."""
        return self.options.frames

    def source(self, source: Source) -> Source:
        """A limited number of clips where the config says so."""
        if self.options.clips is None or self.folder is None:
            return source
        return KeptClips(source, self.options.clips, self.folder / "clips")

    @torch.no_grad()
    def begin(self, source: Source, index: int) -> None:
        """Let a fresh UNet begin as a still picture."""
        if not self.options.still_start:
            return
        random = torch.Generator(self.unet.device).manual_seed(index)
        examples = []
        for place in range(MEASURE, MEASURE + START_BATCHES):
            clips = self.source(source).batch(index, place, 0, START_CLIPS, self.options.frames)
            latents = self._latents(clips)
            noised, inputs = self._noise(latents, latents[:, 0], random)
            examples.append((inputs, noised.target))
        inputs = examples[0][0][:1]
        context = torch.zeros(1, 1, self.unet.config.cross_attention_dim, device=inputs.device)
        time, ids = inputs.new_zeros(1), inputs.new_zeros(1, 3)
        coefficients, example = still_start.fit(examples), (inputs, time, context, ids)
        still_start.install(self.unet, self.controlnet, coefficients, example)
        if self.look is not None:
            copy_start.install(self.unet, self.controlnet, coefficients, example)

    def forward(
        self, clips: Clips, signal: Signal, random: torch.Generator, _progress: float
    ) -> tuple[Tensor, Metrics]:
        """The loss; `loss_small` and `loss_large` are its halves by noise level, unweighted."""
        options, draw = self.options, Draw(random)
        count = len(clips.frames)
        first = clips.frames[:, 0].float() / 255
        pixel_noise = normal(first.shape, random)
        latents = self._latents(clips)
        image = self._image(latents, first, pixel_noise)
        table = pool(self._features(clips.names, first * 2 - 1, random), signal.latent_masks)
        context = self._context(clips.names, first)

        seen = (~draw.flag((count,), options.image_dropout)).float()
        context, image = context * seen[:, None, None], image * seen[:, None, None, None]
        steered = (~draw.flag((count, 1, 1, 1), options.control_dropout)).to(torch.uint8)
        noised, inputs = self._noise(latents, image, random)
        values = [options.fps - 1, options.motion_bucket_id, options.noise_augmentation]
        ids = torch.tensor(values, device=inputs.device).expand(count, -1)
        embedding, again = self.controlnet.controlnet_cond_embedding, options.gradient_checkpointing
        heat, labels = mute(options.control, signal.heat * steered, signal.labels * steered)
        condition = embed(embedding, heat, labels, table, again=again)
        inputs, context = inputs.to(self.unet.dtype), context.to(self.unet.dtype)
        residuals = self.controlnet(inputs, noised.timesteps, context, ids, condition)
        found = self.unet(inputs, noised.timesteps, context, ids, residuals)
        weights = latent_weights(clips.weighted, options.loss_mask, options.mask_weight)
        loss, metrics = weighted_error(found, noised.target, weights), _by_level(found.detach(), noised)
        if options.coarse_weight:
            metrics["coarse"] = coarse_error(found, noised.target, weights)
            loss = loss + options.coarse_weight * metrics["coarse"]
        if self.look is not None:
            origins = find_origins(clips)
            look, by_kind = self.look.loss(origins)
            metrics |= {"look": look, **by_kind}
            loss = loss + options.look_weight * look
            if self.places is not None:
                place, errors = self.places.loss(origins, (clips.size[0] // CELL, clips.size[1] // CELL))
                metrics |= errors
                loss = loss + options.place_weight * place
        return loss, metrics

    def _noise(self, latents: Tensor, image: Tensor, random: torch.Generator) -> tuple[Noised, Tensor]:
        """Clips noised to random levels, and the UNet's inputs: these and the picture, [B, F, 2C, h, w]."""
        levels = Draw(random).normal((len(latents),))
        sigmas = draw_sigmas(levels, *self.options.log_sigma, self.options.sigmas)
        noised = add_noise(latents, normal(latents.shape, random), sigmas)
        picture = image[:, None].expand(-1, latents.shape[1], -1, -1, -1)
        return noised, torch.cat([noised.inputs, picture], dim=2)

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        chunks = torch.split(pixels, self.options.encode_at_once)
        return torch.cat([self.vae.encode(part.to(self.vae.dtype)).latent_dist.mode().float() for part in chunks])

    def _latents(self, clips: Clips) -> Tensor:
        def make() -> Tensor:
            latents: Tensor = self._encode(to_pixels(clips.frames.flatten(0, 1))) * self.vae.config.scaling_factor
            return latents.reshape(*clips.frames.shape[:2], *latents.shape[1:])

        return self.latents.get(clips.names, clips.frames.device, make)

    def _image(self, latents: Tensor, first: Tensor, noise: Tensor) -> Tensor:
        """The picture [B, 3, H, W] as the UNet gets it: encoded with noise; known already where there is none."""
        if not self.options.noise_augmentation:
            clean: Tensor = latents[:, 0] / self.vae.config.scaling_factor
            return clean
        return self._encode(first * 2 - 1 + self.options.noise_augmentation * noise)

    def _context(self, names: tuple[str, ...], first: Tensor) -> Tensor:
        if self.contexts is None:
            return self._embeds(first)
        with torch.no_grad():
            return self.contexts.get(names, first.device, lambda: self._embeds(first))

    def _embeds(self, first: Tensor) -> Tensor:
        embeds: Tensor = self.image_encoder(shrink(first).to(self.image_encoder.dtype)).image_embeds
        return embeds[:, None].float()

    def _features(self, names: tuple[str, ...], pixels: Tensor, random: torch.Generator) -> Tensor:
        own = torch.Generator(random.device).manual_seed(int(Draw(random).integer((1,), 1 << 62)))

        def make() -> Tensor:
            if isinstance(self.entity_encoder, ClassifierEncoder):
                return self.entity_encoder.features(pixels)
            return entity_features(self.entity_encoder, pixels, self.options.ensemble, own)

        return self.features.get(names, pixels.device, make)


def entity_encoder(options: VideoStage, encoder: EntityEncoder) -> EntityEncoder:
    """The run's own encoder, or the classifier that stands in for it."""
    return encoder if options.entities == "diffusion" else ClassifierEncoder(encoder, classifier.load())


def mute(control: str, heat: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Heat and labels with what a config leaves out set to 0."""
    return heat * (control in ("both", "gaussian")), labels * (control in ("both", "entity"))


def _by_level(found: Tensor, noised: Noised) -> Metrics:
    error = ((found.float() - noised.target) ** 2).flatten(1).mean(dim=1)
    small = noised.timesteps < math.log(2) / 4
    return {
        name: (error * part).sum() / part.sum().clamp(min=1)
        for name, part in (("loss_small", small), ("loss_large", ~small))
    }
