"""/v1/replay: the same job again, out of its manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from redis import Redis
from starlette.testclient import TestClient

from jobs.manifest import FORMAT
from jobs.spec import JobSpec
from jobs.store import Store
from service.images import encode_mask
from tests import doors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = {"Idempotency-Key": "a key of the client's"}
IMAGE = {"base64": doors.text(doors.picture())}
MASK = {"base64": doors.text(doors.file_of(doors.square() * 255))}
REST = encode_mask(1 - doors.square())


def made(client: TestClient, store: Store, **changes: Any) -> tuple[str, dict[str, Any]]:
    """A job and the manifest that a worker would write."""
    job = client.post("/v1/generate", json=doors.request(seed=5, **changes)).json()
    return job["id"], {
        "format": FORMAT,
        "request": store.get(job["id"]).spec,
        "model": {"name": "tiny", "weights_sha256": {"combined": "0" * 64}, "device": "cpu", "dtype": "float32"},
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "frames_sha256": "f" * 64,
        "artifacts": {},
        "timings_s": {"denoising": 1.0},
    }


def changed(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copy: Any = json.loads(json.dumps(manifest))
    *parents, leaf = path.split(".")
    place = copy
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    place[int(leaf) if isinstance(place, list) else leaf] = value
    return dict(copy)


@pytest.mark.parametrize("hold_background", [False, True])
def test_the_stored_inputs_are_used_and_stored_again(
    client: TestClient, store: Store, s3: S3Client, hold_background: bool
) -> None:
    first, manifest = made(client, store, hold_background=hold_background, camera={"zoom": 1.2})
    answer = client.post("/v1/replay", json={"manifest": manifest})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == job["urls"]["self"]
    assert int(answer.headers["retry-after"]) >= 1
    assert store.queued("tiny") == [first, job["id"]]
    old, new = (JobSpec.model_validate(store.get(job_id).spec) for job_id in (first, job["id"]))
    blobs = [new.image, *(track.mask for track in new.entities)]
    assert [blob.key for blob in blobs] == [f"jobs/{job['id']}/inputs/{blob.sha256}" for blob in blobs]
    assert {blob.key for blob in blobs} < doors.objects(s3)
    assert json.loads(old.model_dump_json().replace(first, job["id"])) == new.model_dump(mode="json")
    store.cancel(first)
    assert client.delete(f"/v1/jobs/{first}").status_code == 204
    assert {blob.key for blob in blobs} == doors.objects(s3)


def test_the_warnings_of_the_first_job_come_again(client: TestClient, store: Store) -> None:
    entity = doors.request()["entities"][0] | {"trajectory": {"points": [[32, 32], [200, 32]]}}
    first, manifest = made(client, store, entities=[entity], hold_background=True)
    job = client.post("/v1/replay", json={"manifest": manifest}).json()
    codes = [warning["code"] for warning in client.get(f"/v1/jobs/{first}").json()["warnings"]]
    assert codes
    assert [warning["code"] for warning in job["warnings"]] == codes
    pointers = {warning["pointer"] for warning in job["warnings"]}
    assert pointers == {"/manifest/request/entities/1/points"}


@pytest.mark.parametrize("form", ["all masks", "without the background", "stored masks"])
def test_files_where_nothing_is_stored(client: TestClient, store: Store, form: str) -> None:
    first, manifest = made(client, store, hold_background=True)
    store.cancel(first)
    client.delete(f"/v1/jobs/{first}")
    box = {"box": [20, 20, 45, 45]}
    masks = [{"base64": doors.text(REST)}, MASK] if form == "all masks" else [box]
    if form == "stored masks":
        masks = [{"base64": doors.text(REST)}, {"base64": doors.text(encode_mask(doors.square()))}]
    answer = client.post("/v1/replay", json={"manifest": manifest, "image": IMAGE, "masks": masks})
    assert answer.status_code == 202, answer.text
    spec = JobSpec.model_validate(store.get(answer.json()["id"]).spec)
    assert [track.label for track in spec.entities] == ["background", "square"]


@pytest.mark.parametrize("why", ["deleted", "another owner's", "no job's", "no input's", "of another hash"])
def test_inputs_that_are_gone_or_foreign_are_asked_for(
    client: TestClient, store: Store, redis: Redis, s3: S3Client, why: str
) -> None:
    first, manifest = made(client, store)
    if why == "deleted":
        store.cancel(first)
        client.delete(f"/v1/jobs/{first}")
    elif why == "another owner's":
        redis.hset(f"da:job:{first}", "owner", "somebody")
    elif why == "of another hash":
        manifest = changed(manifest, "request.image.sha256", "e" * 64)
    else:
        key = f"jobs/{'0' * 32}/inputs/x" if why == "no job's" else f"jobs/{first}/result.json"
        manifest = changed(manifest, "request.image.key", key)
    before = doors.objects(s3)
    answer = client.post("/v1/replay", json={"manifest": manifest}, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "the image" in answer.json()["detail"]
    assert "--image" in answer.json()["detail"]
    assert ("the mask of 'square'" in answer.json()["detail"]) == (why in ("deleted", "another owner's"))
    assert doors.objects(s3) == before
    if why != "of another hash":
        answer = client.post(
            "/v1/replay", json={"manifest": manifest, "image": IMAGE, "masks": [MASK]}, headers=KEY
        )
        assert answer.status_code == 202


@pytest.mark.parametrize(
    ("files", "pointer"),
    [
        ({"image": {"base64": doors.text(doors.picture(kind=".webp"))}}, "/image/base64"),
        ({"masks": [{"box": [20, 20, 44, 45]}]}, "/masks/0"),
        ({"masks": [{"base64": doors.text(doors.file_of(np.zeros((9, 9), np.uint8)))}]}, "/masks/0/base64"),
        ({"masks": [MASK, MASK]}, "/masks"),
        ({"image": {"upload": "0" * 32}}, "/image/upload"),
    ],
)
def test_other_files_are_refused(
    client: TestClient, store: Store, s3: S3Client, files: dict[str, Any], pointer: str
) -> None:
    _, manifest = made(client, store)
    before = doors.objects(s3)
    answer = client.post("/v1/replay", json={"manifest": manifest, **files})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert doors.objects(s3) == before


RULES: list[tuple[str, Any, str]] = [
    ("format", "draganything.manifest.v0", "/manifest/format"),
    ("request.model", "none", "/manifest/request/model"),
    ("request.weights_sha256", "1" * 64, "/manifest/request/weights_sha256"),
    ("request.seed", -1, "/manifest/request/seed"),
    ("request.num_inference_steps", 51, "/manifest/request/num_inference_steps"),
    ("request.num_frames", 3, "/manifest/request/entities/0/points"),
    ("request.width", 100, "/manifest/request/width"),
    ("request.width", 64 * 10**6, "/manifest/request/width"),
    ("request.fps", 0, "/manifest/request/fps"),
    ("request.sampler", "dpm", "/manifest/request/sampler"),
    ("request.tier", "fast", "/manifest/request/tier"),
    ("request.control_end", 2, "/manifest/request/control_end"),
    ("request.control_start", 1.0, "/manifest/request"),
    ("request.decode_chunk_size", 10**9, "/manifest/request/decode_chunk_size"),
    ("request.image.width", 10**9, "/manifest/request/image"),
    ("request.entities", [], "/manifest/request/entities"),
    ("request.entities.0.label", "x" * 101, "/manifest/request/entities/0/label"),
    ("request.entities.0.scale", [1.0], "/manifest/request/entities/0/scale"),
    ("request.entities.0.scale", [0.0] * 14, "/manifest/request/entities/0/scale"),
    ("request.entities.0.points.2", ["x", 1], "/manifest/request/entities/0/points/2/0"),
    ("request.brand_new", 1, "/manifest/request/brand_new"),
    ("versions", {"torch": "x" * 1000}, "/manifest/versions/torch"),
]


@pytest.mark.parametrize(
    ("path", "value", "pointer"), RULES, ids=[f"{path}={value!r:.20}" for path, value, _ in RULES]
)
def test_a_manifest_is_user_input(
    client: TestClient, store: Store, redis: Redis, path: str, value: Any, pointer: str
) -> None:
    _, manifest = made(client, store)
    if path == "request.control_start":
        manifest = changed(manifest, "request.control_end", 0.5)
    before = doors.keys(redis)
    answer = client.post("/v1/replay", json={"manifest": changed(manifest, path, value)}, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert doors.keys(redis) == before


def test_both_weights_are_named(client: TestClient, store: Store) -> None:
    _, manifest = made(client, store)
    other = changed(manifest, "request.weights_sha256", "1" * 64)
    detail = client.post("/v1/replay", json={"manifest": other}).json()["errors"][0]["detail"]
    assert "1" * 64 in detail
    assert "0" * 64 in detail


def test_a_mask_that_is_the_image_is_no_mask(client: TestClient, store: Store) -> None:
    _, manifest = made(client, store)
    sneaky = changed(manifest, "request.entities.0.mask", manifest["request"]["image"] | {"width": 1})
    answer = client.post("/v1/replay", json={"manifest": sneaky})
    assert answer.status_code in (202, 422)  # a picture is a mask of its bright pixels
    if answer.status_code == 202:
        spec = JobSpec.model_validate(store.get(answer.json()["id"]).spec)
        assert spec.entities[0].mask.sha256 == spec.image.sha256


def test_other_versions_are_warned_of(client: TestClient, store: Store, redis: Redis) -> None:
    _, manifest = made(client, store)
    here = doors.CARD.model_copy(update={"device": "cuda", "versions": {"torch": "2.14.0", "numpy": "2.4"}})
    doors.announce(redis, here)
    warnings = client.post("/v1/replay", json={"manifest": manifest}).json()["warnings"]
    (warning,) = [warning for warning in warnings if warning["code"] == "replay_versions_differ"]
    assert "device cpu then, cuda now; torch 2.13.0 then, 2.14.0 now" in warning["detail"]
    assert warning["pointer"] == "/manifest/versions"


def test_the_same_key_is_the_same_job(client: TestClient, store: Store) -> None:
    _, manifest = made(client, store)
    first, again = (client.post("/v1/replay", json={"manifest": manifest}, headers=KEY).json() for _ in range(2))
    assert first["id"] == again["id"]
    other = client.post("/v1/replay", json={"manifest": changed(manifest, "request.seed", 6)}, headers=KEY)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert store.count_queued("tiny") == 2
