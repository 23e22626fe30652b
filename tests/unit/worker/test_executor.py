"""One job through a worker with the real networks: every way in which an attempt can end."""

from __future__ import annotations

import hashlib
import io
import json
import math
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from evaluation.look import Floats
from evaluation.tracking import Bools, Frames
from jobs import queue
from jobs.eta import Pace, Size
from jobs.registry import Registry
from jobs.settings import Settings
from jobs.spec import Blob, JobSpec
from jobs.state import Record, Result, Stage, Status
from jobs.storage import Storage, attempt_prefix, decision_key, inputs_prefix, job_prefix
from jobs.store import Store, Verdict
from local.ports import HOST, choose
from local.stack import Stack
from model import Conditions, DragAnythingPipeline, Entity
from tests.harness import flush, settings_of
from tests.unit.worker.scenes import SIZE, lapse, scene, submit
from worker.attempt import Attempt
from worker.decode import decode
from worker.executor import Executor
from worker.pulse import Pulse

INPUTS = ["inputs/image.png", "inputs/mask.png"]


class Bench:
    """An executor with its neighbours in reach."""

    def __init__(self, pipeline: DragAnythingPipeline, redis: Redis, storage: Storage, settings: Settings) -> None:
        self.pipeline = pipeline
        self.redis = redis
        self.storage = storage
        self.settings = settings
        self.store = Store(redis, settings)
        self.drained = threading.Event()
        self.pulse = Pulse(Registry(redis, settings.lease_s), "bench", [], 1.0)
        self.executor = Executor({"tiny": pipeline}, redis, storage, settings, self.pulse, self.drained)

    def run(self, job_id: str) -> Record:
        assert self.executor.execute_next()
        self.executor.close()
        assert not self.pulse.attempts
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
    flush(settings.redis_url)
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
    assert set(artifacts) == {"video", "poster", "overlay", "frames", "ending", "manifest"}
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
    assert set(record.result.artifacts) == {"video", "poster", "ending", "manifest"}
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


def test_the_video_is_scored(rendered: Rendered) -> None:
    scores = rendered.result.scores
    assert scores is not None
    assert scores.tracker == "flow"
    assert [entity.label for entity in scores.entities] == ["square"]
    assert scores.objmc_px_still == pytest.approx(math.hypot(12, 8), abs=1e-3)
    assert scores.anchor_drift_px is None
    assert rendered.manifest["scores"] == scores.model_dump(mode="json")
    assert rendered.result.candidates == []


class Script:
    """A tracker that sees entities go a share of the asked way, another one in each video; None is a failure."""

    name = "script"

    def __init__(self, *shares: float | None) -> None:
        self.shares = iter(shares)

    def track(self, frames: Frames, masks: Bools, points: Floats) -> tuple[Floats, Bools]:
        share = next(self.shares)
        if share is None:
            raise RuntimeError
        time = np.arange(len(frames))[None, :, None]
        return points[:, None] + time * (12 * share, 8 * share), np.ones((len(masks), len(frames)), bool)


def tracked_by(bench: Bench, tracker: Script) -> None:
    arguments = (bench.redis, bench.storage, bench.settings, bench.pulse, bench.drained, tracker)
    bench.executor = Executor({"tiny": bench.pipeline}, *arguments)


def test_a_tracker_that_fails_costs_the_scores_alone(bench: Bench) -> None:
    tracked_by(bench, Script(None))
    record = bench.render()
    assert record.status is Status.SUCCEEDED
    assert record.result is not None
    assert record.result.scores is None
    assert bench.manifest(record)["scores"] is None


def test_the_best_of_several_is_the_result_and_each_is_what_its_seed_makes_alone(bench: Bench) -> None:
    tracked_by(bench, Script(0.0, None, 1.0, 5.0, None))
    first = 2**63 - 2  # behind the last seed comes 0
    record = bench.render(best_of=4, seed=first)
    result = record.result
    assert result is not None
    assert [one.seed for one in result.candidates] == [0, first, 1, first + 1]
    assert [one.scores and one.scores.objmc_px for one in result.candidates] == [
        pytest.approx(0, abs=1e-3),
        pytest.approx(14.422, abs=1e-3),
        pytest.approx(4 * 14.422, abs=5e-3),
        None,
    ]
    assert (result.seed, result.scores) == (0, result.candidates[0].scores)
    names = ["video", "candidate-2", "candidate-3", "candidate-4"]
    assert [one.artifact for one in result.candidates] == names
    assert set(result.artifacts) == {*names, "poster", "overlay", "ending", "manifest"}
    assert len({result.artifacts[name].sha256 for name in names}) == 4
    assert (record.progress.step, record.progress.steps) == (4, 4)

    alone = bench.render(seed=0)
    assert alone.result is not None
    assert alone.result.artifacts["video"].sha256 == result.artifacts["video"].sha256
    made, again = bench.manifest(record), bench.manifest(alone)
    assert made["frames_sha256"] == again["frames_sha256"]
    assert (made["request"]["seed"], made["request"]["best_of"]) == (0, 1)


