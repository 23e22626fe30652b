"""The examples of docs/client.md, word for word, against the real service and a worker that only plays one."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from draganything_client import cli
from redis import Redis
from typer.testing import CliRunner

from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store
from local.stack import ROOT
from service.app import create_app
from tests import doors
from tests.contract.test_client import manifest_of

PAGE = (ROOT / "docs" / "client.md").read_text()


@pytest.fixture
def _service(
    settings: Settings,
    redis: Redis,
    store: Store,
    storage: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """A service whose jobs succeed at once: each of their files is their manifest."""
    doors.announce(redis)
    monkeypatch.chdir(tmp_path)
    over, playing = threading.Event(), threading.Thread(target=lambda: play(store, storage, over))
    with doors.serving(create_app(settings)) as (host, port):
        monkeypatch.setenv("DRAGANYTHING_URL", f"http://{host}:{port}")
        playing.start()
        yield
        over.set()
        playing.join()


def play(store: Store, storage: Storage, over: threading.Event) -> None:
    while not over.wait(0.02):
        for job_id in store.queued("tiny"):
            doors.finish(job_id, store, storage, json.dumps(manifest_of(job_id, store)).encode())


def bird() -> bytes:
    """A bright square on a dark ground, 400 x 300."""
    pixels = np.full((300, 400, 3), 40, np.uint8)
    pixels[100:200, 150:250] = (60, 120, 220)
    return doors.file_of(pixels)


@pytest.mark.usefixtures("_service")
def test_the_examples() -> None:
    Path("bird.png").write_bytes(bird())
    (shell,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in shell.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "draganything"
        got = CliRunner().invoke(cli.app, arguments)
        assert got.exit_code == 0, f"{line}\n{got.stderr}"
    for name in ("preview.webp", "out/video.mp4", "out/manifest.json", "again.mp4"):
        assert Path(name).exists()
    assert len(list(Path("takes").iterdir())) == 4
    (python,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(python, "docs/client.md", "exec"), {})
    assert Path("results/manifest.json").exists()
    assert len(list(Path().glob("take-*.mp4"))) == 3


def test_the_exit_codes_are_those_of_the_help() -> None:
    rows = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert rows == re.findall(r"(?:^|· )(\d+) ", cli.EPILOG.partition(":** ")[2])


def test_every_command_is_in_the_table() -> None:
    for command in cli.app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        assert re.search(rf"^\| `.*\b{name}\b.* \|", PAGE, re.MULTILINE), name
