"""Noise levels, the Euler step and guidance: the parts of the denoising loop that are not networks."""

from typing import Any, cast

import numpy as np
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_utils import AysSchedules
from torch import Tensor

SAMPLERS = ("euler", "ays")
SVD_BOUNDS = (0.002, 700.0)


def draw(
    shape: tuple[int, ...], generator: torch.Generator | None = None, *, channels_last: bool = False
) -> Tensor:
    """A standard normal tensor, float32, drawn where the generator lives; None is torch's own, on the CPU.

    torch fills a channels-last tensor in another order, and the reference has one such draw.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    device = "cpu" if generator is None else generator.device
    return torch.empty(shape, device=device, memory_format=layout).normal_(generator=generator)


def noise_levels(scheduler_config: Any, steps: int, sampler: str = "euler") -> tuple[Tensor, Tensor]:
    """Sigmas [steps+1], falling to 0, and the timesteps [steps] that the networks see; float32 on the CPU.

    "euler" is the reference: Karras sigmas between the scheduler config's bounds. "ays" are the ten levels of
    "Align Your Steps" for SVD; another count interpolates between them log-linearly, as its authors propose, and
    for a model with other bounds than SVD's they are stretched to these, log-linearly too.
    """
    if steps < 1:
        raise ValueError(f"num_inference_steps must be at least 1, not {steps}")
    scheduler = EulerDiscreteScheduler.from_config(scheduler_config)
    if sampler == "euler":
        scheduler.set_timesteps(steps)
    elif sampler == "ays":
        bounds = (scheduler.config.sigma_min, scheduler.config.sigma_max)
        scheduler.set_timesteps(sigmas=_align_your_steps(steps, bounds))
    else:
        raise ValueError(f"sampler is one of {', '.join(SAMPLERS)}, not {sampler!r}")
    return scheduler.sigmas, scheduler.timesteps


def _align_your_steps(steps: int, bounds: tuple[float, float]) -> list[float]:
    levels = cast("list[float]", AysSchedules["StableDiffusionVideoSigmas"])[:-1]
    place = np.linspace(0, len(levels) - 1, steps)
    logs = np.interp(place, np.arange(len(levels)), np.log(levels))
    return [*np.exp(np.interp(logs, np.log(SVD_BOUNDS), np.log(bounds))).tolist(), 0.0]


def euler_step(latents: Tensor, v: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """One Euler step of the probability-flow ODE from a v-prediction, in float32."""
    denoised = v.float() * (-sigma / (sigma**2 + 1) ** 0.5) + latents / (sigma**2 + 1)
    return latents + (latents - denoised) / sigma * (sigma_next - sigma)


def guide(v: Tensor, weights: Tensor | None) -> Tensor:
    """Classifier-free guidance, one weight per frame.

    v: [2, F, C, h, w] (unconditional, conditional) with weights [F], or [1, F, C, h, w] with None.
    Returns [1, F, C, h, w].
    """
    if weights is None:
        return v.float()
    unconditional, conditional = v.float().chunk(2)
    return unconditional + weights.to(v.device)[:, None, None, None] * (conditional - unconditional)


def guidance_weights(minimum: float, maximum: float, frames: int) -> Tensor | None:
    """One weight per frame, from the first to the last, [F]; None where none exceeds 1, so one half suffices."""
    return torch.linspace(minimum, maximum, frames) if max(minimum, maximum) > 1 else None