def prefix_of(record: Record, name: str) -> Blob:
    assert record.result is not None
    artifact = record.result.artifacts[name]
    return Blob(key=artifact.key, sha256=artifact.sha256, width=SIZE, height=SIZE)


def video_of(bench: Bench, record: Record, name: str = "video") -> Frames:
    size = (576, 576) if name == "overlay" else (SIZE, SIZE)
    return decode(bench.storage.get(prefix_of(record, name).key), size)


@pytest.mark.parametrize(("name", "form"), [("frames", "mp4"), ("video", "gif")])
def test_an_extension_begins_with_the_earlier_frames_and_shows_its_first_one_once(
    bench: Bench, name: str, form: str
) -> None:
    output = {"format": form, "overlay": True, "frames": True}
    first = bench.render(output=output)
    alone = bench.render(output=output, seed=9)
    more = bench.render(output=output, seed=9, prefix=prefix_of(first, name))
    earlier, new = video_of(bench, first, name), video_of(bench, alone, "frames")
    whole = video_of(bench, more, "frames")
    assert np.array_equal(whole, np.concatenate([earlier, new[1:]]))
    assert bench.manifest(more)["frames_sha256"] == hashlib.sha256(whole.tobytes()).hexdigest()
    assert bench.manifest(more)["request"]["prefix"] == prefix_of(first, name).model_dump()
    assert len(video_of(bench, more)) == 3
    assert more.result is not None
    assert alone.result is not None
    assert more.result.num_frames == 3
    assert more.result.duration_s == pytest.approx(3 / 7, abs=1e-4)
    assert more.result.scores == alone.result.scores
    drawn = video_of(bench, more, "overlay")
    plain = cv2.resize(earlier[0], (576, 576), interpolation=cv2.INTER_CUBIC)
    assert len(drawn) == 3
    assert np.abs(drawn[0].astype(int) - plain).mean() < 10
    again = bench.render(output=output, prefix=prefix_of(more, "frames"))
    assert np.array_equal(video_of(bench, again, "frames")[:3], whole)


@pytest.mark.parametrize("how", ["of another size", "no video"])
def test_an_earlier_video_that_can_not_be_used(bench: Bench, how: str) -> None:
    first = bench.render(num_inference_steps=1)
    name = "poster" if how == "no video" else "video"
    size = {"width": 128} if how == "of another size" else {}
    record = bench.render(num_inference_steps=1, prefix=prefix_of(first, name), **size)
    assert error_code(record) == "input_lost"


def test_the_ending_has_the_last_frame_and_the_masks_where_the_tracker_saw_the_entities(bench: Bench) -> None:
    output = {"format": "mp4", "overlay": False, "frames": True}
    tracked_by(bench, Script(0.0, None))
    seen, lost = bench.render(output=output), bench.render(output=output)
    for record, names in ((seen, ["frame.png", "0.png"]), (lost, ["frame.png"])):
        with zipfile.ZipFile(io.BytesIO(bench.storage.get(prefix_of(record, "ending").key))) as archive:
            assert archive.namelist() == names
            pictures = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]
        assert np.array_equal(pictures[0], video_of(bench, record, "frames")[-1])
    assert lost.result is not None
    assert lost.result.scores is None


def test_candidates_stop_within_a_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def cancel_the_second() -> None:
        begun.append(1)
        if len(begun) == 2:
            bench.store.cancel(job_id)

    at_step(monkeypatch, bench, 0, cancel_the_second)
    job_id = submit(bench.store, bench.storage, best_of=3)
    assert bench.run(job_id).status is Status.CANCELED
    assert len(begun) == 2


