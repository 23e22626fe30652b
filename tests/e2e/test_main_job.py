"""The whole way, through real processes: HTTP in, a video out."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from local.stack import ROOT, Stack
from tests.harness import restart, until

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.json"))
SMALL = {"width": 64, "height": 64, "num_frames": 3, "num_inference_steps": 2, "seed": 7}


@pytest.fixture
def client(live_stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live_stack.base_url, timeout=60) as client:
        yield client


def example(name: str, **fields: Any) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((ROOT / "examples" / f"{name}.json").read_text())
    return spec | SMALL | fields


def follow(client: httpx.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Every snapshot of the job's event stream."""
    with client.stream("GET", job["urls"]["events"]) as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:")]


def fetch(client: httpx.Client, job: dict[str, Any], artifact: str) -> bytes:
    return client.get(job["urls"]["result"], params={"artifact": artifact}, follow_redirects=True).read()


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_becomes_a_video(client: httpx.Client, name: str) -> None:
    accepted = client.post("/v1/generate", json=example(name))
    assert accepted.status_code == 202, accepted.text
    snapshots = follow(client, accepted.json())
    last = snapshots[-1]
    assert last["status"] == "succeeded", last["error"]
    fractions = [snapshot["progress"]["fraction"] for snapshot in snapshots]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    video = fetch(client, last, "video")
    with av.open(io.BytesIO(video), "r") as container:
        frames = list(container.decode(video=0))
    assert (len(frames), frames[0].width, frames[0].height) == (3, 64, 64)
    manifest = json.loads(fetch(client, last, "manifest"))
    assert manifest["artifacts"]["video"]["sha256"] == hashlib.sha256(video).hexdigest()
    assert manifest["request"]["seed"] == last["result"]["seed"] == 7
    with Image.open(io.BytesIO(fetch(client, last, "poster"))) as poster:
        assert poster.size == (64, 64)


def test_the_same_seed_gives_the_same_frames(client: httpx.Client) -> None:
    def frames_of(seed: int) -> str:
        job = client.post("/v1/generate", json=example("quickstart", seed=seed)).json()
        manifest = json.loads(fetch(client, follow(client, job)[-1], "manifest"))
        return str(manifest["frames_sha256"])

    first, again, other = frames_of(1), frames_of(1), frames_of(2)
    assert first == again != other


def test_a_running_job_is_canceled_between_two_steps(client: httpx.Client) -> None:
    job = client.post("/v1/generate", json=example("quickstart", num_inference_steps=50, num_frames=14)).json()
    until(lambda: client.get(job["urls"]["self"]).json()["progress"]["stage"] == "denoising")
    assert client.post(job["urls"]["cancel"]).status_code == 202
    last = follow(client, job)[-1]
    assert last["status"] == "canceled"
    assert last["progress"]["step"] < 50
    assert last["result"] is None


def test_a_killed_worker_costs_an_attempt_and_no_job(live_stack: Stack, client: httpx.Client) -> None:
    job = client.post("/v1/generate", json=example("quickstart", num_inference_steps=30, num_frames=14)).json()
    until(lambda: client.get(job["urls"]["self"]).json()["progress"]["step"] >= 1)
    restart(live_stack, "worker", signal.SIGKILL)
    last = follow(client, job)[-1]
    assert (last["status"], last["attempt"]) == ("succeeded", 2)


def test_the_readme_s_own_picture(live_stack: Stack, tmp_path: Path) -> None:
    """The commands of the README, word for word, with a picture that is not in this repository."""
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"<!-- test: own picture -->\n```sh\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    Image.radial_gradient("L").convert("RGB").resize((400, 300)).save(tmp_path / "picture.jpg")
    script = found.group(1).replace("http://127.0.0.1:8000", live_stack.base_url)
    environ = {"PATH": os.environ["PATH"], "no_proxy": "*"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environ, check=True)
    with av.open(str(tmp_path / "video.mp4"), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) == 14
