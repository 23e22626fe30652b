"""/v1/uploads: images beside the request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from redis import Redis
from starlette.testclient import TestClient

from jobs.settings import Settings
from jobs.spec import JobSpec
from jobs.storage import Storage, upload_key
from jobs.store import Store
from tests import doors
from worker.janitor import Janitor

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PNG = doors.picture()


def announced(client: TestClient, data: bytes = PNG, content_type: str = "image/png") -> dict[str, Any]:
    answer = client.post("/v1/uploads", json={"content_type": content_type, "bytes": len(data)})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def put(upload: dict[str, Any], data: bytes = PNG, **headers: str) -> httpx.Response:
    """As a client of S3 does it."""
    return httpx.put(upload["put_url"], content=data, headers={**upload["headers"], **headers})


def test_an_upload_becomes_the_image_of_a_job(
    client: TestClient, store: Store, storage: Storage, s3: S3Client
) -> None:
    upload = announced(client)
    assert put(upload).status_code == 200
    assert doors.objects(s3) == {f"uploads/none/{upload['upload']}"}
    answer = client.post("/v1/generate", json=doors.request(image={"upload": upload["upload"]}))
    assert answer.status_code == 202, answer.text
    spec = JobSpec.model_validate(store.get(answer.json()["id"]).spec)
    assert spec.image.key == f"jobs/{answer.json()['id']}/inputs/{spec.image.sha256}"
    assert storage.get(spec.image.key) == PNG


def test_a_batch_reads_it_once(client: TestClient, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = announced(client)
    put(upload)
    opened: list[str] = []
    really = Storage.open

    def noting(self: Storage, key: str) -> Any:
        opened.append(key)
        return really(self, key)

    monkeypatch.setattr(Storage, "open", noting)
    requests = [doors.request(image={"upload": upload["upload"]}, seed=seed) for seed in range(3)]
    assert client.post("/v1/batches", json={"requests": requests}).status_code == 202
    assert opened == [upload_key("", upload["upload"])]
    assert storage.get(opened[0]) == PNG


def test_the_answer_says_until_when(client: TestClient, settings: Settings) -> None:
    before = datetime.now(UTC)
    upload = announced(client)
    expires = datetime.fromisoformat(upload["expires_at"]) - timedelta(seconds=settings.link_ttl_s)
    assert before <= expires <= datetime.now(UTC)
    assert f"X-Amz-Expires={settings.link_ttl_s}" in upload["put_url"]
    assert upload["headers"] == {"Content-Type": "image/png", "Content-Length": str(len(PNG))}


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (PNG, {"Content-Type": "text/html"}),
        (PNG + b"x", {"Content-Length": str(len(PNG) + 1)}),
        (PNG[:-1], {"Content-Length": str(len(PNG) - 1)}),
    ],
)
def test_s3_takes_only_what_was_announced(
    client: TestClient, s3: S3Client, data: bytes, headers: dict[str, str]
) -> None:
    assert put(announced(client), data, **headers).status_code == 403
    assert doors.objects(s3) == set()


def test_the_address_leads_to_one_key(client: TestClient, s3: S3Client) -> None:
    upload = announced(client)
    upload["put_url"] = upload["put_url"].replace("/uploads/none/", "/jobs/")
    assert put(upload).status_code == 403
    assert doors.objects(s3) == set()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"content_type": "image/png", "bytes": 20 * 2**20 + 1}, "/bytes"),
        ({"content_type": "image/png", "bytes": 0}, "/bytes"),
        ({"content_type": "image/svg+xml", "bytes": 9}, "/content_type"),
        ({"content_type": "image/png"}, "/bytes"),
        ({"content_type": "image/png", "bytes": 9, "key": "jobs/x"}, "/key"),
    ],
)
def test_what_can_not_be_used_is_not_announced(client: TestClient, body: dict[str, Any], pointer: str) -> None:
    answer = client.post("/v1/uploads", json=body)
    assert (answer.status_code, [error["pointer"] for error in answer.json()["errors"]]) == (422, [pointer])


@pytest.mark.parametrize("upload", ["0" * 32, "x", "", "../../jobs/x", f"none/{'0' * 32}", "0" * 5000, "🦆"])
def test_an_unknown_upload_is_pointed_at(client: TestClient, redis: Redis, upload: str) -> None:
    before = doors.keys(redis)
    answer = client.post("/v1/generate", json=doors.request(image={"upload": upload}))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/image/upload")
    assert len(answer.content) < 500
    assert doors.keys(redis) == before


def test_the_upload_of_another_owner_is_unknown(client: TestClient, storage: Storage) -> None:
    storage.put(upload_key("somebody", "0" * 32), PNG, "image/png")
    answer = client.post("/v1/generate", json=doors.request(image={"upload": "0" * 32}))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/image/upload")


def test_owners_can_not_be_told_apart_from_keys() -> None:
    assert "somebody" not in upload_key("somebody", "1")
    assert upload_key("none", "1") != upload_key("", "1")


def test_an_upload_that_is_no_image_is_pointed_at(client: TestClient, s3: S3Client) -> None:
    upload = announced(client, b"no image")
    assert put(upload, b"no image").status_code == 200
    answer = client.post("/v1/generate", json=doors.request(image={"upload": upload["upload"]}))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/image/upload")
    assert doors.objects(s3) == {upload_key("", upload["upload"])}


def test_an_upload_that_is_too_large_is_not_read(
    client: TestClient, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever put it: the limit may have been another one."""
    key = upload_key("", "0" * 32)
    storage.put(key, bytes(settings.max_image_bytes + 1), "image/png")
    headers, _ = storage.open(key)

    def unread() -> Iterator[bytes]:
        pytest.fail("its bytes were read")
        yield b""

    monkeypatch.setattr(Storage, "open", lambda *_: (headers, unread()))
    answer = client.post("/v1/generate", json=doors.request(image={"upload": "0" * 32}))
    assert (answer.status_code, "20 MB" in answer.json()["detail"]) == (422, True)


