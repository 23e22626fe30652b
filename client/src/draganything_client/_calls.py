"""What the two clients have in common: their configuration, and the flow of each call."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from . import _files as files
from . import _following as following
from ._flows import A, Emit, Flow, Send, batch_path, call, create, fetch, job_path, rater_path, study_path
from ._spec import Mask, image_source, mask_source
from ._types import (
    Ballot,
    Batch,
    Choice,
    Job,
    Json,
    Manifest,
    Models,
    Page,
    Preview,
    Segment,
    Status,
    Study,
    Upload,
)

DEFAULT_URL = "http://127.0.0.1:8000"
Image = str | Path | bytes | Upload
"""An image file by its path or its bytes, the ``https://`` address of one, or an upload."""
Click = tuple[float, float] | tuple[float, float, int]


class Calls:
    """The flows of all calls, and what both clients are configured with."""

    def __init__(
        self, base_url: str | None, api_key: str | None, timeout: float, retries: int, clock: Callable[[], float]
    ) -> None:
        self.base_url = (base_url or os.environ.get("DRAGANYTHING_URL") or DEFAULT_URL).rstrip("/")
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must start with http:// or https://, not {self.base_url!r}")
        key = api_key or os.environ.get("DRAGANYTHING_API_KEY")
        self.timeout, self.retries, self.clock = timeout, retries, clock
        self.options: dict[str, Any] = {
            "base_url": self.base_url,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": timeout,
            "follow_redirects": True,
            "mounts": dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]")),  # by no proxy
        }

    def build(self, http: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
        content: Any = send.content
        if isinstance(content, Path):
            content = _pieces(content) if isinstance(http, httpx.Client) else _awaited(_pieces(content))
        request = http.build_request(
            send.method,
            send.path,
            json=send.body,
            content=content,
            params=send.params or None,  # an empty one would erase those of the path
            headers=send.headers,
            timeout=httpx.Timeout(self.timeout, read=send.read_timeout_s or self.timeout),
        )
        if "://" in send.path:  # another server's: the key is not for it
            request.headers.pop("Authorization", None)
        return request

    def generate(self, spec: Json, key: str | None, wait: float | None) -> Flow[Job]:
        # with a key of the user's the body stays as it is: repeated, it must be the same, and uploads never are
        [body] = [spec] if key else (yield from files.lighten([spec], self.retries))
        yield from create("/v1/generate", body, Job, key, wait, self.timeout, self.retries)

    def generate_batch(
        self, specs: Json | Sequence[Json], seeds: Sequence[int] | None, key: str | None
    ) -> Flow[Batch]:
        requests = [specs] if isinstance(specs, Mapping) else list(specs)
        if seeds is not None and len(requests) != 1:
            raise ValueError("seeds vary one request: give one, or leave seeds out")
        if key is None:
            requests = yield from files.lighten(requests, self.retries)
        body = {"requests": requests} if seeds is None else {"request": requests[0], "seeds": list(seeds)}
        yield from create("/v1/batches", body, Batch, key, None, self.timeout, self.retries)

    def replay(
        self, manifest: Json | str | Path, image: Image | None, masks: Sequence[Mask | None], key: str | None
    ) -> Flow[Job]:
        held = manifest if isinstance(manifest, Mapping) else json.loads(Path(manifest).read_bytes())
        body: Json = {"manifest": held}
        if image is not None:
            body = {**body, "image": image_source(image)}
        if masks:
            body = {**body, "masks": [None if mask is None else mask_source(mask) for mask in masks]}
        if key is None:
            [body] = yield from files.lighten([body], self.retries)
        yield from create("/v1/replay", body, Job, key, None, self.timeout, self.retries)

    def job(self, job: Job | str) -> Flow[Job]:
        return self._fetch(Send("GET", job_path(job)), Job)

    def batch(self, batch: Batch | str) -> Flow[Batch]:
        return self._fetch(Send("GET", batch_path(batch)), Batch)

    def follow(self, job: Job | str, timeout: float | None) -> Flow[Job]:
        return following.follow(_id(job), timeout, self.clock, self.retries)

    def follow_batch(self, batch: Batch | str, timeout: float | None) -> Flow[Batch]:
        return following.follow_batch(_id(batch), timeout, self.clock, self.retries)

    def cancel(self, job: Job | str) -> Flow[Job]:
        return self._fetch(Send("POST", job_path(job, "cancel")), Job)

    def cancel_batch(self, batch: Batch | str) -> Flow[Batch]:
        return self._fetch(Send("POST", batch_path(batch, "cancel")), Batch)

    def delete(self, job: Job | str) -> Flow[None]:
        yield from call(Send("DELETE", job_path(job)), self.retries)
        yield Emit(None)

    def jobs(self, status: Status | None, limit: int | None, after: str | None) -> Flow[Page]:
        given = {"status": status, "limit": limit, "after": after}
        params = {name: value for name, value in given.items() if value is not None}
        return self._fetch(Send("GET", "/v1/jobs", params=params), Page)

    def models(self) -> Flow[Models]:
        return self._fetch(Send("GET", "/v1/models"), Models)

    def download(
        self, job: Job | str, destination: str | Path, artifacts: Sequence[str] | None
    ) -> Flow[dict[str, Path]]:
        return files.download(job, Path(destination), artifacts, self.retries)

    def manifest(self, job: Job | str) -> Flow[Manifest]:
        return self._fetch(Send("GET", job_path(job, "result"), params={"artifact": "manifest"}), Manifest)

    def upload(self, image: str | Path | bytes) -> Flow[Upload]:
        return files.upload(image if isinstance(image, bytes) else Path(image), self.retries)

    def preview(self, spec: Json) -> Flow[Preview]:
        return self._fetch(Send("POST", "/v1/preview", spec), Preview)

    def segment(self, image: Image, points: Sequence[Click], box: Sequence[float] | None) -> Flow[Segment]:
        body: dict[str, Any] = {"image": image_source(image)}
        if points:
            body["points"] = [dict(zip(("x", "y", "label"), point, strict=False)) for point in points]
        if box is not None:
            body["box"] = list(box)
        return self._fetch(Send("POST", "/v1/segment", body), Segment)

    def create_study(
        self, pairs: Sequence[tuple[Job | str, Job | str]], names: tuple[str, str], title: str
    ) -> Flow[Study]:
        jobs = [{"a": _id(a), "b": _id(b)} for a, b in pairs]
        body: Json = {"pairs": jobs, "names": list(names), "title": title}
        return self._fetch(Send("POST", "/v1/studies", body), Study)

    def study(self, study: Study | str) -> Flow[Study]:
        return self._fetch(Send("GET", study_path(study)), Study)

    def ballot(self, link: Study | str, rater: str | None) -> Flow[Ballot]:
        return self._fetch(Send("GET", rater_path(link, "next"), params={"rater": rater} if rater else {}), Ballot)

    def download_ballot(self, link: Study | str, ballot: Ballot, folder: str | Path) -> Flow[dict[str, Path]]:
        return files.download_ballot(link, ballot, Path(folder), self.retries)

    def vote(self, link: Study | str, ballot: Ballot, motion: Choice, quality: Choice) -> Flow[Ballot]:
        body: Json = {"rater": ballot.rater, "place": ballot.place, "motion": motion, "quality": quality}
        return self._fetch(Send("POST", rater_path(link, "votes"), body), Ballot)

    def _fetch(self, request: Send, kind: type[A]) -> Flow[A]:
        return fetch(request, kind, self.retries)


def _id(of: Job | Batch | str) -> str:
    return of if isinstance(of, str) else of.id


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(files.PIECE):
            yield piece


async def _awaited(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