@pytest.mark.parametrize("ended", ["canceled", "held by another"])
def test_nothing_to_do(bench: Bench, monkeypatch: pytest.MonkeyPatch, ended: str) -> None:
    steps = at_step(monkeypatch, bench, 0, lambda: None)
    job_id = submit(bench.store, bench.storage)
    if ended == "canceled":
        bench.store.cancel(job_id)
    elif ended == "held by another":
        bench.store.claim(job_id, "another")
    before = bench.store.get(job_id)
    assert not bench.executor.execute_next()
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
    second = submit(bench.store, bench.storage)
    steps = at_step(monkeypatch, bench, 0, bench.drained.set)
    record = bench.run(first)
    assert steps == [0]
    assert (record.status, record.attempt, record.attempt_id) == (Status.QUEUED, 0, None)
    assert bench.objects(first) == INPUTS
    assert bench.store.queued("tiny") == [first, second]
    assert queue.sleep(bench.redis, ["tiny"], 1), "another worker is woken"
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
    left = [key for key in bench.storage.list(job_prefix(job_id)) if key != kept]
    if moment == "before a step":
        assert left == [job_prefix(job_id) + name for name in INPUTS]
    else:  # it was the first to decide, so whoever holds the job now will commit its files
        decided = Result.model_validate_json(bench.storage.get(decision_key(job_id)))
        assert {artifact.key for artifact in decided.artifacts.values()} < set(left)


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


@pytest.mark.parametrize("moment", ["fetch", "upload"])
def test_an_object_store_that_is_away_for_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, settings: Settings, moment: str
) -> None:
    """The attempt waits for it: nothing is lost, nothing is rendered twice."""
    (port,) = choose(1)
    dead, alive = (
        Storage(settings.model_copy(update={"s3_endpoint": f"http://{HOST}:{port}"})),
        bench.storage._client,
    )
    steps = at_step(monkeypatch, bench, 0, lambda: None)
    pauses: list[int] = []

    def come_back(_: Attempt) -> None:
        pauses.append(1)
        if len(pauses) == 2:
            bench.storage._client = alive

    monkeypatch.setattr(Attempt, "pause", come_back)
    job_id = submit(bench.store, bench.storage)
    if moment == "fetch":
        bench.storage._client = dead._client
    else:
        at_step(monkeypatch, bench, 1, lambda: setattr(bench.storage, "_client", dead._client))
    record = bench.run(job_id)
    assert (record.status, record.attempt, len(pauses)) == (Status.SUCCEEDED, 1, 2)
    assert steps.count(0) == 1


def test_a_cancel_while_the_object_store_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    (port,) = choose(1)
    dead = Storage(settings.model_copy(update={"s3_endpoint": f"http://{HOST}:{port}"}))
    job_id = submit(bench.store, bench.storage)
    monkeypatch.setattr(bench.storage, "_client", dead._client)
    monkeypatch.setattr(Attempt, "pause", lambda _: bench.store.cancel(job_id))
    assert bench.run(job_id).status is Status.CANCELED


# -- several jobs, several attempts ---------------------------------------------------------------------------


