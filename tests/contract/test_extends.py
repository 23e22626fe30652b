"""``extends``: a job that goes on where another one of one's own ended."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from redis import Redis
from starlette.testclient import TestClient

from jobs.manifest import FORMAT
from jobs.spec import MAX_VIDEO_FRAMES, JobSpec
from jobs.storage import Storage, attempt_prefix
from jobs.store import Store
from tests import doors
from worker.encode import ending_zip

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WIDTH, HEIGHT = 192, 128  # of the videos that doors.finish makes
LAST = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
VIDEO = b"an earlier video"


def mask_at(x: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[50:80, x : x + 30] = True
    return mask


def going(*labels: str | None, **fields: Any) -> list[dict[str, Any]]:
    """Entities that go from (100, 60) on."""
    named = [{} if label is None else {"label": label} for label in labels]
    return [{**name, "trajectory": {"points": [[100, 60], [120, 60]]}, **fields} for name in named]


def begun(client: TestClient, **changes: Any) -> str:
    """A job with the entities "left", which is found in the last frame, "right", and "lost", which is not."""
    entities = [doors.request()["entities"][0] | {"label": label} for label in ("left", "right", "lost")]
    answer = client.post("/v1/generate", json=doors.request(entities=entities, **changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def finished(client: TestClient, store: Store, storage: Storage, **changes: Any) -> str:
    job_id = begun(client, **changes)
    held = [mask_at(0)] if changes.get("hold_background") else []
    doors.finish(job_id, store, storage, VIDEO, ending_zip(LAST, [*held, mask_at(40), mask_at(95), None]))
    return job_id


def extended(job_id: str, *labels: str | None, **changes: Any) -> dict[str, Any]:
    body = doors.request(extends=job_id, entities=going(*labels), **changes)
    del body["image"]
    return body


def pixels(storage: Storage, key: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(storage.get(key))))


@pytest.mark.parametrize("hold_background", [False, True])
@pytest.mark.parametrize("label", ["right", None])
def test_a_job_begins_with_the_last_frame_and_the_entities_there(
    client: TestClient, store: Store, storage: Storage, label: str | None, hold_background: bool
) -> None:
    job_id = finished(client, store, storage, hold_background=hold_background)
    labels = ["right"] if label else [None, None]
    answer = client.post("/v1/generate", json=extended(job_id, *labels, num_frames=5))
    assert answer.status_code == 202, answer.text
    new = answer.json()["id"]
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204  # it needs nothing of the earlier job
    spec = JobSpec.model_validate(store.get(new).spec)
    assert (spec.width, spec.height, spec.fps, spec.num_frames) == (WIDTH, HEIGHT, 7, 5)
    assert spec.prefix is not None
    assert storage.get(spec.prefix.key) == VIDEO
    assert spec.prefix.key == f"jobs/{new}/inputs/{spec.prefix.sha256}"
    assert np.array_equal(pixels(storage, spec.image.key), LAST)
    right = spec.entities[-1]
    assert [track.label for track in spec.entities] == (["right"] if label else ["left", "right"])
    assert np.array_equal(pixels(storage, right.mask.key) > 0, mask_at(95))
    assert right.points[0] == (100, 60)


def test_frames_without_loss_go_before_the_video(client: TestClient, store: Store, storage: Storage) -> None:
    job_id = begun(client)
    doors.finish(job_id, store, storage, VIDEO, ending_zip(LAST, [mask_at(40)]), frames=b"frames")
    new = client.post("/v1/generate", json=extended(job_id, "left")).json()["id"]
    prefix = JobSpec.model_validate(store.get(new).spec).prefix
    assert prefix is not None
    assert storage.get(prefix.key) == b"frames"


def test_a_mask_says_otherwise(client: TestClient, store: Store, storage: Storage) -> None:
    job_id = finished(client, store, storage)
    body = extended(job_id) | {"entities": going("right", "new", mask={"box": [90, 50, 110, 70]})}
    answer = client.post("/v1/generate", json=body)
    assert answer.status_code == 202, answer.text
    spec = JobSpec.model_validate(store.get(answer.json()["id"]).spec)
    assert [track.label for track in spec.entities] == ["right", "new"]
    assert pixels(storage, spec.entities[0].mask.key).sum() == 20 * 20


def test_a_preview_shows_the_control_signal_of_the_new_part(
    client: TestClient, store: Store, storage: Storage
) -> None:
    body = extended(finished(client, store, storage), "right", num_frames=4)
    answer = client.post("/v1/preview", json=body)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["width"], shown["height"], shown["num_frames"]) == (WIDTH, HEIGHT, 4)
    assert shown["points"][0][0] == [100, 60]


@pytest.mark.parametrize(
    ("labels", "changes", "pointer"),
    [
        (["right"], {"width": 256}, "/width"),
        (["right"], {"height": 256}, "/height"),
        (["right"], {"output": {"fps": 8}}, "/output/fps"),
        (["right"], {"num_frames": 1}, "/num_frames"),
        (["nobody"], {}, "/entities/0/label"),
        (["right", "lost"], {}, "/entities/1/mask"),
        ([None, None, None, None], {}, "/entities/2/mask"),
        (["right"], {"image": doors.request()["image"]}, "/image"),
    ],
)
def test_what_does_not_fit_is_refused(
    client: TestClient, store: Store, storage: Storage, labels: list[str | None], changes: Any, pointer: str
) -> None:
    body = extended(finished(client, store, storage), *labels) | changes
    answer = client.post("/v1/generate", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("why", "detail"),
    [
        ("malformed", "no such finished job"),
        ("empty", "no such finished job"),
        ("unknown", "no such finished job"),
        ("foreign", "no such finished job"),
        ("queued", "it is queued"),
        ("canceled", "it is canceled"),
        ("ending gone", "not stored any more"),
        ("video gone", "not stored any more"),
        ("of an earlier release", "not stored any more"),
        ("too long", "may have 250 frames"),
    ],
)
def test_what_can_not_be_extended(
    client: TestClient, store: Store, storage: Storage, redis: Redis, s3: S3Client, why: str, detail: str
) -> None:
    job_id = begun(client)
    if why == "canceled":
        store.cancel(job_id)
    elif why == "of an earlier release":
        doors.finish(job_id, store, storage)
    elif why != "queued":
        frames = MAX_VIDEO_FRAMES if why == "too long" else 14
        doors.finish(job_id, store, storage, VIDEO, ending_zip(LAST, [mask_at(40)]), num_frames=frames)
    if why == "foreign":
        redis.hset(f"da:job:{job_id}", "owner", "somebody")
    if why.endswith("gone"):
        s3.delete_object(Bucket="draganything", Key=attempt_prefix(job_id, "attempt") + why.removesuffix(" gone"))
    asked = {"malformed": "../../etc", "unknown": "0" * 32, "empty": ""}.get(why, job_id)
    before = doors.objects(s3)
    answer = client.post("/v1/generate", json=extended(asked, "left"))
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/extends"
    assert detail in error["detail"]
    assert doors.objects(s3) == before


def test_a_replay_uses_the_stored_earlier_video(client: TestClient, store: Store, storage: Storage) -> None:
    new = client.post("/v1/generate", json=extended(finished(client, store, storage), "left")).json()["id"]
    manifest = {
        "format": FORMAT,
        "request": store.get(new).spec,
        "model": {"name": "tiny", "weights_sha256": {"combined": "0" * 64}},
        "frames_sha256": "f" * 64,
    }
    answer = client.post("/v1/replay", json={"manifest": manifest})
    assert answer.status_code == 202, answer.text
    again = answer.json()["id"]
    prefix = JobSpec.model_validate(store.get(again).spec).prefix
    assert prefix is not None
    assert prefix.key == f"jobs/{again}/inputs/{prefix.sha256}"
    assert storage.get(prefix.key) == VIDEO
    storage.delete(f"jobs/{new}/inputs/{prefix.sha256}")
    answer = client.post("/v1/replay", json={"manifest": manifest})
    assert (answer.status_code, "extends" in answer.json()["detail"]) == (404, True)


def test_the_other_doors_take_it_too(client: TestClient, store: Store, storage: Storage) -> None:
    job_id = finished(client, store, storage)
    answer = client.post("/v1/videos", json=extended(job_id, "left"))
    assert answer.status_code == 200, answer.text
    both = client.post("/v1/batches", json={"request": extended(job_id, "left"), "seeds": [1, 2]})
    assert both.status_code == 202, both.text
    for job in (answer.json(), *both.json()["jobs"]):
        prefix = JobSpec.model_validate(store.get(job["id"]).spec).prefix
        assert prefix is not None
        assert storage.get(prefix.key) == VIDEO
