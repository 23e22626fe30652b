"""Every call, with what the API's own document allows and forbids: no error of ours, no undocumented answer."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from jobs.settings import Settings
from jobs.store import Store
from service.app import create_app
from tests import doors

OPTIONS = [
    "--phases=examples,coverage,fuzzing,stateful",
    "--max-examples=5",
    "--request-timeout=60",
    "--seed=1",
    "--generation-deterministic",
    "--suppress-health-check=all",
    # No schema says that base64 is an image, or which of two fields to give.
    "--exclude-checks=positive_data_acceptance",
]


@contextmanager
def ended(store: Store) -> Iterator[None]:
    """Cancel what waits, again and again: a stream ends with its job, and no worker is there to end any."""
    done = threading.Event()

    def cancel() -> None:
        while not done.wait(1):
            for job_id in store.queued(doors.CARD.name):
                store.cancel(job_id)

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.timeout(900)
def test_the_document_is_kept(settings: Settings, redis: Redis, store: Store, tmp_path: Path) -> None:
    with doors.serving(create_app(settings)) as (host, port), ended(store):
        doors.announce(redis)
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"http://{host}:{port}/openapi.json",
        ]
        done = subprocess.run([*command, *OPTIONS], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
