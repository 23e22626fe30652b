"""What it takes to make a video again, as a worker writes it beside the video and a user hands it back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.spec import JobSpec

FORMAT: Literal["draganything.manifest.v1"] = "draganything.manifest.v1"

Name = Annotated[str, Field(max_length=64)]
Text = Annotated[str, Field(max_length=128)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ManifestModel(_Part):
    """The model that rendered; ``weights_sha256`` has a hash for each component, and ``combined``."""

    name: Name
    weights_sha256: dict[Name, Text]
    device: Text = ""
    dtype: Text = ""


class Manifest(_Part):
    """As much of a manifest as decides the frames; its other fields are for people."""

    format: Literal["draganything.manifest.v1"]
    request: JobSpec
    model: ManifestModel
    versions: dict[Name, Text] = {}
    frames_sha256: Text
