"""A picture, entities and their points in; frames out.

Three stages, usable apart so that a worker can decode one job beside the denoising of the next:
`condition` -> Conditions, `denoise` -> latents, `decode` -> frames. Calling the pipeline runs all three.

B = guidance halves, F = frames, E = entities, C = latent channels, h and w = latent size (an eighth of H and W).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from model.blocks import Savings, prepare
from model.clip import embed_image
from model.conditioning import Conditioning, Entity, build
from model.entity import ENSEMBLE, EntityEncoder, pool, tabulate
from model.memo import Memo
from model.presets import ModelCard
from model.sampler import draw, euler_step, guidance_weights, guide, noise_levels
from model.segmenter import Segmenter
from model.vae import decode_frames, encode_frame

Callback = Callable[["DragAnythingPipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]
T = TypeVar("T")
KEPT = 12  # results of the three encoders; the largest, entity features, has 3.7 MB at 576x320
OnStage = Callable[[str, int, int], object]  # stage, units done, units in all


def _ignore(_stage: str, _done: int, _total: int) -> None:
    pass


@dataclass(frozen=True, eq=False)
class Conditions:
    """What the denoising loop needs of a job, all on the pipeline's device."""

    context: Tensor  # [1, 1, X], the picture's CLIP embedding
    image_latents: Tensor  # [1, C, h, w], unscaled
    control: Tensor  # [F, C0, h, w], the ControlNet's condition embedding
    added_time_ids: Tensor  # [1, 3]: fps - 1, motion bucket, noise strength
    noise: Tensor  # [1, F, C, h, w], unit variance
    entity_features: Tensor  # [E, feature channels] float32
    conditioning: Conditioning


@dataclass(frozen=True, eq=False)
class Output:
    """The frames, uint8 [F, H, W, 3], and the latents that they were decoded from, [1, F, C, h, w]."""

    frames: NDArray[np.uint8]
    latents: Tensor


