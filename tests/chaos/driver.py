"""A client as the documentation asks for it: each request has a key and is repeated until it is answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx

from tests import doors

View = dict[str, Any]
"""A job as the API shows it."""

SEEDS = 8
SMALL = {"width": 64, "height": 64, "num_frames": 2, "num_inference_steps": 1}
LONG = {"width": 64, "height": 64, "num_frames": 2, "num_inference_steps": 30}
TERMINAL = {"succeeded", "failed", "canceled", "expired"}
TRY_AGAIN = {409, 503}
PAUSE_S = 0.2
END_TIMEOUT_S = 120.0


def body(number: int, **changes: Any) -> View:
    """The request of the ``number``-th job; those with equal seeds must bring equal frames."""
    return doors.request(**{**SMALL, "seed": number % SEEDS, **changes})


class Driver:
    """Submits and awaits jobs over HTTP. Safe to share between threads."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    @classmethod
    @contextmanager
    def connected(cls, base_url: str, connections: int = 100) -> Iterator[Self]:
        """A driver for as long as the block lasts."""
        limits = httpx.Limits(max_connections=connections)
        with httpx.Client(base_url=base_url, timeout=60, limits=limits) as http:
            yield cls(http)

    def post(self, key: str, request: View) -> httpx.Response:
        """One try."""
        return self.http.post("/v1/generate", json=request, headers={"Idempotency-Key": key})

    def submit(self, key: str, request: View) -> View:
        """Send until it is accepted.

        Raises:
            HTTPStatusError: refused for good.
        """
        while True:
            try:
                answer = self.post(key, request)
            except httpx.TransportError:
                time.sleep(PAUSE_S)
                continue
            if answer.status_code in TRY_AGAIN:
                time.sleep(PAUSE_S)
                continue
            accepted: View = answer.raise_for_status().json()
            return accepted

    def view(self, job_id: str) -> View:
        """The job as it is now."""
        shown: View = self.http.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        return shown

    def cancel(self, job_id: str) -> View:
        """Ask the job to stop; the job as it was when that was acknowledged."""
        shown: View = self.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status().json()
        return shown

    def await_end(self, job_id: str, timeout_s: float = END_TIMEOUT_S) -> View:
        """The last snapshot of the job.

        Raises:
            TimeoutError: it did not end in time.
        """
        return self.await_view(job_id, lambda _: False, timeout_s)

    def await_step(self, job_id: str, step: int = 1, timeout_s: float = END_TIMEOUT_S) -> View:
        """The job once it has done that many denoising steps, or has ended.

        Raises:
            TimeoutError: neither in time.
        """
        return self.await_view(
            job_id, lambda shown: shown["status"] == "running" and shown["progress"]["step"] >= step, timeout_s
        )

    def await_view(self, job_id: str, wanted: Callable[[View], bool], timeout_s: float = END_TIMEOUT_S) -> View:
        """The first snapshot of the job's event stream that is wanted, or the last one of all.

        Raises:
            TimeoutError: neither came in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                for shown in self._snapshots(job_id, deadline):
                    if shown["status"] in TERMINAL or wanted(shown):
                        return shown
            except (httpx.TransportError, httpx.HTTPStatusError):
                time.sleep(PAUSE_S)
        raise TimeoutError(f"job {job_id} is not there after {timeout_s:g} s: {self.view(job_id)['progress']}")

    def _snapshots(self, job_id: str, deadline: float) -> Iterator[View]:
        with self.http.stream("GET", f"/v1/jobs/{job_id}/events") as events:
            events.raise_for_status()
            for line in events.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))
                if time.monotonic() > deadline:
                    return
