"""How well a video did what was asked: ObjMC and what belongs to it, from asked and tracked points. numpy only.

All distances are pixels. ObjMC (MotionCtrl, arXiv 2312.03641) is the mean distance of the tracked points to the
asked ones; here over the frames in which the tracker sees the entity, without the first one, which is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

HOLDS = 0.5
"""Pixels: an entity whose asked path goes no farther from its start is asked to hold still."""


@dataclass(frozen=True)
class Score:
    """Of one entity, or of a video. None: there is nothing to measure."""

    objmc_px: float | None
    objmc_px_still: float | None
    """What a video in which nothing moves scores."""
    anchor_drift_px: float | None
    """The distance where the entity was asked to hold still."""
    visibility: float
    """The share of frames in which the entity is seen."""
    motion_spread: float
    """Standard deviation of the optical flow inside the entity, pixels per frame."""


def score(asked: Floats, tracked: Floats, visible: Bools, spreads: Floats) -> list[Score]:
    """Score each entity by its asked and tracked points, both [E, F, 2], visible [E, F] and spreads [E]."""
    return [_score(*each) for each in zip(asked, tracked, visible, spreads, strict=True)]


def _score(asked: Floats, tracked: Floats, visible: Bools, spread: float) -> Score:
    later = slice(int(len(asked) > 1), None)
    visible = visible[later]
    distances = np.linalg.norm(tracked - asked, axis=1)[later][visible]
    away = np.linalg.norm(asked - asked[0], axis=1)[later]
    objmc = float(distances.mean()) if len(distances) else None
    return Score(
        objmc_px=objmc,
        objmc_px_still=float(away.mean()),
        anchor_drift_px=objmc if away.max() <= HOLDS else None,
        visibility=float(visible.mean()),
        motion_spread=float(spread),
    )


def overall(entities: Sequence[Score], asked: Floats) -> Score:
    """Score a video: ObjMC over the entities asked to move, drift over those asked to hold, the rest over all."""
    moving = [entity for entity, path in zip(entities, asked, strict=True) if _moves(path)]
    return Score(
        objmc_px=_mean(entity.objmc_px for entity in moving),
        objmc_px_still=_mean(entity.objmc_px_still for entity in moving),
        anchor_drift_px=_mean(entity.anchor_drift_px for entity in entities),
        visibility=_mean(entity.visibility for entity in entities) or 0.0,
        motion_spread=_mean(entity.motion_spread for entity in entities) or 0.0,
    )


def rank(entities: Sequence[Score], asked: Floats) -> tuple[float, float]:
    """What candidates for the same paths are sorted by, the best first: ObjMC over the entities asked to move,
    then the drift of those asked to hold.

    A frame in which an entity is not seen counts as one in which nothing moves, or a lost entity would win.
    """
    pairs = list(zip(entities, asked, strict=True))
    return (
        _mean(_with_lost(entity) for entity, path in pairs if _moves(path)) or 0.0,
        _mean(_with_lost(entity) for entity, path in pairs if not _moves(path)) or 0.0,
    )


def _with_lost(entity: Score) -> float:
    return entity.visibility * (entity.objmc_px or 0.0) + (1 - entity.visibility) * (entity.objmc_px_still or 0.0)


def _moves(path: Floats) -> bool:
    return bool(np.linalg.norm(path - path[0], axis=1).max() > HOLDS)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
