"""VIPSeg and YouTube-VOS in their own folder layouts, as a source of clips.

VIPSeg: imgs/<video>/<frame>.jpg, panomasks/<video>/<frame>.png (16 bits: a class below 125 is stuff, things are
class * 100 + instance) or panomasksRGB (red + 256 green + 65536 blue), and <split>.txt with one video per line.
YouTube-VOS: <split>/JPEGImages/<video>/<frame>.jpg, <split>/Annotations/<video>/<frame>.png (palette, 0: nothing).
"""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from training.config import Folder
from training.data import tracks
from training.data.clips import Clips
from training.data.masks import largest_disc, threads
from training.data.seeds import TRAIN, seed_of

FIRST_THING = 125  # VIPSeg
Ids = npt.NDArray[np.int32]
logger = logging.getLogger(__name__)


class BrokenVideo(ValueError):
    """A video that cannot be used; `reason` is what the summary counts."""

    def __init__(self, video: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{video}: {reason}{': ' if detail else ''}{detail}")
        self.reason = reason


@dataclass(frozen=True)
class Video:
    """Frames that have a mask, in order."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip as arrays; K entities that are there in the first frame."""

    name: str
    frames: npt.NDArray[np.uint8]  # [F, H, W, 3]
    ids: Ids  # [F, H, W]
    entities: tuple[int, ...]
    points: npt.NDArray[np.float64]  # [K, F, 2]
    radii: npt.NDArray[np.float64]  # [K, F], 0 where the entity is not seen


class FolderSource:
    """Clips of a data set, in an order that depends on the seed alone. What is broken is named and skipped."""

    def __init__(self, options: Folder, seed: int, device: torch.device) -> None:
        """Raises BrokenVideo if nothing can be used."""
        self.options, self.seed, self.device = options, seed, device
        self.skipped: Counter[str] = Counter()
        self.videos: list[Video] = []
        self.broken: set[str] = set()
        for name in _names(options):
            try:
                self.videos.append(find(options, name))
            except BrokenVideo as error:
                self._skip(name, error)
        if not self.videos:
            raise BrokenVideo(str(options.root), "no usable video", self.summary())

    def identity(self) -> str:
        """See `clips.Source`."""
        return f"{self.seed} {self.options.model_dump_json()}"

    def summary(self) -> str:
        """Counts of what is used and of what was skipped, by reason."""
        counts = "; ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
        return f"{self.options.kind}: {len(self.videos) - len(self.broken)} videos, skipped: {counts or 'none'}"

    def batch(self, stage: int, step: int, rank: int, count: int, frames: int) -> Clips:
        """See `clips.Source`."""
        wanted = [(stage, step, rank, i, frames) for i in range(count)]
        return self._collate(list(threads().map(lambda place: self._clip(*place), wanted)))

    def _clip(self, stage: int, step: int, rank: int, item: int, frames: int) -> Clip:
        """The clip of a position: a video and a start drawn from it, the next try where they are broken."""
        for attempt in range(len(self.videos) * 2 + 20):
            random = np.random.default_rng(seed_of(self.seed, TRAIN, stage, step, rank, item, attempt))
            video = self.videos[random.integers(len(self.videos))]
            if video.name in self.broken:
                continue
            try:
                return read(self.options, video, frames, random)
            except BrokenVideo as error:
                self.broken.add(video.name)
                self._skip(video.name, error)
        raise BrokenVideo(str(self.options.root), "no usable clip", self.summary())

    def _skip(self, name: str, error: BrokenVideo) -> None:
        self.skipped[error.reason] += 1
        logger.warning("skipped %s", error if name in str(error) else f"{name}: {error}")

    def _collate(self, clips: list[Clip]) -> Clips:
        most = max(len(clip.entities) for clip in clips)
        count, frames = len(clips), len(clips[0].frames)
        width, height = self.options.size
        masks = torch.zeros(count, most, height, width, dtype=torch.bool)
        points, radii = torch.zeros(count, most, frames, 2), torch.zeros(count, most, frames)
        weighted = torch.zeros(count, frames, height, width, dtype=torch.bool)
        for b, clip in enumerate(clips):
            k = len(clip.entities)
            masks[b, :k] = torch.from_numpy(np.stack([clip.ids[0] == e for e in clip.entities]))
            points[b, :k], radii[b, :k] = (
                torch.from_numpy(clip.points).float(),
                torch.from_numpy(clip.radii).float(),
            )
            weighted[b] = torch.from_numpy(np.isin(clip.ids, clip.entities))
        first = radii[..., :1]
        batch = Clips(
            frames=torch.from_numpy(np.stack([clip.frames for clip in clips])).permute(0, 1, 4, 2, 3).contiguous(),
            masks=masks,
            points=points,
            scales=torch.where(radii > 0, radii / first.clamp(min=1), 1.0),
            visible=radii > 0,
            controlled=first[..., 0] > 0,
            discs=torch.ones(count, most, dtype=torch.bool),
            weighted=weighted,
            names=tuple(clip.name for clip in clips),
        )
        moved = {
            key: value.to(self.device) for key, value in vars(batch).items() if isinstance(value, torch.Tensor)
        }
        return Clips(**moved, names=batch.names)


def find(options: Folder, name: str) -> Video:
    """The frames and masks of a video, by their file names. Raises BrokenVideo where they do not pair up."""
    if options.kind == "vipseg":
        folder = options.root / "panomasks"
        images = options.root / "imgs" / name
        masks = (folder if folder.is_dir() else options.root / "panomasksRGB") / name
    else:
        images, masks = (options.root / options.split / kind / name for kind in ("JPEGImages", "Annotations"))
    frames = {path.stem: path for path in images.glob("*.jpg")} if images.is_dir() else {}
    annotated = {path.stem: path for path in masks.glob("*.png")} if masks.is_dir() else {}
    if not frames:
        raise BrokenVideo(name, "without frames", str(images))
    if not annotated:
        raise BrokenVideo(name, "without masks", str(masks))
    if missing := sorted(annotated.keys() - frames.keys()):
        raise BrokenVideo(name, "with missing frames", f"{missing[0]}.jpg, {len(missing)} in all")
    stems = sorted(annotated, key=lambda stem: (int(stem) if stem.isdigit() else 0, stem))
    return Video(name, tuple(frames[stem] for stem in stems), tuple(annotated[stem] for stem in stems))


def read(options: Folder, video: Video, frames: int, random: np.random.Generator) -> Clip:
    """Read a clip that starts anywhere in a video. Raises BrokenVideo, also for a file that turns out broken."""
    span = (frames - 1) * options.stride + 1
    if len(video.frames) < span:
        raise BrokenVideo(video.name, "too short", f"{len(video.frames)} frames, {span} are needed")
    start = int(random.integers(len(video.frames) - span + 1))
    chosen = range(start, start + span, options.stride)
    pictures, ids = zip(*(_read_frame(options, video, i) for i in chosen), strict=True)
    stacked: Ids = np.stack(ids)
    entities = _entities(options, stacked[0])
    if not entities:
        raise BrokenVideo(video.name, "without entities", f"in frame {video.frames[start].name}")
    discs = np.array([[largest_disc(frame == e) for frame in stacked] for e in entities])
    points = discs[..., :2] + 0.5
    if options.tracks is not None:
        points = _tracked(options, video, entities, points, chosen)
    name = f"{options.kind}/{options.split}/{video.name}/{start}/{options.size}"
    return Clip(name, np.stack(pictures), stacked, entities, points, np.trunc(discs[..., 2]))


def _names(options: Folder) -> list[str]:
    """The videos of a split, by name."""
    if options.kind == "vipseg":
        listing = options.root / f"{options.split}.txt"
        if listing.exists():
            return sorted(line.strip() for line in listing.read_text().splitlines() if line.strip())
        folder = options.root / "imgs"
    else:
        folder = options.root / options.split / "JPEGImages"
    if not folder.is_dir():
        raise BrokenVideo(str(options.root), "not a data set", f"{folder} does not exist")
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _read_frame(options: Folder, video: Video, index: int) -> tuple[npt.NDArray[np.uint8], Ids]:
    try:
        with Image.open(video.frames[index]) as picture:
            original = picture.size
            frame = np.array(picture.convert("RGB").resize(options.size))
        with Image.open(video.masks[index]) as mask:
            ids = np.array(mask)
    except (OSError, ValueError, SyntaxError) as error:
        raise BrokenVideo(video.name, "with broken files", str(error)) from None
    if ids.shape[1::-1] != original:
        raise BrokenVideo(
            video.name, "with masks of another size", f"{video.masks[index].name} is {ids.shape[1::-1]}"
        )
    if ids.ndim == 3:
        ids = ids[..., :3].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    return frame, cv2.resize(ids.astype(np.int32), options.size, interpolation=cv2.INTER_NEAREST).astype(np.int32)


def _entities(options: Folder, ids: Ids) -> tuple[int, ...]:
    """The largest entities of the first frame, in the order of their ids."""
    found, counts = np.unique(ids, return_counts=True)
    lowest = FIRST_THING if options.kind == "vipseg" and options.things_only else 1
    large = [
        (n, int(e)) for e, n in zip(found, counts, strict=True) if e >= lowest and n >= options.smallest * ids.size
    ]
    return tuple(sorted(e for _, e in sorted(large, reverse=True)[: options.max_entities]))


def _tracked(
    options: Folder, video: Video, entities: tuple[int, ...], points: npt.NDArray[np.float64], chosen: range
) -> npt.NDArray[np.float64]:
    """Points from a file of tracks, at the clip's size; an entity without a track keeps its mask's centres."""
    assert options.tracks is not None
    try:
        known = tracks.read(options.tracks / f"{video.name}.json")
    except tracks.TracksError as error:
        raise BrokenVideo(video.name, "with broken tracks", str(error)) from None
    with Image.open(video.frames[0]) as picture:
        factor = np.array(options.size) / np.array(picture.size)
    for k, entity in enumerate(entities):
        track = known.get(entity)
        if track is not None and len(track) > chosen[-1]:
            points[k] = track[list(chosen)] * factor
    return points
