"""The client that waits in the thread; ``_async_client`` has its twin. The flows are the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Self, TypeVar

import httpx

from . import _following as following
from ._calls import Calls, Click, Image
from ._flows import Emit, Flow, Read, Send, Sleep
from ._spec import Mask
from ._types import (
    Ballot,
    Batch,
    Choice,
    Job,
    Json,
    Manifest,
    Model,
    Page,
    Preview,
    Segment,
    Status,
    Study,
    Upload,
)

T = TypeVar("T")


class Client:
    """A synchronous client; may be shared between threads.

    Args:
        base_url: left out, ``$DRAGANYTHING_URL`` or ``http://127.0.0.1:8000``.
        api_key: left out, ``$DRAGANYTHING_API_KEY`` or none.
        timeout: seconds for a connection, and between two pieces of an answer.
        retries: how often a call is repeated after a connection error, 429, 502, 503 or 504.
        transport: how to speak HTTP; for tests and proxies.
        sleep, clock: what time is; for tests.

    Every call raises ``APIError`` where the service says no and ``ConnectionFailed`` where it says nothing.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = Calls(base_url, api_key, timeout, retries, clock)
        self._http = httpx.Client(**self._calls.options, transport=transport)
        self._sleep = sleep

    def generate(self, spec: Json, *, idempotency_key: str | None = None, wait: float | None = None) -> Job:
        """Queue a job; with ``wait`` the service answers when it ends, at most 60 s later.

        Without an ``idempotency_key`` of yours one is made: retries never queue the job twice. An image of more
        than 3 MB goes beside the request as an upload, unless the key is yours: then the body is sent as it is.
        """
        return self._one(self._calls.generate(spec, idempotency_key, wait))

    def generate_batch(
        self,
        specs: Json | Sequence[Json],
        *,
        seeds: Sequence[int] | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Queue up to 64 jobs at once, all or none: one for each request, or for each of ``seeds`` of one request.

        Keys and large images as in ``generate``.
        """
        return self._one(self._calls.generate_batch(specs, seeds, idempotency_key))

    def job(self, job: Job | str) -> Job:
        """The job as it is now."""
        return self._one(self._calls.job(job))

    def replay(
        self,
        manifest: Json | str | Path,
        image: Image | None = None,
        masks: Sequence[Mask | None] = (),
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a video again, as its manifest describes it.

        Args:
            manifest: the file, or what it holds.
            image: the first frame, where the service has stored it no longer; it must be the same file.
            masks: the masks, likewise: one for each entity in the manifest's order, None for a stored one. That of
                a held background can be left out.

        Raises:
            NotFound: an input is stored no longer, and was not given.
            InvalidRequest: a file is another one, or the service has other weights.
        """
        return self._one(self._calls.replay(manifest, image, masks, idempotency_key))

    def batch(self, batch: Batch | str) -> Batch:
        """The batch as it is now."""
        return self._one(self._calls.batch(batch))

    def wait(
        self, job: Job | str, on_update: Callable[[Job], object] | None = None, timeout: float | None = None
    ) -> Job:
        """Wait for the video, calling ``on_update`` with each snapshot; outages of the service are sat out.

        Raises:
            JobFailed, JobCanceled, JobExpired: there will be none.
            WaitTimeout: not within ``timeout`` seconds.
        """
        return following.succeeded(self._last(self._calls.follow(job, timeout), on_update))

    def wait_batch(
        self, batch: Batch | str, on_update: Callable[[Batch], object] | None = None, timeout: float | None = None
    ) -> Batch:
        """Wait until all jobs of a batch have ended, in whatever way; ``on_update`` is called with each snapshot.

        Raises:
            WaitTimeout: not within ``timeout`` seconds.
        """
        return self._last(self._calls.follow_batch(batch, timeout), on_update)

    def events(self, job: Job | str) -> Iterator[Job]:
        """Snapshots of the job, at once and at each change, until it has ended."""
        return self._run(self._calls.follow(job, None))

    def cancel(self, job: Job | str) -> Job:
        """Ask the job to stop; one that has ended stays as it is."""
        return self._one(self._calls.cancel(job))

    def cancel_batch(self, batch: Batch | str) -> Batch:
        """Ask all jobs of a batch to stop; those that have ended stay as they are."""
        return self._one(self._calls.cancel_batch(batch))

    def delete(self, job: Job | str) -> None:
        """Forget an ended job and its files."""
        return self._one(self._calls.delete(job))

    def jobs(self, *, status: Status | None = None, limit: int | None = None, after: str | None = None) -> Page:
        """One's own jobs, newest first."""
        return self._one(self._calls.jobs(status, limit, after))

    def models(self) -> list[Model]:
        """The installed models with their defaults and limits."""
        return self._one(self._calls.models()).models

    def download(
        self, job: Job | str, destination: str | Path, artifacts: Sequence[str] | None = None
    ) -> dict[str, Path]:
        """Save a job's files; a path that exists is replaced, and only by a whole file.

        Args:
            job: a succeeded job or its id.
            destination: a folder (it exists, or has no suffix) for ``video.mp4``, ``overlay.mp4``, …, or a file.
            artifacts: of ``video``, ``overlay``, ``manifest``, ``poster``, ``frames``. Left out: the first three,
                as far as the job has them, into a folder; the video into a file.

        Returns:
            Where each artifact is.
        """
        return self._one(self._calls.download(job, destination, artifacts))

    def manifest(self, job: Job | str) -> Manifest:
        """What it takes to make the job's video again."""
        return self._one(self._calls.manifest(job))

    def upload(self, image: str | Path | bytes) -> Upload:
        """Put an image beside the requests that use it: read in pieces from a path, kept for a day.

        Raises:
            ValueError: it is no PNG, JPEG or WebP file.
        """
        return self._one(self._calls.upload(image))

    def preview(self, spec: Json) -> Preview:
        """What the network would be told, without queueing anything."""
        return self._one(self._calls.preview(spec))

    def segment(self, image: Image, points: Sequence[Click] = (), box: Sequence[float] | None = None) -> Segment:
        """A mask from points (x, y) or (x, y, 0 for "not this"), and from a box (x0, y0, x1, y1)."""
        return self._one(self._calls.segment(image, points, box))

    def create_study(
        self,
        pairs: Sequence[tuple[Job | str, Job | str]],
        *,
        names: tuple[str, str] = ("a", "b"),
        title: str = "",
    ) -> Study:
        """Let people compare finished videos without knowing which is which: send them ``study.urls["link"]``.

        Args:
            pairs: two succeeded jobs each, such as one request with two settings.
            names: what all first ones and all second ones are; for you alone.
            title: what those who vote see above the videos.
        """
        return self._one(self._calls.create_study(pairs, names, title))

    def study(self, study: Study | str) -> Study:
        """The study with its results so far."""
        return self._one(self._calls.study(study))

    def ballot(self, link: Study | str, rater: str | None = None) -> Ballot:
        """The next pair of one who votes, by a study's link; without ``rater``, of somebody new. Needs no key."""
        return self._one(self._calls.ballot(link, rater))

    def download_ballot(self, link: Study | str, ballot: Ballot, folder: str | Path) -> dict[str, Path]:
        """Save a ballot's videos into a folder, as ``left`` and ``right``."""
        return self._one(self._calls.download_ballot(link, ballot, folder))

    def vote(self, link: Study | str, ballot: Ballot, *, motion: Choice, quality: Choice) -> Ballot:
        """Say which video of a ballot moves as asked, and which looks better: the next ballot."""
        return self._one(self._calls.vote(link, ballot, motion, quality))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _last(self, flow: Flow[T], on_update: Callable[[T], object] | None) -> T:
        for snapshot in self._run(flow):
            if on_update:
                on_update(snapshot)
        return snapshot

    def _one(self, flow: Flow[T]) -> T:
        [result] = self._run(flow)
        return result

    def _run(self, flow: Flow[T]) -> Iterator[T]:
        response: httpx.Response | None = None
        chunks: Iterator[bytes] = iter(())
        answer: object = None
        failure: httpx.RequestError | None = None
        with closing(flow):
            try:
                while True:
                    effect = flow.throw(failure) if failure else flow.send(answer)
                    answer = failure = None
                    try:
                        match effect:
                            case Send():
                                if response is not None:
                                    response.close()
                                request = self._calls.build(self._http, effect)
                                answer = response = self._http.send(request, stream=True)
                                if not effect.stream or response.is_error:
                                    response.read()
                                chunks = response.iter_bytes()
                            case Read():
                                answer = next(chunks, b"")
                            case Sleep(seconds):
                                self._sleep(seconds)
                    except httpx.RequestError as error:
                        failure = error
                    if isinstance(effect, Emit):
                        yield effect.value
            except StopIteration:
                return
            finally:
                if response is not None:
                    response.close()
