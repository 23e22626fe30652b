"""The commands that take a request: generate, preview, batch."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.client.command import run, scripted
from tests.unit.client.scripted import (
    DONE,
    Answer,
    Service,
    job,
    result,
    running,
)

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_generate_from_a_file_saves_the_video_under_its_id(service: Service) -> None:
    scripted(service, job(), running(1), DONE)
    Path("spec.json").write_text('{"image": {}, "seed": 1}')
    got = run(service, "generate", "spec.json")
    assert (got.code, got.out) == (0, "j1.mp4\n")
    assert Path("j1.mp4").read_bytes() == b"VIDEO"
    assert service.seen[0].body == {"image": {}, "seed": 1}
    assert got.err.splitlines() == ["j1: queued", "j1: denoising", "j1: succeeded"]


def test_generate_goes_on_from_an_earlier_video(service: Service) -> None:
    scripted(service, DONE)
    assert run(service, "generate", "--extends", "a1", "--label", "bird", "--path", "1,2 3,4").code == 0
    entity = {"trajectory": {"points": [[1.0, 2.0], [3.0, 4.0]]}, "label": "bird"}
    assert service.seen[0].body == {"extends": "a1", "entities": [entity]}


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give SPEC.json, or --image"),
        (["--image", "here.json", "--extends", "a1", "--path", "1,2"], "give SPEC.json, or --image"),
        (["here.json", "--extends", "a1"], "not both"),
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


def test_preview_saves_the_animation(service: Service) -> None:
    picture = {"base64": base64.b64encode(b"picture").decode(), "format": "webp"}
    body = {"animation": picture, "num_frames": 14, "points": [], "radii": [], "warnings": []}
    service.on("POST", "/v1/preview", Answer(body | {"estimate": {"seconds": 3.2}}))
    assert run(service, "preview", "-", stdin="{}").out == "preview.webp: 14 frames, about 3 s to make\n"
    assert Path("preview.webp").read_bytes() == b"picture"
    printed = json.loads(run(service, "preview", "-", "--json", "-o", "deep/x.webp", stdin="{}").out)
    assert base64.b64decode(printed["animation"]["base64"]) == b"picture"
    assert Path("deep/x.webp").exists()


SPEC = '{"image": {}, "entities": []}'


def batch(*jobs: dict[str, Any]) -> dict[str, Any]:
    ended = all(made["status"] not in ("queued", "running") for made in jobs)
    counts: dict[str, int] = {}
    for made in jobs:
        counts[made["status"]] = counts.get(made["status"], 0) + 1
    status = "ended" if ended else "running"
    return {"id": "b1", "status": status, "counts": counts, "fraction": 0.5, "eta_s": 3.2, "jobs": list(jobs)}


def taken(seed: int, job_id: str) -> dict[str, Any]:
    return job("succeeded", job_id, result=result(seed=seed))


def test_a_batch_of_seeds_is_saved_by_them(service: Service) -> None:
    service.on("POST", "/v1/batches", Answer(batch(job(), job("queued", "j2"), job("queued", "j3")), 202))
    ended = batch(taken(1, "j1"), taken(5, "j2"), taken(6, "j3"))
    service.on("GET", "/v1/batches/b1", Answer(batch(running(1), taken(5, "j2"), taken(6, "j3"))), Answer(ended))
    for job_id in ("j1", "j2", "j3"):
        service.on(
            "GET", f"/v1/jobs/{job_id}/result", Answer(job_id.encode(), headers={"Content-Type": "video/mp4"})
        )
    got = run(service, "batch", "-", "--seeds", "1, 5-6", "-o", "takes", stdin=SPEC)
    assert (got.code, got.out.split()) == (0, ["takes/seed-1.mp4", "takes/seed-5.mp4", "takes/seed-6.mp4"])
    assert Path("takes/seed-5.mp4").read_bytes() == b"j2"
    assert service.seen[0].body == {"request": {"image": {}, "entities": []}, "seeds": [1, 5, 6]}
    assert got.err.splitlines() == ["b1: 1 running, 2 succeeded", "b1: 3 succeeded"]
    printed = json.loads(run(service, "batch", "-", "--seeds", "1", "--json", stdin=SPEC).out)
    assert printed["files"] == {name: f"b1/seed-{seed}.mp4" for name, seed in (("j1", 1), ("j2", 5), ("j3", 6))}


@pytest.mark.parametrize(("other", "code"), [("failed", 1), ("canceled", 4)])
def test_a_batch_saves_what_there_is_and_tells_the_rest(service: Service, other: str, code: int) -> None:
    service.on("POST", "/v1/batches", Answer(batch(job()), 202))
    service.on("GET", "/v1/batches/b1", Answer(batch(job(other), taken(2, "j2"), job("failed", "j3"))))
    service.on("GET", "/v1/jobs/j2/result", Answer(b"V", headers={"Content-Type": "video/mp4"}))
    got = run(service, "batch", "-", "--seeds", "1-3", stdin=SPEC)
    assert (got.code, got.out) == (code, "b1/seed-2.mp4\n")
    assert f"error: job j1 {other}" in got.err
    assert "error: job j3 failed" in got.err


def test_a_batch_may_be_left_alone(service: Service) -> None:
    service.on("POST", "/v1/batches", Answer(batch(job()), 202))
    assert run(service, "batch", "-", "--seeds", "1", "--detach", stdin=SPEC).out == "b1\n"
    assert (
        json.loads(run(service, "batch", "-", "--seeds", "1", "--detach", "--json", stdin=SPEC).out)["id"] == "b1"
    )


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "say which seeds"),
        (["--seeds", "1,x"], "not of the form 1,2,5-8"),
        (["--seeds", "1-99999999999999"], "1 to 64"),
        (["--seeds", "3-1"], "1 to 64"),
    ],
)
def test_a_batch_needs_seeds(seeds: list[str], message: str) -> None:
    got = run(None, "batch", "-", *seeds, stdin=SPEC)
    assert (got.code, got.out) == (2, "")
    assert message in got.err


def test_preview_takes_the_fields_that_generate_takes(service: Service) -> None:
    picture = {"base64": base64.b64encode(b"picture").decode(), "format": "webp"}
    warning = {"code": "leaves", "detail": "It leaves.", "pointer": "/entities/0/trajectory"}
    body = {
        "animation": picture,
        "num_frames": 5,
        "points": [],
        "warnings": [warning],
        "estimate": {"seconds": None},
    }
    service.on("POST", "/v1/preview", Answer(body))
    fields = ["--frames", "5", "--seed", "3", "--steps", "2", "--model", "m", "--no-hold-background"]
    got = run(service, "preview", "-", *fields, stdin="{}")
    assert (got.code, got.out) == (0, "preview.webp: 5 frames\n")
    assert got.err == "warning: It leaves. (/entities/0/trajectory)\n"
    asked = {"num_frames": 5, "seed": 3, "num_inference_steps": 2, "model": "m", "hold_background": False}
    assert service.seen[0].body == asked
