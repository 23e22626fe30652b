import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from model import conditioning, painting
from model.conditioning import Bytes, ConditionError, Entity

ORIGINAL = 200, 100
SIZE = 128, 64
FRAMES = 3


def disc(x: int, y: int, radius: int) -> Bytes:
    return np.asarray(cv2.circle(np.zeros(ORIGINAL[::-1], np.uint8), (x, y), radius, 1, -1), np.uint8)


def held(x: float, y: float, radius: int = 18) -> Entity:
    return Entity(disc(round(x), round(y), radius), np.repeat([[float(x), float(y)]], FRAMES, axis=0))


def build(*entities: Entity, subpixel: bool = False) -> conditioning.Conditioning:
    return conditioning.build(entities, ORIGINAL, SIZE, FRAMES, subpixel=subpixel)


def test_template_peaks_in_the_middle_and_ends_at_its_disc() -> None:
    template = painting.template()
    assert (template.shape, template.dtype.name) == ((200, 200), "uint8")
    assert template[100, 100] == template.max() == 255
    assert (template > 0).sum() == 31415
    assert template[template > 0].min() == 11


def test_signal_has_the_promised_shapes_and_types() -> None:
    made = build(held(60, 50), held(120, 50))
    arrays = made.heat, made.labels, made.latent_masks, made.points, made.radii, made.sides
    assert [(array.shape, array.dtype.name) for array in arrays] == [
        ((3, 64, 128), "uint8"),
        ((3, 64, 128), "uint8"),
        ((2, 8, 16), "uint8"),
        ((2, 3, 2), "int32"),
        ((2,), "int32"),
        ((2, 3), "int32"),
    ]


def test_entity_is_painted_at_its_point_in_each_frame() -> None:
    moving = replace(held(60, 50), points=np.array([[60.0, 50], [100, 50], [150, 60]]))
    made = build(moving)
    assert made.points.tolist() == [[[38, 32], [64, 32], [96, 38]]]
    for frame, (x, y) in enumerate(made.points[0]):
        assert made.heat[frame, y, x] == made.heat[frame].max() > 250
        rows, columns = np.nonzero(made.labels[frame])
        assert (rows.mean(), columns.mean()) == (y, x)
        assert columns.max() - x == made.sides[0, frame] == made.radii[0] == 11


def test_later_entity_covers_disc_and_whole_box_of_an_earlier_one() -> None:
    below, above = held(60, 50, 30), held(64, 50, 8)
    made = build(below, above)
    x, y = made.points[1, 0]
    side = made.sides[1, 0]
    assert made.labels[0, y, x] == 2
    assert made.labels[0, y, x - side - 2] == 1
    assert build(below).heat[0, y - side, x - side] > 0  # a corner of the later box, outside of its disc
    assert made.heat[0, y - side, x - side] == 0
    assert build(above, below).labels.max() == 1 + 1
    assert (build(above, below).labels == 1).sum() == 0


def test_gaussian_cut_by_the_border_is_squeezed_not_cropped() -> None:
    made = build(replace(held(60, 50), points=np.repeat([[0.0, 50.0]], FRAMES, axis=0)))
    box = made.heat[0, :, : made.sides[0, 0]]
    assert box.max() > 250
    assert box[:, 0].max() < 60
    assert not made.heat[0, :, made.sides[0, 0] :].any()


def test_last_row_and_column_take_no_heat() -> None:
    made = build(replace(held(60, 50), points=np.repeat([[199.0, 99.0]], FRAMES, axis=0)))
    assert made.heat[0, -2, :].any()
    assert not made.heat[:, -1, :].any()
    assert not made.heat[:, :, -1].any()
    assert made.labels[0, -1, -1] == 1


@pytest.mark.parametrize("subpixel", [False, True])
@pytest.mark.parametrize("far", [-400.0, 1e6, -1e300, 1e300])
def test_points_far_outside_paint_nothing(far: float, subpixel: bool) -> None:
    made = build(replace(held(60, 50), points=np.array([[60.0, 50], [far, 50], [60, far]])), subpixel=subpixel)
    assert made.labels[0].any()
    assert not made.labels[1:].any()
    assert not made.heat[1:].any()


