"""A call that never returns, in a process of its own; what such a process leaves behind is ``tests.chaos``'s."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.unit.worker.scenes import ROOT

GUARD_S = 60


def outcome(body: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines with a watchdog that waits for a tenth of a second."""
    program = "import time, threading\nfrom worker.watchdog import Watchdog\ndog = Watchdog(0.1)\n"
    return subprocess.run(
        [sys.executable, "-c", program + textwrap.dedent(body)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=GUARD_S,
        check=False,
    )


@pytest.mark.parametrize(
    "hang",
    ["dog.watch('a'); threading.Event().wait()", "dog.watch('a'); import re; re.match('(a+)+b', 'a' * 60)"],
    ids=["waiting", "in C, holding the interpreter's lock"],
)
def test_a_hang_ends_the_process_and_says_where(hang: str) -> None:
    ended = outcome(hang)
    assert ended.returncode == 1
    assert "most recent call first" in ended.stderr


def test_steps_keep_it_quiet() -> None:
    ended = outcome(
        """
        for _ in range(20):
            dog.watch("a")
            time.sleep(0.02)
        dog.release("a")
        time.sleep(0.3)
        """
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_one_attempt_that_moves_does_not_hide_another_that_hangs() -> None:
    ended = outcome(
        """
        dog.watch("hung")
        while True:
            dog.watch("moving")
            time.sleep(0.01)
        """
    )
    assert ended.returncode == 1
