"""The calls of the gRPC door over a real channel, against real Valkey and S3: they do what those of REST do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
from draganything.v1 import draganything_pb2 as pb
from draganything.v1.draganything_pb2_grpc import DragAnythingStub
from redis import Redis
from redis.exceptions import ConnectionError

from jobs.events import Feed
from jobs.keys import Grant, Keys, Limits, Scope
from jobs.spec import GenerateRequest
from jobs.storage import Storage
from jobs.store import Store
from service.links import own_url
from service.rpc_messages import write
from tests import doors, rpc
from tests.harness import until
from tests.rpc import Door, refusal_of
from tests.security.test_fuzz import RICH

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UNKNOWN = "0" * 32
Raw: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"
CALLS: dict[str, Any] = {
    "Generate": pb.GenerateRequest(),
    "GetJob": pb.GetJobRequest(id=UNKNOWN),
    "ListJobs": pb.ListJobsRequest(),
    "CancelJob": pb.CancelJobRequest(id=UNKNOWN),
    "DeleteJob": pb.DeleteJobRequest(id=UNKNOWN),
    "WatchJob": pb.WatchJobRequest(id=UNKNOWN),
    "CreateBatch": pb.CreateBatchRequest(),
    "GetBatch": pb.GetBatchRequest(id=UNKNOWN),
    "CancelBatch": pb.CancelBatchRequest(id=UNKNOWN),
    "Preview": pb.GenerateRequest(),
    "Segment": pb.SegmentRequest(),
    "ListModels": pb.ListModelsRequest(),
}


def call(stub: DragAnythingStub, name: str, **options: Any) -> Any:
    answer = getattr(stub, name)(CALLS[name], **options)
    return list(answer) if name == "WatchJob" else answer


def refused(attempt: Callable[[], object]) -> rpc.Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        attempt()
    return refusal_of(caught.value)


def test_every_call_is_tried_here() -> None:
    assert set(CALLS) == set(pb.DESCRIPTOR.services_by_name["DragAnything"].methods_by_name)


# -- what the calls do -----------------------------------------------------------------------------------------


def test_generate_makes_the_job_that_rest_makes(door: Door, stub: DragAnythingStub, store: Store) -> None:
    job = stub.Generate(write(pb.GenerateRequest, RICH))
    twin = door.web.post("/v1/generate", json=RICH).json()

    def facts(job_id: str) -> str:
        return store.get(job_id).model_dump_json(include={"spec", "warnings", "priority"}).replace(job_id, "id")

    assert facts(job.id) == facts(twin["id"])
    assert job == door_view(door, job.id)
    assert (job.status, job.progress.steps, job.queue_position) == (pb.STATUS_QUEUED, 4, 1)


def door_view(door: Door, job_id: str) -> pb.Job:
    """What REST says of a job, as a message."""
    shown = door.web.get(f"/v1/jobs/{job_id}").json()
    base = "http://localhost"
    ours = own_url(door.app.state.doors.settings)
    job = pb.Job(
        id=shown["id"],
        status=f"STATUS_{shown['status'].upper()}",
        model=shown["model"],
        attempt=shown["attempt"],
        warnings=[pb.Warning(**each) for each in shown["warnings"]],
        progress=pb.Progress(**shown["progress"] | {"stage": f"STAGE_{shown['progress']['stage'].upper()}"}),
        urls=pb.JobUrls(**{name: url.replace(base, ours) for name, url in shown["urls"].items()}),
        queue_position=shown["queue_position"],
        eta_s=shown["eta_s"],
    )
    for name in ("created_at", "started_at", "finished_at", "expires_at"):
        if shown[name]:
            getattr(job, name).FromJsonString(shown[name])
    return job


def test_a_finished_job_has_links(stub: DragAnythingStub, door: Door, store: Store, storage: Storage) -> None:
    job_id = stub.Generate(rpc.request()).id
    doors.finish(job_id, store, storage, b"the video")
    job = stub.GetJob(pb.GetJobRequest(id=job_id))
    assert job.status == pb.STATUS_SUCCEEDED
    assert not job.HasField("queue_position")
    assert job.finished_at.seconds >= job.started_at.seconds >= job.created_at.seconds > 0
    result = job.result
    assert (result.width, result.height, result.num_frames, result.seed) == (192, 128, 14, 1)
    assert dict(result.timings_s) == {"denoising": 1.0}
    assert not result.HasField("frames_url")
    assert door.web.get(result.video_url).status_code in (200, 404)  # signed for S3, not for this client
    assert "X-Amz-Signature" in result.video_url
    assert "X-Amz-Signature" in result.manifest_url


def test_jobs_are_listed_in_parts(stub: DragAnythingStub, store: Store) -> None:
    ids = [stub.Generate(rpc.request()).id for _ in range(3)]
    store.cancel(ids[1])
    first = stub.ListJobs(pb.ListJobsRequest(limit=2))
    assert [job.id for job in first.jobs] == ids[:0:-1]
    rest = stub.ListJobs(pb.ListJobsRequest(after=first.next))
    assert [job.id for job in rest.jobs] == ids[:1]
    assert not rest.HasField("next")
    canceled = stub.ListJobs(pb.ListJobsRequest(status=pb.STATUS_CANCELED))
    assert [job.id for job in canceled.jobs] == [ids[1]]
    for limit in (0, 101):
        assert set(refused(partial(stub.ListJobs, pb.ListJobsRequest(limit=limit))).fields) == {"/limit"}
    assert set(refused(lambda: stub.ListJobs(pb.ListJobsRequest(status=99))).fields) == {"/status"}  # type: ignore[arg-type]
    assert refused(lambda: stub.ListJobs(pb.ListJobsRequest(after=UNKNOWN))).code == grpc.StatusCode.NOT_FOUND


def test_cancel_and_delete(stub: DragAnythingStub, s3: S3Client, redis: Redis) -> None:
    before = doors.keys(redis)
    job_id = stub.Generate(rpc.request()).id
    going = refused(lambda: stub.DeleteJob(pb.DeleteJobRequest(id=job_id)))
    assert (going.code, going.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "conflict")
    assert stub.CancelJob(pb.CancelJobRequest(id=job_id)).status == pb.STATUS_CANCELED
    assert stub.CancelJob(pb.CancelJobRequest(id=job_id)).status == pb.STATUS_CANCELED
    assert doors.objects(s3)
    stub.DeleteJob(pb.DeleteJobRequest(id=job_id))
    assert refused(lambda: stub.GetJob(pb.GetJobRequest(id=job_id))).code == grpc.StatusCode.NOT_FOUND
    assert doors.objects(s3) == set()
    assert {key for key in doors.keys(redis) - before if job_id.encode() in key} == set()


def test_watch(stub: DragAnythingStub, store: Store) -> None:
    job_id = stub.Generate(rpc.request()).id
    shown = iter(stub.WatchJob(pb.WatchJobRequest(id=job_id)))
    assert next(shown) == stub.GetJob(pb.GetJobRequest(id=job_id))
    store.claim(job_id, "attempt")
    assert next(shown).status == pb.STATUS_RUNNING
    store.beat(job_id, "attempt", {"stage": "denoising", "step": 3, "fraction": 0.29})
    job = next(shown)
    assert (job.progress.stage, job.progress.step, job.progress.fraction) == (pb.STAGE_DENOISING, 3, 0.29)
    store.cancel(job_id)
    store.end_canceled(job_id, "attempt")
    assert [job.status for job in shown][-1] == pb.STATUS_CANCELED


def test_batches(stub: DragAnythingStub, store: Store) -> None:
    request = rpc.request()
    batch = stub.CreateBatch(pb.CreateBatchRequest(request=request, seeds=[1, 2, 3]))
    assert (batch.status, batch.counts.queued, batch.fraction) == (pb.BATCH_STATUS_QUEUED, 3, 0.0)
    assert [store.get(job.id).spec["seed"] for job in batch.jobs] == [1, 2, 3]
    assert stub.GetBatch(pb.GetBatchRequest(id=batch.id)) == batch
    ended = stub.CancelBatch(pb.CancelBatchRequest(id=batch.id))
    assert (ended.status, ended.counts.canceled, ended.counts.queued) == (pb.BATCH_STATUS_ENDED, 3, 0)
    assert stub.CancelBatch(pb.CancelBatchRequest(id=batch.id)) == ended
    two = stub.CreateBatch(pb.CreateBatchRequest(requests=[request, rpc.request(num_frames=3)]))
    assert [store.get(job.id).spec["num_frames"] for job in two.jobs] == [14, 3]
    wrong = refused(lambda: stub.CreateBatch(pb.CreateBatchRequest(requests=[request, pb.GenerateRequest()])))
    assert set(wrong.fields) == {"/requests/1/image", "/requests/1/entities"}


def test_preview(stub: DragAnythingStub, door: Door, redis: Redis, s3: S3Client) -> None:
    before = doors.keys(redis)
    shown = stub.Preview(rpc.request(num_frames=3))
    assert shown.animation.data[:4] == b"RIFF"
    assert (shown.animation.format, shown.num_frames) == (pb.FORMAT_WEBP, 3)
    told = door.web.post("/v1/preview", json=doors.request(num_frames=3)).json()
    assert [[[at.x, at.y] for at in track.points] for track in shown.points] == told["points"]
    assert [list(track.radii) for track in shown.radii] == told["radii"]
    assert (shown.width, shown.height) == (told["width"], told["height"])
    assert not shown.estimate.HasField("seconds")
    assert (doors.keys(redis), doors.objects(s3)) == (before, set())


def test_segment(stub: DragAnythingStub, door: Door) -> None:
    picture = doors.picture()
    found = stub.Segment(
        pb.SegmentRequest(image=pb.Image(data=picture), points=[pb.Click(x=0, y=32), pb.Click(x=60, y=9, label=0)])
    )
    points = [{"x": 0, "y": 32}, {"x": 60, "y": 9, "label": 0}]
    body = {"image": {"base64": doors.text(picture)}, "points": points}
    told = door.web.post("/v1/segment", json=body).json()
    assert doors.text(found.mask.data) == told["mask"]["base64"]
    assert [found.rle.size.height, found.rle.size.width] == told["rle"]["size"]
    assert list(found.rle.plain.lengths) == told["rle"]["counts"]
    assert (found.score, found.engine) == (told["score"], told["engine"])
    job = rpc.request()  # and it is a mask that a job takes
    job.entities[0].mask.Clear()
    job.entities[0].mask.rle.CopyFrom(found.rle)
    assert stub.Generate(job).status == pb.STATUS_QUEUED


def test_models(stub: DragAnythingStub) -> None:
    (model,) = stub.ListModels(pb.ListModelsRequest()).models
    assert model == pb.Model(**doors.CARD.model_dump())


# -- errors ----------------------------------------------------------------------------------------------------


def test_wrong_fields_are_named(stub: DragAnythingStub, redis: Redis, s3: S3Client) -> None:
    before = doors.keys(redis)
    request = rpc.request(seed=-1, control_scale=float("nan"))
    request.entities[0].control = 99  # type: ignore[assignment]
    request.entities.add(mask=pb.Mask(data=b""))
    found = refused(lambda: stub.Generate(request))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_request")
    assert set(found.fields) == {
        "/seed",
        "/control_scale",
        "/entities/0/control",
        "/entities/1/mask/data",
        "/entities/1/trajectory",
    }
    assert all(found.fields.values())
    assert (doors.keys(redis), doors.objects(s3)) == (before, set())


def test_what_only_a_look_at_the_picture_shows_is_named_too(
    stub: DragAnythingStub, redis: Redis, s3: S3Client
) -> None:
    before = doors.keys(redis)
    assert set(refused(lambda: stub.Generate(rpc.request(image=pb.Image(data=b"no picture")))).fields) == {
        "/image/data"
    }
    request = rpc.request()
    request.entities[0].mask.data = doors.picture(32, 32)
    assert set(refused(lambda: stub.Generate(request)).fields) == {"/entities/0/mask/data"}
    assert set(refused(lambda: stub.Generate(rpc.request(model="another"))).fields) == {"/model"}
    assert (doors.keys(redis), doors.objects(s3)) == (before, set())


def test_a_field_of_a_later_version_is_not_ignored(stub: DragAnythingStub) -> None:
    later = rpc.request()
    later.MergeFromString(bytes([0xA0, 0x3F, 1]))  # field 1012 = 1
    later.entities[0].trajectory.MergeFromString(bytes([0xA0, 0x3F, 1]))
    found = refused(lambda: stub.Generate(later))
    assert (found.code, list(found.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, [""])
    assert "1012" in found.message


def test_many_wrong_fields_fit_into_an_answer(stub: DragAnythingStub) -> None:
    request = rpc.request()
    for _ in range(15):
        request.entities.add().CopyFrom(request.entities[0])
    for entity in request.entities:
        entity.mask.polygon.points.extend(pb.Point(x=-1e9, y=n) for n in range(3))
    found = refused(lambda: stub.Generate(request))
    assert found.code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(found.fields) > 5


def test_bytes_that_are_no_message(door: Door) -> None:
    with door.channel() as channel:
        raw: Raw = channel.unary_unary("/draganything.v1.DragAnything/Generate")
        found = refused(lambda: raw(b"\xff\xff\xff"))
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "malformed_json")
        unknown: Raw = channel.unary_unary("/draganything.v1.DragAnything/Nothing")
        assert refused(lambda: unknown(b"")).code == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("name", ["GetJob", "CancelJob", "DeleteJob", "WatchJob", "GetBatch", "CancelBatch"])
def test_what_is_unknown(stub: DragAnythingStub, name: str) -> None:
    found = refused(lambda: call(stub, name))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "not_found")


def test_without_a_model_or_room_it_helps_to_wait(
    stub: DragAnythingStub, redis: Redis, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.app.state.doors.store, "count_queued", lambda _: 10**6)
    full = refused(lambda: stub.Generate(rpc.request()))
    assert (full.code, full.reason, full.retry_after_s) == (grpc.StatusCode.UNAVAILABLE, "queue_full", 10)
    redis.flushall()
    bare = refused(lambda: stub.Generate(rpc.request()))
    assert (bare.code, bare.reason, bare.retry_after_s) == (grpc.StatusCode.UNAVAILABLE, "model_unavailable", 5)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ConnectionError("redis://secret"), grpc.StatusCode.UNAVAILABLE, "unavailable"),
        (RuntimeError("secret"), grpc.StatusCode.INTERNAL, "internal_error"),
    ],
)
def test_what_is_our_fault_is_logged_and_not_told(
    door: Door,
    stub: DragAnythingStub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: grpc.StatusCode,
    reason: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(door.app.state.doors.store, "page", fail)
    found = refused(lambda: stub.ListJobs(pb.ListJobsRequest()))
    assert (found.code, found.reason) == (code, reason)
    assert "secret" not in found.message
    assert type(error).__name__ in capsys.readouterr().out


# -- the same request again ------------------------------------------------------------------------------------


def test_an_idempotency_key_makes_one_job(stub: DragAnythingStub, door: Door) -> None:
    key = (("idempotency-key", "k1"),)
    first = stub.Generate(rpc.request(seed=1), metadata=key)
    assert stub.Generate(rpc.request(seed=1), metadata=key).id == first.id
    other = refused(lambda: stub.Generate(rpc.request(seed=2), metadata=key))
    assert (other.code, other.reason) == (grpc.StatusCode.ALREADY_EXISTS, "idempotency_mismatch")
    twin = door.web.post("/v1/generate", json=doors.request(seed=1), headers={"Idempotency-Key": "k1"})
    assert twin.json()["id"] == first.id
    batch = pb.CreateBatchRequest(request=rpc.request(), seeds=[1, 2])
    key = (("idempotency-key", "k2"),)
    assert stub.CreateBatch(batch, metadata=key).id == stub.CreateBatch(batch, metadata=key).id
    for wrong in ((("idempotency-key", "k" * 256),), (("idempotency-key", ""),), 2 * key):
        assert refused(partial(stub.Generate, rpc.request(), metadata=wrong)).code == (
            grpc.StatusCode.INVALID_ARGUMENT
        )


def test_a_key_in_flight(stub: DragAnythingStub, store: Store) -> None:
    body = GenerateRequest.model_validate(doors.request()).model_dump_json()
    store.reserve("", "k", hashlib.sha256(body.encode()).hexdigest())
    found = refused(lambda: stub.Generate(rpc.request(), metadata=(("idempotency-key", "k"),)))
    assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "idempotency_in_flight")


# -- who may call ----------------------------------------------------------------------------------------------


@pytest.fixture
def make(redis: Redis) -> Callable[..., tuple[tuple[str, str], ...]]:
    """The metadata of a new key."""

    def make(*scopes: Scope, **limits: int | None) -> tuple[tuple[str, str], ...]:
        grant = Grant(name="n", scopes=frozenset(scopes or Scope), limits=Limits.model_validate(limits))
        return (("authorization", f"Bearer {Keys(redis).create(grant)[1]}"),)

    return make


Make = Callable[..., tuple[tuple[str, str], ...]]


@pytest.mark.parametrize("name", CALLS)
def test_from_the_first_key_on_each_call_needs_one(stub: DragAnythingStub, make: Make, name: str) -> None:
    make()
    found = refused(lambda: call(stub, name))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "unauthorized")
    assert found.metadata["www-authenticate"] == "Bearer"
    wrong = refused(lambda: call(stub, name, metadata=(("authorization", "Bearer da_0_0"),)))
    assert wrong.code == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("name", CALLS)
def test_scopes(stub: DragAnythingStub, make: Make, name: str) -> None:
    reads = name in {"GetJob", "ListJobs", "WatchJob", "GetBatch", "ListModels"}
    lacking, having = (make(Scope.WRITE), make(Scope.READ)) if reads else (make(Scope.READ), make(Scope.WRITE))
    found = refused(lambda: call(stub, name, metadata=lacking))
    assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "forbidden")
    if name in {"ListJobs", "ListModels"}:
        call(stub, name, metadata=having)
    else:
        judged = refused(lambda: call(stub, name, metadata=having)).code
        assert judged in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


def test_jobs_of_others_are_unknown(stub: DragAnythingStub, make: Make) -> None:
    mine, theirs = make(), make()
    job_id = stub.Generate(rpc.request(), metadata=mine).id
    assert stub.GetJob(pb.GetJobRequest(id=job_id), metadata=mine).id == job_id
    for name in ("GetJob", "CancelJob", "DeleteJob", "WatchJob"):
        request = type(CALLS[name])(id=job_id)

        def attempt(name: str = name, request: Any = request) -> list[Any]:
            answer = getattr(stub, name)(request, metadata=theirs)
            return list(answer) if name == "WatchJob" else [answer]

        assert refused(attempt).code == grpc.StatusCode.NOT_FOUND
    assert list(stub.ListJobs(pb.ListJobsRequest(), metadata=theirs).jobs) == []


def test_limits_of_a_key(stub: DragAnythingStub, make: Make) -> None:
    held = make(requests_per_minute=2)
    _, first = stub.ListModels.with_call(pb.ListModelsRequest(), metadata=held)
    assert str(dict(first.initial_metadata())["ratelimit"]).startswith('"requests";r=1')
    stub.ListModels(pb.ListModelsRequest(), metadata=held)
    over = refused(lambda: stub.ListModels(pb.ListModelsRequest(), metadata=held))
    assert (over.code, over.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limited")
    assert over.retry_after_s
    assert str(over.metadata["ratelimit"]).startswith('"requests";r=0')


def test_bytes_of_a_key(stub: DragAnythingStub, make: Make) -> None:
    size = rpc.request().ByteSize()
    held = make(bytes_per_day=2 * size + 10)
    for _ in range(2):
        stub.Generate(rpc.request(), metadata=held)
    over = refused(lambda: stub.Generate(rpc.request(), metadata=held))
    assert (over.code, over.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limited")
    small = make(bytes_per_day=size - 1)
    never = refused(lambda: stub.Generate(rpc.request(), metadata=small))
    assert (never.code, never.retry_after_s) == (grpc.StatusCode.RESOURCE_EXHAUSTED, None)
    stub.ListModels(pb.ListModelsRequest(), metadata=held)


def test_queued_jobs_of_a_key(stub: DragAnythingStub, make: Make) -> None:
    held = make(max_queued=1)
    stub.Generate(rpc.request(), metadata=held)
    over = refused(lambda: stub.Generate(rpc.request(), metadata=held))
    assert over.code == grpc.StatusCode.RESOURCE_EXHAUSTED


# -- calls that end early --------------------------------------------------------------------------------------


@pytest.fixture
def listeners(door: Door) -> Callable[[], int]:
    feed: Feed = door.app.state.doors.feed
    return lambda: len(feed._listeners)


def test_a_watch_ends_with_its_deadline(stub: DragAnythingStub, listeners: Callable[[], int]) -> None:
    job_id = stub.Generate(rpc.request()).id
    shown = stub.WatchJob(pb.WatchJobRequest(id=job_id), timeout=0.5)
    found = refused(lambda: list(shown))
    assert found.code == grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: listeners() == 0, 5)


def test_a_canceled_watch_leaves_no_listener(stub: DragAnythingStub, listeners: Callable[[], int]) -> None:
    job_id = stub.Generate(rpc.request()).id
    shown = stub.WatchJob(pb.WatchJobRequest(id=job_id))
    next(iter(shown))
    assert listeners() == 2
    shown.cancel()
    until(lambda: listeners() == 0, 5)


def test_a_client_that_vanishes_leaves_no_listener(door: Door, listeners: Callable[[], int]) -> None:
    with door.channel() as channel:
        stub = DragAnythingStub(channel)
        job_id = stub.Generate(rpc.request()).id
        next(iter(stub.WatchJob(pb.WatchJobRequest(id=job_id))))
        assert listeners() == 2
    until(lambda: listeners() == 0, 5)


def test_a_forgotten_job_ends_its_watch(stub: DragAnythingStub, redis: Redis) -> None:
    job_id = stub.Generate(rpc.request()).id
    shown = iter(stub.WatchJob(pb.WatchJobRequest(id=job_id)))
    next(shown)
    redis.delete(f"da:job:{job_id}")
    redis.publish("da:changed", job_id)
    assert list(shown) == []


def test_many_at_once(stub: DragAnythingStub) -> None:
    def life(seed: int) -> list[int]:
        job_id = stub.Generate(rpc.request(seed=seed)).id
        shown = iter(stub.WatchJob(pb.WatchJobRequest(id=job_id)))
        first = next(shown).status
        stub.CancelJob(pb.CancelJobRequest(id=job_id))
        return [first, list(shown)[-1].status]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(life, range(16))) == 16 * [[pb.STATUS_QUEUED, pb.STATUS_CANCELED]]
