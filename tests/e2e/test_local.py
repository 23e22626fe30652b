"""The two commands that a newcomer runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.request import urlopen

from local.ports import choose
from local.stack import ROOT
from tests.harness import clean_environ, ends

SMALL = {"num_frames": 2, "num_inference_steps": 1, "width": 128, "height": 64, "seed": 1}


@contextmanager
def up(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``up`` on free ports once it says that it is up; killed at the end if it still runs."""
    port, grpc_port = choose(2)
    arguments = ["--port", str(port), "--grpc-port", str(grpc_port), "--data-dir", str(data_dir)]
    command = [sys.executable, "-m", "local", "up", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environ(), cwd=ROOT
    ) as process:
        try:
            assert process.stdout
            wait_for_line("is up", process.stdout)
            yield process, port
        finally:
            process.kill()


def wait_for_line(text: str, lines: IO[str]) -> None:
    seen = []
    for line in lines:
        seen.append(line)
        if text in line:
            return
    raise AssertionError("".join(seen))


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_up_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    with up(tmp_path / "data") as (process, port):
        with urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            assert json.load(answer)["status"] == "ok"
        started = children(process.pid)
        assert started
        process.send_signal(signal.SIGINT)  # what Ctrl-C sends
        assert process.wait(20) == 0
        assert all(ends(child, 0) for child in started)


def test_killed_up_leaves_no_process(tmp_path: Path) -> None:
    with up(tmp_path / "data") as (process, _):
        started = children(process.pid)
        process.kill()
    assert all(ends(child) for child in started)


def test_demo_saves_its_files_and_leaves_nothing_behind(tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps(json.loads((ROOT / "examples" / "quickstart.json").read_bytes()) | SMALL))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "local", "demo", str(request), "--out", str(out)]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environ = clean_environ({"TMPDIR": str(temporary)})
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in out.iterdir()} == {"video.mp4", "overlay.mp4", "manifest.json"}
    assert all(str(path) in done.stdout for path in out.iterdir())
    assert not [*temporary.glob("draganything-demo-*")]
