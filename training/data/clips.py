"""What every source of training data hands on: a batch of clips, and where they come from."""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Clips:
    """B clips of F frames with up to K entities each; an entity that is not there is not `controlled`.

    Points are in continuous pixels (the image covers [0, W) x [0, H)), entities in painting order.
    """

    frames: Tensor  # uint8 [B, F, 3, H, W]
    masks: Tensor  # bool [B, K, H, W], what is seen of each entity in the first frame
    points: Tensor  # float32 [B, K, F, 2], (x, y)
    scales: Tensor  # float32 [B, K, F], factors of the first frame's radius
    visible: Tensor  # bool [B, K, F], frames in which the entity is painted
    controlled: Tensor  # bool [B, K]
    discs: Tensor  # bool [B, K], False: only the Gaussian (drag-pixel control)
    weighted: Tensor  # bool [B, F, H, W], the entities that the loss is about
    names: tuple[str, ...] = field(default=())  # what a cache knows the clips by; empty: they are seen only once

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.frames.shape[-1], self.frames.shape[-2]


class Source(Protocol):
    """Anything that makes the batch of a position; the same one whenever it is asked again."""

    def batch(self, stage: int, step: int, rank: int, count: int, frames: int) -> Clips:
        """`count` clips of `frames` frames."""
        ...

    def summary(self) -> str:
        """What there is, and what had to be skipped."""
        ...

    def identity(self) -> str:
        """Everything that decides which clip a position has."""
        ...
