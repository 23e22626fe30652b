"""What all stages are: modules that turn a batch into a loss, so that several processes can wrap them.

`trained` names the parts whose weights a stage changes; `finish` folds what was learned about scales into them.
"""

import torch
from torch import Tensor, nn

from training.data.clips import Source

MEASURE_BATCHES = 4  # that scales are measured on, and a linear start is fitted to
MEASURE = 1_000_000_007  # their place among the steps, beyond any that is trained on
Metrics = dict[str, Tensor]


class Stage(nn.Module):
    """The base of all stages; `forward(clips, signal, random, progress)` gives the loss and figures to log."""

    trained: tuple[str, ...] = ()
    needs_signal = False

    def frames(self, progress: float) -> int:  # noqa: ARG002 - stages differ in what they need
        """How many frames a clip has, given how much of the stage is done."""
        return 1

    def begin(self, source: Source, index: int) -> None:
        """Whatever is done to the weights before the first step; not after a resume."""

    def source(self, source: Source) -> Source:
        """Where this stage takes its clips from, given where the run does."""
        return source

    def finish(self, source: Source, index: int) -> None:
        """Whatever is done to the weights after the last step."""


def to_pixels(frames: Tensor) -> Tensor:
    """uint8 to -1..1."""
    return frames.float() / 127.5 - 1


def measured(source: Source, index: int, count: int) -> list[Tensor]:
    """Batches of pictures to measure on, [count, 3, H, W] in -1..1; the same ones whenever asked."""
    places = range(MEASURE, MEASURE + MEASURE_BATCHES)
    return [to_pixels(source.batch(index, place, 0, count, 1).frames[:, 0]) for place in places]


def normal(shape: torch.Size | tuple[int, ...], random: torch.Generator) -> Tensor:
    """Standard normal, where the generator lives."""
    return torch.randn(tuple(shape), generator=random, device=random.device)
