"""The video VAE: encodes the first frame, decodes latents into frames, a chunk at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from numpy.typing import NDArray
from torch import Tensor

from model.unet import specialize


class VideoVAE(AutoencoderKLTemporalDecoder):
    """SVD's VAE (image encoder, temporal decoder); `norm_num_groups` is 32 there, here a saved setting."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",),
        block_out_channels: tuple[int, ...] = (64,),
        layers_per_block: int = 1,
        latent_channels: int = 4,
        sample_size: int = 32,
        scaling_factor: float = 0.18215,
        force_upcast: bool = True,
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            latent_channels=latent_channels,
            sample_size=sample_size,
            scaling_factor=scaling_factor,
            force_upcast=force_upcast,
        )
        specialize(self, norm_num_groups)


def encode_frame(vae: Any, pixels: Tensor) -> Tensor:
    """Posterior mean, not scaled (reference behaviour), of a picture [1, 3, H, W] in -1..1: [1, C, h, w]."""
    mean: Tensor = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()
    return mean.float()


def decode_frames(
    vae: Any, latents: Tensor, chunk: int, done: Callable[[int, int], object] = lambda _count, _total: None
) -> NDArray[np.uint8]:
    """Decode [F, C, h, w] into uint8 [F, H, W, 3], `chunk` frames at a time; `done(frames, total)` after each.

    Temporal convolutions see only their chunk, so its size changes the result a little.
    """
    if chunk < 1:
        raise ValueError(f"decode_chunk_size must be at least 1, not {chunk}")
    frames = []
    count = 0
    for part in (latents / vae.config.scaling_factor).split(chunk):
        pixels = vae.decode(part.to(vae.dtype), num_frames=len(part)).sample.float()
        pixels = (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1) * 255
        frames.append(pixels.round().to(torch.uint8).cpu().numpy())
        count += len(part)
        done(count, len(latents))
    return np.concatenate(frames)
