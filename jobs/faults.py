"""Points at which a test may make a process die, stop or hang: how the engine's promises are put to the test.

Nothing happens unless ``DRAGANYTHING_FAULTS`` names a directory. Whoever reaches a point and can remove the file
of that name there does what the file says, so exactly one process does it, once: ``kill`` (SIGKILL to itself),
``stop`` (SIGSTOP to itself), ``hang`` (does not return).
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Literal

Point = Literal[
    "after_pop",
    "after_claim",
    "mid_step",
    "before_upload",
    "mid_upload",
    "after_upload",
    "before_commit",
    "after_commit",
    "before_release",
]
_ARMED = os.environ.get("DRAGANYTHING_FAULTS")


def reach(point: Point) -> None:
    """Say that this point of a job's way has been reached."""
    if _ARMED is None:
        return
    file = Path(_ARMED, point)
    try:
        action = file.read_text().strip()
        file.unlink()
    except FileNotFoundError:
        return
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # else this thread may run on for a while
        case "hang":
            threading.Event().wait()
