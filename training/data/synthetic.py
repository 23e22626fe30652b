"""Synthetic clips as a source of training data."""

import torch

from training.config import Synthetic
from training.data.bank import Bank, Split, load
from training.data.clips import Clips
from training.data.masks import largest_discs
from training.data.scenes import Scene, draw_scene, render
from training.data.seeds import TRAIN, Draw, generator


class SyntheticSource:
    """Scenes without end, one set for each position; the same on every device up to rounding."""

    def __init__(
        self, options: Synthetic, seed: int, device: torch.device, *, split: Split = "train", purpose: int = TRAIN
    ) -> None:
        self.options = options
        self.position = (seed, purpose)
        self.device = device
        self.bank = load(split, device)

    def scene(self, stage: int, step: int, rank: int, count: int, frames: int) -> Scene:
        """The scenes of a position; all ranks use the same size."""
        sizes = self.options.sizes
        pick = Draw(generator("cpu", *self.position, stage, step)).integer((1,), len(sizes))
        draw = Draw(generator(self.device, *self.position, stage, step, rank))
        return draw_scene(draw, self.bank, self.options, sizes[int(pick)], count, frames)

    def batch(self, stage: int, step: int, rank: int, count: int, frames: int) -> Clips:
        """See `clips.Source`."""
        return to_clips(self.scene(stage, step, rank, count, frames), self.bank)

    def identity(self) -> str:
        """See `clips.Source`."""
        return f"synthetic {self.position} {self.bank.natural} {self.options.model_dump_json()}"

    def summary(self) -> str:
        """One line."""
        textures = len(self.bank.squares) - self.bank.natural
        return f"synthetic clips from {self.bank.natural} photographs and {textures} textures"


@torch.no_grad()
def to_clips(scene: Scene, bank: Bank) -> Clips:
    """Render scenes and measure what is needed of them; entity 0 is the background, which the camera may move."""
    frames, covers = render(scene, bank)
    masks = covers >= 0.5  # [B, E, F, H, W]
    steered = scene.controlled[:, 1:]
    first = masks[:, :, 0]
    background = ~(first & steered[..., None, None]).any(dim=1)
    start = largest_discs(background)[..., :2].to(frames.device)  # [B, 2]
    points = torch.cat([scene.camera(start)[:, None], scene.tracks()], dim=1)
    scales = torch.cat([scene.zoom[:, None], scene.scales], dim=1)
    first = torch.cat([background[:, None], first], dim=1)
    return Clips(
        frames=(frames * 255).round().to(torch.uint8),
        masks=first,
        points=points,
        scales=scales,
        visible=torch.ones_like(scales, dtype=torch.bool),
        controlled=scene.controlled & first.flatten(2).any(dim=2),
        discs=scene.discs,
        weighted=(masks & steered[:, :, None, None, None]).any(dim=1),
    )