def test_another_worker_was_faster(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (submit(bench.store, bench.storage) for _ in range(2))
    following = Store.next

    def slowly(store: Store, models: Iterable[str], count: int = 1) -> list[str]:
        ids = following(store, models, count)
        store.claim(first, "another")
        return ids

    monkeypatch.setattr(Store, "next", slowly)
    assert bench.run(second).status is Status.SUCCEEDED
    assert bench.store.get(first).attempt_id == "another"


def test_the_next_job_denoises_beside_the_tail_of_the_last(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (submit(bench.store, bench.storage) for _ in range(2))
    denoising, put = threading.Event(), bench.storage.put

    def upload(key: str, body: bytes, media_type: str) -> Any:
        if first in key:
            assert denoising.wait(60), "the tail ends before the next job begins"
        return put(key, body, media_type)

    def observe() -> None:
        if bench.store.get(second).status is Status.RUNNING:
            denoising.set()

    monkeypatch.setattr(bench.storage, "put", upload)
    at_step(monkeypatch, bench, 1, observe)
    assert bench.executor.execute_next()
    assert bench.executor.execute_next()
    bench.executor.close()
    assert {bench.store.get(job_id).status for job_id in (first, second)} == {Status.SUCCEEDED}


def test_the_next_inputs_are_fetched_beside_the_steps(bench: Bench) -> None:
    first, second = (submit(bench.store, bench.storage) for _ in range(2))
    assert bench.run(first).status is Status.SUCCEEDED
    bench.storage.delete(inputs_prefix(second))
    assert bench.run(second).status is Status.SUCCEEDED, "they are here already"


def test_inputs_that_were_fetched_for_another_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guess was wrong: a job of a higher priority came."""
    first, guessed = (submit(bench.store, bench.storage) for _ in range(2))
    bench.run(first)
    urgent = submit(bench.store, bench.storage, priority="high", seed=3)
    fetched: list[str] = []
    get = bench.storage.get
    monkeypatch.setattr(bench.storage, "get", lambda key: fetched.append(key) or get(key))  # type: ignore[func-returns-value]
    assert bench.run(urgent).status is Status.SUCCEEDED
    assert {key for key in fetched if urgent in key} >= set(bench.storage.list(inputs_prefix(urgent)))
    assert bench.run(guessed).status is Status.SUCCEEDED


def test_memory_that_is_short_in_the_tail(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try of a job is alone on the device."""
    first, second = (submit(bench.store, bench.storage) for _ in range(2))
    decode, tried = bench.pipeline.decode, []

    def scarce(*args: Any, **options: Any) -> Any:
        tried.append(1)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(*args, **options)

    monkeypatch.setattr(bench.pipeline, "decode", scarce)
    bench.run(first)
    records = [bench.store.get(job_id) for job_id in (first, second)]
    while any(not record.status.terminal for record in records):
        records = [bench.run(record.id) for record in records if not record.status.terminal]
    assert {bench.store.get(job_id).status for job_id in (first, second)} == {Status.SUCCEEDED}
    assert bench.store.get(first).attempt == 1


def test_a_decision_of_an_attempt_that_died(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had stored everything and said so: the next attempt commits it and renders nothing."""
    job_id = submit(bench.store, bench.storage)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "succeed", _away)
        abandoned = bench.run(job_id)
    assert abandoned.status is Status.RUNNING
    steps = at_step(monkeypatch, bench, 0, lambda: None)
    lapse(bench.store, job_id)
    assert bench.store.reclaim(job_id)
    record = bench.run(job_id)
    assert (record.status, record.attempt, steps) == (Status.SUCCEEDED, 2, [])
    assert record.result is not None
    assert record.result.artifacts["video"].key.startswith(attempt_prefix(job_id, str(abandoned.attempt_id)))
    assert all(bench.storage.get(artifact.key) for artifact in record.result.artifacts.values())


def _away(*_: object) -> Verdict:
    raise RedisConnectionError("away for minutes")


def test_a_job_of_another_version_fails_and_the_next_is_rendered(bench: Bench) -> None:
    unreadable, next_job = submit(bench.store, bench.storage), submit(bench.store, bench.storage)
    bench.redis.hset(f"da:job:{unreadable}", "spec", json.dumps({"of": "another version"}))
    assert bench.run(next_job).status is Status.SUCCEEDED
    assert error_code(bench.store.get(unreadable)) == "invalid_job"


def test_where_redis_goes_after_a_claim_the_lease_decides(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = submit(bench.store, bench.storage)
    with monkeypatch.context() as outage:
        outage.setattr(Store, "get", _away)
        with pytest.raises(RedisConnectionError):
            bench.executor.execute_next()
    assert not bench.pulse.attempts
    lapse(bench.store, job_id)
    assert bench.store.reclaim(job_id)
    assert bench.run(job_id).status is Status.SUCCEEDED


@pytest.mark.parametrize("decided", ["before", "after"])
def test_a_zombie_and_its_successor(bench: Bench, monkeypatch: pytest.MonkeyPatch, decided: str) -> None:
    """An attempt that was frozen comes back when the job has moved on: there is one result all the same."""
    job_id = submit(bench.store, bench.storage)
    successor = Bench(bench.pipeline, bench.redis, bench.storage, bench.settings)
    put_once = bench.storage.put_once
    nested: list[int] = []

    def take_over() -> None:
        lapse(bench.store, job_id)
        assert bench.store.reclaim(job_id)
        assert successor.run(job_id).status is Status.SUCCEEDED

    def thaw(key: str, body: bytes, media_type: str) -> bytes:
        if nested:
            return put_once(key, body, media_type)
        nested.append(1)
        if decided == "before":
            take_over()
            return put_once(key, body, media_type)
        lies_there = put_once(key, body, media_type)
        take_over()
        return lies_there

    monkeypatch.setattr(bench.storage, "put_once", thaw)
    record = bench.run(job_id)
    assert (record.status, record.attempt) == (Status.SUCCEEDED, 2)
    assert record.result is not None
    assert bench.storage.get(decision_key(job_id)) == record.result.model_dump_json().encode()
    files = {artifact.key for artifact in record.result.artifacts.values()}
    left = set(bench.storage.list(job_prefix(job_id))) - {decision_key(job_id)}
    assert {key for key in left if not key.startswith(inputs_prefix(job_id))} == files


def test_the_pace_is_learned(bench: Bench) -> None:
    record = bench.render()
    assert record.result is not None
    (cost,) = Pace(bench.redis).costs("tiny", [Size.of(record)]) or []
    assert cost.total == pytest.approx(sum(record.result.timings_s.values()), abs=1e-3)


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
