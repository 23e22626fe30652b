"""POST /v1/segment, and masks that jobs leave out: what was clicked, never anything else than a good answer."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from redis import Redis
from starlette.testclient import TestClient

from jobs.spec import JobSpec, Rle
from jobs.storage import Storage
from jobs.store import Store
from service.images import decode_rle
from service.segment import encode_rle
from tests import doors

EXAMPLES = Path(__file__).parents[2] / "examples"
Mask = NDArray[np.uint8]
INSIDE, OUTSIDE = {"x": 60, "y": 70}, {"x": 140, "y": 110}


def scene() -> tuple[bytes, Mask]:
    """A blue ellipse and a yellow box in a noisy grey picture, and the ellipse's mask [160, 200]."""
    pixels = np.random.default_rng(5).normal(128, 6, (160, 200, 3))
    mask = cv2.ellipse(np.zeros((160, 200), np.uint8), (60, 70), (35, 22), 20, 0, 360, (1,), -1).astype(np.uint8)
    pixels[mask > 0] += (80, 0, -70)
    pixels[90:130, 120:170] += (-90, 60, 60)
    return doors.file_of(np.clip(pixels, 0, 255).astype(np.uint8)), mask


PICTURE, ELLIPSE = scene()


def body(**changes: Any) -> dict[str, Any]:
    return {"image": {"base64": doors.text(PICTURE)}, "points": [INSIDE]} | changes


def segmented(client: TestClient, **changes: Any) -> tuple[Mask, dict[str, Any]]:
    answer = client.post("/v1/segment", json=body(**changes))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    with Image.open(io.BytesIO(base64.b64decode(found["mask"]["base64"]))) as file:
        mask = np.asarray(file.convert("L")) // 255
    return mask, found


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize(
    "prompt",
    [
        {},
        {"points": [INSIDE, {"x": 40, "y": 65, "label": 1}, {**OUTSIDE, "label": 0}]},
        {"points": [], "box": [24, 42, 96, 98]},
        {"points": [INSIDE], "box": [24.5, 42.5, 96, 98]},
        {"points": [], "box": [24, 42, 1000, 98]},
    ],
)
def test_what_stands_out_is_found(client: TestClient, prompt: dict[str, Any]) -> None:
    mask, found = segmented(client, **prompt)
    assert set(found) == {"mask", "rle", "score", "engine"}
    assert mask.shape == ELLIPSE.shape
    assert iou(mask, ELLIPSE) > 0.85
    assert 0 <= found["score"] <= 1


def test_the_run_lengths_are_the_same_mask(client: TestClient) -> None:
    mask, found = segmented(client)
    assert np.array_equal(decode_rle(Rle.model_validate(found["rle"]), ""), mask)


@given(st.lists(st.lists(st.integers(0, 1), min_size=5, max_size=5), min_size=1, max_size=6))
def test_run_lengths_come_back(rows: list[list[int]]) -> None:
    mask = np.array(rows, np.uint8)
    assert np.array_equal(decode_rle(encode_rle(mask), ""), mask)


def test_the_same_request_has_the_same_answer(client: TestClient) -> None:
    answers = [client.post("/v1/segment", json=body()).json() for _ in range(2)]
    client.post("/v1/segment", json=body(points=[OUTSIDE]))
    assert answers == [client.post("/v1/segment", json=body()).json()] * 2


def test_clicks_are_obeyed(client: TestClient) -> None:
    both = [INSIDE, OUTSIDE]
    mask, _ = segmented(client, points=both)
    assert all(mask[click["y"], click["x"]] for click in both)
    mask, _ = segmented(client, points=[INSIDE, {**OUTSIDE, "label": 0}])
    assert mask[INSIDE["y"], INSIDE["x"]]
    assert not mask[OUTSIDE["y"], OUTSIDE["x"]]


def test_a_flat_picture_gives_something_without_confidence(client: TestClient) -> None:
    for width, height in ((16, 16), (300, 20), (64, 64)):
        flat = doors.text(doors.file_of(np.full((height, width, 3), 90, np.uint8)))
        for prompt in ({"points": [{"x": 0, "y": 0}]}, {"points": [], "box": [2, 2, 9, 9]}):
            mask, found = segmented(client, image={"base64": flat}, **prompt)
            assert mask.shape == (height, width)
            assert mask.any()
            assert found["score"] < 0.5


def test_a_turned_picture_is_clicked_upright(client: TestClient) -> None:
    with Image.open(io.BytesIO(PICTURE)) as image:
        file, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees to be upright
        image.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", quality=95, exif=exif)
    mask, _ = segmented(client, image={"base64": doors.text(file.getvalue())})
    assert iou(mask, ELLIPSE) > 0.85


