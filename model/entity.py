"""Entity representation (paper, section 3.3): features of a Stable Diffusion UNet, pooled over each entity's mask.

The features are DIFT's: the first frame is noised to one timestep and passed through the UNet, with eight noises.
E = entities, N = ensemble, C = channels of the UNet's first level, h and w = latent size.
"""

from typing import Any

import torch
from torch import Tensor, nn

ENSEMBLE = 8
TIMESTEP = 261


def alpha_bar(timestep: int = TIMESTEP) -> float:
    """Cumulated alpha of Stable Diffusion's schedule (scaled linear, 0.00085 to 0.012, 1000 steps)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32) ** 2
    return float(torch.cumprod(1 - betas, dim=0)[timestep])


class EntityEncoder(nn.Module):
    """A Stable Diffusion UNet with its VAE and the text embedding of the empty prompt, a constant [1, T, D]."""

    prompt_embeds: Tensor

    def __init__(self, vae: Any, unet: Any, prompt_embeds: Tensor) -> None:
        super().__init__()
        self.vae = vae
        self.unet = unet
        self.register_buffer("prompt_embeds", prompt_embeds)

    def forward(self, pixels: Tensor, vae_noise: Tensor, noise: Tensor) -> Tensor:
        """Feature map of a picture, [C, h, w] in float32, averaged over the ensemble.

        pixels: [1, 3, H, W] in -1..1; vae_noise (posterior sample) and noise (diffusion): [N, c, h, w].
        """
        posterior = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist
        latents = posterior.mean.float() + posterior.std.float() * vae_noise  # one encode serves all N
        latents = latents * self.vae.config.scaling_factor
        signal = alpha_bar()
        noised = signal**0.5 * latents + (1 - signal) ** 0.5 * noise
        return self._last_up_block(noised.to(self.unet.dtype)).mean(dim=0)

    def _last_up_block(self, sample: Tensor) -> Tensor:
        """Output of the UNet's last up block, before its final norm: [N, C, h, w]."""
        net = self.unet
        context = self.prompt_embeds.to(sample.dtype).expand(len(sample), -1, -1)
        timestep = torch.tensor([TIMESTEP], device=sample.device).expand(len(sample))
        time = net.time_embedding(net.time_proj(timestep).to(sample.dtype))

        def cross(block: nn.Module) -> dict[str, Tensor]:
            return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}

        x = net.conv_in(sample)
        skips = [x]
        for block in net.down_blocks:
            x, taken = block(x, time, **cross(block))
            skips += taken
        x = net.mid_block(x, time, encoder_hidden_states=context)
        for block in net.up_blocks:
            count = len(block.resnets)
            taken, skips = tuple(skips[-count:]), skips[:-count]
            size = skips[-1].shape[2:] if skips else None
            x = block(x, taken, time, upsample_size=size, **cross(block))
        output: Tensor = x.float()
        return output


def pool(features: Tensor, latent_masks: Tensor) -> Tensor:
    """Mean of a feature map [C, h, w] over each mask of [E, h, w]: [E, C].

    Raises ValueError for a mask without a pixel.
    """
    empty = [str(k + 1) for k, mask in enumerate(latent_masks) if not mask.any()]
    if empty:
        raise ValueError(
            f"the mask of entity {', '.join(empty)} has no cell at latent size; use a larger mask or picture"
        )
    return torch.stack([features[:, mask.bool()].mean(dim=1) for mask in latent_masks])


def tabulate(features: Tensor, entity_map: str) -> Tensor:
    """Entity vectors [E, C] as painted into the discs, [E, C/2]: neighbouring channels are averaged.

    entity_map "vector" paints the whole vector, as the paper and its training code do; "scalar" paints element 0
    into every channel, as the published demo does.
    """
    if entity_map == "scalar":
        features = features[:, :1].expand_as(features)
    elif entity_map != "vector":
        raise ValueError(f"entity_map is 'vector' or 'scalar', not {entity_map!r}")
    return features.reshape(len(features), -1, 2).mean(dim=2)
