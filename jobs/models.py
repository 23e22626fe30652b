"""Models as the doors see them: the card that a worker announces once it holds the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

GRID = 64
"""Width and height are multiples of this: three halvings of an eighth."""


class ModelCard(BaseModel):
    """Name, native size, defaults and limits of a model, with the hash of its weights and its licences."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    width: int
    height: int
    max_pixels: int
    num_frames: int
    max_frames: int
    num_inference_steps: int
    max_inference_steps: int
    min_guidance_scale: float
    max_guidance_scale: float
    fps: int
    decode_chunk_size: int
    motion_bucket_id: int
    noise_aug_strength: float
    samplers: tuple[str, ...] = ("euler",)
    tiers: tuple[str, ...] = ("exact",)
    fast_num_inference_steps: int | None = None
    """Of the tier ``fast``, where a job does not ask for another number."""
    licences: tuple[str, ...] = ()
    weights_sha256: str
    device: str = ""
    dtype: str = ""
    versions: dict[str, str] = {}
    """Of the packages that decide the frames, where the worker runs."""

    def fit(self, image_width: int, image_height: int) -> tuple[int, int]:
        """The output size (width, height) for an image: its aspect ratio within the native pixel budget.

        Among all multiples of 64 inside the budget, the one whose aspect ratio is nearest; an unused part of
        the budget counts half as much as an equal error of the ratio.
        """
        budget = self.width * self.height

        def candidates() -> Iterator[tuple[int, int]]:
            for width in range(GRID, budget // GRID + 1, GRID):
                tallest = budget // width // GRID
                exact = width * image_height / image_width / GRID
                for rows in (math.floor(exact), math.ceil(exact)):  # the best height is one of these two
                    yield width, GRID * min(max(rows, 1), tallest)

        def misfit(size: tuple[int, int]) -> float:
            width, height = size
            ratio = math.log(width / height) - math.log(image_width / image_height)
            return abs(ratio) + 0.5 * math.log(budget / (width * height))

        return min(candidates(), key=misfit)


def snap(side: float) -> int:
    """The nearest side that the networks can make."""
    return max(GRID, GRID * round(side / GRID))
