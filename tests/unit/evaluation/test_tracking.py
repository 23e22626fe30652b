"""The tracker follows what moves, says when it sees nothing, and leaves what is still exactly where it was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bench.tracking import TRACKERS, clips
from evaluation.look import Look, apply, compose, inverse
from evaluation.tracking import FlowTracker, motion_spread, optical_flows

WIDTH, HEIGHT = 96, 64
Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]


def texture(seed: int, width: int, height: int) -> Frames:
    smooth = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(height, width, 3)), (0, 0), 1.5)
    return np.asarray(np.clip(128 + smooth / smooth.std() * 50, 0, 255), np.uint8)


def moving(track: Floats, scales: Floats | None = None, side: int = 20) -> tuple[Frames, NDArray[np.bool_]]:
    """A textured square whose middle goes along a track [F, 2] before a textured background, and its mask."""
    backdrop, patch = texture(1, WIDTH, HEIGHT), texture(2, side, side)
    frames, mask = [], None
    for (x, y), scale in zip(track, np.ones(len(track)) if scales is None else scales, strict=True):
        place = np.array(
            [[scale, 0, x - 0.5 - scale * (side - 1) / 2], [0, scale, y - 0.5 - scale * (side - 1) / 2]]
        )
        cover = cv2.warpAffine(np.ones((side, side), np.float32), place, (WIDTH, HEIGHT))[..., None]
        sprite = cv2.warpAffine(patch, place, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        frames.append(np.rint(backdrop * (1 - cover) + sprite * cover).astype(np.uint8))
        mask = cover[..., 0] > 0.5 if mask is None else mask
    assert mask is not None
    return np.stack(frames), mask[None]


def straight(start: tuple[float, float], end: tuple[float, float], num_frames: int = 7) -> Floats:
    return np.linspace(start, end, num_frames)


def follow(frames: Frames, masks: NDArray[np.bool_], point: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    tracks, visible = FlowTracker().track(frames, masks, point[None])
    return tracks[0], visible[0]


@pytest.mark.parametrize("end", [(70, 40), (30, 20.5), (31.3, 44)])
def test_a_shift_is_followed_to_a_fraction_of_a_pixel(end: tuple[float, float]) -> None:
    track = straight((24, 20), end)
    found, visible = follow(*moving(track), track[0] + (4, -3))
    assert np.abs(found - track - (4, -3)).max() < 0.5
    assert visible.all()


def test_growth_carries_a_point_that_is_not_in_the_middle() -> None:
    track, scales = straight((40, 30), (50, 34)), np.linspace(1, 1.5, 7)
    offset = np.array([6, 5])
    found, _ = follow(*moving(track, scales), track[0] + offset)
    assert np.abs(found - track - offset * scales[:, None]).max() < 0.7


def test_a_jump_is_found_by_search() -> None:
    track = np.array([(30, 30)] * 2 + [(44, 36)] * 3, np.float64)
    frames, masks = moving(track)
    assert np.abs(follow(frames, masks, track[0])[0] - track).max() < 0.5
    lost, _ = FlowTracker(flow=False, search=False).track(frames, masks, track[:1])
    assert np.abs(lost[0] - track).max() > 5


def test_what_is_still_stays_exactly() -> None:
    frames, masks = moving(straight((30, 30), (30, 30)))
    point = np.array([33.3, 28.7])
    found, visible = follow(frames, masks, point)
    assert (found == point).all()
    assert visible.all()
    assert motion_spread(frames, masks, found[None]) == 0


def test_what_leaves_or_is_covered_is_not_seen() -> None:
    track = straight((60, 30), (140, 30), 9)
    frames, masks = moving(track)
    _, visible = follow(frames, masks, track[0])
    assert visible[:4].all()
    assert not visible[-3:].any()
    covered, masks = moving(straight((40, 30), (42, 30), 4))
    covered[2:] = texture(9, WIDTH, HEIGHT)
    assert follow(covered, masks, np.array([40.0, 30]))[1].tolist() == [True, True, False, False]


def test_an_entity_without_pixels_is_never_seen() -> None:
    frames, _ = moving(straight((30, 30), (40, 30)))
    found, visible = follow(frames, np.zeros((1, HEIGHT, WIDTH), bool), np.array([30.0, 30]))
    assert (found == (30, 30)).all()
    assert not visible.any()


@pytest.mark.parametrize("side", [1, 3])
def test_a_handful_of_pixels_is_no_error(side: int) -> None:
    track = straight((30, 30), (40, 30))
    frames, _ = moving(track)
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0, 30 : 30 + side, 30 : 30 + side] = True
    found, _ = follow(frames, mask, track[0])
    assert np.isfinite(found).all()


def test_spread_is_near_zero_for_a_shift_and_large_where_parts_go_apart() -> None:
    shifted, masks = moving(straight((30, 30), (42, 30)))
    torn = shifted.copy()
    torn[:, 30:] = moving(straight((30, 30), (18, 30)))[0][:, 30:]
    tracks = straight((30, 30), (42, 30))[None]
    inner = masks & (np.indices((HEIGHT, WIDTH))[1] > 22)
    assert motion_spread(torn, inner, tracks)[0] > 1.5 * motion_spread(shifted, inner, tracks)[0]


def test_flow_points_to_the_next_frame() -> None:
    frames, masks = moving(straight((40, 32), (43, 32), 2), side=44)
    ((forth, back),) = optical_flows(frames, back=True)
    assert np.median(forth[masks[0]], axis=0) == pytest.approx((3, 0), abs=0.7)
    assert np.median(back[masks[0]], axis=0)[0] < -1.5


def test_similarities_compose_and_invert() -> None:
    one, other = np.array([[1.1, -0.2, 3], [0.2, 1.1, -5]]), np.array([[0.9, 0.3, -1], [-0.3, 0.9, 2.0]])
    points = np.array([[3.0, 4.0], [10, -2]])
    assert np.allclose(apply(compose(one, other), points), apply(one, apply(other, points)))
    assert np.allclose(apply(inverse(one), apply(one, points)), points)


def test_the_first_frame_looks_like_itself() -> None:
    frames, masks = moving(straight((30, 30), (33, 30), 2))
    look = Look.of(frames[0], masks[0])
    assert look.error(frames[0], np.eye(2, 3)) == 0
    assert look.error(frames[1], np.eye(2, 3)) > 5
    assert look.error(frames[1], np.array([[1, 0, 3.0], [0, 1, 0]])) < 2


def test_the_whole_beats_its_parts_on_clips_with_exact_tracks() -> None:
    errors: dict[str, list[NDArray[np.float64]]] = {name: [] for name in TRACKERS}
    for clip in clips(seed=3, count=4, frames=6):
        for name, tracker in TRACKERS.items():
            tracks, _ = tracker.track(clip.frames, clip.masks, clip.tracks[:, 0])
            errors[name].append(np.linalg.norm(tracks - clip.tracks, axis=-1)[clip.visible])
    means = {name: float(np.concatenate(parts).mean()) for name, parts in errors.items()}
    assert min(means, key=lambda name: means[name]) == "flow, search, anchor"
    assert np.median(np.concatenate(errors["flow, search, anchor"])) < 2
