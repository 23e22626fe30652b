"""Every call that users are promised, once, over the wire: real processes, a real video."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from local.stack import ROOT, Stack

TABLE = Path(ROOT).parent / "shared" / "design" / "contract.md"
SPEC: dict[str, Any] = json.loads((ROOT / "examples" / "quickstart.json").read_text())
SMALL = {"width": 64, "height": 64, "num_frames": 3, "num_inference_steps": 2, "seed": 7}
LONG = {"num_inference_steps": 50, "num_frames": 25}
ENDED = ("succeeded", "failed", "canceled", "expired")


@pytest.fixture(scope="module")
def client(live_stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live_stack.base_url, timeout=90) as client:
        yield client


@pytest.fixture(scope="module")
def job(client: httpx.Client) -> dict[str, Any]:
    """A job that has succeeded."""
    made = client.post("/v1/generate", json=SPEC | SMALL).json()
    last = snapshots(client, made)[-1]
    assert last["status"] == "succeeded", last
    return last


def snapshots(client: httpx.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    with client.stream("GET", job["urls"]["events"]) as events:
        return [json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:")]


def answered(answer: httpx.Response, status: int) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def test_generate(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "walk"}
    answer = client.post("/v1/generate", json=SPEC | SMALL, headers=key)
    job = answered(answer, 202)
    assert answer.headers["Location"] == job["urls"]["self"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert job["id"] == answered(client.post("/v1/generate", json=SPEC | SMALL, headers=key), 202)["id"]
    answered(client.post("/v1/generate", json=SPEC | SMALL | {"seed": 8}, headers=key), 422)
    waited = client.post("/v1/generate", json=SPEC | SMALL, headers={"Prefer": "wait=60"})
    assert answered(waited, 200)["status"] == "succeeded"


def test_job(client: httpx.Client, job: dict[str, Any]) -> None:
    answer = client.get(f"/v1/jobs/{job['id']}")
    assert answered(answer, 200)["result"]["scores"] is not None
    assert (
        client.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    )


def test_jobs(client: httpx.Client, job: dict[str, Any]) -> None:
    newer = answered(client.post("/v1/generate", json=SPEC | SMALL), 202)
    first = answered(client.get("/v1/jobs", params={"limit": 1}), 200)
    assert [found["id"] for found in first["jobs"]] == [newer["id"]]
    rest = answered(client.get("/v1/jobs", params={"after": first["next"], "status": "succeeded"}), 200)
    assert job["id"] in [found["id"] for found in rest["jobs"]]


def test_events(client: httpx.Client) -> None:
    seen = snapshots(client, client.post("/v1/generate", json=SPEC | SMALL).json())
    assert seen[-1]["status"] == "succeeded"
    assert len(seen) > 1


def test_cancel(client: httpx.Client, job: dict[str, Any]) -> None:
    long = client.post("/v1/generate", json=SPEC | LONG).json()
    answered(client.post(f"/v1/jobs/{long['id']}/cancel"), 202)
    assert snapshots(client, long)[-1]["status"] == "canceled"
    assert answered(client.post(f"/v1/jobs/{job['id']}/cancel"), 200)["status"] == "succeeded"


def test_delete(client: httpx.Client) -> None:
    job = answered(client.post("/v1/generate", json=SPEC | SMALL, headers={"Prefer": "wait=60"}), 200)
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_result(client: httpx.Client, job: dict[str, Any]) -> None:
    address = f"/v1/jobs/{job['id']}/result"
    assert client.get(address).status_code == 302
    for artifact in ("video", "overlay"):
        data = client.get(address, params={"artifact": artifact}, follow_redirects=True).read()
        with av.open(io.BytesIO(data), "r") as container:
            assert len(list(container.decode(video=0))) == 3
    manifest = client.get(address, params={"artifact": "manifest"}, follow_redirects=True).json()
    assert manifest["request"]["seed"] == 7
    assert client.get(address, params={"artifact": "frames"}).status_code == 404  # not asked for


def test_batches(client: httpx.Client) -> None:
    request = {name: value for name, value in (SPEC | SMALL).items() if name != "seed"}
    batch = answered(client.post("/v1/batches", json={"request": request, "seeds": [1, 2]}), 202)
    assert [snapshots(client, job)[-1]["status"] for job in batch["jobs"]] == ["succeeded"] * 2
    done = answered(client.get(f"/v1/batches/{batch['id']}"), 200)
    assert sorted(job["result"]["seed"] for job in done["jobs"]) == [1, 2]
    assert answered(client.post(f"/v1/batches/{batch['id']}/cancel"), 200)["jobs"]


def test_uploads(client: httpx.Client) -> None:
    picture = base64.b64decode(SPEC["image"]["base64"])
    kind = "image/" + str(Image.open(io.BytesIO(picture)).format).lower()
    upload = answered(client.post("/v1/uploads", json={"content_type": kind, "bytes": len(picture)}), 201)
    put = httpx.put(upload["put_url"], content=picture, headers=upload["headers"])
    assert put.status_code == 200
    sent = SPEC | SMALL | {"image": {"upload": upload["upload"]}}
    assert answered(client.post("/v1/generate", json=sent), 202)["status"] == "queued"


def test_preview(client: httpx.Client) -> None:
    preview = answered(client.post("/v1/preview", json=SPEC | SMALL), 200)
    with Image.open(io.BytesIO(base64.b64decode(preview["animation"]["base64"]))) as animation:
        assert getattr(animation, "n_frames", 1) == preview["num_frames"] == 3
    assert len(preview["points"]) == len(preview["radii"]) == len(SPEC["entities"])


def test_segment(client: httpx.Client) -> None:
    x, y = SPEC["entities"][0]["trajectory"]["points"][0]
    found = answered(client.post("/v1/segment", json={"image": SPEC["image"], "points": [{"x": x, "y": y}]}), 200)
    with Image.open(io.BytesIO(base64.b64decode(found["mask"]["base64"]))) as mask:
        assert list(mask.size) == found["rle"]["size"][::-1]
    assert found["engine"]


def test_models(client: httpx.Client) -> None:
    (model,) = answered(client.get("/v1/models"), 200)["models"]
    assert model["name"] == "tiny"
    assert re.fullmatch("[0-9a-f]{64}", model["weights_sha256"])


def test_videos(client: httpx.Client) -> None:
    made = answered(client.post("/v1/videos", json=SPEC | SMALL | {"prompt": "a rocket"}), 200)
    assert made["id"] in [video["id"] for video in answered(client.get("/v1/videos"), 200)["data"]]
    snapshots(client, {"urls": {"events": f"/v1/jobs/{made['id']}/events"}})
    assert answered(client.get(f"/v1/videos/{made['id']}"), 200)["status"] == "completed"
    assert client.get(f"/v1/videos/{made['id']}/content", follow_redirects=True).content[4:8] == b"ftyp"
    assert answered(client.delete(f"/v1/videos/{made['id']}"), 200)["deleted"]


def test_health(client: httpx.Client) -> None:
    assert answered(client.get("/livez"), 200) == {"status": "ok"}
    assert answered(client.get("/readyz"), 200)["checks"] == dict.fromkeys(("redis", "s3", "workers"), "ok")
    assert "draganything_workers" in client.get("/metrics").text


def test_studio(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in answer.headers["content-security-policy"]


WALKED = {
    "POST /v1/generate": test_generate,
    "GET /v1/jobs/{id}": test_job,
    "GET /v1/jobs?status=&after=&limit=": test_jobs,
    "GET /v1/jobs/{id}/events": test_events,
    "POST /v1/jobs/{id}/cancel": test_cancel,
    "DELETE /v1/jobs/{id}": test_delete,
    "GET /v1/jobs/{id}/result": test_result,
    "POST /v1/batches": test_batches,
    "GET /v1/batches/{id}": test_batches,
    "POST /v1/batches/{id}/cancel": test_batches,
    "POST /v1/uploads": test_uploads,
    "POST /v1/preview": test_preview,
    "POST /v1/segment": test_segment,
    "GET /v1/models": test_models,
    "POST /v1/videos": test_videos,
    "GET /v1/videos": test_videos,
    "GET /v1/videos/{id}": test_videos,
    "GET /v1/videos/{id}/content": test_videos,
    "DELETE /v1/videos/{id}": test_videos,
    "GET /livez": test_health,
    "/readyz": test_health,
    "/metrics": test_health,
    "GET /": test_studio,
}


@pytest.mark.skipif(not TABLE.exists(), reason="the written contract is not beside this repository")
def test_no_call_is_forgotten() -> None:
    rows = re.findall(r"^\| (`(?:GET|POST|DELETE) /.*?) \|", TABLE.read_text(), re.MULTILINE)
    promised = {call for row in rows for call in re.findall(r"`([^`]+)`", row)}
    assert promised == WALKED.keys()
