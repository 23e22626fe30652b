from __future__ import annotations

import hashlib
import json

import numpy as np

from jobs.manifest import FORMAT, Manifest
from jobs.spec import JobSpec
from model.presets import Defaults, ModelCard
from tests.unit.jobs.specs import make_result, make_spec
from worker.manifest import manifest

CARD = ModelCard(
    name="tiny",
    defaults=Defaults(),
    licences={"svd": "Apache-2.0"},
    weights_sha256={"combined": "1" * 64, "svd/unet": "2" * 64},
    parameters=1,
    dtype="float32",
    device="cpu",
)


def test_everything_that_decides_the_frames() -> None:
    spec = make_spec(seed=2**63 - 1)
    frames = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    artifacts = make_result().artifacts
    document = json.loads(manifest(spec, CARD, frames, artifacts, {"denoising": 1.5}))

    assert document["format"] == FORMAT
    assert Manifest.model_validate(document).request == spec
    assert JobSpec.model_validate(document["request"]) == spec
    assert document["model"]["weights_sha256"] == CARD.weights_sha256
    assert {"name", "device", "dtype", "licences"} < set(document["model"])
    assert {"python", "torch", "diffusers", "draganything"} < set(document["versions"])
    assert document["frames_sha256"] == hashlib.sha256(bytes(range(96))).hexdigest()
    video = artifacts["video"]
    assert document["artifacts"] == {
        "video": {"media_type": "video/mp4", "bytes": video.bytes, "sha256": video.sha256}
    }
    assert document["timings_s"] == {"denoising": 1.5}


def test_labels_stay_readable() -> None:
    spec = make_spec()
    named = spec.model_copy(update={"entities": [spec.entities[0].model_copy(update={"label": "Vögel 鳥"})]})
    text = manifest(named, CARD, np.zeros((1, 2, 2, 3), np.uint8), {}, {}).decode()
    assert "Vögel 鳥" in text
