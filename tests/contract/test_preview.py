"""POST /v1/preview: the control signal, and nothing left behind."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from redis import Redis
from starlette.testclient import TestClient

from jobs.eta import Pace
from jobs.spec import JobSpec
from jobs.state import Status
from jobs.storage import Storage
from jobs.store import Store
from model.conditioning import Conditioning, Entity, build
from service.preview import palette
from tests import doors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SIZE = (doors.WIDTH, doors.HEIGHT)


def previewed(client: TestClient, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/preview", json=doors.request(**changes))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def frames(preview: dict[str, Any]) -> NDArray[np.uint8]:
    """The animation, [F, H, 2 * W, 3], without its bar."""
    assert preview["animation"]["format"] == "webp"
    with Image.open(io.BytesIO(base64.b64decode(preview["animation"]["base64"]))) as animation:
        assert animation.format == "WEBP"
        shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]
    assert shown[-1].shape == (preview["height"] + 4, 2 * preview["width"], 3)
    return np.stack(shown)[:, :-4]


def assert_shows(preview: dict[str, Any], made: Conditioning) -> None:
    heat, labels = np.split(frames(preview), 2, axis=2)
    assert np.array_equal(heat, np.repeat(made.heat[..., None], 3, axis=-1))
    assert np.array_equal(labels, palette()[made.labels])


def conditioning_of(client: TestClient, store: Store, storage: Storage, request: dict[str, Any]) -> Conditioning:
    """What a worker makes of the same body, from what is stored for it."""
    job = client.post("/v1/generate", json=request)
    assert job.status_code == 202, job.text
    spec = JobSpec.model_validate(store.get(job.json()["id"]).spec)
    entities = []
    for track in spec.entities:
        mask = np.asarray(Image.open(io.BytesIO(storage.get(track.mask.key))).convert("L")) > 0
        scale = None if track.scale is None else np.array(track.scale)
        entities.append(Entity(mask, np.array(track.points), scale=scale, control=track.control))
    return build(entities, SIZE, (spec.width, spec.height), spec.num_frames)


def entity(box: list[float], *points: list[float], **more: Any) -> dict[str, Any]:
    return {"mask": {"box": box}, "trajectory": {"points": list(points)}, **more}


REQUESTS: dict[str, dict[str, Any]] = {
    "one": {},
    "several, crossing": {
        "entities": [
            entity([8, 8, 30, 30], [19, 19], [70, 40], scale={"start": 1.0, "end": 1.6}),
            entity([60, 30, 90, 60], [75, 45], [10, 10]),
            entity([40, 2, 60, 20], [50, 10], [50, 60], control="point"),
        ]
    },
    "held background": {"hold_background": True},
    "nothing moves": {"entities": [entity([20, 20, 45, 45], [32, 32])]},
    "a camera": {"camera": {"pan": [10, 5], "zoom": 1.3}, "num_frames": 5},
    "one frame": {"num_frames": 1},
    "another size": {"width": 128, "height": 192},
    "a mask that is found": {"entities": [{"trajectory": {"points": [[32, 32], [60, 32]]}}]},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_it_shows_what_the_network_will_see(name: str, client: TestClient, store: Store, storage: Storage) -> None:
    preview = previewed(client, **REQUESTS[name])
    made = conditioning_of(client, store, storage, doors.request(**REQUESTS[name]))
    assert_shows(preview, made)
    assert (preview["width"], preview["height"]) == made.heat.shape[:0:-1]
    assert preview["num_frames"] == len(made.heat)
    asked = len(doors.request(**REQUESTS[name])["entities"])
    assert preview["points"] == made.points[-asked:].tolist()
    assert preview["radii"] == made.sides[-asked:].tolist()


def test_every_label_has_a_colour_of_its_own() -> None:
    assert len({tuple(colour) for colour in palette().tolist()}) == len(palette()) == 18


def test_nothing_is_stored_and_nothing_queued(client: TestClient, redis: Redis, s3: S3Client) -> None:
    before = doors.keys(redis)
    previewed(client)
    assert doors.keys(redis) == before
    assert not doors.objects(s3)
    assert not client.get("/v1/jobs").json()["jobs"]


def test_its_warnings_are_those_of_the_job(client: TestClient) -> None:
    changes: dict[str, Any] = {
        "entities": [
            entity([4, 4, 30, 30], [17, 17], [200, 17]),
            entity([4, 4, 34, 34], [19, 19]),
            entity([80, 10, 81, 11], [50, 50]),
        ],
        "num_frames": 3,
    }
    preview = previewed(client, **changes)
    job = client.post("/v1/generate", json=doors.request(**changes)).json()
    assert preview["warnings"] == job["warnings"]
    assert {(warning["code"], warning["pointer"]) for warning in preview["warnings"]} == {
        ("trajectory_leaves_image", "/entities/0/trajectory"),
        ("motion_too_fast", "/entities/0/trajectory"),
        ("entities_overlap", "/entities/0/trajectory"),
        ("trajectory_starts_outside_mask", "/entities/2/trajectory"),
        ("radius_too_small", "/entities/2/mask"),
        ("mask_vanishes_at_latent_size", "/entities/2/mask"),
    }


def test_a_mask_that_was_left_out_is_told_of(client: TestClient) -> None:
    (warning,) = previewed(client, **REQUESTS["a mask that is found"])["warnings"][:1]
    assert (warning["code"], warning["pointer"]) == ("mask_segmented", "/entities/0/mask")
    assert "(32, 32)" in warning["detail"]
    assert "%" in warning["detail"]


def test_the_estimate_is_learned(client: TestClient, store: Store, redis: Redis) -> None:
    assert previewed(client)["estimate"] == {"seconds": None}
    job = client.post("/v1/generate", json=doors.request()).json()
    record = store.get(job["id"])
    assert record.status is Status.QUEUED
    Pace(redis).learn(record, {"conditioning": 1.0, "denoising": 10.0, "decoding": 2.0, "encoding": 0.5})
    assert previewed(client)["estimate"] == {"seconds": 13.5}
    assert previewed(client, num_inference_steps=20)["estimate"] == {"seconds": 23.5}


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"model": "unknown"}, 422, "/model"),
        ({"num_frames": 1000}, 422, "/num_frames"),
        ({"best_of": 17}, 422, "/best_of"),
        ({"image": {"base64": "AAAA"}}, 422, "/image/base64"),
        ({"entities": [{"trajectory": {"points": [[96, 10]]}}]}, 422, "/entities/0/mask"),
        ({"surprise": 1}, 422, "/surprise"),
    ],
)
def test_it_refuses_what_generate_refuses(
    client: TestClient, changes: dict[str, Any], status: int, pointer: str
) -> None:
    refused = client.post("/v1/preview", json=doors.request(**changes))
    assert refused.status_code == status
    assert refused.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in refused.json().get("errors", [])] == [pointer]
    assert client.post("/v1/generate", json=doors.request(**changes)).json() == refused.json()


def test_it_takes_json_alone(client: TestClient) -> None:
    assert client.post("/v1/preview", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert (
        client.post("/v1/preview", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    )


@pytest.mark.parametrize("path", ["/v1/preview", "/v1/segment"])
def test_the_example_is_accepted_and_the_answer_is_what_the_document_says(client: TestClient, path: str) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"][path]["post"]
    (example,) = operation["requestBody"]["content"]["application/json"]["examples"].values()
    answer = client.post(path, json=example["value"])
    assert answer.status_code == 200
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert set(answer.json()) == set(document["components"]["schemas"][schema]["properties"])
