"""segment and replay."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.client.command import run
from tests.unit.client.scripted import (
    DONE,
    MANIFEST,
    Answer,
    Service,
    Stream,
    event,
    job,
)

pytestmark = pytest.mark.usefixtures("elsewhere")


FOUND = {"mask": {"base64": base64.b64encode(b"mask").decode()}, "rle": {"size": [1, 3], "counts": [1, 2]}}


def test_segment(service: Service) -> None:
    service.on("POST", "/v1/segment", Answer(FOUND | {"score": 0.83, "engine": "contours-1"}))
    Path("image.png").write_bytes(b"image")
    clicks = ["--point", "1,2", "--point", "3.5,4", "--not", "5,6", "--box", "0,0,9,9"]
    got = run(service, "segment", "image.png", *clicks)
    assert (got.code, got.out) == (0, "mask.png: right by 83% (IoU), says contours-1\n")
    assert Path("mask.png").read_bytes() == b"mask"
    assert service.seen[0].body == {
        "image": {"base64": base64.b64encode(b"image").decode()},
        "points": [{"x": 1, "y": 2, "label": 1}, {"x": 3.5, "y": 4, "label": 1}, {"x": 5, "y": 6, "label": 0}],
        "box": [0, 0, 9, 9],
    }
    printed = json.loads(run(service, "segment", "image.png", "--point", "1,2", "--json", "-o", "deep/m.png").out)
    assert printed == {"rle": FOUND["rle"], "score": 0.83, "engine": "contours-1", "files": {"mask": "deep/m.png"}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["here.json"], "say what is meant"),
        (["here.json", "--not", "1,2"], "say what is meant"),
        (["here.json", "--point", "1"], "'1' is not of the form X,Y"),
        (["here.json", "--point", "1,y"], "'1,y' is not of the form X,Y"),
        (["here.json", "--box", "1,2,3"], "'1,2,3' is not of the form X0,Y0,X1,Y1"),
        (["missing.png", "--point", "1,2"], "missing.png: No such file"),
    ],
)
def test_segment_needs_to_know_what_is_meant(arguments: list[str], message: str) -> None:
    Path("here.json").write_text("{}")
    got = run(None, "segment", *arguments)
    assert (got.code, got.out) == (2, "")
    assert message in got.err


def replayable(service: Service, **after: Any) -> None:
    """A finished replay whose manifest has ``after``."""
    service.on("POST", "/v1/replay", Answer(job(), 202))
    service.on("GET", "/v1/jobs/j1/events", Stream([event(DONE)]))
    video = Answer(b"V", headers={"Content-Type": "video/mp4"})
    service.on("GET", "/v1/jobs/j1/result", video, Answer(MANIFEST | after))
    Path("manifest.json").write_text(json.dumps(MANIFEST))


def test_a_replay_that_is_identical(service: Service) -> None:
    replayable(service)
    Path("image.png").write_bytes(b"image")
    got = run(service, "replay", "manifest.json", "--image", "image.png", "--mask", "image.png", "--strict")
    assert (got.code, got.out) == (0, "j1.mp4\n")
    assert "identical: every frame is that of the manifest\n" in got.err
    image = {"base64": base64.b64encode(b"image").decode()}
    assert service.seen[0].body == {"manifest": MANIFEST, "image": image, "masks": [image]}


@pytest.mark.parametrize(("strict", "code"), [([], 0), (["--strict"], 5)])
def test_a_replay_that_is_not(service: Service, strict: list[str], code: int) -> None:
    there = MANIFEST["model"] | {"device": "cuda"}
    replayable(service, frames_sha256="0" * 64, versions=MANIFEST["versions"] | {"torch": "2.14.0"}, model=there)
    got = run(service, "replay", "manifest.json", "--json", *strict)
    printed = json.loads(got.out)
    differences = ["device cpu then, cuda now", "torch 2.13.0 then, 2.14.0 now"]
    assert (got.code, printed["identical"], printed["differences"]) == (code, False, differences)
    assert "different frames: device cpu then, cuda now; torch 2.13.0 then, 2.14.0 now\n" in got.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is no manifest"),
        ('{"format": "x"}', "is no manifest: request"),
        (None, "No such file"),
    ],
)
def test_a_replay_takes_a_manifest(content: str | None, message: str) -> None:
    if content:
        Path("m.json").write_text(content)
    got = run(None, "replay", "m.json")
    assert (got.code, got.out) == (2, "")
    assert message in got.err
