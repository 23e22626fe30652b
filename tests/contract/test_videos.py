"""/v1/videos, as OpenAI's own SDK meets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import OpenAI
from redis import Redis
from starlette.testclient import TestClient

from jobs.settings import Settings
from jobs.spec import JobSpec
from jobs.state import Failure
from jobs.storage import Storage, upload_key
from jobs.store import Store
from local.stack import Stack
from service.app import create_app
from tests import doors
from tests.harness import settings_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PNG = doors.picture()
ENTITIES = doors.request()["entities"]
FILE = ("a.png", PNG, "image/png")
JSON_TEXT = {"entities": json.dumps(ENTITIES)}
DATA = "data:image/png;base64," + doors.text(PNG)


@pytest.fixture(scope="module")
def address(servers: Stack) -> Iterator[str]:
    """The API behind a socket, for the redirects to S3 lead over sockets, too."""
    with doors.serving(create_app(settings_of(servers))) as (host, port):
        yield f"http://{host}:{port}/v1"


@pytest.fixture
def sdk(address: str, settings: Settings, redis: Redis) -> Iterator[OpenAI]:  # noqa: ARG001 - all is empty
    doors.announce(redis)
    with OpenAI(base_url=address, api_key="none", max_retries=0) as sdk:
        yield sdk


def created(sdk: OpenAI, **extra: Any) -> Any:
    return sdk.videos.create(prompt="", input_reference=FILE, model="tiny", extra_body=JSON_TEXT | extra)


def created_from(sdk: OpenAI, reference: Any, **extra: Any) -> Any:
    """From a file, or from what the SDK types as a reference and sends only as an extra."""
    if isinstance(reference, tuple):
        return sdk.videos.create(prompt="", input_reference=reference, extra_body=JSON_TEXT | extra)
    return sdk.videos.create(prompt="", extra_body={**JSON_TEXT, **extra, "input_reference": reference})


def spec_of(store: Store, video: Any) -> JobSpec:
    return JobSpec.model_validate(store.get(video.id).spec)


def fields(video: Any) -> dict[str, Any]:
    return dict(video.to_dict())


def test_a_video_from_queue_to_file(sdk: OpenAI, store: Store, storage: Storage) -> None:
    video = sdk.videos.create(
        prompt="it flies",
        input_reference=FILE,
        model="tiny",
        seconds="1",  # type: ignore[arg-type] # ours
        size="128x64",  # type: ignore[arg-type] # ours
        extra_body={**JSON_TEXT, "seed": 7, "hold_background": True, "num_inference_steps": 4},
    )
    record = store.get(video.id)
    assert fields(video) == {
        "id": video.id,
        "object": "video",
        "model": "tiny",
        "status": "queued",
        "progress": 0,
        "created_at": int(record.created_at.timestamp()),
        "completed_at": None,
        "expires_at": None,
        "size": "128x64",
        "seconds": "1",
        "prompt": None,
        "remixed_from_video_id": None,
        "error": None,
        "warnings": [warning.model_dump() for warning in record.warnings],
    }
    assert [warning.code for warning in record.warnings] == ["prompt_ignored"]
    spec = spec_of(store, video)
    assert (spec.width, spec.height, spec.num_frames, spec.seed, spec.num_inference_steps) == (128, 64, 7, 7, 4)
    assert [track.label for track in spec.entities] == ["background", "square"]
    assert storage.get(spec.image.key) == PNG

    doors.finish(video.id, store, storage, b"the bytes of a video")
    done = sdk.videos.retrieve(video.id)
    assert (done.status, done.progress, done.seconds) == ("completed", 100, "2")
    assert done.created_at <= int(done.completed_at or 0) < int(done.expires_at or 0)
    assert sdk.videos.download_content(video.id).read() == b"the bytes of a video"
    deleted = sdk.videos.delete(video.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (video.id, "video.deleted", True)
    with pytest.raises(openai.NotFoundError):
        sdk.videos.retrieve(video.id)


def test_a_prompt_is_not_needed_and_may_look_like_json(sdk: OpenAI, store: Store) -> None:
    assert store.get(created(sdk).id).warnings == []
    video = sdk.videos.create(prompt="[cat] {runs", input_reference=FILE, model="tiny", extra_body=JSON_TEXT)
    assert [warning.code for warning in store.get(video.id).warnings] == ["prompt_ignored"]


def test_progress(sdk: OpenAI, store: Store) -> None:
    video = created(sdk)
    assert store.claim(video.id, "a")
    assert store.beat(video.id, "a", {"stage": "denoising", "fraction": 0.459}) == "ok"
    now = sdk.videos.retrieve(video.id)
    assert (now.status, now.progress, now.completed_at) == ("in_progress", 45, None)


def test_failures(sdk: OpenAI, store: Store, redis: Redis) -> None:
    failed, canceled, expired = (created(sdk, deadline_s=1000).id for _ in range(3))
    assert store.claim(failed, "a")
    store.fail(failed, "a", Failure(code="out_of_memory", detail="Too large."))
    store.cancel(canceled)
    redis.zadd("da:deadlines", {expired: 0})
    assert store.expire(expired)
    for video_id, code in ((failed, "out_of_memory"), (canceled, "canceled"), (expired, "expired")):
        video = sdk.videos.retrieve(video_id)
        assert (video.status, video.error and video.error.code) == ("failed", code)
        assert video.error is not None
        assert video.error.message.endswith(".")


def test_the_listing_goes_through_all_pages(sdk: OpenAI) -> None:
    ids = [created(sdk).id for _ in range(5)]
    page = sdk.videos.list(limit=2)
    assert [video.id for video in page.data] == ids[:-3:-1]
    assert (page.has_more, page.last_id) == (True, ids[-2])
    assert [video.id for video in sdk.videos.list(limit=2)] == ids[::-1]
    assert list(sdk.videos.list(after=ids[0])) == []
    with pytest.raises(openai.UnprocessableEntityError, match="order"):
        sdk.videos.list(order="asc")


@pytest.mark.parametrize(
    "reference",
    [FILE, {"image_url": DATA}, {"image_url": DATA.replace("image/png", "")}, {"file_id": "0" * 32}],
)
def test_the_image_may_be_a_file_an_address_or_an_upload(
    sdk: OpenAI, store: Store, storage: Storage, reference: Any
) -> None:
    storage.put(upload_key("", "0" * 32), PNG, "image/png")
    assert storage.get(spec_of(store, created_from(sdk, reference)).image.key) == PNG


def test_members_of_objects_as_the_sdk_writes_them(sdk: OpenAI, store: Store) -> None:
    video = created(sdk, output={"format": "webm", "fps": 5}, camera=json.dumps({"pan": [3, 4]}))
    spec = spec_of(store, video)
    assert (spec.output.format, spec.fps) == ("webm", 5)
    assert spec.entities[0].points[-1] == (63.0, 36.0)


def test_json(client: TestClient, store: Store) -> None:
    body = {"input_reference": {"image_url": DATA}, "entities": ENTITIES, "seconds": 1, "output": {"fps": 5}}
    answer = client.post("/v1/videos", json=body)
    assert answer.status_code == 200, answer.text
    assert store.get(answer.json()["id"]).spec["num_frames"] == 5
    body = {"image": {"base64": doors.text(PNG)}, "entities": ENTITIES, "num_frames": 3}
    assert client.post("/v1/videos", json=body).json()["seconds"] == f"{3 / 7:.3f}"


def test_the_same_key_is_the_same_video(sdk: OpenAI, store: Store) -> None:
    headers = {"Idempotency-Key": "k"}
    ids = {
        sdk.videos.create(
            prompt="", input_reference=FILE, model="tiny", extra_body=JSON_TEXT, extra_headers=headers
        ).id
        for _ in range(2)
    }
    assert store.queued("tiny") == list(ids)


def test_a_thumbnail(sdk: OpenAI, store: Store, storage: Storage) -> None:
    video = created(sdk)
    with pytest.raises(openai.ConflictError):
        sdk.videos.download_content(video.id)
    doors.finish(video.id, store, storage, b"a picture")
    assert sdk.videos.download_content(video.id, variant="thumbnail").read() == b"a picture"
    with pytest.raises(openai.UnprocessableEntityError):
        sdk.videos.download_content(video.id, variant="spritesheet")


def test_the_api_streams_where_s3_is_private(private: TestClient, store: Store, storage: Storage) -> None:
    video = private.post("/v1/videos", data=JSON_TEXT, files={"input_reference": FILE}).json()
    doors.finish(video["id"], store, storage)
    answer = private.get(f"/v1/videos/{video['id']}/content", headers={"Range": "bytes=2-4"})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (206, b"234", "video/mp4")


# -- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"entities": ENTITIES}, "entities"),  # lists of objects are not what a form can hold
        ({"entities": "[]"}, "entities"),
        ({"entities": json.dumps([{"mask": ENTITIES[0]["mask"]}])}, "entities.0.trajectory"),
        ({"seed": "x"}, "seed"),
        ({"size": "720x1280"}, "size"),
        ({"size": "64"}, "size"),
        ({"size": "6400x6400"}, "width"),
        ({"seconds": "4"}, "seconds"),
        ({"seconds": "0"}, "seconds"),
        ({"seconds": "nan"}, "seconds"),
        ({"seconds": "1", "num_frames": 7}, None),
        ({"size": "128x64", "width": 128}, None),
        ({"image": json.dumps({"base64": "AAAA"})}, None),
        ({"model": "sora-2"}, "model"),
        ({"quality": "high"}, "quality"),
        ({"input_reference": {"image_url": "http://127.0.0.1/"}}, "input_reference"),
        ({"input_reference": {"image_url": "data:image/png,AAAA"}}, "input_reference.image_url"),
        ({"input_reference": {"image_url": "data:image/png;base64,AAAA"}}, "input_reference"),
        ({"input_reference": {"file_id": "../x"}}, "input_reference"),
        ({"input_reference": {"file_id": "x", "image_url": DATA}}, "input_reference"),
        ({"input_reference": ("a.png", b"no image", "image/png")}, "input_reference"),
    ],
)
def test_a_wrong_field_is_named(
    sdk: OpenAI, redis: Redis, s3: S3Client, changes: dict[str, Any], param: str | None
) -> None:
    before = doors.keys(redis)
    changes = dict(changes)
    reference = changes.pop("input_reference", FILE)
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        created_from(sdk, reference, **changes)
    error = caught.value
    assert (error.param, error.type, error.code) == (param, "invalid_request_error", "invalid_request")
    assert (doors.keys(redis), doors.objects(s3)) == (before, set())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/videos/x", 404),
        ("GET", "/v1/videos/%00", 404),
        ("DELETE", "/v1/videos/x", 404),
        ("GET", "/v1/videos/x/content", 404),
        ("GET", "/v1/videos/x/y/z", 404),
        ("POST", "/v1/videos/x/remix", 404),
        ("PUT", "/v1/videos", 405),
        ("GET", "/v1/videos?limit=0", 422),
        ("GET", f"/v1/videos?after={'0' * 32}", 404),
    ],
)
def test_every_error_has_openais_form(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert len(answer.content) == int(answer.headers["content-length"])


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"a": 1, "a": 2}', "application/json", 400),
        (b"{}", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n", "multipart/form-data; boundary=b", 422),
        (
            b'--b\r\nContent-Disposition: form-data; name="entities"\r\n\r\n[{\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            400,
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="seed"\r\n\r\n1\r\n' * 2 + b"--b--\r\n",
            "multipart/form-data; boundary=b",
            422,
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="mask"; filename="x"\r\n\r\n1\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            422,
        ),
        (b"x" * (32 * 2**20 + 1), "application/json", 413),
    ],
    ids=range(13),
)
def test_bodies_that_can_not_be_read(
    client: TestClient, s3: S3Client, content: bytes, media_type: str, status: int
) -> None:
    answer = client.post("/v1/videos", content=content, headers={"Content-Type": media_type})
    assert (answer.status_code, set(answer.json())) == (status, {"error"}), answer.text
    assert doors.objects(s3) == set()


def test_many_fields_and_files_are_refused(client: TestClient) -> None:
    answer = client.post("/v1/videos", data={f"f{n}": "1" for n in range(65)}, files={"input_reference": FILE})
    assert answer.status_code == 400
    answer = client.post("/v1/videos", data=JSON_TEXT, files=[("input_reference", FILE)] * 2)
    assert answer.status_code == 400


def test_a_file_that_is_too_large(client: TestClient, settings: Settings) -> None:
    file = ("a.png", bytes(settings.max_image_bytes + 1), "image/png")
    answer = client.post("/v1/videos", data=JSON_TEXT, files={"input_reference": file})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "input_reference")


def test_others_keep_their_own_form(client: TestClient) -> None:
    assert client.get("/v1/jobs/x").headers["content-type"] == "application/problem+json"
    assert client.get("/v1/videosx").headers["content-type"] == "application/problem+json"


def test_the_video_of_another_owner_is_not_found(sdk: OpenAI, redis: Redis) -> None:
    video = created(sdk)
    redis.hset(f"da:job:{video.id}", "owner", "somebody")
    for call in (sdk.videos.retrieve, sdk.videos.delete, sdk.videos.download_content):
        with pytest.raises(openai.NotFoundError):
            call(video.id)


def test_a_running_video_is_not_deleted(sdk: OpenAI, store: Store) -> None:
    video = created(sdk)
    with pytest.raises(openai.ConflictError, match="cancel"):
        sdk.videos.delete(video.id)
    assert store.exists(video.id)


def test_the_document_leads_everywhere_and_its_example_is_accepted(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/videos"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    for status, response in operation["responses"].items():
        if status == "default" or status >= "4":
            assert response["content"] == {
                "application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}
            }
    (example,) = operation["requestBody"]["content"]["application/json"]["examples"].values()
    assert client.post("/v1/videos", json=example["value"]).status_code == 200
