"""Scores mean what they say: a perfect video scores about 0, a frozen one exactly what nothing moving scores."""

from __future__ import annotations

import numpy as np
import pytest

from bench.tracking import clips
from evaluation.scores import overall, rank, score
from evaluation.tracking import FlowTracker, motion_spread

LINE = np.stack([np.arange(5.0) * 3, np.arange(5.0) * 4], axis=1)  # 5 px a frame
STILL = np.repeat(LINE[:1], 5, axis=0)
SEEN = np.ones((2, 5), bool)
NOTHING = np.zeros(2)


def test_distances_are_means_over_frames() -> None:
    asked, tracked = np.stack([LINE, STILL]), np.stack([STILL, STILL + np.array([0, 2])])
    moving, holding = score(asked, tracked, SEEN, np.array([0.5, 1.5]))
    assert moving.objmc_px == moving.objmc_px_still == 12.5
    assert moving.anchor_drift_px is None
    assert holding.objmc_px == holding.anchor_drift_px == 2
    assert holding.objmc_px_still == 0
    whole = overall([moving, holding], asked)
    assert (whole.objmc_px, whole.objmc_px_still, whole.anchor_drift_px) == (12.5, 12.5, 2)
    assert (whole.visibility, whole.motion_spread) == (1, 1)


def test_frames_in_which_it_is_not_seen_do_not_count() -> None:
    asked, tracked = np.stack([LINE, LINE]), np.stack([LINE, LINE])
    tracked[:, 3:] += 100
    visible = SEEN.copy()
    visible[0, 3:] = False
    visible[1, 1:] = False
    lost, never = score(asked, tracked, visible, NOTHING)
    assert (lost.objmc_px, lost.visibility, lost.objmc_px_still) == (0, 0.5, 12.5)
    assert (never.objmc_px, never.visibility) == (None, 0)
    assert overall([lost, never], asked).objmc_px == 0


def test_where_nothing_is_asked_to_move_there_is_only_drift() -> None:
    asked = np.stack([STILL, STILL + np.linspace(0, 0.49, 5)[:, None] * (1, 0)])
    whole = overall(score(asked, asked + np.array([1, 0]), SEEN, NOTHING), asked)
    assert whole.objmc_px is whole.objmc_px_still is None
    assert whole.anchor_drift_px == pytest.approx(1)


def test_candidates_are_ranked_by_motion_then_drift_and_a_lost_entity_wins_nothing() -> None:
    asked = np.stack([LINE, STILL])

    def ranked(moving: float, holding: float, seen: int = 5) -> tuple[float, float]:
        tracked = asked + np.array([[[moving, 0]], [[holding, 0]]])
        visible = np.repeat(np.arange(5)[None] < seen, 2, axis=0)
        return rank(score(asked, tracked, visible, NOTHING), asked)

    assert ranked(1, 9) < ranked(2, 0)
    assert ranked(1, 2) < ranked(1, 3)
    assert ranked(2, 0) < ranked(0, 0, seen=2), "the frames that it was lost in count as still ones"
    assert rank(score(asked[1:], asked[1:], SEEN[1:], NOTHING[1:]), asked[1:]) == (0, 0)


def test_clips_with_exact_tracks_score_near_zero_and_frozen_ones_the_still_baseline() -> None:
    for clip in clips(seed=4, count=3, frames=5):
        videos = {"true": clip.frames, "frozen": np.repeat(clip.frames[:1], 5, axis=0)}
        results = {}
        for name, frames in videos.items():
            tracked, visible = FlowTracker().track(frames, clip.masks, clip.tracks[:, 0])
            spreads = motion_spread(frames, clip.masks, tracked)
            results[name] = overall(score(clip.tracks, tracked, visible, spreads), clip.tracks)
        true, frozen = results["true"], results["frozen"]
        assert frozen.objmc_px == frozen.objmc_px_still
        assert frozen.motion_spread == 0
        if true.objmc_px is not None and frozen.objmc_px is not None:
            assert frozen.objmc_px > 3
            assert true.objmc_px < 0.4 * frozen.objmc_px