class DragAnythingPipeline:
    """The networks of one model on one device. Make it with `from_pretrained`; `card` describes it."""

    def __init__(
        self,
        *,
        unet: Any,
        controlnet: Any,
        vae: Any,
        image_encoder: Any,
        entity_encoder: EntityEncoder,
        scheduler_config: dict[str, Any],
        card: ModelCard,
        device: torch.device,
        offload: bool = False,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.unet = unet
        self.controlnet = controlnet
        self.vae = vae
        self.image_encoder = image_encoder
        self.entity_encoder = entity_encoder
        self.scheduler_config = scheduler_config
        self.card = card
        self.device = device
        self.offload = offload
        self.segmenter = segmenter
        self.memo = Memo(KEPT)
        for module in self.components.values():
            module.eval().requires_grad_(False)
            if not offload:
                module.to(device)

    @classmethod
    def from_pretrained(cls, name: str | None = None, **options: Any) -> "DragAnythingPipeline":
        """Load a preset, or components from directories or hub ids: `model.weights.load` has the options."""
        from model import weights

        return weights.load(name, **options)

    @property
    def components(self) -> dict[str, nn.Module]:
        """The networks by name."""
        names = ("unet", "controlnet", "vae", "image_encoder", "entity_encoder")
        return {name: getattr(self, name) for name in names}

    def save_pretrained(self, directory: Any, dtype: torch.dtype = torch.float16) -> None:
        """Write every component as safetensors in the layout that `from_pretrained` reads."""
        from model import weights

        weights.save(self, directory, dtype)

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | NDArray[np.uint8],
        entities: Sequence[Entity],
        *,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | None = None,
        min_guidance_scale: float | None = None,
        max_guidance_scale: float | None = None,
        fps: int | None = None,
        motion_bucket_id: int | None = None,
        noise_aug_strength: float | None = None,
        decode_chunk_size: int | None = None,
        control_scale: float = 1.0,
        control_start: float = 0.0,
        control_end: float = 1.0,
        control_every: int = 1,
        sampler: str = "euler",
        entity_map: str = "vector",
        subpixel: bool = False,
        latents: Tensor | None = None,
        image_noise: Tensor | None = None,
        entity_noise: Tensor | None = None,
        entity_vae_noise: Tensor | None = None,
        callback_on_step_end: Callback | None = None,
        on_stage: OnStage = _ignore,
    ) -> Output:
        """Make a video. What is None comes from `card.defaults`; the stages document the arguments."""
        conditions = self.condition(
            image,
            entities,
            num_frames=num_frames,
            height=height,
            width=width,
            generator=generator,
            fps=fps,
            motion_bucket_id=motion_bucket_id,
            noise_aug_strength=noise_aug_strength,
            entity_map=entity_map,
            subpixel=subpixel,
            latents=latents,
            image_noise=image_noise,
            entity_noise=entity_noise,
            entity_vae_noise=entity_vae_noise,
            on_stage=on_stage,
        )
        latents = self.denoise(
            conditions,
            num_inference_steps=num_inference_steps,
            min_guidance_scale=min_guidance_scale,
            max_guidance_scale=max_guidance_scale,
            control_scale=control_scale,
            control_start=control_start,
            control_end=control_end,
            control_every=control_every,
            sampler=sampler,
            callback_on_step_end=callback_on_step_end,
            on_stage=on_stage,
        )
        return Output(self.decode(latents, decode_chunk_size, on_stage), latents)

    @torch.no_grad()
    def condition(
        self,
        image: Image.Image | NDArray[np.uint8],
        entities: Sequence[Entity],
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | None = None,
        fps: int | None = None,
        motion_bucket_id: int | None = None,
        noise_aug_strength: float | None = None,
        entity_map: str = "vector",
        subpixel: bool = False,
        latents: Tensor | None = None,
        image_noise: Tensor | None = None,
        entity_noise: Tensor | None = None,
        entity_vae_noise: Tensor | None = None,
        on_stage: OnStage = _ignore,
    ) -> Conditions:
        """Encode a picture (PIL, or RGB uint8 [OH, OW, 3]) and its entities; draw all random numbers.

        generator: None is torch's default one. The draws can be given instead, as standard normal tensors:
        entity_vae_noise and entity_noise [8, c, h, w], image_noise [1, 3, H, W], latents [1, F, C, h, w].
        entity_map: "vector" (paper) or "scalar" (the published demo). subpixel: paint at fractional points.
        Raises ValueError for inputs that make no sense.
        """
        default = self.card.defaults
        frames = _given(num_frames, default.num_frames)
        size = (_given(width, default.width), _given(height, default.height))
        frame, original = _resize(image, size)
        conditioning = build(entities, original, size, frames, subpixel=subpixel)
        tabulate(torch.zeros(1, 2), entity_map)  # a wrong name fails before any work

        h, w = size[1] // 8, size[0] // 8
        ensemble = (ENSEMBLE, self.entity_encoder.vae.config.latent_channels, h, w)
        pixel_shape = (1, 3, size[1], size[0])
        latent_shape = (1, frames, self.vae.config.latent_channels, h, w)
        vae_noise, feature_noise, pixel_noise, noise = (  # drawn in the reference's order
            self._noise("entity_vae_noise", entity_vae_noise, ensemble, generator),
            self._noise("entity_noise", entity_noise, ensemble, generator, channels_last=True),
            self._noise("image_noise", image_noise, pixel_shape, generator),
            self._noise("latents", latents, latent_shape, generator),
        )

        pixels = (
            torch.from_numpy(frame).to(self.device).permute(2, 0, 1)[None].float() / 255
        )  # [1, 3, H, W] in 0..1
        strength = _given(noise_aug_strength, default.noise_aug_strength)
        ids = [_given(fps, default.fps) - 1, _given(motion_bucket_id, default.motion_bucket_id), strength]

        on_stage("conditioning", 0, 4)
        with self._resident(self.image_encoder):
            context = self.memo(self.image_encoder, (pixels,), lambda: embed_image(self.image_encoder, pixels))
        on_stage("conditioning", 1, 4)
        with self._resident(self.vae):
            noisy = pixels * 2 - 1 + strength * pixel_noise
            image_latents = self.memo(self.vae, (noisy,), lambda: encode_frame(self.vae, noisy))
        on_stage("conditioning", 2, 4)
        with self._resident(self.entity_encoder):
            seen = (pixels * 2 - 1, vae_noise, feature_noise)
            features = self.memo(self.entity_encoder, seen, lambda: self.entity_encoder(*seen))
        features = pool(features, torch.from_numpy(conditioning.latent_masks).to(self.device))
        on_stage("conditioning", 3, 4)
        embedding = self.controlnet.controlnet_cond_embedding
        with self._resident(embedding):
            heat, labels = (torch.from_numpy(x).to(self.device) for x in (conditioning.heat, conditioning.labels))
            control = embedding(heat, labels, tabulate(features, entity_map))
        on_stage("conditioning", 4, 4)
        return Conditions(
            context=context,
            image_latents=image_latents,
            control=control,
            added_time_ids=torch.tensor([ids], device=self.device),
            noise=noise,
            entity_features=features,
            conditioning=conditioning,
        )

    @torch.no_grad()
    def denoise(
        self,
        conditions: Conditions,
        *,
        num_inference_steps: int | None = None,
        min_guidance_scale: float | None = None,
        max_guidance_scale: float | None = None,
        control_scale: float = 1.0,
        control_start: float = 0.0,
        control_end: float = 1.0,
        control_every: int = 1,
        sampler: str = "euler",
        savings: Savings | None = None,
        callback_on_step_end: Callback | None = None,
        on_stage: OnStage = _ignore,
    ) -> Tensor:
        """Run the sampler: [1, F, C, h, w] in float32.

        The guidance weight rises from frame to frame between its two bounds; with neither above 1 only the
        conditional half is computed. control_start, control_end: the part of the steps, 0..1, in which the
        ControlNet takes part; control_every: it is asked in every n-th of them, and what it said holds until the
        next (an approximation from 2 on). savings: see `model.blocks`. callback_on_step_end(pipeline, step,
        timestep, {"latents": ...}) may return other latents, and what it raises ends the run at once.
        """
        default, c = self.card.defaults, conditions
        steps = _given(num_inference_steps, default.num_inference_steps)
        low = _given(min_guidance_scale, default.min_guidance_scale)
        high = _given(max_guidance_scale, default.max_guidance_scale)
        sigmas, timesteps = noise_levels(self.scheduler_config, steps, sampler)
        weights = guidance_weights(low, high, c.noise.shape[1])
        halves = 1 if weights is None else 2  # the unconditional half comes first: no picture, but full control
        dtype = self.unet.dtype

        context = _guided(c.context, halves).to(dtype)  # [B, 1, X]
        image = _guided(c.image_latents, halves)[:, None].expand(
            -1, c.noise.shape[1], -1, -1, -1
        )  # [B, F, C, h, w]
        ids = c.added_time_ids.expand(halves, -1)
        latents = c.noise * (sigmas[0] ** 2 + 1) ** 0.5

        if control_every < 1:
            raise ValueError(f"control_every must be at least 1, not {control_every}")
        residuals, age = None, 0
        on_stage("denoising", 0, steps)
        with self._resident(self.unet, self.controlnet):
            steers, predicts = (
                prepare(net, timesteps.to(self.device), context, c.added_time_ids, c.noise.shape[1], savings)
                for net in (self.controlnet, self.unet)
            )
            for i, (timestep, sigma, sigma_next) in enumerate(zip(timesteps, sigmas, sigmas[1:], strict=False)):
                t = timestep.to(self.device)
                x = (latents / (sigma**2 + 1) ** 0.5).expand(halves, -1, -1, -1, -1)
                x = torch.cat([x, image], dim=2).to(dtype)  # [B, F, 2C, h, w]
                if not (control_start <= i / steps and (i + 1) / steps <= control_end):
                    residuals, age = None, 0
                elif residuals is None or age % control_every == 0:
                    residuals, age = None, 0  # the old ones need not live beside the new ones
                    residuals = self.controlnet(x, t, context, ids, c.control, control_scale, steers.at(i))
                age += 1
                v = self.unet(x, t, context, ids, residuals, predicts.at(i))
                latents = euler_step(latents, guide(v, weights), sigma, sigma_next)
                if callback_on_step_end is not None:
                    latents = (callback_on_step_end(self, i, timestep, {"latents": latents}) or {}).get(
                        "latents", latents
                    )
                on_stage("denoising", i + 1, steps)
        return latents

    @torch.no_grad()
    def decode(
        self, latents: Tensor, decode_chunk_size: int | None = None, on_stage: OnStage = _ignore
    ) -> NDArray[np.uint8]:
        """Latents [1, F, C, h, w] to frames, uint8 [F, H, W, 3]; the chunk size changes the result a little."""
        chunk = _given(decode_chunk_size, self.card.defaults.decode_chunk_size)
        on_stage("decoding", 0, latents.shape[1])
        with self._resident(self.vae):
            return decode_frames(
                self.vae, latents[0], chunk, lambda done, total: on_stage("decoding", done, total)
            )

    def _noise(
        self,
        name: str,
        given: Tensor | None,
        shape: tuple[int, ...],
        generator: torch.Generator | None,
        **order: bool,
    ) -> Tensor:
        if given is not None and tuple(given.shape) != shape:
            raise ValueError(f"{name} must have shape {list(shape)}, not {list(given.shape)}")
        noise = draw(shape, generator, **order) if given is None else given
        return noise.to(self.device, torch.float32)

    @contextmanager
    def _resident(self, *modules: nn.Module) -> Iterator[None]:
        """Keep modules on the device while they work; with offloading they go back to host memory afterwards."""
        if not self.offload:
            yield
            return
        try:
            for module in modules:
                module.to(self.device)
            yield
        finally:
            for module in modules:
                module.to("cpu")


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def _guided(x: Tensor, halves: int) -> Tensor:
    """The conditional tensor, preceded by zeros for the unconditional half where there is one."""
    return x if halves == 1 else torch.cat([torch.zeros_like(x), x])


def _resize(
    image: Image.Image | NDArray[np.uint8], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """RGB picture at `size` (width, height) by Pillow's bicubic filter, uint8 [H, W, 3], and its original size."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return np.array(picture.convert("RGB").resize(size)), picture.size
