"""A manifest that a real worker wrote makes the same frames again, in whatever way its inputs are found."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from draganything_client import Client
from redis import Redis

from jobs.registry import Registry
from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store
from model import DragAnythingPipeline
from service.app import create_app
from tests import doors
from tests.unit.client.command import MAIN
from worker.executor import Executor
from worker.main import describe
from worker.pulse import Pulse

SMALL = {"num_frames": 2, "num_inference_steps": 1, "width": 64, "height": 64, "seed": 7, "hold_background": True}


@pytest.fixture
def address(
    pipeline: DragAnythingPipeline, redis: Redis, storage: Storage, settings: Settings
) -> Iterator[tuple[str, Callable[[], bool]]]:
    """A service, and a worker in this process that renders what is next."""
    registry = Registry(redis, 600)
    registry.announce("here", describe(pipeline))
    pulse = Pulse(registry, "here", [], 1.0)
    executor = Executor({"tiny": pipeline}, redis, storage, settings, pulse, threading.Event())

    def work() -> bool:
        done = executor.execute_next()
        executor.close()
        return done

    with doors.serving(create_app(settings)) as (host, port):
        yield f"http://{host}:{port}", work


@pytest.fixture
def manifest(address: tuple[str, Callable[[], bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of a finished job, with the job's own files beside it."""
    monkeypatch.chdir(tmp_path)
    url, work = address
    Path("image.png").write_bytes(doors.picture())
    Path("mask.png").write_bytes(doors.file_of(doors.square() * 255))
    with Client(url) as client:
        job = client.generate(doors.request(**SMALL))
        assert work()
        return client.download(client.wait(job), tmp_path / "first.json", ["manifest"])["manifest"]


def replayed(address: tuple[str, Callable[[], bool]], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """What the command line says while the worker works."""
    url, work = address
    worker = threading.Thread(target=lambda: _work_when_asked(url, work))
    worker.start()
    command = [*MAIN, "--url", url, "replay", *arguments, "--strict", "--json"]
    got = subprocess.run(command, capture_output=True, text=True, check=False)
    worker.join()
    assert got.returncode in (0, 5), got.stderr
    return got.returncode, json.loads(got.stdout), got.stderr


def _work_when_asked(url: str, work: Callable[[], bool]) -> None:
    with Client(url) as client:
        waiting = threading.Event()
        while not client.jobs(status="queued").jobs:
            waiting.wait(0.05)
    assert work()


@pytest.mark.parametrize("inputs", ["stored", "given"])
def test_the_frames_are_identical(
    address: tuple[str, Callable[[], bool]], manifest: Path, store: Store, inputs: str
) -> None:
    files: list[str] = []
    first = json.loads(manifest.read_text())
    if inputs == "given":
        with Client(address[0]) as client:
            client.delete(store.page("")[0][0].id)
        files = ["--image", "image.png", "--mask", "mask.png"]
    code, job, told = replayed(address, str(manifest), *files, "-o", "again")
    assert (code, job["identical"], job["differences"]) == (0, True, []), told
    assert "replay_versions_differ" not in [warning["code"] for warning in job["warnings"]]
    again = json.loads(Path(job["files"]["manifest"]).read_text())
    assert again["frames_sha256"] == first["frames_sha256"]
    assert again["artifacts"]["video"]["sha256"] == first["artifacts"]["video"]["sha256"]
    assert "identical" in told


def test_other_frames_are_told_with_what_may_be_the_cause(
    address: tuple[str, Callable[[], bool]], manifest: Path
) -> None:
    document = json.loads(manifest.read_text())
    document["request"]["seed"] += 1
    document["versions"]["torch"] = "1.0"
    manifest.write_text(json.dumps(document))
    code, job, told = replayed(address, str(manifest))
    assert (code, job["identical"]) == (5, False)
    assert "torch 1.0 then" in job["differences"][0]
    assert "replay_versions_differ" in [warning["code"] for warning in job["warnings"]]
    assert "different frames: torch 1.0 then" in told
