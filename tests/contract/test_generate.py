"""POST /v1/generate."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from redis import Redis
from starlette.testclient import TestClient

from jobs import queue
from jobs.settings import Settings
from jobs.spec import JobSpec
from jobs.storage import Storage
from jobs.store import Store
from service.app import create_app
from tests import doors
from tests.harness import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def created(client: TestClient, headers: dict[str, str] | None = None, /, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/generate", json=doors.request(**changes), headers=headers)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def spec_of(store: Store, job: dict[str, Any]) -> JobSpec:
    return JobSpec.model_validate(store.get(job["id"]).spec)


def test_the_answer_is_the_job(client: TestClient) -> None:
    answer = client.post("/v1/generate", json=doors.request())
    assert answer.status_code == 202
    job = answer.json()
    address = f"http://localhost/v1/jobs/{job['id']}"
    assert answer.headers["location"] == address
    assert int(answer.headers["retry-after"]) >= 1
    assert job.pop("created_at").endswith("Z")
    assert len(job.pop("id")) == 32
    assert job == {
        "object": "job",
        "status": "queued",
        "model": "tiny",
        "started_at": None,
        "finished_at": None,
        "expires_at": None,
        "progress": {"stage": "queued", "step": 0, "steps": 10, "fraction": 0.0, "preview_url": None},
        "queue_position": 1,
        "eta_s": None,
        "attempt": 0,
        "result": None,
        "error": None,
        "warnings": [],
        "urls": {
            "self": address,
            "events": f"{address}/events",
            "cancel": f"{address}/cancel",
            "result": f"{address}/result",
        },
    }
    assert client.get(address).json() == answer.json()


def test_the_links_honour_the_public_address(settings: Settings, redis: Redis) -> None:
    doors.announce(redis)
    public = settings.model_copy(update={"public_url": "https://video.example/api/"})
    with TestClient(create_app(public), base_url="http://localhost") as client:
        answer = client.post("/v1/generate", json=doors.request())
    assert answer.headers["location"] == f"https://video.example/api/v1/jobs/{answer.json()['id']}"
    assert answer.json()["urls"]["self"] == answer.headers["location"]


def test_the_inputs_are_stored_under_their_hashes(client: TestClient, store: Store, s3: S3Client) -> None:
    job = created(client)
    spec = spec_of(store, job)
    blobs = [spec.image, *(track.mask for track in spec.entities)]
    assert doors.objects(s3) == {blob.key for blob in blobs}
    for blob in blobs:
        stored = s3.get_object(Bucket="draganything", Key=blob.key)["Body"].read()
        assert hashlib.sha256(stored).hexdigest() == blob.sha256
        assert blob.key == f"jobs/{job['id']}/inputs/{blob.sha256}"
        assert (blob.width, blob.height) == (doors.WIDTH, doors.HEIGHT)
    assert s3.get_object(Bucket="draganything", Key=spec.image.key)["Body"].read() == doors.picture()


def test_the_job_waits_in_the_queue_of_its_model_and_a_worker_is_woken(
    client: TestClient, redis: Redis, store: Store
) -> None:
    low, high = (created(client, priority=priority)["id"] for priority in ("low", "high"))
    assert store.queued("tiny") == [high, low]
    assert client.get(f"/v1/jobs/{low}").json()["queue_position"] == 2
    assert queue.sleep(redis, ["tiny"], 1)


def test_defaults_come_from_the_model(client: TestClient, store: Store) -> None:
    spec = spec_of(store, created(client))
    assert (spec.width, spec.height) == (192, 128)  # the image's own 3:2
    assert spec.num_frames == doors.CARD.num_frames == len(spec.entities[0].points)
    assert spec.num_inference_steps == doors.CARD.num_inference_steps
    assert (spec.min_guidance_scale, spec.max_guidance_scale) == (1.0, 1.0)
    assert (spec.fps, spec.decode_chunk_size, spec.motion_bucket_id) == (7, 8, 128)
    assert spec.weights_sha256 == doors.CARD.weights_sha256
    assert 0 <= spec.seed < 2**31
    assert spec.seed != spec_of(store, created(client)).seed


def test_what_was_asked_for_is_kept(client: TestClient, store: Store) -> None:
    asked: dict[str, Any] = {
        "num_frames": 3,
        "num_inference_steps": 4,
        "seed": 0,
        "min_guidance_scale": 0.0,
        "max_guidance_scale": 2.5,
        "width": 128,
        "height": 64,
        "control_scale": 0.0,
        "control_start": 0.25,
        "control_end": 0.5,
        "motion_bucket_id": 0,
        "noise_aug_strength": 0.0,
        "decode_chunk_size": 2,
        "sampler": "ays",
        "priority": "low",
        "deadline_s": 30.5,
    }
    spec = spec_of(store, created(client, **asked, output={"format": "webm", "fps": 12})).model_dump()
    assert {name: spec[name] for name in asked} == asked
    assert spec["fps"] == 12
    assert spec["output"]["format"] == "webm"


@pytest.mark.parametrize(
    ("image", "asked", "size"),
    [
        ((96, 64), {}, (192, 128)),
        ((64, 96), {}, (128, 192)),
        ((64, 64), {}, (128, 128)),
        ((256, 16), {}, (384, 64)),  # no side is shorter than 64
        ((96, 64), {"width": 192}, (192, 128)),
        ((64, 64), {"width": 256}, (256, 256)),
        ((64, 128), {"height": 256}, (128, 256)),
        ((256, 16), {"width": 256}, (256, 64)),
    ],
)
def test_the_size_fits_the_images_aspect(
    client: TestClient, store: Store, image: tuple[int, int], asked: dict[str, Any], size: tuple[int, int]
) -> None:
    entity = {"mask": {"box": [0, 0, 16, 16]}, "trajectory": {"points": [[8, 8]]}}
    source = {"base64": doors.text(doors.picture(*image))}
    spec = spec_of(store, created(client, image=source, entities=[entity], **asked))
    assert (spec.width, spec.height) == size


def test_warnings_point_at_what_they_are_about(client: TestClient) -> None:
    still = {"mask": {"box": [2, 2, 40, 40]}, "trajectory": {"points": [[20, 20]]}}
    leaving = {"mask": {"box": [50, 20, 90, 60]}, "trajectory": {"points": [[70, 40], [150, 40]]}}
    job = created(client, entities=[still, leaving], hold_background=True)
    assert [(w["code"], w["pointer"]) for w in job["warnings"]] == [
        ("trajectory_leaves_image", "/entities/1/trajectory")
    ]


@pytest.mark.parametrize("headers", [{"Prefer": "wait=30"}, {"Prefer": "respond-async, wait=30"}])
def test_prefer_wait_answers_when_the_job_ends(
    client: TestClient, store: Store, storage: Storage, headers: dict[str, str]
) -> None:
    def work() -> None:
        until(lambda: store.queued("tiny"))
        doors.finish(store.queued("tiny")[0], store, storage)

    worker = threading.Thread(target=work)
    worker.start()
    answer = client.post("/v1/generate", json=doors.request(), headers=headers)
    worker.join()
    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded"
    assert answer.headers["preference-applied"] == "wait=30"
    assert "retry-after" not in answer.headers


def test_prefer_wait_gives_up_in_time(client: TestClient) -> None:
    answer = client.post("/v1/generate", json=doors.request(), headers={"Prefer": "wait=0.2"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


# -- Idempotency-Key ---------------------------------------------------------------------------------------------

KEY = {"Idempotency-Key": "a key of the client's"}


def test_the_same_key_and_body_is_the_same_job(client: TestClient, store: Store, s3: S3Client) -> None:
    first = created(client, KEY)
    stored = doors.objects(s3)
    again = client.post("/v1/generate", json=doors.request(), headers=KEY)
    assert (again.status_code, again.json()) == (202, first)
    reordered = json.dumps(dict(reversed(doors.request().items())), indent=3)
    answer = client.post("/v1/generate", content=reordered, headers={**KEY, "Content-Type": "application/json"})
    assert answer.json()["id"] == first["id"]
    assert store.queued("tiny") == [first["id"]]
    assert doors.objects(s3) == stored


def test_the_same_key_with_another_body_is_refused(client: TestClient, store: Store) -> None:
    first = created(client, KEY)
    answer = client.post("/v1/generate", json=doors.request(seed=3), headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert store.queued("tiny") == [first["id"]]


def test_a_key_in_flight_conflicts(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, proceed = threading.Event(), threading.Event()
    put = Storage.put

    def slow_put(*args: Any, **kwargs: Any) -> Any:
        entered.set()
        assert proceed.wait(30)
        return put(*args, **kwargs)

    monkeypatch.setattr(Storage, "put", slow_put)
    first: list[dict[str, Any]] = []
    sender = threading.Thread(target=lambda: first.append(created(client, KEY)))
    sender.start()
    assert entered.wait(30)
    answer = client.post("/v1/generate", json=doors.request(), headers=KEY)
    proceed.set()
    sender.join()
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_flight")
    assert int(answer.headers["retry-after"]) >= 1
    assert created(client, KEY)["id"] == first[0]["id"]


def test_many_at_once_make_one_job(client: TestClient, store: Store) -> None:
    answers: list[int] = []

    def send() -> None:
        answers.append(client.post("/v1/generate", json=doors.request(), headers=KEY).status_code)

    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert set(answers) <= {202, 409}
    assert 202 in answers
    assert store.count_queued("tiny") == 1


def test_a_refused_request_releases_its_key(client: TestClient, redis: Redis) -> None:
    before = doors.keys(redis)
    wrong = doors.request(image={"base64": doors.text(b"no image")})
    assert client.post("/v1/generate", json=wrong, headers=KEY).status_code == 422
    assert doors.keys(redis) == before
    created(client, KEY)


@pytest.mark.parametrize("length", [0, 256])
def test_a_key_has_a_sane_length(client: TestClient, length: int) -> None:
    answer = client.post("/v1/generate", json=doors.request(), headers={"Idempotency-Key": "k" * length})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "idempotency-key" in answer.json()["detail"]


# -- refusals that are nobody's fault ----------------------------------------------------------------------------


def test_a_full_queue_says_when_to_come_back(settings: Settings, redis: Redis, s3: S3Client) -> None:
    doors.announce(redis)
    narrow = settings.model_copy(update={"max_queued": 1})
    with TestClient(create_app(narrow), base_url="http://localhost") as client:
        created(client)
        keys, objects = doors.keys(redis), doors.objects(s3)
        answer = client.post("/v1/generate", json=doors.request(), headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1
    assert (doors.keys(redis), doors.objects(s3)) == (keys, objects)


def test_a_queue_that_fills_up_meanwhile_leaves_nothing_behind(
    settings: Settings, redis: Redis, s3: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors.announce(redis)
    monkeypatch.setattr(Store, "count_queued", lambda *_: 0)  # the others come after this look
    with TestClient(
        create_app(settings.model_copy(update={"max_queued": 1})), base_url="http://localhost"
    ) as client:
        created(client)
        keys, objects = doors.keys(redis), doors.objects(s3)
        answer = client.post("/v1/generate", json=doors.request(), headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    assert (doors.keys(redis), doors.objects(s3)) == (keys, objects)


@pytest.mark.usefixtures("settings")
def test_no_model_yet_is_not_the_clients_fault(api: TestClient, redis: Redis) -> None:
    answer = api.post("/v1/generate", json=doors.request())
    assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert doors.keys(redis) == set()


def test_a_mask_of_noise_is_stored_as_it_was_read(client: TestClient, store: Store, storage: Storage) -> None:
    mask = np.random.default_rng(3).integers(0, 2, (doors.HEIGHT, doors.WIDTH), np.uint8)
    entity = {"mask": {"base64": doors.text(doors.file_of(mask * 255))}, "trajectory": {"points": [[8, 8]]}}
    stored = storage.get(spec_of(store, created(client, entities=[entity])).entities[0].mask.key)
    read = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert read is not None
    assert np.array_equal(read > 0, mask > 0)
