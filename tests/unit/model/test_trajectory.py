import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import trajectory

coordinates = st.floats(-5000, 5000)
lines = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=30)
timings = st.sampled_from(["arc_length", "per_point"])
easings = st.sampled_from(["linear", "ease_in", "ease_out", "ease_in_out"])

CORNER = [[0.0, 0.0], [30.0, 0.0], [30.0, 10.0]]


def steps(points: npt.NDArray[np.float64]) -> list[float]:
    return [float(step) for step in np.hypot(*np.diff(points, axis=0).T)]


@given(lines, timings, easings, st.integers(2, 40))
def test_first_point_belongs_to_first_frame_and_last_to_last(
    line: list[tuple[float, float]], timing: trajectory.Timing, easing: trajectory.Easing, frames: int
) -> None:
    walked = trajectory.resample(line, frames, timing=timing, easing=easing)
    assert walked.shape == (frames, 2)
    assert walked.dtype == np.float64
    assert walked[0].tolist() == list(line[0])
    assert walked[-1].tolist() == list(line[-1])


@given(lines, timings, easings, st.integers(1, 40))
def test_walk_stays_within_bounds_of_line(
    line: list[tuple[float, float]], timing: trajectory.Timing, easing: trajectory.Easing, frames: int
) -> None:
    walked = trajectory.resample(line, frames, timing=timing, easing=easing)
    assert (walked >= np.min(line, axis=0) - 1e-9).all()
    assert (walked <= np.max(line, axis=0) + 1e-9).all()


@given(lines)
def test_one_point_per_frame_comes_back_unchanged(line: list[tuple[float, float]]) -> None:
    walked = trajectory.resample(line, len(line), timing="per_point")
    assert (walked == line).all()


@given(st.tuples(coordinates, coordinates), st.integers(1, 5), timings, st.integers(1, 40))
def test_equal_points_hold_still(
    point: tuple[float, float], count: int, timing: trajectory.Timing, frames: int
) -> None:
    walked = trajectory.resample([point] * count, frames, timing=timing)
    assert (walked == point).all()


def test_arc_length_walks_at_constant_speed_and_per_point_does_not() -> None:
    assert steps(trajectory.resample(CORNER, 5)) == pytest.approx([10, 10, 10, 10])
    assert steps(trajectory.resample(CORNER, 5, timing="per_point")) == pytest.approx([15, 15, 5, 5])


def test_repeated_vertices_take_no_time_in_arc_length() -> None:
    doubled = [CORNER[0], CORNER[0], CORNER[1], CORNER[1], CORNER[2], CORNER[2]]
    assert trajectory.resample(doubled, 9).tolist() == pytest.approx(trajectory.resample(CORNER, 9))


@pytest.mark.parametrize(
    ("easing", "middle"), [("linear", 50), ("ease_in", 25), ("ease_out", 75), ("ease_in_out", 50)]
)
def test_easing_shapes_the_walk(easing: trajectory.Easing, middle: float) -> None:
    walked = trajectory.resample([[0, 0], [100, 0]], 5, easing=easing)
    assert walked[2, 0] == pytest.approx(middle)
    assert (np.diff(walked[:, 0]) > 0).all()


def test_ease_in_out_starts_and_ends_slowly() -> None:
    first, *_, last = steps(trajectory.resample([[0, 0], [100, 0]], 5, easing="ease_in_out"))
    assert first == pytest.approx(12.5)
    assert last == pytest.approx(12.5)


def test_each_segment_can_have_its_own_easing() -> None:
    line = [[0, 0], [100, 0], [100, 100]]
    walked = trajectory.resample(line, 5, easings=["ease_in", "ease_out"])
    assert walked.tolist() == [[0, 0], [25, 0], [100, 0], [100, 75], [100, 100]]


def test_segment_easings_take_the_place_of_the_easing() -> None:
    line = [[0, 0], [100, 0]]
    walked = trajectory.resample(line, 5, easing="ease_out", easings=["ease_in"])
    assert walked.tolist() == trajectory.resample(line, 5, easing="ease_in").tolist()


