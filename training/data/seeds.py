"""Random numbers that depend on where they are used, and on nothing that happened before.

Every batch has generators of its own, made from the run's seed and the batch's position. So a run that is resumed
at a step draws what the uninterrupted run would have drawn, without any stored state.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

TRAIN, EVALUATE = 0, 1  # purposes: the evaluation's scenes never meet those of a training run


def seed_of(*position: int) -> int:
    """A 63-bit seed for a position such as (run seed, purpose, stage, step, rank)."""
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(device: torch.device | str, *position: int) -> torch.Generator:
    """A generator on `device` for a position."""
    return torch.Generator(device).manual_seed(seed_of(*position))


class Draw:
    """Draws of common kinds from one generator; float32 on the generator's device."""

    def __init__(self, source: torch.Generator) -> None:
        self.source = source
        self.device = source.device

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform in [low, high)."""
        return torch.rand(tuple(shape), generator=self.source, device=self.device) * (high - low) + low

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal."""
        return torch.randn(tuple(shape), generator=self.source, device=self.device)

    def flag(self, shape: Sequence[int], share: float) -> Tensor:
        """Bool, true with probability `share`."""
        return torch.rand(tuple(shape), generator=self.source, device=self.device) < share

    def choice(self, shape: Sequence[int], weights: Sequence[float]) -> Tensor:
        """Indices, int64, with probabilities in proportion to `weights`."""
        edges = torch.tensor(weights, device=self.device).cumsum(0)
        return torch.searchsorted(edges / edges[-1], self.uniform(shape), right=True).clamp(max=len(weights) - 1)

    def integer(self, shape: Sequence[int], end: int) -> Tensor:
        """Integers in [0, end), int64."""
        return torch.randint(end, tuple(shape), generator=self.source, device=self.device)
