"""Scores of a finished video: its entities are tracked and compared with the paths that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray

from evaluation.look import compose, inverse
from evaluation.scores import Score, overall, rank
from evaluation.scores import score as compare
from evaluation.tracking import Tracker, carry, motion_spread
from jobs.state import EntityScores, Scores
from model import Entity
from model.trajectory import fit

log = structlog.get_logger()

LONGER_SIDE, SHORTER_SIDE = 256, 64
"""Pixels: a video is made smaller before it is tracked, down to either."""
DIGITS = 3

Frames = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores, and the tracked points [E, F, 2] in pixels of the video with where they are seen, [E, F]."""

    scores: Scores
    tracked: NDArray[np.float64]
    visible: NDArray[np.bool_]
    rank: tuple[float, float]
    """What candidates are sorted by, the best first."""


def score(frames: Frames, entities: Sequence[Entity], labels: Sequence[str], tracker: Tracker) -> Scored | None:
    """Score frames [F, H, W, 3]; None where that fails, for no video is lost over its scores."""
    try:
        return _score(frames, entities, labels, tracker)
    except Exception as error:  # whatever the tracker met
        log.warning("scores_failed", tracker=tracker.name, exc_info=error)
        return None


def _score(frames: Frames, entities: Sequence[Entity], labels: Sequence[str], tracker: Tracker) -> Scored:
    height, width = frames.shape[1:3]
    small = _shrink(frames)
    size = (small.shape[2], small.shape[1])
    masks = np.stack([_mask(entity, size) for entity in entities])
    asked = np.stack([fit(entity.points, entity.mask.shape[::-1], size) for entity in entities])
    tracked, visible = tracker.track(small, masks, asked[:, 0])
    larger = np.array([width, height]) / size
    spreads = motion_spread(small, masks, tracked) * float(larger.mean())
    asked, tracked = asked * larger, tracked * larger
    each = compare(asked, tracked, visible, spreads)
    scores = Scores(
        tracker=tracker.name,
        **_rounded(overall(each, asked)),
        entities=[EntityScores(label=label, **_rounded(one)) for label, one in zip(labels, each, strict=True)],
    )
    return Scored(scores, tracked, visible, rank(each, asked))


def find_ending(frames: Frames, entities: Sequence[Entity], scored: Scored | None) -> list[Mask | None]:
    """Where each entity is in the last of frames [F, H, W, 3]; None where that is not known."""
    if scored is None:
        return [None] * len(entities)
    try:
        return list(_find_ending(frames, entities, scored))
    except Exception as error:  # the video is worth more
        log.warning("ending_not_found", exc_info=error)
        return [None] * len(entities)


def _find_ending(frames: Frames, entities: Sequence[Entity], scored: Scored) -> Iterator[Mask | None]:
    size = (frames.shape[2], frames.shape[1])
    small = _shrink(frames)
    larger = np.array(size) / (small.shape[2], small.shape[1])
    enlarge = np.hstack([np.diag(larger), (larger - 1)[:, None] / 2])
    for entity, track, visible in zip(entities, scored.tracked / larger, scored.visible, strict=True):
        motion = carry(small, _mask(entity, (small.shape[2], small.shape[1])), track, visible)
        if motion is None:
            yield None
            continue
        motion = compose(compose(enlarge, motion), inverse(enlarge))
        mask = cv2.warpAffine(_mask(entity, size).astype(np.uint8), motion, size, flags=cv2.INTER_NEAREST) > 0
        yield mask if mask.any() else None


def _shrink(frames: Frames) -> Frames:
    size = _smaller(frames.shape[2], frames.shape[1])
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]).astype(np.uint8)


def _smaller(width: int, height: int) -> tuple[int, int]:
    factor = min(1.0, max(LONGER_SIDE / max(width, height), SHORTER_SIDE / min(width, height)))
    return round(width * factor), round(height * factor)


def _mask(entity: Entity, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where at least half of a pixel is covered, or, of what is too small for that, a part of it."""
    cover = cv2.resize(np.asarray(entity.mask, np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(cover >= min(0.5, float(cover.max()))) & (cover > 0)


def _rounded(one: Score) -> dict[str, float | None]:
    return {name: None if value is None else round(value, DIGITS) for name, value in asdict(one).items()}
