from __future__ import annotations

import base64
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from draganything_client import NotFound, Problem, cli
from typer.testing import CliRunner

from tests.unit.client.scripted import Answer, Drop, Service, Stream, event, job, problem, running
from tests.unit.client.test_client import CARD

DONE = job("succeeded")
MAIN = [sys.executable, "-c", "from draganything_client.cli import main; main()"]


class Run(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def run(service: Service | None, *arguments: str, stdin: str = "") -> Run:
    url = ["--url", service.url] if service else []
    got = CliRunner().invoke(cli.app, [*url, *arguments], input=stdin)
    return Run(got.exit_code, got.stdout, got.stderr)


def scripted(service: Service, *snapshots: dict[str, Any]) -> None:
    """Any job that is queued goes through ``snapshots``; its files are there."""
    service.on("POST", "/v1/generate", Answer(job(), 202))
    service.on("GET", "/v1/jobs/j1/events", Stream([event(data) for data in snapshots]))
    service.on("GET", "/v1/jobs/j1/result", Answer(b"VIDEO", headers={"Content-Type": "video/mp4"}))


def test_generate_from_a_file_saves_the_video_under_its_id(service: Service) -> None:
    scripted(service, job(), running(1), DONE)
    Path("spec.json").write_text('{"image": {}, "seed": 1}')
    got = run(service, "generate", "spec.json")
    assert (got.code, got.out) == (0, "j1.mp4\n")
    assert Path("j1.mp4").read_bytes() == b"VIDEO"
    assert service.seen[0].body == {"image": {}, "seed": 1}
    assert got.err.splitlines() == ["j1: queued", "j1: denoising", "j1: succeeded"]


def test_generate_from_options(service: Service) -> None:
    scripted(service, DONE)
    for name in ("image.png", "a.png", "b.png"):
        Path(name).write_bytes(name.encode())
    entities = [
        "--mask",
        "a.png",
        "--path",
        "1,2 3.5,4",
        "--label",
        "A",
        "--mask",
        "b.png",
        "--path",
        "5,6",
        "--label",
        "B",
    ]
    fields = ["--seed", "0", "--frames", "5", "--steps", "3", "--hold-background", "--model", "svd"]
    more = [
        "--set",
        "max_guidance_scale=2.5",
        "--set",
        "output.overlay=false",
        "--set",
        "tier=fast",
        "-o",
        "x.webm",
    ]
    assert run(service, "generate", "--image", "image.png", *entities, *fields, *more).code == 0
    assert Path("x.webm").exists()

    def b64(name: str) -> dict[str, str]:
        return {"base64": base64.b64encode(name.encode()).decode()}

    assert service.seen[0].body == {
        "image": b64("image.png"),
        "entities": [
            {"trajectory": {"points": [[1.0, 2.0], [3.5, 4.0]]}, "mask": b64("a.png"), "label": "A"},
            {"trajectory": {"points": [[5.0, 6.0]]}, "mask": b64("b.png"), "label": "B"},
        ],
        "model": "svd",
        "num_frames": 5,
        "num_inference_steps": 3,
        "seed": 0,
        "hold_background": True,
        "max_guidance_scale": 2.5,
        "output": {"format": "webm", "overlay": False},
        "tier": "fast",
    }


def test_options_override_the_file_and_the_file_may_be_stdin(service: Service) -> None:
    scripted(service, DONE)
    assert run(service, "generate", "-", "--seed", "9", stdin='{"seed": 1, "entities": []}').code == 0
    assert service.seen[0].body == {"seed": 9, "entities": []}


def test_a_folder_gets_everything(service: Service) -> None:
    scripted(service, DONE)
    got = run(service, "generate", "-", "-o", "out", stdin="{}")
    assert got.out.split() == ["out/video.mp4", "out/overlay.mp4", "out/manifest.mp4"]


def test_the_overlay_alone_or_with_the_video(service: Service) -> None:
    scripted(service, DONE)
    assert run(service, "generate", "-", "--overlay", "o.mp4", stdin="{}").out.split() == ["o.mp4"]
    both = run(service, "generate", "-", "-o", "v.mp4", "--overlay", "o.mp4", stdin="{}")
    assert both.out.split() == ["v.mp4", "o.mp4"]
    assert [seen.query["artifact"] for seen in service.seen if seen.query] == ["overlay", "video", "overlay"]


def test_warnings_are_shown(service: Service) -> None:
    warning = {"code": "leaves", "detail": "It leaves [the image].", "pointer": "/entities/0/trajectory"}
    scripted(service, job("succeeded", warnings=[warning]))
    got = run(service, "generate", "-", stdin="{}")
    assert "warning: It leaves [the image]. (/entities/0/trajectory)\n" in got.err


def test_json_is_all_that_scripts_see(service: Service) -> None:
    scripted(service, running(1), DONE)
    got = run(service, "generate", "-", "--json", "-o", "v.mp4", stdin="{}")
    printed = json.loads(got.out)
    assert (printed["id"], printed["result"]["seed"], printed["files"]) == ("j1", 7, {"video": "v.mp4"})
    assert "denoising" in got.err


def test_detach_prints_the_id_at_once(service: Service) -> None:
    service.on("POST", "/v1/generate", Answer(job(), 202))
    assert run(service, "generate", "-", "--detach", stdin="{}").out == "j1\n"
    assert json.loads(run(service, "generate", "-", "--detach", "--json", stdin="{}").out)["status"] == "queued"


def test_watch_follows_and_saves_only_if_told(service: Service) -> None:
    scripted(service, running(1), DONE)
    assert run(service, "watch", "j1") == (0, "", "j1: denoising\nj1: succeeded\n")
    assert list(Path().iterdir()) == []
    assert run(service, "watch", "j1", "-o", "v.mp4").out == "v.mp4\n"


@pytest.mark.parametrize(("status", "code"), [("failed", 1), ("canceled", 4), ("expired", 4)])
def test_how_a_job_ends_is_the_exit_code(service: Service, status: str, code: int) -> None:
    scripted(service, job(status))
    got = run(service, "watch", "j1", "--json")
    assert got.code == code
    assert json.loads(got.out)["status"] == status
    assert f"error: job j1 {status}" in got.err


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem(401, "unauthorized", ""), 2),
        (problem(404, "not_found", ""), 2),
        (problem(500, "internal_error", ""), 3),
        (problem(503, "queue_full", "", headers={"Retry-After": "999"}), 3),
        (problem(429, "rate_limited", "", headers={"Retry-After": "999"}), 3),
        (Answer(b"<html>"), 3),
    ],
)
def test_what_the_service_says_is_the_exit_code(service: Service, answer: Answer, code: int) -> None:
    service.on("GET", "/v1/models", answer)
    got = run(service, "models")
    assert (got.code, got.out) == (code, "")
    assert got.err.startswith("error: ")


