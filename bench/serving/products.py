"""The other servers: installed, started, asked, killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from bench.service import JSON
from local import ports
from local.process import Process
from local.stack import ROOT

REQUIREMENTS = Path(__file__).with_name("requirements")
RETRY_S = 0.005
READY_S = 180.0
RENDERED_S = 120.0


@dataclass(frozen=True)
class Product:
    """How to run a server and how to hand it a job."""

    name: str
    command: tuple[str, ...]  # {port} stands for the port
    ready: str
    path: str
    holds: str  # what it has done with a job that it accepted, from its own source
    headers: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    wrap: str | None = None  # the field of the body that holds the job
    is_ready: Callable[[httpx.Response], bool] = lambda answer: answer.is_success
    status: str | None = None  # where to ask for an accepted job; {id} stands for what it is called
    called: str | None = None  # the field of the answer that names the job


BENTOML = Product(
    "bentoml",
    ("bentoml", "serve", "bench.serving.apps.with_bentoml:Render", "--host", ports.HOST, "--port", "{port}"),
    ready="/readyz",
    path="/render/submit",
    holds="the whole request in SQLite, which the next start of the server deletes; the work waits in memory",
    environ={"BENTOML_DO_NOT_TRACK": "1"},
    status="/render/status?task_id={id}",
    called="task_id",
)
COG = Product(
    "cog",
    ("python", "-m", "cog.server.http", "--host", ports.HOST),
    ready="/health-check",
    path="/predictions",
    holds="a slot in the memory of the process; there is one, and 409 while it is taken",
    headers={"Prefer": "respond-async"},
    environ={"COG_PREDICT_TYPE_STUB": str(Path(__file__).with_name("apps") / "with_cog.py") + ":Predictor"},
    wrap="input",
    is_ready=lambda answer: answer.is_success and answer.json()["status"] == "READY",
    called="id",
)
LITSERVE = Product(
    "litserve",
    ("python", "-m", "bench.serving.apps.with_litserve", "{port}"),
    ready="/health",
    path="/predict",
    holds="nothing: there is no acceptance apart from the result, which is what was timed",
)
PRODUCTS = (BENTOML, COG, LITSERVE)


def install(product: Product, folder: Path) -> Path:
    """The virtual environment of a server, made unless it is there; torch comes from this project's own.

    Raises:
        subprocess.CalledProcessError: pip could not install what is pinned.
    """
    pins = REQUIREMENTS / f"{product.name}.txt"
    spec = find_spec("torch")
    assert spec is not None, "torch is missing"
    assert spec.origin is not None, "torch is no plain package"
    ours = f"{Path(spec.origin).parents[1]}\n"
    stamp = hashlib.sha256(pins.read_bytes() + f"{sys.version}\n{ours}".encode()).hexdigest()
    home = folder / product.name
    made = home / "stamp"
    if made.exists() and made.read_text() == stamp:
        return home
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "-r", str(pins)], check=True, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    site = next((home / "lib").glob("python*/site-packages"))
    (site / "project.pth").write_text(ours)  # after the server's own packages in the search path
    made.write_text(stamp)
    return home


class Server:
    """A running server; a context manager. ``repeats`` is how often a render passes the model."""

    def __init__(self, product: Product, home: Path, folder: Path, body: bytes, repeats: int) -> None:
        self.product = product
        self.name = product.name
        self.model = "runs" if repeats else "left out"
        port = ports.choose(1)[0]
        self.base_url = f"http://{ports.HOST}:{port}"
        self._rendered = folder / "rendered"
        folder.mkdir()
        self._rendered.touch()
        self._body = body if product.wrap is None else json.dumps({product.wrap: json.loads(body)}).encode()
        environ = {
            **os.environ,
            **product.environ,
            "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PORT": str(port),
            "PYTHONPATH": str(ROOT),
            "BENTOML_HOME": str(folder),
            "REPEATS": str(repeats),
            "RENDERED": str(self._rendered),
            "OMP_NUM_THREADS": "1",
        }
        argv = [part.format(port=port) for part in product.command]
        argv[0] = str(home / "bin" / argv[0])
        self.process = Process(product.name, argv, log=folder / "log", env=environ, cwd=ROOT)

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def wait_ready(self) -> None:
        """Return when the server takes jobs.

        Raises:
            local.errors.NotReady: it did not start.
        """
        self.process.wait_ready(self._is_ready, READY_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = descendants(self.process.pid)
        self.process.stop()
        kill(family)

    def submit(self, client: httpx.Client) -> int:
        """Hand over one job, again and again while the server is busy; how often it was refused."""
        refused = 0
        while (answer := self.post(client)).status_code == HTTPStatus.CONFLICT:
            refused += 1
            time.sleep(RETRY_S)
        answer.raise_for_status()
        return refused

    def post(self, client: httpx.Client) -> httpx.Response:
        """Hand over one job."""
        return client.post(self.product.path, content=self._body, headers={**JSON, **self.product.headers})

    def rendered(self) -> int:
        """How many jobs the model has finished."""
        return self._rendered.stat().st_size

    def settle(self, jobs: int, timeout_s: float = RENDERED_S) -> None:
        """Wait until that many jobs are finished.

        Raises:
            TimeoutError: they are not.
        """
        if not _until(lambda: self.rendered() >= jobs, timeout_s):
            raise TimeoutError(f"{self.name} rendered {self.rendered()} of {jobs} jobs{self.process.tail()}")

    def knows(self, client: httpx.Client, answer: dict[str, Any]) -> bool:
        """Whether the server can still be asked for an accepted job."""
        if self.product.status is None or self.product.called is None:
            return False
        return client.get(self.product.status.format(id=answer[self.product.called])).is_success

    def crash(self) -> None:
        """Kill every process of the server at once, and return when it serves again."""
        family = [self.process.pid, *descendants(self.process.pid)]
        starts = self.process.starts
        kill(family)
        self.process.wait_starts(starts + 1)
        self.wait_ready()

    def _is_ready(self) -> bool:
        try:
            return self.product.is_ready(httpx.get(self.base_url + self.product.ready, timeout=5))
        except httpx.TransportError:
            return False


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def kill(pids: list[int]) -> None:
    """SIGKILL what still lives."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _until(true: Callable[[], bool], timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while not (done := true()) and time.monotonic() < end:
        time.sleep(0.02)
    return done
