import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from draganything_client import entity, spec

BYTES = b"\x89PNG..."
BASE64 = {"base64": base64.b64encode(BYTES).decode()}


def test_files_bytes_and_addresses_become_sources(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(BYTES)
    assert spec(file, [])["image"] == spec(str(file), [])["image"] == spec(BYTES, [])["image"] == BASE64
    assert spec("https://example.com/a.png", [])["image"] == {"url": "https://example.com/a.png"}
    assert entity(file, path=[(1, 2)])["mask"] == BASE64


def test_other_fields_go_as_they_are() -> None:
    moving = entity(path=[(1, 2)])
    made = spec(BYTES, [moving], seed=7, output={"format": "webm"})
    assert made == {"image": BASE64, "entities": [moving], "seed": 7, "output": {"format": "webm"}}


def test_an_entity_has_what_was_given_and_nothing_else() -> None:
    assert entity(path=[(1, 2), [3, 4.5]]) == {"trajectory": {"points": [[1.0, 2.0], [3.0, 4.5]]}}
    full = entity({"box": [0, 0, 5, 5]}, path=[(1, 2)], label="x", scale=(1, 2), control="point", easing="ease_in")
    assert full == {
        "mask": {"box": [0, 0, 5, 5]},
        "trajectory": {"points": [[1.0, 2.0]], "easing": "ease_in"},
        "label": "x",
        "scale": {"start": 1, "end": 2},
        "control": "point",
    }


def test_points_may_be_an_array() -> None:
    points = entity(path=np.array([[1, 2], [3, 4]], np.float32))["trajectory"]["points"]
    assert points == [[1.0, 2.0], [3.0, 4.0]]
    assert {type(value) for point in points for value in point} == {float}


def decoded(rle: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    values = np.repeat(np.arange(len(rle["counts"])) % 2 == 1, rle["counts"])
    return values.reshape(rle["size"], order="F")


@pytest.mark.parametrize("corner", [False, True])
def test_an_array_becomes_coco_run_lengths(corner: bool) -> None:
    mask = np.zeros((5, 7), bool)
    mask[1:4, 2:5] = True
    mask[0, 0] = corner
    for form in (mask, mask.astype(np.uint8) * 255, mask.tolist()):
        assert np.array_equal(decoded(entity(form, path=[(0, 0)])["mask"]["rle"]), mask)


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        entity("no-such-mask.png", path=[(0, 0)])
