import re
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from model import conditioning
from model.advice import Advice, advise
from model.conditioning import Entity

ORIGINAL = 200, 100
SIZE = 128, 64
FRAMES = 3


def entity(x: int, y: int, radius: int, points: npt.ArrayLike | None = None) -> Entity:
    mask = np.asarray(cv2.circle(np.zeros(ORIGINAL[::-1], np.uint8), (x, y), radius, 1, -1), np.uint8)
    return Entity(mask, np.array([[x, y]] * FRAMES if points is None else points, np.float64))


def advice(*entities: Entity) -> list[Advice]:
    made = conditioning.build(entities, ORIGINAL, SIZE, FRAMES)
    return advise(entities, made, ORIGINAL)


def test_plain_job_needs_no_advice() -> None:
    assert advice(entity(50, 50, 18, [[50, 50], [60, 50], [70, 50]]), entity(150, 50, 18)) == []


@pytest.mark.parametrize(
    ("one", "code", "detail"),
    [
        (entity(50, 50, 18, [[50, 50], [30, 50], [-1, 50]]), "trajectory_leaves_image", "from frame 2"),
        (entity(180, 50, 18, [[180, 50], [200, 50], [210, 50]]), "trajectory_leaves_image", "2 of 3 frames"),
        (entity(50, 50, 18, [[80, 50]] * 3), "trajectory_starts_outside_mask", r"\(80, 50\)"),
        (entity(50, 50, 18, [[50, 50], [95, 50], [95, 50]]), "motion_too_fast", "frames 0 and 1 .* 28 pixels"),
        (entity(50, 50, 2), "radius_too_small", "inner radius 1 pixels"),
        (replace(entity(50, 50, 18), scale=np.full(FRAMES, 0.01)), "radius_too_small", "Gaussian"),
        (entity(50, 50, 3), "mask_vanishes_at_latent_size", "nearest cells"),
    ],
)
def test_each_oddity_is_told(one: Entity, code: str, detail: str) -> None:
    found = [item for item in advice(entity(150, 20, 12), one) if item.code == code]
    assert [item.entity for item in found] == [1]
    assert re.search(detail, found[0].detail)


def test_start_outside_the_image_counts_as_outside_the_mask() -> None:
    codes = [item.code for item in advice(entity(50, 50, 18, [[-5, 50], [0, 50], [5, 50]]))]
    assert codes == ["trajectory_leaves_image", "trajectory_starts_outside_mask"]


def test_erased_entity_is_named_with_those_that_erase_it() -> None:
    (found,) = advice(entity(60, 50, 18), entity(150, 50, 18), entity(66, 50, 18))
    assert (found.code, found.entity) == ("entities_overlap", 0)
    assert "by entity 2:" in found.detail
    (partly,) = advice(entity(60, 50, 18), entity(80, 50, 18))
    assert re.search(r"\b[2-4]\d% of the entity's heat is erased by entity 1:", partly.detail)


def test_faint_overlap_and_hidden_entities_erase_nothing() -> None:
    assert advice(entity(60, 50, 18), entity(94, 50, 18)) == []
    hidden = replace(entity(66, 50, 18), visible=np.array([False, True, True]))
    assert advice(entity(60, 50, 18), hidden) == []
    assert advice(hidden, entity(60, 50, 18)) == []
