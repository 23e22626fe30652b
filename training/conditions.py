"""What `model.pipeline` computes for one job, for a batch of clips: entity tables and the condition embedding."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.entity import TIMESTEP, EntityEncoder, alpha_bar
from training.checkpoint import read, write


@torch.no_grad()
def entity_features(encoder: EntityEncoder, pixels: Tensor, ensemble: int, source: torch.Generator) -> Tensor:
    """Feature maps of first frames [B, 3, H, W] in -1..1, averaged over the ensemble: float32 [B, C, h, w]."""
    posterior = encoder.vae.encode(pixels.to(encoder.vae.dtype)).latent_dist
    mean, deviation = posterior.mean.float()[:, None], posterior.std.float()[:, None]
    vae_noise, noise = torch.randn(
        (2, len(pixels), ensemble, *mean.shape[2:]), generator=source, device=pixels.device
    )
    signal = alpha_bar()
    latents = (mean + deviation * vae_noise) * encoder.vae.config.scaling_factor
    noised = (signal**0.5 * latents + (1 - signal) ** 0.5 * noise).flatten(0, 1).to(encoder.unet.dtype)
    return (
        last_up_block(encoder, noised, TIMESTEP)
        .float()
        .reshape(len(pixels), ensemble, -1, *noised.shape[2:])
        .mean(dim=1)
    )


def last_up_block(encoder: EntityEncoder, sample: Tensor, timestep: int) -> Tensor:
    """Output of the UNet's last up block, where entity features are read: [N, C, h, w]."""
    found: list[Tensor] = []
    handle = encoder.unet.up_blocks[-1].register_forward_hook(
        lambda _module, _inputs, output: found.append(output)
    )
    try:
        context = encoder.prompt_embeds.to(sample.dtype).expand(len(sample), -1, -1)
        encoder.unet(sample, timestep, context)
    finally:
        handle.remove()
    return found[0]


def pool(features: Tensor, latent_masks: Tensor) -> Tensor:
    """Entity tables [B, K, C/2]: means over masks [B, K, h, w], neighbouring channels averaged; 0 where empty."""
    masks = latent_masks.float()
    total = masks.sum(dim=(2, 3)).clamp(min=1)[..., None]
    means = torch.einsum("bchw,bkhw->bkc", features, masks) / total
    return means.reshape(*means.shape[:2], -1, 2).mean(dim=3)


def embed(embedding: Any, heat: Tensor, labels: Tensor, table: Tensor, *, again: bool = False) -> Tensor:
    """`model.controlnet.ConditionEmbedding` for a batch, [B, F, C0, h, w].

    heat, labels: uint8 [B, F, H, W]; table: [B, K, C]. `again` computes activations twice instead of keeping them.
    """
    dtype = embedding.conv_in.weight.dtype
    rows = torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)
    clip = torch.arange(len(labels), device=labels.device)[:, None, None, None]
    maps = rows[clip, labels.long()].to(dtype).flatten(0, 1).permute(0, 3, 1, 2)
    grey = heat.flatten(0, 1)[:, None].to(dtype)

    def branches(grey: Tensor, maps: Tensor) -> Tensor:
        enter = embedding.conv_in  # its channels all get the same
        x, y = F.silu(F.conv2d(grey, enter.weight.sum(dim=1, keepdim=True), enter.bias, padding=1)), maps
        for conv in embedding.blocks:
            x = F.silu(conv(x))
        for conv in embedding.blocks_feature:
            y = F.silu(conv(y))
        summed: Tensor = embedding.conv_out(x) + embedding.conv_out_feature(y)
        return summed

    out: Tensor = checkpoint(branches, grey, maps, use_reentrant=False) if again else branches(grey, maps)
    return out.reshape(*labels.shape[:2], *out.shape[1:])


class Cache:
    """Tensors on disk that do not change while a network does not: by clip, and by the weights that made them."""

    def __init__(self, folder: Path | None, kind: str, *makers: nn.Module) -> None:
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            for maker in makers:
                for value in maker.state_dict().values():
                    digest.update(value.flatten()[:64].float().cpu().numpy().tobytes())
            self.kind = f"{kind}-{digest.hexdigest()[:16]}"

    def read(self, names: tuple[str, ...]) -> Tensor | None:
        """One tensor per clip, stacked, float32 on the CPU; None unless all are there."""
        if self.folder is None or not names:
            return None
        paths = [self._path(name) for name in names]
        if not all(path.exists() for path in paths):
            return None
        return torch.stack([read(path).float() for path in paths])

    def write(self, names: tuple[str, ...], values: Tensor) -> Tensor:
        """Keep tensors in half precision; what `read` will give, so that a resumed run sees the same."""
        if self.folder is None or not names:
            return values
        for name, value in zip(names, values, strict=True):
            write(self._path(name), value.half().cpu().clone())
        return values.half().float()

    def get(self, names: tuple[str, ...], device: torch.device, make: Callable[[], Tensor]) -> Tensor:
        """What is kept of the clips, on `device`; made and kept first where it is not."""
        known = self.read(names)
        return self.write(names, make()) if known is None else known.to(device)

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.kind}-{hashlib.sha256(name.encode()).hexdigest()[:24]}.pt"
