"""Clips that are made once, kept on disk and come again: where making one costs as much as training on it."""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from training.checkpoint import read, write
from training.data.clips import Clips, Source
from training.data.seeds import generator

KEPT = 1_000_000_021  # the stage whose positions are the kept clips, beyond any that is trained


class KeptClips:
    """`count` different clips of a source, in another order each time round; made when first asked for."""

    def __init__(self, source: Source, count: int, folder: Path) -> None:
        self.made, self.count, self.folder = source, count, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.kind = hashlib.sha256(source.identity().encode()).hexdigest()[:16]
        self.order: tuple[int, Tensor] = (-1, torch.empty(0))

    def batch(self, stage: int, step: int, rank: int, count: int, frames: int) -> Clips:
        """See `clips.Source`; ranks take different clips as long as there are enough."""
        first = (step + rank * 1_000_003) * count
        return _join([self._clip(self._number(stage, n), frames) for n in range(first, first + count)])

    def summary(self) -> str:
        """The source's, and how many."""
        return f"{self.made.summary()}; {self.count} clips kept"

    def identity(self) -> str:
        """The source's, and how many."""
        return f"{self.made.identity()} {self.count}"

    def _number(self, stage: int, place: int) -> int:
        turn, place = divmod(place, self.count)
        if self.order[0] != turn:
            self.order = (turn, torch.randperm(self.count, generator=generator("cpu", KEPT, stage, turn)))
        return int(self.order[1][place])

    def _clip(self, number: int, frames: int) -> Clips:
        name = f"{self.kind}-{frames}-{number}"
        path = self.folder / f"{name}.pt"
        if path.exists():
            return Clips(**read(path), names=(name,))
        clip = self.made.batch(KEPT, number, 0, 1, frames)
        write(path, {key: value for key, value in vars(clip).items() if isinstance(value, Tensor)})
        return replace(clip, names=(name,))


def _join(clips: list[Clips]) -> Clips:
    names = tuple(name for clip in clips for name in clip.names)
    tensors = [key for key, value in vars(clips[0]).items() if isinstance(value, Tensor)]
    return Clips(**{key: torch.cat([getattr(clip, key) for clip in clips]) for key in tensors}, names=names)
