"""Every call, with what the API's own document allows and forbids: no error of ours, no undocumented answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from jobs.settings import Settings
from service.app import create_app
from tests import doors

OPTIONS = [
    "--phases=examples,coverage,fuzzing,stateful",
    "--max-examples=5",
    "--request-timeout=10",  # streams of jobs that nobody works on last as long
    "--seed=1",
    "--generation-deterministic",
    "--suppress-health-check=all",
    # No schema says that base64 is an image, or which of two fields to give.
    "--exclude-checks=positive_data_acceptance",
]


@pytest.mark.timeout(900)
def test_the_document_is_kept(settings: Settings, redis: Redis, tmp_path: Path) -> None:
    with doors.serving(create_app(settings)) as (host, port):
        doors.announce(redis)
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"http://{host}:{port}/openapi.json",
        ]
        done = subprocess.run([*command, *OPTIONS], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
