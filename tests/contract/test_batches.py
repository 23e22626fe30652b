"""/v1/batches: many jobs, one id, all or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from jobs import queue
from jobs.settings import Settings
from jobs.spec import JobSpec
from jobs.state import Status
from jobs.storage import Storage
from jobs.store import Store
from service import images, inputs
from service.app import create_app
from tests import doors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = {"Idempotency-Key": "a key of the client's"}
NONE = dict.fromkeys(Status, 0)


def created(client: TestClient, headers: dict[str, str] | None = None, /, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/batches", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def specs(store: Store, batch: dict[str, Any]) -> list[JobSpec]:
    return [JobSpec.model_validate(record.spec) for record in store.group(batch["id"])]


def test_the_answer_is_the_batch(client: TestClient, store: Store) -> None:
    answer = client.post("/v1/batches", json={"requests": [doors.request(seed=seed) for seed in (5, 6, 7)]})
    assert answer.status_code == 202
    batch = answer.json()
    address = f"http://localhost/v1/batches/{batch['id']}"
    assert answer.headers["location"] == address
    assert int(answer.headers["retry-after"]) >= 1
    jobs = batch.pop("jobs")
    assert batch == {
        "id": batch["id"],
        "object": "batch",
        "status": "queued",
        "created_at": jobs[0]["created_at"],
        "counts": NONE | {"queued": 3},
        "fraction": 0.0,
        "eta_s": None,
        "urls": {"self": address, "cancel": f"{address}/cancel"},
    }
    assert jobs == [client.get(job["urls"]["self"]).json() for job in jobs]
    assert store.queued("tiny") == [job["id"] for job in jobs]
    assert [spec.seed for spec in specs(store, batch)] == [5, 6, 7]
    assert client.get(address).json() == answer.json()


def test_one_request_with_many_seeds(
    client: TestClient, store: Store, s3: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def counting(data: bytes, pointer: str, settings: Settings) -> images.Picture:
        decoded.append(pointer)
        return images.read_picture(data, pointer, settings)

    monkeypatch.setattr(inputs, "read_picture", counting)
    seeds = [3, 1, 2**63 - 1]
    batch = created(client, request=doors.request(num_frames=5), seeds=seeds)
    first, *others = specs(store, batch)
    assert [first.seed, *(spec.seed for spec in others)] == seeds
    assert len(decoded) == 1
    keys = {blob.key for spec in (first, *others) for blob in (spec.image, spec.entities[0].mask)}
    assert doors.objects(s3) == keys
    assert len(keys) == 2 * len(seeds)
    for job, spec in zip(batch["jobs"], (first, *others), strict=True):
        assert spec.image.key == f"jobs/{job['id']}/inputs/{spec.image.sha256}"
        assert spec.model_copy(update={"seed": 0, "image": None, "entities": None}) == first.model_copy(
            update={"seed": 0, "image": None, "entities": None}
        )


def test_deleting_a_job_leaves_the_others_their_inputs(client: TestClient, store: Store, s3: S3Client) -> None:
    batch = created(client, request=doors.request(), seeds=[1, 2])
    gone, kept = (job["id"] for job in batch["jobs"])
    store.cancel(gone)
    assert client.delete(f"/v1/jobs/{gone}").status_code == 204
    assert [job["id"] for job in client.get(batch["urls"]["self"]).json()["jobs"]] == [kept]
    blobs = [store.get(kept).spec["image"], store.get(kept).spec["entities"][0]["mask"]]
    assert doors.objects(s3) == {blob["key"] for blob in blobs}


def test_progress_is_shared(client: TestClient, store: Store, storage: Storage, redis: Redis) -> None:
    redis.hset("da:pace:tiny", "192 128 14", "[1.0, 2.0, 3.0]")
    batch = created(client, request=doors.request(num_inference_steps=10), seeds=[1, 2, 3, 4])
    ids = [job["id"] for job in batch["jobs"]]
    doors.finish(ids[0], store, storage)
    assert store.claim(ids[1], "a")
    assert store.beat(ids[1], "a", {"stage": "denoising", "step": 5, "steps": 10, "fraction": 0.5}) == "ok"
    store.cancel(ids[2])
    now = client.get(batch["urls"]["self"]).json()
    assert now["status"] == "running"
    assert now["counts"] == NONE | {"succeeded": 1, "running": 1, "canceled": 1, "queued": 1}
    assert now["fraction"] == (1 + 0.5 + 1 + 0) / 4
    assert now["jobs"][0]["result"]["video_url"].startswith("http")
    assert now["eta_s"] == max(job["eta_s"] for job in now["jobs"] if job["eta_s"] is not None) > 0


def test_an_unknown_end_of_one_job_is_an_unknown_end_of_all(client: TestClient, redis: Redis) -> None:
    doors.announce(redis, doors.CARD.model_copy(update={"name": "other"}))
    redis.hset("da:pace:tiny", "192 128 14", "[1.0, 2.0, 3.0]")
    batch = created(client, requests=[doors.request(), doors.request(model="other")])
    assert [job["eta_s"] is None for job in batch["jobs"]] == [False, True]
    assert batch["eta_s"] is None


def test_cancel(client: TestClient, store: Store, storage: Storage) -> None:
    batch = created(client, request=doors.request(), seeds=[1, 2, 3])
    done, running, waiting = (job["id"] for job in batch["jobs"])
    doors.finish(done, store, storage)
    assert store.claim(running, "a")
    answer = client.post(batch["urls"]["cancel"])
    assert answer.status_code == 202
    assert answer.json()["counts"] == NONE | {"succeeded": 1, "running": 1, "canceled": 1}
    assert store.get(waiting).status is Status.CANCELED
    assert store.beat(running, "a") == "cancel"
    store.end_canceled(running, "a")
    again = client.post(batch["urls"]["cancel"])
    assert (again.status_code, again.json()["status"], again.json()["eta_s"]) == (200, "ended", None)


def test_every_idle_worker_is_woken(client: TestClient, redis: Redis) -> None:
    created(client, request=doors.request(), seeds=[1, 2])
    assert [queue.sleep(redis, ["tiny"], 1) for _ in range(2)] == [True, True]


# -- all or none -------------------------------------------------------------------------------------------------

NO_IMAGE = {"base64": doors.text(b"no image")}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, [""]),
        ({"requests": []}, ["/requests"]),
        ({"requests": [doors.request()] * 65}, ["/requests"]),
        ({"request": doors.request(), "seeds": list(range(65))}, ["/seeds"]),
        ({"request": doors.request(), "seeds": []}, ["/seeds"]),
        ({"request": doors.request(), "seeds": [1, -1]}, ["/seeds/1"]),
        ({"request": doors.request()}, [""]),
        ({"request": doors.request(seed=3), "seeds": [1]}, [""]),
        ({"seeds": [1]}, [""]),
        ({"requests": [doors.request()], "seeds": [1]}, [""]),
        ({"requests": [doors.request()], "request": doors.request(), "seeds": [1]}, [""]),
        ({"requests": [doors.request()], "wait": 3}, ["/wait"]),
        ({"requests": [doors.request(), doors.request(seed=-1)]}, ["/requests/1/seed"]),
        ({"requests": [doors.request(), doors.request(model="none")]}, ["/requests/1/model"]),
        (
            {"requests": [doors.request(), doors.request(image=NO_IMAGE), doors.request(num_frames=99)]},
            ["/requests/1/image/base64", "/requests/2/num_frames"],
        ),
        ({"request": doors.request(image=NO_IMAGE), "seeds": [1, 2]}, ["/request/image/base64"]),
    ],
)
def test_what_is_wrong_is_pointed_at_and_nothing_is_left(
    client: TestClient, redis: Redis, s3: S3Client, body: dict[str, Any], pointers: list[str]
) -> None:
    before = doors.keys(redis)
    answer = client.post("/v1/batches", json=body, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers
    assert (doors.keys(redis), doors.objects(s3)) == (before, set())


def test_errors_are_not_endless(client: TestClient) -> None:
    answer = client.post("/v1/batches", json={"requests": [doors.request(num_frames=99)] * 64})
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 20)


def test_64_jobs_are_accepted(client: TestClient, store: Store) -> None:
    batch = created(client, request=doors.request(num_frames=1), seeds=list(range(64)))
    assert store.queued("tiny") == [job["id"] for job in batch["jobs"]]
    assert [spec.seed for spec in specs(store, batch)] == list(range(64))


@pytest.mark.parametrize("early_look", [True, False])
def test_a_queue_without_room_for_all_takes_none(
    settings: Settings, redis: Redis, s3: S3Client, monkeypatch: pytest.MonkeyPatch, early_look: bool
) -> None:
    doors.announce(redis)
    if not early_look:
        monkeypatch.setattr(Store, "count_queued", lambda *_: -100)  # the others come after this look
    with TestClient(
        create_app(settings.model_copy(update={"max_queued": 2})), base_url="http://localhost"
    ) as client:
        before = doors.keys(redis)
        answer = client.post("/v1/batches", json={"request": doors.request(), "seeds": [1, 2, 3]}, headers=KEY)
        assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
        assert (doors.keys(redis), doors.objects(s3)) == (before, set())
        created(client, KEY, request=doors.request(), seeds=[1, 2])


# -- Idempotency-Key, and whose it is ----------------------------------------------------------------------------


def test_the_same_key_and_body_is_the_same_batch(client: TestClient, store: Store, s3: S3Client) -> None:
    first = created(client, KEY, request=doors.request(), seeds=[1, 2])
    stored = doors.objects(s3)
    assert created(client, KEY, request=doors.request(), seeds=[1, 2]) == first
    assert (store.count_queued("tiny"), doors.objects(s3)) == (2, stored)


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/generate"])
def test_the_same_key_with_another_body_is_refused(client: TestClient, store: Store, path: str) -> None:
    created(client, KEY, requests=[doors.request()])
    other = {"requests": [doors.request(seed=1)]} if path == "/v1/batches" else doors.request()
    answer = client.post(path, json=other, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert store.count_queued("tiny") == 1


@pytest.mark.parametrize("batch_id", ["0" * 32, "x", "%00", "*", "..%2f..", "0" * 5000, "🦆"])
def test_an_unknown_batch_is_not_found(client: TestClient, batch_id: str) -> None:
    for method, path in (("GET", ""), ("POST", "/cancel")):
        answer = client.request(method, f"/v1/batches/{batch_id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert len(answer.content) < 500


def test_the_batch_of_another_owner_is_not_found(client: TestClient, store: Store, redis: Redis) -> None:
    batch = created(client, request=doors.request(), seeds=[1, 2])
    for job in batch["jobs"]:
        redis.hset(f"da:job:{job['id']}", "owner", "somebody")
    assert client.get(f"/v1/batches/{batch['id']}").status_code == 404
    assert client.post(f"/v1/batches/{batch['id']}/cancel").status_code == 404
    assert store.count_queued("tiny") == 2


@pytest.mark.parametrize("media_type", ["text/plain", "multipart/form-data; boundary=x"])
def test_only_json(client: TestClient, media_type: str) -> None:
    answer = client.post("/v1/batches", content=b"{}", headers={"Content-Type": media_type})
    assert answer.status_code == 415


@pytest.mark.usefixtures("client")
def test_the_examples_are_accepted(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/batches"]["post"]
    assert set(operation["responses"]) >= {"202", "400", "403", "409", "413", "415", "422", "503"}
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        assert created(client, **example["value"])["status"] == "queued"
