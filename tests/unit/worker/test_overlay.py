import numpy as np
import numpy.typing as npt
import pytest

from worker.overlay import LONGER_SIDE, PALETTE, overlay

Frames = npt.NDArray[np.uint8]
WHITE = (255, 255, 255)


def plain(value: int = 90, num_frames: int = 5, height: int = 320, width: int = 576) -> Frames:
    return np.full((num_frames, height, width, 3), value, np.uint8)


def straight(start: tuple[float, float], end: tuple[float, float], num_frames: int = 5) -> npt.NDArray[np.float64]:
    """[1, F, 2]."""
    return np.linspace(start, end, num_frames)[None]


def sides(radius: int, entities: int = 1, num_frames: int = 5) -> npt.NDArray[np.int64]:
    return np.full((entities, num_frames), radius)


PATH = straight((100, 160), (400, 160))
BELOW = np.array([0, 60])


def changed(drawn: Frames, frames: Frames) -> npt.NDArray[np.bool_]:
    return np.asarray((drawn != frames).any(axis=-1))


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(128, 192, 3), (192, 128, 3), (320, 576, 1), (320, 512, 2), (64, 64, 9), (576, 1024, 1)],
)
def test_small_videos_are_scaled_up_by_a_whole_factor(height: int, width: int, scale: int) -> None:
    drawn = overlay(plain(height=height, width=width), PATH / 10, sides(5))
    assert drawn.shape == (5, height * scale, width * scale, 3)
    assert max(drawn.shape[1:3]) >= LONGER_SIDE


def test_only_the_drawing_changes_and_the_input_never() -> None:
    frames = plain()
    drawn = overlay(frames, PATH, sides(20))
    assert (frames == 90).all()
    rows = np.flatnonzero(changed(drawn, frames).any(axis=(0, 2)))
    assert rows.min() >= 160 - 20 - 4
    assert rows.max() <= 160 + 20 + 4


def test_the_disc_is_at_the_present_point_with_its_present_radius() -> None:
    radii = np.array([[10, 20, 30, 40, 50]])
    drawn = overlay(plain(), PATH, radii)
    for frame, (x, y), radius in zip(drawn, PATH[0].astype(int), radii[0], strict=True):
        for at in ((y - radius, x), (y + radius, x), (y, x + radius)):
            assert tuple(frame[at]) == PALETTE[0]


def test_the_disc_keeps_its_place_when_scaled_up() -> None:
    drawn = overlay(plain(height=128, width=192), straight((50, 60), (50, 60)), sides(10))
    y, x = 60 * 3 + 1, 50 * 3 + 1
    assert tuple(drawn[0, y - 30, x]) == tuple(drawn[0, y, x + 30]) == PALETTE[0]


def test_the_path_so_far_is_strong_and_the_rest_faint() -> None:
    frame = overlay(plain(), PATH, sides(10))[2]
    behind, ahead = frame[160, 150].astype(int), frame[160, 350].astype(int)
    assert tuple(behind) == PALETTE[0]
    assert tuple(ahead) != PALETTE[0]
    assert np.abs(ahead - 90).max() > 40


def test_a_dot_marks_the_start() -> None:
    frame = overlay(plain(), PATH, sides(30))[4]
    assert tuple(frame[160 + 3, 100]) == PALETTE[0]
    assert tuple(frame[160 + 3, 200]) != PALETTE[0]


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), *PALETTE])
def test_a_path_shows_on_any_background(colour: tuple[int, int, int]) -> None:
    frames = np.full((5, 320, 576, 3), colour, np.uint8)
    drawn = overlay(frames, PATH, sides(10))
    for moment in (0, 4):  # the path ahead, and the one behind
        column = drawn[moment, 150:171, 250].astype(int)
        assert np.abs(column - colour).max() > 60


def test_entities_have_colours_of_their_own() -> None:
    paths = np.concatenate([straight((60, 20 + 32 * k), (500, 20 + 32 * k)) for k in range(len(PALETTE) + 1)])
    drawn = overlay(plain(), paths, sides(8, len(paths)))[4]
    seen = [tuple(drawn[20 + 32 * k, 300]) for k in range(len(paths))]
    assert seen == [*PALETTE, PALETTE[0]]


def test_the_palette_has_no_two_alike() -> None:
    colours = np.array(PALETTE, int)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert distances[~np.eye(len(colours), dtype=bool)].min() > 60


@pytest.mark.parametrize("far", [700.0, 1e9, -1e9])
def test_points_outside_are_clipped(far: float) -> None:
    frames = plain()
    drawn = overlay(frames, straight((300, 100), (far, 100)), sides(10))
    assert tuple(drawn[4, 100, 310 if far > 0 else 290]) == PALETTE[0]
    outside = overlay(frames, straight((-far, -900), (-far, -900)), sides(10))
    assert not changed(outside, frames).any()


def test_one_frame_and_a_radius_of_zero_are_drawn() -> None:
    frames = plain(num_frames=1)
    drawn = overlay(frames, np.array([[[200, 100]]]), sides(0, 1, 1))
    assert changed(drawn, frames)[0, 100, 200]


@pytest.mark.parametrize(("y", "below"), [(160, False), (12, True)])
def test_a_label_is_above_its_disc_or_below_where_there_is_no_room(y: int, below: bool) -> None:
    path = straight((300, y), (300, y))
    bare, named = (overlay(plain(), path, sides(20), names) for names in (None, ["Vögel 鳥"]))
    rows = np.flatnonzero(changed(named, bare)[0].any(axis=1))
    assert len(rows) > 8
    assert (rows.min() > y) == below
    assert (named[0, rows] == 255).all(axis=-1).any()


def test_an_empty_label_draws_nothing() -> None:
    assert np.array_equal(overlay(plain(), PATH, sides(10), [""]), overlay(plain(), PATH, sides(10)))


def white_along(frame: Frames, row: int) -> npt.NDArray[np.bool_]:
    return np.asarray((frame[row, 100:400] == WHITE).all(axis=-1))


def test_the_tracked_path_is_dashed_in_white_up_to_now() -> None:
    drawn = overlay(plain(), PATH, sides(10), tracked=PATH + BELOW)
    line = white_along(drawn[2], 220)
    assert 0.3 < line[:140].mean() < 0.8
    assert np.count_nonzero(np.diff(line[:140].astype(int)) == 1) >= 8
    assert not line[160:].any()
    assert np.array_equal(white_along(drawn[3], 220)[:140], line[:140])


@pytest.mark.parametrize("how", ["nan", "visible"])
def test_what_the_tracker_lost_is_a_gap(how: str) -> None:
    tracked, visible = PATH + BELOW, np.ones((1, 5), bool)
    if how == "nan":
        tracked[0, 2] = np.nan
    else:
        visible[0, 2] = False
    line = white_along(overlay(plain(), PATH, sides(10), tracked=tracked, visible=visible)[4], 220)
    assert line[:70].any()
    assert not line[80:220].any()
    assert line[230:].any()
