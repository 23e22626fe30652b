"""A supervised child process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from local.errors import Exited, NotReady

TETHER = Path(__file__).with_name("tether.py")
FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 10.0
STEADY_S = 10.0
"""A child that lived this long starts again at once with the first back-off."""
POLL_S = 0.05


class Process:
    """One child, started again when it dies, until :meth:`stop`.

    The child leads a process group of its own and dies with this process, even by SIGKILL (``tether``). Its
    output goes to ``log``. ``hold`` is a file descriptor that it inherits and so keeps open as long as it lives.
    ``report`` is told of each death, from another thread.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
        hold: int | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.log = log
        self.starts = 0
        self._argv = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *argv]
        self._env = dict(env)
        self._cwd = cwd
        self._hold = hold
        self._report = report
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._supervisor = threading.Thread(target=self._supervise, name=f"supervise {name}", daemon=True)

    @property
    def pid(self) -> int:
        """The child's process id; that of the last one between two lives."""
        assert self._child is not None, "not started"
        return self._child.pid

    def start(self) -> None:
        """Start the child; :meth:`wait_ready` tells when it serves.

        Raises:
            OSError: the interpreter or the log cannot be opened.
        """
        self._supervisor.start()
        self.wait_starts(1)

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float | None) -> None:
        """Ask ``ready`` until it says yes; from then on a dead child is started again.

        Exited: the child ended first.
        NotReady: no yes within ``timeout_s``.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not ready():
            self.check()
            if end is not None and time.monotonic() > end:
                raise NotReady(f"{self.name} was not ready after {timeout_s:g} s{self.tail()}")
            self._stopping.wait(POLL_S)
        self._ready.set()

    def check(self) -> None:
        """
        Raises:
            Exited: the child has ended before it was ready.
        """
        if not self._supervisor.is_alive():
            raise Exited(f"{self.name} ended with {self._outcome()} as it started{self.tail()}")

    def wait_starts(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait until the child has been started ``count`` times in all.

        TimeoutError: it was not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.starts >= count, timeout_s):
                raise TimeoutError(f"{self.name} was started {self.starts} times, not {count}")

    def kill(self, sign: signal.Signals = signal.SIGKILL) -> None:
        """Send the child a signal, as a crash or the kernel would."""
        os.kill(self.pid, sign)

    def ask_to_stop(self) -> None:
        """Send SIGTERM and start the child no more."""
        self._stopping.set()
        with self._changed:
            if self._child is not None and self._child.poll() is None:
                self._child.terminate()

    def stop(self, grace_s: float = 3.0) -> None:
        """SIGTERM, and SIGKILL for what is left of the child's group after ``grace_s``."""
        self.ask_to_stop()
        if not self._supervisor.ident:
            return
        self._supervisor.join(max(grace_s, 0.0))
        self._kill_group()
        self._supervisor.join()

    def tail(self, lines: int = 20) -> str:
        """The last lines that the child wrote in this life, after a line that names the log; "" for none."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(errors="replace").rstrip()
        return "\n".join([f"; the end of {self.log}:", *text.splitlines()[-lines:]]) if text else ""

    def _supervise(self) -> None:
        backoff = FIRST_BACKOFF_S
        while not self._stopping.is_set():
            born = time.monotonic()
            child = self._spawn()
            child.wait()
            self._kill_group()
            if self._stopping.is_set() or not self._ready.is_set():
                return
            backoff = FIRST_BACKOFF_S if time.monotonic() - born > STEADY_S else backoff
            self._report(f"{self.name} ended with {self._outcome()}; started again in {backoff:g} s{self.tail(5)}")
            self._stopping.wait(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF_S)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._changed, self.log.open("ab") as log:
            self._log_start = log.tell()
            # From this thread and no other: PR_SET_PDEATHSIG fires when the thread that forked ends.
            self._child = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                pass_fds=() if self._hold is None else (self._hold,),
                start_new_session=True,
            )
            self.starts += 1
            self._changed.notify_all()
            if self._stopping.is_set():
                self._child.terminate()
            return self._child

    def _kill_group(self) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _outcome(self) -> str:
        code = self._child.returncode if self._child else None
        return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def stop(processes: Iterable[Process], grace_s: float) -> None:
    """Stop several at once: they share ``grace_s``."""
    stopping = list(processes)
    for process in stopping:
        process.ask_to_stop()
    end = time.monotonic() + grace_s
    for process in stopping:
        process.stop(end - time.monotonic())
