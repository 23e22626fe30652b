"""From a request to a job: tracks, backgrounds, cameras."""

from __future__ import annotations

import base64
import io
import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image

from jobs.errors import InvalidRequest
from jobs.models import ModelCard
from jobs.settings import Settings
from jobs.spec import GenerateRequest, ImageSource, JobSpec
from jobs.state import JobWarning
from model import trajectory
from service.inputs import accept
from tests import doors

SIZE = (doors.WIDTH, doors.HEIGHT)
FRAMES = 5


class Made(NamedTuple):
    spec: JobSpec
    warnings: list[JobWarning]
    objects: dict[str, tuple[bytes, str]]


def accepted(card: ModelCard = doors.CARD, **changes: Any) -> Made:
    request = GenerateRequest.model_validate(doors.request(**{"num_frames": FRAMES, **changes}))
    objects: dict[str, tuple[bytes, str]] = {}

    def put(key: str, data: bytes, media_type: str) -> None:
        assert key not in objects
        objects[key] = (data, media_type)

    def read(source: ImageSource, _: str) -> bytes:
        return base64.b64decode(source.base64 or "")

    made = accept(request, card, "id", Settings(), put, read)
    return Made(made.spec, made.warnings, objects)


QUICK = doors.CARD.model_copy(update={"tiers": ("exact", "fast"), "fast_num_inference_steps": 4})


@pytest.mark.parametrize(
    ("asked", "steps", "sampler"),
    [
        ({}, doors.CARD.num_inference_steps, "euler"),
        ({"tier": "fast"}, 4, "ays"),
        ({"tier": "fast", "num_inference_steps": 7}, 7, "ays"),
        ({"tier": "fast", "sampler": "euler"}, 4, "euler"),
    ],
)
def test_the_fast_tier_takes_few_steps_unless_asked_otherwise(
    asked: dict[str, Any], steps: int, sampler: str
) -> None:
    spec = accepted(QUICK, **asked).spec
    assert (spec.tier, spec.num_inference_steps, spec.sampler) == (asked.get("tier", "exact"), steps, sampler)


def entity(*points: tuple[float, float], **track: Any) -> dict[str, Any]:
    return {"mask": {"box": [20, 20, 45, 45]}, "trajectory": {"points": list(points), **track}}


def track(made: Made, index: int = 0) -> np.ndarray[Any, Any]:
    return np.array(made.spec.entities[index].points)


def test_a_straight_line_has_equal_steps() -> None:
    made = accepted(entities=[entity((10, 30), (50, 30))])
    assert track(made).tolist() == [[10, 30], [20, 30], [30, 30], [40, 30], [50, 30]]


def test_an_uneven_line_has_constant_speed_or_a_vertex_per_frame() -> None:
    points = ((0, 0), (10, 0), (40, 0))
    by_length = accepted(entities=[entity(*points)])
    assert track(by_length)[:, 0].tolist() == [0, 10, 20, 30, 40]
    by_vertex = accepted(entities=[entity(*points, timing="per_point")])
    assert track(by_vertex)[:, 0].tolist() == [0, 5, 10, 25, 40]


@pytest.mark.parametrize(
    ("easing", "xs"),
    [
        ("linear", [0, 4, 8, 12, 16]),
        ("ease_in", [0, 1, 4, 9, 16]),
        ("ease_out", [0, 7, 12, 15, 16]),
        ("ease_in_out", [0, 2, 8, 14, 16]),
    ],
)
def test_easings(easing: str, xs: list[float]) -> None:
    assert track(accepted(entities=[entity((0, 9), (16, 9), easing=easing)]))[:, 0].tolist() == xs
    assert track(accepted(entities=[entity((0, 9), (16, 9), easings=[easing])]))[:, 0].tolist() == xs


def test_it_holds_before_the_start_and_after_the_end() -> None:
    made = accepted(entities=[entity((0, 9), (20, 9), start_frame=1, end_frame=3)])
    assert track(made)[:, 0].tolist() == [0, 0, 10, 20, 20]


def test_one_point_and_equal_points_hold_still() -> None:
    for points in ([(30, 30)], [(30, 30)] * 7):
        assert track(accepted(entities=[entity(*points)])).tolist() == [[30, 30]] * FRAMES


def test_normalized_points_are_shares_of_the_image() -> None:
    made = accepted(entities=[entity((0, 0), (1, 0.5), space="normalized")])
    assert track(made)[[0, -1]].tolist() == [[0, 0], [96, 32]]


def test_tracks_are_those_of_the_model() -> None:
    points, options = [(3.5, 4), (70, 20), (80, 60)], {"easing": "ease_out", "start_frame": 1}
    made = accepted(entities=[entity(*points, **options)], camera={"pan": [5, -3], "zoom": 1.3, "roll": 20})
    alone = trajectory.resample(points, FRAMES, easing="ease_out", start_frame=1)
    moved = trajectory.camera(alone, SIZE, pan=(5, -3), zoom=1.3, roll=20)
    assert np.array_equal(track(made), moved)


def test_a_camera_moves_everything() -> None:
    made = accepted(entities=[entity((30, 30))], camera={"pan": [8, -4]}, hold_background=True)
    for index in (0, 1):
        steps = np.diff(track(made, index), axis=0)
        assert np.allclose(steps, [2, -1])


def test_zoom_is_geometric_about_the_centre() -> None:
    made = accepted(entities=[entity((49, 32))], camera={"zoom": 4})
    assert np.allclose(track(made), [[48 + 2 ** (frame / 2), 32] for frame in range(FRAMES)])


