"""/v1/jobs: reading, canceling, fetching results."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from jobs.state import Candidate
from jobs.storage import Storage, attempt_prefix
from jobs.store import Store
from tests import doors
from tests.unit.jobs.specs import make_result

UNKNOWN = [
    "0" * 32,
    "x",
    "0" * 5000,
    "%00",
    "%ff%fe",
    "*",
    "a:b",
    "da:job:x",
    "..%2f..",
    "🦆",
    "-1",
    "%0d%0aX:%20y",
]


@pytest.fixture
def job_id(client: TestClient) -> str:
    return str(client.post("/v1/generate", json=doors.request()).json()["id"])


@pytest.mark.parametrize("job_id", UNKNOWN)
def test_an_unknown_job_is_not_found(client: TestClient, job_id: str) -> None:
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("GET", "/result")):
        answer = client.request(method, f"/v1/jobs/{job_id}{path}", follow_redirects=False)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 500


def test_the_record_of_another_owner_is_not_found(client: TestClient, redis: Redis, job_id: str) -> None:
    redis.hset(f"da:job:{job_id}", "owner", "somebody")
    assert client.get(f"/v1/jobs/{job_id}").status_code == 404
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 404
    assert redis.hget(f"da:job:{job_id}", "status") == b"queued"


def test_a_queued_job_is_canceled_at_once(client: TestClient, store: Store, job_id: str) -> None:
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "canceled")
    assert answer.json()["finished_at"] is not None
    assert answer.json()["expires_at"] is not None
    assert store.queued("tiny") == []


def test_a_running_job_is_asked_to_stop(client: TestClient, store: Store, job_id: str) -> None:
    assert store.claim(job_id, "attempt")
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert store.beat(job_id, "attempt") == "cancel"
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    store.end_canceled(job_id, "attempt")
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")


def test_progress_and_what_is_left(client: TestClient, store: Store, redis: Redis, job_id: str) -> None:
    store.claim(job_id, "attempt")
    store.beat(job_id, "attempt", {"stage": "denoising", "step": 5, "steps": 10, "fraction": 0.5})
    redis.hincrby(f"da:job:{job_id}", "started_ms", -20_000)  # half of it took 20 s
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["attempt"], job["queue_position"]) == ("running", 1, None)
    assert job["progress"] == {
        "stage": "denoising",
        "step": 5,
        "steps": 10,
        "fraction": 0.5,
        "preview_url": None,
    }
    assert 20 <= job["eta_s"] < 25


def test_a_job_that_has_not_changed_is_not_sent_again(
    client: TestClient, store: Store, storage: Storage, job_id: str
) -> None:
    def ask(tag: str) -> Any:
        return client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag})

    first = client.get(f"/v1/jobs/{job_id}")
    tag = first.headers["etag"]
    again = ask(f'"other", {tag}')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert ask('"other"').json() == first.json()
    doors.finish(job_id, store, storage)
    changed = ask(tag)
    assert (changed.status_code, changed.json()["status"]) == (200, "succeeded")
    assert changed.headers["etag"] != tag
    assert ask(changed.headers["etag"]).status_code == 304


def test_a_result_has_presigned_links(client: TestClient, store: Store, storage: Storage, job_id: str) -> None:
    doors.finish(job_id, store, storage)
    result = client.get(f"/v1/jobs/{job_id}").json()["result"]
    for name in ("video", "overlay", "poster", "manifest"):
        with urllib.request.urlopen(result.pop(f"{name}_url"), timeout=10) as answer:
            assert answer.read() == b"0123456789"
            assert f"{job_id[:12]}-{name}." in answer.headers["content-disposition"]
    assert result == {
        "frames_url": None,
        "width": 192,
        "height": 128,
        "num_frames": 14,
        "fps": 7,
        "duration_s": 2.0,
        "seed": 1,
        "timings_s": {"denoising": 1.0},
        "scores": None,
        "candidates": [],
    }


def test_candidates_have_links_of_their_own(
    private: TestClient, client: TestClient, store: Store, storage: Storage, job_id: str
) -> None:
    assert store.claim(job_id, "attempt")
    prefix, names = attempt_prefix(job_id, "attempt"), ("video", "candidate-2", "poster", "manifest")
    artifacts = {name: storage.put(prefix + name, name.encode(), "video/mp4") for name in names}
    ranked = [
        Candidate(seed=seed, scores=None, artifact=name) for seed, name in zip((9, 8), names[:2], strict=True)
    ]
    result = make_result().model_copy(update={"artifacts": artifacts, "candidates": ranked})
    assert store.succeed(job_id, "attempt", result) == "ok"
    shown = client.get(f"/v1/jobs/{job_id}").json()["result"]["candidates"]
    assert [(one["seed"], one["scores"]) for one in shown] == [(9, None), (8, None)]
    with urllib.request.urlopen(shown[1]["video_url"], timeout=10) as answer:
        assert answer.read() == b"candidate-2"
    through = private.get(f"/v1/jobs/{job_id}").json()["result"]["candidates"][1]["video_url"]
    assert private.get(through).content == b"candidate-2"
    assert private.get(f"/v1/jobs/{job_id}/result?artifact=candidate-17").status_code == 422


@pytest.mark.parametrize("artifact", ["", "?artifact=overlay", "?artifact=poster", "?artifact=manifest"])
def test_a_result_redirects(
    client: TestClient, store: Store, storage: Storage, job_id: str, artifact: str
) -> None:
    doors.finish(job_id, store, storage)
    answer = client.get(f"/v1/jobs/{job_id}/result{artifact}", follow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["cache-control"] == "no-store"
    with urllib.request.urlopen(answer.headers["location"], timeout=10) as file:
        assert file.read() == b"0123456789"


def test_a_result_is_a_conflict_before_the_end_and_not_found_without_one(
    client: TestClient, store: Store, storage: Storage, job_id: str
) -> None:
    address = f"/v1/jobs/{job_id}/result"
    assert (client.get(address).status_code, client.get(address).json()["code"]) == (409, "conflict")
    other = client.post("/v1/generate", json=doors.request()).json()["id"]
    client.post(f"/v1/jobs/{other}/cancel")
    assert client.get(f"/v1/jobs/{other}/result").status_code == 404
    doors.finish(job_id, store, storage)
    answer = client.get(address, params={"artifact": "frames"})
    assert answer.status_code == 404
    assert "video, overlay, poster, manifest" in answer.json()["detail"]
    answer = client.get(address, params={"artifact": "../manifest"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_where_s3_is_private_the_api_streams(private: TestClient, store: Store, storage: Storage) -> None:
    job = private.post("/v1/generate", json=doors.request()).json()
    doors.finish(job["id"], store, storage)
    links = private.get(job["urls"]["self"]).json()["result"]
    assert links["video_url"] == f"{job['urls']['result']}?artifact=video"
    answer = private.get(links["video_url"])
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == "10"
    assert answer.headers["accept-ranges"] == "bytes"


RANGES = {
    "bytes=2-4": (206, b"234"),
    "bytes=7-": (206, b"789"),
    "bytes=-3": (206, b"789"),
    "bytes=5-500": (206, b"56789"),
    # RFC 9110, 14.2: a server may ignore a range; these can not be served in one piece
    "bytes=20-30": (200, b"0123456789"),
    "bytes=0-1,4-5": (200, b"0123456789"),
    "bytes=4-2": (200, b"0123456789"),
    "lines=1-2": (200, b"0123456789"),
    "bytes=-": (200, b"0123456789"),
    f"bytes={'9' * 400}-": (200, b"0123456789"),
}


def test_private_streams_serve_ranges(private: TestClient, store: Store, storage: Storage) -> None:
    job = private.post("/v1/generate", json=doors.request()).json()
    doors.finish(job["id"], store, storage)
    for asked, (status, body) in RANGES.items():
        answer = private.get(job["urls"]["result"], headers={"Range": asked})
        assert (answer.status_code, answer.content) == (status, body), asked
        if status == 206:
            first = b"0123456789".index(body)
            assert answer.headers["content-range"] == f"bytes {first}-{first + len(body) - 1}/10"


def test_a_private_object_that_is_gone_is_not_found(private: TestClient, store: Store, storage: Storage) -> None:
    job = private.post("/v1/generate", json=doors.request()).json()
    doors.finish(job["id"], store, storage)
    storage.delete(f"jobs/{job['id']}/")
    answer = private.get(job["urls"]["result"])
    assert answer.status_code == 404
    assert "jobs/" not in answer.json()["detail"]  # keys are no one's business


# -- listing and forgetting -----------------------------------------------------------------------------------


def test_a_listing_is_newest_first_in_pages(client: TestClient) -> None:
    made = [client.post("/v1/generate", json=doors.request()).json()["id"] for _ in range(5)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for length in (2, 2, 1):
        page = client.get("/v1/jobs", params={"limit": 2, **cursor}).json()
        assert len(page["jobs"]) == length
        seen += [job["id"] for job in page["jobs"]]
        cursor = {"after": page["next"]} if page["next"] else {}
    assert seen == made[::-1]
    assert not cursor


def test_a_listing_by_status_looks_at_every_job(client: TestClient) -> None:
    made = [client.post("/v1/generate", json=doors.request()).json()["id"] for _ in range(4)]
    for job_id in made[::2]:
        client.post(f"/v1/jobs/{job_id}/cancel")
    first = client.get("/v1/jobs", params={"status": "canceled", "limit": 1}).json()
    rest = client.get("/v1/jobs", params={"status": "canceled", "after": first["next"]}).json()
    assert [job["id"] for job in (*first["jobs"], *rest["jobs"])] == made[::2][::-1]
    assert rest["next"] is None


def test_a_listing_shows_only_one_s_own(client: TestClient, redis: Redis, store: Store, job_id: str) -> None:
    record = store.get(job_id)
    redis.zrem("da:owned:", job_id)
    redis.zadd("da:owned:somebody", {job_id: 1})
    assert record.owner == ""
    assert client.get("/v1/jobs").json() == {"jobs": [], "next": None}


@pytest.mark.parametrize(
    ("query", "status"), [("limit=0", 422), ("limit=101", 422), ("status=asleep", 422), ("after=x", 404)]
)
def test_a_wrong_listing_is_refused(client: TestClient, query: str, status: int) -> None:
    answer = client.get(f"/v1/jobs?{query}")
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_forgetting_a_job_takes_its_objects_along(
    client: TestClient, redis: Redis, storage: Storage, job_id: str
) -> None:
    refused = client.delete(f"/v1/jobs/{job_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    client.post(f"/v1/jobs/{job_id}/cancel")
    assert storage.list(f"jobs/{job_id}/")
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert storage.list(f"jobs/{job_id}/") == []
    assert not redis.exists(f"da:job:{job_id}")
    assert client.get("/v1/jobs").json()["jobs"] == []
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 404
