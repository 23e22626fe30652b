"""Where entities went in a video: tracked from their masks in the first frame. OpenCV and numpy only.

Points are in continuous pixels: the picture covers [0, width) x [0, height).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from evaluation.look import CLIP, Field, Floats, Look, apply

Frames = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Flows = Sequence[tuple[Field, Field]]
"""For each frame but the last, the optical flow to the next one and back."""

SURE = 6.0
"""Grey levels: a motion under which an entity looks as it did in the first frame, up to this, is not doubted."""
LOST = (12.0, 0.6 * CLIP)
"""Grey levels: an entity that differs by more on average is not seen. The limit is how much its own pixels differ
from their mean, within these bounds."""


class Tracker(Protocol):
    """Anything that follows points of a video's first frame."""

    @property
    def name(self) -> str:
        """What scores call it."""
        ...

    def track(self, frames: Frames, masks: Bools, points: Floats) -> tuple[Floats, Bools]:
        """Follow each entity from its mask [E, H, W] and its point (x, y), [E, 2], in the first frame.

        ``frames``: uint8 [F, H, W, 3] RGB. Returns where the points are, float64 [E, F, 2], and whether the entity
        is seen there, bool [E, F]; where it is not, the point is a guess.
        """
        ...


@dataclass(frozen=True)
class FlowTracker:
    """Follows each entity as a flat thing that may shift, grow and turn.

    Candidates for a frame are where the entity was, where its speed takes it and where dense optical flow does
    (``flow``; DIS, Kroeger et al. 2016) and, while none of them fits, where its first appearance is found nearby
    (``search``). The best is corrected until it looks as in the first frame (``anchor``), so errors do not add up.
    """

    name: str = "flow"
    flow: bool = True
    search: bool = True
    anchor: bool = True

    def track(self, frames: Frames, masks: Bools, points: Floats) -> tuple[Floats, Bools]:
        """See ``Tracker``. An empty mask is never seen."""
        tracks = np.repeat(np.asarray(points, np.float64)[:, None], len(frames), axis=1)
        visible = np.zeros(tracks.shape[:2], bool)
        flows = optical_flows(frames, back=True) if self.flow else []
        for index, mask in enumerate(masks):
            start = tracks[index, :1].copy() - 0.5
            for now, (motion, seen) in enumerate(self._motions(frames, mask, flows) if mask.any() else ()):
                if motion is not None:
                    tracks[index, now] = apply(motion, start)[0] + 0.5
                elif now:
                    tracks[index, now] = tracks[index, now - 1]
                visible[index, now] = seen
        size = frames.shape[2], frames.shape[1]
        return tracks, visible & (tracks >= 0).all(axis=-1) & (tracks < size).all(axis=-1)

    def _motions(self, frames: Frames, mask: Bools, flows: Flows) -> Iterator[tuple[Floats | None, bool]]:
        """For each frame the motion since the first one, None where nothing has moved since the last, and whether
        the entity is seen."""
        look = Look.of(frames[0], mask)
        limit = min(max(look.contrast, LOST[0]), LOST[1])
        motion = before = np.eye(2, 3)
        seen = True
        yield None, seen
        for now in range(1, len(frames)):
            if np.array_equal(frames[now], frames[now - 1]):
                before = motion
                yield None, seen
                continue
            best, error = self._best(look, frames[now], motion, before, flows[now - 1] if flows else None)
            seen = error < limit
            before, motion = (motion, best) if error < LOST[1] else (motion, motion)
            yield motion, seen

    def _best(
        self, look: Look, frame: Frames, motion: Floats, before: Floats, flow: tuple[Field, Field] | None
    ) -> tuple[Floats, float]:
        candidates: list[Floats | None] = [motion, motion + (motion - before)]
        if flow is not None:
            candidates.append(look.follow(motion, *flow))
        best, error = self._fit(look, frame, candidates)
        if self.search and error > SURE:
            found, error_there = self._fit(look, frame, [look.find(frame, motion)])
            if error_there < error:
                best, error = found, error_there
        return best, error

    def _fit(self, look: Look, frame: Frames, candidates: Sequence[Floats | None]) -> tuple[Floats, float]:
        known = [candidate for candidate in candidates if candidate is not None]
        if not known:
            return np.eye(2, 3), np.inf
        best = min(known, key=lambda candidate: look.error(frame, candidate))
        if self.anchor:
            best = look.settle(frame, best)
        return best, look.error(frame, best)


def carry(frames: Frames, mask: Bools, track: Floats, visible: Bools) -> Floats | None:
    """The motion that takes an entity, whose mask [H, W] is not empty, from the first frame to the last one along
    its track [F, 2]; None where it is not seen there."""
    return carry_each(frames, mask, track, visible)[-1] if visible[-1] else None


def carry_each(frames: Frames, mask: Bools, track: Floats, visible: Bools) -> list[Floats]:
    """As ``carry``, for every frame; where the entity is not seen, the motion is a guess."""
    look, motion, places = Look.of(frames[0], mask), np.eye(2, 3), track - 0.5
    motions = [motion]
    for now in range(1, len(frames)):
        motion = motion.copy()
        motion[:, 2] += places[now] - apply(motion, places[:1])[0]
        if visible[now]:
            motion = look.settle(frames[now], motion)
        motions.append(motion)
    return motions


def optical_flows(frames: Frames, *, back: bool) -> list[tuple[Field, Field]]:
    """Dense optical flow from each frame to the next and back, [H, W, 2] in pixels; zero for what is not asked."""
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    engine.setFinestScale(1)
    none = np.zeros((*frames.shape[1:3], 2), np.float32)

    def flow(one: Frames, other: Frames) -> Field:
        return none if np.array_equal(one, other) else np.asarray(engine.calc(one, other, none.copy()), np.float32)

    return [(flow(a, b), flow(b, a) if back else none) for a, b in pairwise(greys)]


def motion_spread(frames: Frames, masks: Bools, tracks: Floats) -> Floats:
    """How unlike the pixels of each entity move: the standard deviation of the optical flow inside its mask, which
    goes along with its track [E, F, 2]; the mean over frames, in pixels per frame, float64 [E]. 0 for a shift."""
    spreads = np.zeros((len(masks), max(len(frames) - 1, 1)))
    shifts = np.rint(tracks - tracks[:, :1]).astype(int)
    places = [np.argwhere(mask)[:, ::-1] for mask in masks]
    for now, (flow, _) in enumerate(optical_flows(frames, back=False)):
        for index, inside in enumerate(places):
            x, y = (inside + shifts[index, now]).T
            here = (x >= 0) & (y >= 0) & (x < frames.shape[2]) & (y < frames.shape[1])
            if here.any():
                spreads[index, now] = np.sqrt(flow[y[here], x[here]].var(axis=0).sum())
    return np.asarray(spreads.mean(axis=1))