def test_uploads_are_swept(redis: Redis, storage: Storage, settings: Settings) -> None:
    storage.put(upload_key("", "0" * 32), PNG, "image/png")
    Janitor(redis, storage, settings).sweep_orphans()
    assert storage.list("uploads/")
    Janitor(redis, storage, settings.model_copy(update={"orphan_s": -5.0})).sweep_orphans()
    assert not storage.list("uploads/")


# -- where S3 is private -----------------------------------------------------------------------------------------


def test_the_api_takes_the_file_itself(private: TestClient, s3: S3Client) -> None:
    upload = announced(private)
    assert upload["put_url"] == f"http://localhost/v1/uploads/{upload['upload']}"
    assert private.put(upload["put_url"], content=PNG, headers=upload["headers"]).status_code == 204
    assert doors.objects(s3) == {upload_key("", upload["upload"])}
    answer = private.post("/v1/generate", json=doors.request(image={"upload": upload["upload"]}))
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [(PNG + b"x", "image/png", 413), (PNG[:-1], "image/png", 422), (PNG, "image/jpeg", 415), (PNG, "", 415)],
)
def test_it_takes_only_what_was_announced(
    private: TestClient, s3: S3Client, data: bytes, content_type: str, status: int
) -> None:
    answer = private.put(announced(private)["put_url"], content=data, headers={"Content-Type": content_type})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert doors.objects(s3) == set()


def test_a_file_without_end_is_cut_off(private: TestClient, s3: S3Client) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 10 * len(PNG):
            sent += len(PNG)
            yield PNG

    answer = private.put(announced(private)["put_url"], content=endless(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 413
    assert doors.objects(s3) == set()


@pytest.mark.parametrize("upload", ["0" * 32, "x", "..%2f..", "%00"])
def test_nothing_is_put_that_was_not_announced(private: TestClient, s3: S3Client, upload: str) -> None:
    answer = private.put(f"/v1/uploads/{upload}", content=PNG, headers={"Content-Type": "image/png"})
    assert answer.status_code == 404
    assert doors.objects(s3) == set()


def test_what_another_owner_announced_is_not_found(private: TestClient, redis: Redis) -> None:
    upload = announced(private)
    (name,) = redis.scan_iter("da:upload:*")
    redis.rename(name, name.decode().replace("da:upload::", "da:upload:somebody:"))
    assert private.put(upload["put_url"], content=PNG, headers=upload["headers"]).status_code == 404
