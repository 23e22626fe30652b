"""The shipped requests are whole, agree with the folders that they are made from, and need no warning."""

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model import conditioning, trajectory
from model.advice import advise
from model.conditioning import Bytes, Entity

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
FRAMES = 14


def decode(part: dict[str, str], flag: int) -> Bytes:
    content = np.frombuffer(base64.b64decode(part["base64"]), np.uint8)
    return np.asarray(cv2.imdecode(content, flag), np.uint8)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def body(name: str) -> dict[str, Any]:
    return dict(json.loads((EXAMPLES / f"{name}.json").read_text()))


def test_quickstart_is_there() -> None:
    assert "quickstart" in NAMES
    assert len(NAMES) >= 3


def test_request_is_small_and_made_from_its_folder(name: str, body: dict[str, Any]) -> None:
    folder = EXAMPLES / name
    assert (EXAMPLES / f"{name}.json").stat().st_size < 150_000
    assert base64.b64decode(body["image"]["base64"]) == (folder / "image.jpg").read_bytes()
    scene = json.loads((folder / "scene.json").read_text())
    assert body["hold_background"] == scene["hold_background"]
    for entity, drawn in zip(body["entities"], scene["entities"], strict=True):
        assert entity["label"] == drawn["label"]
        assert entity["trajectory"] == drawn["trajectory"]
        mask = decode(entity["mask"], cv2.IMREAD_GRAYSCALE) > 0
        rows, columns = np.nonzero(mask)
        (left, top), (right, bottom) = np.min(drawn["polygon"], axis=0), np.max(drawn["polygon"], axis=0)
        assert (columns.min(), rows.min()) == (int(left), int(top))
        assert (columns.max(), rows.max()) == (int(right), int(bottom))


@pytest.mark.parametrize("size", [(192, 128), (576, 320)])
def test_request_needs_no_advice(body: dict[str, Any], size: tuple[int, int]) -> None:
    height, width = decode(body["image"], cv2.IMREAD_COLOR).shape[:2]
    entities = [
        Entity(
            decode(entity["mask"], cv2.IMREAD_GRAYSCALE) >= 128,
            trajectory.resample(
                entity["trajectory"]["points"], FRAMES, easing=entity["trajectory"].get("easing", "linear")
            ),
        )
        for entity in body["entities"]
    ]
    made = conditioning.build(entities, (width, height), size, FRAMES)
    assert advise(entities, made, (width, height)) == []
