"""The running average of weights that is used for everything but training."""

from typing import Any

import torch
from torch import Tensor


class Average:
    """Averages of named parameters ("part.key"), in float32; a decay of 0 follows the weights themselves."""

    def __init__(self, parameters: dict[str, Tensor], decay: float) -> None:
        self.parameters = parameters
        self.decay = decay
        self.updates = 0
        self.values = {name: value.detach().float().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Follow one step; early ones are weighted as a plain mean, so that the start is soon forgotten."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.decay else 0.0
        now = [value.detach().float() for value in self.parameters.values()]
        torch._foreach_lerp_(list(self.values.values()), now, 1 - decay)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Let the weights be their averages."""
        for name, value in self.values.items():
            self.parameters[name].copy_(value)

    def by_part(self) -> dict[str, dict[str, Tensor]]:
        """Averages as state dicts by part."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in self.values.items():
            part, key = name.split(".", 1)
            parts.setdefault(part, {})[key] = value
        return parts

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"updates": self.updates, "values": self.values}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What a checkpoint kept."""
        self.updates = state["updates"]
        for name, value in self.values.items():
            value.copy_(state["values"][name])
