from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.look import Floats
from evaluation.tracking import Bools, FlowTracker, Frames
from jobs.state import Scores
from model import Entity
from worker.scoring import find_ending, score

NUM_FRAMES = 5


class Script:
    """A tracker that notes what it was given, and sees every entity go as told."""

    name = "script"

    def __init__(self, step: tuple[float, float] = (0, 0)) -> None:
        self.step = np.array(step)

    def track(self, frames: Frames, masks: Bools, points: Floats) -> tuple[Floats, Bools]:
        self.frames, self.masks, self.points = frames, masks, points
        time = np.arange(len(frames))[None, :, None]
        return points[:, None] + time * self.step, np.ones((len(masks), len(frames)), bool)


class Broken(Script):
    def track(self, *_: object) -> tuple[Floats, Bools]:
        raise RuntimeError


def entity(step: tuple[float, float], size: tuple[int, int] = (64, 64)) -> Entity:
    """A square at (28, 28) of a picture."""
    mask = np.zeros(size[::-1], bool)
    mask[16:40, 16:40] = True
    return Entity(mask, np.array([28.0, 28.0]) + np.arange(NUM_FRAMES)[:, None] * step)


def video(width: int, height: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    still = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)
    return np.repeat(still[None], NUM_FRAMES, axis=0)


@pytest.mark.parametrize(
    ("size", "tracked"),
    [((64, 64), (64, 64)), ((512, 256), (256, 128)), ((1024, 128), (512, 64)), ((64, 128), (64, 128))],
)
def test_large_videos_are_tracked_smaller_and_scored_in_their_own_pixels(
    size: tuple[int, int], tracked: tuple[int, int]
) -> None:
    tracker = Script(step=(1, 0))
    found = score(video(*size), [entity((0, 0))], ["square"], tracker)
    assert found is not None
    assert tracker.frames.shape == (NUM_FRAMES, tracked[1], tracked[0], 3)
    factor = size[0] / tracked[0]
    assert found.tracked[0, :, 0].tolist() == pytest.approx(
        [28 * size[0] / 64 + time * factor for time in range(NUM_FRAMES)]
    )
    assert found.scores.anchor_drift_px == pytest.approx(2.5 * factor)  # the mean of 1 to 4 steps


def test_masks_and_points_follow_the_picture_into_the_video() -> None:
    tracker = Script()
    score(video(64, 128), [entity((0, 0), size=(128, 64))], ["square"], tracker)
    rows, columns = np.nonzero(tracker.masks[0])
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (8, 20, 32, 80)
    assert tracker.points.tolist() == [[14, 56]]


def test_a_mask_too_small_for_the_video_keeps_a_pixel() -> None:
    tracker = Script()
    speck = entity((0, 0), size=(640, 640))
    mask = np.zeros((640, 640), bool)
    mask[100:103, 200:203] = True
    score(video(64, 64), [Entity(mask, speck.points)], ["speck"], tracker)
    assert 1 <= tracker.masks[0].sum() <= 4


def test_a_video_in_which_nothing_moves_scores_the_still_baseline() -> None:
    found = score(video(128, 64), [entity((2, 0)), entity((0, 0))], ["goes", "holds"], FlowTracker())
    assert found is not None
    scores = found.scores
    assert scores.tracker == "flow"
    assert scores.objmc_px == scores.objmc_px_still == 10  # 2 px of the picture are 4 of the video
    assert (scores.anchor_drift_px, scores.visibility, scores.motion_spread) == (0, 1, 0)
    assert [(one.label, one.anchor_drift_px) for one in scores.entities] == [("goes", None), ("holds", 0)]
    assert Scores.model_validate_json(scores.model_dump_json()) == scores


def test_a_tracker_that_fails_costs_the_scores_and_nothing_else() -> None:
    assert score(video(64, 64), [entity((1, 0))], ["square"], Broken()) is None


@pytest.mark.parametrize("size", [(128, 128), (512, 512)])
def test_the_ending_has_masks_that_went_along_grew_and_turned(size: tuple[int, int]) -> None:
    still = video(*size)[0]
    scale, middle = size[0] / 64, (size[0] * 28 / 64, size[1] * 28 / 64)
    frames, square = [], entity((0, 0)).mask.astype(np.uint8)
    expected = cv2.resize(square, size, interpolation=cv2.INTER_NEAREST)
    for time in range(NUM_FRAMES):
        motion = cv2.getRotationMatrix2D(middle, 4.0 * time, 1 + 0.03 * time)
        motion = np.asarray(motion + np.array([[0, 0, 1.0], [0, 0, 0.5]]) * time * scale, np.float64)
        sprite = cv2.warpAffine(still, motion, size)
        mask = cv2.warpAffine(cv2.resize(square, size, interpolation=cv2.INTER_NEAREST), motion, size)
        frames.append(np.where(mask[..., None] > 0, sprite, still[::-1]))
        expected = mask
    pictures = np.stack(frames).astype(np.uint8)
    things = [entity((1, 0.5))]
    (found,) = find_ending(pictures, things, score(pictures, things, ["square"], FlowTracker()))
    assert found is not None
    assert found.shape == expected.shape
    overlap = (found & (expected > 0)).sum() / (found | (expected > 0)).sum()
    assert overlap > 0.93


def test_the_ending_lacks_what_is_not_seen() -> None:
    frames, things = video(64, 64), [entity((0, 0)), entity((0, 0))]
    scored = score(frames, things, ["one", "other"], Script())
    assert scored is not None
    scored.visible[1, -1] = False
    held, lost = find_ending(frames, things, scored)
    assert held is not None
    assert np.array_equal(held, things[0].mask)
    assert lost is None
    assert find_ending(frames, things, None) == [None, None]
