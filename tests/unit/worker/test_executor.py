"""One job through a worker with the real networks: every way in which an attempt can end."""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
import torch
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs import queue
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.spec import JobSpec
from jobs.state import Record, Result, Stage, Status
from jobs.storage import Storage, attempt_prefix, job_prefix
from jobs.store import Store, Verdict
from local.ports import HOST, choose
from local.stack import Stack
from model import Conditions, DragAnythingPipeline, Entity
from tests.harness import settings_of
from tests.unit.worker.scenes import lapse, scene, submit
from worker.executor import Executor
from worker.pulse import Pulse

INPUTS = ["inputs/image.png", "inputs/mask.png"]


class Bench:
    """An executor with its neighbours in reach."""

    def __init__(self, pipeline: DragAnythingPipeline, redis: Redis, storage: Storage, settings: Settings) -> None:
        self.pipeline = pipeline
        self.redis = redis
        self.storage = storage
        self.store = Store(redis, settings)
        self.drained = threading.Event()
        self.pulse = Pulse(Registry(redis, settings.lease_s), "bench", [], 1.0)
        self.executor = Executor({"tiny": pipeline}, redis, storage, settings, self.pulse, self.drained)

    def run(self, job_id: str) -> Record:
        self.executor.execute(job_id)
        assert self.pulse.attempt is None
        return self.store.get(job_id)

    def render(self, **changes: Any) -> Record:
        return self.run(submit(self.store, self.storage, **changes))

    def objects(self, job_id: str) -> list[str]:
        return [key.removeprefix(job_prefix(job_id)) for key in self.storage.list(job_prefix(job_id))]

    def manifest(self, record: Record) -> dict[str, Any]:
        assert record.result is not None
        document: dict[str, Any] = json.loads(self.storage.get(record.result.artifacts["manifest"].key))
        return document


@pytest.fixture
def bench(pipeline: DragAnythingPipeline, redis: Redis, storage: Storage, settings: Settings) -> Bench:
    return Bench(pipeline, redis, storage, settings)


def at_step(monkeypatch: pytest.MonkeyPatch, bench: Bench, step: int, act: Callable[[], object]) -> list[int]:
    """Do something when a denoising step has ended; the list fills with the steps."""
    denoise, seen = bench.pipeline.denoise, []

    def watched(*args: Any, on_stage: Callable[[str, int, int], object], **options: Any) -> torch.Tensor:
        def observe(stage: str, done: int, total: int) -> None:
            seen.append(done)
            if done == step:
                act()
            on_stage(stage, done, total)

        return denoise(*args, on_stage=observe, **options)

    monkeypatch.setattr(bench.pipeline, "denoise", watched)
    return seen


def after_upload(monkeypatch: pytest.MonkeyPatch, bench: Bench, act: Callable[[], object]) -> None:
    """Do something between the last upload and the commit."""
    put = bench.storage.put

    def watched(key: str, body: bytes, media_type: str) -> Any:
        artifact = put(key, body, media_type)
        if key.endswith("manifest.json"):
            act()
        return artifact

    monkeypatch.setattr(bench.storage, "put", watched)


def error_code(record: Record) -> str:
    assert record.status is Status.FAILED
    assert record.error is not None
    return record.error.code


# -- success --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rendered:
    """A job with every file, and what lay under its attempt's prefix."""

    record: Record
    result: Result
    objects: dict[str, bytes]
    manifest: dict[str, Any]


@pytest.fixture(scope="module")
def rendered(servers: Stack, pipeline: DragAnythingPipeline) -> Rendered:
    settings = settings_of(servers)
    with Redis.from_url(settings.redis_url) as client:
        bench = Bench(pipeline, client, Storage(settings), settings)
        output = {"format": "mp4", "overlay": True, "frames": True}
        record = bench.render(output=output, num_inference_steps=2)
    assert record.result is not None
    assert record.attempt_id is not None
    prefix = attempt_prefix(record.id, record.attempt_id)
    objects = {key.removeprefix(prefix): bench.storage.get(key) for key in bench.storage.list(prefix)}
    return Rendered(record, record.result, objects, bench.manifest(record))


def test_a_success(rendered: Rendered) -> None:
    record, result = rendered.record, rendered.result
    assert (record.status, record.attempt) == (Status.SUCCEEDED, 1)
    assert (record.progress.stage, record.progress.step, record.progress.steps) == (Stage.DONE, 2, 2)
    assert (result.width, result.height, result.num_frames, result.fps, result.seed) == (64, 64, 2, 7, 7)
    assert result.duration_s == pytest.approx(2 / 7, abs=1e-4)
    stages = ("loading", "conditioning", "denoising", "decoding", "encoding", "uploading")
    assert tuple(result.timings_s) == stages
    assert all(seconds >= 0 for seconds in result.timings_s.values())


