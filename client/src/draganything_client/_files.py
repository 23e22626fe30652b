"""Files that travel beside the calls: large images to the service, artifacts from it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from ._flows import (
    Emit,
    Flow,
    Read,
    Send,
    Sleep,
    Steps,
    backoff_s,
    call,
    job_path,
    parsed,
    rater_path,
    unreachable,
)
from ._types import Ballot, Job, Json, Study, Upload

ARTIFACTS = ("video", "overlay", "manifest")
UPLOAD_ABOVE = 4 * 2**20
"""Characters of base64 in a request above which its images are put beside it."""
PIECE = 2**16

_SUFFIXES = {
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/jpeg": ".jpg",
    "application/json": ".json",
    "application/zip": ".zip",
}


def upload(image: Path | bytes, retries: int) -> Flow[Upload]:
    """Announce an image, then put it where the service says."""
    yield Emit((yield from _put(image, retries)))


def _put(image: Path | bytes, retries: int) -> Steps[Upload]:
    media_type, size = _look(image)
    announced = Send("POST", "/v1/uploads", {"content_type": media_type, "bytes": size})
    made = parsed(Upload, (yield from call(announced, retries)).content)
    headers = {**made.headers, "Content-Length": str(size)}  # S3 takes no chunks of unknown number
    yield from call(Send("PUT", _target(made), content=image, headers=headers), retries)
    return made


def _look(image: Path | bytes) -> tuple[str, int]:
    """Media type and length of an image file.

    Raises:
        ValueError: it is none that the service takes.
    """
    if isinstance(image, bytes):
        start, size = image[:12], len(image)
    else:
        with image.open("rb") as file:
            start, size = file.read(12), image.stat().st_size
    media_type = _media_type(start)
    if media_type is None:
        raise ValueError(f"{image if isinstance(image, Path) else 'the image'} is not a PNG, JPEG or WebP file")
    return media_type, size


def _media_type(start: bytes) -> str | None:
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if start.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if start[:4] == b"RIFF" and start[8:12] == b"WEBP" else None


def _target(made: Upload) -> str:
    """Where to put: the object store's presigned address, or the service itself, by the address we know it by."""
    own = f"/v1/uploads/{made.upload}"
    return own if urlsplit(made.put_url).path.endswith(own) else made.put_url


def lighten(requests: Sequence[Json], retries: int) -> Steps[list[Json]]:
    """The requests, with their images put beside them where they are large together; equal ones are put once."""
    texts = [_text(request) for request in requests]
    if sum(map(len, texts)) <= UPLOAD_ABOVE:
        return list(requests)
    put: dict[str, Json] = {}
    for text in dict.fromkeys(texts):
        if text and (content := _decoded(text)):
            put[text] = (yield from _put(content, retries)).source
    return [
        {**request, "image": put[text]} if text in put else request
        for request, text in zip(requests, texts, strict=True)
    ]


def _text(request: Json) -> str:
    image = request.get("image")
    text = image.get("base64") if isinstance(image, Mapping) else None
    return text if isinstance(text, str) else ""


def _decoded(text: str) -> bytes | None:
    """The image file; None where the text is none, which the service explains better."""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return content if _media_type(content[:12]) else None


def download(
    job: Job | str, destination: Path, artifacts: Sequence[str] | None, retries: int
) -> Flow[dict[str, Path]]:
    """Save artifacts into a folder under their own names, or one of them as a file."""
    folder = destination.is_dir() or not destination.suffix
    if artifacts is None:
        artifacts = (yield from _available(job, retries)) if folder else ("video",)
    if not folder and len(artifacts) != 1:
        raise ValueError(f"{destination} is one file: name a folder for {', '.join(artifacts) or 'nothing'}")
    saved = {}
    for artifact in artifacts:
        asked = Send("GET", job_path(job, "result"), params={"artifact": artifact}, stream=True)
        saved[artifact] = yield from _save(asked, artifact, destination, folder, retries)
    yield Emit(saved)


def download_ballot(link: Study | str, ballot: Ballot, folder: Path, retries: int) -> Flow[dict[str, Path]]:
    """Save the two videos of a ballot as ``left`` and ``right``."""
    saved = {}
    for side in ("left", "right") if ballot.place is not None else ():
        path = rater_path(link, "raters", ballot.rater, str(ballot.place), side)
        saved[side] = yield from _save(Send("GET", path, stream=True), side, folder, True, retries)
    yield Emit(saved)


def _available(job: Job | str, retries: int) -> Steps[Sequence[str]]:
    if isinstance(job, str) or job.result is None:  # perhaps from before the job had ended
        response = yield from call(Send("GET", job_path(job)), retries)
        job = parsed(Job, response.content)
    links = job.result
    return [name for name in ARTIFACTS if name == "video" or getattr(links, f"{name}_url", None)]


def _save(asked: Send, name: str, destination: Path, folder: bool, retries: int) -> Steps[Path]:
    attempt = 0
    while True:
        response = yield from call(asked, retries)
        media_type = response.headers.get("Content-Type", "").partition(";")[0]
        path = destination / (name + _SUFFIXES.get(media_type, ".bin")) if folder else destination
        try:
            yield from _write(path)
        except httpx.RequestError as failure:
            if attempt >= retries:
                raise unreachable(failure) from failure
        else:
            return path
        yield Sleep(backoff_s(attempt))
        attempt += 1


def _write(path: Path) -> Steps[None]:
    """Write what is read beside ``path`` first: a broken download leaves nothing half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            while chunk := (yield Read()):
                file.write(chunk)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
