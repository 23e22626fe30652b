"""The whole stack: Valkey, S3, API, worker, janitor, sender of webhooks; each a process, all on loopback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from local import ports
from local.errors import Exited, PortTaken
from local.process import Process, stop
from local.seaweed import Seaweed
from local.state import State, lock
from local.valkey import Valkey

ROOT = Path(__file__).resolve().parents[1]
COMMANDS: Mapping[str, Sequence[str]] = {
    "api": (sys.executable, "-m", "service.main"),
    "worker": (sys.executable, "-m", "worker.main"),
    "janitor": (sys.executable, "-m", "worker.janitor"),
    "webhooks": (sys.executable, "-m", "worker.webhooks"),
}
SERVERS_READY_S = 60.0
COMMANDS_GRACE_S = 5.5
SERVERS_GRACE_S = 3.5
START_ATTEMPTS = 3
METRICS_PORTS = {"worker": 0, "janitor": 1, "webhooks": 2}
"""Where ``DRAGANYTHING_METRICS_PORT`` is set, each of these answers at this distance from it."""
# A worker that is told to stop gives its job back to the queue before the grace is over.
# Its threads must not spin while they wait for each other: the cores are shared with everything else here, and a
# spinning thread keeps the one that it waits for from running (docs/performance.md).
DEFAULTS = {"PYTHONUNBUFFERED": "1", "DRAGANYTHING_DRAIN_S": "3", "OMP_WAIT_POLICY": "PASSIVE"}


class Stack:
    """Everything that a job passes through, on one data directory, which outlives it.

    A context manager: entering starts all of it and returns when it serves, leaving stops all of it within
    10 s. ``port`` and ``grpc_port`` left out are chosen among the free ones. ``environ`` is the environment of
    ``commands``, to which the stack adds its addresses; they run beside the two servers, configured by that
    alone. One named "api" serves when its ``/readyz`` says so, for which ``ready_s`` is the limit (left out: as
    long as it lives). ``report`` is told of each death, from another thread.

    Raises, on entering:
        BinaryMissing: a server is not installed.
        PortTaken: ``port`` or ``grpc_port`` is taken.
        DirectoryTaken: another stack, or the rest of one, uses the data directory.
        StateDamaged: the data directory's credentials cannot be read.
        NotReady: a process did not start; the message ends with its log.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        grpc_port: int | None = None,
        environ: Mapping[str, str] = os.environ,
        commands: Mapping[str, Sequence[str]] = COMMANDS,
        ready_s: float | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.logs = self.data_dir / "logs"
        self.processes: dict[str, Process] = {}
        self._asked = {"port": port, "grpc_port": grpc_port}
        self._environ = environ
        self._commands = commands
        self._ready_s = ready_s
        self._report = report
        self._open = ExitStack()

    @property
    def base_url(self) -> str:
        """Where the API serves."""
        return f"http://{ports.HOST}:{self.port}"

    @property
    def addresses(self) -> dict[str, str]:
        """What the commands are told, by the name of the field in ``jobs.settings.Settings``."""
        return {
            "host": ports.HOST,
            "port": str(self.port),
            "grpc_port": str(self.grpc_port),
            "redis_url": self.valkey.url,
            **self.seaweed.settings(),
        }

    def __enter__(self) -> Self:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        with ExitStack() as opened:
            self._lock = lock(self.data_dir)
            opened.callback(os.close, self._lock)
            opened.callback(self._stop)
            self._state = State.load(self.data_dir / "state.json")
            self._start_somewhere()
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _start_somewhere(self) -> None:
        """Start, with other ports if another program took a chosen one in the meantime."""
        for attempt in range(1, START_ATTEMPTS + 1):
            self._choose_ports()
            try:
                return self._start()
            except Exited:
                self._stop()
                chosen = (self.port, self.grpc_port, *self._state.listening)
                if attempt == START_ATTEMPTS or all(map(ports.is_free, chosen)):
                    raise
        raise AssertionError("unreachable")

    def _choose_ports(self) -> None:
        for name, asked in self._asked.items():
            if asked is not None and not ports.is_free(asked):
                raise PortTaken(f"port {asked} is in use: choose another with {name.upper()}=…")
        told = [*filter(None, self._asked.values()), *self._metrics_ports().values()]
        state = self._state = self._state.with_free_ports(told)
        free = ports.choose(2, [*told, *state.listening])
        self.port, self.grpc_port = (asked or free.pop() for asked in self._asked.values())
        state.save(self.data_dir / "state.json")
        self.valkey = Valkey(self.data_dir / "valkey", state.valkey_port, state.valkey_password)
        self.seaweed = Seaweed(self.data_dir / "s3", state.seaweed_ports, state.s3_access_key, state.s3_secret_key)

    def _start(self) -> None:
        servers: tuple[Valkey | Seaweed, ...] = (self.valkey, self.seaweed)
        for server in servers:
            # Nothing of the caller's environment: SeaweedFS would take AWS keys from it as its own.
            self._run(server.name, server.prepare(), {"PATH": os.defpath}, server.directory)
        for server in servers:
            self.processes[server.name].wait_ready(server.ready, SERVERS_READY_S)
        told = {f"DRAGANYTHING_{field.upper()}": value for field, value in self.addresses.items()}
        metrics = self._metrics_ports()
        for name, argv in self._commands.items():
            own = {"DRAGANYTHING_METRICS_PORT": str(metrics[name])} if name in metrics else {}
            self._run(name, argv, {**DEFAULTS, **self._environ, **told, **own}, ROOT)
        for name in self._commands:
            self.processes[name].wait_ready(self.serves if name == "api" else _at_once, self._ready_s)

    def _metrics_ports(self) -> dict[str, int]:
        first = self._environ.get("DRAGANYTHING_METRICS_PORT", "0")
        if not first.isdecimal() or not int(first):  # what is no number, each process refuses by itself
            return {}
        return {name: int(first) + distance for name, distance in METRICS_PORTS.items()}

    def _run(self, name: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        log = self.logs / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        process = Process(name, argv, log=log, env=env, cwd=cwd, hold=self._lock, report=self._report)
        self.processes[name] = process
        process.start()

    def serves(self) -> bool:
        """Whether the API says that it, its neighbours and a worker are ready."""
        for process in self.processes.values():
            process.check()
        try:
            with urlopen(f"{self.base_url}/readyz", timeout=5) as answer:  # noqa: S310 - http, loopback
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False

    def _stop(self) -> None:
        servers = [self.processes.pop(name) for name in (Valkey.name, Seaweed.name) if name in self.processes]
        stop(self.processes.values(), COMMANDS_GRACE_S)
        stop(servers, SERVERS_GRACE_S)
        self.processes.clear()
        if servers:
            self.seaweed.tidy()


def _at_once() -> bool:
    return True
