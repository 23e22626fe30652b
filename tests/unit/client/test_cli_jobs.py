"""The commands that look at what is there: watch, cancel, jobs, models; and what waiting looks like."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.unit.client.command import MAIN, run, scripted
from tests.unit.client.scripted import (
    CARD,
    DONE,
    Answer,
    Service,
    Stream,
    job,
    running,
)

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_watch_follows_and_saves_only_if_told(service: Service) -> None:
    scripted(service, running(1), DONE)
    assert run(service, "watch", "j1") == (0, "", "j1: denoising\nj1: succeeded\n")
    assert list(Path().iterdir()) == []
    assert run(service, "watch", "j1", "-o", "v.mp4").out == "v.mp4\n"


def test_cancel(service: Service) -> None:
    service.on("POST", "/v1/jobs/j1/cancel", Answer(job("canceled"), 202))
    assert run(service, "cancel", "j1").out == "j1 canceled\n"
    assert json.loads(run(service, "cancel", "j1", "--json").out)["status"] == "canceled"


def test_jobs_as_a_table_and_as_json(service: Service) -> None:
    service.on("GET", "/v1/jobs", Answer({"jobs": [running(5), job("succeeded", "j2")], "next": "j2"}))
    got = run(service, "jobs", "--status", "running", "--limit", "2")
    assert [line.split()[:3] for line in got.out.splitlines()[1:]] == [
        ["j1", "running", "20%"],
        ["j2", "succeeded", "0%"],
    ]
    assert got.err == "More: --after j2\n"
    assert service.seen[0].query == {"status": "running", "limit": "2"}
    assert json.loads(run(service, "jobs", "--json").out)["jobs"][1]["id"] == "j2"


def test_no_jobs(service: Service) -> None:
    service.on("GET", "/v1/jobs", Answer({"jobs": [], "next": None}))
    assert run(service, "jobs").out == "No jobs.\n"


def test_models_as_a_table_and_as_json(service: Service) -> None:
    service.on("GET", "/v1/models", Answer({"models": [CARD]}))
    assert "tiny  192x128  14 (≤ 25)  8 (≤ 50)  7    Apache-2.0  abababababab" in run(service, "models").out
    assert json.loads(run(service, "models", "--json").out) == {
        "models": [CARD | {"samplers": [], "tiers": [], "fast_num_inference_steps": None}]
    }


def test_a_batch_is_watched_and_canceled_by_its_id(service: Service) -> None:
    ended = {"id": "b1", "status": "ended", "counts": {"succeeded": 1}, "fraction": 1, "jobs": [DONE]}
    service.on("GET", "/v1/batches/b1", Answer(ended))
    service.on("POST", "/v1/batches/b1/cancel", Answer(ended))
    service.on("GET", "/v1/jobs/j1/result", Answer(b"V", headers={"Content-Type": "video/mp4"}))
    assert run(service, "watch", "b1", "--batch") == (0, "", "b1: 1 succeeded\n")
    assert list(Path().iterdir()) == []
    assert json.loads(run(service, "watch", "b1", "--batch", "--json").out)["id"] == "b1"
    assert run(service, "watch", "b1", "--batch", "-o", "takes").out == "takes/seed-7.mp4\n"
    assert run(service, "cancel", "b1", "--batch").out == "b1 ended\n"


def test_no_models(service: Service) -> None:
    service.on("GET", "/v1/models", Answer({"models": []}))
    assert run(service, "models").out.startswith("No models")


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(service: Service) -> None:
    following, release = threading.Event(), threading.Event()

    def stalled() -> Stream:
        following.set()
        release.wait(60)
        return Stream()

    service.on("GET", "/v1/jobs/j1/events", stalled)
    environment = os.environ | {"DRAGANYTHING_URL": service.url}
    watching = subprocess.Popen([*MAIN, "watch", "j1"], stderr=subprocess.PIPE, env=environment, text=True)
    with watching:
        assert following.wait(60)
        watching.send_signal(signal.SIGINT)
        _, told = watching.communicate(timeout=60)
    release.set()
    assert watching.returncode == 130
    assert "draganything watch j1 | draganything cancel j1" in told


def test_a_terminal_sees_a_bar(service: Service) -> None:
    scripted(service, running(5), DONE)
    screen, terminal = pty.openpty()
    environment = os.environ | {"DRAGANYTHING_URL": service.url, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run([*MAIN, "watch", "j1"], stderr=terminal, env=environment, check=True, timeout=60)
    os.close(terminal)
    seen = os.read(screen, 65536).decode()
    os.close(screen)
    assert "━" in seen
    assert "succeeded" in seen