def test_radius_is_capped_and_a_mask_without_background_does_not_overflow() -> None:
    whole = Entity(np.ones(ORIGINAL[::-1], np.uint8), np.repeat([[100.0, 50.0]], FRAMES, axis=0))
    made = build(whole)
    assert made.radii.tolist() == [2**31 - 1]
    assert made.sides.tolist() == [[50, 50, 50]]


def test_point_control_leaves_out_the_disc() -> None:
    entity, point = build(held(60, 50)), build(replace(held(60, 50), control="point"))
    assert not point.labels.any()
    assert (point.heat == entity.heat).all()


def test_hidden_frames_stay_empty() -> None:
    made = build(replace(held(60, 50), visible=np.array([True, False, True])))
    assert made.heat.any(axis=(1, 2)).tolist() == [True, False, True]
    assert made.labels.any(axis=(1, 2)).tolist() == [True, False, True]


def test_scale_changes_the_painted_radius_within_bounds() -> None:
    grown = build(replace(held(60, 50), scale=np.array([1.0, 1.6, 0.01])))
    assert grown.sides.tolist() == [[11, 17, 1]]
    assert grown.radii.tolist() == [11]
    assert (grown.labels > 0).sum(axis=(1, 2))[1] > 2 * (grown.labels > 0).sum(axis=(1, 2))[0]
    assert build(replace(held(60, 50), scale=np.full(FRAMES, 1e9))).sides.tolist() == [[128, 128, 128]]


def test_subpixel_agrees_at_whole_pixels_and_moves_between_them() -> None:
    # 62.5 / 200 * 128 = 40 and 50 / 100 * 64 = 32, both exact
    at_pixel = replace(held(62, 50), points=np.repeat([[62.5, 50.0]], FRAMES, axis=0))
    whole, fine = build(at_pixel), build(at_pixel, subpixel=True)
    assert np.abs(whole.heat.astype(int) - fine.heat.astype(int)).max() <= 1
    assert (whole.labels != fine.labels).mean() < 0.01
    half = replace(at_pixel, points=at_pixel.points + np.array([100 / 128, 0]))  # half a pixel of the output
    shifted, columns = build(half, subpixel=True), np.arange(SIZE[0])
    for there, here in ((shifted.heat, fine.heat), (shifted.labels, fine.labels)):
        centres = [(array[0].sum(axis=0) * columns).sum() / array[0].sum() for array in (there, here)]
        assert centres[0] - centres[1] == pytest.approx(0.5, abs=0.1)
    assert (build(half).heat == whole.heat).all()


def test_mask_that_vanishes_on_the_latent_grid_keeps_its_fullest_cells() -> None:
    mask = np.zeros(ORIGINAL[::-1], np.uint8)
    mask[40:42, 60:62] = 1
    shape = conditioning.measure(mask, SIZE)
    assert shape.vanished
    assert np.argwhere(shape.latent).tolist() == [[40 * 8 // 100, 60 * 16 // 200]]
    line = np.zeros(ORIGINAL[::-1], bool)
    line[50, :] = True
    assert np.argwhere(conditioning.measure(line, SIZE).latent).tolist() == [[4, column] for column in range(16)]
    assert not conditioning.measure(disc(60, 50, 20), SIZE).vanished


def test_bool_and_byte_masks_mean_the_same() -> None:
    entity = held(60, 50)
    again = build(replace(entity, mask=entity.mask.astype(bool)))
    assert (again.labels == build(entity).labels).all()


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"mask": np.zeros((100, 200), np.uint8)}, "mask", "empty"),
        ({"mask": np.ones((50, 100), np.uint8)}, "mask", "image's size, 200 x 100, not 100 x 50"),
        ({"mask": np.ones((100, 200, 3), np.uint8)}, "mask", "not 3 x 200 x 100"),
        ({"mask": np.full((100, 200), 255, np.uint8)}, "mask", "up to 255"),
        ({"mask": np.ones((100, 200), np.float32)}, "mask", "float32"),
        ({"points": np.zeros((2, 2))}, "points", r"each of 3 frames, not an array of shape \(2, 2\)"),
        ({"points": np.full((3, 2), np.nan)}, "points", "finite"),
        ({"scale": np.ones(2)}, "scale", "each of 3 frames"),
        ({"scale": np.array([1, 0, 1.0])}, "scale", "positive"),
        ({"scale": np.array([1, np.inf, 1])}, "scale", "finite"),
        ({"visible": np.ones(2, bool)}, "visible", "one bool"),
        ({"visible": np.ones(3)}, "visible", "one bool"),
        ({"control": "dot"}, "control", "entity or point"),
    ],
)
def test_bad_entity_is_named_with_its_field(change: dict[str, object], field: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message) as caught:
        build(held(60, 50), replace(held(60, 50), **change))  # type: ignore[arg-type]
    assert (caught.value.entity, caught.value.field) == (1, field)
    assert str(caught.value).startswith("entity 1: ")


