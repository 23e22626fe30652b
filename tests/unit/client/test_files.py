"""Artifacts that come, images that go."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from draganything_client import (
    ConnectionFailed,
    NotFound,
    Upload,
    spec,
)

from tests.unit.client.conftest import Clock
from tests.unit.client.scripted import (
    BUSY,
    DONE,
    QUEUED,
    TIME,
    Answer,
    Drop,
    Service,
    Stream,
    job,
    problem,
    result,
)


def artifact(content: bytes, media_type: str) -> Answer:
    return Answer(content, headers={"Content-Type": media_type})


def test_a_folder_gets_the_files_under_their_names(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(DONE))
    service.on(
        "GET",
        "/v1/jobs/j1/result",
        artifact(b"V" * 100_000, "video/webm"),
        artifact(b"O", "video/mp4"),
        artifact(b"{}", "application/json; charset=utf-8"),
    )
    saved = client.download("j1", tmp_path / "out" / "demo")
    assert {name: path.name for name, path in saved.items()} == {
        "video": "video.webm",
        "overlay": "overlay.mp4",
        "manifest": "manifest.json",
    }
    assert saved["video"].read_bytes() == b"V" * 100_000
    asked = [seen.query["artifact"] for seen in service.seen if seen.query]
    assert asked == ["video", "overlay", "manifest"]
    assert len(list((tmp_path / "out" / "demo").iterdir())) == 3


def test_only_what_the_job_has_is_fetched(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(job("succeeded", result=result(overlay_url=None, manifest_url=None))))
    service.on("GET", "/v1/jobs/j1/result", artifact(b"V", "video/mp4"))
    assert list(client.download(client.job("j1"), tmp_path)) == ["video"]


def test_a_snapshot_from_before_the_end_is_looked_up_again(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1", Answer(job()), Answer(DONE))
    service.on("GET", "/v1/jobs/j1/result", artifact(b"V", "video/mp4"))
    assert list(client.download(client.job("j1"), tmp_path)) == ["video", "overlay", "manifest"]


def test_a_file_gets_the_video_and_replaces_what_was_there(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1/result", artifact(b"new", "video/mp4"))
    target = tmp_path / "bird.mp4"
    target.write_bytes(b"old and longer")
    (tmp_path / "same-inode.mp4").hardlink_to(target)
    assert client.download("j1", target) == {"video": target}
    assert target.read_bytes() == b"new"
    assert (tmp_path / "same-inode.mp4").read_bytes() == b"old and longer"


def test_one_file_cannot_take_two_artifacts(client: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder"):
        client.download("j1", tmp_path / "a.mp4", ["video", "overlay"])


def test_a_broken_download_starts_again(client: Any, service: Service, clock: Clock, tmp_path: Path) -> None:
    service.on(
        "GET",
        "/v1/jobs/j1/result",
        Stream([b"half"], whole=False, media_type="video/mp4"),
        Drop(),
        artifact(b"whole", "video/mp4"),
    )
    client.download("j1", tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == b"whole"
    assert len(clock.sleeps) == 2


def test_a_download_that_never_ends_well_leaves_nothing(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1/result", Stream([b"half"], whole=False, media_type="video/mp4"))
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(ConnectionFailed):
        client.download("j1", tmp_path / "a.mp4")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_missing_artifact_is_not_found(client: Any, service: Service, tmp_path: Path) -> None:
    service.on("GET", "/v1/jobs/j1/result", problem(404, "not_found", "This job has no frames."))
    with pytest.raises(NotFound, match="no frames"):
        client.download("j1", tmp_path, ["frames"])
    assert list(tmp_path.iterdir()) == []


def test_the_key_never_goes_to_the_object_store(
    connect: Callable[..., Any], service: Service, tmp_path: Path
) -> None:
    with Service() as store:
        store.on("GET", "/bucket/video", artifact(b"V", "video/mp4"))
        link = {"Location": f"{store.url}/bucket/video?signature=s"}
        service.on("GET", "/v1/jobs/j1/result", Answer(status=302, headers=link))
        connect(service.url, "secret").download("j1", tmp_path / "a.mp4")
    assert service.seen[0].headers["authorization"] == "Bearer secret"
    assert "authorization" not in store.seen[0].headers


# Uploads

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 50_000
LARGE = PNG + bytes(4 * 2**20)


def announced(put_url: str) -> Answer:
    headers = {"Content-Type": "image/png", "X-Signed": "s"}
    return Answer({"upload": "u1", "put_url": put_url, "headers": headers, "expires_at": TIME}, 201)


@pytest.mark.parametrize("form", ["path", "bytes"])
def test_an_upload_is_announced_and_put_without_the_key(
    connect: Callable[..., Any], service: Service, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(PNG)
    with Service() as store:
        store.on("PUT", "/bucket/u1", Drop(), BUSY, Answer())
        service.on("POST", "/v1/uploads", announced(f"{store.url}/bucket/u1?signature=s"))
        made = connect(service.url, "secret").upload(file if form == "path" else PNG)
    assert (made.upload, made.source) == ("u1", {"upload": "u1"})
    assert service.seen[0].body == {"content_type": "image/png", "bytes": len(PNG)}
    put = store.seen[-1]
    assert len(store.seen) == 3
    assert put.body == PNG
    assert put.query == {"signature": "s"}
    assert (put.headers["content-length"], put.headers["x-signed"]) == (str(len(PNG)), "s")
    assert "transfer-encoding" not in put.headers
    assert "authorization" not in put.headers


def test_where_s3_is_private_the_service_takes_the_file(connect: Callable[..., Any], service: Service) -> None:
    service.on("POST", "/v1/uploads", announced("https://behind.example/prefix/v1/uploads/u1"))
    service.on("PUT", "/v1/uploads/u1", Answer(status=204))
    connect(service.url, "secret").upload(PNG)
    assert service.seen[-1].headers["authorization"] == "Bearer secret"
    assert service.seen[-1].body == PNG


@pytest.mark.parametrize(
    ("start", "media_type"), [(b"\xff\xd8\xff\xe0", "image/jpeg"), (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp")]
)
def test_the_media_type_is_read_from_the_file(
    client: Any, service: Service, start: bytes, media_type: str
) -> None:
    service.on("POST", "/v1/uploads", announced("/v1/uploads/u1"))
    service.on("PUT", "/v1/uploads/u1", Answer(status=204))
    client.upload(start)
    assert service.seen[0].body["content_type"] == media_type


def test_what_is_no_image_is_not_uploaded(client: Any, service: Service, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    for image in (b"GIF89a", str(tmp_path / "a.txt")):
        with pytest.raises(ValueError, match="not a PNG, JPEG or WebP"):
            client.upload(image)
    assert service.seen == []


def base64_of(content: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(content).decode()}


def test_large_images_go_beside_the_request(client: Any, service: Service) -> None:
    service.on("POST", "/v1/uploads", announced("/v1/uploads/u1"))
    service.on("PUT", "/v1/uploads/u1", Answer(status=204))
    service.on("POST", "/v1/generate", BUSY, QUEUED)
    client.generate({"image": base64_of(LARGE), "entities": [], "seed": 1})
    _, put, busy, queued = service.seen
    assert put.body == LARGE
    assert busy.body == queued.body == {"image": {"upload": "u1"}, "entities": [], "seed": 1}
    assert busy.headers["idempotency-key"] == queued.headers["idempotency-key"]


@pytest.mark.parametrize("image", [PNG, bytes(5 * 2**20)])
def test_small_images_and_what_is_none_stay_in_the_request(client: Any, service: Service, image: bytes) -> None:
    service.on("POST", "/v1/generate", QUEUED)
    client.generate({"image": base64_of(image)})
    assert [seen.body for seen in service.seen] == [{"image": base64_of(image)}]


def test_with_a_key_of_one_s_own_the_body_stays_as_it_is(client: Any, service: Service) -> None:
    service.on("POST", "/v1/generate", QUEUED)
    client.generate({"image": base64_of(LARGE)}, idempotency_key="mine")
    assert service.seen[0].body == {"image": base64_of(LARGE)}


def test_the_images_of_a_batch_are_put_once_where_they_are_large_together(client: Any, service: Service) -> None:
    service.on("POST", "/v1/uploads", announced("/v1/uploads/u1"))
    service.on("PUT", "/v1/uploads/u1", Answer(status=204))
    service.on("POST", "/v1/batches", Answer({"id": "b1", "status": "queued", "jobs": []}, 202))
    image = base64_of(PNG + bytes(2**20))
    client.generate_batch([{"image": image, "seed": seed} for seed in range(3)])
    assert service.count("PUT", "/v1/uploads/u1") == 1
    assert service.seen[-1].body["requests"] == [{"image": {"upload": "u1"}, "seed": seed} for seed in range(3)]


def test_an_upload_is_an_image_of_a_request() -> None:
    upload = Upload(upload="u1", put_url="")
    assert spec(upload, [])["image"] == {"upload": "u1"}