def test_entity_holds_before_and_after_its_frames() -> None:
    walked = trajectory.resample([[0, 0], [40, 0]], 8, start_frame=2, end_frame=6)
    assert walked[:, 0].tolist() == [0, 0, 0, 10, 20, 30, 40, 40]


def test_one_frame_shows_the_first_point() -> None:
    assert trajectory.resample(CORNER, 1).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timing": "time"}, "timing must be"),
        ({"easing": "bounce"}, "easing must be one of linear"),
        ({"easings": ["linear"]}, "one entry per segment: 2 for 3 points, not 1"),
        ({"easings": ["linear", "bounce"]}, "easing must be"),
        ({"start_frame": -1}, "start_frame -1"),
        ({"start_frame": 3, "end_frame": 2}, "start_frame 3 and end_frame 2"),
        ({"end_frame": 8}, "<= 7"),
    ],
)
def test_unknown_names_and_wrong_counts_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trajectory.resample(CORNER, 8, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "at least one"),
        ([1, 2], "shape"),
        ([[1, 2, 3]], "shape"),
        ([[0, 0], [float("nan"), 0]], "point 1"),
        ([[0, float("inf")]], "point 0"),
        ([[1e308, 0], [-1e308, 0]], "point 0"),
    ],
)
def test_points_that_are_none_are_refused(points: npt.ArrayLike, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trajectory.resample(points, 8)


def test_scale_truncates_toward_zero_after_dividing_first() -> None:
    points = [[60.9, 50.9], [-0.9, 50.0], [-300.0, 130.0], [199.9, 99.9]]
    scaled = trajectory.scale(points, (200, 100), (128, 64))
    assert scaled.dtype == np.int32
    assert scaled.tolist() == [[38, 32], [0, 32], [-192, 83], [127, 63]]
    # 29 / 50 * 100 is just below 58 in double precision, 29 * 100 / 50 is not.
    assert trajectory.scale([29, 1], (50, 1), (100, 1)).tolist() == [57, 1]


def test_scale_keeps_far_points_from_overflowing() -> None:
    assert trajectory.scale([1e300, -1e300], (1, 1), (64, 64)).tolist() == [2**30, -(2**30)]


def test_resting_camera_changes_no_bit() -> None:
    tracks = np.random.default_rng(0).uniform(-50, 250, (3, 7, 2))
    assert trajectory.camera(tracks, (200, 100)).tobytes() == tracks.tobytes()


def test_camera_is_reached_at_the_last_frame() -> None:
    held = np.repeat([[150.0, 50.0]], 5, axis=0)
    panned = trajectory.camera(held, (200, 100), pan=(20, -8))
    assert panned.tolist() == [[150, 50], [155, 48], [160, 46], [165, 44], [170, 42]]
    assert trajectory.camera(held, (200, 100), zoom=4)[[0, 2, 4], 0].tolist() == pytest.approx([150, 200, 300])
    assert trajectory.camera(held, (200, 100), roll=90)[-1].tolist() == pytest.approx([100, 100])
    assert trajectory.camera(held, (200, 100), roll=90)[2].tolist() == pytest.approx(
        [100 + 50 / 2**0.5, 50 + 50 / 2**0.5]
    )


def test_camera_eases_and_adds_to_tracks_own_motion() -> None:
    tracks = np.array([[[0.0, 0], [10, 0], [20, 0]], [[100.0, 50]] * 3])
    moved = trajectory.camera(tracks, (200, 100), pan=(8, 0), easing="ease_in")
    assert moved[..., 0].tolist() == [[0, 12, 28], [100, 102, 108]]


@pytest.mark.parametrize("arguments", [{"zoom": 0}, {"zoom": float("inf")}, {"roll": float("nan")}])
def test_impossible_cameras_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="camera needs"):
        trajectory.camera([[0, 0]], (200, 100), **arguments)  # type: ignore[arg-type]
