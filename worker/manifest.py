"""The manifest: everything that is needed to make the same video again, and to check that it is the same."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jobs.manifest import FORMAT
from jobs.spec import JobSpec
from jobs.state import Artifact, Scores

if TYPE_CHECKING:
    from model.presets import ModelCard

PACKAGES = ("draganything", "torch", "diffusers", "transformers", "numpy", "opencv-python-headless", "av")


def versions() -> dict[str, str]:
    """Of everything here that decides the frames."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def manifest(
    spec: JobSpec,
    card: ModelCard,
    frames: NDArray[np.uint8],
    artifacts: dict[str, Artifact],
    timings_s: dict[str, float],
    scores: Scores | None = None,
) -> bytes:
    """A JSON document. ``frames_sha256`` is the hash of the raw RGB frames [F, H, W, 3], before any encoder."""
    document = {
        "format": FORMAT,
        "request": spec.model_dump(mode="json"),
        "model": asdict(card),
        "versions": versions(),
        "frames_sha256": hashlib.sha256(frames.tobytes()).hexdigest(),
        "artifacts": {name: artifact.model_dump(exclude={"key"}) for name, artifact in artifacts.items()},
        "timings_s": timings_s,
        "scores": None if scores is None else scores.model_dump(mode="json"),
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode()