def example(name: str) -> tuple[dict[str, Any], dict[str, Any], Mask]:
    """The image of an example, where its first track starts, and that entity's mask."""
    request = json.loads((EXAMPLES / f"{name}.json").read_text())
    first = request["entities"][0]
    mask = cv2.imdecode(np.frombuffer(base64.b64decode(first["mask"]["base64"]), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    x, y = first["trajectory"]["points"][0]
    return request["image"], {"x": x, "y": y}, (mask > 127).astype(np.uint8)


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"points": []}, [""]),
        ({"points": [{**INSIDE, "label": 0}]}, [""]),
        ({"points": [{"x": 200, "y": 1}, INSIDE, {"x": 1, "y": -0.1}]}, ["/points/0", "/points/2"]),
        ({"points": [{"x": 10, "y": 10, "label": 2}]}, ["/points/0/label"]),
        ({"points": [{"x": 10}]}, ["/points/0/y"]),
        ({"points": [INSIDE] * 101}, ["/points"]),
        ({"box": [50, 50, 50, 60]}, ["/points/0", "/box"]),
        ({"points": [], "box": [200, 10, 220, 20]}, ["/box"]),
        ({"points": [], "box": [10, 10, 20]}, ["/box/3"]),
        ({"box": [100, 100, 120, 120]}, ["/points/0"]),
        ({"image": {"base64": "AAAA"}}, ["/image/base64"]),
        ({"image": {"base64": "AAAA", "url": "https://example.com/a.png"}}, ["/image"]),
        ({"surprise": 1}, ["/surprise"]),
    ],
)
def test_what_is_wrong_is_named(client: TestClient, changes: dict[str, Any], pointers: list[str]) -> None:
    refused = client.post("/v1/segment", json=body(**changes))
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == pointers


def test_a_truncated_picture_is_refused(client: TestClient) -> None:
    with Image.open(io.BytesIO(PICTURE)) as image:
        file = io.BytesIO()
        image.save(file, "JPEG")
    whole = file.getvalue()
    for damaged in (whole[: len(whole) // 2], whole[: len(whole) // 2] + b"\xff\xd9", PICTURE[:-20]):
        refused = client.post("/v1/segment", json=body(image={"base64": doors.text(damaged)}))
        assert refused.status_code in (200, 422), refused.text
        if refused.status_code == 422:
            assert refused.json()["errors"][0]["pointer"] == "/image/base64"


NUMBERS = (
    st.integers(-5, 205) | st.floats() | st.sampled_from([0, 199, 199.999, 159.999, 1e308, -1, 2**63, None, "1"])
)
CLICKS = st.fixed_dictionaries({"x": NUMBERS, "y": NUMBERS}, optional={"label": st.sampled_from([0, 1, 2, True])})


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(points=st.lists(CLICKS, max_size=5), box=st.none() | st.lists(NUMBERS, min_size=4, max_size=4))
def test_no_prompt_is_an_error_of_ours(
    client: TestClient, points: list[dict[str, Any]], box: list[Any] | None
) -> None:
    sent = json.dumps(body(points=points, box=box))
    answer = client.post("/v1/segment", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 422), answer.text


def test_a_job_without_a_mask_gets_the_one_of_segment(client: TestClient, store: Store, storage: Storage) -> None:
    mask, found = segmented(client)
    entity = {"trajectory": {"points": [[INSIDE["x"], INSIDE["y"]], [100, 70]]}}
    given = {"mask": {"box": [120, 90, 170, 130]}, "trajectory": {"points": [[140, 110]]}}
    job = client.post("/v1/generate", json=doors.request(image=body()["image"], entities=[given, entity]))
    assert job.status_code == 202, job.text
    spec = JobSpec.model_validate(store.get(job.json()["id"]).spec)
    stored = np.asarray(Image.open(io.BytesIO(storage.get(spec.entities[1].mask.key))).convert("L")) // 255
    assert np.array_equal(stored, mask)
    (warning,) = (warning for warning in job.json()["warnings"] if warning["code"] == "mask_segmented")
    assert warning["pointer"] == "/entities/1/mask"
    assert f"{found['score']:.0%}" in warning["detail"]


@pytest.mark.parametrize("start", [[-1, 5], [200, 5], [5, 160]])
def test_no_mask_is_found_outside(client: TestClient, redis: Redis, start: list[float]) -> None:
    before = doors.keys(redis)
    entity = {"trajectory": {"points": [start, [50, 50]]}}
    refused = client.post("/v1/generate", json=doors.request(image=body()["image"], entities=[entity]))
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/entities/0/mask"]
    assert doors.keys(redis) == before


@pytest.mark.parametrize(("name", "least"), [("quickstart", 0.5), ("coffee", 0.6)])
def test_the_examples_are_found(client: TestClient, name: str, least: float) -> None:
    image, click, expected = example(name)
    mask, _ = segmented(client, image=image, points=[click])
    assert iou(mask, expected) > least
