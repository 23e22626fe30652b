"""Ends the process when the device hangs: a beat from another thread says only that the process lives."""

from __future__ import annotations

import faulthandler
import threading
import time


class Watchdog:
    """While an attempt is under watch, it must make a step every ``stall_s``; else the process writes the
    traceback of every thread to standard error and ends, and the lease of its jobs runs out.

    The timer belongs to the interpreter's fault handler, which needs neither the interpreter's lock nor a thread
    that can run Python: it fires inside a call into the device that never returns.
    """

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def watch(self, attempt_id: str) -> None:
        """The attempt has made a step; the next one is due."""
        with self._lock:
            self._ends[attempt_id] = time.monotonic() + self._stall_s
            self._arm()

    def release(self, attempt_id: str) -> None:
        """Nothing of this attempt is on the device."""
        with self._lock:
            self._ends.pop(attempt_id, None)
            self._arm()

    def _arm(self) -> None:
        if not self._ends:
            return faulthandler.cancel_dump_traceback_later()
        left = min(self._ends.values()) - time.monotonic()
        return faulthandler.dump_traceback_later(max(left, 0.001), exit=True)
