"""What a benchmark is run on: the first frames, masks and tracks of a data set in its own folder layout.

VIPSeg and YouTube-VOS as training reads them (``training.data.folders``); DAVIS 2017: JPEGImages/480p/<video>/
<frame>.jpg, Annotations/480p/<video>/<frame>.png, ImageSets/2017/<split>.txt. ``synthetic`` needs no data: scenes
with exact tracks, from pictures and seeds that training never uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from training.config import Folder, Synthetic
from training.data import tracks
from training.data.folders import FIRST_THING, BrokenVideo, FolderSource, Video, read
from training.data.scenes import render
from training.data.seeds import EVALUATE
from training.data.synthetic import SyntheticSource, to_clips

Kind = Literal["vipseg", "davis", "youtube_vos", "synthetic"]
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Clip:
    """A piece of video with what is known of E entities. Points are continuous pixels of ``frames``."""

    name: str
    frames: npt.NDArray[np.uint8]  # [F, H, W, 3]
    masks: npt.NDArray[np.bool_]  # [E, H, W], of the first frame
    tracks: npt.NDArray[np.float64]  # [E, F, 2], may lie outside of the frame
    covers: npt.NDArray[np.bool_]  # [E, F, H, W], where each entity is seen
    background: npt.NDArray[np.bool_]  # [E], stuff such as sky and road
    original: tuple[int, int]  # (width, height) that the video had before it was resized

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.frames.shape[2], self.frames.shape[1]


@dataclass(frozen=True)
class Selection:
    """What of a data set is used. Clips begin with their videos."""

    kind: Kind
    root: Path | None = None
    split: str = "val"
    size: tuple[int, int] = (256, 256)
    frames: int = 14
    stride: int = 1
    clips: int | None = None
    """At most so many; of ``synthetic``, exactly."""
    tracks: Path | None = None
    """A folder of <video>.json; None: centres of the largest discs inside the masks. Entities without a track are
    left out."""
    entities: int = 16
    smallest: float = 0.002
    """Of the frame's area; smaller entities are left out."""
    seed: int = 1


class Clips:
    """The clips of a selection. ``skipped`` says what is wrong with each unusable video that was met."""

    def __init__(self, chosen: Selection) -> None:
        """Raises BrokenVideo where there is no such data set or nothing of it can be used."""
        self.chosen = chosen
        self.skipped: dict[str, str] = {}
        self._videos: list[Video] = []
        if chosen.kind != "synthetic":
            if chosen.root is None:
                raise BrokenVideo(chosen.kind, "without a folder", "name the one that holds the data set")
            self._options = _options(chosen, chosen.root)
            self._videos = (
                _davis(chosen.root, chosen.split)
                if chosen.kind == "davis"
                else FolderSource(self._options, chosen.seed, CPU).videos
            )

    def __len__(self) -> int:
        count = len(self._videos) if self._videos else self.chosen.clips or 0
        return min(count, self.chosen.clips or count)

    def __iter__(self) -> Iterator[Clip]:
        if not self._videos:
            yield from _synthetic(self.chosen, len(self))
            return
        for video in self._videos[: len(self)]:
            try:
                yield _read(self.chosen, self._options, video)
            except (BrokenVideo, tracks.TracksError) as error:
                self.skipped[video.name] = str(error)


def _options(chosen: Selection, root: Path) -> Folder:
    return Folder(
        kind="vipseg" if chosen.kind == "vipseg" else "youtube_vos",  # DAVIS has masks of the latter's form
        root=root,
        split=chosen.split,
        size=chosen.size,
        stride=chosen.stride,
        max_entities=chosen.entities,
        smallest=chosen.smallest,
        tracks=chosen.tracks,
    )


def _davis(root: Path, split: str) -> list[Video]:
    """Its videos; frames and masks that are missing are found to be so when they are read."""
    listing = root / "ImageSets" / "2017" / f"{split}.txt"
    if not listing.is_file():
        raise BrokenVideo(str(root), "not a data set", f"{listing} does not exist")
    videos = []
    for name in listing.read_text().split():
        masks = sorted((root / "Annotations" / "480p" / name).glob("*.png"))
        frames = (root / "JPEGImages" / "480p" / name / f"{mask.stem}.jpg" for mask in masks)
        videos.append(Video(name, tuple(frames), tuple(masks)))
    return videos


def _read(chosen: Selection, options: Folder, video: Video) -> Clip:
    span = (chosen.frames - 1) * chosen.stride + 1
    start = replace(video, frames=video.frames[:span], masks=video.masks[:span])
    clip = read(options, start, chosen.frames, np.random.default_rng(0))  # no more than one place to start at
    kept = list(range(len(clip.entities)))
    if chosen.tracks is not None:
        known = tracks.read(chosen.tracks / f"{video.name}.json")
        kept = [k for k in kept if len(known.get(clip.entities[k], ())) >= span]
    if not kept:
        raise BrokenVideo(video.name, "without tracks")
    ids = np.array(clip.entities)[kept]
    covers = clip.ids[None] == ids[:, None, None, None]
    with Image.open(video.frames[0]) as picture:
        original = picture.size
    return Clip(
        name=video.name,
        frames=clip.frames,
        masks=covers[:, 0],
        tracks=clip.points[kept],
        covers=covers,
        background=(ids < FIRST_THING) & (chosen.kind == "vipseg"),
        original=original,
    )


def _synthetic(chosen: Selection, count: int) -> Iterator[Clip]:
    options = Synthetic(sizes=(chosen.size,), max_entities=3, entities=(1.0, 1.0, 1.0), point_share=0.0)
    source = SyntheticSource(options, chosen.seed, CPU, split="held_out", purpose=EVALUATE)
    for index in range(count):
        scene = source.scene(0, index, 0, 1, chosen.frames)
        made, sprites = to_clips(scene, source.bank), render(scene, source.bank)[1][0] >= 0.5  # [E, F, H, W]
        covers = torch.cat([~sprites.any(dim=0, keepdim=True), sprites]).numpy()  # the background is the first
        kept = made.controlled[0].numpy() & covers[:, 0].any(axis=(1, 2))
        if kept.any():
            yield Clip(
                name=f"{chosen.seed}-{index:04d}",
                frames=np.ascontiguousarray(made.frames[0].permute(0, 2, 3, 1).numpy()),
                masks=covers[kept, 0],
                tracks=made.points[0].double().numpy()[kept],
                covers=covers[kept],
                background=np.arange(len(kept))[kept] == 0,
                original=chosen.size,
            )
