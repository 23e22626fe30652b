from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.errors import Exited, NotReady
from local.process import Process, stop
from tests.harness import ends, until

ENV = {"PATH": os.defpath}
READY = "echo ready"


class Children:
    """Starts shell commands as supervised children and stops whatever a test leaves."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Process] = []
        self.reports: list[str] = []

    def run(self, script: str, *, ready: bool = True) -> Process:
        name = f"child{len(self.started)}"
        log = self.directory / f"{name}.log"
        process = Process(name, ["/bin/sh", "-c", script], log=log, env=ENV, report=self.reports.append)
        self.started.append(process)
        process.start()
        if ready:
            process.wait_ready(lambda: "ready" in process.tail(), 10)
        return process


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    children = Children(tmp_path)
    yield children
    stop(children.started, 0.0)


def test_dead_child_is_started_again(children: Children) -> None:
    child = children.run(f"{READY}; exec sleep 600")
    first = child.pid
    child.kill()
    child.wait_starts(2)
    assert child.pid != first
    assert not ends(child.pid, 0)


def test_death_is_reported_with_the_end_of_its_log(children: Children) -> None:
    child = children.run(f"{READY}; read never </dev/null; echo out of memory; sleep 0.1; exit 3")
    child.wait_starts(2)
    assert re.match(
        r"child0 ended with exit code 3; started again in 0\.2 s; .*out of memory", children.reports[0], re.DOTALL
    )


def test_back_off_doubles_while_deaths_go_on(children: Children) -> None:
    child = children.run(f"{READY}; sleep 0.1; exit 1")
    child.wait_starts(4)
    delays = [float(found[1]) for text in children.reports if (found := re.search(r"again in (\S+) s", text))]
    assert delays[:3] == [0.2, 0.4, 0.8]


def test_end_before_ready_is_an_error_with_the_log(children: Children) -> None:
    child = children.run("echo cannot open the file; exit 7", ready=False)
    with pytest.raises(Exited, match=r"child0 ended with exit code 7 as it started(?s:.*)cannot open the file"):
        child.wait_ready(lambda: False, 10)
    assert child.starts == 1


def test_log_of_an_earlier_life_is_left_out(children: Children) -> None:
    child = children.run(f"{READY}; exec sleep 600")
    child.log.write_bytes(b"from before\n" + child.log.read_bytes())
    child.kill()
    child.wait_starts(2)
    until(lambda: "ready" in child.tail())
    assert "from before" not in child.tail()


def test_readiness_has_a_limit(children: Children) -> None:
    child = children.run("exec sleep 600", ready=False)
    with pytest.raises(NotReady, match=r"child0 was not ready after 0\.1 s"):
        child.wait_ready(lambda: False, 0.1)


def test_stop_asks_first(children: Children) -> None:
    child = children.run(f"trap 'echo goodbye; exit 0' TERM; {READY}; while :; do sleep 0.05; done")
    child.stop(10)
    assert "goodbye" in child.tail()
    assert ends(child.pid, 0)


def test_stop_kills_who_does_not_listen(children: Children) -> None:
    child = children.run(f"trap '' TERM; {READY}; while :; do sleep 600; done")
    child.stop(0.2)
    assert ends(child.pid, 0)
    assert child.starts == 1


def test_stop_leaves_no_grandchild(children: Children) -> None:
    child = children.run(f"sleep 600 & echo pid $!; {READY}; wait")
    found = re.search(r"pid (\d+)", child.tail())
    assert found
    child.stop()
    assert ends(int(found[1]))


def test_stop_during_the_back_off_starts_nothing(children: Children) -> None:
    child = children.run(f"{READY}; exec sleep 600")
    child.kill()
    until(lambda: children.reports)
    child.stop()
    assert child.starts == 1


def test_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import time; from pathlib import Path; from local.process import Process\n"
        f"child = Process('child', ['sleep', '600'], log=Path({str(tmp_path / 'log')!r}), env={ENV!r})\n"
        "child.start(); child.wait_ready(lambda: Path(f'/proc/{child.pid}/comm').read_text() == 'sleep\\n', 10)\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert ends(child)
