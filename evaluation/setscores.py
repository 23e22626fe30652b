"""Scores of a set of videos, from asked and tracked points: what the paper's tables have, and what one can trust.

``objmc_paper`` is the paper's formula: the plain mean over all entities, all frames, the given first one included,
and all asked points, also those outside of the frame, in pixels of the original video. ``objmc`` counts the frames
after the first in which the asked point is inside the frame, in pixels of a frame of 256 x 256. Both count the
tracker's guess where it has lost an entity, for a lost one must not win.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evaluation.clips import Clip
from evaluation.scores import HOLDS
from evaluation.tracking import Tracker, carry_each

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Frames = npt.NDArray[np.uint8]

SIDE = 256
"""Pixels of the frame, both ways, that ``objmc`` is measured in: the size of the paper's table."""
LARGE = 0.1
"""Of the frame's diagonal: a path that goes farther from its start is a large motion."""
BINS = (0.05, 0.1, 0.2, 0.4, np.inf)
"""Likewise; upper bounds of the sizes of motion."""
ALIKE = 0.2
"""Of the motion: entities whose paths differ by no more from one shift and zoom move as under a camera."""
KINDS = ("foreground", "background", "camera", "several", "small motion", "large motion", "still")


@dataclass(frozen=True, eq=False)
class Measured:
    """One video: distances of E entities in F frames, and what they were asked."""

    paper: Floats  # [E, F], pixels of the original video
    distances: Floats  # [E, F], pixels of 256 x 256
    counted: Bools  # [E, F], asked points inside the frame, without the first frame
    seen: Bools  # [E, F]
    overlaps: Floats  # [E, F], intersection over union with the true mask; NaN where there is none
    travel: Floats  # [E], of the frame's diagonal
    kinds: tuple[frozenset[str], ...]  # [E]


def measure(clip: Clip, frames: Frames, tracker: Tracker) -> Measured:
    """Track a clip's entities in a video [F, H, W, 3] that was made for it, and compare."""
    asked, size = clip.tracks, np.array(clip.size)
    tracked, seen = tracker.track(frames, clip.masks, asked[:, 0])
    away = tracked - asked
    counted = np.asarray(((asked >= 0) & (asked < size)).all(axis=-1))
    counted[:, 0] = False
    return Measured(
        paper=np.linalg.norm(away * (np.array(clip.original) / size), axis=-1),
        distances=np.linalg.norm(away * (SIDE / size), axis=-1),
        counted=counted,
        seen=seen,
        overlaps=np.stack(
            [_overlap(*each, frames) for each in zip(clip.masks, clip.covers, tracked, seen, strict=True)]
        ),
        travel=_travel(clip),
        kinds=kinds(clip),
    )


def _overlap(mask: Bools, covers: Bools, track: Floats, seen: Bools, frames: Frames) -> Floats:
    """Intersection over union of an entity's mask, carried along in a video, with the true one."""
    found = np.full(len(frames), np.nan)
    if not mask.any():
        return found
    size = (frames.shape[2], frames.shape[1])
    for now, motion in enumerate(carry_each(frames, mask, track, seen)):
        if now and covers[now].any():
            moved = cv2.warpAffine(mask.astype(np.uint8), motion, size, flags=cv2.INTER_NEAREST) > 0
            shared, either = (moved & covers[now]).sum(), (moved | covers[now]).sum()
            found[now] = shared / either if seen[now] else 0.0
    return found


def kinds(clip: Clip) -> tuple[frozenset[str], ...]:
    """Which kinds of control each entity of a clip is an example of.

    camera: three entities or more, one of them background, all follow one shift and zoom. several: two entities or
    more move. A clip whose every path is asked to hold still has neither.
    """
    steps = np.linalg.norm(clip.tracks - clip.tracks[:, :1], axis=-1).max(axis=1)
    moving, travel = steps > HOLDS, _travel(clip)
    shared = {"several"} if moving.sum() > 1 else set()
    if clip.background.any() and _alike(clip):
        shared.add("camera")
    return tuple(
        frozenset(
            {"background" if stuff else "foreground"}
            | (shared | {"large motion" if far > LARGE else "small motion"} if moves else {"still"})
        )
        for stuff, moves, far in zip(clip.background, moving, travel, strict=True)
    )


def _alike(clip: Clip) -> bool:
    start, end = clip.tracks[:, 0], clip.tracks[:, -1]
    if len(start) < 3:
        return False
    middle = start.mean(axis=0)
    spread = start - middle
    moved = end - start
    change = moved - moved.mean(axis=0)
    growth = (change * spread).sum() / max(float((spread**2).sum()), 1e-9)
    rest = change - growth * spread
    return bool((moved**2).sum() > len(start) * HOLDS**2 and (rest**2).sum() <= ALIKE**2 * (moved**2).sum())


def _travel(clip: Clip) -> Floats:
    steps = np.linalg.norm(clip.tracks - clip.tracks[:, :1], axis=-1)
    return np.asarray(steps.max(axis=1) / np.hypot(*clip.size))


def summary(videos: Sequence[Measured]) -> dict[str, Any]:
    """The figures of a set, as plain data; None where there is nothing to measure."""
    return {
        "entities": sum(len(video.paper) for video in videos),
        "objmc_paper": _mean(video.paper.ravel() for video in videos),
        "objmc": _objmc(videos),
        "seen": _mean(video.seen[video.counted] for video in videos),
        "mask_iou": _mean(video.overlaps[~np.isnan(video.overlaps)] for video in videos),
        "objmc_by_kind": {kind: _objmc(videos, kind) for kind in KINDS},
        "objmc_by_frame": [
            _mean(video.distances[:, now][video.counted[:, now]] for video in videos)
            for now in range(1, max((video.paper.shape[1] for video in videos), default=0))
        ],
        "objmc_by_travel": _by_travel(videos),
    }


def _objmc(videos: Sequence[Measured], kind: str | None = None) -> float | None:
    return _mean(
        distances[counted]
        for video in videos
        for distances, counted, kinds in zip(video.distances, video.counted, video.kinds, strict=True)
        if kind is None or kind in kinds
    )


def _by_travel(videos: Sequence[Measured]) -> list[dict[str, Any]]:
    table = []
    for low, high in zip((0.0, *BINS), BINS, strict=False):
        within = [(video, (video.travel > low) & (video.travel <= high)) for video in videos]
        table.append(
            {
                "above": low,
                "to": None if np.isinf(high) else high,
                "entities": int(sum(chosen.sum() for _, chosen in within)),
                "objmc": _mean(video.distances[chosen][video.counted[chosen]] for video, chosen in within),
            }
        )
    return table


def _mean(parts: Iterable[Floats | Bools]) -> float | None:
    known = np.concatenate([np.zeros(0), *parts])
    return float(known.mean()) if len(known) else None
