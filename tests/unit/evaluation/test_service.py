"""Videos of a benchmark that a service makes: what it is asked, part by part."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from draganything_client import FieldError, InvalidRequest, Job, Problem
from PIL import Image

from evaluation.clips import Clip
from evaluation.makers import Service, stretch
from evaluation.videos import VideosMissing

FRAMES = np.random.default_rng(1).integers(0, 256, (3, 64, 96, 3), np.uint8)
MASKS = np.zeros((2, 64, 96), bool)
MASKS[0, 10:20, 10:20] = MASKS[1, 40:50, 40:50] = True
TRACKS = np.array([[[15, 15], [20, 15], [25, 15]], [[45, 45], [45, 40], [45, 35.0]]])
CLIP = Clip("a", FRAMES, MASKS, TRACKS, MASKS[:, None].repeat(3, axis=1), np.zeros(2, bool), (96, 64))


class Refusing:
    """A client whose service finds the named entities in no earlier video, one refusal at a time."""

    def __init__(self, **lost: str) -> None:
        self.lost = lost
        self.asked: list[dict[str, Any]] = []
        self.frames = 1

    def generate(self, request: dict[str, Any]) -> Job:
        for place, entity in enumerate(request["entities"]):
            if "extends" in request and entity["label"] in self.lost:
                told = (FieldError(f"/entities/{place}/{self.lost[entity['label']]}", "not found"),)
                raise InvalidRequest(Problem(status=422, code="invalid_request", errors=told))
        self.asked.append(request)
        self.frames += request["num_frames"] - 1
        return Job(id=f"job-{len(self.asked)}", status="succeeded")

    def wait(self, job: Job) -> Job:
        return job

    def download(self, job: Job, folder: str, artifacts: list[str]) -> dict[str, Path]:
        assert (job.id, artifacts) == (f"job-{len(self.asked)}", ["frames"])
        with zipfile.ZipFile(Path(folder) / "frames.zip", "w") as archive:
            for index in range(self.frames):
                file = io.BytesIO()
                Image.fromarray(np.roll(FRAMES[0], index, axis=1)).save(file, "PNG")
                archive.writestr(f"{index:05d}.png", file.getvalue())
        return {"frames": Path(folder) / "frames.zip"}


def service(client: Refusing) -> Service:
    return Service(client, "tiny", steps=2)  # type: ignore[arg-type]


def labels(client: Refusing) -> list[list[str]]:
    return [[entity["label"] for entity in request["entities"]] for request in client.asked]


def test_parts_extend_each_other() -> None:
    client = Refusing()
    made = service(client).make(CLIP, "gaussian", stretch(TRACKS, 2), 2)
    assert len(made) == 5
    assert (made[4] == np.roll(FRAMES[0], 4, axis=1)).all()
    first, second = client.asked
    assert (first["width"], first["height"], first["num_frames"], first["model"]) == (96, 64, 3, "tiny")
    assert [entity["control"] for entity in first["entities"]] == ["point", "point"]
    assert all("mask" in entity for entity in first["entities"])
    assert (second["extends"], "image" in second, "width" in second) == ("job-1", False, False)
    assert not any("mask" in entity for entity in second["entities"])
    paths = [[entity["trajectory"]["points"] for entity in request["entities"]] for request in client.asked]
    assert np.concatenate([paths[0], np.array(paths[1])[:, 1:]], axis=1).tolist() == stretch(TRACKS, 2).tolist()


@pytest.mark.parametrize("field", ["mask", "label"])
def test_what_the_service_has_lost_is_left_out(field: str) -> None:
    client = Refusing(**{"0": field})
    assert len(service(client).make(CLIP, "full", stretch(TRACKS, 3), 3)) == 7
    assert labels(client) == [["0", "1"], ["1"], ["1"]]


def test_once_all_are_lost_the_last_frame_stands_still() -> None:
    client = Refusing(**{"0": "mask", "1": "mask"})
    made = service(client).make(CLIP, "none", stretch(TRACKS, 3), 3)
    assert labels(client) == [["0", "1"]]
    assert client.asked[0]["control_scale"] == 0
    assert len(made) == 7
    assert (made[3:] == made[2]).all()
    assert (made[2] != made[1]).any()


def test_what_it_refuses_otherwise_is_told_with_the_clip() -> None:
    client = Refusing(**{"0": "trajectory"})
    with pytest.raises(VideosMissing, match=r"a: .*\n.*not found"):
        service(client).make(CLIP, "full", stretch(TRACKS, 2), 2)
    with pytest.raises(VideosMissing, match="no control without Gaussians"):
        service(client).make(CLIP, "entity", TRACKS, 1)
