"""The Python client against the real service: every operation has a call, and every call is understood."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from draganything_client import Client, Conflict, NotFound
from redis import Redis

from jobs.manifest import FORMAT
from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store
from service.app import create_app
from tests import doors

OTHERS = re.compile("/v1/videos.*")
"""Operations for another client: the ``openai`` SDK."""


class Recorder(httpx.HTTPTransport):
    """Remembers what is asked of the service, not of the object store."""

    def __init__(self, address: str, private: bool) -> None:
        super().__init__(verify=False)  # loading the certificates takes long, and none is met
        self.address = address
        self.private = private
        self.seen: set[tuple[str, str]] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if str(request.url).startswith(self.address):
            self.seen.add((request.method, request.url.path))
        return super().handle_request(request)


@pytest.fixture(params=[False, True], ids=["s3", "private s3"])
def recorder(request: pytest.FixtureRequest, settings: Settings, redis: Redis) -> Iterator[Recorder]:
    """Of a service whose clients reach S3, or do not."""
    doors.announce(redis)
    app = create_app(settings.model_copy(update={"s3_private": request.param}))
    with doors.serving(app) as (host, port):
        yield Recorder(f"http://{host}:{port}", request.param)


def manifest_of(job_id: str, store: Store) -> dict[str, Any]:
    """As much of a job's manifest as it takes."""
    weights = {"combined": doors.CARD.weights_sha256}
    return {
        "format": FORMAT,
        "request": store.get(job_id).spec,
        "model": {"name": "tiny", "weights_sha256": weights},
        "versions": {},
        "frames_sha256": "0" * 64,
    }


def exercise(client: Client, store: Store, storage: Storage, folder: Path) -> None:
    """Every call once, each on the results of those before it."""
    assert [model.name for model in client.models()] == ["tiny"]
    image = client.upload(doors.picture())
    assert client.preview(doors.request(image=image.source)).radii
    found = client.segment(image, [(32, 32)])
    assert found.rle is not None
    assert found.rle.size == (doors.HEIGHT, doors.WIDTH)
    job = client.generate(doors.request(image=image.source))
    assert client.job(job).id == client.jobs(limit=1).jobs[0].id == job.id
    with pytest.raises(Conflict):
        client.delete(job)
    doors.finish(job.id, store, storage)
    assert [seen.status for seen in client.events(job)] == ["succeeded"]
    assert client.wait(job).result is not None
    assert set(client.download(job, folder, ["video", "poster"])) == {"video", "poster"}
    compare(client, job.id, store, storage, folder)
    again = client.replay(manifest_of(job.id, store))
    assert (again.status, again.id != job.id) == ("queued", True)
    client.delete(job)
    batch = client.generate_batch(doors.request(), seeds=[1, 2])
    assert [job.id for job in client.batch(batch).jobs] == [job.id for job in batch.jobs]
    assert client.cancel(batch.jobs[0]).status == "canceled"
    assert client.cancel_batch(batch).ended
    assert client.wait_batch(batch).counts["canceled"] == 2


def compare(client: Client, job_id: str, store: Store, storage: Storage, folder: Path) -> None:
    """A study, and one vote."""
    other = client.generate(doors.request())
    doors.finish(other.id, store, storage)
    study = client.create_study([(job_id, other)], names=("mine", "theirs"), title="Which?")
    link = study.urls["link"]
    ballot = client.ballot(link)
    assert (ballot.title, ballot.place, ballot.total) == ("Which?", 0, 1)
    assert ballot.left is not None
    assert set(client.download_ballot(link, ballot, folder)) == {"left", "right"}
    after = client.vote(study, ballot, motion="left", quality="tie")
    assert (after.place, client.download_ballot(study, after, folder)) == (None, {})
    assert client.ballot(study, ballot.rater) == after
    found = client.study(study)
    assert (found.votes, found.quality.tie, found.motion.a + found.motion.b) == (1, 1, 1)


def test_every_operation_has_a_call(recorder: Recorder, store: Store, storage: Storage, tmp_path: Path) -> None:
    with Client(recorder.address, transport=recorder, retries=0) as client:
        exercise(client, store, storage, tmp_path)
    document = httpx.get(f"{recorder.address}/openapi.json", verify=False).json()
    for path, operations in document["paths"].items():
        if not path.startswith("/v1/") or OTHERS.fullmatch(path):
            continue
        address = re.compile(re.sub(r"\\{\w+\\}", "[0-9a-z]+", re.escape(path)))
        for method in operations:
            if (method, path) == ("put", "/v1/uploads/{upload_id}") and not recorder.private:
                continue  # the file went to S3
            asked = [seen for seen in recorder.seen if seen[0] == method.upper() and address.fullmatch(seen[1])]
            assert asked, f"no call of the client does {method.upper()} {path}"


def test_a_deleted_job_is_gone(recorder: Recorder, store: Store) -> None:
    with Client(recorder.address, transport=recorder, retries=0) as client:
        job = client.generate(doors.request())
        store.cancel(job.id)
        client.delete(job)
        with pytest.raises(NotFound):
            client.job(job)