def test_the_artifacts_are_there(rendered: Rendered) -> None:
    artifacts = rendered.result.artifacts
    assert set(artifacts) == {"video", "poster", "overlay", "frames", "manifest"}
    names = {name: artifact.key.rpartition("/")[2] for name, artifact in artifacts.items()}
    assert set(names.values()) == set(rendered.objects)
    for name, artifact in artifacts.items():
        data = rendered.objects[names[name]]
        assert (artifact.bytes, artifact.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_the_manifest_is_whole(rendered: Rendered, pipeline: DragAnythingPipeline) -> None:
    manifest, card = rendered.manifest, pipeline.card
    assert manifest["request"] == rendered.record.spec
    assert manifest["request"]["image"]["sha256"]
    assert manifest["model"]["weights_sha256"] == card.weights_sha256
    assert (manifest["model"]["device"], manifest["model"]["dtype"]) == ("cpu", "float32")
    assert manifest["versions"]["torch"] == version("torch")
    assert manifest["timings_s"] == rendered.result.timings_s
    hashes = {name: artifact.sha256 for name, artifact in rendered.result.artifacts.items() if name != "manifest"}
    assert {name: artifact["sha256"] for name, artifact in manifest["artifacts"].items()} == hashes


def test_the_same_spec_gives_the_same_frames_and_only_the_files_asked_for(
    bench: Bench, rendered: Rendered
) -> None:
    output = {"format": "gif", "overlay": False, "frames": False}
    record = bench.render(output=output, num_inference_steps=2)
    assert record.result is not None
    assert set(record.result.artifacts) == {"video", "poster", "manifest"}
    assert record.result.artifacts["video"].media_type == "image/gif"
    assert bench.manifest(record)["frames_sha256"] == rendered.manifest["frames_sha256"]


def test_frames_are_what_the_pipeline_makes(pipeline: DragAnythingPipeline, rendered: Rendered) -> None:
    """The worker passes everything on and adds nothing of its own."""
    spec = JobSpec.model_validate(rendered.record.spec)
    picture, mask = scene()
    frames = pipeline(
        picture,
        [Entity(mask=mask > 0, points=np.array(spec.entities[0].points))],
        num_frames=spec.num_frames,
        num_inference_steps=spec.num_inference_steps,
        width=spec.width,
        height=spec.height,
        generator=torch.Generator().manual_seed(spec.seed),
        motion_bucket_id=spec.motion_bucket_id,
        noise_aug_strength=spec.noise_aug_strength,
        decode_chunk_size=spec.decode_chunk_size,
        min_guidance_scale=spec.min_guidance_scale,
        max_guidance_scale=spec.max_guidance_scale,
    ).frames
    assert rendered.manifest["frames_sha256"] == hashlib.sha256(frames.tobytes()).hexdigest()


@pytest.mark.parametrize("ended", ["unknown", "canceled", "held by another"])
def test_nothing_to_do(bench: Bench, monkeypatch: pytest.MonkeyPatch, ended: str) -> None:
    steps = at_step(monkeypatch, bench, 0, lambda: None)
    job_id = submit(bench.store, bench.storage)
    if ended == "canceled":
        bench.store.cancel(job_id)
    elif ended == "held by another":
        bench.store.claim(job_id, "another")
    before = bench.store.get(job_id)
    bench.executor.execute("unknown" if ended == "unknown" else job_id)
    assert bench.store.get(job_id) == before
    assert steps == []


# -- interruptions --------------------------------------------------------------------------------------------


def test_cancel_between_two_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = submit(bench.store, bench.storage, num_inference_steps=2)
    steps = at_step(monkeypatch, bench, 1, lambda: bench.store.cancel(job_id))
    assert bench.run(job_id).status is Status.CANCELED
    assert steps == [0, 1]
    assert bench.objects(job_id) == INPUTS


def test_cancel_after_the_upload(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = submit(bench.store, bench.storage)
    after_upload(monkeypatch, bench, lambda: bench.store.cancel(job_id))
    record = bench.run(job_id)
    assert (record.status, record.result) == (Status.CANCELED, None)
    assert bench.objects(job_id) == INPUTS


def test_a_drained_job_goes_back_in_front(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = submit(bench.store, bench.storage)
    bench.redis.delete(queue.queues(bench.redis, "tiny")[1].key)  # its message is taken
    second = submit(bench.store, bench.storage)
    steps = at_step(monkeypatch, bench, 0, bench.drained.set)
    record = bench.run(first)
    assert steps == [0]
    assert (record.status, record.attempt, record.attempt_id) == (Status.QUEUED, 0, None)
    assert bench.objects(first) == INPUTS
    order = [message.partition("_")[0] for message in queue.queues(bench.redis, "tiny")[1].job_ids]
    assert order == [first, second]

    assert bench.store.claim(first, "another")
    assert bench.store.get(first).attempt == 1


@pytest.mark.parametrize("moment", ["before a step", "after the upload"])
def test_a_lost_lease(bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    job_id = submit(bench.store, bench.storage)
    kept = attempt_prefix(job_id, "another") + "video.mp4"

    def another_takes_over() -> None:
        lapse(bench.store, job_id)
        assert bench.store.reclaim(job_id)
        assert bench.store.claim(job_id, "another")
        bench.storage.put(kept, b"", "video/mp4")

    if moment == "before a step":
        at_step(monkeypatch, bench, 0, another_takes_over)
    else:
        after_upload(monkeypatch, bench, another_takes_over)
    record = bench.run(job_id)
    assert (record.status, record.attempt_id, record.result) == (Status.RUNNING, "another", None)
    assert bench.objects(job_id) == [kept.removeprefix(job_prefix(job_id)), *INPUTS]


def test_too_long(pipeline: DragAnythingPipeline, redis: Redis, storage: Storage, settings: Settings) -> None:
    bench = Bench(pipeline, redis, storage, settings.model_copy(update={"job_timeout_s": 1e-6}))
    record = bench.render()
    assert error_code(record) == "timeout"
    assert bench.objects(record.id) == INPUTS


# -- failures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["changed", "gone"])
@pytest.mark.parametrize("name", INPUTS)
def test_a_lost_input(bench: Bench, name: str, how: str) -> None:
    job_id = submit(bench.store, bench.storage)
    bench.storage.delete(job_prefix(job_id) + name)
    if how == "changed":
        bench.storage.put(job_prefix(job_id) + name, b"\x89PNG", "image/png")
    assert error_code(bench.run(job_id)) == "input_lost"


def test_a_failure_tells_no_secrets_and_spares_the_next_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("/srv/secret/weights.bin")

    with monkeypatch.context() as patch:
        patch.setattr(bench.pipeline, "denoise", explode)
        record = bench.render()
    assert error_code(record) == "render_failed"
    assert record.error is not None
    assert "secret" not in record.error.detail
    assert "Traceback" not in record.error.detail
    assert bench.objects(record.id) == INPUTS
    assert bench.render().status is Status.SUCCEEDED


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_not_finite(bench: Bench, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    def spoil(conditions: Conditions, **_: object) -> torch.Tensor:
        latents = conditions.noise.clone()
        latents[0, 1, 0, 2, 3] = value
        return latents

    monkeypatch.setattr(bench.pipeline, "denoise", spoil)
    assert error_code(bench.render()) == "not_finite"


@pytest.mark.parametrize(("times", "status"), [(1, Status.SUCCEEDED), (2, Status.FAILED)])
def test_out_of_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch, times: int, status: Status) -> None:
    denoise = bench.pipeline.denoise
    held: list[weakref.ref[Any]] = []

    def scarce(*args: Any, **options: Any) -> torch.Tensor:
        assert all(ref() is None for ref in held), "the first try still holds memory"
        if len(held) < times:
            activations = torch.zeros(8)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return denoise(*args, **options)

    monkeypatch.setattr(bench.pipeline, "denoise", scarce)
    record = bench.render()
    assert record.status is status
    if status is Status.FAILED:
        assert error_code(record) == "out_of_memory"


def test_an_object_store_that_went_away(bench: Bench, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    (port,) = choose(1)
    dead = Storage(settings.model_copy(update={"s3_endpoint": f"http://{HOST}:{port}"}))
    job_id = submit(bench.store, bench.storage)
    monkeypatch.setattr(bench.storage, "_client", dead._client)
    assert error_code(bench.run(job_id)) == "storage_away"


def test_a_commit_whose_answer_never_came(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record says succeeded, so its objects must stay, whatever the worker believes."""
    succeed = Store.succeed

    def silent(store: Store, job_id: str, attempt_id: str, result: Result) -> Verdict:
        succeed(store, job_id, attempt_id, result)
        raise RedisConnectionError("away for minutes")

    monkeypatch.setattr(Store, "succeed", silent)
    record = bench.render()
    assert record.status is Status.SUCCEEDED
    assert record.result is not None
    for artifact in record.result.artifacts.values():
        assert len(bench.storage.get(artifact.key)) == artifact.bytes