@pytest.mark.parametrize(
    ("count", "original", "size", "frames", "field"),
    [
        (0, ORIGINAL, SIZE, FRAMES, "entities"),
        (256, ORIGINAL, SIZE, FRAMES, "entities"),
        (1, (0, 100), SIZE, FRAMES, "original"),
        (1, ORIGINAL, (128, 72), FRAMES, "size"),
        (1, ORIGINAL, (0, 64), FRAMES, "size"),
        (1, ORIGINAL, SIZE, 0, "num_frames"),
    ],
)
def test_bad_frame_is_refused(
    count: int, original: tuple[int, int], size: tuple[int, int], frames: int, field: str
) -> None:
    with pytest.raises(ConditionError) as caught:
        conditioning.build([held(60, 50)] * count, original, size, frames)
    assert (caught.value.entity, caught.value.field) == (None, field)


def test_reference_reads_only_exact_white_of_the_green_channel() -> None:
    picture = np.array([[[255, 255, 255], [254, 254, 254], [255, 0, 255], [0, 255, 0], [0, 0, 0]]], np.uint8)
    assert conditioning.binary_mask_reference(picture).tolist() == [[1, 0, 0, 1, 0]]


def test_demo_folder_is_read_in_the_file_order(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "demo.jpg"), np.full((100, 200, 3), (0, 0, 255), np.uint8))
    cv2.imwrite(str(tmp_path / "a.png"), disc(60, 50, 18) * 255)
    entry = {"comment": "", "mask_name": "a.png", "trajectory": [[60, 50], [61.5, 50]]}
    (tmp_path / "demo.json").write_text(json.dumps({"4": entry, "1": {**entry, "trajectory": [[1, 2]]}}))
    image, entities = conditioning.load_demo(tmp_path)
    assert image.shape == (100, 200, 3)
    assert image[0, 0].tolist() == pytest.approx([255, 0, 0], abs=2)
    assert [entity.points.tolist() for entity in entities] == [[[60, 50], [61.5, 50]], [[1, 2]]]
    assert (entities[0].mask == disc(60, 50, 18)).all()


@pytest.mark.parametrize(
    ("demo", "message"),
    [
        ("[]", "must map each entity"),
        ("{", "must map each entity"),
        ('{"1": {"mask_name": "a.png"}}', "trajectory"),
        ('{"1": {"mask_name": "../a.png", "trajectory": [[1, 2]]}}', "beside demo.json"),
        ('{"1": {"mask_name": "demo.json", "trajectory": [[1, 2]]}}', "not a picture"),
    ],
)
def test_senseless_demo_folder_is_refused(tmp_path: Path, demo: str, message: str) -> None:
    (tmp_path / "demo.json").write_text(demo)
    with pytest.raises(ConditionError, match=message):
        conditioning.load_entities(tmp_path)


def test_control_signal_needs_no_torch() -> None:
    program = "import sys, model.advice, model.conditioning, model.trajectory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
