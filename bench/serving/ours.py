"""This project's own stack, asked in the same way; its worker is stopped while jobs are accepted."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from bench.service import JSON
from local.stack import Stack

HOLDS = (
    "picture and mask checked and put in S3, the record in Valkey's append-only file, which is flushed to disk "
    "every second"
)
ENDED_S = 600.0


class Ours:
    """A context manager, like the other servers."""

    name = "draganything"
    model = "stopped"
    holds = HOLDS

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._folder = tempfile.TemporaryDirectory()
        environ = {**os.environ, "DRAGANYTHING_MAX_QUEUED": "100000"}
        self._stack = Stack(Path(self._folder.name), environ=environ)

    def __enter__(self) -> Self:
        self._stack.__enter__()
        self.signal_worker(signal.SIGSTOP)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.signal_worker(signal.SIGCONT)
        self._stack.__exit__(kind, error, trace)
        self._folder.cleanup()

    @property
    def base_url(self) -> str:
        """Where the API serves."""
        return self._stack.base_url

    def signal_worker(self, sign: signal.Signals) -> None:
        """Stop the worker, or let it go on."""
        self._stack.processes["worker"].kill(sign)

    def submit(self, client: httpx.Client) -> int:
        """Hand over one job; it is never refused."""
        client.post("/v1/generate", content=self._body, headers=JSON).raise_for_status()
        return 0

    def settle(self, jobs: int) -> None:
        """Nothing goes on after the acceptance: the worker is stopped."""

    def survives_kill(self) -> str:
        """Every process of the stack is killed right after a job was accepted, Valkey and S3 too."""
        with httpx.Client(base_url=self.base_url, timeout=60) as client:
            accepted = client.post("/v1/generate", content=self._body, headers=JSON).raise_for_status()
            address = accepted.json()["urls"]["self"]
            processes = self._stack.processes.values()
            starts = [process.starts for process in processes]
            for process in processes:
                process.kill()
            for process, count in zip(processes, starts, strict=True):
                process.wait_starts(count + 1)
            end = time.monotonic() + ENDED_S
            while not self._serves():
                if time.monotonic() > end:
                    raise TimeoutError("the stack did not serve again after it was killed")
                time.sleep(0.2)
            answer = client.get(address)
            while answer.status_code == HTTPStatus.OK and time.monotonic() < end:
                if answer.json()["status"] == "succeeded":
                    self.signal_worker(signal.SIGSTOP)
                    return "yes: known and finished"
                time.sleep(0.5)
                answer = client.get(address)
        return f"no: {answer.text}"

    def _serves(self) -> bool:
        try:
            return httpx.get(f"{self.base_url}/readyz", timeout=5).is_success
        except httpx.TransportError:
            return False
