"""A model small enough to run in every test: the preset `tiny`, at 64x64 and a few frames."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from model.conditioning import Entity

if TYPE_CHECKING:
    from model.pipeline import DragAnythingPipeline

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"
FRAMES = 3
JOB: dict[str, Any] = {"num_frames": FRAMES, "num_inference_steps": 2, "height": 64, "width": 64}


@pytest.fixture(scope="session")
def tiny() -> "DragAnythingPipeline":
    import torch

    from model import DragAnythingPipeline

    torch.set_num_threads(1)  # the suite runs one process per core
    return DragAnythingPipeline.from_pretrained("tiny", device="cpu")


@pytest.fixture(scope="session")
def saved(tiny: "DragAnythingPipeline", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's weights on disk, float32. Read only: copy before changing anything."""
    import torch

    folder = tmp_path_factory.mktemp("weights")
    tiny.save_pretrained(folder, dtype=torch.float32)
    return folder


@pytest.fixture(scope="session")
def image() -> np.ndarray[Any, np.dtype[np.uint8]]:
    ramp = np.linspace(0, 255, 100, dtype=np.uint8)
    red = np.broadcast_to(ramp, (80, 100))
    return np.stack([red, red[:, ::-1], np.full_like(red, 90)], axis=-1)


@pytest.fixture(scope="session")
def entity() -> Callable[..., Entity]:
    """Make an entity in the 100 x 80 picture that moves to the right."""

    def make(frames: int = FRAMES, **options: Any) -> Entity:
        mask = np.zeros((80, 100), np.uint8)
        mask[20:60, 10:50] = 1
        x = np.linspace(30, 60, frames)
        return Entity(mask, np.stack([x, np.full(frames, 40.0)], axis=1), **options)

    return make


@pytest.fixture(scope="session")
def seeded() -> Callable[..., Any]:
    import torch

    return lambda seed=0: torch.Generator().manual_seed(seed)
