"""``replay``: the same video again, and whether it is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from .. import _outcome as outcome
from .._bar import err
from .._options import JsonFlag, Output, argument, option
from .._types import Manifest

File = Annotated[Path, argument("MANIFEST.json", "The manifest of a job.")]
Image = Annotated[
    Path | None, option("--image", metavar="FILE", help="The first frame, where it is stored no longer.")
]
Masks = Annotated[
    list[Path] | None,
    option("--mask", metavar="FILE", help="The masks, likewise: one for each entity, in the manifest's order."),
]
Strict = Annotated[bool, option("--strict", help="End with exit code 5 if the frames are not identical.")]


def replay(
    ctx: typer.Context,
    file: File,
    image: Image = None,
    mask: Masks = None,
    output: Output = None,
    strict: Strict = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the video of a manifest again and compare the frames.

    Uses the inputs that the service has stored, or else the files that are given, which must be the same ones. On
    the same device and versions the frames are identical; where they are not, it tells what differs.
    """
    document, before = _load(file)
    with ctx.obj.client() as client:
        try:
            queued = client.replay(document, image, mask or ())
        except OSError as error:
            raise typer.BadParameter(f"{error.filename}: {error.strerror}") from error
        job = outcome.wait(client, queued, as_json)
        saved = outcome.save(client, job, output)
        after = client.manifest(job)
    identical = before.frames_sha256 == after.frames_sha256
    differences = compare(before, after)
    outcome.report(job, saved, as_json, identical=identical, differences=differences)
    if identical:
        err.print("identical: every frame is that of the manifest", style="green")
    else:
        because = "; ".join(differences) or "although versions, device and weights are the same"
        err.print(f"different frames: {because}", style="yellow", markup=False, soft_wrap=True)
    if strict and not identical:
        raise typer.Exit(outcome.DIFFERENT)


def compare(before: Manifest, after: Manifest) -> list[str]:
    """What decides the frames and is not the same in two manifests: ``"torch 2.13.0 then, 2.14.0 now"``."""
    then, now = (
        {"device": made.model.device, "dtype": made.model.dtype, **made.versions} for made in (before, after)
    )
    differ = [
        f"{name} {then.get(name, 'unknown')} then, {now.get(name, 'unknown')} now"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]
    if before.model.weights_sha256 != after.model.weights_sha256:
        differ.append("other weights")
    return differ


def _load(file: Path) -> tuple[dict[str, object], Manifest]:
    try:
        document = json.loads(file.read_bytes())
        return document, Manifest.model_validate(document)
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="MANIFEST.json") from error
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise typer.BadParameter(f"{file} is no manifest: {place or 'it'} is wrong or missing") from error
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}", param_hint="MANIFEST.json") from error
