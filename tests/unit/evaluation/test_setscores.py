"""The figures of a set are those of their formulas, and clips fall into the kinds that they show."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.clips import Clip
from evaluation.setscores import kinds, measure, summary

Floats = NDArray[np.float64]
WIDTH, HEIGHT, FRAMES = 128, 64, 5
FRAME = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


class Told:
    """A tracker that finds what it is told."""

    name = "told"

    def __init__(self, tracks: Floats, seen: NDArray[np.bool_] | None = None) -> None:
        self.tracks = tracks
        self.seen = np.ones(tracks.shape[:2], bool) if seen is None else seen

    def track(self, *_: object) -> tuple[Floats, NDArray[np.bool_]]:
        return self.tracks, self.seen


def line(start: tuple[float, float], step: tuple[float, float]) -> Floats:
    return np.asarray(np.array(start) + np.arange(FRAMES)[:, None] * np.array(step), np.float64)


def clip(*tracks: Floats, background: tuple[int, ...] = ()) -> Clip:
    """Squares of 16 pixels that are where their tracks are."""
    covers = np.zeros((len(tracks), FRAMES, HEIGHT, WIDTH), bool)
    for k, track in enumerate(tracks):
        for f, (x, y) in enumerate(track.round().astype(int)):
            covers[k, f, max(0, y - 8) : max(0, y + 8), max(0, x - 8) : max(0, x + 8)] = True
    return Clip(
        name="squares",
        frames=np.repeat(FRAME[None], FRAMES, axis=0),
        masks=covers[:, 0],
        tracks=np.stack(tracks),
        covers=covers,
        background=np.isin(np.arange(len(tracks)), background),
        original=(WIDTH * 10, HEIGHT * 5),
    )


def test_the_paper_s_formula_counts_every_point_in_pixels_of_the_original() -> None:
    asked = clip(line((20, 30), (0, 0)), line((20, 30), (-10, 0)))  # the second leaves at its third frame
    off = asked.tracks + np.array([[[3, 8]], [[0, 0]]])
    off[1, 4] += (0, 5)
    figures = summary([measure(asked, asked.frames, Told(off))])
    assert figures["objmc_paper"] == pytest.approx((5 * np.hypot(3 * 10, 8 * 5) + 5 * 5) / 10)


def test_ours_counts_points_inside_the_frame_after_the_first_in_pixels_of_256() -> None:
    asked = clip(line((20, 30), (0, 0)), line((20, 30), (-10, 0)))
    off = asked.tracks.copy()
    off[:, 0] += 50  # the given frame
    off[0, 1:] += (3, 8)
    off[1, 1] += (6, 0)
    off[1, 3:] += 40  # asked points outside
    seen = np.ones((2, FRAMES), bool)
    seen[0, 4] = False
    figures = summary([measure(asked, asked.frames, Told(off, seen))])
    counted = [*[np.hypot(3 * 2, 8 * 4)] * 4, 6 * 2, 0]  # the point at 0 is inside
    assert figures["objmc"] == pytest.approx(np.mean(counted))
    assert figures["seen"] == pytest.approx(5 / 6)
    assert figures["objmc_by_frame"][3] == pytest.approx(counted[0]), "a lost entity's guess counts"
    assert figures["objmc_by_frame"][1] == pytest.approx(counted[0] / 2)


def test_masks_are_compared_where_they_were_carried_to() -> None:
    def video(ahead: int) -> NDArray[np.uint8]:
        return np.stack([FRAME, *(np.roll(FRAME, 4 * f + ahead, axis=1) for f in range(1, FRAMES))])

    asked = clip(line((20, 30), (4, 0)))
    assert summary([measure(asked, video(0), Told(asked.tracks))])["mask_iou"] == pytest.approx(1)
    beside = asked.tracks.copy()
    beside[0, 1:] += (8, 0)  # half of a square of 16
    assert summary([measure(asked, video(8), Told(beside))])["mask_iou"] == pytest.approx(8 / 24)
    seen = np.ones((1, FRAMES), bool)
    seen[0, 3:] = False
    assert summary([measure(asked, video(8), Told(beside, seen))])["mask_iou"] == pytest.approx(8 / 24 / 2), "lost"


def test_kinds_of_control() -> None:
    still, thing, far = line((20, 30), (0, 0)), line((20, 30), (2, 0)), line((20, 30), (5, 2))
    assert kinds(clip(thing)) == (frozenset({"foreground", "small motion"}),)
    assert kinds(clip(still, background=(0,))) == (frozenset({"background", "still"}),)
    assert kinds(clip(thing, far, still)) == (
        frozenset({"foreground", "several", "small motion"}),
        frozenset({"foreground", "several", "large motion"}),
        frozenset({"foreground", "still"}),
    )


def test_a_camera_is_one_shift_and_zoom_of_all_with_the_background_among_them() -> None:
    starts = np.array([[20, 10], [100, 20], [60, 50.0]])
    zoomed = [line(tuple(p), tuple((p - (64, 32)) * 0.05 + (1, 0))) for p in starts]
    assert all("camera" in one for one in kinds(clip(*zoomed, background=(2,))))
    assert not any("camera" in one for one in kinds(clip(*zoomed)))
    assert not any("camera" in one for one in kinds(clip(*zoomed[:2], background=(0,))))
    apart = [*zoomed[:2], line((60, 50), (-6, -3))]
    assert not any("camera" in one for one in kinds(clip(*apart, background=(2,))))
    held = [line(tuple(p), (0, 0)) for p in starts]
    assert not any("camera" in one for one in kinds(clip(*held, background=(2,))))


def test_scores_by_kind_and_size_of_motion() -> None:
    asked = clip(line((20, 30), (2, 0)), line((20, 30), (10, 0)), background=(1,))
    off = asked.tracks + np.array([[[1, 0]], [[4, 0]]])
    figures = summary([measure(asked, asked.frames, Told(off))])
    by_kind = figures["objmc_by_kind"]
    assert by_kind["foreground"] == by_kind["small motion"] == pytest.approx(2)
    assert by_kind["background"] == by_kind["large motion"] == pytest.approx(8)
    assert by_kind["several"] == pytest.approx(5)
    assert by_kind["camera"] is by_kind["still"] is None
    found = [(travel["entities"], travel["objmc"]) for travel in figures["objmc_by_travel"]]
    assert found == [(0, None), (1, pytest.approx(2)), (0, None), (1, pytest.approx(8)), (0, None)]
