"""The model behind every other server here: seeded, deterministic, about 10 ms of one core."""

from __future__ import annotations

import base64
import os

import torch
from torch import nn

SIZE = 64


class Network:
    """One render is ``REPEATS`` passes; 0 leaves the rendering out. Each render adds a byte to ``RENDERED``."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self._layers = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.SiLU(), nn.Conv2d(24, 24, 3, padding=1))
        self._repeats = int(os.environ.get("REPEATS", "1"))
        self._rendered = os.environ.get("RENDERED", os.devnull)

    @torch.inference_mode()
    def render(self, picture: str) -> float:
        """The mean of what comes out for the first bytes of a picture, which is in base64."""
        first = base64.b64decode(picture)[: 3 * SIZE * SIZE]
        tensor = torch.frombuffer(bytearray(first), dtype=torch.uint8).float().view(1, 3, SIZE, SIZE) / 255
        means = [float(self._layers(tensor).mean()) for _ in range(self._repeats)]
        with open(self._rendered, "ab", buffering=0) as file:  # noqa: PTH123 - one append, no more
            file.write(b".")
        return means[-1] if means else 0.0