def test_the_background_is_what_is_left_held_where_it_has_most_room() -> None:
    made = accepted(entities=[entity((30, 30), (60, 30))], hold_background=True)
    background, square = made.spec.entities
    assert (background.label, square.label) == ("background", "entity 1")
    png, media_type = made.objects[background.mask.key]
    stored = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert stored is not None
    assert media_type == "image/png"
    mask = np.zeros((doors.HEIGHT, doors.WIDTH), bool)
    mask[20:45, 20:45] = True
    assert np.array_equal(stored > 0, ~mask)
    # by brute force: the distance of every pixel of the background to the nearest one that is none of it
    padded = np.pad(~mask, 1)
    outside = np.argwhere(~padded) - 1
    inside = np.argwhere(~mask)
    distances = np.sqrt(((inside[:, None] - outside[None]) ** 2).sum(-1)).min(1)
    (x, y) = track(made)[0]
    assert (track(made) == [x, y]).all()
    assert distances[(inside == [y, x]).all(1)][0] >= 0.97 * distances.max()  # OpenCV's 5 x 5 metric is near


def test_no_background_left_is_a_warning() -> None:
    whole = {"mask": {"box": [0, 0, *SIZE]}, "trajectory": {"points": [[48, 32]]}}
    made = accepted(entities=[whole], hold_background=True)
    assert [warning.code for warning in made.warnings] == ["no_background"]
    assert len(made.spec.entities) == 1


def test_warnings_count_entities_as_the_user_does() -> None:
    still = entity((32, 32))
    over = accepted(entities=[still, entity((33, 33))], hold_background=True)
    overlap = next(warning for warning in over.warnings if warning.code == "entities_overlap")
    assert overlap.pointer == "/entities/0/trajectory"
    assert "entity 1" in overlap.detail


def test_scale_and_control_are_passed_on() -> None:
    big = {**entity((30, 30)), "scale": {"start": 1, "end": 3}, "control": "point", "label": "kite"}
    made = accepted(entities=[big, entity((5, 5))])
    assert made.spec.entities[0].scale == [1, 1.5, 2, 2.5, 3]
    assert made.spec.entities[0].control == "point"
    assert [track.label for track in made.spec.entities] == ["kite", "entity 2"]
    assert (made.spec.entities[1].scale, made.spec.entities[1].control) == (None, "entity")


def test_equal_inputs_are_stored_once() -> None:
    made = accepted(entities=[entity((30, 30)), entity((31, 31))])
    assert len(made.objects) == 2
    assert made.spec.entities[0].mask == made.spec.entities[1].mask


def test_a_mask_has_the_size_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", SIZE).save(file, "JPEG", exif=exif)
    image = {"base64": doors.text(file.getvalue())}

    def with_mask(width: int, height: int) -> Made:
        mask = {"base64": doors.text(doors.file_of(np.full((height, width), 255, np.uint8)))}
        return accepted(image=image, entities=[{"mask": mask, "trajectory": {"points": [[9, 9]]}}])

    made = with_mask(64, 96)
    assert (made.spec.image.width, made.spec.image.height) == (64, 96)
    assert (made.spec.width, made.spec.height) == (128, 192)
    with pytest.raises(InvalidRequest, match="96 x 64, the image 64 x 96"):
        with_mask(96, 64)


@pytest.mark.parametrize(
    "image", [(96, 64), (1500, 1000), (4000, 3000), (16, 5000), (1179, 2556), (800, 333), (1, 1)]
)
@pytest.mark.parametrize("native", [(192, 128), (576, 320)])
def test_the_fitted_size_is_the_best_of_all(image: tuple[int, int], native: tuple[int, int]) -> None:
    card = doors.CARD.model_copy(update={"width": native[0], "height": native[1]})
    budget, ratio = native[0] * native[1], image[0] / image[1]
    sides = range(64, budget // 64 + 1, 64)

    def misfit(width: int, height: int) -> float:
        return abs(math.log(width / height / ratio)) + 0.5 * math.log(budget / (width * height))

    best = min(misfit(width, height) for width in sides for height in sides if width * height <= budget)
    width, height = card.fit(*image)
    assert width * height <= budget
    assert misfit(width, height) == pytest.approx(best)


@pytest.mark.parametrize(("frames", "out"), [(7, [0, 1, 2, 3, 2, 1, 0]), (8, [0, 1, 2, 3, 3, 2, 1, 0]), (1, [0])])
def test_a_loop_goes_out_and_back(frames: int, out: list[int]) -> None:
    made = accepted(loop=True, num_frames=frames, entities=[entity((10, 30), (40, 30)) | {"scale": {"end": 4}}])
    assert track(made).tolist() == [[10 + 10 * step, 30] for step in out]
    assert made.spec.entities[0].scale == [1 + step for step in out]


def test_a_closed_path_loops_by_going_round_once() -> None:
    square = entity((10, 10), (30, 10), (30, 30), (10, 30), (10, 10))
    assert (track(accepted(loop=True, entities=[square])) == track(accepted(entities=[square]))).all()


def test_the_camera_of_a_loop_comes_back_too() -> None:
    move = {"pan": [20, 0], "zoom": 2.0}
    held, closed = entity((20, 20)), entity((10, 10), (30, 10), (10, 10))
    made = accepted(loop=True, hold_background=True, camera=move, entities=[held, closed])
    for index in range(3):
        points = track(made, index)
        assert (points[0] == points[-1]).all()
    there = accepted(num_frames=3, camera=move, entities=[held])
    assert track(made, 1)[:3].tolist() == track(there).tolist()
    assert track(made, 1)[3].tolist() == track(there)[1].tolist()