def test_wrong_fields_are_named_for_people(service: Service) -> None:
    errors = [{"pointer": "/entities/0/trajectory/points", "detail": "Too few [points]."}]
    service.on("POST", "/v1/generate", problem(422, "invalid_request", "One field is wrong.", errors=errors))
    got = run(service, "generate", "-", stdin="{}")
    assert got.code == 2
    assert got.err.splitlines() == [
        "error: One field is wrong. (422 invalid_request)",
        "  /entities/0/trajectory/points: Too few [points].",
    ]


def test_nobody_there(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("draganything_client._flows.backoff_s", lambda _: 0.0)
    service.on("GET", "/v1/jobs", Drop())
    got = run(service, "jobs")
    assert got.code == 3
    assert f"error: no answer from {service.url}" in got.err
    assert "--url" in got.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give SPEC.json, or --image"),
        (["missing.json"], "missing.json: No such file"),
        (["here.json", "--image", "here.json"], "not both"),
        (["--image", "here.json"], "--path for each entity"),
        (["--image", "here.json", "--path", "1,2 3"], "'1,2 3' is not of the form"),
        (
            ["--image", "here.json", "--path", "1,2", "--mask", "here.json", "--mask", "here.json"],
            "2 masks for 1 paths",
        ),
        (["--image", "here.json", "--path", "1,2", "--path", "1,2", "--label", "a"], "1 labels for 2 paths"),
        (["--image", "missing.png", "--path", "1,2"], "missing.png: No such file"),
        (["here.json", "--set", "seed"], "'seed' is not FIELD=VALUE"),
        (["here.json", "--set", "seed.deep=1"], "seed is not an object"),
        (["list.json"], "must hold a JSON object"),
        (["bad.json"], "bad.json is not JSON"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    for name, content in {"here.json": '{"seed": 1}', "list.json": "[]", "bad.json": "{"}.items():
        Path(name).write_text(content)
    got = run(None, "generate", *arguments)
    assert (got.code, got.out) == (2, "")
    assert message in got.err


def test_an_address_without_scheme_is_wrong_usage() -> None:
    got = run(None, "--url", "localhost:8000", "jobs")
    assert got.code == 2
    assert "http://" in got.err


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
    assert json.loads(run(service, "models", "--json").out) == {"models": [CARD | {"samplers": [], "tiers": []}]}


def test_preview_saves_the_animation(service: Service) -> None:
    picture = {"base64": base64.b64encode(b"picture").decode(), "format": "webp"}
    body = {"animation": picture, "num_frames": 14, "points": [], "radii": [], "warnings": []}
    service.on("POST", "/v1/preview", Answer(body | {"estimate": {"seconds": 3.2}}))
    assert run(service, "preview", "-", stdin="{}").out == "preview.webp: 14 frames, about 3 s to make\n"
    assert Path("preview.webp").read_bytes() == b"picture"
    printed = json.loads(run(service, "preview", "-", "--json", "-o", "deep/x.webp", stdin="{}").out)
    assert base64.b64decode(printed["animation"]["base64"]) == b"picture"
    assert Path("deep/x.webp").exists()


def test_the_key_comes_from_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGANYTHING_API_KEY", "k")
    monkeypatch.setenv("DRAGANYTHING_URL", service.url)
    service.on("GET", "/v1/jobs", Answer({"jobs": []}))
    assert run(None, "jobs").code == 0
    assert service.seen[0].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize("command", ["", "generate", "watch", "cancel", "jobs", "models", "preview"])
def test_help(command: str) -> None:
    got = run(None, *command.split(), "-h")
    assert got.code == 0
    assert ("Exit codes" in got.out) == (command == "")


def test_other_packages_add_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    extra = typer.Typer()

    @extra.command()
    def hello(name: str) -> None:
        typer.echo(f"hello {name}")

    @extra.command()
    def fail() -> None:
        raise NotFound(Problem(status=404, detail="Gone."))

    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> typer.Typer:
            return extra

    entries = [Entry("local"), Entry("models")]
    monkeypatch.setattr(cli, "entry_points", lambda group: entries if group == "draganything.commands" else [])
    for group in (cli.app, cli.models_app):
        monkeypatch.setattr(group, "registered_groups", [*group.registered_groups])
    for arguments, code in ((["hello", "you"], 0), (["models", "hello", "you"], 0), (["fail"], 2)):
        monkeypatch.setattr(sys, "argv", ["draganything", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
    printed = capsys.readouterr()
    assert printed.out == "hello you\nhello you\n"
    assert "Gone." in printed.err


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
